import Bluebird = require('bluebird');

/** Keeps the offsets of a topic in files, one per partition. */
declare class OffsetDirectory {
  constructor(options: { topic: string; offset_directory: string });
  /** The offset of each partition, -1 where there is none. */
  read(partitions: number[]): Bluebird<number[]>;
  /** Resolves when these, and all requested before, are on disk. */
  commit(offsets?: Record<string, number>): Bluebird<void>;
  /** May be overridden: the file of a partition. */
  _filename(partition: number): string;
  /** May be overridden: the offset in a partition's file, -1 without one. */
  _read_one(partition: number): PromiseLike<number>;
  /** May be overridden: writes a partition's file. */
  _commit_one(partition: number, offset: number): PromiseLike<void>;
  /** May be overridden: one pass of writing. */
  _commit(offsets: Record<string, number>): PromiseLike<void>;
}

export = OffsetDirectory;
