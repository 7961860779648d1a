'use strict';

// Workers, processes, and what is left of stopped clients (contract: B15).

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const test = require('node:test');
const { once } = require('node:events');
const { Worker } = require('node:worker_threads');
const { Producer, consume } = require('..');
const { broker, newTopic, read, startKafka } = require('./support/kafka');
const { HEAD, frugal, leavesNothing, program, run } = require('./support/programs');
const { eventually, quiet } = require('./support/eventually');

/** A worker that runs a program text; `data` is its `workerData`. */
function worker(text, data) {
  const head = `${HEAD} const { parentPort, workerData } = require('node:worker_threads');`;
  return new Worker(head + text, { eval: true, workerData: data });
}

const PRODUCE = `
  const producer = new kafka.Producer({ broker, logger: quiet, queue_buffering_max_ms: 5 });
  const messages = Array.from({ length: 500 }, (_, i) => workerData.name + '.' + i);
  producer.produce(workerData.topic, 0, messages).then(async () => {
    await producer.stop();
    parentPort.postMessage('done');
  });
`;

test('workers and the main thread produce at the same time', async () => {
  const topic = await newTopic(1);
  const names = ['a', 'b', 'c'];
  const workers = names.map((name) => worker(PRODUCE, { name, topic }));
  const ended = workers.map((one) => once(one, 'exit'));
  const producer = new Producer({ broker, logger: quiet });
  producer.send(topic, 0, Array.from({ length: 500 }, (_, i) => `main.${i}`));
  await producer.stop();
  for (const [code] of await Promise.all(ended)) {
    assert.equal(code, 0);
  }
  const records = await read(topic);
  assert.equal(records.length, 2000);
  for (const name of [...names, 'main']) {
    const own = records.map(({ value }) => value).filter((value) => value.startsWith(`${name}.`));
    assert.deepEqual(own, Array.from({ length: 500 }, (_, i) => `${name}.${i}`));
  }
});

/** The names of this process's threads that belong to librdkafka or to us. */
function threads() {
  return fs
    .readdirSync('/proc/self/task')
    .map((task) => {
      try {
        return fs.readFileSync(`/proc/self/task/${task}/comm`, 'utf8').trim();
      } catch {
        return ''; // It has just ended.
      }
    })
    .filter((name) => /^(rdk:|direct|group)/.test(name));
}

test('a worker that is terminated takes its threads with it', async () => {
  await eventually('quiet after the other tests', () => threads().length === 0);
  const one = worker(
    `
    const producers = [1, 2, 3].map(() => new kafka.Producer({ broker: '127.0.0.1:1', logger: quiet }));
    for (const producer of producers) {
      producer.send('t', 0, Array(1000).fill('x'));
      producer.produce('t', 0, ['y']).catch(() => {});
    }
    parentPort.postMessage('ready');
    `,
  );
  await once(one, 'message');
  // Threads name themselves.
  await eventually('its threads', () => threads().length >= 6);
  const began = Date.now();
  await one.terminate();
  // Messages would wait for five minutes.
  assert.ok(Date.now() - began < 60_000, `${Date.now() - began} ms`);
  // Who has been joined is listed for a moment more.
  await eventually('its threads have ended', () => threads().length === 0);
});

test('a worker that is terminated leaves its groups, and takes their threads with it', async () => {
  await eventually('quiet after the other tests', () => threads().length === 0);
  const topic = await newTopic(1);
  const producer = new Producer({ broker, logger: quiet });
  await producer.produce(topic, 0, ['x', 'y']);
  await producer.stop();
  const one = worker(
    `
    const options = { broker, topics: [workerData], group_id: workerData, logger: quiet };
    const batches = kafka.consume({ ...options, max_messages_per_callback: 1 });
    batches.next().then(({ value }) => {
      value.done();
      // Stored, and committed no sooner than in five seconds, or at the end.
      setImmediate(() => parentPort.postMessage('ready'));
    });
    `,
    topic,
  );
  await once(one, 'message');
  assert.ok(threads().length > 0);
  await one.terminate();
  await eventually('its threads have ended', () => threads().length === 0);
  const batches = consume({ broker, topics: [topic], group_id: topic, logger: quiet });
  const { value } = await batches.next();
  assert.deepEqual(value.messages.map(({ offset }) => offset), [1], 'it was committed');
  await batches.return();
});

for (const [what, command] of [['is gone', 'kill'], ['says nothing', 'pause']]) {
  test(`a worker that is terminated does not wait long for a broker that ${what}`, async () => {
    const kafka = await startKafka();
    await kafka.run('topic', 't', 1);
    const { broker } = kafka;
    const own = new Producer({ broker, logger: quiet });
    await own.produce('t', 0, ['x']);
    await own.stop();
    // So that what is left behind ends before long.
    const driver_options = { 'socket.timeout.ms': 15_000 };
    const options = { broker, topics: ['t'], driver_options };
    const patient = consume({ ...options, logger: quiet, group_id: 'patient' });
    (await patient.next()).value.done();
    const one = worker(
      `
      const batches = kafka.consume({ ...workerData, group_id: 'hasty', logger: quiet });
      batches.next().then(({ value }) => {
        value.done();
        parentPort.postMessage('ready');
      });
      `,
      options,
    );
    await once(one, 'message');
    await kafka.run(command);
    // That waits ten seconds for an answer.
    let isOver = false;
    const leaving = patient.return().finally(() => (isOver = true));
    await one.terminate();
    assert.ok(!isOver);
    await leaving;
    await kafka.run(command === 'kill' ? 'start' : 'resume');
    const isOurs = (name) => !name.startsWith('direct');
    await eventually('what was left behind has ended', () => !threads().some(isOurs), 120_000);
    await kafka.end();
  });
}

test('a program may end in the middle of everything', async () => {
  for (let round = 0; round < 5; round++) {
    const ended = await program(`
      const producer = new kafka.Producer({ broker, logger: quiet });
      producer.send('ending', 0, Array(10000).fill('x'));
      producer.produce('ending', 0, Array(10000).fill('x')).catch(() => {});
      setTimeout(() => process.exit(7), ${round * 10});
    `);
    assert.deepEqual([ended.code, ended.signal], [7, null], ended.stderr);
  }
});

test('workers of a cluster produce', async () => {
  const topic = await newTopic(1);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'barnabas-cluster-'));
  const file = path.join(folder, 'program.js');
  fs.writeFileSync(
    file,
    `${HEAD}
    const cluster = require('node:cluster');
    if (cluster.isPrimary) {
      const own = new kafka.Producer({ broker, logger: quiet });
      own.send('${topic}', 0, ['primary']);
      for (let i = 0; i < 3; i++) cluster.fork();
      let ended = 0;
      cluster.on('exit', (one, code) => {
        if (code !== 0) process.exit(1);
        if (++ended === 3) own.stop({ max_tries: -1 });
      });
    } else {
      const producer = new kafka.Producer({ broker, logger: quiet });
      producer.send('${topic}', 0, ['worker']);
      producer.stop({ max_tries: -1 }).then(() => process.disconnect());
    }
    `,
  );
  const ended = await run(process.execPath, [file]);
  assert.deepEqual([ended.code, ended.signal], [0, null], ended.stderr);
  const records = await read(topic);
  assert.deepEqual(records.map(({ value }) => value).sort(), ['primary', 'worker', 'worker', 'worker']);
  fs.rmSync(folder, { recursive: true });
});

test('a hundred producers leave nothing behind', async () => {
  const topic = await newTopic(1);
  const text = `${HEAD}
    const fs = require('node:fs');
    const count = (folder) => fs.readdirSync('/proc/self/' + folder).length;
    const closed = async () => {
      // A client is closed beside the event loop.
      const names = () => fs.readdirSync('/proc/self/task').map((task) => {
        try { return fs.readFileSync('/proc/self/task/' + task + '/comm', 'utf8'); } catch { return ''; }
      });
      while (names().some((name) => /^(rdk:|direct)/.test(name))) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    };
    async function cycles(number) {
      for (let i = 0; i < number; i++) {
        const producer = new kafka.Producer({ broker, logger: quiet, queue_buffering_max_ms: 1, stats_callback() {} });
        producer.send('${topic}', 0, ['x', 'y']);
        await producer.produce('${topic}', 0, ['z']);
        await producer.stop();
      }
      await closed();
      gc();
      await new Promise((resolve) => setTimeout(resolve, 20));
      gc();
      return { threads: count('task'), files: count('fd'), memory: process.memoryUsage.rss() };
    }
    (async () => {
      // Allocators and compilers keep what the first rounds have taken.
      await cycles(30);
      const states = [await cycles(20)];
      while (states.length < 4) states.push(await cycles(100));
      console.log(JSON.stringify(states));
    })();
    `;
  const ended = await run(process.execPath, ['--expose-gc', '-e', text], { env: frugal });
  assert.equal(ended.code, 0, ended.stderr);
  leavesNothing(JSON.parse(ended.stdout));
});
