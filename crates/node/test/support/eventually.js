'use strict';

const { setTimeout: sleep } = require('node:timers/promises');

/** Looks until `condition` holds; a test that waits in vain says for what. */
async function eventually(what, condition, limit = 30_000) {
  const deadline = Date.now() + limit;
  for (;;) {
    const found = await condition();
    if (found) {
      return found;
    }
    if (Date.now() > deadline) {
      throw new Error(`in vain: ${what}`);
    }
    await sleep(10);
  }
}

const quiet = { info() {}, warn() {}, error() {} };

module.exports = { eventually, quiet };
