// Prints what comes, and keeps what it has printed in ./kafka-offsets.
//   node example/consumer.mjs TOPIC

import { consume } from 'barnabas-kafka';

const broker = process.env.NODE_KAFKA_NATIVE_BROKER || 'localhost:9092';
const topic = process.argv[2] ?? 'example';

const ended = new AbortController();
process.once('SIGINT', () => ended.abort());

const batches = consume({
  broker,
  topic,
  offset_directory: './kafka-offsets',
  signal: ended.signal,
});
for await (const { messages } of batches) {
  for (const { partition, offset, payload } of messages) {
    console.log(`${topic}/${partition}@${offset}: ${payload}`);
  }
}
