'use strict';

/**
 * Decides which batches may be handed over now: none while paused, none beyond
 * the limit of open ones, none of partitions whose earlier batch is to be
 * tried again.
 */
class Gate {
  /**
   * `deliver(batch)` is called for each that may pass. `hold(is_held)` is told
   * when no more should come, and when they may again. `most` messages are in
   * what is made of batches that were held back.
   */
  constructor({ limit, most, most_held: mostHeld, deliver, hold }) {
    this._limit = limit;
    this._most = most;
    this._most_held = mostHeld;
    this._deliver = deliver;
    this._hold = hold;
    this._is_held = false;
    this._is_paused = false;
    this._is_closed = false;
    this._open = 0;
    this._waiting = [];
    this._retries = [];
    // By partition: how many batches are tried again, and what waits for that.
    this._blocked = new Map();
    this._blocked_messages = 0;
    this._starts = undefined;
    this._is_scheduled = false;
  }

  /** Whether something has come that was not delivered. */
  get has_waiting() {
    return this._waiting.length > 0;
  }

  /** Takes what has come. */
  put(batch) {
    this._starts = batch.starts;
    this._waiting.push(batch);
    this._run();
  }

  pause() {
    this._is_paused = true;
    this._tell();
  }

  resume() {
    this._is_paused = false;
    this._go_on();
  }

  /** A batch that was delivered is over. */
  done() {
    this._open -= 1;
    this._go_on();
  }

  /** What waits is dropped; nothing passes any more. */
  close() {
    this._is_closed = true;
    this._waiting = [];
    this._retries = [];
    this._blocked.clear();
    this._blocked_messages = 0;
  }

  /** Holds later batches of partitions back. */
  block(partitions) {
    for (const id of partitions) {
      const entry = this._blocked.get(id) ?? { batches: 0, messages: [] };
      entry.batches += 1;
      this._blocked.set(id, entry);
    }
  }

  /** The end of that: what was held back comes next. */
  unblock(partitions) {
    const messages = [];
    for (const id of partitions) {
      const entry = this._blocked.get(id);
      if (entry && --entry.batches === 0) {
        this._blocked.delete(id);
        this._blocked_messages -= entry.messages.length;
        for (const message of entry.messages) {
          messages.push(message);
        }
      }
    }
    const parts = [];
    for (let from = 0; from < messages.length; from += this._most) {
      parts.push({ messages: messages.slice(from, from + this._most), starts: this._starts });
    }
    this._waiting = parts.concat(this._waiting);
    this._go_on();
  }

  /** Calls `retry` as soon as nothing is paused; it counts as open already. */
  retry(retry) {
    this._retries.push(retry);
    this._go_on();
  }

  /** Delivers in a turn of its own, never inside of a user's call. */
  _go_on() {
    if (this._waiting.length === 0 && this._retries.length === 0) {
      this._tell();
    } else if (!this._is_scheduled) {
      this._is_scheduled = true;
      setImmediate(() => {
        this._is_scheduled = false;
        this._run();
      });
    }
  }

  _run() {
    while (!this._is_paused && !this._is_closed) {
      if (this._retries.length > 0) {
        this._retries.shift()();
        continue;
      }
      if (this._open >= this._limit || this._waiting.length === 0) {
        break;
      }
      const batch = this._split(this._waiting.shift());
      if (batch) {
        this._open += 1;
        this._deliver(batch);
      }
    }
    this._tell();
  }

  /** Without what is held back; undefined if nothing is left. */
  _split(batch) {
    if (this._blocked.size === 0) {
      return batch;
    }
    const messages = batch.messages.filter((message) => {
      const entry = this._blocked.get(message.partition);
      entry?.messages.push(message);
      return entry === undefined;
    });
    this._blocked_messages += batch.messages.length - messages.length;
    return messages.length > 0 ? { ...batch, messages } : undefined;
  }

  _tell() {
    const isHeld =
      this._is_paused ||
      this._open >= this._limit ||
      this._waiting.length > 0 ||
      this._blocked_messages >= this._most_held;
    if (isHeld !== this._is_held && !this._is_closed) {
      this._is_held = isHeld;
      this._hold(isHeld);
    }
  }
}

module.exports = Gate;
