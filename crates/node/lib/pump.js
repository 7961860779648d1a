'use strict';

/**
 * Hands batches over, in order and each in a turn of its own; a large one is
 * made in several turns, so that timers and other callbacks come in between.
 */
class Pump {
  /**
   * `make(batch)` begins to make its messages; `deliver(batch, list)` hands
   * them over; `idle()` is told that nothing waits.
   */
  constructor({ make, deliver, idle = () => {} }) {
    this._make = make;
    this._deliver = deliver;
    this._idle = idle;
    this._batches = [];
    // The batch of which messages are being made.
    this._current = undefined;
    this._is_scheduled = false;
    this._is_paused = false;
    this._is_closed = false;
  }

  /** Messages that are not handed over. */
  get held() {
    const waiting = this._batches.reduce((sum, { partitions }) => sum + partitions.length, 0);
    return waiting + (this._current?.messages.count ?? 0);
  }

  put(batches) {
    if (!this._is_closed) {
      this._batches.push(...batches);
      this._turn();
    }
  }

  /** Nothing is handed over until `resume`. */
  pause() {
    this._is_paused = true;
  }

  /** Goes on with what was held; not within this call. */
  resume() {
    if (this._is_paused) {
      this._is_paused = false;
      this._later();
    }
  }

  /** What was not handed over is dropped. */
  close() {
    this._is_closed = true;
    this._batches = [];
    this._current = undefined;
  }

  _later() {
    if (!this._is_scheduled) {
      this._is_scheduled = true;
      setImmediate(() => {
        this._is_scheduled = false;
        this._turn();
      });
    }
  }

  _turn() {
    if (this._is_scheduled || this._is_paused || this._is_closed) {
      return;
    }
    if (!this._current) {
      const batch = this._batches.shift();
      if (!batch) {
        this._idle();
        return;
      }
      this._current = { batch, messages: this._make(batch) };
    }
    const { batch, messages } = this._current;
    // Before somebody else's code is called, which may come back here.
    this._later();
    if (messages.advance()) {
      this._current = undefined;
      this._deliver(batch, messages.list);
    }
  }
}

module.exports = Pump;
