'use strict';

// The Kafka of the tests: `testkit-kafka`, which takes commands line by line.

const { spawn } = require('node:child_process');
const net = require('node:net');
const readline = require('node:readline');

/** Answers of a launcher in the order of the commands. */
class Commands {
  constructor(lines, write) {
    this._lines = lines[Symbol.asyncIterator]();
    this._write = write;
    this._last = Promise.resolve();
  }

  /** The next line that is no answer. */
  async line() {
    const { value, done } = await this._lines.next();
    if (done) {
      throw new Error('Kafka has ended');
    }
    return value;
  }

  /** Runs a command of `testkit-kafka`; resolves to what it answers. */
  run(...words) {
    const answered = this._last.then(async () => {
      this._write(`${words.join(' ')}\n`);
      const answer = await this.line();
      if (answer.startsWith('error')) {
        throw new Error(`${words.join(' ')}: ${answer}`);
      }
      return answer === 'ok' ? undefined : JSON.parse(answer.slice('ok '.length));
    });
    // What one was refused says nothing of the next one.
    this._last = answered.catch(() => {});
    return answered;
  }
}

/** A Kafka of one's own, for tests that stop it: `{broker, run, end}`. */
async function startKafka(...args) {
  const child = spawn(process.env.TESTKIT_KAFKA, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const commands = new Commands(readline.createInterface({ input: child.stdout }), (line) =>
    child.stdin.write(line),
  );
  const broker = (await commands.line()).split(' ')[1];
  const control = (await commands.line()).split(' ')[1];
  const ended = new Promise((resolve) => child.on('exit', resolve));
  return {
    broker,
    control,
    run: (...words) => commands.run(...words),
    end: () => {
      child.stdin.end();
      return ended;
    },
  };
}

let control;
let waiting = 0;

/** Runs a command on the Kafka that all tests share. */
function run(...words) {
  if (!control) {
    const [host, port] = process.env.TESTKIT_CONTROL.split(':');
    const socket = net.connect(Number(port), host);
    const input = readline.createInterface({ input: socket });
    control = new Commands(input, (line) => socket.write(line));
    control.socket = socket;
  }
  // It keeps a test alive only while somebody waits for an answer.
  waiting += 1;
  control.socket.ref();
  return control.run(...words).finally(() => {
    waiting -= 1;
    if (waiting === 0) {
      control.socket.unref();
    }
  });
}

let topics = 0;

/** A new topic of that many partitions on the shared Kafka. */
async function newTopic(partitions = 2, ...properties) {
  const name = `node-${process.pid}-${topics++}`;
  await run('topic', name, partitions, ...properties);
  return name;
}

/** All records of a topic on the shared Kafka, with text for bytes. */
async function read(topic, from = run) {
  const text = (hex) => (hex === null ? null : Buffer.from(hex, 'hex').toString());
  const records = await from('read', topic);
  return records.map((record) => ({
    ...record,
    key: text(record.key),
    value: text(record.value),
    headers: record.headers.map(([name, value]) => [name, text(value)]),
  }));
}

module.exports = {
  /** The address of the shared Kafka. */
  get broker() {
    return process.env.NODE_KAFKA_NATIVE_BROKER;
  },
  newTopic,
  read,
  run,
  startKafka,
};
