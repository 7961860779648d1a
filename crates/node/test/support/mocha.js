'use strict';

// The words of mocha that kafka-native's checks are written in, by Node's own
// runner.

const { test, suite } = require('node:test');

/** `this` of a check: its time limit is the whole run's. */
const context = { timeout() {} };

globalThis.describe = (name, body) => suite(name, () => body.call(context));

globalThis.it = (name, body) =>
  test(name, () => {
    if (body.length === 0) {
      return body.call(context);
    }
    return new Promise((resolve, reject) => {
      body.call(context, (error) => (error ? reject(error) : resolve()));
    });
  });
