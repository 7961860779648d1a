'use strict';

// Writes messages into one buffer, so that a call crosses into native code
// once. The formats are those of `src/frames.rs`.

/** Characters, or bytes, that cross at once. */
const AT_ONCE = 16 * 1024 * 1024;
/** Buffers beyond this are not kept for the next call. */
const KEPT = 4 * 1024 * 1024;
/** The length of a value that is null. */
const NULL = 0xffffffff;

const VALUE = 1;
const KEY = 2;
const TIMESTAMP = 4;
const HEADERS = 8;

// Of this thread: each worker has its own copy of this module.
let bytes = Buffer.allocUnsafeSlow(64 * 1024);
let lengths = new Uint32Array(1024);

function room(size) {
  if (bytes.length < size) {
    bytes = Buffer.allocUnsafeSlow(Math.max(size, Math.min(bytes.length * 2, KEPT)));
  }
}

/** Gives back what one large call has taken. */
function release() {
  if (bytes.length > KEPT) {
    bytes = Buffer.allocUnsafeSlow(64 * 1024);
  }
  if (lengths.length > KEPT / 4) {
    lengths = new Uint32Array(1024);
  }
}

function isBytes(value) {
  return value instanceof Uint8Array;
}

function isPart(value) {
  return typeof value === 'string' || isBytes(value);
}

/** Throws unless it is a message; says whether it is more than a value. */
function check(message, index) {
  if (message === null || isPart(message)) {
    return false;
  }
  if (typeof message !== 'object') {
    throw new TypeError(`message ${index} is no string, Buffer, null or object with a payload`);
  }
  const { payload, key, headers, timestamp } = message;
  if (payload !== null && !isPart(payload)) {
    throw new TypeError(`message ${index}: payload is no string, Buffer or null`);
  }
  if (key !== undefined && key !== null && !isPart(key)) {
    throw new TypeError(`message ${index}: key is no string, Buffer or null`);
  }
  if (timestamp !== undefined && !(Number.isSafeInteger(+timestamp) && +timestamp >= 0)) {
    throw new TypeError(`message ${index}: timestamp is no time in milliseconds`);
  }
  for (const header of headerList(headers, index)) {
    const isPair = Array.isArray(header) && typeof header[0] === 'string';
    if (!isPair || (header[1] !== null && !isPart(header[1]))) {
      throw new TypeError(`message ${index}: a header is no pair of name and string, Buffer or null`);
    }
  }
  return true;
}

function headerList(headers, index) {
  if (headers === undefined || headers === null) {
    return [];
  }
  if (Array.isArray(headers)) {
    return headers;
  }
  if (typeof headers !== 'object') {
    throw new TypeError(`message ${index}: headers are no list of pairs and no object`);
  }
  return Object.entries(headers);
}

/** The most bytes that a string, or Buffer, takes. */
function most(part) {
  return part === null || part === undefined ? 0 : typeof part === 'string' ? part.length * 3 : part.length;
}

function put(part, at) {
  if (typeof part === 'string') {
    return bytes.write(part, at);
  }
  bytes.set(part, at);
  return part.length;
}

/**
 * What can cross at once: values in `bytes` and `lengths`. Null if something
 * is more than a value, or all together are too large for that.
 */
function values(messages) {
  const count = messages.length;
  if (lengths.length < count) {
    lengths = new Uint32Array(Math.max(count, lengths.length * 2));
  }
  let characters = 0;
  for (let i = 0; i < count; i++) {
    const message = messages[i];
    if (typeof message !== 'string') {
      return mixedValues(messages);
    }
    characters += lengths[i] = message.length;
  }
  if (characters > AT_ONCE) {
    return null;
  }
  // One flat string is written in one go, and of ASCII the lengths are known.
  const text = count === 1 ? messages[0] : messages.join('');
  room(characters);
  if (Buffer.byteLength(text) === characters) {
    bytes.write(text, 0, 'latin1');
    return { bytes, lengths, count };
  }
  room(characters * 3);
  for (let i = 0, at = 0; i < count; i++) {
    at += lengths[i] = bytes.write(messages[i], at);
  }
  return { bytes, lengths, count };
}

function mixedValues(messages) {
  const count = messages.length;
  let size = 0;
  let isMore = false;
  for (let i = 0; i < count; i++) {
    isMore = check(messages[i], i) || isMore;
    size += most(messages[i]);
  }
  if (isMore || size > AT_ONCE) {
    return null;
  }
  room(size);
  for (let i = 0, at = 0; i < count; i++) {
    const message = messages[i];
    if (message === null) {
      lengths[i] = NULL;
    } else {
      at += lengths[i] = put(message, at);
    }
  }
  return { bytes, lengths, count };
}

/**
 * Cuts messages into pieces that can cross: `{bytes, used, first, count}`, each
 * valid until the next.
 */
function* pieces(messages) {
  const sizes = messages.map((message, index) => {
    if (!check(message, index)) {
      return 16 + most(message);
    }
    const headers = headerList(message.headers, index);
    const own = 64 + most(message.payload) + most(message.key);
    return headers.reduce((sum, [name, value]) => sum + 16 + most(name) + most(value), own);
  });
  for (let first = 0; first < messages.length; ) {
    let size = 0;
    let next = first;
    while (next < messages.length && (next === first || size + sizes[next] <= AT_ONCE)) {
      size += sizes[next++];
    }
    room(size);
    let used = 0;
    for (let i = first; i < next; i++) {
      used = frame(messages[i], i, used);
    }
    yield { bytes, used, first, count: next - first };
    first = next;
  }
}

function frame(message, index, at) {
  const isMore = message !== null && typeof message === 'object' && !isBytes(message);
  const record = isMore ? message : { payload: message };
  const headers = headerList(record.headers, index);
  const hasKey = record.key !== undefined && record.key !== null;
  bytes[at++] =
    (record.payload === null ? 0 : VALUE) |
    (hasKey ? KEY : 0) |
    (record.timestamp === undefined ? 0 : TIMESTAMP) |
    (headers.length === 0 ? 0 : HEADERS);
  if (record.payload !== null) {
    at = sized(record.payload, at);
  }
  if (hasKey) {
    at = sized(record.key, at);
  }
  if (record.timestamp !== undefined) {
    at = bytes.writeDoubleLE(+record.timestamp, at);
  }
  if (headers.length > 0) {
    at = bytes.writeUInt32LE(headers.length, at);
    for (const [name, value] of headers) {
      at = sized(name, at);
      bytes[at++] = value === null ? 0 : 1;
      if (value !== null) {
        at = sized(value, at);
      }
    }
  }
  return at;
}

function sized(part, at) {
  const length = put(part, at + 4);
  bytes.writeUInt32LE(length, at);
  return at + 4 + length;
}

module.exports = { values, pieces, release };
