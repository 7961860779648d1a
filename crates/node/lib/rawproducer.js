'use strict';

const native = require('./native');
const records = require('./records');
const { call, callable, flat, get_metadata, plain, tell } = require('./handle');

const ARGUMENTS = 'you must supply a topic name, partition, and array of strings';
const QUEUE_FULL = -184;
const DESTROYED = { errcode: -197, errstr: 'Local: Broker handle destroyed' };

/**
 * A librdkafka producer. Callable with or without `new`; its callbacks are
 * looked up at each call.
 */
function RawProducer(options) {
  if (!(this instanceof RawProducer)) {
    return new RawProducer(options);
  }
  this._options = options;
  this._pending = new Map();
  this._next = 0;
  this._on_drained = undefined;
  try {
    this._native = new native.NativeProducer(
      flat(options.driver_options),
      flat(options.topic_options),
      callable(options.stat_cb) !== undefined,
      () => this._wake(),
    );
  } catch (error) {
    throw plain(error);
  }
}

/** Native code has something to tell. */
RawProducer.prototype._wake = function () {
  if (!this._native) {
    return; // It was refused; what it has said is for nobody.
  }
  const news = this._native.take();
  const { stat_cb: onStatistics, dr_cb: onReports } = this._options;
  tell(this._options, news.said);
  if (news.statistics !== undefined && callable(onStatistics)) {
    call(onStatistics, news.statistics);
  }
  if (news.ended.length > 0 && callable(onReports)) {
    call(onReports, news.ended);
  }
  for (const results of news.results) {
    this._settle(results);
  }
  if (news.is_drained && this._on_drained) {
    call(this._on_drained);
  }
};

RawProducer.prototype._settle = function ({ id, partitions, offsets, timestamps, errors }) {
  const call = this._pending.get(id);
  if (!call) {
    return; // It was told when the client was closed.
  }
  const { settle, first } = call;
  this._pending.delete(id);
  const delivered = Array.from(partitions, (partition, index) => ({
    partition,
    offset: offsets[index],
    timestamp: timestamps[index],
  }));
  settle(delivered, errors.map((error) => ({ ...error, index: first + error.index })));
};

RawProducer.prototype._check = function (topic, partition, payloads) {
  if (this._native.isClosed) {
    throw new Error('already shutdown');
  }
  const isPartition = Number.isInteger(partition) && partition === (partition | 0);
  if (typeof topic !== 'string' || !isPartition || !Array.isArray(payloads)) {
    throw new Error(ARGUMENTS);
  }
};

/** Hands messages over; what there is no room for is dropped. */
RawProducer.prototype.send = function (topic, partition, payloads) {
  this._check(topic, partition, payloads);
  const values = records.values(payloads);
  if (values === null) {
    const { queued, queue_length } = this.try_send(topic, partition, payloads);
    return { queued, queue_length };
  }
  try {
    return this._native.sendValues(topic, partition, values.bytes, values.lengths, values.count);
  } catch (error) {
    throw plain(error);
  } finally {
    records.release();
  }
};

/** `send` that tells which messages were not taken, and why. */
RawProducer.prototype.try_send = function (topic, partition, payloads) {
  this._check(topic, partition, payloads);
  const total = { queued: 0, queue_length: 0, errors: [] };
  let isFull = false;
  try {
    for (const { bytes, used, first, count } of records.pieces(payloads)) {
      if (isFull) {
        // Nothing overtakes what found no room.
        for (let index = first; index < first + count; index++) {
          total.errors.push({ index, errcode: QUEUE_FULL, errstr: 'Local: Queue full' });
        }
        continue;
      }
      const { queued, errors } = this._native.sendRecords(topic, partition, bytes, used);
      total.queued += queued;
      for (const { index, errcode, errstr } of errors) {
        total.errors.push({ index: first + index, errcode, errstr });
        isFull ||= errcode === QUEUE_FULL;
      }
    }
    total.queue_length = this._native.outstanding();
  } catch (error) {
    throw plain(error);
  } finally {
    records.release();
  }
  return total;
};

/**
 * Hands messages over in order, waiting for room; a promise of
 * `{results, errors}` when all of them have ended.
 */
RawProducer.prototype.submit = async function (topic, partition, payloads) {
  this._check(topic, partition, payloads);
  const parts = [];
  const submit = (first, count, hand) => {
    const id = this._next;
    this._next = (id + 1) >>> 0;
    parts.push(
      new Promise((resolve) => {
        const settle = (results, errors) => resolve({ results, errors });
        this._pending.set(id, { settle, first, count });
      }),
    );
    try {
      hand(id);
    } catch (error) {
      this._pending.delete(id);
      throw plain(error);
    }
  };
  try {
    const values = records.values(payloads);
    if (values !== null) {
      submit(0, values.count, (id) =>
        this._native.submitValues(id, topic, partition, values.bytes, values.lengths, values.count),
      );
    } else {
      for (const { bytes, used, first, count } of records.pieces(payloads)) {
        submit(first, count, (id) => this._native.submitRecords(id, topic, partition, bytes, used));
      }
    }
  } finally {
    records.release();
  }
  const done = await Promise.all(parts);
  return {
    results: done.flatMap((part) => part.results),
    errors: done.flatMap((part) => part.errors),
  };
};

/** Messages that are neither delivered nor given up. */
RawProducer.prototype.outq_length = function () {
  this._check_open();
  return this._native.outstanding();
};

RawProducer.prototype._check_open = function () {
  if (this._native.isClosed) {
    throw new Error('already shutdown');
  }
};

/** Lets messages leave at once; calls back whenever nothing is outstanding. */
RawProducer.prototype.drain = function (callback) {
  this._check_open();
  this._on_drained = callback;
  this._native.drain();
};

/** The end of `drain`. */
RawProducer.prototype.stop_draining = function () {
  this._on_drained = undefined;
  this._native.stopDraining();
};

/** `callback(error | null, metadata)`: what a broker says of a topic. */
RawProducer.prototype.get_metadata = function (topic, callback) {
  this._check_open();
  get_metadata((name) => this._native.metadata(name), topic, callback);
};

/** Closes the client; what is outstanding is dropped. */
RawProducer.prototype.stop = function () {
  if (this._native.isClosed) {
    return;
  }
  this._on_drained = undefined;
  this._native.close();
  // What has been reported already is told; nobody is woken any more.
  setImmediate(() => {
    this._wake();
    for (const [id, { settle, first, count }] of this._pending) {
      this._pending.delete(id);
      const lost = { partition: -1, offset: -1, timestamp: -1 };
      const indices = Array.from({ length: count }, (_, index) => first + index);
      settle(
        indices.map(() => lost),
        indices.map((index) => ({ index, ...DESTROYED })),
      );
    }
  });
};

module.exports = RawProducer;
