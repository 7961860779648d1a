'use strict';

const path = require('node:path');
const util = require('node:util');
const Bluebird = require('bluebird');
const native = require('./native');
const { required } = require('./options');

/**
 * The last processed offset of each partition of a topic, a file for each.
 * Everything goes through the methods that begin with `_`, which may be
 * overridden.
 */
class OffsetDirectory {
  constructor(options) {
    required(options, ['topic', 'offset_directory']);
    this.options = options;
    this.directory = String(options.offset_directory);
    this.topic = String(options.topic);
    this._native = new native.NativeOffsets(this.directory, this.topic);
    this._wanted = {};
    this._running = undefined;
    this._next = undefined;
  }

  /** The offsets in the order of the partitions; -1: none. */
  read(partitions) {
    const ids = Array.from(partitions, Number);
    if (this._is_plain('_filename', '_read_one')) {
      return Bluebird.resolve(this._native.read(ids)).then(offsets);
    }
    return Bluebird.try(() => Bluebird.all(ids.map((id) => this._read_one(id))));
  }

  /**
   * Stores the last processed offset of each partition. One pass runs at a
   * time; what is asked for meanwhile goes into the next one together. Without
   * an argument: resolves when all that was asked for is on disk.
   */
  commit(map) {
    if (map !== undefined && map !== null) {
      Object.assign(this._wanted, map);
      return this._join();
    }
    if (this._next) {
      return this._join();
    }
    const running = this._running ?? Bluebird.resolve();
    // What a pass has failed to write is tried once more.
    const last = () => (Object.keys(this._wanted).length > 0 ? this._join() : undefined);
    return running.then(last, last);
  }

  /** The pass that the wanted offsets go into. */
  _join() {
    if (!this._next) {
      if (!this._running) {
        return this._pass().then();
      }
      const next = () => {
        this._next = undefined;
        return this._pass();
      };
      this._next = this._running.then(next, next);
      this._next.catch(() => {});
    }
    return this._next.then();
  }

  _pass() {
    const values = this._wanted;
    this._wanted = {};
    const pass = Bluebird.try(() => this._commit(values))
      .catch((error) => {
        // Newer ones have replaced them.
        this._wanted = { ...values, ...this._wanted };
        throw error;
      })
      .finally(() => {
        if (this._running === pass) {
          this._running = undefined;
        }
      });
    this._running = pass;
    pass.catch(() => {});
    return pass;
  }

  _filename(partition) {
    return path.join(this.directory, `${this.topic}-${partition}.offset`);
  }

  _read_one(partition) {
    return Bluebird.resolve(native.NativeOffsets.readFile(this._filename(partition)))
      .then(offsets)
      .then(([offset]) => offset);
  }

  _commit_one(partition, offset) {
    const written = native.NativeOffsets.writeFile(this._filename(partition), Number(offset));
    return Bluebird.resolve(written).then(offsets).then(nothing);
  }

  _commit(map) {
    const entries = Object.entries(map);
    if (this._is_plain('_filename', '_commit_one')) {
      const pairs = entries.flatMap(([id, offset]) => [Number(id), Number(offset)]);
      return Bluebird.resolve(this._native.write(pairs)).then(offsets).then(nothing);
    }
    const one = ([id, offset]) => Bluebird.try(() => this._commit_one(Number(id), offset)).reflect();
    return Bluebird.all(entries.map(one)).then((ended) => {
      const failed = ended.find((each) => each.isRejected());
      if (failed) {
        throw failed.reason();
      }
    });
  }

  /** Takes the locks of partitions, until `release` of what it returns. */
  _lock(partitions) {
    try {
      return this._native.lock(Array.from(partitions, Number));
    } catch (error) {
      throw new Error(error.message);
    }
  }

  /** Whether nobody has overridden them, so that one native job does all. */
  _is_plain(...names) {
    return names.every((name) => this[name] === OffsetDirectory.prototype[name]);
  }
}

function nothing() {}

/** What a native job has read, or throws what it has failed with. */
function offsets(outcome) {
  const { failure } = outcome;
  if (!failure) {
    return outcome.offsets;
  }
  const { errno, syscall, path: file } = failure;
  if (errno === undefined) {
    throw Object.assign(new Error(failure.message), file === undefined ? {} : { path: file });
  }
  const [code, text] = util.getSystemErrorMap().get(-errno) ?? [`E${errno}`, failure.message];
  const error = new Error(`${code}: ${text}, ${syscall} '${file}'`);
  throw Object.assign(error, { errno: -errno, code, syscall, path: file });
}

module.exports = OffsetDirectory;
