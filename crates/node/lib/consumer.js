'use strict';

const assert = require('node:assert');
const Bluebird = require('bluebird');
const common = require('./common');
const Gate = require('./gate');
const { call } = require('./handle');
const native = require('./native');
const OffsetDirectory = require('./offsetdirectory');
const { count, overlaid, required } = require('./options');
const retry = require('./retry');
const { waiting } = require('./standing');

const MOST_MESSAGES = 10000;
const RETRY_DELAY_MS = 1000;
const PARTITION_EOF = -191;
const ON_ERROR = ['commit', 'retry', 'stop'];

const STARTING = 'starting';
const STARTED = 'started';
const STOPPED = 'stopped';

/** Reads a topic's partitions of its worker slot, and remembers how far. */
class Consumer {
  constructor(options) {
    if (options === null || typeof options !== 'object') {
      throw new TypeError('new Consumer(options): options are no object');
    }
    required(options, ['broker', 'topic', 'receive_callback']);
    this.options = options;
    this.logger = options.logger || console;
    this.num_workers = Number(options.num_workers) || 1;
    this.worker_slot = Number(options.worker_slot) || 0;
    assert(this.worker_slot >= 0 && this.worker_slot < this.num_workers, 'worker_slot out of range');
    this._on_receive_error = options.on_receive_error || 'commit';
    if (!ON_ERROR.includes(this._on_receive_error)) {
      throw new Error(`on_receive_error must be one of ${ON_ERROR.join(', ')}`);
    }

    const OffsetManager = options.offset_manager || OffsetDirectory;
    this.offset_mgr = new OffsetManager(options);

    this._state = undefined;
    this._progress = new native.NativeProgress();
    this._partitions = [];
    // The number of a batch, by the offsets that it ends with.
    this._numbers = new WeakMap();
    this._running = new Set();
    // The offsets of batches that have failed and come again.
    this._retrying = new Set();
    this._timers = new Set();
    this._locks = [];
    this._is_ended = false;
    // Told when nothing more will come, whatever is done.
    this._on_fatal = undefined;
    // Ends what would try on after a stop.
    this._stopping = new AbortController();
    const most = count(options.max_messages_per_callback, MOST_MESSAGES);
    this._gate = new Gate({
      limit: options.max_callbacks_in_flight || Infinity,
      most,
      most_held: 2 * most,
      deliver: (batch) => this._deliver(batch),
      hold: (isHeld) => (isHeld ? this.handle.pause() : this.handle.resume()),
    });

    const RawConsumer = options.raw_consumer || common.RawConsumer;
    this.handle = new RawConsumer(this._raw_options(most));
  }

  _raw_options(most) {
    const { options } = this;
    const raw = {
      topic: options.topic,
      driver_options: overlaid(
        {
          'metadata.broker.list': options.broker,
          'statistics.interval.ms': options.statistics_interval_ms || 5000,
          'queued.max.messages.kbytes': options.queued_max_messages_kbytes || 1000000,
        },
        options.driver_options,
      ),
      topic_options: overlaid(
        { 'auto.commit.enable': false, 'auto.offset.reset': 'smallest' },
        options.topic_options,
      ),
      max_messages_per_callback: most,
      recv_cb: (...args) => this._rdkakfa_recv_callback(...args),
      error_cb: (error) => this._client_error(error),
      log_cb: ({ level, facility, message }) => {
        this.logger.info('rdkafka:', level, facility, message);
      },
      receive_linger_ms: options.receive_linger_ms,
      payload_format: options.payload_format,
      extended_messages: options.extended_messages,
      end_marks: false,
    };
    // Without somebody who wants them no statistics are made.
    if (options.stats_callback) {
      raw.stat_cb = (json) => this._rdkafka_stats_callback(json);
    }
    return raw;
  }

  /** The offset that each partition goes on with. */
  get expected_offsets() {
    return byPartition(this._progress.expected());
  }

  /** The last offsets of each partition's batches that are not committed. */
  get receiving_offsets() {
    const open = this._partitions.map((id) => [id, this._progress.open(id)]);
    return Object.fromEntries(open);
  }

  /** Begins to read where the files say; resolves to the partitions. */
  start() {
    if (this._state !== undefined) {
      const text = this._state === STOPPED ? 'already shutdown' : 'consumer already started';
      return Bluebird.reject(new Error(text));
    }
    this._state = STARTING;
    const started = Bluebird.try(() => this._count())
      .then((count) => {
        // Nobody would give back what begins after a stop.
        if (this._state !== STARTING) {
          throw new Error('already shutdown');
        }
        return this._begin(count);
      })
      .catch((error) => {
        if (this._state === STARTING) {
          this._state = undefined;
          this._release();
        }
        throw error;
      });
    // Stopping does not wait for brokers that do not answer.
    return new Bluebird((resolve, reject) => {
      this._abort = reject;
      started.then(resolve, reject);
    });
  }

  _count() {
    const { fetch_partition_count: fetch, topic } = this.options;
    if (fetch) {
      return fetch(this.handle, topic);
    }
    return common.fetch_partition_count(this.handle, topic, {
      ...retry.PATIENCE,
      signal: this._stopping.signal,
    });
  }

  async _begin(count) {
    const partitions = this._my_partitions(count);
    this._lock(partitions);
    const offsets = await this.offset_mgr.read(partitions);
    if (this._state !== STARTING) {
      throw new Error('already shutdown');
    }
    partitions.forEach((id, index) => this._progress.add(id, offsets[index]));
    this.handle.start(this.expected_offsets);
    this._partitions = partitions;
    this._state = STARTED;
    const { partition_refresh_ms: refresh } = this.options;
    if (refresh > 0) {
      this._later(() => this._refresh(), refresh);
    }
    return this._names();
  }

  _names() {
    return Object.keys(this.expected_offsets);
  }

  /** The partitions of this worker's slot. */
  _my_partitions(count) {
    const { topic } = this.options;
    try {
      return native.NativeProgress.slotPartitions(topic, count, this.num_workers, this.worker_slot);
    } catch (error) {
      throw new Error(error.message);
    }
  }

  _lock(partitions) {
    if (this.options.offset_lock) {
      this._locks.push(this.offset_mgr._lock(partitions));
    }
  }

  _release() {
    for (const lock of this._locks.splice(0)) {
      lock.release();
    }
  }

  /** Looks for new partitions, and again later. */
  async _refresh() {
    try {
      const own = this._my_partitions(await this._count());
      const added = own.filter((id) => !this._partitions.includes(id));
      if (added.length > 0 && this._state === STARTED) {
        this._lock(added);
        added.forEach((id) => this._progress.add(id, -1));
        this.handle.add(Object.fromEntries(added.map((id) => [id, 0])));
        this._partitions = own;
        this.options.partitions_callback?.call(this.options, own);
      }
    } catch (error) {
      if (this._state === STARTED) {
        this._problem(error, 'looking for new partitions failed:', error.message);
      }
    }
    this._later(() => this._refresh(), this.options.partition_refresh_ms);
  }

  /** Calls later, unless it is stopped by then. */
  _later(action, milliseconds) {
    if (this._state === STOPPED) {
      return;
    }
    const timer = setTimeout(() => {
      this._timers.delete(timer);
      action();
    }, milliseconds);
    this._timers.add(timer);
  }

  /** No callback begins until `resume`. */
  pause() {
    this._check_started();
    this._gate.pause();
  }

  /** Goes on with what was held. */
  resume() {
    this._check_started();
    this._gate.resume();
  }

  _check_started() {
    if (this._state === STOPPED) {
      throw new Error('already shutdown');
    }
    if (this._state !== STARTED) {
      throw new Error('consumer not started');
    }
  }

  /**
   * Ends it: what was not handed over is dropped, what was requested is
   * committed. Callbacks that run are waited for up to `wait_ms`, if given;
   * with `offset_lock` those that end later commit nothing.
   */
  stop({ wait_ms: wait } = {}) {
    if (this._state === STOPPED) {
      return Bluebird.reject(new Error('already shutdown'));
    }
    this._state = STOPPED;
    this._stopping.abort(new Error('already shutdown'));
    this._abort?.(new Error('already shutdown'));
    this._timers.forEach(clearTimeout);
    this._gate.close();
    return Bluebird.try(() => this.handle.stop())
      .then(() => (wait > 0 ? this._settled(wait) : undefined))
      .finally(() => {
        this._is_ended = true;
      })
      .then(() => this.offset_mgr.commit())
      .finally(() => this._release())
      .then(() => undefined);
  }

  async _settled(milliseconds) {
    let timer;
    const over = new Promise((resolve) => {
      timer = setTimeout(resolve, milliseconds);
    });
    await Promise.race([over, Promise.allSettled(this._running)]);
    clearTimeout(timer);
  }

  async [Symbol.asyncDispose]() {
    if (this._state !== STOPPED) {
      await this.stop();
    }
  }

  /** What the handle has fetched; the name is kafka-native's. */
  _rdkakfa_recv_callback(messages, errors = [], starts = new Float64Array(0), lanes = undefined) {
    for (const error of errors) {
      if (error.errcode !== PARTITION_EOF) {
        this._partition_error(error);
      }
    }
    if (messages.length > 0 && this._state !== STOPPED) {
      this._gate.put({ messages, starts, lanes });
    }
  }

  /** `lanes` are what progress calls the partitions, if that is not their number. */
  _deliver({ messages: all, starts, lanes }) {
    const { topic } = this.options;
    const partitions = lanes ?? new Int32Array(all.length);
    const offsetsOfAll = new Float64Array(all.length);
    for (let i = 0; i < all.length; i++) {
      if (!lanes) {
        partitions[i] = all[i].partition;
      }
      offsetsOfAll[i] = all[i].offset;
    }
    const summary = this._progress.handOver(partitions, offsetsOfAll, starts);
    let messages = all;
    if (summary.unassigned.length > 0) {
      const others = new Set(summary.unassigned);
      messages = all.filter((_, index) => !others.has(index));
      for (const index of others) {
        this._log('error', `skipping message for unexpected partition ${all[index].partition}`);
      }
    }
    for (const { partition, offset, expected } of summary.jumps) {
      this._log(
        'warn',
        'earlier offset than expected: topic',
        topic,
        'partition',
        partition,
        'received message offset',
        offset,
        'expected',
        expected,
        'may indicate unintended offset directory, and cause repeated data',
      );
    }
    const { misses, repeats, expired } = summary;
    const info = { messages, misses, repeats };
    if (this.options.extended_messages) {
      info.expired = expired;
    }
    const offsets = byPartition(summary.last);
    this._numbers.set(offsets, summary.number);
    this._receive(info, offsets);
  }

  _receive(info, offsets) {
    let result;
    try {
      result = this.options.receive_callback.call(this.options, info);
    } catch (error) {
      this._failed(error, info, offsets);
      return;
    }
    if (typeof result?.then !== 'function') {
      this._over(offsets);
      return;
    }
    const running = Promise.resolve(result).then(
      () => this._over(offsets),
      (error) => this._failed(error, info, offsets),
    );
    this._running.add(running);
    running.finally(() => this._running.delete(running));
  }

  _over(offsets) {
    this._receive_done(offsets);
    if (this._retrying.delete(offsets)) {
      this._gate.unblock(partitionsOf(offsets));
    }
    this._gate.done();
  }

  _failed(error, info, offsets) {
    this._log('error', 'receive_callback failed:', error);
    if (this._on_receive_error === 'stop') {
      if (this._state !== STOPPED) {
        this.stop().catch((reason) => this._commit_failed(reason));
      }
    } else if (this._on_receive_error === 'retry') {
      this._retry(info, offsets);
    } else {
      this._over(offsets);
    }
  }

  /** The same batch again, and nothing else of its partitions before that. */
  _retry(info, offsets) {
    if (!this._retrying.has(offsets)) {
      this._retrying.add(offsets);
      this._gate.block(partitionsOf(offsets));
    }
    const again = () => this._gate.retry(() => this._receive(info, offsets));
    this._later(again, this.options.retry_delay_ms || RETRY_DELAY_MS);
  }

  /** A batch was processed: commits what no open batch stands before. */
  _receive_done(offsets) {
    const number = this._numbers.get(offsets);
    // Without the lock the partition may be somebody else's by now.
    const isUnlocked = this._is_ended && this.options.offset_lock;
    if (number === undefined || isUnlocked) {
      return;
    }
    const commit = this._progress.finish(number);
    if (commit.length > 0) {
      Bluebird.try(() => this.offset_mgr.commit(byPartition(commit))).catch((error) =>
        this._commit_failed(error),
      );
    }
  }

  _commit_failed(error) {
    this._log('warn', 'kafka_consumer commit failed: ', error.message);
    this._report({ code: error.code, message: error.message, fatal: false });
  }

  _client_error({ error, reason, fatal }) {
    this._log('error', 'rdkafka:', { error, reason });
    this._report({ code: error, message: reason, fatal: Boolean(fatal) });
    if (fatal) {
      this._on_fatal?.(Object.assign(new Error(reason), { code: error }));
    }
  }

  _partition_error({ partition, errcode, errstr }) {
    const reason = errstr ?? `error ${errcode} on partition ${partition}`;
    this._log('error', 'rdkafka:', { error: errcode, reason });
    this._report({ code: errcode, message: reason, partition, fatal: false });
  }

  _problem(error, ...words) {
    this._log('warn', ...words);
    this._report({ code: error.code, message: error.message, fatal: false });
  }

  /** A logger that throws disturbs nothing here. */
  _log(level, ...words) {
    call(() => this.logger[level](...words));
  }

  _report(problem) {
    const { options } = this;
    if (typeof options.error_callback === 'function') {
      call((one) => options.error_callback(one), problem);
    }
  }

  _rdkafka_stats_callback(json) {
    const { stats_callback: callback } = this.options;
    if (!callback || this._partitions.length === 0) {
      return;
    }
    const held = typeof this.handle.held === 'function' ? this.handle.held() : 0;
    callback.call(this.options, this._waiting(JSON.parse(json), held));
  }

  _waiting(rdkafka_stats, held) {
    return waiting(rdkafka_stats, this.options.topic, this._partitions, held);
  }
}

/** An object of what comes as partitions and offsets in turn. */
function byPartition(inTurn) {
  const map = {};
  for (let i = 0; i + 1 < inTurn.length; i += 2) {
    map[inTurn[i]] = inTurn[i + 1];
  }
  return map;
}

function partitionsOf(offsets) {
  return Object.keys(offsets).map(Number);
}

module.exports = { Consumer, OffsetDirectory };
