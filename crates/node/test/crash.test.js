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

/** Starts a program; `closed` resolves to what it has written when it is killed. */
function begun(text, args) {
  const head = `const kafka = require(${JSON.stringify(PACKAGE)});`;
  const child = spawn(process.execPath, ['-e', head + text, '--', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (data) => (output += data));
  const closed = once(child, 'close').then(([, signal]) => {
    assert.equal(signal, 'SIGKILL', output);
    return output;
  });
  return { child, closed };
}

/** Runs a program that kills itself. */
function ended(text, args) {
  return begun(text, args).closed;
}

/** Runs a program until it is killed: when, some time after its first output, that is wanted. */
async function killed(text, args, isWanted) {
  const { child, closed } = begun(text, args);
  await Promise.race([once(child.stdout, 'data'), closed]);
  await eventually('the end', isWanted, 120_000);
  child.kill('SIGKILL');
  return closed;
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
    const output = await killed(text, [directory, String(next)], () => sleep(round % 10, true));
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
  // It kills itself when so many messages have ended: before it tells of the
  // next batch, between two steps of one, or while offsets are written.
  const text = `
    const { writeSync } = require('node:fs');
    const [broker, topic, offset_directory, limit, place] = process.argv.slice(1);
    const kill = (here) => {
      if (ended >= Number(limit) && place === here) process.kill(process.pid, 'SIGKILL');
    };
    let ended = 0;
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
        kill('begin');
        // Later ones may end before earlier ones.
        setTimeout(() => {
          tell('end', messages);
          ended += messages.length;
          kill('end');
          resolve();
          setImmediate(kill, 'commit');
        }, Math.random() * 10);
      }),
    }).start();
  `;
  const done = [new Set(), new Set()];
  const files = [0, 1].map((id) => path.join(directory, `${topic}-${id}.offset`));
  const isThrough = () => files.every((file) => stored(file) === count - 1);
  const places = ['begin', 'end', 'commit'];
  let rounds = 0;
  let open = 0;
  while (!isThrough()) {
    rounds += 1;
    const before = files.map(stored);
    const left = before.reduce((sum, offset) => sum + count - 1 - offset, 0);
    // More and more, so that it gets on however late offsets are written.
    const wanted = 200 * (1 + (rounds % 4)) + 10 * rounds;
    // The last one goes through, and is killed then: it would not begin another
    // batch behind those that are wanted.
    const isLast = wanted + 400 >= left;
    const limit = isLast ? Infinity : wanted;
    const args = [broker, topic, directory, limit, places[rounds % 3]].map(String);
    const output = isLast ? await killed(text, args, isThrough) : await ended(text, args);
    const began = output.match(/^begin/gm).length;
    open += began > output.match(/^end/gm)?.length ? 1 : 0;
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
  // Each was killed before it had 1,500, and a third of them in a batch.
  assert.ok(open >= 2, `${open} of ${rounds} rounds`);
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
  await producer.stop({ max_tries: -1 });
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
