'use strict';

// The declarations (contract: B13), as programs that use the package see them.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const test = require('node:test');
const { PACKAGE, run } = require('./support/programs');

const TSC = require.resolve('typescript/bin/tsc');

/** A folder of a program that has the package installed. */
function project(files, options) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'barnabas-types-'));
  const modules = path.join(folder, 'node_modules');
  fs.mkdirSync(modules);
  fs.symlinkSync(PACKAGE, path.join(modules, 'barnabas-kafka'));
  fs.symlinkSync(path.join(PACKAGE, 'node_modules', '@types'), path.join(modules, '@types'));
  for (const file of files) {
    fs.copyFileSync(path.join(PACKAGE, file), path.join(folder, path.basename(file)));
  }
  const compilerOptions = {
    strict: true,
    noEmit: true,
    target: 'es2022',
    lib: ['es2022', 'esnext.disposable'],
    types: ['node'],
    allowJs: true,
    checkJs: true,
    ...options,
  };
  const configuration = { compilerOptions, files: files.map((file) => path.basename(file)) };
  fs.writeFileSync(path.join(folder, 'tsconfig.json'), JSON.stringify(configuration));
  return folder;
}

const TYPES = ['test/types/main.ts', 'test/types/negative.ts'];
const EXAMPLES = ['simple', 'node-cluster', 'producer', 'stats'].map((name) => `example/${name}.js`);
const MODULES = ['test/types/module.mts', 'example/consumer.mjs', 'example/group.mjs'];

for (const [name, files, options] of [
  ['commonjs', [...TYPES, ...EXAMPLES], { module: 'commonjs', moduleResolution: 'node10' }],
  ['node16', [...TYPES, ...EXAMPLES, ...MODULES], { module: 'node16' }],
  ['nodenext', [...TYPES, ...EXAMPLES, ...MODULES], { module: 'nodenext' }],
]) {
  test(`the declarations compile under ${name}`, async () => {
    const folder = project(files, options);
    const { code, stdout } = await run(process.execPath, [TSC, '-p', folder]);
    assert.equal(code, 0, stdout);
    fs.rmSync(folder, { recursive: true });
  });
}
