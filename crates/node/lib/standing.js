'use strict';

/**
 * How much waits, of librdkafka's statistics (contract: section 9). All
 * partitions share one queue, whose length each of them tells.
 */
function waiting(rdkafka_stats, topic, own, held) {
  return waitingOf(rdkafka_stats, own.map((partition) => ({ topic, partition })), held);
}

/** The same of partitions of several topics. */
function waitingOf(rdkafka_stats, places, held) {
  const own = places.map(
    ({ topic, partition }) => rdkafka_stats.topics?.[topic]?.partitions?.[partition] ?? {},
  );
  const result = {
    waiting_local: (own[0]?.fetchq_cnt ?? 0) + held,
    waiting_kafka: 0,
    kafka_log_size: 0,
    rdkafka_stats,
  };
  for (const { consumer_lag: lag = 0, lo_offset: low, hi_offset: high, next_offset: next } of own) {
    // What was not committed to Kafka has no lag that librdkafka knows.
    result.waiting_kafka += lag >= 0 ? lag : between(next, high);
    result.kafka_log_size += between(low, high);
  }
  return result;
}

/** 0 if either is not known, which negative numbers mean. */
function between(low, high) {
  return low >= 0 && high >= 0 ? Math.max(0, high - low) : 0;
}

module.exports = { waiting, waitingOf };
