'use strict';

// Tries something until it succeeds (contract: section 11, retry rules).

const Promise = require('bluebird');

const DEFAULT_TRIES = 5;
const DEFAULT_INTERVAL = 1000;

/** An error that another try would not mend. */
class Final extends Error {}

/**
 * Calls `attempt` until what it returns, or resolves to, is no failure. The
 * first try is made at once, the others start `interval` ms apart. A signal
 * ends it with its reason, and no timer is left.
 */
function retry(attempt, options = {}) {
  const { timeout, backoff, max_interval: maxInterval, signal } = options;
  const maxTries = options.max_tries ?? (timeout === undefined ? DEFAULT_TRIES : -1);
  let interval = options.interval ?? DEFAULT_INTERVAL;
  const began = Date.now();
  let tries = 0;

  return new Promise((onSuccess, onFailure) => {
    let timer;
    let isOver = false;
    const settle = (tell) => (outcome) => {
      isOver = true;
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
      tell(outcome);
    };
    const [resolve, reject] = [settle(onSuccess), settle(onFailure)];
    const abort = () => reject(signal.reason);

    function next() {
      const start = Date.now();
      tries += 1;
      Promise.try(attempt).then(resolve, (failure) => {
        if (failure instanceof Final) {
          reject(failure.cause);
          return;
        }
        const now = Date.now();
        const isLast = maxTries !== -1 && tries >= maxTries;
        if (isLast || (timeout !== undefined && now + interval > began + timeout)) {
          reject(exhausted(now - began, tries, failure));
          return;
        }
        if (!isOver) {
          timer = setTimeout(next, Math.max(0, start + interval - now));
        }
        if (backoff) {
          interval = Math.min(interval * backoff, maxInterval ?? Infinity);
        }
      });
    }

    if (signal?.aborted) {
      abort();
      return;
    }
    signal?.addEventListener('abort', abort);
    next();
  });
}

function exhausted(elapsed, tries, failure) {
  const last = failure instanceof Error ? failure.message : String(failure);
  const error = new Error(`operation timed out after ${elapsed} ms, ${tries} tries failure: ${last}`);
  error.code = 'ETIMEDOUT';
  error.failure = failure;
  return error;
}

retry.Final = Final;
/** How long partitions are counted, and producers emptied, if nobody says otherwise. */
retry.PATIENCE = { max_tries: 15, interval: 1000 };
module.exports = retry;
