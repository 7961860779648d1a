'use strict';

// Handles that are no librdkafka, so that tests say exactly what comes.

const { quiet } = require('./eventually');

/** A class for `raw_consumer`, and its last instance as `Fake.last`. */
function fakeHandle() {
  return class Fake {
    constructor(options) {
      Fake.last = this;
      this.options = options;
      this.calls = [];
    }

    start(offsets) {
      this.calls.push(['start', offsets]);
    }

    add(offsets) {
      this.calls.push(['add', offsets]);
    }

    pause() {
      this.calls.push(['pause']);
    }

    resume() {
      this.calls.push(['resume']);
    }

    stop() {
      this.calls.push(['stop']);
    }

    /** Hands over messages of `[partition, offset]`. */
    receive(...places) {
      const messages = places.map(([partition, offset]) => ({ topic: 'T', partition, offset }));
      this.options.recv_cb(messages, []);
    }
  };
}

/** A class for `offset_manager` that begins with `stored` and notes commits. */
function fakeOffsets(stored = {}) {
  return class Offsets {
    static commits = [];
    static current = { ...stored };

    async read(partitions) {
      return partitions.map((id) => Offsets.current[id] ?? -1);
    }

    async commit(map) {
      if (map) {
        Offsets.commits.push({ ...map });
        Object.assign(Offsets.current, map);
      }
    }
  };
}

/** Options of a consumer of topic T with these fakes and two partitions. */
function fakes(options = {}, stored = {}) {
  const Handle = fakeHandle();
  const Offsets = fakeOffsets(stored);
  return {
    Handle,
    Offsets,
    options: {
      broker: 'nowhere:1',
      topic: 'T',
      logger: quiet,
      raw_consumer: Handle,
      offset_manager: Offsets,
      fetch_partition_count: async () => 2,
      receive_callback() {},
      ...options,
    },
  };
}

module.exports = { fakes };
