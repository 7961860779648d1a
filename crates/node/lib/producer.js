'use strict';

const Bluebird = require('bluebird');
const common = require('./common');
const retry = require('./retry');
const { overlaid, required } = require('./options');

/** Sends messages to Kafka. */
class Producer {
  constructor(options) {
    if (options === null || typeof options !== 'object') {
      throw new TypeError('new Producer(options): options are no object');
    }
    required(options, ['broker']);
    this.options = options;
    this.logger = options.logger || console;
    this._is_stopped = false;
    this._stopping = undefined;
    // Ends what would try on after a stop.
    this._closing = new AbortController();

    const RawProducer = options.raw_producer || common.RawProducer;
    const raw = {
      driver_options: driverOptions(options),
      topic_options: overlaid({}, options.topic_options),
      dr_cb: (list) => this._rdkafka_dr_callback(list),
      error_cb: (error) => this.logger.error('rdkafka:', error),
      log_cb: ({ level, facility, message }) => {
        this.logger.info('rdkafka:', level, facility, message);
      },
    };
    // Without somebody who wants them no statistics are made.
    if (options.stats_callback) {
      raw.stat_cb = (json) => this._rdkafka_stats_callback(json);
    }
    this.handle = new RawProducer(raw);
  }

  /**
   * Queues messages; those that there is no room for are dropped. `enqueued`
   * says how many were taken.
   */
  send(topic, partition, payloads) {
    this._check_open();
    const result = this.handle.send(topic, partition, payloads);
    // Raw producers that were written for kafka-native's class have its names.
    const { enqueued = result.queued, send_queue_length = result.queue_length } = result;
    return { enqueued, send_queue_length };
  }

  /** `send` that tells which messages were not taken, and why. */
  try_send(topic, partition, payloads) {
    this._check_open();
    const { queued, queue_length, errors } = this.handle.try_send(topic, partition, payloads);
    return { enqueued: queued, send_queue_length: queue_length, errors };
  }

  /**
   * Queues messages, waiting for room behind those before them, and resolves
   * when Kafka has all of them: `[{partition, offset, timestamp}]` in their
   * order. The error has what became of each that failed.
   */
  async produce(topic, partition, messages) {
    this._check_open();
    const { results, errors } = await this.handle.submit(topic, partition ?? -1, messages);
    if (errors.length > 0) {
      const first = `the first is message ${errors[0].index}: ${errors[0].errstr}`;
      const error = new Error(`${errors.length} of ${messages.length} messages failed; ${first}`);
      throw Object.assign(error, { code: errors[0].errcode, errors, results });
    }
    return results;
  }

  /** How many partitions a topic has; asks each time. */
  partition_count(topic) {
    if (this._is_stopped) {
      return Bluebird.reject(new Error('already shutdown'));
    }
    const { fetch_partition_count: fetch } = this.options;
    if (fetch) {
      return Bluebird.resolve(fetch(this.handle, topic));
    }
    const { signal } = this._closing;
    return common.fetch_partition_count(this.handle, topic, { ...retry.PATIENCE, signal });
  }

  /**
   * Resolves when everything has been delivered or given up, and closes then.
   * Rejects if that takes longer than the retry options allow; the producer
   * stays usable.
   */
  stop(options) {
    if (this._is_stopped) {
      return Bluebird.resolve();
    }
    this._stopping ??= this._drain(options)
      .then(() => this._close(options))
      .finally(() => {
        this._stopping = undefined;
      });
    return this._stopping;
  }

  _close(options) {
    // The drained promise tells in a later turn: something may have been sent since.
    if (this.handle.outq_length() > 0) {
      return this._drain(options).then(() => this._close(options));
    }
    this._is_stopped = true;
    this._closing.abort(new Error('already shutdown'));
    this.handle.stop();
    return undefined;
  }

  _drain(options) {
    const isEmpty = () => this.handle.outq_length() === 0;
    return new Bluebird((resolve, reject) => {
      const tries = new AbortController();
      let isOver = false;
      const end = (settle) => (value) => {
        if (!isOver) {
          isOver = true;
          tries.abort();
          if (isDraining) {
            this.handle.stop_draining();
          }
          settle(value);
        }
      };
      // A handle of somebody else's is only asked.
      const isDraining = typeof this.handle.drain === 'function' && !isEmpty();
      if (isDraining) {
        this.handle.drain(() => {
          if (isEmpty()) {
            end(resolve)();
          }
        });
      }
      const attempt = () => {
        if (!isEmpty()) {
          throw new Error('Producer: stop still waiting for empty outq');
        }
      };
      const { signal } = tries;
      retry(attempt, { ...(options ?? retry.PATIENCE), signal }).then(end(resolve), end(reject));
    });
  }

  async [Symbol.asyncDispose]() {
    await this.stop();
  }

  _rdkafka_dr_callback(list) {
    const callback = this.options.delivery_report_callback;
    if (callback && list.length > 0) {
      const errors = list.reduce((sum, { count }) => sum + count, 0);
      callback.call(this.options, { errors, rdkafka_errinfo: list });
    }
  }

  _rdkafka_stats_callback(json) {
    const callback = this.options.stats_callback;
    if (callback) {
      const rdkafka_stats = JSON.parse(json);
      callback.call(this.options, { send_queue_length: queueLengths(rdkafka_stats), rdkafka_stats });
    }
  }

  _check_open() {
    if (this._is_stopped) {
      throw new Error('already shutdown');
    }
  }
}

function driverOptions(options) {
  const defaults = {
    'metadata.broker.list': options.broker,
    'statistics.interval.ms': options.statistics_interval_ms || 5000,
    'queue.buffering.max.messages': options.queue_buffering_max_messages || 500000,
    'queue.buffering.max.ms': options.queue_buffering_max_ms || 250,
    'delivery.report.only.error': 1,
  };
  if (options.compression !== undefined) {
    defaults['compression.codec'] = options.compression;
  }
  if (options.idempotent !== undefined) {
    defaults['enable.idempotence'] = options.idempotent;
  }
  if (options.acks !== undefined) {
    defaults['request.required.acks'] = options.acks;
  }
  return overlaid(defaults, options.driver_options);
}

/** Messages that have not been sent, by topic. */
function queueLengths({ topics = {} }) {
  const lengths = Object.entries(topics).map(([topic, { partitions = {} }]) => {
    const counts = Object.values(partitions).map(({ msgq_cnt: count }) => count || 0);
    return [topic, counts.reduce((sum, count) => sum + count, 0)];
  });
  return Object.fromEntries(lengths);
}

module.exports = { Producer };
