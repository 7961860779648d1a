'use strict';

// Members of consumer groups (contract: B11).

const assert = require('node:assert/strict');
const test = require('node:test');
const { Producer, consume } = require('..');
const { broker, newTopic } = require('./support/kafka');
const { eventually, quiet } = require('./support/eventually');

/** Quick to notice that the group has changed. */
const driver_options = { 'heartbeat.interval.ms': 100, 'auto.commit.interval.ms': 50 };

function member(group_id, topics, more) {
  return consume({ broker, group_id, topics, logger: quiet, driver_options, ...more });
}

async function fill(topic, count) {
  const producer = new Producer({ broker, logger: quiet, queue_buffering_max_ms: 1 });
  const messages = Array.from({ length: count }, (_, i) => ({ payload: `${i}`, key: `k${i}` }));
  for (const partition of [0, 1]) {
    await producer.produce(topic, partition, messages);
  }
  await producer.stop();
}

/** Puts so many messages into partition 0. */
async function fillFirst(topic, count) {
  const producer = new Producer({ broker, logger: quiet, queue_buffering_max_ms: 1 });
  await producer.produce(topic, 0, Array(count).fill('x'));
  await producer.stop();
}

const placesOf = ({ messages }) =>
  messages.map(({ topic, partition, offset }) => `${topic}/${partition}@${offset}`);

test('a member goes on where its group was', async () => {
  const topics = [await newTopic(2), await newTopic(2)];
  const group = topics[0];
  await fill(topics[0], 50);
  await fill(topics[1], 50);
  const seen = [];
  let left;
  for await (const batch of member(group, topics, { max_messages_per_callback: 7 })) {
    assert.deepEqual([batch.misses, batch.repeats], [0, 0]);
    for (const { payload, key, offset } of batch.messages) {
      assert.deepEqual([payload, key], [`${offset}`, `k${offset}`]);
    }
    if (seen.length >= 100) {
      // Not done: it comes again.
      left = placesOf(batch);
      break;
    }
    seen.push(...placesOf(batch));
  }
  const again = [];
  for await (const batch of member(group, topics)) {
    again.push(...placesOf(batch));
    if (seen.length + again.length === 200) {
      batch.done();
      break;
    }
  }
  assert.ok(left.every((place) => again.includes(place)));
  const all = topics.flatMap((topic) =>
    [0, 1].flatMap((partition) => Array.from({ length: 50 }, (_, i) => `${topic}/${partition}@${i}`)),
  );
  assert.deepEqual([...seen, ...again].sort(), all.sort(), 'each once');

  // All of it was done: there is nothing left but what comes now.
  await fill(topics[0], 1);
  const third = member(group, topics);
  const { value } = await third.next();
  assert.ok(value.messages.every(({ offset }) => offset === 50));
  await third.return();
});

test('members share, and nothing is lost when one leaves', async () => {
  const topic = await newTopic(2);
  await fill(topic, 20);
  const seen = [];
  const controllers = [new AbortController(), new AbortController()];
  const lists = [[], []];
  const loops = controllers.map(async ({ signal }, index) => {
    for await (const batch of member(topic, [topic], { signal })) {
      lists[index].push(...placesOf(batch));
      seen.push(...placesOf(batch));
    }
  });
  await eventually('all have come', () => new Set(seen).size === 40);
  let next = 20;
  await eventually('both have some', async () => {
    const before = lists.map((list) => list.length);
    await fill(topic, 1);
    next += 1;
    await eventually('these two', () => new Set(seen).size === 2 * next);
    return lists.every((list, index) => list.length > before[index]);
  });
  controllers[0].abort();
  await loops[0];
  await fill(topic, 5);
  next += 5;
  await eventually('the rest', () => new Set(seen).size === 2 * next);
  controllers[1].abort();
  await loops[1];
});

test('what a group decides is no option', () => {
  for (const name of ['num_workers', 'offset_directory', 'topic']) {
    assert.throws(() => member('g', ['t'], { [name]: 'x' }), {
      message: `group_id and ${name} exclude each other`,
    });
  }
  assert.throws(() => member('g', undefined), { message: 'Missing required option: topics' });
  assert.throws(() => member('', ['t']), { message: 'Missing required option: group_id' });
});

test('properties that librdkafka refuses end the loop', async () => {
  const batches = member('g', ['t'], { driver_options: { x: 1 } });
  await assert.rejects(batches.next(), { message: 'No such configuration property: "x"' });
});

test('a member is told which partitions it has', async () => {
  const topic = await newTopic(2);
  const held = [[], []];
  const isLost = [];
  const loops = [];
  const controllers = [0, 1].map(() => new AbortController());
  const join = (index) => {
    const { signal } = controllers[index];
    let before = [];
    const partitions_callback = (list, { revoked, assigned, are_lost }) => {
      const ids = (places) => places.map((place) => `${place.topic}/${place.partition}`);
      const kept = before.filter((id) => !ids(revoked).includes(id));
      assert.deepEqual(ids(list), [...kept, ...ids(assigned)]);
      before = ids(list);
      held[index] = before;
      isLost.push(are_lost);
    };
    loops.push(
      (async () => {
        for await (const batch of member(topic, [topic], { signal, partitions_callback })) {
          batch.done();
        }
      })(),
    );
  };
  const both = [`${topic}/0`, `${topic}/1`];
  join(0);
  await eventually('the first has both', () => held[0].length === 2);
  assert.deepEqual(held[0].toSorted(), both);
  join(1);
  await eventually('each has one', () => held.every((list) => list.length === 1));
  assert.deepEqual(held.flat().sort(), both);
  controllers[0].abort();
  await loops[0];
  assert.deepEqual(held[0], [], 'given back at the end');
  await eventually('the second has both', () => held[1].length === 2);
  controllers[1].abort();
  await loops[1];
  assert.ok(isLost.every((one) => !one));
});

test('a member tells how much waits', async () => {
  const topics = [await newTopic(2), await newTopic(2)];
  await fill(topics[0], 10);
  await fill(topics[1], 10);
  let last;
  const batches = member(topics[0], topics, {
    max_messages_per_callback: 1,
    prefetch: 0,
    statistics_interval_ms: 100,
    stats_callback: (info) => (last = info),
  });
  const { value } = await batches.next();
  assert.equal(value.messages.length, 1);
  await eventually('the others wait', () => last?.waiting_local === 39 && last.kafka_log_size === 40);
  assert.equal(last.rdkafka_stats.type, 'consumer');
  assert.deepEqual(Object.keys(last).sort(), [
    'kafka_log_size',
    'rdkafka_stats',
    'waiting_kafka',
    'waiting_local',
  ]);
  for (let seen = 1; seen < 40; seen++) {
    await batches.next();
  }
  const end = batches.next();
  await eventually('nothing waits', () => last.waiting_local === 0 && last.waiting_kafka === 0);
  await batches.return();
  assert.deepEqual(await end, { value: undefined, done: true });
});

test('a member’s log and errors go to the logger', async () => {
  const lines = [];
  const errors = [];
  const told = [];
  const batches = consume({
    broker: '127.0.0.1:1',
    group_id: 'g',
    topics: ['t'],
    driver_options: { debug: 'cgrp', 'enforce.isr.cnt': 1 },
    logger: {
      info: (...words) => lines.push(words),
      warn() {},
      error: (...words) => errors.push(words),
    },
    error_callback: (error) => told.push(error),
  });
  const end = batches.next();
  await eventually('its log', () => lines.some(([, level, facility]) => level === 7 && facility !== 'LOG'));
  await eventually('a warning', () => lines.some(([, level, , text]) => level === 4 && /enforce.isr.cnt/.test(text)));
  assert.ok(lines.every(([word, , , text]) => word === 'rdkafka:' && typeof text === 'string'));
  await eventually('its errors', () => told.some(({ code }) => code === -195));
  const [word, { error, reason }] = errors[0];
  assert.deepEqual([word, typeof error, typeof reason], ['rdkafka:', 'number', 'string']);
  await batches.return();
  assert.deepEqual(await end, { value: undefined, done: true });
});

test('a member that another has replaced ends its loop', async () => {
  const topic = await newTopic(1);
  await fillFirst(topic, 1);
  const told = [];
  const join = (more) => {
    const own = { ...driver_options, 'group.instance.id': 'the only one' };
    return member(topic, [topic], { driver_options: own, ...more });
  };
  const first = join({ error_callback: (error) => told.push(error) });
  assert.equal((await first.next()).value.messages.length, 1);
  const waiting = first.next();
  const second = join();
  const taken = second.next();
  await assert.rejects(waiting, (error) => {
    assert.equal(typeof error.code, 'number');
    assert.match(error.message, /static consumer fenced/i);
    return true;
  });
  assert.deepEqual(told.filter(({ fatal }) => fatal).length, 1);
  assert.deepEqual(await first.next(), { value: undefined, done: true });
  await fillFirst(topic, 1);
  assert.equal((await taken).done, false);
  await second.return();
});

test('a partition that goes and comes back is a new one', async () => {
  // The one partition is the first member's, by name.
  const named = (client, more) => {
    const own = { 'client.id': client, 'partition.assignment.strategy': 'range' };
    return member(topic, [topic], { driver_options: { ...driver_options, ...own }, ...more });
  };
  const topic = await newTopic(1);
  await fillFirst(topic, 100);
  let held;
  const own = named('b', { partitions_callback: (list) => (held = list.length) });
  let done = -1;
  let batch;
  while (done < 99) {
    // What has come last is not marked done.
    ({ value: batch } = await own.next());
    done = batch.messages.at(-1).offset;
  }

  // Nobody has committed the last batch, so that it comes again.
  const other = named('a');
  let next = other.next();
  await eventually('it goes', () => held === 0);
  await fillFirst(topic, 200);
  for (let read = -1; read < 299; next = read < 299 ? other.next() : undefined) {
    const { value } = await next;
    read = value.messages.at(-1).offset;
    value.done();
  }
  assert.equal(held, 0);
  await other.return();
  await eventually('it comes back', () => held === 1);
  // That is from before, and would be a step back.
  batch.done();
  await fillFirst(topic, 1);
  const { value } = await own.next();
  assert.deepEqual([value.messages[0].offset, value.misses, value.repeats], [300, 0, 0]);
  await own.return();
  const last = named('c');
  const { value: again } = await last.next();
  assert.equal(again.messages[0].offset, 300, 'where the other has stopped');
  await last.return();
});

test('more kilobytes than librdkafka takes are lowered', async () => {
  const topic = await newTopic(1);
  await fillFirst(topic, 1);
  const lines = [];
  const batches = member(topic, [topic], {
    queued_max_messages_kbytes: 3_000_000,
    logger: { ...quiet, info: (...words) => lines.push(words.join(' ')) },
  });
  assert.equal((await batches.next()).value.messages.length, 1);
  await batches.return();
  assert.ok(lines.some((line) => /CONFWARN .*queued\.max\.messages\.kbytes value 3000000/.test(line)));
});
