'use strict';

const native = require('./native');
const { Messages } = require('./batches');
const { call, callable, flat, get_metadata, plain, tell } = require('./handle');
const { count } = require('./options');
const Pump = require('./pump');

const MOST_MESSAGES = 10000;
const LINGER_MS = 5;
const NO_STARTS = new Float64Array(0);

/**
 * A librdkafka consumer of one topic, whose partitions are started by offset.
 * Callable with or without `new`; its callbacks are looked up at each call.
 *
 * `recv_cb(messages, errors, starts)`: `starts` has partitions and the
 * beginnings of their logs in turn, with `extended_messages`.
 */
function RawConsumer(options) {
  if (!(this instanceof RawConsumer)) {
    return new RawConsumer(options);
  }
  if (typeof options !== 'object' || options === null || !options.topic) {
    throw new Error('options must contain a topic');
  }
  if (!callable(options.recv_cb)) {
    throw new Error('options must contain a recv_cb function');
  }
  this._options = options;
  this._is_started = false;
  this._pump = new Pump({
    make: (batch) => new Messages(batch, options.topic, options),
    deliver: (batch, list) => this._hand_over(batch, list),
  });
  const linger = options.receive_linger_ms ?? LINGER_MS;
  const settings = {
    maxMessages: count(options.max_messages_per_callback, MOST_MESSAGES),
    lingerMs: Number(linger),
    hasStatistics: callable(options.stat_cb) !== undefined,
    hasEndMarks: options.end_marks ?? true,
    isExtended: Boolean(options.extended_messages),
  };
  try {
    this._native = new native.NativeConsumer(
      String(options.topic),
      flat(options.driver_options),
      flat(options.topic_options),
      settings,
      () => this._wake(),
    );
  } catch (error) {
    throw plain(error);
  }
}

/** Native code has something to tell. */
RawConsumer.prototype._wake = function () {
  if (!this._native) {
    return; // It was refused; what it has said is for nobody.
  }
  const news = this._native.take();
  tell(this._options, news.said);
  const { stat_cb: onStatistics } = this._options;
  if (news.statistics !== undefined && callable(onStatistics)) {
    call(onStatistics, news.statistics);
  }
  this._pump.put(news.batches);
};

RawConsumer.prototype._hand_over = function (batch, list) {
  const marks = batch.marks.map((mark) => ({ ...mark }));
  call(this._options.recv_cb, list, marks, batch.logStarts ?? NO_STARTS);
  this._native.taken();
};

RawConsumer.prototype._check_open = function () {
  if (this._native.isClosed) {
    throw new Error('already shutdown');
  }
};

RawConsumer.prototype._check_started = function () {
  this._check_open();
  if (!this._is_started) {
    throw new Error('consumer not started');
  }
};

/** Fetches partitions, each from an offset: `{0: 17}`. */
RawConsumer.prototype.start = function (offsets) {
  this._check_open();
  if (this._is_started) {
    throw new Error('consumer already started');
  }
  if (typeof offsets !== 'object' || offsets === null || Object.keys(offsets).length === 0) {
    throw new Error('you must specify partition/offsets');
  }
  this._begin(offsets);
  this._is_started = true;
};

/** Fetches more partitions. */
RawConsumer.prototype.add = function (offsets) {
  this._check_started();
  this._begin(offsets);
};

RawConsumer.prototype._begin = function (offsets) {
  try {
    const pairs = Object.entries(offsets);
    this._native.start(pairs.flatMap(([partition, offset]) => [Number(partition), Number(offset)]));
  } catch (error) {
    throw plain(error);
  }
};

/** No callback begins until `resume`; fetching goes on. */
RawConsumer.prototype.pause = function () {
  this._check_started();
  this._pump.pause();
};

/** Goes on with what was held. */
RawConsumer.prototype.resume = function () {
  this._check_started();
  this._pump.resume();
};

/** Messages that were fetched, that librdkafka no longer counts. */
RawConsumer.prototype.held = function () {
  return this._pump.held + this._native.held();
};

/** `callback(error | null, metadata)`: what a broker says of a topic. */
RawConsumer.prototype.get_metadata = function (topic, callback) {
  get_metadata((name) => this._native.metadata(name), topic, callback);
};

/** Ends it: what was not handed over is dropped. */
RawConsumer.prototype.stop = function () {
  this._check_open();
  this._pump.close();
  this._native.close();
  // What has been said already is told; nobody is woken any more.
  setImmediate(() => this._wake());
};

module.exports = RawConsumer;
