'use strict';

const { spawn } = require('node:child_process');
const { eventually } = require('./eventually');

/** A program that runs until it is told to end. */
function started(args, options) {
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'pipe'], ...options });
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (data) => (output.stdout += data));
  child.stderr.on('data', (data) => (output.stderr += data));
  const ended = new Promise((resolve) =>
    child.on('close', (code, signal) => resolve({ code, signal, ...output })),
  );
  return {
    child,
    output,
    ended,
    /** The match of a pattern in what it has written, when it is there. */
    async says(pattern) {
      const found = () => output.stdout.match(pattern);
      const lost = () => child.exitCode !== null && !found();
      await eventually(`${pattern}`, () => found() || lost(), 60_000).catch((error) => {
        throw new Error(`${error.message}; it said: ${output.stdout}${output.stderr}`);
      });
      if (!found()) {
        throw new Error(`it ended without ${pattern}: ${output.stdout}${output.stderr}`);
      }
      return found();
    },
    interrupt() {
      child.kill('SIGINT');
      return ended;
    },
  };
}

module.exports = { started };
