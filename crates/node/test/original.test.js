'use strict';

// kafka-native 1.0.0 as npm has it (contract: Acceptance 1 and 4): its own
// checks are run against this package, and its files are read and written.
// It is fetched for the tests only; its native part is never built.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const test = require('node:test');
const { Consumer, Producer } = require('..');
const OffsetDirectory = require('../lib/offsetdirectory');
const { broker, newTopic } = require('./support/kafka');
const { eventually, quiet } = require('./support/eventually');
const { PACKAGE, run } = require('./support/programs');

const FETCHED = path.join(__dirname, 'fetched', 'node_modules');
const ORIGINAL = path.join(FETCHED, 'kafka-native');
const OriginalDirectory = require(path.join(ORIGINAL, 'lib', 'offsetdirectory.js'));

function folder(t) {
  const made = fs.mkdtempSync(path.join(os.tmpdir(), 'barnabas-original-'));
  t.after(() => fs.rmSync(made, { recursive: true }));
  return made;
}

test('its own checks pass', async (t) => {
  // They ask for what lies beside their folder; here that is this package.
  const own = folder(t);
  fs.cpSync(path.join(ORIGINAL, 'specs'), path.join(own, 'specs'), { recursive: true });
  fs.mkdirSync(path.join(own, 'lib'));
  for (const name of ['index', 'lib/common', 'lib/consumer', 'lib/offsetdirectory', 'lib/producer']) {
    const text = `module.exports = require(${JSON.stringify(path.join(PACKAGE, name))});\n`;
    fs.writeFileSync(path.join(own, `${name}.js`), text);
  }
  const specs = fs
    .readdirSync(path.join(own, 'specs'))
    .filter((file) => file !== 'testdata.js')
    .map((file) => path.join(own, 'specs', file));
  assert.equal(specs.length, 5);
  await Promise.all(specs.map((spec) => passes(t, own, spec)));
});

/** Whether all checks of a file pass, at once. */
async function passes(t, own, spec) {
  const text = fs.readFileSync(spec, 'utf8');
  // Those that use Kafka give it some seconds, which a busy machine does not
  // always keep; the others wait for nothing.
  let tries = text.includes('NODE_KAFKA_NATIVE_BROKER') ? 3 : 1;
  let ended = await checked(own, spec);
  while (!ended.isPassed && --tries > 0) {
    t.diagnostic(`failed, tried again: ${ended.stdout}${ended.stderr}`);
    ended = await checked(own, spec);
  }
  assert.ok(ended.isPassed, ended.stdout + ended.stderr);
  assert.equal(ended.count, text.match(/^ *it\(/gm).length, ended.stdout);
}

/** Runs the checks of a file. */
async function checked(cwd, spec) {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const ended = await run(
    process.execPath,
    [
      '--test',
      // As mocha does: some leave their clients open.
      '--test-force-exit',
      '--test-reporter=tap',
      '--no-deprecation',
      '--require',
      path.join(__dirname, 'support', 'mocha.js'),
      spec,
    ],
    { cwd, env: { ...env, NODE_PATH: FETCHED } },
  );
  const count = Number(ended.stdout.match(/^# pass (\d+)$/m)?.[1]);
  return { ...ended, count, isPassed: ended.code === 0 };
}

test('what it has written is read, and the reverse', async (t) => {
  const offset_directory = folder(t);
  const options = { topic: 'orders', offset_directory };
  const [theirs, ours] = [new OriginalDirectory(options), new OffsetDirectory(options)];
  const ids = [0, 1, 2, 3, 10];
  // With the largest that a number of JavaScript counts by one.
  await theirs.commit({ 0: 0, 1: 1234, 2: Number.MAX_SAFE_INTEGER, 10: -1 });
  const bytes = () => ids.map((id) => {
    const file = path.join(offset_directory, `orders-${id}.offset`);
    return fs.existsSync(file) ? fs.readFileSync(file, 'latin1') : undefined;
  });
  const written = bytes();
  const expected = [0, 1234, Number.MAX_SAFE_INTEGER, -1, -1];
  assert.deepEqual(await theirs.read(ids), expected);
  assert.deepEqual(await ours.read(ids), expected);
  await ours.commit({ 0: 0, 1: 1234, 2: Number.MAX_SAFE_INTEGER, 10: -1 });
  assert.deepEqual(bytes(), written, 'byte for byte');
  await ours.commit({ 1: 1235, 3: 7 });
  assert.deepEqual(await theirs.read(ids), [0, 1235, Number.MAX_SAFE_INTEGER, 7, -1]);
  // What it leaves when it is killed is no offset for us.
  fs.writeFileSync(path.join(offset_directory, '.working-orders-1.offset'), '99');
  assert.deepEqual(await ours.read([1]), [1235]);
});

test('a consumer goes on where the original stopped, and it where ours does', async (t) => {
  const topic = await newTopic(2);
  const offset_directory = folder(t);
  const producer = new Producer({ broker, logger: quiet, queue_buffering_max_ms: 1 });
  const payloads = Array.from({ length: 20 }, (_, i) => `${i}`);
  await Promise.all([0, 1].map((id) => producer.produce(topic, id, payloads)));
  await producer.stop();
  const theirs = new OriginalDirectory({ topic, offset_directory });
  await theirs.commit({ 0: 11, 1: 18 });
  const seen = [];
  let unexpected = 0;
  const consumer = new Consumer({
    broker,
    topic,
    offset_directory,
    logger: quiet,
    receive_callback({ messages, misses, repeats }) {
      unexpected += misses + repeats;
      seen.push(...messages.map(({ partition, offset }) => `${partition}@${offset}`));
    },
  });
  await consumer.start();
  await eventually('the rest has come', () => seen.length >= 9);
  await consumer.stop();
  assert.equal(unexpected, 0);
  const rest = [12, 13, 14, 15, 16, 17, 18, 19].map((offset) => `0@${offset}`);
  assert.deepEqual(seen.sort(), [...rest, '1@19']);
  assert.deepEqual(await theirs.read([0, 1]), [19, 19]);
});
