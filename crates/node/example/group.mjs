// Prints what a member of a group gets, and commits what it has printed.
//   node example/group.mjs TOPIC GROUP

import { consume } from 'barnabas-kafka';

const broker = process.env.NODE_KAFKA_NATIVE_BROKER || 'localhost:9092';
const [topic = 'example', group_id = 'example'] = process.argv.slice(2);

const ended = new AbortController();
process.once('SIGINT', () => ended.abort());

const batches = consume({
  broker,
  group_id,
  topics: [topic],
  signal: ended.signal,
  partitions_callback(list) {
    console.log('partitions:', list.map(({ partition }) => partition).join(' ') || 'none');
  },
});
for await (const { messages } of batches) {
  for (const { partition, offset, payload } of messages) {
    console.log(`${topic}/${partition}@${offset}: ${payload}`);
  }
}
