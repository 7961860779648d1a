'use strict';

// The module's surface (contract: sections 1, 2 and 11).

const assert = require('node:assert/strict');
const test = require('node:test');
const { setImmediate: turn } = require('node:timers/promises');
const Bluebird = require('bluebird');
const kafka = require('..');
const common = require('../lib/common');
const retry = require('../lib/retry');
const { broker, newTopic } = require('./support/kafka');
const { program } = require('./support/programs');
const { eventually, quiet } = require('./support/eventually');

test('offsets and errors are those of librdkafka 0.8.6', () => {
  assert.deepEqual(kafka.Offsets, {
    RD_KAFKA_OFFSET_BEGINNING: -2,
    RD_KAFKA_OFFSET_END: -1,
    RD_KAFKA_OFFSET_STORED: -1000,
  });
  assert.equal(Object.keys(kafka.Errors).length, 33);
  assert.equal(kafka.Errors['0'], 'RD_KAFKA_RESP_ERR_NO_ERROR');
  assert.equal(kafka.Errors['6'], 'RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION');
  assert.equal(kafka.Errors['-184'], 'RD_KAFKA_RESP_ERR__QUEUE_FULL');
  assert.equal(kafka.Errors['-1'], 'RD_KAFKA_RESP_ERR_UNKNOWN');
  assert.equal(kafka.Errors['-100'], 'RD_KAFKA_RESP_ERR__END');
});

test('what a producer returns chains as Bluebird does', async () => {
  const topic = await newTopic(3);
  const producer = new kafka.Producer({ broker, logger: quiet });
  const count = producer.partition_count(topic);
  assert.ok(count instanceof Bluebird);
  assert.equal(await count.tap(() => {}).delay(1).timeout(20_000), 3);
  const values = await Bluebird.props({ count: producer.partition_count(topic), one: 1 });
  assert.deepEqual(values, { count: 3, one: 1 });
  const stopped = producer.stop();
  assert.ok(stopped instanceof Bluebird);
  assert.equal(await stopped.reflect().then((end) => end.isFulfilled()), true);
  assert.equal(await producer.stop().return('x'), 'x');
  await assert.rejects(producer.partition_count(topic), { message: 'already shutdown' });
});

test('metadata has brokers by number and topics with partitions', async () => {
  const topic = await newTopic(2);
  const raw = common.RawProducer({ driver_options: { 'metadata.broker.list': broker } });
  assert.ok(raw instanceof common.RawProducer);
  const text = /^you must supply a topic name and callback$/;
  assert.throws(() => raw.get_metadata(topic), { message: text });
  assert.throws(() => raw.get_metadata(1, () => {}), { message: text });
  // A question may take a second at most.
  const ask = () => Bluebird.fromCallback((done) => raw.get_metadata(topic, done));
  const metadata = await eventually('metadata', () => ask().catch(() => undefined));
  assert.deepEqual(Object.keys(metadata).sort(), [
    'brokers',
    'orig_broker_id',
    'orig_broker_name',
    'topics',
  ]);
  const [host, port] = broker.split(':');
  assert.deepEqual(metadata.brokers, { 0: { id: 0, host, port: Number(port) } });
  assert.deepEqual(metadata.topics, [
    {
      topic,
      error: 0,
      partitions: [0, 1].map((id) => ({ id, error: 0, leader: 0, replicas: [0], isrs: [0] })),
    },
  ]);
  raw.stop();
  raw.stop();
  for (const use of [
    () => raw.send(topic, 0, []),
    () => raw.outq_length(),
    () => raw.get_metadata(topic, () => {}),
  ]) {
    assert.throws(use, { message: 'already shutdown' });
  }
});

test('metadata that does not come has the real reason', async () => {
  const raw = new common.RawProducer({
    driver_options: { 'metadata.broker.list': '127.0.0.1:1' },
    stat_cb: null,
    error_cb: null,
    log_cb: null,
    dr_cb: null,
  });
  const error = await Bluebird.fromCallback((done) => raw.get_metadata('t', done)).reflect();
  assert.match(error.reason().message, /^Local: Broker transport failure$|^Local: Timed out$/);
  await assert.rejects(common.fetch_metadata(raw, 't', { max_tries: 1 }), (error) => {
    assert.match(error.message, /^operation timed out after \d+ ms, 1 tries failure: fetch_metadata: fetch_metadata error Local: .* on topic t$/);
    assert.equal(error.code, 'ETIMEDOUT');
    return true;
  });
  raw.stop();
});

test('metadata with errors is asked for again, except for a replica that is down', async () => {
  const handle = (topics) => ({
    get_metadata: (topic, callback) => callback(null, { topics }),
  });
  const once = { max_tries: 1 };
  const fails = (topics, text) =>
    assert.rejects(common.fetch_metadata(handle(topics), 'T', once), (error) => {
      assert.equal(error.failure.message, text);
      return true;
    });
  const partition = (id, error) => ({ id, error, leader: 0, replicas: [], isrs: [] });
  await fails([], 'fetch_metadata: topic T not found');
  await fails([{ topic: 'T', error: 5, partitions: [] }], 'fetch_metadata: topic error 5 on topic T');
  await fails(
    [{ topic: 'T', error: 0, partitions: [partition(0, 0), partition(2, 6)] }],
    'fetch_metadata: partition error 6 on partition 2 topic T',
  );
  const served = [{ topic: 'T', error: 0, partitions: [partition(0, 9), partition(1, 0)] }];
  assert.equal(await common.fetch_partition_count(handle(served), 'T', once), 2);
});

test('tries start an interval apart, as many as the options allow', async () => {
  const starts = [];
  const attempt = () => {
    starts.push(Date.now());
    throw new Error(`try ${starts.length}`);
  };
  await assert.rejects(retry(attempt, { max_tries: 4, interval: 20, backoff: 2, max_interval: 50 }), {
    code: 'ETIMEDOUT',
    message: /^operation timed out after \d+ ms, 4 tries failure: try 4$/,
  });
  const gaps = starts.slice(1).map((start, index) => start - starts[index]);
  [20, 40, 50].forEach((least, index) => assert.ok(gaps[index] >= least - 2, `${gaps}`));
  starts.length = 0;
  await assert.rejects(retry(attempt, { interval: 1 }), ({ failure }) => failure.message === 'try 5');
  assert.equal(await retry(() => 7, {}), 7);
});

test('no try begins when the time is over', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] });
  const starts = [];
  const tries = retry(
    () => {
      starts.push(Date.now());
      throw new Error('again');
    },
    { timeout: 60, interval: 20 },
  );
  const refused = assert.rejects(tries, { code: 'ETIMEDOUT' });
  while (tries.isPending()) {
    await turn();
    t.mock.timers.tick(1);
  }
  await refused;
  assert.deepEqual(starts, [0, 20, 40, 60]);
});

test('a signal ends the tries, also while one is under way', async () => {
  const controllers = [new AbortController(), new AbortController()];
  let asked = 0;
  const attempts = [
    () => {
      asked += 1;
      throw new Error('again');
    },
    () => new Promise(() => (asked += 1)),
  ];
  const tries = controllers.map(({ signal }, index) => retry(attempts[index], { signal }));
  const refused = tries.map((one) => assert.rejects(one, { message: 'enough' }));
  controllers.forEach((controller) => controller.abort(new Error('enough')));
  await Promise.all(refused);
  const { signal } = controllers[0];
  await assert.rejects(retry(attempts[0], { signal }), { message: 'enough' });
  assert.equal(asked, 2);
});

test('an unhandled rejection is printed, and the program goes on', async () => {
  const ended = await program(`
    const producer = new kafka.Producer({ broker, logger: quiet });
    producer.stop().then(() => {
      producer.partition_count('t');
      setTimeout(() => console.log('still here'), 100);
    });
  `);
  assert.equal(ended.code, 0);
  assert.match(ended.stderr, /already shutdown/);
  assert.equal(ended.stdout, 'still here\n');
});
