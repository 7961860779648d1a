'use strict';

// The consumer on real Kafka (contract: sections 3, 5 to 9 and 11).

const assert = require('node:assert/strict');
const fs = require('node:fs/promises');
const os = require('node:os');
const path = require('node:path');
const test = require('node:test');
const { setTimeout: sleep } = require('node:timers/promises');
const Bluebird = require('bluebird');
const { Consumer, Producer } = require('..');
const { RawConsumer } = require('../lib/common');
const { broker, newTopic, startKafka, run } = require('./support/kafka');
const { eventually, quiet } = require('./support/eventually');
const { program } = require('./support/programs');

/** How the consumers of a test are stopped. */
const stops = new Map();

/** A folder for offsets, until the consumers of the test are stopped. */
async function folder(t) {
  const made = await fs.mkdtemp(path.join(os.tmpdir(), 'offsets-'));
  t.after(async () => {
    await Promise.all((stops.get(t.name) ?? []).map((stop) => stop()));
    await fs.rm(made, { recursive: true });
  });
  return made;
}

/** Puts messages into partitions: `fill(topic, 0, ['a', 'b'])`. */
async function fill(topic, partition, messages, at = broker) {
  const producer = new Producer({ broker: at, logger: quiet, queue_buffering_max_ms: 1 });
  await producer.produce(topic, partition, messages);
  await producer.stop();
}

/** A consumer that is stopped before its folder goes; `seen` has its infos. */
function consumerOf(t, options) {
  const seen = [];
  const consumer = new Consumer({
    broker,
    logger: quiet,
    receive_callback(info) {
      seen.push(info);
    },
    ...options,
  });
  const stop = () => consumer.stop().catch(() => {});
  stops.set(t.name, [...(stops.get(t.name) ?? []), stop]);
  const messages = () => seen.flatMap((info) => info.messages);
  return { consumer, seen, messages };
}

test('messages come as they were sent, and their offsets are kept', async (t) => {
  const topic = await newTopic(2);
  const directory = await folder(t);
  await fill(topic, 1, [
    'plain',
    'gr\u00fc\u00df dich \u{1f600}',
    '',
    null,
    { payload: 'with', key: 'key' },
    { payload: Buffer.from([0x61, 0xff]), key: '' },
  ]);
  const { consumer, messages } = consumerOf(t, { topic, offset_directory: directory });
  const starting = consumer.start();
  assert.ok(starting instanceof Bluebird);
  assert.deepEqual(await starting, ['0', '1']);
  await eventually('all messages', () => messages().length === 6);
  const at = (offset, more) => ({ topic, partition: 1, offset, ...more });
  assert.deepEqual(messages(), [
    at(0, { payload: 'plain' }),
    at(1, { payload: 'gr\u00fc\u00df dich \u{1f600}' }),
    at(2),
    at(3),
    at(4, { key: 'key', payload: 'with' }),
    at(5, { payload: 'a\ufffd' }),
  ]);
  const stopping = consumer.stop();
  assert.ok(stopping instanceof Bluebird);
  assert.equal(await stopping, undefined);
  assert.deepEqual(await fs.readdir(directory), [`${topic}-1.offset`]);
  assert.equal(await fs.readFile(path.join(directory, `${topic}-1.offset`), 'latin1'), '5\n');

  await fill(topic, 1, ['next']);
  const next = consumerOf(t, { topic, offset_directory: directory });
  await next.consumer.start();
  await eventually('the next one', () => next.messages().length === 1);
  assert.deepEqual(next.messages(), [at(6, { payload: 'next' })]);
  assert.deepEqual([next.seen[0].misses, next.seen[0].repeats], [0, 0]);
});

test('bytes, nulls, times and headers for those who ask', async (t) => {
  const topic = await newTopic(1);
  const timestamp = 1_700_000_000_123;
  const bytes = Buffer.from([0, 255, 1]);
  await fill(topic, 0, [
    { payload: bytes, key: bytes, headers: [['a', bytes], ['a', null], ['b', '']], timestamp },
    { payload: null, timestamp },
    { payload: '', key: '', timestamp },
  ]);
  const own = { topic, extended_messages: true, offset_directory: await folder(t) };
  const buffers = consumerOf(t, { ...own, payload_format: 'buffer' });
  const strings = consumerOf(t, own);
  for (const { consumer, messages } of [buffers, strings]) {
    await consumer.start();
    await eventually('all messages', () => messages().length === 3);
    await consumer.stop();
    await fs.rm(path.join(own.offset_directory, `${topic}-0.offset`));
  }
  const empty = Buffer.alloc(0);
  const more = { timestamp, timestamp_type: 'create', headers: [] };
  const at = (offset) => ({ topic, partition: 0, offset, ...more });
  const headers = [['a', bytes], ['a', null], ['b', empty]];
  assert.deepEqual(buffers.messages(), [
    { ...at(0), key: bytes, payload: bytes, headers },
    { ...at(1), key: null, payload: null },
    { ...at(2), key: empty, payload: empty },
  ]);
  assert.deepEqual(strings.messages(), [
    { ...at(0), key: '\0\ufffd\x01', payload: '\0\ufffd\x01', headers },
    { ...at(1), key: null, payload: null },
    { ...at(2), key: '', payload: '' },
  ]);
});

test('two and four workers share the partitions by slot', async (t) => {
  for (const num_workers of [2, 4]) {
    const topic = await newTopic(5);
    for (let partition = 0; partition < 5; partition++) {
      await fill(topic, partition, ['a', 'b', 'c']);
    }
    const offset_directory = await folder(t);
    const workers = Array.from({ length: num_workers }, (_, worker_slot) =>
      consumerOf(t, { topic, offset_directory, num_workers, worker_slot }),
    );
    const owned = await Promise.all(workers.map(({ consumer }) => consumer.start()));
    await eventually('all messages', () => workers.flatMap((each) => each.messages()).length === 15);
    workers.forEach(({ messages }, slot) => {
      const own = new Set(messages().map(({ partition }) => String(partition)));
      assert.deepEqual([...own].sort(), owned[slot]);
      assert.ok(owned[slot].every((id) => id % num_workers === slot));
    });
    await Promise.all(workers.map(({ consumer }) => consumer.stop()));
    assert.equal((await fs.readdir(offset_directory)).length, 5);
  }
});

test('25,000 messages come as 10000, 10000 and 5000', async (t) => {
  const topic = await newTopic(1);
  await fill(topic, 0, Array.from({ length: 25_000 }, (_, i) => `${i}`));
  const { consumer, seen } = consumerOf(t, {
    topic,
    offset_directory: await folder(t),
    receive_linger_ms: 500,
  });
  await consumer.start();
  await eventually('all messages', () => seen.length === 3);
  assert.deepEqual(seen.map(({ messages }) => messages.length), [10000, 10000, 5000]);
});

test('a paused consumer holds librdkafka back, and loses nothing', async (t) => {
  const topic = await newTopic(1);
  const count = 20_000;
  const payload = 'x'.repeat(1000);
  await fill(topic, 0, Array.from({ length: count }, () => payload));
  const stats = [];
  const { consumer, messages } = consumerOf(t, {
    topic,
    offset_directory: await folder(t),
    max_messages_per_callback: 500,
    queued_max_messages_kbytes: 2000,
    driver_options: { 'fetch.message.max.bytes': 100_000, 'statistics.interval.ms': 100 },
    stats_callback: (info) => stats.push(info),
  });
  await consumer.start();
  consumer.pause();
  const before = messages().length;
  // Two readings in a row are the same: it fetches no more.
  const settled = await eventually('fetching stops', () => {
    const [a, b] = stats.slice(-2).map((info) => info.waiting_local);
    return a > 0 && a === b ? a : undefined;
  });
  assert.ok(settled < 5000, `${settled} of ${count} are here`);
  const { waiting_kafka: waiting, kafka_log_size: size } = stats.at(-1);
  assert.equal(size, count);
  assert.ok(waiting > 10_000 && waiting < count, `${waiting}`);
  assert.equal(messages().length, before);
  consumer.resume();
  await eventually('all messages', () => messages().length === count);
  messages().forEach(({ offset }, index) => assert.equal(offset, index));
});

test('what was expired is told', async (t) => {
  const topic = await newTopic(1);
  await fill(topic, 0, ['a', 'b', 'c', 'd']);
  await run('trim', topic, 0, 3);
  const { consumer, seen } = consumerOf(t, {
    topic,
    offset_directory: await folder(t),
    extended_messages: true,
  });
  await consumer.start();
  await eventually('a message', () => seen.length === 1);
  const { misses, expired, repeats } = seen[0];
  assert.deepEqual({ misses, expired, repeats }, { misses: 3, expired: 3, repeats: 0 });
});

test('a topic that is shorter than the file is read from its start', async (t) => {
  const topic = await newTopic(1);
  await fill(topic, 0, ['a', 'b', 'c']);
  const offset_directory = await folder(t);
  const file = path.join(offset_directory, `${topic}-0.offset`);
  await fs.writeFile(file, '899\n');
  const warned = [];
  const logger = { ...quiet, warn: (...args) => warned.push(args) };
  const { consumer, seen } = consumerOf(t, { topic, offset_directory, logger });
  await consumer.start();
  await eventually('messages', () => seen.length === 1);
  assert.deepEqual([seen[0].misses, seen[0].repeats, warned.length], [0, 1, 1]);
  await consumer.stop();
  assert.equal(await fs.readFile(file, 'latin1'), '2\n');
});

test('a topic that is made again, and longer than the file, is gone on with', async (t) => {
  const topic = await newTopic(1);
  await fill(topic, 0, ['a', 'b', 'c']);
  const offset_directory = await folder(t);
  const first = consumerOf(t, { topic, offset_directory });
  await first.consumer.start();
  await eventually('messages', () => first.messages().length === 3);
  await first.consumer.stop();
  await run('delete', topic);
  await eventually('it is made again', () => run('topic', topic, 1).then(() => true, () => false));
  await fill(topic, 0, ['A', 'B', 'C', 'D', 'E']);
  const second = consumerOf(t, { topic, offset_directory });
  await second.consumer.start();
  await eventually('the rest', () => second.messages().length === 2);
  assert.deepEqual(second.messages().map(({ offset, payload }) => [offset, payload]), [
    [3, 'D'],
    [4, 'E'],
  ]);
  assert.ok(second.seen.every(({ misses, repeats }) => misses === 0 && repeats === 0));
});

test('at the end of the log it waits, and resets nothing', async (t) => {
  const topic = await newTopic(1);
  await fill(topic, 0, ['a', 'b', 'c']);
  const offset_directory = path.join(await folder(t), 'new');
  await fs.mkdir(offset_directory);
  await fs.writeFile(path.join(offset_directory, `${topic}-0.offset`), '2\n');
  const told = [];
  const { consumer, seen, messages } = consumerOf(t, {
    topic,
    offset_directory,
    topic_options: { 'auto.offset.reset': 'error' },
    error_callback: (problem) => told.push(problem),
  });
  await consumer.start();
  await fill(topic, 0, ['d']);
  await eventually('a message', () => seen.length === 1);
  assert.deepEqual([messages()[0].offset, seen[0].misses, seen[0].repeats], [3, 0, 0]);
  assert.deepEqual(told, []);
});

test('start makes no directory, the first commit does', async (t) => {
  const topic = await newTopic(1);
  const offset_directory = path.join(await folder(t), 'a', 'b');
  const { consumer, messages } = consumerOf(t, { topic, offset_directory });
  await consumer.start();
  await assert.rejects(fs.access(offset_directory), { code: 'ENOENT' });
  await fill(topic, 0, ['a']);
  await eventually('a message', () => messages().length === 1);
  await consumer.stop();
  assert.deepEqual(await fs.readdir(offset_directory), [`${topic}-0.offset`]);
});

for (const [what, prepare, expected] of [
  // The log has lost what the file asks for: 0, 1 and 2.
  ['below the log', (topic) => run('trim', topic, 0, 3), (offset) => [offset, 0]],
  // The file is from a topic that was longer.
  ['behind the log', (topic, file) => fs.writeFile(file, '899\n'), () => [0, 1]],
]) {
  test(`reset largest: an offset ${what} goes to its end`, async (t) => {
    const topic = await newTopic(1);
    await fill(topic, 0, ['a', 'b', 'c', 'd']);
    const offset_directory = await folder(t);
    await prepare(topic, path.join(offset_directory, `${topic}-0.offset`));
    const { consumer, seen, messages } = consumerOf(t, {
      topic,
      offset_directory,
      topic_options: { 'auto.offset.reset': 'largest' },
    });
    await consumer.start();
    // What comes before it has found the end is skipped, too.
    await eventually('a message', async () => {
      await fill(topic, 0, ['later']);
      return seen.length > 0;
    });
    const [{ offset, payload }] = messages();
    assert.ok(offset >= 4 && payload === 'later', `${offset}`);
    const [{ misses, repeats }] = seen;
    assert.deepEqual([misses, repeats], expected(offset));
  });
}

test('a reset that is an error is told', async (t) => {
  const topic = await newTopic(1);
  const offset_directory = await folder(t);
  await fs.writeFile(path.join(offset_directory, `${topic}-0.offset`), '899\n');
  const told = [];
  const { consumer } = consumerOf(t, {
    topic,
    offset_directory,
    topic_options: { 'auto.offset.reset': 'error' },
    error_callback: (problem) => told.push(problem),
  });
  await consumer.start();
  await eventually('it is told', () => told.length === 1);
  assert.deepEqual({ ...told[0], message: '' }, { code: -140, message: '', partition: 0, fatal: false });
});

test('a slot has one owner if it is locked', async (t) => {
  const topic = await newTopic(2);
  const own = { topic, offset_directory: path.join(await folder(t), 'new'), offset_lock: true };
  const first = consumerOf(t, own);
  await first.consumer.start();
  const second = consumerOf(t, { ...own, num_workers: 2, worker_slot: 1 });
  await assert.rejects(second.consumer.start(), {
    message: `partition 1 of topic ${topic} is in use by pid ${process.pid}`,
  });
  await first.consumer.stop();
  assert.deepEqual(await second.consumer.start(), ['1']);
});

test('new partitions are found while running', async (t) => {
  const topic = await newTopic(1);
  const lists = [];
  const { consumer, messages } = consumerOf(t, {
    topic,
    offset_directory: await folder(t),
    partition_refresh_ms: 20,
    partitions_callback: (list) => lists.push(list),
  });
  assert.deepEqual(await consumer.start(), ['0']);
  await run('grow', topic, 3);
  await eventually('all are known', () => lists.at(-1)?.length === 3);
  await fill(topic, 2, ['late']);
  await eventually('its message', () => messages().length === 1);
  assert.equal(messages()[0].partition, 2);
});

test('a broker may come back', async (t) => {
  const kafka = await startKafka('--auto-create');
  t.after(() => kafka.end());
  await kafka.run('topic', 'again', 1);
  await fill('again', 0, ['before'], kafka.broker);
  const errors = [];
  const { consumer, messages } = consumerOf(t, {
    broker: kafka.broker,
    topic: 'again',
    offset_directory: await folder(t),
    driver_options: { 'reconnect.backoff.max.ms': 200 },
    error_callback: (problem) => errors.push(problem),
  });
  await consumer.start();
  await eventually('the first', () => messages().length === 1);
  await kafka.run('stop');
  await eventually('it is told', () => errors.length > 0);
  await kafka.run('start');
  await fill('again', 0, ['after'], kafka.broker);
  await eventually('the second', () => messages().length === 2);
  assert.deepEqual(messages().map(({ payload }) => payload), ['before', 'after']);
  await consumer.stop();
});

test('the raw handle starts where it is told, and tells of ends', async () => {
  const topic = await newTopic(2);
  await fill(topic, 0, ['a', 'b', 'c']);
  const messages = [];
  const ends = [];
  const raw = RawConsumer({
    topic,
    driver_options: { 'metadata.broker.list': broker },
    stat_cb: null,
    recv_cb(received, errors) {
      messages.push(...received);
      ends.push(...errors);
    },
  });
  assert.throws(() => raw.pause(), { message: 'consumer not started' });
  assert.throws(() => raw.start(), { message: 'you must specify partition/offsets' });
  raw.start({ 0: 1, 1: -2 });
  assert.throws(() => raw.start({ 0: 1 }), { message: 'consumer already started' });
  await eventually('all have come', () => messages.length === 2 && ends.length === 2);
  assert.deepEqual(messages.map(({ offset }) => offset), [1, 2]);
  const marks = ends.map(({ partition, offset, errcode }) => [partition, offset, errcode]).sort();
  assert.deepEqual(marks, [
    [0, 3, -191],
    [1, 0, -191],
  ]);
  raw.stop();
  assert.throws(() => raw.stop(), { message: 'already shutdown' });
  // Also when it is stopped. A question may take a second at most.
  const ask = () => Bluebird.fromCallback((done) => raw.get_metadata(topic, done));
  const metadata = await eventually('metadata', () => ask().catch(() => undefined));
  assert.equal(metadata.topics[0].partitions.length, 2);
  assert.throws(() => new RawConsumer({}), { message: 'options must contain a topic' });
  assert.throws(() => new RawConsumer({ topic }), {
    message: 'options must contain a recv_cb function',
  });
});

test('a process ends once its consumer is stopped', async (t) => {
  const own = JSON.stringify({ topic: await newTopic(1), offset_directory: await folder(t) });
  const { code, stdout, stderr } = await program(`
    const consumer = new kafka.Consumer({
      ...${own}, broker, logger: quiet, receive_callback() {},
    });
    consumer.start().then(() => consumer.stop()).then(() => console.log('stopped'));
    process.on('exit', () => console.log('ends'));
  `);
  assert.deepEqual([code, stdout, stderr], [0, 'stopped\nends\n', '']);
});

test('stop takes no longer than a second, whatever the broker does', async (t) => {
  const offset_directory = await folder(t);
  const { consumer } = consumerOf(t, { broker: '127.0.0.1:1', topic: 'any', offset_directory });
  const refused = assert.rejects(consumer.start(), { message: 'already shutdown' });
  await sleep(50);
  const began = Date.now();
  await consumer.stop();
  // Less than any question to a broker would take, on a machine that stands still, too.
  assert.ok(Date.now() - began < 10_000, `${Date.now() - began} ms`);
  await refused;
});

test('what a callback throws is an uncaughtException, and nothing more', async (t) => {
  const own = JSON.stringify({ topic: await newTopic(1), offset_directory: await folder(t) });
  const { code, stdout } = await program(`
    process.on('uncaughtException', (error) => {
      console.log(error.message);
      consumer.stop().catch(() => {});
    });
    const consumer = new kafka.Consumer({
      ...${own}, broker, logger: quiet, receive_callback() {},
      driver_options: { 'statistics.interval.ms': 20 },
      stats_callback() { throw new Error('from statistics'); },
    });
    consumer.start();
  `);
  assert.equal(code, 0);
  assert.match(stdout, /^from statistics\n/);
});
