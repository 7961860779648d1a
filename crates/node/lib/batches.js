'use strict';

// Makes messages of what `src/batches.rs` has gathered: columns of numbers,
// and one buffer with the bytes of all keys, payloads and headers.

const KINDS = ['none', 'create', 'append'];
const EMPTY = Buffer.alloc(0);

/** So many messages are made in a turn of the event loop; that takes a fraction of a millisecond. */
const AT_ONCE = 2500;

/**
 * The messages of a batch: their strings are copies, their Buffers are not.
 * They are made in portions, so that a large batch does not keep the event
 * loop to itself.
 */
class Messages {
  /** With `places` a batch's partitions are lanes: their topics and numbers are there. */
  constructor(batch, topic, { payload_format: format, extended_messages: isExtended }, places) {
    this._batch = batch;
    this._topic = topic;
    this._places = places;
    this._read = format === 'buffer' ? buffers(batch) : strings(batch);
    this._make = isExtended ? extended : plain;
    // Where the next message's parts begin: in the bytes, and in the lengths.
    this._at = 0;
    this._part = 0;
    this.list = [];
  }

  /** How many there will be. */
  get count() {
    return this._batch.partitions.length;
  }

  /** Makes a portion; whether that was the last. */
  advance() {
    const from = this.list.length;
    const until = Math.min(this.count, from + AT_ONCE);
    this._make(this, until);
    if (this._places) {
      this._locate(from);
    }
    return until === this.count;
  }

  _locate(from) {
    const { partitions: lanes } = this._batch;
    let lane;
    let place;
    for (let i = from; i < this.list.length; i++) {
      // Messages of a partition come in runs.
      if (lanes[i] !== lane) {
        lane = lanes[i];
        place = this._places.get(lane);
      }
      const message = this.list[i];
      message.topic = place.topic;
      message.partition = place.partition;
    }
  }
}

/** Reads a part as text. What is not UTF-8 becomes U+FFFD. */
function strings({ bytes, isAscii }) {
  // One byte per character needs no decoding.
  return isAscii ? (from, to) => bytes.latin1Slice(from, to) : (from, to) => bytes.utf8Slice(from, to);
}

/** Gives a part as it is: a view, which keeps the batch's bytes in memory. */
function buffers({ bytes }) {
  return (from, to) => bytes.subarray(from, to);
}

/** What is empty is left out like what is null. */
function plain(state, until) {
  const { _batch: batch, _topic: topic, _read: read, list } = state;
  const { partitions, offsets, lengths } = batch;
  let at = state._at;
  for (let i = list.length; i < until; i++) {
    const message = { topic, partition: partitions[i], offset: offsets[i] };
    const keyLength = lengths[2 * i];
    const payloadLength = lengths[2 * i + 1];
    if (keyLength > 0) {
      message.key = read(at, (at += keyLength));
    }
    if (payloadLength > 0) {
      message.payload = read(at, (at += payloadLength));
    }
    list.push(message);
  }
  state._at = at;
}

function extended(state, until) {
  const { _batch: batch, _topic: topic, _read: read, list } = state;
  const { partitions, offsets, lengths, bytes, timestamps, kinds, headerCounts } = batch;
  const part = (take) => {
    const length = lengths[state._part++];
    return length < 0 ? null : take(state._at, (state._at += length));
  };
  const text = (from, to) => bytes.utf8Slice(from, to);
  const raw = (from, to) => (from === to ? EMPTY : bytes.subarray(from, to));
  for (let i = list.length; i < until; i++) {
    const key = part(read);
    const payload = part(read);
    const headers = [];
    for (let n = headerCounts[i]; n > 0; n--) {
      headers.push([part(text), part(raw)]);
    }
    list.push({
      topic,
      partition: partitions[i],
      offset: offsets[i],
      key,
      payload,
      timestamp: timestamps[i],
      timestamp_type: KINDS[kinds[i]],
      headers,
    });
  }
}

module.exports = { Messages };
