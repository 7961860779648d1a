'use strict';

// Sends a message every second, and prints what comes back.

const { Consumer, Producer } = require('barnabas-kafka');

const broker = process.env.NODE_KAFKA_NATIVE_BROKER || 'localhost:9092';
const topic = 'example';

const producer = new Producer({ broker });

const consumer = new Consumer({
  broker,
  topic,
  offset_directory: './kafka-offsets',
  receive_callback(info) {
    for (const { topic, partition, offset, payload } of info.messages) {
      console.log('message:', topic, partition, offset, payload);
    }
    return Promise.resolve();
  },
});

/** @type {NodeJS.Timeout} */
let timer;

producer
  .partition_count(topic)
  .then((partitions) => {
    let next = 0;
    timer = setInterval(() => producer.send(topic, next++ % partitions, ['hello']), 1000);
    return consumer.start();
  })
  .then((partitions) => console.log('consuming partitions', partitions.join(', ')));

process.once('SIGINT', async () => {
  clearInterval(timer);
  await producer.stop();
  await consumer.stop();
});
