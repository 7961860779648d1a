'use strict';

// Programs that run in a process of their own.

const assert = require('node:assert/strict');
const { spawn } = require('node:child_process');
const path = require('node:path');

const PACKAGE = path.join(__dirname, '..', '..');

/** What every program text begins with. */
const HEAD = `
  const kafka = require(${JSON.stringify(PACKAGE)});
  const broker = process.env.NODE_KAFKA_NATIVE_BROKER;
  const quiet = { info() {}, warn() {}, error() {} };
`;

/**
 * Runs a program text, in which `kafka` is the package and `broker` the shared
 * Kafka: `{code, signal, stdout, stderr}`. Options are Node's own.
 */
function program(text, ...options) {
  return run(process.execPath, [...options, '-e', HEAD + text]);
}

function run(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data) => (stdout += data));
  child.stderr.on('data', (data) => (stderr += data));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
}

/** An environment in which threads keep no memory, each for itself. */
const frugal = { ...process.env, MALLOC_ARENA_MAX: '1' };

/**
 * The states `{threads, files, memory}` of a process between equal spells of work have
 * the same threads and files, and no leak: that would be in most spells.
 */
function leavesNothing([before, ...after]) {
  for (const { threads, files } of after) {
    assert.deepEqual([threads, files], [before.threads, before.files]);
  }
  const grown = after.map(({ memory }, index) => memory - [before, ...after][index].memory);
  const median = grown.toSorted((a, b) => a - b)[Math.floor(grown.length / 2)];
  assert.ok(median < 5e6, `it has grown by ${grown}`);
}

module.exports = { HEAD, PACKAGE, frugal, leavesNothing, program, run };
