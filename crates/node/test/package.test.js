'use strict';

// What is published, and how it is found (contract: B14, Packaging).

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const test = require('node:test');
const { pack, problemsOfRoot } = require('../scripts/pack');
const { PLATFORMS, files, optionalDependencies } = require('../scripts/platforms');
const { platformName } = require('../lib/platform');
const thirdParty = require('../scripts/third-party');
const { PACKAGE, run } = require('./support/programs');
const { started } = require('./support/started');
const { broker } = require('./support/kafka');

const own = require('../package.json');

function folder() {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'barnabas-package-'));
}

test('the root package holds what it should', () => {
  assert.deepEqual(problemsOfRoot(PACKAGE), []);
  assert.deepEqual(
    [own.main, own.types, own.license, own.gypfile],
    ['index.js', 'index.d.ts', 'Apache-2.0', undefined],
  );
  assert.deepEqual(Object.keys(own.dependencies), ['@types/bluebird', 'bluebird']);
  for (const script of ['install', 'preinstall', 'postinstall']) {
    assert.equal(own.scripts[script], undefined);
  }
});

test('what is in a package by mistake is noticed', () => {
  const copy = folder();
  for (const file of ['package.json', 'index.js', 'README.md', 'LICENSE']) {
    fs.copyFileSync(path.join(PACKAGE, file), path.join(copy, file));
  }
  fs.mkdirSync(path.join(copy, 'example'));
  fs.writeFileSync(path.join(copy, 'example', 'secret.key'), 'x');
  const problems = problemsOfRoot(copy);
  assert.ok(problems.includes('example/secret.key does not belong there'));
  assert.ok(problems.includes('MIGRATION.md is missing'));
  fs.rmSync(copy, { recursive: true });
});

test('the platforms’ packages are what the script writes', () => {
  assert.deepEqual(Object.keys(PLATFORMS).sort(), [...own.napi.targets].sort());
  for (const [target, { name }] of Object.entries(PLATFORMS)) {
    for (const [file, text] of Object.entries(files(target))) {
      assert.equal(fs.readFileSync(path.join(PACKAGE, 'npm', name, file), 'utf8'), text);
    }
  }
  assert.equal(Object.keys(optionalDependencies()).length, 7);
  assert.equal(optionalDependencies()['barnabas-kafka-linux-arm64-musl'], own.version);
});

test('the list of what is linked is up to date', () => {
  const text = fs.readFileSync(path.join(PACKAGE, 'THIRD-PARTY.md'), 'utf8');
  assert.equal(text, thirdParty.text(), 'run node scripts/third-party.js');
});

test('finding the platform looks up no names of the network', (t) => {
  const { report } = process;
  const { excludeNetwork } = report;
  const { getReport } = report;
  const during = [];
  t.mock.method(report, 'getReport', () => {
    during.push(report.excludeNetwork);
    return getReport.call(report);
  });
  assert.match(platformName(), new RegExp(`^${process.platform}-${process.arch}`));
  assert.deepEqual(during, process.platform === 'linux' ? [true] : []);
  assert.equal(report.excludeNetwork, excludeNetwork);
});

test('a platform without a binary is told what to install', async () => {
  const copy = folder();
  for (const file of ['native.js', 'platform.js']) {
    fs.copyFileSync(path.join(PACKAGE, 'lib', file), path.join(copy, file));
  }
  const load = (prepare) =>
    run(process.execPath, ['-e', `${prepare}; require(${JSON.stringify(path.join(copy, 'native.js'))})`], {
      cwd: copy,
      env: { PATH: process.env.PATH },
    });
  const here = await load('');
  assert.equal(here.code, 1);
  const name = `barnabas-kafka-${platformName()}`;
  assert.match(here.stderr, new RegExp(`platform ${process.platform}, arch ${process.arch}, libc .*install the package ${name}`));
  const elsewhere = await load('Object.defineProperty(process, "platform", { value: "aix" })');
  assert.match(elsewhere.stderr, /platform aix, arch .*there is no package barnabas-kafka-aix/);
  fs.rmSync(copy, { recursive: true });
});

test('deep paths resolve with and without their ending, in both kinds of module', async () => {
  const copy = folder();
  fs.mkdirSync(path.join(copy, 'node_modules'));
  fs.symlinkSync(PACKAGE, path.join(copy, 'node_modules', 'barnabas-kafka'));
  const program = path.join(copy, 'program.mjs');
  fs.writeFileSync(
    program,
    `
    import { createRequire } from 'node:module';
    import kafka, { Consumer, Errors, Producer, consume } from 'barnabas-kafka';
    import { Producer as deep } from 'barnabas-kafka/lib/producer';
    import { Producer as deeper } from 'barnabas-kafka/lib/producer.js';
    import common, { fetch_metadata } from 'barnabas-kafka/lib/common';
    import OffsetDirectory from 'barnabas-kafka/lib/offsetdirectory';
    import { Consumer as reader, OffsetDirectory as own } from 'barnabas-kafka/lib/consumer';
    const require = createRequire(import.meta.url);
    const old = require('barnabas-kafka');
    const same = [deep, deeper, kafka.Producer, old.Producer, require('barnabas-kafka/lib/producer').Producer,
      require('barnabas-kafka/lib/producer.js').Producer].every((one) => one === Producer);
    const raw = common.fetch_metadata === fetch_metadata && Errors === require('barnabas-kafka/lib/common.js').Errors;
    const consuming = reader === Consumer && own === OffsetDirectory && consume === old.consume &&
      OffsetDirectory === require('barnabas-kafka/lib/offsetdirectory');
    console.log(same && consuming, raw, require('barnabas-kafka/package.json').name);
    `,
  );
  const { stdout, stderr } = await run(process.execPath, [program]);
  assert.equal(stdout, 'true true barnabas-kafka\n', stderr);
  fs.rmSync(copy, { recursive: true });
});

test('the tarballs install without a network, a compiler or scripts, and work', async () => {
  const out = folder();
  const binary = path.join(PACKAGE, 'lib', `barnabas.${platformName()}.node`);
  const tarballs = pack(out, binary);
  for (const name of ['bluebird', '@types/bluebird']) {
    const { code, stderr } = await run('npm', ['pack', path.join(PACKAGE, 'node_modules', name), '--pack-destination', out]);
    assert.equal(code, 0, stderr);
  }
  const others = fs
    .readdirSync(out)
    .filter((file) => /bluebird/.test(file))
    .map((file) => path.join(out, file));
  const program = folder();
  fs.writeFileSync(path.join(program, 'package.json'), '{}');
  // Only Node and what npm itself calls: no compiler, no Python.
  const bin = folder();
  for (const tool of ['node', 'npm', 'sh']) {
    const { stdout } = await run('sh', ['-c', `command -v ${tool}`]);
    fs.symlinkSync(fs.realpathSync(stdout.trim()), path.join(bin, tool));
  }
  const env = { PATH: bin, HOME: program, NODE_KAFKA_NATIVE_BROKER: broker, npm_config_cache: folder() };
  const installed = await run(
    'npm',
    ['install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund', ...tarballs, ...others],
    { cwd: program, env },
  );
  assert.equal(installed.code, 0, installed.stderr);
  fs.writeFileSync(
    path.join(program, 'program.mjs'),
    `
    import { Producer } from 'barnabas-kafka';
    const producer = new Producer({ broker: process.env.NODE_KAFKA_NATIVE_BROKER });
    const topic = 'installed-' + process.pid;
    await producer.partition_count(topic);
    console.log((await producer.produce(topic, 0, ['x']))[0].offset);
    await producer.stop();
    `,
  );
  const ended = await run(process.execPath, ['program.mjs'], { cwd: program, env });
  assert.deepEqual([ended.code, ended.stdout], [0, '0\n'], ended.stderr);
  const simple = path.join('node_modules', 'barnabas-kafka', 'example', 'simple.js');
  const { says, interrupt } = started([simple], { cwd: program, env });
  await says(/message: example/);
  assert.equal((await interrupt()).code, 0);
  for (const one of [out, program, bin, env.npm_config_cache]) {
    fs.rmSync(one, { recursive: true });
  }
});
