'use strict';

// Batches as an async iterable (contract: B6).

const assert = require('node:assert/strict');
const test = require('node:test');
const { setImmediate: turn } = require('node:timers/promises');
const { consume } = require('..');
const { fakes } = require('./support/fakes');
const { eventually } = require('./support/eventually');

/** Batches of fakes, and what there is to be looked at. */
function consumed(options) {
  const fake = fakes({ receive_callback: undefined, ...options });
  const batches = consume(fake.options);
  return { ...fake, batches, commits: fake.Offsets.commits };
}

/** Gives the handle one message per batch as soon as it is started. */
async function feed({ Handle }, count) {
  await eventually('started', () => Handle.last?.calls.length > 0);
  for (let offset = 0; offset < count; offset++) {
    Handle.last.receive([0, offset]);
  }
}

const offsetsOf = ({ messages }) => messages.map(({ offset }) => offset);

test('asking for the next batch marks the one before as done', async () => {
  const fake = consumed();
  const first = fake.batches.next();
  await feed(fake, 3);
  const { value } = await first;
  assert.deepEqual(Object.keys(value), ['messages', 'misses', 'repeats', 'done']);
  assert.deepEqual(offsetsOf(value), [0]);
  await turn();
  assert.deepEqual(fake.commits, []);
  assert.deepEqual(offsetsOf((await fake.batches.next()).value), [1]);
  await turn();
  assert.deepEqual(fake.commits, [{ 0: 0 }]);
  await fake.batches.return();
});

test('leaving the loop leaves the last batch alone', async () => {
  const fake = consumed();
  const fed = feed(fake, 5);
  const seen = [];
  for await (const batch of fake.batches) {
    seen.push(...offsetsOf(batch));
    if (seen.length === 3) {
      break;
    }
  }
  await fed;
  assert.deepEqual(seen, [0, 1, 2]);
  assert.deepEqual(fake.commits, [{ 0: 0 }, { 0: 1 }]);
  assert.deepEqual(fake.Handle.last.calls.at(-1), ['stop']);
  assert.deepEqual(await fake.batches.next(), { value: undefined, done: true });
});

test('leaving the loop by an error does so, too', async () => {
  const fake = consumed();
  const fed = feed(fake, 5);
  const loop = async () => {
    for await (const batch of fake.batches) {
      assert.deepEqual(offsetsOf(batch), [0]);
      throw new Error('mine');
    }
  };
  await assert.rejects(loop(), { message: 'mine' });
  await fed;
  assert.deepEqual(fake.commits, []);
  assert.deepEqual(fake.Handle.last.calls.at(-1), ['stop']);
});

test('what was said to be done is committed', async () => {
  const fake = consumed();
  const fed = feed(fake, 1);
  for await (const batch of fake.batches) {
    assert.equal(batch.done(), undefined);
    batch.done();
    break;
  }
  await fed;
  await eventually('committed', () => fake.commits.length === 1);
  assert.deepEqual(fake.commits, [{ 0: 0 }]);
});

test('no more is prefetched than asked for', async () => {
  for (const prefetch of [undefined, 0, 3]) {
    const fake = consumed({ prefetch });
    const first = fake.batches.next();
    await feed(fake, 1);
    await first;
    const { last } = fake.Handle;
    for (let offset = 1; offset <= (prefetch ?? 1); offset++) {
      assert.notDeepEqual(last.calls.at(-1), ['pause'], `${offset} of ${prefetch}`);
      last.receive([0, offset]);
    }
    assert.deepEqual(last.calls.at(-1), ['pause']);
    await fake.batches.return();
  }
});

test('a signal ends it', async () => {
  const controller = new AbortController();
  const fake = consumed({ signal: controller.signal });
  const fed = feed(fake, 2);
  const seen = [];
  for await (const batch of fake.batches) {
    seen.push(...offsetsOf(batch));
    if (seen.length === 2) {
      // The batch that is worked on is done all the same.
      controller.abort();
    }
  }
  await fed;
  assert.deepEqual(seen, [0, 1]);
  assert.deepEqual(fake.commits, [{ 0: 0 }, { 0: 1 }]);
  assert.deepEqual(fake.Handle.last.calls.at(-1), ['stop']);
});

test('a signal ends waiting', async () => {
  const controller = new AbortController();
  const fake = consumed({ signal: controller.signal });
  const waiting = fake.batches.next();
  await feed(fake, 0);
  controller.abort();
  assert.deepEqual(await waiting, { value: undefined, done: true });
  assert.deepEqual(fake.Handle.last.calls.at(-1), ['stop']);
});

test('a signal closes what nobody has asked yet', async () => {
  const controller = new AbortController();
  const fake = consumed({ signal: controller.signal });
  controller.abort();
  await eventually('closed', () => fake.Handle.last.calls.length > 0);
  assert.deepEqual(fake.Handle.last.calls, [['stop']]);
  assert.deepEqual(await fake.batches.next(), { value: undefined, done: true });
  assert.deepEqual(fake.Handle.last.calls, [['stop']]);
});

test('an error for good ends the loop, for whoever asks now or later', async () => {
  for (const isAsked of [true, false]) {
    const told = [];
    const fake = consumed({ error_callback: ({ fatal }) => told.push(fatal) });
    const first = fake.batches.next();
    const fed = feed(fake, 1);
    assert.deepEqual(offsetsOf((await first).value), [0]);
    await fed;
    const asked = isAsked ? fake.batches.next() : undefined;
    const { error_cb } = fake.Handle.last.options;
    error_cb({ error: -195, reason: 'away' });
    error_cb({ error: -150, reason: 'fenced', fatal: true });
    await assert.rejects(asked ?? fake.batches.next(), { message: 'fenced', code: -150 });
    assert.deepEqual(told, [false, true]);
    assert.deepEqual(await fake.batches.next(), { value: undefined, done: true });
    assert.deepEqual(fake.Handle.last.calls.at(-1), ['stop']);
  }
});

test('with a signal that was given already nothing is opened', async () => {
  const fake = consumed({ signal: AbortSignal.abort() });
  for await (const batch of fake.batches) {
    assert.fail(batch);
  }
  assert.equal(fake.Handle.last, undefined);
});

test('what start rejects with ends the loop', async () => {
  const fake = consumed({ fetch_partition_count: async () => 0 });
  await assert.rejects(fake.batches.next(), { message: 'no partitions for topic T' });
  assert.deepEqual(await fake.batches.next(), { value: undefined, done: true });
});

test('options are judged at once', () => {
  assert.throws(() => consume(), TypeError);
  assert.throws(() => consume(fakes().options), TypeError);
  const options = { broker: 'b', topic: 't' };
  assert.throws(() => consume(options), { message: 'Missing required option: offset_directory' });
});
