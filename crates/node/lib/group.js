'use strict';

// Members of consumer groups (contract: B11): Kafka decides who reads what,
// and keeps the offsets. The rest is as for a consumer without a group.

const native = require('./native');
const { Messages } = require('./batches');
const { Consumer } = require('./consumer');
const { call, callable, flat, plain, tell } = require('./handle');
const { overlaid, required } = require('./options');
const Pump = require('./pump');
const { waitingOf } = require('./standing');

const LINGER_MS = 5;

/** What a group decides instead. */
const EXCLUDED = [
  'topic',
  'num_workers',
  'worker_slot',
  'offset_directory',
  'offset_lock',
  'offset_manager',
  'partition_refresh_ms',
  'raw_consumer',
];

/** Defaults that are not librdkafka's. */
const DRIVER = {
  'message.max.bytes': 4000000,
  'allow.auto.create.topics': true,
  'topic.metadata.refresh.interval.ms': 10000,
  'auto.offset.reset': 'smallest',
};

/**
 * Reads what its group gives it. Progress knows partitions by lanes; the gate
 * need not, because batches that are iterated do not fail and come again.
 */
class GroupConsumer extends Consumer {
  constructor(options) {
    for (const name of EXCLUDED) {
      if (options[name] !== undefined) {
        throw new Error(`group_id and ${name} exclude each other`);
      }
    }
    required(options, ['group_id', 'topics']);
    const topic = [].concat(options.topics).join();
    super({ ...options, topic, raw_consumer: GroupHandle, offset_manager: GroupOffsets });
    this.offset_mgr.handle = this.handle;
    this._gone = [];
  }

  _raw_options(most) {
    const { options } = this;
    const raw = super._raw_options(most);
    return {
      ...raw,
      topics: [].concat(options.topics),
      properties: {
        ...overlaid(DRIVER, raw.driver_options),
        ...overlaid({}, options.topic_options),
        'group.id': options.group_id,
        // Otherwise nobody would be told.
        ...(raw.stat_cb ? {} : { 'statistics.interval.ms': 0 }),
      },
      partitions_cb: (change) => this._partitions_changed(change),
      lane_cb: (lane, offset) => this._progress.add(lane, offset - 1),
      gone_cb: (lanes) => this._forget(lanes),
    };
  }

  _count() {
    return 0;
  }

  async _begin() {
    this.handle.start();
    this._state = 'started';
    return [];
  }

  /** Kafka has given partitions to the member, or taken some. */
  _partitions_changed({ revoked, assigned, are_lost }) {
    const isIn = (list, { topic, partition }) =>
      list.some((one) => one.topic === topic && one.partition === partition);
    const kept = this._partitions.filter((place) => !isIn(revoked, place));
    this._partitions = kept.concat(assigned);
    const { options } = this;
    if (typeof options.partitions_callback === 'function') {
      const list = this._partitions.map((place) => ({ ...place }));
      call(() => options.partitions_callback(list, { revoked, assigned, are_lost }));
    }
  }

  _waiting(rdkafka_stats, held) {
    return waitingOf(rdkafka_stats, this._partitions, held);
  }

  /** Lanes without open batches mean nothing any more. */
  _forget(lanes) {
    this._gone.push(...lanes);
    this._gone = this._gone.filter((lane) => {
      const isOpen = this._gate.has_waiting || this._progress.open(lane).length > 0;
      if (!isOpen) {
        this._progress.remove(lane);
      }
      return isOpen;
    });
  }
}

/** Kafka's offsets, in the place of an offset directory. */
class GroupOffsets {
  async read() {
    return [];
  }

  async commit(map) {
    if (map) {
      this.handle.store(map);
    }
  }
}

/** What `RawConsumer` is for a consumer without a group. */
class GroupHandle {
  constructor(options) {
    this._options = options;
    this._places = new Map();
    this._gone = [];
    this._pump = new Pump({
      make: (batch) => new Messages(batch, undefined, options, this._places),
      deliver: (batch, list) => this._hand_over(batch, list),
      idle: () => this._forget(),
    });
    this._native = undefined;
    this._closed = new Promise((resolve) => {
      this._on_closed = resolve;
    });
  }

  /** Joins the group. */
  start() {
    const { topics, properties, max_messages_per_callback, extended_messages } = this._options;
    const settings = {
      maxMessages: max_messages_per_callback,
      lingerMs: Number(this._options.receive_linger_ms ?? LINGER_MS),
      hasStatistics: callable(this._options.stat_cb) !== undefined,
      hasEndMarks: false,
      isExtended: Boolean(extended_messages),
    };
    try {
      this._native = new native.NativeGroup(topics, flat(properties), settings, () => this._wake());
    } catch (error) {
      throw plain(error);
    }
  }

  /** Native code has something to tell. */
  _wake() {
    if (!this._native) {
      return; // It was refused; what it has said is for nobody.
    }
    const news = this._native.take();
    tell(this._options, news.said);
    const { revoked, assigned, areLost: are_lost } = news;
    if (revoked.length > 0 || assigned.length > 0) {
      this._options.partitions_cb({ revoked, assigned, are_lost });
    }
    if (news.statistics !== undefined && callable(this._options.stat_cb)) {
      call(this._options.stat_cb, news.statistics);
    }
    for (const { lane, topic, partition, offset } of news.takenOn) {
      this._places.set(lane, { topic, partition });
      this._options.lane_cb(lane, offset);
    }
    this._gone.push(...news.givenUp);
    this._pump.put(news.batches);
    if (news.isClosed) {
      this._native.dispose();
      this._on_closed();
    }
  }

  _hand_over(batch, list) {
    call(this._options.recv_cb, list, [], batch.logStarts, batch.partitions);
    this._native.taken();
  }

  /** Lanes that no batch has any more. */
  _forget() {
    const gone = this._gone.splice(0);
    gone.forEach((lane) => this._places.delete(lane));
    this._options.gone_cb(gone);
  }

  /** Messages that were fetched, that librdkafka no longer counts. */
  held() {
    return this._pump.held + this._native.held();
  }

  pause() {
    this._pump.pause();
  }

  resume() {
    this._pump.resume();
  }

  /** Stores last processed offsets by lane, for Kafka's next commit. */
  store(offsets) {
    try {
      this._native.store(Object.entries(offsets).flatMap(([lane, offset]) => [Number(lane), offset]));
    } catch (error) {
      throw plain(error);
    }
  }

  /** Resolves when what was stored is committed and the group is left. */
  async stop() {
    this._pump.close();
    if (this._native) {
      this._native.close();
      await this._closed;
    }
  }
}

module.exports = { GroupConsumer };
