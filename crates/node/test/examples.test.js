'use strict';

// Every example runs.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const test = require('node:test');
const { PACKAGE } = require('./support/programs');
const { started } = require('./support/started');
const { newTopic, read } = require('./support/kafka');

/** An example in a folder of its own, where the package is installed. */
function example(name, ...args) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'barnabas-example-'));
  fs.mkdirSync(path.join(folder, 'node_modules'));
  fs.symlinkSync(PACKAGE, path.join(folder, 'node_modules', 'barnabas-kafka'));
  fs.copyFileSync(path.join(PACKAGE, 'example', name), path.join(folder, name));
  return { folder, ...started([path.join(folder, name), ...args], { cwd: folder }) };
}

function isClean({ code, signal, stdout, stderr }) {
  assert.deepEqual([code, signal, stderr], [0, null, ''], stdout);
}

test('simple.js prints what it sends', async () => {
  const { says, interrupt, folder } = example('simple.js');
  await says(/consuming partitions 0, 1/);
  await says(/message: example [01] \d+ hello/);
  isClean(await interrupt());
  assert.ok(fs.readdirSync(path.join(folder, 'kafka-offsets')).some((file) => /^example-\d\.offset$/.test(file)));
});

test('node-cluster.js replaces a worker that is killed', async () => {
  const { says, interrupt } = example('node-cluster.js');
  const [, pid] = await says(/worker 0 pid (\d+) message: 0 \d+ hello/);
  await says(/worker 1 pid (\d+) message: 1 \d+ hello/);
  process.kill(Number(pid), 'SIGKILL');
  await says(/worker 0 has died/);
  await says(new RegExp(`worker 0 pid (?!${pid} )\\d+ message: 0`));
  isClean(await interrupt());
});

test('producer.js tells where its lines are', async () => {
  const topic = await newTopic(1);
  const { child, ended } = example('producer.js', topic);
  child.stdin.end('one\ntwo\nthree\n');
  const all = await ended;
  isClean(all);
  assert.equal(all.stdout, `${topic}/0@0\n${topic}/0@1\n${topic}/0@2\n3 messages are in Kafka\n`);
  assert.deepEqual((await read(topic)).map(({ value }) => value), ['one', 'two', 'three']);
});

test('consumer.mjs prints what comes', async () => {
  const topic = await newTopic(1);
  const producer = example('producer.js', topic);
  producer.child.stdin.end('one\ntwo\n');
  await producer.ended;
  const first = example('consumer.mjs', topic);
  await first.says(new RegExp(`${topic}/0@1: two`));
  isClean(await first.interrupt());
});

test('group.mjs shares a topic, and commits what it has printed', async () => {
  const topic = await newTopic(1);
  const fill = async (lines) => {
    const producer = example('producer.js', topic);
    producer.child.stdin.end(lines);
    await producer.ended;
  };
  await fill('one\ntwo\n');
  const first = example('group.mjs', topic, `${topic}-group`);
  await first.says(/partitions: 0\n/);
  await first.says(new RegExp(`${topic}/0@1: two`));
  // Two batches: the first is done when the second is asked for.
  await fill('three\n');
  await first.says(new RegExp(`${topic}/0@2: three`));
  isClean(await first.interrupt());
  const second = example('group.mjs', topic, `${topic}-group`);
  await fill('four\n');
  await second.says(new RegExp(`${topic}/0@3: four`));
  assert.doesNotMatch(second.output.stdout, /: (one|two)/);
  isClean(await second.interrupt());
});

test('stats.js prints both sides', async () => {
  const topic = await newTopic(1);
  const { says, interrupt } = example('stats.js', topic);
  await says(/producer: \d+ wait; [1-9]\d* sent/);
  await says(/consumer: \d+ here, \d+ in Kafka of [1-9]\d*/);
  isClean(await interrupt());
});
