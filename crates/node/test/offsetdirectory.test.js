'use strict';

// The offset files (contract: section 8, B12).

const assert = require('node:assert/strict');
const fs = require('node:fs/promises');
const os = require('node:os');
const path = require('node:path');
const test = require('node:test');
const Bluebird = require('bluebird');
const OffsetDirectory = require('../lib/offsetdirectory');
const { program } = require('./support/programs');

/** An offset directory of topic orders that does not exist yet. */
async function fresh(t, Class = OffsetDirectory) {
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'offsets-'));
  t.after(() => fs.rm(folder, { recursive: true }));
  const directory = path.join(folder, 'a', 'b');
  const offsets = new Class({ offset_directory: directory, topic: 'orders' });
  const file = (name) => path.join(directory, name);
  return { directory, offsets, file };
}

test('it is for a topic and a directory', () => {
  const made = (options) => () => new OffsetDirectory(options);
  assert.throws(made({ topic: 't' }), { message: 'Missing required option: offset_directory' });
  assert.throws(made({ offset_directory: '' }), {
    message: 'Missing required options: topic, offset_directory',
  });
});

test('an offset is digits and a line feed, in a file of its partition', async (t) => {
  const { offsets, file } = await fresh(t);
  assert.deepEqual(await offsets.read([0, 3]), [-1, -1]);
  await assert.rejects(fs.stat(file('.')), { code: 'ENOENT' });
  const committed = offsets.commit({ 3: 1234, 0: 0 });
  assert.ok(committed instanceof Bluebird);
  assert.equal(await committed, undefined);
  const bytes = await fs.readFile(file('orders-3.offset'));
  assert.deepEqual([...bytes], [0x31, 0x32, 0x33, 0x34, 0x0a]);
  assert.deepEqual((await fs.readdir(file('.'))).sort(), ['orders-0.offset', 'orders-3.offset']);
  const read = offsets.read(['3', 1, 0]);
  assert.ok(read instanceof Bluebird);
  assert.deepEqual(await read, [1234, -1, 0]);
});

test('a file with something else is refused by name', async (t) => {
  const { directory, offsets, file } = await fresh(t);
  await fs.mkdir(directory, { recursive: true });
  for (const content of ['', 'abc', '12 13', '1e3', '0x10', '1.5', '-2', 'Infinity']) {
    await fs.writeFile(file('orders-1.offset'), content);
    await assert.rejects(offsets.read([0, 1]), {
      name: 'Error',
      message: 'bad file format',
      path: file('orders-1.offset'),
    });
  }
  for (const [content, offset] of [['-1\n', -1], [' 7 ', 7]]) {
    await fs.writeFile(file('orders-1.offset'), content);
    assert.deepEqual(await offsets.read([1]), [offset]);
  }
});

test("the system's errors stay what they are", async (t) => {
  const { offsets, file } = await fresh(t);
  await fs.mkdir(file('orders-0.offset'), { recursive: true });
  await assert.rejects(offsets.read([0]), {
    code: 'EISDIR',
    errno: -os.constants.errno.EISDIR,
    syscall: 'read',
    path: file('orders-0.offset'),
    message: `EISDIR: illegal operation on a directory, read '${file('orders-0.offset')}'`,
  });
  await fs.mkdir(file('.working-orders-1.offset'));
  await assert.rejects(offsets.commit({ 1: 5 }), { code: 'EISDIR', syscall: 'open' });
});

/** Passes that the test ends: `passes[n] = {map, resolve, reject}`. */
class Slow extends OffsetDirectory {
  passes = [];

  _commit(map) {
    return new Bluebird((resolve, reject) => {
      this.passes.push({ map, resolve, reject });
    });
  }

  /** Until so many have begun. */
  async begun(count) {
    while (this.passes.length < count) await Bluebird.delay(1);
  }
}

test('one pass runs at a time, and the last value wins', async (t) => {
  const { offsets } = await fresh(t, Slow);
  const first = offsets.commit({ 0: 9 });
  const second = offsets.commit({ 0: 19 });
  const third = offsets.commit({ 0: 12, 1: 4 });
  assert.deepEqual(offsets.passes.map(({ map }) => map), [{ 0: 9 }]);
  offsets.passes[0].resolve();
  await first;
  assert.ok(second.isPending() && third.isPending());
  await offsets.begun(2);
  assert.deepEqual(offsets.passes.map(({ map }) => map), [{ 0: 9 }, { 0: 12, 1: 4 }]);
  offsets.passes[1].resolve();
  await Bluebird.all([second, third]);
  await offsets.commit();
  assert.equal(offsets.passes.length, 2);
});

test('each promise tells of its own pass', async (t) => {
  const { offsets } = await fresh(t, Slow);
  const first = offsets.commit({ 0: 9, 1: 1 });
  const second = offsets.commit({ 0: 19 });
  offsets.passes[0].reject(new Error('full'));
  await assert.rejects(first, { message: 'full' });
  await offsets.begun(2);
  // What has failed is tried again, unless there is something newer.
  assert.deepEqual(offsets.passes[1].map, { 0: 19, 1: 1 });
  offsets.passes[1].resolve();
  await second;
});

test('commit without an argument tries once more what has failed', async (t) => {
  const { offsets } = await fresh(t, Slow);
  const first = offsets.commit({ 0: 9 });
  const all = offsets.commit();
  offsets.passes[0].reject(new Error('full'));
  await assert.rejects(first, { message: 'full' });
  await offsets.begun(2);
  assert.deepEqual(offsets.passes[1].map, { 0: 9 });
  offsets.passes[1].reject(new Error('still full'));
  await assert.rejects(all, { message: 'still full' });
  const again = offsets.commit();
  await offsets.begun(3);
  offsets.passes[2].resolve();
  await again;
});

test('an unhandled failure is told, and the process goes on', async () => {
  const text = `
    const { OffsetDirectory } = require(${JSON.stringify(require.resolve('../lib/consumer'))});
    class Full extends OffsetDirectory {
      _commit() { throw new Error('full'); }
    }
    new Full({ offset_directory: 'none', topic: 't' }).commit({ 0: 1 });
    // Bluebird tells a millisecond after the turn in which it fails.
    setImmediate(() => setTimeout(() => console.log('went on'), 20));
  `;
  const silent = await program(text);
  assert.equal(silent.code, 0, silent.stderr);
  assert.match(silent.stderr, /Unhandled rejection Error: full/);
  assert.equal(silent.stdout, 'went on\n');
  const told = "process.on('unhandledRejection', (error) => console.log(error.message));";
  assert.equal((await program(told + text)).stdout, 'full\nwent on\n');
});

test('everything goes through the hooks', async (t) => {
  class Renamed extends OffsetDirectory {
    _filename(partition) {
      return path.join(this.directory, `renamed-${partition}`);
    }
  }
  const { offsets, file } = await fresh(t, Renamed);
  await offsets.commit({ 0: 7, 1: 8 });
  assert.deepEqual((await fs.readdir(file('.'))).sort(), ['renamed-0', 'renamed-1']);
  assert.equal(await fs.readFile(file('renamed-1'), 'latin1'), '8\n');
  assert.deepEqual(await offsets.read([1, 0, 2]), [8, 7, -1]);

  class Memory extends OffsetDirectory {
    kept = {};

    _read_one(partition) {
      return this.kept[partition] ?? -1;
    }

    _commit_one(partition, offset) {
      if (partition === 2) {
        throw new Error('not this one');
      }
      this.kept[partition] = offset;
    }
  }
  const memory = (await fresh(t, Memory)).offsets;
  await assert.rejects(memory.commit({ 1: 5, 2: 6, 3: 7 }), { message: 'not this one' });
  assert.deepEqual(await memory.read([1, 2, 3]), [5, -1, 7]);
});
