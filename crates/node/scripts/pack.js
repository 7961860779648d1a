'use strict';

// Packs the root package and that of this platform.
//   node scripts/pack.js --out DIR [--binary FILE]
// Without a binary one is built for release; the size of one that is given is
// not judged, so that tests can pack a build for development.

const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { platformName } = require('../lib/platform');
const { cargo, root } = require('./build');
const { PLATFORMS, files, optionalDependencies } = require('./platforms');

/** What the root tarball may hold, and how large it and a binary may be. */
const ROOT =
  /^(index\.(js|mjs|d\.ts|d\.mts)|lib\/\w+\.(js|mjs|d\.ts|d\.mts)|example\/[\w-]+\.m?js|README\.md|MIGRATION\.md|LICENSE|THIRD-PARTY\.md|package\.json)$/;
const NEEDED = ['index.js', 'index.mjs', 'index.d.ts', 'README.md', 'MIGRATION.md', 'LICENSE', 'THIRD-PARTY.md', 'package.json'];
const ROOT_LIMIT = 150_000;
const BINARY_LIMIT = 12_000_000;
/** The only libraries that a Linux binary may ask for. */
const SHARED = /^(libc|libm|libgcc_s|libpthread|libdl|ld-linux[\w-]*)\.so\.\d+$/;

function npm(folder, ...args) {
  return execFileSync('npm', args, { cwd: folder, stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8' });
}

/** The release build, stripped. */
function build(into) {
  const made = cargo('build', '--release', '-p', 'barnabas-node');
  const library = made.find((file) => /barnabas_node\.(so|dylib|dll)$/.test(file));
  fs.copyFileSync(library, into);
  strip(into);
}

function strip(file) {
  const flags = { linux: ['--strip-unneeded'], darwin: ['-x'] }[process.platform];
  if (flags) {
    execFileSync('strip', [...flags, file]);
  }
}

/** What `npm pack` would put into the tarball: `{files, size}`. */
function contents(folder) {
  const [report] = JSON.parse(npm(folder, 'pack', '--dry-run', '--json', '--ignore-scripts'));
  return { files: report.files.map((file) => file.path), size: report.size };
}

/** Everything that is wrong with the root package. */
function problemsOfRoot(folder) {
  const { files: all, size } = contents(folder);
  const odd = all.filter((file) => !ROOT.test(file)).map((file) => `${file} does not belong there`);
  const missing = NEEDED.filter((file) => !all.includes(file)).map((file) => `${file} is missing`);
  const large = size > ROOT_LIMIT ? [`${size} bytes are more than ${ROOT_LIMIT}`] : [];
  return [...odd, ...missing, ...large];
}

/** Everything that is wrong with the platform's package. */
function problemsOfPlatform(folder, main, limit) {
  const wanted = ['README.md', main, 'package.json'].sort().join();
  const all = contents(folder).files.sort().join();
  const odd = all === wanted ? [] : [`${all} instead of ${wanted}`];
  const { size } = fs.statSync(path.join(folder, main));
  const large = size > limit ? [`${size} bytes are more than ${limit}`] : [];
  return [...odd, ...large, ...(process.platform === 'linux' ? problemsOfBinary(path.join(folder, main)) : [])];
}

/** Its libraries, and what it exports. */
function problemsOfBinary(file) {
  const dynamic = execFileSync('readelf', ['-d', file], { encoding: 'utf8' });
  const libraries = [...dynamic.matchAll(/\(NEEDED\).*\[(.*)\]/g)].map(([, name]) => name);
  const foreign = libraries.filter((name) => !SHARED.test(name)).map((name) => `needs ${name}`);
  const symbols = execFileSync('nm', ['-D', '--defined-only', file], { encoding: 'utf8' });
  const names = symbols.split('\n').filter(Boolean).map((line) => line.split(' ').at(-1));
  const exported = names.filter((name) => !/^(napi_|node_api_)/.test(name)).map((name) => `exports ${name}`);
  return [...foreign, ...exported];
}

function pack(out, binary) {
  fs.mkdirSync(out, { recursive: true });
  const staging = fs.mkdtempSync(path.join(os.tmpdir(), 'barnabas-pack-'));
  try {
    const [target] = Object.entries(PLATFORMS).find(([, { name }]) => name === platformName());
    const main = `barnabas.${platformName()}.node`;
    const ofPlatform = path.join(staging, 'platform');
    fs.mkdirSync(ofPlatform);
    for (const [name, text] of Object.entries(files(target))) {
      fs.writeFileSync(path.join(ofPlatform, name), text);
    }
    if (binary) {
      fs.copyFileSync(binary, path.join(ofPlatform, main));
      strip(path.join(ofPlatform, main));
    } else {
      build(path.join(ofPlatform, main));
    }

    const ofRoot = path.join(staging, 'root');
    for (const name of ['index.js', 'index.mjs', 'index.d.ts', 'index.d.mts', 'lib', 'example', 'README.md', 'MIGRATION.md', 'LICENSE', 'THIRD-PARTY.md']) {
      fs.cpSync(path.join(root, name), path.join(ofRoot, name), {
        recursive: true,
        filter: (file) => !file.includes('.node'),
      });
    }
    const { scripts, devDependencies, ...own } = JSON.parse(fs.readFileSync(path.join(root, 'package.json')));
    const published = { ...own, optionalDependencies: optionalDependencies() };
    fs.writeFileSync(path.join(ofRoot, 'package.json'), `${JSON.stringify(published, null, 2)}\n`);

    const problems = [...problemsOfRoot(ofRoot), ...problemsOfPlatform(ofPlatform, main, binary ? Infinity : BINARY_LIMIT)];
    if (problems.length > 0) {
      throw new Error(problems.join('\n'));
    }
    return [ofRoot, ofPlatform].map((folder) => {
      const [{ filename }] = JSON.parse(npm(folder, 'pack', '--json', '--ignore-scripts', '--pack-destination', path.resolve(out)));
      return path.join(path.resolve(out), filename);
    });
  } finally {
    fs.rmSync(staging, { recursive: true });
  }
}

module.exports = { pack, problemsOfRoot };

if (require.main === module) {
  const { values } = parseArgs({ options: { out: { type: 'string' }, binary: { type: 'string' } } });
  if (!values.out) {
    console.error('usage: pack.js --out DIR [--binary FILE]');
    process.exit(2);
  }
  console.log(pack(values.out, values.binary).join('\n'));
}
