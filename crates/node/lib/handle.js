'use strict';

// What the raw handles of producers and consumers have in common.

/** Names and values in turn, as native code takes properties. */
function flat(properties) {
  return Object.entries(properties ?? {})
    .filter(([, value]) => value !== undefined)
    .flatMap(([name, value]) => [name, String(value)]);
}

/** Calls what a user has given; what it throws becomes an uncaughtException. */
function call(callback, ...args) {
  try {
    callback(...args);
  } catch (error) {
    setImmediate(() => {
      throw error;
    });
  }
}

/** The function, or undefined for null and whatever else is none. */
function callable(callback) {
  return typeof callback === 'function' ? callback : undefined;
}

/** A native error as the plain error that it is for users. */
function plain(error) {
  return error instanceof TypeError ? error : new Error(error.message);
}

/** Hands log lines and errors of a client to its callbacks. */
function tell({ log_cb: onLog, error_cb: onError }, { logs, errors, left_out }) {
  if (callable(onLog)) {
    for (const line of logs) {
      call(onLog, line);
    }
    if (left_out > 0) {
      const message = `${left_out} lines and errors were left out: nobody took them in time`;
      call(onLog, { level: 4, facility: 'LOG', message });
    }
  }
  if (callable(onError)) {
    for (const { error, reason, fatal } of errors) {
      call(onError, fatal ? { error, reason, fatal } : { error, reason });
    }
  }
}

/** `get_metadata` of a handle whose native part answers with a promise. */
function get_metadata(ask, topic, callback) {
  if (typeof topic !== 'string' || typeof callback !== 'function') {
    throw new Error('you must supply a topic name and callback');
  }
  ask(topic).then(
    // Outside of the promise, so that what the callback throws is no rejection.
    (metadata) => {
      const brokers = Object.assign({}, metadata.brokers);
      setImmediate(callback, null, { ...metadata, brokers });
    },
    (error) => setImmediate(callback, plain(error)),
  );
}

module.exports = { call, callable, flat, get_metadata, plain, tell };
