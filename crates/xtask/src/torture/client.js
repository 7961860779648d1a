'use strict';

// One process with the npm package: produces to a topic and consumes it, and
// tells what it was told, a line of JSON for each.
//   node client.js PACKAGE PROPERTIES TOPIC OFFSETS
// "stop" on standard input ends producing, the end of it everything.

const [, , folder, properties, topic, offset_directory] = process.argv;
const { 'bootstrap.servers': broker, ...access } = JSON.parse(properties);
const { Consumer, Producer } = require(folder);

const KEYS = 4;
const BATCH = 5;
const PAUSE_MS = 150;

const logger = { info() {}, warn: console.error, error: console.error };
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
// Quick to find back, and to see that the topic has grown.
const driver_options = {
  ...access,
  'reconnect.backoff.max.ms': 500,
  'topic.metadata.refresh.interval.ms': 2000,
};

let isProducing = true;

async function produce() {
  const producer = new Producer({
    broker,
    idempotent: true,
    queue_buffering_max_ms: 5,
    driver_options,
    logger,
  });
  const next = new Array(KEYS).fill(0);
  for (let turn = 0; isProducing; turn = (turn + 1) % KEYS) {
    const key = `node-${turn}`;
    const values = Array.from({ length: BATCH }, () => `node|${key}|${next[turn]++}|`);
    const messages = values.map((payload) => ({ payload, key }));
    const asked = process.hrtime.bigint();
    try {
      await producer.produce(topic, null, messages);
      say({ accepted: values, asked_ms_ago: Number(process.hrtime.bigint() - asked) / 1e6 });
    } catch (error) {
      const failed = new Set((error.errors ?? []).map(({ index }) => index));
      const isKnown = error.errors !== undefined;
      say({
        accepted: isKnown ? values.filter((_, index) => !failed.has(index)) : [],
        asked_ms_ago: Number(process.hrtime.bigint() - asked) / 1e6,
        failed: isKnown ? failed.size : values.length,
        why: error.message,
      });
      await pause(PAUSE_MS);
    }
    await pause(PAUSE_MS);
  }
  await producer.stop({ timeout: 120_000 });
  say({ stopped: true });
}

async function main() {
  const consumer = new Consumer({
    broker,
    topic,
    offset_directory,
    driver_options,
    partition_refresh_ms: 1000,
    logger,
    receive_callback({ messages }) {
      say({ received: messages.map(({ partition, offset, payload }) => [partition, offset, payload]) });
    },
  });
  process.stdin.on('data', () => {
    isProducing = false;
  });
  const ended = new Promise((resolve) => process.stdin.on('end', resolve));
  await consumer.start();
  await Promise.all([produce(), ended.then(() => { isProducing = false; })]);
  await consumer.stop({ wait_ms: 10_000 });
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
