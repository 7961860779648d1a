'use strict';

// Builds the native part and puts it beside the loader: for development.
//   node scripts/build.js [--release]

const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { platformName } = require('../lib/platform');

const root = path.join(__dirname, '..');

/** Runs cargo and returns the files that it says it has made. */
function cargo(...args) {
  const output = execFileSync('cargo', [...args, '--message-format', 'json-render-diagnostics'], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 1 << 28,
  });
  return output
    .toString()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
    .filter(({ reason }) => reason === 'compiler-artifact')
    .flatMap(({ executable, filenames }) => (executable ? [executable] : filenames));
}

function build(...flags) {
  const made = cargo('build', '-p', 'barnabas-node', ...flags);
  const library = made.find((file) => /barnabas_node\.(so|dylib|dll)$/.test(file));
  const target = path.join(root, 'lib', `barnabas.${platformName()}.node`);
  // Replaced as a whole: a process may have the old one mapped.
  fs.copyFileSync(library, `${target}.new`);
  fs.renameSync(`${target}.new`, target);
  return target;
}

module.exports = { build, cargo, root };

if (require.main === module) {
  console.log(build(...process.argv.slice(2)));
}
