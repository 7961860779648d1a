'use strict';

// Workers share a topic's partitions; one that dies is replaced and goes on
// where it was.

/** @type {import('node:cluster').Cluster} */
const cluster = /** @type {any} */ (require('node:cluster'));
const { Consumer, Producer } = require('barnabas-kafka');

const broker = process.env.NODE_KAFKA_NATIVE_BROKER || 'localhost:9092';
const topic = 'example';
const num_workers = Number(process.env.KAFKA_NATIVE_WORKER_COUNT || 2);

if (cluster.isPrimary) {
  primary();
} else {
  worker();
}

function primary() {
  let isStopping = false;

  /** @param {number} slot */
  function fork(slot) {
    const child = cluster.fork({
      KAFKA_NATIVE_WORKER_COUNT: num_workers,
      KAFKA_NATIVE_WORKER_SLOT: slot,
    });
    child.on('exit', () => {
      if (!isStopping) {
        console.log('worker', slot, 'has died');
        fork(slot);
      }
    });
  }

  const producer = new Producer({ broker });
  /** @type {NodeJS.Timeout} */
  let timer;
  producer.partition_count(topic).then((partitions) => {
    for (let slot = 0; slot < num_workers; slot++) {
      fork(slot);
    }
    let next = 0;
    timer = setInterval(() => {
      producer.send(topic, next % partitions, [`hello ${next}`]);
      next += 1;
    }, 1000);
  });

  process.once('SIGINT', async () => {
    isStopping = true;
    clearInterval(timer);
    await producer.stop();
    cluster.disconnect();
  });
}

function worker() {
  const worker_slot = process.env.KAFKA_NATIVE_WORKER_SLOT;
  const consumer = new Consumer({
    broker,
    topic,
    offset_directory: './kafka-offsets',
    num_workers,
    worker_slot,
    receive_callback(info) {
      for (const { partition, offset, payload } of info.messages) {
        console.log('worker', worker_slot, 'pid', process.pid, 'message:', partition, offset, payload);
      }
    },
  });
  consumer
    .start()
    .then((partitions) => console.log('worker', worker_slot, 'has partitions', partitions.join(', ')));
  process.once('SIGINT', () => {});
  process.once('disconnect', () => consumer.stop());
}
