'use strict';

// Results message by message (contract: B7, B8).

const assert = require('node:assert/strict');
const test = require('node:test');
const { Producer } = require('..');
const { broker, newTopic, read, startKafka } = require('./support/kafka');
const { eventually, quiet } = require('./support/eventually');

function producerOf(options) {
  return new Producer({ broker, logger: quiet, queue_buffering_max_ms: 5, ...options });
}

test('produce resolves to where each message is', async () => {
  const topic = await newTopic(2);
  const producer = producerOf();
  const before = Date.now();
  const promise = producer.produce(topic, 1, ['a', { payload: 'b', key: 'k' }, Buffer.from('c'), null]);
  assert.equal(Object.getPrototypeOf(promise), Promise.prototype);
  const delivered = await promise;
  assert.deepEqual(
    delivered.map(({ partition, offset }) => [partition, offset]),
    [0, 1, 2, 3].map((offset) => [1, offset]),
  );
  for (const { timestamp } of delivered) {
    assert.ok(timestamp >= before && timestamp <= Date.now());
  }
  assert.deepEqual(await producer.produce(topic, null, []), []);
  const [{ partition }] = await producer.produce(topic, null, [{ payload: 'x', key: 'same' }]);
  const [again] = await producer.produce(topic, null, [{ payload: 'y', key: 'same' }]);
  assert.equal(again.partition, partition);
  await producer.stop();
});

test('produce rejects with the messages that failed', async () => {
  const topic = await newTopic(1);
  const producer = producerOf();
  await assert.rejects(
    producer.produce(topic, 0, ['good', 'x'.repeat(5_000_000), 'fine']),
    (error) => {
      assert.deepEqual(error.errors, [
        { index: 1, errcode: 10, errstr: 'Broker: Message size too large' },
      ]);
      assert.deepEqual(error.results[0].offset, 0);
      assert.deepEqual(error.results[2].offset, 1);
      assert.match(error.message, /^1 of 3 messages failed; the first is message 1/);
      return true;
    },
  );
  await assert.rejects(producer.produce(topic, 0, [{}]), TypeError);
  await assert.rejects(producer.produce(topic, '0', ['x']), /you must supply a topic name/);
  await producer.stop();
  await assert.rejects(producer.produce(topic, 0, ['x']), { message: 'already shutdown' });
});

test('produce waits for room, first come first served', async () => {
  const topic = await newTopic(1);
  const producer = producerOf({ queue_buffering_max_messages: 20 });
  const calls = Array.from({ length: 30 }, (_, call) =>
    Array.from({ length: 50 }, (_, i) => `${call}.${i}`),
  );
  const delivered = await Promise.all(calls.map((call) => producer.produce(topic, 0, call)));
  assert.equal(delivered.flat().length, 1500);
  delivered.flat().forEach(({ offset }, index) => assert.equal(offset, index));
  const records = await read(topic);
  assert.deepEqual(records.map(({ value }) => value), calls.flat());
  await producer.stop();
});

test('stop waits for what produce still has to hand over', async () => {
  const topic = await newTopic(1);
  const producer = producerOf({ queue_buffering_max_messages: 10, queue_buffering_max_ms: 100 });
  const call = producer.produce(topic, 0, Array(200).fill('x'));
  await producer.stop();
  assert.equal((await call).length, 200);
});

test('a message larger than the whole queue is refused, not waited for', async () => {
  const topic = await newTopic(1);
  const producer = producerOf({ driver_options: { 'queue.buffering.max.kbytes': 1 } });
  await assert.rejects(producer.produce(topic, 0, ['x'.repeat(5000)]), {
    errors: [{ index: 0, errcode: -184, errstr: 'Local: Queue full' }],
  });
  assert.equal((await producer.produce(topic, 0, ['y'.repeat(100)])).length, 1);
  await producer.stop();
});

test('who waits when the client is closed hears of it', async () => {
  const producer = producerOf({ broker: '127.0.0.1:1', queue_buffering_max_messages: 2 });
  const call = producer.produce('t', 0, ['a', 'b', 'c']);
  producer.handle.stop();
  await assert.rejects(call, (error) => {
    assert.deepEqual(
      error.errors.map(({ index, errcode }) => [index, errcode]),
      [0, 1, 2].map((index) => [index, -197]),
    );
    return true;
  });
});

for (const compression of ['none', 'gzip', 'snappy', 'lz4', 'zstd']) {
  test(`compression ${compression}`, async () => {
    const topic = await newTopic(1);
    const producer = producerOf({ compression });
    await producer.produce(topic, 0, Array(100).fill('the same again'));
    await producer.stop();
    assert.equal((await read(topic)).length, 100);
  });
}

test('acks and idempotence reach librdkafka', async () => {
  const topic = await newTopic(1);
  const careless = producerOf({ acks: 0 });
  const [{ offset }] = await careless.produce(topic, 0, ['x']);
  assert.ok(offset < 0, 'a broker that is not asked tells no offset');
  await careless.stop();
  assert.throws(() => producerOf({ idempotent: true, acks: 1 }), /acks/);
  const careful = producerOf({ idempotent: true });
  await careful.produce(topic, 0, ['y']);
  await careful.stop();
});

test('a broker that restarts loses nothing of an idempotent producer, nor the order', async () => {
  const kafka = await startKafka();
  await kafka.run('topic', 't', 1);
  const producer = producerOf({ broker: kafka.broker, idempotent: true });
  await producer.produce('t', 0, ['0']);
  const calls = [];
  let next = 1;
  const timer = setInterval(() => calls.push(producer.produce('t', 0, [String(next++)])), 2);
  await kafka.run('kill');
  await kafka.run('start');
  const enough = next + 50;
  await eventually('more calls', () => next > enough);
  clearInterval(timer);
  await Promise.all(calls);
  await producer.stop();
  const records = await read('t', kafka.run);
  assert.deepEqual(
    records.map(({ value }) => Number(value)),
    Array.from({ length: next }, (_, i) => i),
  );
  await kafka.end();
});

test('a producer is a disposable', async () => {
  const topic = await newTopic(1);
  const producer = producerOf();
  producer.send(topic, 0, ['x']);
  await producer[Symbol.asyncDispose]();
  assert.throws(() => producer.send(topic, 0, ['y']), { message: 'already shutdown' });
  assert.equal((await read(topic)).length, 1);
});
