'use strict';

// One measured run of one client: `node client.js CLIENT WHAT BROKER TOPIC COUNT
// [RATE]`; ours can be held to so many messages a second while consuming.
// Prints one line of JSON. The clock of producing stops with the last
// acknowledgement, that of consuming with the last message whose offset has
// been handed to the client.

const { monitorEventLoopDelay } = require('node:perf_hooks');
const { setTimeout: sleep } = require('node:timers/promises');

const BATCH = 1000;
const PARTITIONS = 4;
/** Not counted, so that connections, buffers and compilers are there. */
const WARM_UP = 10;

/** 100 random ASCII bytes, of which many are made beforehand. */
const PAYLOADS = Array.from({ length: BATCH }, () =>
  Array.from({ length: 100 }, () => String.fromCharCode(33 + Math.floor(Math.random() * 90))).join(''),
);

const clients = {
  /** Ours: `send` and the delivery reports, as kafka-native has it. */
  barnabas: {
    produce: (broker) => {
      const { Producer } = require('..');
      let settled = 0;
      let wake = () => {};
      const producer = new Producer({
        broker,
        queue_buffering_max_ms: 5,
        acks: 1,
        driver_options: { 'delivery.report.only.error': 0 },
        delivery_report_callback({ errors, rdkafka_errinfo }) {
          if (rdkafka_errinfo.some(({ errcode }) => errcode !== 0)) {
            throw new Error('messages were lost');
          }
          settled += errors;
          wake();
        },
      });
      let sent = 0;
      return {
        async send(topic, partition, payloads) {
          let left = payloads;
          for (;;) {
            const { enqueued } = producer.send(topic, partition, left);
            sent += enqueued;
            if (enqueued === left.length) {
              return;
            }
            left = left.slice(enqueued);
            await new Promise((resolve) => (wake = resolve));
          }
        },
        async flushed() {
          while (settled < sent) {
            await new Promise((resolve) => (wake = resolve));
          }
        },
        stop: () => producer.stop(),
      };
    },
    consume(broker, topic, count, done, rate = Infinity) {
      const { Consumer } = require('..');
      const directory = require('node:fs').mkdtempSync(`${require('node:os').tmpdir()}/barnabas-bench-`);
      let seen = 0;
      let sum = 0;
      let begun;
      const consumer = new Consumer({
        broker,
        topic,
        offset_directory: directory,
        receive_callback({ messages }) {
          for (let i = 0; i < messages.length; i++) {
            sum += messages[i].payload.length;
          }
          seen += messages.length;
          if (seen >= count) {
            done(seen, sum);
            return;
          }
          begun ??= performance.now();
          const early = (seen / rate) * 1000 - (performance.now() - begun);
          if (early > 0) {
            consumer.pause();
            setTimeout(() => consumer.resume(), early);
          }
        },
      });
      consumer.start();
      return async () => {
        await consumer.stop();
        require('node:fs').rmSync(directory, { recursive: true });
      };
    },
  },

  'node-rdkafka': {
    produce: async (broker) => {
      const { HighLevelProducer, Producer } = require('node-rdkafka');
      void HighLevelProducer;
      let settled = 0;
      let wake = () => {};
      const producer = new Producer({
        'metadata.broker.list': broker,
        'queue.buffering.max.ms': 5,
        'queue.buffering.max.messages': 500000,
        'request.required.acks': 1,
        dr_cb: true,
      });
      producer.on('delivery-report', (error) => {
        if (error) {
          throw error;
        }
        settled += 1;
        wake();
      });
      producer.connect();
      await new Promise((resolve) => producer.once('ready', resolve));
      producer.setPollInterval(5);
      let sent = 0;
      return {
        async send(topic, partition, payloads) {
          for (const payload of payloads) {
            for (;;) {
              try {
                // It takes Buffers only; a program that has strings makes them.
                producer.produce(topic, partition, Buffer.from(payload));
                break;
              } catch (error) {
                if (error.code !== -184) {
                  throw error;
                }
                await new Promise((resolve) => (wake = resolve));
              }
            }
          }
          sent += payloads.length;
        },
        async flushed() {
          while (settled < sent) {
            await new Promise((resolve) => (wake = resolve));
          }
        },
        stop: () => new Promise((resolve) => producer.disconnect(resolve)),
      };
    },
    consume(broker, topic, count, done) {
      const { KafkaConsumer } = require('node-rdkafka');
      let seen = 0;
      let sum = 0;
      const consumer = new KafkaConsumer(
        { 'metadata.broker.list': broker, 'group.id': `bench-${process.pid}` },
        { 'auto.offset.reset': 'earliest' },
      );
      const next = () => {
        consumer.consume(BATCH, (error, messages) => {
          if (error) {
            throw error;
          }
          for (const { value } of messages) {
            sum += value.toString().length;
          }
          seen += messages.length;
          if (seen >= count) {
            done(seen, sum);
          } else {
            setImmediate(next);
          }
        });
      };
      consumer.on('ready', () => {
        consumer.subscribe([topic]);
        next();
      });
      consumer.connect();
      return () => new Promise((resolve) => consumer.disconnect(resolve));
    },
  },

  kafkajs: {
    produce: async (broker) => {
      const { Kafka, logLevel } = require('kafkajs');
      const producer = new Kafka({ brokers: [broker], logLevel: logLevel.NOTHING }).producer();
      await producer.connect();
      const open = new Set();
      return {
        async send(topic, partition, payloads) {
          const messages = payloads.map((value) => ({ value, partition }));
          const call = producer.sendBatch({ acks: 1, topicMessages: [{ topic, messages }] });
          open.add(call);
          call.finally(() => open.delete(call));
          if (open.size >= 8) {
            await Promise.race(open);
          }
        },
        flushed: () => Promise.all(open),
        stop: () => producer.disconnect(),
      };
    },
    consume(broker, topic, count, done) {
      const { Kafka, logLevel } = require('kafkajs');
      const consumer = new Kafka({ brokers: [broker], logLevel: logLevel.NOTHING }).consumer({
        groupId: `bench-${process.pid}`,
      });
      let seen = 0;
      let sum = 0;
      (async () => {
        await consumer.connect();
        await consumer.subscribe({ topics: [topic], fromBeginning: true });
        await consumer.run({
          async eachBatch({ batch }) {
            for (const { value } of batch.messages) {
              sum += value.toString().length;
            }
            seen += batch.messages.length;
            if (seen >= count) {
              done(seen, sum);
            }
          },
        });
      })();
      return () => consumer.disconnect();
    },
  },
};

/** What is used between two moments. */
function meter() {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const begun = process.hrtime.bigint();
  const before = process.resourceUsage();
  return () => {
    const seconds = Number(process.hrtime.bigint() - begun) / 1e9;
    const after = process.resourceUsage();
    delay.disable();
    return {
      seconds,
      cpu_us: after.userCPUTime + after.systemCPUTime - before.userCPUTime - before.systemCPUTime,
      rss_mb: after.maxRSS / 1024,
      delay_p99_ms: delay.percentile(99) / 1e6,
    };
  };
}

async function produce(client, broker, topic, count) {
  const producer = await client.produce(broker);
  const send = async (messages) => {
    for (let sent = 0; sent < messages; sent += BATCH) {
      await producer.send(topic, (sent / BATCH) % PARTITIONS, PAYLOADS);
      // Reports need the event loop, as in a program that does something else.
      if ((sent / BATCH) % 4 === 0) {
        await new Promise(setImmediate);
      }
    }
    await producer.flushed();
  };
  await send(Math.max(BATCH, Math.floor(count / WARM_UP / BATCH) * BATCH));
  const end = meter();
  await send(count);
  const figures = end();
  await producer.stop();
  return { count, ...figures };
}

async function consume(client, broker, topic, count, rate) {
  const end = meter();
  let stop;
  const result = await new Promise((resolve) => {
    stop = client.consume(broker, topic, count, (seen, sum) => resolve({ count: seen, sum }), rate);
  });
  const figures = end();
  await stop();
  return { ...result, ...figures };
}

/** One message every 20 ms, from `send` to its callback. */
async function latency(broker, topic, count) {
  const { Consumer, Producer } = require('..');
  const directory = require('node:fs').mkdtempSync(`${require('node:os').tmpdir()}/barnabas-bench-`);
  const producer = new Producer({ broker, acks: 1, queue_buffering_max_ms: 1 });
  const times = [];
  let ready;
  const first = new Promise((resolve) => (ready = resolve));
  const consumer = new Consumer({
    broker,
    topic,
    offset_directory: directory,
    receive_callback({ messages }) {
      for (const { payload } of messages) {
        if (payload === 'first') {
          ready();
        } else {
          times.push(performance.now() - Number(payload));
        }
      }
    },
  });
  await consumer.start();
  producer.send(topic, 0, ['first']);
  await first;
  for (let i = 0; i < count; i++) {
    producer.send(topic, 0, [String(performance.now())]);
    await sleep(20);
  }
  while (times.length < count) {
    await sleep(20);
  }
  await producer.stop();
  await consumer.stop();
  require('node:fs').rmSync(directory, { recursive: true });
  times.sort((a, b) => a - b);
  return { count, p50_ms: times[count >> 1], p99_ms: times[Math.floor(count * 0.99)] };
}

async function main([name, what, broker, topic, number, rate]) {
  const count = Number(number);
  const client = clients[name];
  const run = {
    produce: () => produce(client, broker, topic, count),
    consume: () => consume(client, broker, topic, count, rate && Number(rate)),
    latency: () => latency(broker, topic, count),
  };
  console.log(JSON.stringify(await run[what]()));
  // kafkajs keeps timers.
  process.exit(0);
}

main(process.argv.slice(2));
