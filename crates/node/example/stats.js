'use strict';

// Prints how much waits, on the way in and on the way out.
//   node example/stats.js TOPIC

const { Consumer, Producer } = require('barnabas-kafka');

const broker = process.env.NODE_KAFKA_NATIVE_BROKER || 'localhost:9092';
const topic = process.argv[2] ?? 'example';

const producer = new Producer({
  broker,
  statistics_interval_ms: 1000,
  stats_callback({ send_queue_length, rdkafka_stats }) {
    console.log('producer:', send_queue_length[topic] ?? 0, 'wait;', rdkafka_stats.txmsgs, 'sent');
  },
  delivery_report_callback({ errors, rdkafka_errinfo }) {
    console.error('producer:', errors, 'lost:', rdkafka_errinfo.map(({ errstr }) => errstr).join(', '));
  },
});

const consumer = new Consumer({
  broker,
  topic,
  offset_directory: './kafka-offsets',
  statistics_interval_ms: 1000,
  receive_callback() {},
  stats_callback({ waiting_local, waiting_kafka, kafka_log_size }) {
    console.log('consumer:', waiting_local, 'here,', waiting_kafka, 'in Kafka of', kafka_log_size);
  },
});

const timer = setInterval(() => producer.send(topic, 0, Array(1000).fill('x'.repeat(100))), 100);
consumer.start();

process.once('SIGINT', async () => {
  clearInterval(timer);
  await producer.stop();
  await consumer.stop();
});
