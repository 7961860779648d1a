'use strict';

// The raw layer, as `require('barnabas-kafka/lib/common')` has it.

const Promise = require('bluebird');
const retry = require('./retry');

const Offsets = {
  RD_KAFKA_OFFSET_BEGINNING: -2,
  RD_KAFKA_OFFSET_END: -1,
  RD_KAFKA_OFFSET_STORED: -1000,
};

const names = {
  0: 'NO_ERROR',
  1: 'OFFSET_OUT_OF_RANGE',
  2: 'INVALID_MSG',
  3: 'UNKNOWN_TOPIC_OR_PART',
  4: 'INVALID_MSG_SIZE',
  5: 'LEADER_NOT_AVAILABLE',
  6: 'NOT_LEADER_FOR_PARTITION',
  7: 'REQUEST_TIMED_OUT',
  8: 'BROKER_NOT_AVAILABLE',
  9: 'REPLICA_NOT_AVAILABLE',
  10: 'MSG_SIZE_TOO_LARGE',
  11: 'STALE_CTRL_EPOCH',
  12: 'OFFSET_METADATA_TOO_LARGE',
  '-1': 'UNKNOWN',
  '-200': '_BEGIN',
  '-199': '_BAD_MSG',
  '-198': '_BAD_COMPRESSION',
  '-197': '_DESTROY',
  '-196': '_FAIL',
  '-195': '_TRANSPORT',
  '-194': '_CRIT_SYS_RESOURCE',
  '-193': '_RESOLVE',
  '-192': '_MSG_TIMED_OUT',
  '-191': '_PARTITION_EOF',
  '-190': '_UNKNOWN_PARTITION',
  '-189': '_FS',
  '-188': '_UNKNOWN_TOPIC',
  '-187': '_ALL_BROKERS_DOWN',
  '-186': '_INVALID_ARG',
  '-185': '_TIMED_OUT',
  '-184': '_QUEUE_FULL',
  '-183': '_ISR_INSUFF',
  '-100': '_END',
};

const Errors = Object.fromEntries(
  Object.entries(names).map(([code, name]) => [code, `RD_KAFKA_RESP_ERR_${name}`]),
);

/** A replica is down; the partition is served nevertheless. */
const REPLICA_NOT_AVAILABLE = 9;

/** A topic's entry of the cluster's metadata, asked for until it is whole. */
function fetch_metadata(handle, topic, options) {
  return retry(() => {
    return new Promise((resolve, reject) => {
      try {
        handle.get_metadata(topic, (error, metadata) => {
          if (error) {
            const text = `fetch_metadata: fetch_metadata error ${error.message} on topic ${topic}`;
            reject(new Error(text, { cause: error }));
          } else {
            resolve(metadata);
          }
        });
      } catch (error) {
        // A client that has been stopped will not answer later.
        reject(error.message === 'already shutdown' ? new retry.Final('', { cause: error }) : error);
      }
    }).then((metadata) => {
      const found = metadata.topics.find((entry) => entry.topic === topic);
      if (!found) {
        throw new Error(`fetch_metadata: topic ${topic} not found`);
      }
      if (found.error) {
        throw new Error(`fetch_metadata: topic error ${found.error} on topic ${topic}`);
      }
      for (const { id, error } of found.partitions) {
        if (error && error !== REPLICA_NOT_AVAILABLE) {
          throw new Error(`fetch_metadata: partition error ${error} on partition ${id} topic ${topic}`);
        }
      }
      return found;
    });
  }, options ?? retry.PATIENCE);
}

/** How many partitions a topic has. */
function fetch_partition_count(handle, topic, options) {
  return fetch_metadata(handle, topic, options).then((found) => found.partitions.length);
}

module.exports = {
  Errors,
  Offsets,
  // Loaded when they are used: both handles need this module.
  get RawConsumer() {
    return require('./rawconsumer');
  },
  get RawProducer() {
    return require('./rawproducer');
  },
  fetch_metadata,
  fetch_partition_count,
};
