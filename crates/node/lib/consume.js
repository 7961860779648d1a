'use strict';

const { Consumer } = require('./consumer');
const { GroupConsumer } = require('./group');

/** Batches that wait while one is worked on, unless the user says otherwise. */
const PREFETCH = 1;

/**
 * Batches as an async iterable: `for await (const batch of consume(options))`.
 *
 * Options are those of `Consumer` without `receive_callback`, and `prefetch`
 * and `signal`; with `group_id` and `topics` it is a member of a group, whose
 * offsets Kafka keeps. A batch has what a callback is given, and `done()`. Asking for
 * the next one marks it done, too; leaving the loop does not.
 */
function consume(options) {
  if (options === null || typeof options !== 'object') {
    throw new TypeError('consume(options): options are no object');
  }
  if (options.receive_callback !== undefined) {
    throw new TypeError('consume(options): batches are iterated, there is no receive_callback');
  }
  return new Batches(options);
}

/** The iterator. Reading begins when the first batch is asked for. */
class Batches {
  constructor(options) {
    this._options = options;
    this._ready = [];
    this._asked = [];
    this._last = undefined;
    this._consumer = undefined;
    this._starting = undefined;
    this._ending = undefined;
    this._is_aborted = false;
    // What it has ended with, until somebody is told.
    this._failure = undefined;
    this._on_abort = () => this._abort();
    if (options.signal?.aborted) {
      this._is_aborted = true;
    } else {
      // Options are judged here.
      this._consumer = this._open();
      options.signal?.addEventListener('abort', this._on_abort, { once: true });
    }
  }

  _open() {
    const options = this._options;
    const Kind = options.group_id === undefined ? Consumer : GroupConsumer;
    const consumer = new Kind({
      ...options,
      max_callbacks_in_flight: (options.prefetch ?? PREFETCH) + 1,
      receive_callback: (info) => this._receive(info),
    });
    consumer._on_fatal = (error) => this._fail(error);
    return consumer;
  }

  /** A promise that `done` settles, which is what the consumer waits for. */
  _receive(info) {
    return new Promise((resolve) => {
      this._ready.push({ ...info, done: resolve.bind(undefined, undefined) });
      this._serve();
    });
  }

  _serve() {
    while (this._asked.length > 0 && this._ready.length > 0 && !this._ending) {
      const batch = this._ready.shift();
      this._last = batch;
      this._asked.shift().resolve({ value: batch, done: false });
    }
  }

  next() {
    this._last?.done();
    this._last = undefined;
    if (this._is_aborted || this._ending) {
      return this._over();
    }
    const asked = new Promise((resolve, reject) => {
      this._asked.push({ resolve, reject });
    });
    if (this._starting === undefined) {
      this._starting = this._consumer.start();
      this._starting.catch((error) => this._fail(error));
    }
    this._serve();
    return asked;
  }

  /** Ends it: what is not done comes again next time. */
  async return(value) {
    this._ending ??= this._end();
    await this._ending;
    return { value, done: true };
  }

  /** The answer to whoever asks on. */
  async _over() {
    const failure = this._failure;
    this._failure = undefined;
    const end = this.return();
    if (failure) {
      await end.catch(() => {});
      throw failure;
    }
    return end;
  }

  async throw(error) {
    await this.return();
    throw error;
  }

  async _end() {
    this._options.signal?.removeEventListener('abort', this._on_abort);
    this._ready = [];
    this._last = undefined;
    for (const { resolve } of this._asked.splice(0)) {
      resolve({ value: undefined, done: true });
    }
    // What was done in this turn is committed before the end.
    await new Promise((resolve) => setImmediate(resolve));
    await this._consumer?.[Symbol.asyncDispose]();
  }

  _abort() {
    this._is_aborted = true;
    // Whoever works on a batch is waited for, so that it can be marked done.
    if (this._asked.length > 0) {
      const asked = this._asked.splice(0);
      const ended = this.return();
      for (const { resolve, reject } of asked) {
        ended.then(resolve, reject);
      }
    } else if (this._starting === undefined) {
      // Perhaps nobody will ever ask; whoever does is told what this has failed with.
      this.return().catch(() => {});
    }
  }

  /** Nothing more will come: whoever asks is told why, now or next. */
  _fail(error) {
    if (this._ending) {
      return;
    }
    const asked = this._asked.splice(0);
    this._failure = asked.length > 0 ? undefined : error;
    const ended = this.return().catch(() => {});
    for (const { reject } of asked) {
      ended.then(() => reject(error));
    }
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  async [Symbol.asyncDispose]() {
    await this.return();
  }
}

module.exports = { consume };
