'use strict';

// Finds the native part: by NAPI_RS_NATIVE_LIBRARY_PATH, beside this file
// (development builds), in the platform's package.

const fs = require('node:fs');
const path = require('node:path');
const { libc, platformName } = require('./platform');

const PLATFORMS = [
  'darwin-arm64',
  'darwin-x64',
  'linux-arm64-gnu',
  'linux-arm64-musl',
  'linux-x64-gnu',
  'linux-x64-musl',
  'win32-x64-msvc',
];

function load() {
  const configured = process.env.NAPI_RS_NATIVE_LIBRARY_PATH;
  if (configured) {
    return require(path.resolve(configured));
  }
  const name = platformName();
  const beside = path.join(__dirname, `barnabas.${name}.node`);
  if (fs.existsSync(beside)) {
    return require(beside);
  }
  const wanted = `barnabas-kafka-${name}`;
  try {
    return require(wanted);
  } catch (cause) {
    const { platform, arch } = process;
    const what = `platform ${platform}, arch ${arch}, libc ${libc() ?? 'of the system'}`;
    const advice = PLATFORMS.includes(name)
      ? `install the package ${wanted}`
      : `there is no package ${wanted}: build the crate and name the result in NAPI_RS_NATIVE_LIBRARY_PATH`;
    throw new Error(`barnabas-kafka has no native part for ${what}: ${advice}`, { cause });
  }
}

module.exports = load();
