'use strict';

// The producer that kafka-native had (contract: sections 10, 12 and 13).

const assert = require('node:assert/strict');
const test = require('node:test');
const { Producer } = require('..');
const { RawProducer } = require('../lib/common');
const { broker, newTopic, read, run, startKafka } = require('./support/kafka');
const { program } = require('./support/programs');
const { eventually, quiet } = require('./support/eventually');

/** Nobody listens there. */
const NOBODY = '127.0.0.1:1';

function producerOf(options) {
  return new Producer({ broker, logger: quiet, ...options });
}

async function values(topic) {
  return (await read(topic)).map((record) => record.value);
}

test('options are judged in the constructor', () => {
  assert.throws(() => new Producer(), TypeError);
  for (const missing of [undefined, null, '', NaN]) {
    assert.throws(() => new Producer({ broker: missing }), {
      name: 'Error',
      message: 'Missing required option: broker',
    });
  }
  assert.throws(() => producerOf({ driver_options: { x: 1 } }), {
    name: 'Error',
    message: 'No such configuration property: "x"',
  });
  assert.throws(
    () => producerOf({ driver_options: { 'metadata.request.timeout.ms': 0 } }),
    /^Error: Configuration property "metadata.request.timeout.ms" value 0 is outside allowed range/,
  );
});

test('properties of topics are judged when a topic is used', async () => {
  const producer = producerOf({ broker: NOBODY, topic_options: { nonsense: 1 } });
  assert.throws(() => producer.send('t', 0, ['x']), {
    message: 'No such configuration property: "nonsense"',
  });
  await producer.stop();
});

test('defaults reach librdkafka, and a user property wins over them', async () => {
  const seen = [];
  class Spy {
    constructor(options) {
      seen.push(options);
    }
    outq_length() {
      return 0;
    }
    stop() {}
  }
  const driver_options = { 'queue.buffering.max.ms': 7, 'statistics.interval.ms': undefined };
  const producer = new Producer({ broker: 'b:1', raw_producer: Spy, driver_options });
  assert.deepEqual(seen[0].driver_options, {
    'metadata.broker.list': 'b:1',
    'statistics.interval.ms': 5000,
    'queue.buffering.max.messages': 500000,
    'queue.buffering.max.ms': 7,
    'delivery.report.only.error': 1,
  });
  assert.equal(seen[0].stat_cb, undefined);
  assert.equal(producer.logger, console);
  await producer.stop();
});

test('what is sent is in Kafka, in order', async () => {
  const topic = await newTopic(2);
  // All of it is still queued when that is asked.
  const producer = producerOf({ queue_buffering_max_ms: 60_000 });
  assert.deepEqual(producer.send(topic, 1, ['a', '', 'grün', '😀', '\ud83d', '\ude00']), {
    enqueued: 6,
    send_queue_length: 6,
  });
  assert.deepEqual(producer.send(topic, 0, []), { enqueued: 0, send_queue_length: 6 });
  assert.equal(producer.send(topic, 0, ['only']).send_queue_length, 7);
  await producer.stop();
  const records = await read(topic);
  const of = (partition) =>
    records.filter((record) => record.partition === partition).map((record) => record.value);
  assert.deepEqual(of(0), ['only']);
  // Halves of a pair stay apart.
  assert.deepEqual(of(1), ['a', '', 'grün', '😀', '\ufffd', '\ufffd']);
  assert.ok(records.every((record) => record.key === null));
});

test('partition -1 is the partitioner’s choice', async () => {
  const topic = await newTopic(2);
  const producer = producerOf({ driver_options: { 'sticky.partitioning.linger.ms': 0 } });
  producer.send(topic, -1, Array(200).fill('x'));
  await producer.stop();
  const records = await read(topic);
  assert.equal(records.length, 200);
  assert.deepEqual([...new Set(records.map((record) => record.partition))].sort(), [0, 1]);
});

test('wrong arguments are refused', async () => {
  const producer = producerOf({ broker: NOBODY });
  for (const args of [[1, 0, []], ['t', '0', []], ['t', 0, 'x'], ['t', NaN, []], ['t'], []]) {
    assert.throws(() => producer.send(...args), {
      message: 'you must supply a topic name, partition, and array of strings',
    });
  }
  for (const payload of [1, undefined, {}, [], { payload: 1 }, { payload: 'x', key: 1 }]) {
    assert.throws(() => producer.send('t', 0, ['good', payload]), TypeError, String(payload));
  }
  for (const more of [{ timestamp: -1 }, { timestamp: 1.5 }, { headers: 'h' }, { headers: [['h']] }]) {
    assert.throws(() => producer.send('t', 0, ['good', { payload: '', ...more }]), TypeError);
  }
  // Nothing of those calls was queued.
  assert.equal(producer.handle.outq_length(), 0);
  await producer.stop();
  assert.throws(() => producer.send('t', 0, ['x']), { message: 'already shutdown' });
});

test('buffers, tombstones, keys, headers and timestamps', async () => {
  const topic = await newTopic(1);
  const producer = producerOf();
  assert.equal(producer.send(topic, 0, [Buffer.from('bytes'), null, 'text', new Uint8Array(0)]).enqueued, 4);
  const headers = [
    ['h', 'one'],
    ['h', Buffer.from('two')],
    ['none', null],
  ];
  const whole = { payload: 'p', key: Buffer.from('k'), headers, timestamp: 1234567890123 };
  const sent = producer.send(topic, 0, ['before', whole, { payload: null, key: 'k2' }, 'behind']);
  assert.equal(sent.enqueued, 4);
  producer.send(topic, 0, [{ payload: 'o', headers: { a: '1' }, timestamp: new Date(5) }]);
  await producer.stop();
  const records = await read(topic);
  assert.deepEqual(
    records.map(({ key, value }) => [key, value]),
    [
      [null, 'bytes'],
      [null, null],
      [null, 'text'],
      [null, ''],
      [null, 'before'],
      ['k', 'p'],
      ['k2', null],
      [null, 'behind'],
      [null, 'o'],
    ],
  );
  assert.deepEqual(records[5].headers, [['h', 'one'], ['h', 'two'], ['none', null]]);
  assert.equal(records[5].timestamp, 1234567890123);
  assert.deepEqual([records[8].headers, records[8].timestamp], [[['a', '1']], 5]);
});

test('a full queue drops the end of the call and nothing else', async () => {
  const topic = await newTopic(1);
  const producer = producerOf({ queue_buffering_max_messages: 10, queue_buffering_max_ms: 60_000 });
  const numbers = Array.from({ length: 25 }, (_, i) => String(i));
  assert.deepEqual(producer.send(topic, 0, numbers), { enqueued: 10, send_queue_length: 10 });
  assert.deepEqual(producer.send(topic, 0, ['more']), { enqueued: 0, send_queue_length: 10 });
  const tried = producer.try_send(topic, 0, ['x', { payload: 'y', key: 'k' }]);
  assert.deepEqual(tried, {
    enqueued: 0,
    send_queue_length: 10,
    errors: [0, 1].map((index) => ({ index, errcode: -184, errstr: 'Local: Queue full' })),
  });
  await producer.stop();
  assert.deepEqual(await values(topic), numbers.slice(0, 10));
});

test('a message that is too long is skipped alone', async () => {
  const topic = await newTopic(1);
  const producer = producerOf();
  const long = 'x'.repeat(5_000_000);
  assert.equal(producer.send(topic, 0, ['a', long, 'b']).enqueued, 2);
  const { enqueued, errors } = producer.try_send(topic, 0, [long, 'c']);
  assert.equal(enqueued, 1);
  assert.deepEqual(errors, [{ index: 0, errcode: 10, errstr: 'Broker: Message size too large' }]);
  await producer.stop();
  assert.deepEqual(await values(topic), ['a', 'b', 'c']);
});

test('a call beyond what crosses at once is cut, and stays in order', async () => {
  const topic = await newTopic(1, 'max.message.bytes=10000000');
  const producer = producerOf({ compression: 'zstd' });
  const payloads = Array.from({ length: 8 }, (_, i) => String(i).repeat(2_500_000));
  assert.equal(producer.send(topic, 0, payloads).enqueued, 8);
  const delivered = await producer.produce(topic, 0, payloads);
  assert.deepEqual(
    delivered.map(({ offset }) => offset),
    payloads.map((_, i) => 8 + i),
  );
  await producer.stop();
  assert.deepEqual(await run('ends', topic), { 0: 16 });
});

test('an unknown partition is not counted as taken', async () => {
  const topic = await newTopic(2);
  const producer = producerOf();
  await producer.produce(topic, 0, ['now it is known']);
  assert.equal(producer.send(topic, 2, ['x', 'y']).enqueued, 0);
  assert.deepEqual(producer.try_send(topic, 7, ['x']).errors, [
    { index: 0, errcode: -190, errstr: 'Local: Unknown partition' },
  ]);
  // What was delivered ceases to count a moment after it was told.
  await eventually('none of them counts', () => producer.handle.outq_length() === 0);
  await producer.stop();
});

test('what waits for an unknown partition fails by a delivery report', async () => {
  const topic = await newTopic(1);
  const reports = [];
  const producer = producerOf({ delivery_report_callback: (info) => reports.push(info) });
  assert.equal(producer.send(topic, 5, ['x', 'y', 'z']).enqueued, 3);
  await producer.stop();
  await eventually('the report', () => reports.length > 0);
  assert.deepEqual(reports, [
    {
      errors: 3,
      rdkafka_errinfo: [{ errcode: -190, count: 3, errstr: 'Local: Unknown partition' }],
    },
  ]);
});

test('delivery reports are added up by code', async () => {
  let total = 0;
  const options = {
    broker: NOBODY,
    queue_buffering_max_ms: 1,
    topic_options: { 'message.timeout.ms': 50 },
    delivery_report_callback(info) {
      assert.equal(this, options);
      assert.deepEqual(Object.keys(info), ['errors', 'rdkafka_errinfo']);
      assert.equal(info.rdkafka_errinfo.length, 1);
      const [{ errcode, count, errstr }] = info.rdkafka_errinfo;
      assert.deepEqual([errcode, errstr], [-192, 'Local: Message timed out']);
      assert.equal(count, info.errors);
      total += count;
    },
  };
  const producer = new Producer({ ...options, logger: quiet });
  options.logger = producer.logger;
  producer.options = options;
  producer.send('t', 0, ['a', 'b', 'c']);
  await eventually('three failures', () => total === 3);
  await producer.stop();
});

test('successes are reported if they are asked for', async () => {
  const topic = await newTopic(1);
  const reports = [];
  const producer = producerOf({
    driver_options: { 'delivery.report.only.error': 0 },
    delivery_report_callback: (info) => reports.push(info),
  });
  producer.send(topic, 0, ['a', 'b']);
  await producer.stop();
  await eventually('two successes', () => reports.reduce((sum, { errors }) => sum + errors, 0) === 2);
  assert.deepEqual(
    reports.flatMap(({ rdkafka_errinfo }) => rdkafka_errinfo).map(({ errcode, errstr }) => [errcode, errstr])[0],
    [0, 'Success'],
  );
});

test('statistics have the length of the queue by topic', async () => {
  const stats = [];
  const producer = producerOf({
    broker: NOBODY,
    statistics_interval_ms: 100,
    stats_callback: (info) => stats.push(info),
  });
  producer.send('t', 0, ['a', 'b']);
  producer.send('t', 1, ['c']);
  // Nobody knows the partitions yet: they are in the one called -1.
  const info = await eventually('three in the queue', () =>
    stats.find(({ send_queue_length }) => send_queue_length.t === 3),
  );
  assert.deepEqual(Object.keys(info), ['send_queue_length', 'rdkafka_stats']);
  assert.equal(info.rdkafka_stats.type, 'producer');
  producer._rdkafka_stats_callback('{"topics":{"t":{},"u":{"partitions":{"-1":{"msgq_cnt":4},"0":{}}}}}');
  assert.deepEqual(stats.at(-1).send_queue_length, { t: 0, u: 4 });
  // They can go nowhere.
  producer.handle.stop();
});

test('stopping sends at once, and may be repeated', async () => {
  const topic = await newTopic(1);
  const producer = producerOf({ queue_buffering_max_ms: 100_000 });
  await producer.partition_count(topic);
  producer.send(topic, 0, ['a', 'b']);
  const began = Date.now();
  const stopping = producer.stop({ max_tries: 3, interval: 100_000 });
  assert.equal(producer.send(topic, 0, ['while draining']).enqueued, 1);
  assert.equal(await stopping, undefined);
  // Far below the linger, and below the second try.
  assert.ok(Date.now() - began < 50_000, `${Date.now() - began} ms`);
  assert.equal(await producer.stop(), undefined);
  assert.deepEqual(await values(topic), ['a', 'b', 'while draining']);
});

test('what is sent when the queue has just become empty is sent at once, too', async () => {
  const topic = await newTopic(1);
  const producer = producerOf({ queue_buffering_max_ms: 100_000 });
  const { handle } = producer;
  const { drain } = handle;
  let sent = 0;
  handle.drain = (callback) =>
    drain.call(handle, () => {
      if (sent < 3) {
        sent += producer.send(topic, 0, [`${sent}`]).enqueued;
      }
      callback();
    });
  producer.send(topic, 0, ['first']);
  // There is no second try before that time.
  await producer.stop({ max_tries: 2, interval: 100_000 });
  assert.deepEqual(await values(topic), ['first', '0', '1', '2']);
});

test('what is sent behind a stop of an empty queue is delivered, too', async () => {
  class Mine {
    left = 0;

    outq_length() {
      return this.left;
    }
    send(topic, partition, payloads) {
      this.left += payloads.length;
      setTimeout(() => (this.left = 0), 20);
      return { queued: payloads.length, queue_length: this.left };
    }
    stop() {
      this.lost = this.left;
    }
  }
  const fake = producerOf({ raw_producer: Mine });
  const closing = fake.stop({ max_tries: 1000, interval: 5 });
  assert.equal(fake.send('t', 0, ['x']).enqueued, 1);
  await closing;
  assert.equal(fake.handle.lost, 0);

  const topic = await newTopic(1);
  const producer = producerOf();
  const stopping = producer.stop();
  assert.equal(producer.send(topic, 0, ['x']).enqueued, 1);
  await stopping;
  assert.deepEqual(await values(topic), ['x']);
});

test('a producer that cannot be emptied stays usable', async () => {
  const kafka = await startKafka();
  await kafka.run('topic', 't', 1);
  const producer = producerOf({ broker: kafka.broker });
  await producer.produce('t', 0, ['before']);
  await kafka.run('stop');
  producer.send('t', 0, ['a']);
  await assert.rejects(producer.stop({ max_tries: 3, interval: 20 }), {
    code: 'ETIMEDOUT',
    message: /3 tries failure: Producer: stop still waiting for empty outq$/,
  });
  assert.deepEqual(producer.send('t', 0, ['b']), { enqueued: 1, send_queue_length: 2 });
  await kafka.run('start');
  await producer.stop({ max_tries: -1 });
  const records = await read('t', kafka.run);
  assert.deepEqual(records.map(({ value }) => value), ['before', 'a', 'b']);
  await kafka.end();
});

test('a raw producer of one’s own is asked until it is empty', async () => {
  let left = 3;
  class Mine {
    outq_length() {
      return --left;
    }
    stop() {
      this.stopped = true;
    }
    send(topic, partition, payloads) {
      return { queued: payloads.length, queue_length: 9, more: true };
    }
    get_metadata(topic, callback) {
      callback(null, { topics: [{ topic, error: 0, partitions: [{ id: 0, error: 0 }] }] });
    }
  }
  const producer = producerOf({ raw_producer: Mine });
  assert.deepEqual(producer.send('t', 0, ['x']), { enqueued: 1, send_queue_length: 9 });
  assert.equal(await producer.partition_count('t'), 1);
  await producer.stop({ max_tries: 5, interval: 1 });
  assert.equal(producer.handle.stopped, true);
  const other = producerOf({ fetch_partition_count: (handle, topic) => Promise.resolve(`${topic}!`) });
  assert.equal(await other.partition_count('t').tap(() => {}), 't!');
  await other.stop();
});

test('the client’s log and errors go to the logger', async () => {
  const said = { info: [], error: [] };
  const logger = {
    info: (...args) => said.info.push(args),
    error: (...args) => said.error.push(args),
    warn() {},
  };
  const producer = new Producer({ broker: NOBODY, logger, topic_options: { 'enforce.isr.cnt': 0 } });
  const [line] = await eventually('a log line', () => said.info.filter(([, , kind]) => kind === 'FAIL')[0] && said.info.filter(([, , kind]) => kind === 'FAIL'));
  assert.equal(line[0], 'rdkafka:');
  assert.equal(typeof line[1], 'number');
  assert.match(line[3], /Connection refused/);
  const error = await eventually('an error', () => said.error.find(([, { error }]) => error === -195));
  assert.deepEqual(Object.keys(error[1]), ['error', 'reason']);
  const about = said.info.find(([, , kind]) => kind === 'CONFWARN');
  assert.match(about[3], /enforce\.isr\.cnt/);
  await producer.stop();
});

test('a client that was refused is heard of no more', async () => {
  // A warning is said before the property that is refused is seen.
  const ended = await program(`
    const driver_options = { 'enforce.isr.cnt': 0, typo: 1 };
    const common = { broker: '127.0.0.1:1', logger: quiet, driver_options };
    const refused = [];
    const note = ({ message }) => refused.push(message);
    for (const make of [
      () => new kafka.Producer(common),
      () => new kafka.Consumer({ ...common, topic: 't', offset_directory: 'd', receive_callback() {} }),
    ]) {
      try { make(); } catch (error) { note(error); }
    }
    kafka.consume({ ...common, group_id: 'g', topics: ['t'] }).next().catch(note);
    process.on('exit', () => console.log(refused.join('\\n')));
  `);
  const sentence = 'No such configuration property: "typo"\n';
  assert.deepEqual([ended.code, ended.stdout, ended.stderr], [0, sentence.repeat(3), '']);
});

test('our own defaults cause no warnings', async () => {
  const lines = [];
  const raw = new RawProducer({
    driver_options: { 'metadata.broker.list': broker },
    log_cb: (line) => lines.push(line),
  });
  const topic = await newTopic(1);
  const producer = producerOf({ logger: { ...quiet, info: (...args) => lines.push(args) } });
  await producer.produce(topic, 0, ['x']);
  await producer.stop();
  raw.stop();
  assert.deepEqual(lines, []);
});

test('what callbacks throw is an uncaughtException, and the others are called', async () => {
  const ended = await program(`
    let caught = [];
    process.on('uncaughtException', (error) => caught.push(error.message));
    const producer = new kafka.Producer({
      broker: '127.0.0.1:1',
      logger: { info() { throw new Error('info'); }, error() { throw new Error('error'); } },
      topic_options: { 'message.timeout.ms': 50 },
      queue_buffering_max_ms: 1,
      statistics_interval_ms: 50,
      stats_callback() { throw new Error('stats'); },
      delivery_report_callback() { throw new Error('report'); },
    });
    producer.send('t', 0, ['x']);
    const timer = setInterval(() => {
      const kinds = [...new Set(caught)].sort().join();
      if (kinds === 'error,info,report,stats') {
        clearInterval(timer);
        producer.stop().then(() => console.log(kinds));
      }
    }, 5);
  `);
  assert.deepEqual([ended.code, ended.stdout], [0, 'error,info,report,stats\n'], ended.stderr);
});

test('a producer keeps the program alive until it is stopped', async () => {
  const ended = await program(`
    const producer = new kafka.Producer({ broker, logger: quiet });
    setTimeout(() => console.log('alive'), 300).unref();
    setTimeout(() => producer.stop().then(() => console.log('stopped')), 600).unref();
  `);
  assert.deepEqual([ended.code, ended.stdout], [0, 'alive\nstopped\n'], ended.stderr);
});

test('nothing keeps a stopped producer’s program alive', async () => {
  const ended = await program(`
    const producer = new kafka.Producer({ broker, logger: quiet });
    producer.send('stopped', 0, ['x']);
    // Its timers would be for that long.
    producer.stop({ max_tries: 3, interval: 100_000 }).then(() => {
      const at = Date.now();
      process.on('exit', () => console.log(Date.now() - at < 50_000));
    });
  `);
  assert.deepEqual([ended.code, ended.stdout], [0, 'true\n'], ended.stderr);
});
