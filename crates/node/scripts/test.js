'use strict';

// npm test: builds the native part, starts a Kafka that all tests share, and
// runs them. Arguments are files of `test`, or options of `node --test`.

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { build, cargo, root } = require('./build');

async function main(args) {
  console.log(`Node ${process.version}`);
  build();
  const launcher = cargo('build', '-p', 'barnabas-testkit', '--bin', 'testkit-kafka').find((file) =>
    /testkit-kafka(\.exe)?$/.test(file),
  );
  process.env.TESTKIT_KAFKA = launcher;
  const { startKafka } = require('../test/support/kafka');
  const kafka = await startKafka('--auto-create', '--partitions', '2');
  const all = fs.readdirSync(path.join(root, 'test')).filter((file) => file.endsWith('.test.js'));
  const files = args.filter((arg) => !arg.startsWith('-'));
  const options = args.filter((arg) => arg.startsWith('-'));
  const tests = spawn(
    process.execPath,
    [
      '--test',
      '--test-concurrency=2',
      // What a failed test has left open must not keep the others waiting.
      '--test-force-exit',
      '--test-reporter=spec',
      ...options,
      ...(files.length > 0 ? files : all.map((file) => path.join('test', file))),
    ],
    {
      cwd: root,
      stdio: 'inherit',
      env: {
        ...process.env,
        // Also what tests start by name runs on this Node.
        PATH: path.dirname(process.execPath) + path.delimiter + process.env.PATH,
        NODE_KAFKA_NATIVE_BROKER: kafka.broker,
        TESTKIT_CONTROL: kafka.control,
      },
    },
  );
  const code = await new Promise((resolve) => tests.on('exit', (code) => resolve(code ?? 1)));
  await kafka.end();
  return code;
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error) => {
    console.error(error);
    process.exitCode = 1;
  },
);
