'use strict';

// What consumers leave behind (contract: B8, B15).

const assert = require('node:assert/strict');
const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const test = require('node:test');
const { Worker } = require('node:worker_threads');
const { Consumer, Producer } = require('..');
const { broker, newTopic } = require('./support/kafka');
const { eventually, quiet } = require('./support/eventually');
const { HEAD, frugal, leavesNothing, program, run } = require('./support/programs');

function folder(t) {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'offsets-'));
  t.after(() => fs.rmSync(made, { recursive: true }));
  return made;
}

/** A topic with so many messages in each of its two partitions. */
async function filled(count) {
  const topic = await newTopic(2);
  const producer = new Producer({ broker, logger: quiet, queue_buffering_max_ms: 1 });
  const messages = Array.from({ length: count }, (_, i) => `${i}`);
  await Promise.all([0, 1].map((id) => producer.produce(topic, id, messages)));
  await producer.stop();
  return topic;
}

/** The names of this process's threads that belong to librdkafka or to us. */
function threads() {
  const names = fs.readdirSync('/proc/self/task').map((task) => {
    try {
      return fs.readFileSync(`/proc/self/task/${task}/comm`, 'utf8').trim();
    } catch {
      return ''; // It has just ended.
    }
  });
  return names.filter((name) => /^(rdk:|local-)/.test(name));
}

test('a hundred consumers leave neither threads nor files nor memory', async (t) => {
  const topic = await filled(1);
  const own = JSON.stringify({ topic, offset_directory: folder(t) });
  const text = `${HEAD}
    const fs = require('node:fs');
    const names = () => fs.readdirSync('/proc/self/task').map((task) => {
      try { return fs.readFileSync('/proc/self/task/' + task + '/comm', 'utf8'); } catch { return ''; }
    });
    const files = () => fs.readdirSync('/proc/self/fd').length;
    const pause = () => new Promise((resolve) => setTimeout(resolve, 5));
    let folders = 0;
    async function cycle() {
      let resolve;
      const received = new Promise((done) => (resolve = done));
      const { topic, offset_directory } = ${own};
      const consumer = new kafka.Consumer({
        broker, topic, logger: quiet,
        offset_directory: offset_directory + '/' + folders++,
        // It uses what a consumer can have.
        extended_messages: true, offset_lock: true, partition_refresh_ms: 1000,
        stats_callback() {},
        receive_callback: () => resolve(),
      });
      await consumer.start();
      await received;
      await consumer.stop();
    }
    async function cycles(number) {
      for (let round = 0; round < number / 10; round++) {
        await Promise.all(Array.from({ length: 10 }, cycle));
      }
      while (names().some((name) => /^(rdk:|local-)/.test(name))) {
        await pause();
      }
      gc();
      await pause();
      gc();
      return { threads: names().length, files: files(), memory: process.memoryUsage.rss() };
    }
    (async () => {
      // Allocators and compilers keep what the first rounds have taken.
      const states = [await cycles(200)];
      while (states.length < 4) states.push(await cycles(100));
      console.log(JSON.stringify(states));
    })();
  `;
  const ended = await run(process.execPath, ['--expose-gc', '-e', text], { env: frugal });
  assert.equal(ended.code, 0, ended.stderr);
  leavesNothing(JSON.parse(ended.stdout));
});

test('no timer is left of what a stop has ended', async () => {
  const ended = await program(`
    const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
    // Promises have short ones of their own.
    const left = async () => {
      const began = Date.now();
      while (Date.now() - began < 300 && timers() > 0) await new Promise(setImmediate);
      return timers();
    };
    class Away {
      get_metadata(topic, callback) { callback(new Error('away')); }
      stop() {}
      outq_length() { return 0; }
    }
    (async () => {
      const consumer = new kafka.Consumer({
        broker, topic: 't', offset_directory: 'd', logger: quiet,
        raw_consumer: Away, receive_callback() {},
      });
      const starting = consumer.start().catch((error) => error.message);
      const asking = new kafka.Producer({ broker, logger: quiet, raw_producer: Away });
      const counting = asking.partition_count('t').catch((error) => error.message);
      await new Promise(setImmediate);
      const before = timers();
      await consumer.stop();
      await asking.stop();
      console.log(before >= 2, await left(), await starting, await counting);
      const producer = new kafka.Producer({ broker, logger: quiet });
      const sent = producer.send('left', 0, ['x']);
      await producer.stop();
      console.log(sent.enqueued, await left());
    })();
  `);
  const text = 'true 0 already shutdown already shutdown\n1 0\n';
  assert.deepEqual([ended.code, ended.stdout], [0, text], ended.stderr);
});

test('a producer that asks about a topic may be stopped', async () => {
  const producer = new Producer({ broker: '127.0.0.1:1', logger: quiet });
  producer.partition_count('any').catch(() => {});
  await producer.stop();
});

test('a worker that is terminated takes its consumer with it', async (t) => {
  const topic = await filled(5000);
  const own = JSON.stringify({ topic, offset_directory: folder(t) });
  const worker = new Worker(
    `${HEAD}
    const { parentPort } = require('node:worker_threads');
    let received = 0;
    const consumer = new kafka.Consumer({
      ...${own}, broker, logger: quiet, max_messages_per_callback: 10,
      receive_callback({ messages }) {
        received += messages.length;
        parentPort.postMessage(received);
      },
    });
    consumer.start();
    `,
    { eval: true },
  );
  await once(worker, 'message');
  assert.ok(threads().length > 0);
  await worker.terminate();
  await eventually('its threads have ended', () => threads().length === 0);
  // What it has left is gone on with: offsets rise without a gap.
  const { offset_directory } = JSON.parse(own);
  const first = new Map();
  const last = [-1, -1];
  let gaps = 0;
  const stored = [0, 1].map((id) => {
    const file = path.join(offset_directory, `${topic}-${id}.offset`);
    return fs.existsSync(file) ? Number(fs.readFileSync(file, 'latin1')) : -1;
  });
  const consumer = new Consumer({
    broker,
    topic,
    offset_directory,
    logger: quiet,
    receive_callback({ messages, misses, repeats }) {
      gaps += misses + repeats;
      for (const { partition, offset } of messages) {
        if (!first.has(partition)) {
          first.set(partition, offset);
        }
        last[partition] = offset;
      }
    },
  });
  await consumer.start();
  await eventually('all have come', () =>
    stored.every((offset, id) => offset === 4999 || last[id] === 4999),
  );
  first.forEach((offset, id) => assert.equal(offset, stored[id] + 1));
  assert.equal(gaps, 0);
  await consumer.stop();
});

test('workers and the main thread consume at the same time', async (t) => {
  const topic = await filled(2000);
  const text = (own) => `${HEAD}
    const { parentPort } = require('node:worker_threads');
    const consumer = new kafka.Consumer({
      ...${own}, broker, logger: quiet,
      receive_callback({ messages }) {
        parentPort.postMessage(messages.map(({ partition, offset }) => [partition, offset]));
      },
    });
    consumer.start();
    parentPort.on('message', () => consumer.stop().then(() => parentPort.close()));
  `;
  const offset_directory = folder(t);
  const seen = [[], []];
  const workers = [0, 1].map((worker_slot) => {
    const own = JSON.stringify({ topic, offset_directory, num_workers: 2, worker_slot });
    const worker = new Worker(text(own), { eval: true });
    worker.on('message', (places) => {
      for (const [partition, offset] of places) {
        assert.equal(partition, worker_slot);
        seen[partition].push(offset);
      }
    });
    return worker;
  });
  const all = [];
  await using(
    new Consumer({
      broker,
      topic,
      offset_directory: folder(t),
      logger: quiet,
      receive_callback: ({ messages }) => void all.push(...messages),
    }),
    async (consumer) => {
      await consumer.start();
      await eventually('all have come', () => all.length === 4000);
      await eventually('to workers, too', () => seen.every((list) => list.length === 2000));
    },
  );
  seen.forEach((list) => list.forEach((offset, index) => assert.equal(offset, index)));
  const ended = workers.map((worker) => once(worker, 'exit'));
  workers.forEach((worker) => worker.postMessage('stop'));
  assert.deepEqual(await Promise.all(ended), [[0], [0]]);
});

/** What `await using` does, for versions of Node that do not read it. */
async function using(resource, body) {
  try {
    await body(resource);
  } finally {
    await resource[Symbol.asyncDispose]();
  }
}
