'use strict';

// Programs that run in a process of their own.

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

module.exports = { HEAD, PACKAGE, program, run };
