'use strict';

// The packages with the native part, one per platform: `npm/<platform>`, as
// `napi create-npm-dirs` makes them.
//   node scripts/platforms.js     writes them

const fs = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, '..');
const own = require('../package.json');

/** What napi-rs calls the targets, and how npm chooses between them. */
const PLATFORMS = {
  'x86_64-unknown-linux-gnu': { name: 'linux-x64-gnu', os: 'linux', cpu: 'x64', libc: 'glibc' },
  'x86_64-unknown-linux-musl': { name: 'linux-x64-musl', os: 'linux', cpu: 'x64', libc: 'musl' },
  'aarch64-unknown-linux-gnu': { name: 'linux-arm64-gnu', os: 'linux', cpu: 'arm64', libc: 'glibc' },
  'aarch64-unknown-linux-musl': { name: 'linux-arm64-musl', os: 'linux', cpu: 'arm64', libc: 'musl' },
  'x86_64-apple-darwin': { name: 'darwin-x64', os: 'darwin', cpu: 'x64' },
  'aarch64-apple-darwin': { name: 'darwin-arm64', os: 'darwin', cpu: 'arm64' },
  'x86_64-pc-windows-msvc': { name: 'win32-x64-msvc', os: 'win32', cpu: 'x64' },
};

/** The package of a target: its files by name, without the binary. */
function files(target) {
  const { name, os, cpu, libc } = PLATFORMS[target];
  const main = `${own.napi.binaryName}.${name}.node`;
  const description = {
    name: `${own.name}-${name}`,
    version: own.version,
    description: `The native part of ${own.name} for ${target}`,
    license: own.license,
    repository: own.repository,
    main,
    files: [main],
    os: [os],
    cpu: [cpu],
    ...(libc ? { libc: [libc] } : {}),
    engines: own.engines,
  };
  return {
    'package.json': `${JSON.stringify(description, null, 2)}\n`,
    'README.md': `# ${description.name}\n\n${description.description}. Install \`${own.name}\`, not this.\n`,
  };
}

/** What the root package lists when it is packed. */
function optionalDependencies() {
  const names = own.napi.targets.map((target) => `${own.name}-${PLATFORMS[target].name}`).sort();
  return Object.fromEntries(names.map((name) => [name, own.version]));
}

module.exports = { PLATFORMS, files, optionalDependencies };

if (require.main === module) {
  for (const target of own.napi.targets) {
    const folder = path.join(root, 'npm', PLATFORMS[target].name);
    fs.mkdirSync(folder, { recursive: true });
    for (const [name, text] of Object.entries(files(target))) {
      fs.writeFileSync(path.join(folder, name), text);
    }
  }
}
