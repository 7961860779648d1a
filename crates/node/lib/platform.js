'use strict';

/** Node's report, without the names of whom this process is connected to: it would ask for each. */
function report() {
  const { excludeNetwork } = process.report;
  process.report.excludeNetwork = true;
  try {
    return process.report.getReport();
  } finally {
    process.report.excludeNetwork = excludeNetwork;
  }
}

/** The C library of this process: 'glibc' or 'musl' on Linux, else undefined. */
function libc() {
  if (process.platform !== 'linux') {
    return undefined;
  }
  const { header, sharedObjects } = report();
  const isGlibc = header.glibcVersionRuntime !== undefined;
  return isGlibc || !sharedObjects.some((file) => file.includes('ld-musl-')) ? 'glibc' : 'musl';
}

/** napi-rs's name of this platform. */
function platformName() {
  const { platform, arch } = process;
  switch (platform) {
    case 'linux':
      return `${platform}-${arch}-${libc() === 'musl' ? 'musl' : 'gnu'}`;
    case 'win32':
      return `${platform}-${arch}-msvc`;
    default:
      return `${platform}-${arch}`;
  }
}

module.exports = { libc, platformName };
