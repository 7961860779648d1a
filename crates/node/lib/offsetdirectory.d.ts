import Bluebird = require('bluebird');

/** Keeps the offsets of a topic in files, one per partition. */
declare class OffsetDirectory {
  constructor(options: { topic: string; offset_directory: string });
  /** The offset of each partition, -1 where there is none. */
  read(partitions: number[]): Bluebird<number[]>;
  /** Resolves when these, and all requested before, are on disk. */
  commit(offsets?: Record<string, number>): Bluebird<void>;
}

export = OffsetDirectory;
