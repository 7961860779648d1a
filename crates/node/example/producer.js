'use strict';

// Sends the lines of its standard input, and tells where they are.
//   node example/producer.js TOPIC

const readline = require('node:readline');
const { Producer } = require('barnabas-kafka');

const broker = process.env.NODE_KAFKA_NATIVE_BROKER || 'localhost:9092';
const topic = process.argv[2] ?? 'example';

/** Lines that are sent together at most. */
const AT_ONCE = 1000;

async function main() {
  const producer = new Producer({ broker, queue_buffering_max_ms: 5, compression: 'lz4' });
  let count = 0;

  /** @param {string[]} lines */
  async function send(lines) {
    const deliveries = await producer.produce(topic, null, lines);
    count += deliveries.length;
    for (const { partition, offset } of deliveries) {
      console.log(`${topic}/${partition}@${offset}`);
    }
  }

  /** @type {string[]} */
  let lines = [];
  for await (const line of readline.createInterface({ input: process.stdin })) {
    lines.push(line);
    if (lines.length === AT_ONCE) {
      await send(lines);
      lines = [];
    }
  }
  await send(lines);
  await producer.stop();
  console.log(`${count} messages are in Kafka`);
}

main();
