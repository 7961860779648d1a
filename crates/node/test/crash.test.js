'use strict';

// What is left when a process is killed (contract: acceptance 3), and how much
// memory one needs that lives long.

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const test = require('node:test');
const { setTimeout: sleep } = require('node:timers/promises');
const { Producer } = require('..');
const { broker, newTopic } = require('./support/kafka');
const { eventually, quiet } = require('./support/eventually');
const { PACKAGE, program } = require('./support/programs');

function folder(t) {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'offsets-'));
  t.after(() => fs.rmSync(made, { recursive: true }));
  return made;
}

/** Runs a program until it is killed, some time after its first output. */
async function killed(text, args, milliseconds) {
  const head = `const kafka = require(${JSON.stringify(PACKAGE)});`;
  const child = spawn(process.execPath, ['-e', head + text, '--', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (data) => (output += data));
  const ended = once(child, 'close');
  await Promise.race([once(child.stdout, 'data'), ended]);
  await sleep(milliseconds);
  child.kill('SIGKILL');
  const [, signal] = await ended;
  assert.equal(signal, 'SIGKILL', output);
  return output;
}

/** The offset in a file, which is absent or one valid line; -1 if absent. */
function stored(file) {
  if (!fs.existsSync(file)) {
    return -1;
  }
  const text = fs.readFileSync(file, 'latin1');
  assert.match(text, /^\d+\n$/);
  return Number(text);
}

test('killed in the middle of writing offsets, 100 times', async (t) => {
  const directory = folder(t);
  const text = `
    const { writeSync } = require('node:fs');
    const { OffsetDirectory } = require(${JSON.stringify(path.join(PACKAGE, 'lib/consumer'))});
    const [offset_directory, from] = process.argv.slice(1);
    const offsets = new OffsetDirectory({ offset_directory, topic: 't' });
    (async () => {
      for (let offset = Number(from); ; offset++) {
        await offsets.commit({ 0: offset, 1: offset, 2: offset });
        writeSync(1, offset + '\\n');
      }
    })();
  `;
  let next = 0;
  for (let round = 0; round < 100; round++) {
    const output = await killed(text, [directory, String(next)], round % 10);
    const done = Number(output.trim().split('\n').at(-1));
    const found = [0, 1, 2].map((id) => stored(path.join(directory, `t-${id}.offset`)));
    // Every pass that was told is there; the one after may have begun.
    for (const offset of found) {
      assert.ok(offset === done || offset === done + 1, `${found} after ${done}`);
    }
    next = done + 1;
  }
});

test('killed between receiving and completing, nothing is skipped', async (t) => {
  const topic = await newTopic(2);
  const count = 4000;
  const producer = new Producer({ broker, logger: quiet, queue_buffering_max_ms: 1 });
  const messages = Array.from({ length: count }, (_, i) => `${i}`);
  await Promise.all([0, 1].map((id) => producer.produce(topic, id, messages)));
  await producer.stop();
  const directory = folder(t);
  const text = `
    const { writeSync } = require('node:fs');
    const [broker, topic, offset_directory] = process.argv.slice(1);
    const quiet = { info() {}, warn() {}, error() {} };
    const tell = (word, messages) => {
      const places = messages.map(({ partition, offset }) => word + ' ' + partition + ' ' + offset + '\\n');
      writeSync(1, places.join(''));
    };
    new kafka.Consumer({
      broker, topic, offset_directory, logger: quiet, max_messages_per_callback: 40, receive_linger_ms: 0,
      max_callbacks_in_flight: 4,
      receive_callback: ({ messages }) => new Promise((resolve) => {
        tell('begin', messages);
        // Later ones may end before earlier ones.
        setTimeout(() => { tell('end', messages); resolve(); }, Math.random() * 10);
      }),
    }).start();
  `;
  const done = [new Set(), new Set()];
  const files = [0, 1].map((id) => path.join(directory, `${topic}-${id}.offset`));
  let rounds = 0;
  while (files.some((file) => stored(file) < count - 1)) {
    rounds += 1;
    assert.ok(rounds < 100, 'it gets on');
    const before = files.map(stored);
    const output = await killed(text, [broker, topic, directory], 20 + (rounds % 5) * 20);
    const lines = output.split('\n').slice(0, -1);
    for (const line of lines) {
      const [word, partition, offset] = line.split(' ');
      if (word === 'end') {
        done[partition].add(Number(offset));
      } else {
        assert.ok(Number(offset) > before[partition], 'what is stored does not come again');
      }
    }
    files.forEach((file, partition) => {
      for (let offset = before[partition] + 1; offset <= stored(file); offset++) {
        assert.ok(done[partition].has(offset), `${offset} was skipped`);
      }
      assert.ok(stored(file) >= before[partition]);
    });
  }
  assert.ok(rounds > 5, `${rounds} rounds`);
  assert.deepEqual(done.map(({ size }) => size), [count, count]);
});

test('a million messages go through a flat heap', async (t) => {
  const topic = await newTopic(4);
  const count = 1_000_000;
  const producer = new Producer({ broker, logger: quiet, queue_buffering_max_ms: 5 });
  const payload = 'x'.repeat(100);
  const batch = Array.from({ length: 10_000 }, () => payload);
  for (let sent = 0; sent < count; ) {
    const { enqueued } = producer.send(topic, (sent / batch.length) % 4, batch);
    sent += enqueued;
    assert.equal(enqueued, batch.length);
    await eventually('room', () => producer.handle.outq_length() < 200_000);
  }
  await producer.stop();
  const own = JSON.stringify({ topic, offset_directory: folder(t) });
  const { code, stdout, stderr } = await program(
    `
    let received = 0;
    let characters = 0;
    const heap = [];
    const consumer = new kafka.Consumer({
      ...${own}, broker, logger: quiet, max_messages_per_callback: 1000,
      receive_callback({ messages }) {
        const before = received;
        received += messages.length;
        for (const { payload } of messages) characters += payload.length;
        if (Math.floor(before / 100000) !== Math.floor(received / 100000)) {
          gc();
          heap.push(process.memoryUsage().heapUsed);
        }
        if (received === ${count}) {
          consumer.stop().then(() => console.log(JSON.stringify({ characters, heap })));
        }
      },
    });
    consumer.start();
  `,
    '--expose-gc',
  );
  assert.deepEqual([code, stderr], [0, '']);
  const { characters, heap } = JSON.parse(stdout);
  assert.equal(characters, count * payload.length);
  const growth = Math.max(...heap.slice(1)) - heap[0];
  assert.ok(heap.length === 10 && growth < 3e6, `${heap}`);
});
