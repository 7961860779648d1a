'use strict';

// Batches on their way to the callback: lib/batches.js, lib/pump.js.

const assert = require('node:assert/strict');
const test = require('node:test');
const { Messages } = require('../lib/batches');
const Pump = require('../lib/pump');

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A batch of `count` messages of partitions 0 and 1, as native code gathers it. */
function batch(count) {
  const bytes = Array.from({ length: count }, (_, i) => `k${i}v${i}`).join('');
  return {
    partitions: Int32Array.from({ length: count }, (_, i) => i % 2),
    offsets: Float64Array.from({ length: count }, (_, i) => i),
    lengths: Int32Array.from({ length: 2 * count }, (_, i) => `k${i >> 1}`.length),
    bytes: Buffer.from(bytes),
    isAscii: true,
    marks: [],
  };
}

/** What a pump has delivered, by batch. */
function pumpOf(make) {
  const delivered = [];
  const idle = [];
  const pump = new Pump({
    make,
    deliver: (batch, list) => delivered.push(list),
    idle: () => idle.push(delivered.length),
  });
  return { pump, delivered, idle };
}

test('a large batch is made in portions, and whole', async () => {
  const count = 10321;
  const { pump, delivered, idle } = pumpOf((one) => new Messages(one, 't', {}));
  pump.put([batch(count), batch(3)]);
  let turns = 0;
  while (delivered.length < 1) {
    assert.equal(pump.held, count + 3);
    await turn();
    turns += 1;
  }
  assert.ok(turns >= 4, `${turns} turns`);
  await turn();
  await turn();
  assert.deepEqual(delivered.map((list) => list.length), [count, 3]);
  assert.deepEqual(
    delivered[0],
    Array.from({ length: count }, (_, i) => ({
      topic: 't',
      partition: i % 2,
      offset: i,
      key: `k${i}`,
      payload: `v${i}`,
    })),
  );
  assert.equal(pump.held, 0);
  assert.deepEqual(idle, [2]);
});

test('a small batch is delivered in the turn in which it comes', () => {
  const { pump, delivered } = pumpOf((one) => new Messages(one, 't', {}));
  pump.put([batch(1000)]);
  assert.equal(delivered.length, 1);
});

test('lanes are resolved in every portion', async () => {
  const places = new Map([
    [0, { topic: 'a', partition: 7 }],
    [1, { topic: 'b', partition: 8 }],
  ]);
  const { pump, delivered } = pumpOf((one) => new Messages(one, undefined, {}, places));
  pump.put([batch(6250)]);
  while (delivered.length === 0) {
    await turn();
  }
  delivered[0].forEach(({ topic, partition, offset }) =>
    assert.deepEqual([topic, partition], offset % 2 ? ['b', 8] : ['a', 7]),
  );
});

test('nothing is delivered while paused, also of a batch that was begun', async () => {
  const { pump, delivered } = pumpOf((one) => new Messages(one, 't', {}));
  pump.put([batch(6250), batch(1)]);
  await turn();
  pump.pause();
  for (let i = 0; i < 10; i++) {
    await turn();
  }
  assert.deepEqual([delivered.length, pump.held], [0, 6251]);
  pump.resume();
  assert.equal(delivered.length, 0, 'not within the call');
  while (delivered.length < 2) {
    await turn();
  }
  assert.deepEqual(delivered.map((list) => list.length), [6250, 1]);
});

test('what was begun is dropped when it is closed', async () => {
  const { pump, delivered } = pumpOf((one) => new Messages(one, 't', {}));
  pump.put([batch(6250)]);
  pump.close();
  pump.put([batch(1)]);
  for (let i = 0; i < 10; i++) {
    await turn();
  }
  assert.deepEqual([delivered.length, pump.held], [0, 0]);
});
