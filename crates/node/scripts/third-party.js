'use strict';

// Writes THIRD-PARTY.md: what is linked into the native part.

const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const root = path.join(__dirname, '..');

const C_LIBRARIES = [
  ['librdkafka', 'BSD-2-Clause', 'https://github.com/confluentinc/librdkafka'],
  ['lz4 (in librdkafka)', 'BSD-2-Clause', 'https://github.com/lz4/lz4'],
  ['OpenSSL', 'Apache-2.0', 'https://github.com/openssl/openssl'],
  ['zlib', 'Zlib', 'https://zlib.net'],
  ['zstd', 'BSD-3-Clause', 'https://github.com/facebook/zstd'],
];

/** The crates that are linked, those that only build it left out. */
function crates() {
  const tree = execFileSync(
    'cargo',
    ['tree', '-p', 'barnabas-node', '-e', 'normal', '--prefix', 'none', '--format', '{p}|{l}|{r}'],
    { cwd: root, encoding: 'utf8' },
  );
  const lines = new Set(tree.split('\n').filter((line) => line && !line.startsWith('barnabas-')));
  return [...lines]
    .map((line) => line.replace(/ \(\*\)$/, '').split('|'))
    .map(([name, licence, repository]) => [name.replace(/ \(.*\)/, '').replace(' v', ' '), licence, repository])
    .filter(([name], index, all) => all.findIndex(([other]) => other === name) === index)
    .sort(([a], [b]) => (a < b ? -1 : 1));
}

function text() {
  const rows = [...C_LIBRARIES, ...crates()].map((row) => `| ${row.join(' | ')} |`);
  return `# What is linked into the native part

Their licences, and where their texts are.

| | licence | source |
|---|---|---|
${rows.join('\n')}

The JavaScript depends on \`bluebird\` (MIT), which npm installs beside it.
`;
}

module.exports = { text };

if (require.main === module) {
  fs.writeFileSync(path.join(root, 'THIRD-PARTY.md'), text());
}
