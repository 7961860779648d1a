'use strict';

// What callbacks get and what is committed for them (contract: sections 5, 6
// and 8, B4, B5, B9), with a handle that hands over exactly this.

const assert = require('node:assert/strict');
const test = require('node:test');
const { setImmediate: turn, setTimeout: sleep } = require('node:timers/promises');
const { Consumer } = require('..');
const { fakes } = require('./support/fakes');
const { eventually } = require('./support/eventually');
const { program } = require('./support/programs');

/** A started consumer of fakes; `seen` has what its callback was given. */
async function started(options, stored) {
  const seen = [];
  const fake = fakes(
    {
      receive_callback(info) {
        seen.push(info);
      },
      ...options,
    },
    stored,
  );
  const consumer = new Consumer(fake.options);
  await consumer.start();
  return { ...fake, consumer, handle: fake.Handle.last, commits: fake.Offsets.commits, seen };
}

/** Callbacks that the test settles: `open[n].resolve()`. */
function deferred() {
  const open = [];
  const receive_callback = (info) =>
    new Promise((resolve, reject) => {
      open.push({ info, resolve, reject });
    });
  return { open, receive_callback };
}

/** Lets fake offsets take locks; `held()` says how many are. */
function locking({ Offsets }) {
  let held = 0;
  Offsets.prototype._lock = () => {
    held += 1;
    return { release: () => (held -= 1) };
  };
  return () => held;
}

const run = (partition, from, to) =>
  Array.from({ length: to - from + 1 }, (_, i) => [partition, from + i]);

const ROWS = [
  [{ 0: 39 }, run(0, 40, 42), 0, 0, { 0: 42 }],
  [{ 0: 39 }, [[0, 45], [0, 46], [0, 50]], 8, 0, { 0: 50 }],
  [{}, [[0, 500], [0, 501]], 500, 0, { 0: 501 }],
  [{ 0: 899 }, run(0, 0, 2), 0, 1, { 0: 2 }],
  [{ 0: 9 }, [[0, 10], [0, 11], [0, 7], [0, 8], [0, 15]], 6, 1, { 0: 15 }],
  [{ 0: 19 }, [[0, 20], [0, 21], [0, 18]], 0, 1, { 0: 18 }],
  [{ 1: 99 }, [[0, 0], [1, 103], [0, 1], [1, 104], [0, 5]], 6, 0, { 0: 5, 1: 104 }],
];

for (const [stored, places, misses, repeats, commit] of ROWS) {
  test(`misses and repeats: ${JSON.stringify(stored)} then ${JSON.stringify(places)}`, async () => {
    const { handle, seen, commits } = await started({}, stored);
    handle.receive(...places);
    assert.deepEqual(Object.keys(seen[0]), ['messages', 'misses', 'repeats']);
    assert.equal(seen[0].messages.length, places.length);
    assert.deepEqual([seen[0].misses, seen[0].repeats], [misses, repeats]);
    assert.deepEqual(commits, [commit]);
  });
}

test('a jump back is warned about once', async () => {
  const warned = [];
  const logger = { info() {}, error() {}, warn: (...args) => warned.push(args) };
  const { handle } = await started({ logger }, { 0: 899 });
  handle.receive([0, 0], [0, 1]);
  const words = 'may indicate unintended offset directory, and cause repeated data';
  assert.deepEqual(warned, [
    [
      'earlier offset than expected: topic',
      'T',
      'partition',
      0,
      'received message offset',
      0,
      'expected',
      900,
      words,
    ],
  ]);
});

test('messages of partitions of others are skipped, and the callback still runs', async () => {
  const errors = [];
  const logger = { info() {}, warn() {}, error: (...args) => errors.push(args) };
  const { handle, seen, commits } = await started({ logger });
  handle.receive([7, 1], [8, 2], [7, 2]);
  assert.deepEqual(seen, [{ messages: [], misses: 0, repeats: 0 }]);
  const text = (id) => [`skipping message for unexpected partition ${id}`];
  assert.deepEqual(errors, [text(7), text(8), text(7)]);
  assert.deepEqual(commits, []);
});

test('ends of partitions do not reach the callback', async () => {
  const { handle, seen } = await started();
  handle.options.recv_cb([], [{ topic: 'T', partition: 0, offset: 3, errcode: -191 }]);
  assert.deepEqual(seen, []);
});

test('start resolves to text, and starts behind what was stored', async () => {
  const fake = fakes({ fetch_partition_count: async () => 5, num_workers: '2' }, { 2: 41 });
  const consumer = new Consumer(fake.options);
  assert.throws(() => consumer.pause(), { message: 'consumer not started' });
  assert.deepEqual(await consumer.start(), ['0', '2', '4']);
  assert.deepEqual(fake.Handle.last.calls, [['start', { 0: 0, 2: 42, 4: 0 }]]);
  assert.deepEqual(consumer.expected_offsets, { 0: 0, 2: 42, 4: 0 });
  fake.Handle.last.receive([2, 42]);
  await assert.rejects(consumer.start(), { message: 'consumer already started' });
  assert.deepEqual(consumer.expected_offsets, { 0: 0, 2: 43, 4: 0 });
  await consumer.stop();
  await assert.rejects(consumer.stop(), { message: 'already shutdown' });
  await assert.rejects(consumer.start(), { message: 'already shutdown' });
  assert.throws(() => consumer.pause(), { message: 'already shutdown' });
  assert.throws(() => consumer.resume(), { message: 'already shutdown' });
});

test('what start rejects with', async () => {
  const starting = (options) => new Consumer(fakes(options).options).start();
  await assert.rejects(starting({ fetch_partition_count: async () => 0 }), {
    message: 'no partitions for topic T',
  });
  for (const worker_slot of [0, 2]) {
    const few = { num_workers: 3, worker_slot, fetch_partition_count: async () => 2 };
    await assert.rejects(starting(few), { message: 'only 2 for 3 workers ' });
  }
  const never = { fetch_partition_count: () => new Promise(() => {}) };
  const consumer = new Consumer(fakes(never).options);
  const refused = assert.rejects(consumer.start(), { message: 'already shutdown' });
  await consumer.stop();
  await refused;
});

test('a stop while partitions are counted takes no locks', async () => {
  let answer;
  const counted = new Promise((resolve) => (answer = resolve));
  const fake = fakes({ offset_lock: true, fetch_partition_count: () => counted });
  const held = locking(fake);
  const consumer = new Consumer(fake.options);
  const refused = assert.rejects(consumer.start(), { message: 'already shutdown' });
  await consumer.stop();
  await refused;
  answer(2);
  await sleep(20);
  assert.equal(held(), 0);
  assert.deepEqual(fake.Handle.last.calls, [['stop']]);
});

test('a stop ends the tries to count partitions', async () => {
  const { Handle, options } = fakes({ fetch_partition_count: undefined });
  let asked = 0;
  Handle.prototype.get_metadata = (_, callback) => {
    asked += 1;
    callback(new Error('away'));
  };
  const consumer = new Consumer(options);
  const refused = assert.rejects(consumer.start(), { message: 'already shutdown' });
  assert.equal(asked, 1);
  await consumer.stop();
  await refused;
  // The second try would be after a second.
  await sleep(1500);
  assert.equal(asked, 1);
});

test('a batch that finishes early waits for older ones', async () => {
  const { open, receive_callback } = deferred();
  const { handle, commits, consumer } = await started({ receive_callback });
  handle.receive(...run(0, 0, 9));
  handle.receive(...run(0, 10, 19));
  handle.receive(...run(0, 20, 29));
  assert.deepEqual(consumer.receiving_offsets, { 0: [9, 19, 29], 1: [] });
  for (const [which, committed] of [
    [2, []],
    [0, [{ 0: 9 }]],
    [1, [{ 0: 9 }, { 0: 29 }]],
  ]) {
    open[which].resolve();
    await turn();
    assert.deepEqual(commits, committed);
  }
});

test('partitions of a batch are committed together', async () => {
  const { open, receive_callback } = deferred();
  const { handle, commits } = await started({ receive_callback }, { 0: 38, 1: 4 });
  handle.receive([0, 39], [1, 5]);
  handle.receive(...run(1, 6, 12));
  open[1].resolve();
  await turn();
  assert.deepEqual(commits, []);
  open[0].resolve();
  await turn();
  assert.deepEqual(commits, [{ 0: 39, 1: 12 }]);
});

test('whatever becomes of a callback, its batch is committed', async () => {
  const errors = [];
  const logger = { info() {}, warn() {}, error: (...args) => errors.push(args) };
  const failure = new Error('no');
  const outcomes = [
    () => 7,
    () => {
      throw failure;
    },
    () => Promise.reject(failure),
    // Somebody else's promise.
    () => ({ then: (_, reject) => setImmediate(reject, failure) }),
  ];
  const receive_callback = () => outcomes.shift()();
  const { handle, commits } = await started({ receive_callback, logger });
  for (let offset = 0; offset < 4; offset++) {
    handle.receive([0, offset]);
    await eventually('committed', () => commits.length === offset + 1);
  }
  assert.deepEqual(commits, [{ 0: 0 }, { 0: 1 }, { 0: 2 }, { 0: 3 }]);
  const text = 'receive_callback failed:';
  assert.deepEqual(errors, [[text, failure], [text, failure], [text, failure]]);
});

test('no callback begins while paused, and then in order', async () => {
  const { consumer, handle, seen } = await started();
  consumer.pause();
  assert.deepEqual(handle.calls.at(-1), ['pause']);
  // One that was fetched already.
  handle.receive([0, 0]);
  handle.receive([0, 1]);
  await turn();
  assert.equal(seen.length, 0);
  consumer.resume();
  assert.equal(seen.length, 0, 'not inside of the call');
  await turn();
  assert.deepEqual(
    seen.map(({ messages }) => messages[0].offset),
    [0, 1],
  );
  assert.deepEqual(handle.calls.at(-1), ['resume']);
});

test('pausing in the callback guarantees no further call', async () => {
  let calls = 0;
  const { consumer, handle } = await started({
    receive_callback() {
      calls += 1;
      consumer.pause();
      return new Promise(() => {});
    },
  });
  handle.receive([0, 0]);
  handle.receive([0, 1]);
  await turn();
  assert.equal(calls, 1);
});

test('without a pause slow callbacks overlap', async () => {
  const { open, receive_callback } = deferred();
  const { handle } = await started({ receive_callback });
  for (let offset = 0; offset < 50; offset++) {
    handle.receive([0, offset]);
  }
  assert.equal(open.length, 50);
});

test('a limit of open callbacks holds hand-over back', async () => {
  const { open, receive_callback } = deferred();
  const { handle, commits } = await started({ receive_callback, max_callbacks_in_flight: 2 });
  for (let offset = 0; offset < 4; offset++) {
    handle.receive([0, offset]);
  }
  assert.equal(open.length, 2);
  assert.deepEqual(handle.calls.at(-1), ['pause']);
  open[1].resolve();
  await turn();
  await turn();
  assert.equal(open.length, 3);
  open[0].resolve();
  open[2].resolve();
  await turn();
  await turn();
  assert.equal(open.length, 4);
  assert.deepEqual(handle.calls.at(-1), ['resume']);
  open[3].resolve();
  await turn();
  assert.deepEqual(commits.at(-1), { 0: 3 });
});

test('a batch that fails is tried again, before later ones of its partitions', async () => {
  const order = [];
  let failures = 2;
  const { handle, commits } = await started({
    on_receive_error: 'retry',
    retry_delay_ms: 1000,
    async receive_callback({ messages }) {
      order.push(messages.map(({ partition, offset }) => `${partition}:${offset}`).join(' '));
      if (messages[0].partition === 0 && failures-- > 0) {
        throw new Error('not yet');
      }
    },
  });
  handle.receive([0, 0], [0, 1]);
  await turn();
  handle.receive([0, 2], [1, 0]);
  handle.receive([0, 3]);
  await turn();
  assert.deepEqual(commits, [{ 1: 0 }], 'the other partition goes on');
  await eventually('all is committed', () => commits.at(-1)?.[0] === 3);
  assert.deepEqual(order, ['0:0 0:1', '1:0', '0:0 0:1', '0:0 0:1', '0:2 0:3']);
  assert.deepEqual(commits, [{ 1: 0 }, { 0: 1 }, { 0: 3 }]);
});

test('what was held back is cut into batches of the size that was set', async () => {
  const order = [];
  const { handle, commits } = await started({
    max_messages_per_callback: 2,
    on_receive_error: 'retry',
    retry_delay_ms: 20,
    async receive_callback({ messages }) {
      order.push(messages.map(({ offset }) => offset));
      if (order.length === 1) {
        throw new Error('not yet');
      }
    },
  });
  handle.receive([0, 0]);
  await turn();
  handle.receive([0, 1], [0, 2]);
  handle.receive([0, 3]);
  await eventually('all is committed', () => commits.at(-1)?.[0] === 3);
  assert.deepEqual(order, [[0], [0], [1, 2], [3]]);
});

test('a retry waits while paused', async () => {
  let calls = 0;
  const { consumer, handle, commits } = await started({
    on_receive_error: 'retry',
    retry_delay_ms: 1,
    receive_callback() {
      calls += 1;
      if (calls === 1) {
        consumer.pause();
        throw new Error('not yet');
      }
    },
  });
  handle.receive([0, 0]);
  // Its time is over, and nothing happens.
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(calls, 1);
  consumer.resume();
  await eventually('committed', () => commits.length === 1);
  assert.equal(calls, 2);
});

test('a failure may stop the consumer, with nothing committed', async () => {
  const { handle, commits, consumer } = await started({
    on_receive_error: 'stop',
    receive_callback: () => Promise.reject(new Error('no')),
  });
  handle.receive([0, 0]);
  await eventually('stopped', () => handle.calls.at(-1)[0] === 'stop');
  assert.deepEqual(commits, []);
  assert.throws(() => consumer.pause(), { message: 'already shutdown' });
});

test('stop waits for running callbacks if told to', async () => {
  const { open, receive_callback } = deferred();
  const { handle, commits, consumer } = await started({ receive_callback });
  handle.receive([0, 0]);
  const stopped = consumer.stop({ wait_ms: 60_000 });
  await turn();
  open[0].resolve();
  await stopped;
  assert.deepEqual(commits, [{ 0: 0 }]);
  const other = await started({ receive_callback });
  other.handle.receive([0, 0]);
  await other.consumer.stop({ wait_ms: 10 });
  assert.deepEqual(other.commits, []);
  // If it settles later it is still committed.
  open[1].resolve();
  await turn();
  assert.deepEqual(other.commits, [{ 0: 0 }]);
});

test('nothing is committed without the lock', async () => {
  const { open, receive_callback } = deferred();
  const fake = fakes({ receive_callback, offset_lock: true });
  const held = locking(fake);
  const consumer = new Consumer(fake.options);
  await consumer.start();
  assert.equal(held(), 1);
  fake.Handle.last.receive([0, 0]);
  fake.Handle.last.receive([0, 1]);
  const stopped = consumer.stop({ wait_ms: 100 });
  open[0].resolve();
  await stopped;
  assert.equal(held(), 0);
  assert.deepEqual(fake.Offsets.commits, [{ 0: 0 }], 'while it waited');
  open[1].resolve();
  await turn();
  assert.deepEqual(fake.Offsets.commits, [{ 0: 0 }]);
});

test('a commit that throws at once costs no slot', async () => {
  const told = [];
  const seen = [];
  const fake = fakes({
    max_callbacks_in_flight: 1,
    error_callback: ({ message }) => told.push(message),
    async receive_callback({ messages }) {
      seen.push(messages[0].offset);
    },
  });
  fake.Offsets.prototype.commit = () => {
    throw new Error('no');
  };
  const consumer = new Consumer(fake.options);
  await consumer.start();
  fake.Handle.last.receive([0, 0]);
  fake.Handle.last.receive([0, 1]);
  await eventually('both are told', () => told.length === 2);
  assert.deepEqual([seen, told], [[0, 1], ['no', 'no']]);
});

test('a logger that throws is an uncaughtException, and costs no slot', async () => {
  const ended = await program(`
    const { fakes } = require(${JSON.stringify(require.resolve('./support/fakes'))});
    const said = [];
    process.on('uncaughtException', (error, origin) => said.push(origin, error.message));
    const { Handle, Offsets, options } = fakes({
      logger: { info() {}, warn() {}, error() { throw new Error('logger'); } },
      max_callbacks_in_flight: 1,
      receive_callback: async () => { throw new Error('mine'); },
    });
    new kafka.Consumer(options).start().then(() => {
      Handle.last.receive([0, 0]);
      Handle.last.receive([0, 1]);
      const timer = setInterval(() => {
        if (Offsets.commits.length === 2 && said.length === 4) {
          clearInterval(timer);
          console.log(said.join(), JSON.stringify(Offsets.commits));
        }
      }, 1);
    });
  `);
  const twice = Array(2).fill('uncaughtException,logger').join();
  assert.equal(ended.stdout, `${twice} [{"0":0},{"0":1}]\n`, ended.stderr);
});

test('a callback may wait for stop', async () => {
  let stopped;
  const { handle, consumer } = await started({
    receive_callback: () => (stopped = consumer.stop()),
  });
  handle.receive([0, 0]);
  await stopped;
});

test('expired offsets are told apart', async () => {
  const { handle, seen } = await started({ extended_messages: true });
  const messages = [{ topic: 'T', partition: 0, offset: 25 }];
  handle.options.recv_cb(messages, [], Float64Array.of(0, 20, 1, 7));
  assert.deepEqual([seen[0].misses, seen[0].expired], [25, 20]);
});

test('new partitions of the slot begin at 0', async () => {
  const lists = [];
  let count = 2;
  const { handle, consumer } = await started({
    num_workers: 2,
    worker_slot: 1,
    fetch_partition_count: async () => count,
    partition_refresh_ms: 5,
    partitions_callback: (list) => lists.push(list),
  });
  count = 6;
  await eventually('they are known', () => lists.length === 1);
  assert.deepEqual(lists, [[1, 3, 5]]);
  assert.deepEqual(handle.calls.at(-1), ['add', { 3: 0, 5: 0 }]);
  handle.receive([3, 0]);
  assert.equal(consumer.expected_offsets[3], 1);
  await consumer.stop();
});

test('errors of partitions and commits reach the hook', async () => {
  const told = [];
  const warned = [];
  const fake = fakes({
    logger: { info() {}, error() {}, warn: (...args) => warned.push(args) },
    error_callback: (problem) => told.push(problem),
  });
  fake.Offsets.prototype.commit = async () => {
    throw Object.assign(new Error('ENOSPC: no space'), { code: 'ENOSPC' });
  };
  const consumer = new Consumer(fake.options);
  await consumer.start();
  const mark = { topic: 'T', partition: 1, offset: 9, errcode: -140, errstr: 'reset' };
  fake.Handle.last.options.recv_cb([], [mark]);
  fake.Handle.last.options.error_cb({ error: -195, reason: 'away' });
  fake.Handle.last.receive([0, 0]);
  await eventually('all are told', () => told.length === 3);
  assert.deepEqual(told, [
    { code: -140, message: 'reset', partition: 1, fatal: false },
    { code: -195, message: 'away', fatal: false },
    { code: 'ENOSPC', message: 'ENOSPC: no space', fatal: false },
  ]);
  assert.deepEqual(warned, [['kafka_consumer commit failed: ', 'ENOSPC: no space']]);
});

test('statistics cover the own partitions', async () => {
  const told = [];
  const { handle } = await started({ stats_callback: (info) => told.push(info) });
  const partitions = {
    0: { fetchq_cnt: 12, consumer_lag: -1, lo_offset: 10, hi_offset: 70, next_offset: 64 },
    1: { fetchq_cnt: 12, consumer_lag: -1, lo_offset: 0, hi_offset: -1001 },
    2: { fetchq_cnt: 12, consumer_lag: 5, lo_offset: 0, hi_offset: 1000, next_offset: 0 },
  };
  const json = { topics: { T: { partitions } } };
  handle.options.stat_cb(JSON.stringify(json));
  handle.options.stat_cb('{}');
  const nothing = { waiting_local: 0, waiting_kafka: 0, kafka_log_size: 0, rdkafka_stats: {} };
  assert.deepEqual(told, [
    { waiting_local: 12, waiting_kafka: 6, kafka_log_size: 60, rdkafka_stats: json },
    nothing,
  ]);
});

test('options are judged in the order of the contract', () => {
  const good = fakes().options;
  const made = (options) => () => new Consumer({ ...good, ...options });
  assert.throws(() => new Consumer(), TypeError);
  assert.throws(made({ topic: '', broker: NaN, receive_callback: null, worker_slot: 9 }), {
    name: 'Error',
    message: 'Missing required options: broker, topic, receive_callback',
  });
  for (const worker_slot of [-1, 2, '2']) {
    assert.throws(made({ num_workers: 2, worker_slot, offset_manager: null }), {
      name: 'AssertionError',
      code: 'ERR_ASSERTION',
    });
  }
  assert.throws(made({ offset_manager: undefined, raw_consumer: undefined }), {
    name: 'Error',
    message: 'Missing required option: offset_directory',
  });
  const real = { offset_manager: undefined, raw_consumer: undefined, offset_directory: '/nowhere' };
  assert.throws(made({ ...real, driver_options: { x: 1 } }), {
    message: 'No such configuration property: "x"',
  });
  assert.throws(made({ ...real, topic_options: { 'auto.offset.reset': 'soon' } }), {
    message: /^Invalid value "soon" for configuration property "auto.offset.reset"/,
  });
});

test('named options reach the handle, and properties win over them', () => {
  const { Handle, options } = fakes({
    statistics_interval_ms: 0,
    driver_options: { 'client.id': 7, 'queued.max.messages.kbytes': 9, nothing: undefined },
    topic_options: { 'auto.offset.reset': 'largest' },
  });
  new Consumer(options);
  const { driver_options, topic_options, max_messages_per_callback } = Handle.last.options;
  assert.deepEqual(driver_options, {
    'metadata.broker.list': 'nowhere:1',
    'statistics.interval.ms': 5000,
    'queued.max.messages.kbytes': 9,
    'client.id': 7,
  });
  assert.deepEqual(topic_options, { 'auto.commit.enable': false, 'auto.offset.reset': 'largest' });
  assert.equal(max_messages_per_callback, 10000);
});
