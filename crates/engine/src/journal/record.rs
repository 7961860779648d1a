//! The bytes of a record and of a segment's header; pure.
//!
//! Numbers are little-endian. A segment begins with its header, twice, so that
//! no single damage takes the segment with it:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `BNBSJRNL` |
//! | 2, 2 | version, 0 |
//! | 4 | the journal's marker, chosen at random |
//! | 8 | the sequence of the first record |
//! | 4 | 0 |
//! | 4 | CRC32C of the above |
//!
//! Frames follow, one for each record, with ascending sequences and no gap:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | the marker |
//! | 4 | length of the payload |
//! | 8 | sequence |
//! | 4 | CRC32C of all the others |
//! | … | payload |
//!
//! Behind damage the next frame is found by its marker. No client knows the
//! marker, so none can make a value that looks like a frame.

use crate::producer::Record;

/// What a segment begins with.
const MAGIC: &[u8; 8] = b"BNBSJRNL";
/// Of the format.
const VERSION: u16 = 1;
/// One copy of the header.
const HEADER_COPY: usize = 32;
/// The header with its copy.
pub(super) const HEADER: usize = 2 * HEADER_COPY;
/// What stands before a payload.
pub(super) const FRAME: usize = 20;
/// The smallest payload: flags, the topic's length and a letter, headers.
const LEAST_PAYLOAD: usize = 5;
/// The largest payload: Kafka's largest message, and what surrounds it.
pub(super) const MOST_PAYLOAD: usize = 1_100_000_000;

mod flag {
    pub(super) const KEY: u8 = 1;
    pub(super) const VALUE: u8 = 2;
    pub(super) const PARTITION: u8 = 4;
    pub(super) const LANE: u8 = 8;
    pub(super) const ALL: u8 = 15;
}

/// The length of a header's value that is null.
const NULL: u32 = u32::MAX;

/// Names and values of a record's headers.
pub type Headers<'a> = &'a [(&'a str, Option<&'a [u8]>)];

/// A record on its way into the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalRecord<'a> {
    /// Where it goes.
    pub topic: &'a str,
    /// Key and value; null is not empty.
    pub record: Record<'a>,
    /// Its headers, in order.
    pub headers: Headers<'a>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The partition, where it is chosen already.
    pub partition: Option<i32>,
    /// Which of the topic's lanes it was picked for, where that is known.
    pub lane: Option<u32>,
}

/// A record as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journaled<'a> {
    /// Where it goes.
    pub topic: &'a str,
    /// Key and value.
    pub record: Record<'a>,
    /// Its headers, in order.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The partition, where it was chosen.
    pub partition: Option<i32>,
    /// The lane, where it was chosen.
    pub lane: Option<u32>,
}

/// What the header of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) marker: u32,
    /// The sequence of the first record.
    pub(super) base: u64,
}

impl Header {
    /// Both copies.
    pub(super) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        for _ in 0..HEADER / HEADER_COPY {
            let start = bytes.len();
            bytes.extend_from_slice(MAGIC);
            bytes.extend_from_slice(&VERSION.to_le_bytes());
            bytes.extend_from_slice(&0_u16.to_le_bytes());
            bytes.extend_from_slice(&self.marker.to_le_bytes());
            bytes.extend_from_slice(&self.base.to_le_bytes());
            bytes.extend_from_slice(&0_u32.to_le_bytes());
            let sum = crc32c::crc32c(bytes.get(start..).unwrap_or_default());
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        bytes
    }

    /// The first copy that is undamaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let copies = bytes.get(..HEADER)?.chunks_exact(HEADER_COPY);
        copies.filter_map(Self::decode_copy).next()
    }

    fn decode_copy(bytes: &[u8]) -> Option<Self> {
        let (content, sum) = bytes.split_at_checked(HEADER_COPY - 4)?;
        if crc32c::crc32c(content).to_le_bytes() != sum {
            return None;
        }
        let mut parts = Parts(content);
        if parts.take(MAGIC.len())? != MAGIC || parts.u16()? != VERSION {
            return None;
        }
        parts.u16()?;
        Some(Self {
            marker: parts.u32()?,
            base: parts.u64()?,
        })
    }
}

impl JournalRecord<'_> {
    /// Bytes of its frame.
    pub(super) fn frame_length(&self) -> usize {
        FRAME + self.payload_length()
    }

    fn payload_length(&self) -> usize {
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| 8 + name.len() + length(*value))
            .sum();
        2 + self.topic.len()
            + 8
            + self.partition.map_or(0, |_| 4)
            + self.lane.map_or(0, |_| 4)
            + 2
            + headers
            + self.record.key.map_or(0, |key| 4 + key.len())
            + length(self.record.value)
    }

    /// Appends the frame. The caller has checked the sizes
    /// ([`fits`](Self::fits)).
    pub(super) fn encode(&self, marker: u32, sequence: u64, into: &mut Vec<u8>) {
        let payload = self.payload_length();
        into.reserve(FRAME + payload);
        let start = into.len();
        into.extend_from_slice(&marker.to_le_bytes());
        into.extend_from_slice(&small(payload).to_le_bytes());
        into.extend_from_slice(&sequence.to_le_bytes());
        into.extend_from_slice(&[0; 4]);
        let mut flags = 0;
        for (is_set, bit) in [
            (self.record.key.is_some(), flag::KEY),
            (self.record.value.is_some(), flag::VALUE),
            (self.partition.is_some(), flag::PARTITION),
            (self.lane.is_some(), flag::LANE),
        ] {
            flags |= if is_set { bit } else { 0 };
        }
        into.push(flags);
        into.push(u8::try_from(self.topic.len()).unwrap_or(u8::MAX));
        into.extend_from_slice(self.topic.as_bytes());
        into.extend_from_slice(&self.timestamp.to_le_bytes());
        if let Some(partition) = self.partition {
            into.extend_from_slice(&partition.to_le_bytes());
        }
        if let Some(lane) = self.lane {
            into.extend_from_slice(&lane.to_le_bytes());
        }
        let headers = u16::try_from(self.headers.len()).unwrap_or(u16::MAX);
        into.extend_from_slice(&headers.to_le_bytes());
        for (name, value) in self.headers {
            into.extend_from_slice(&small(name.len()).to_le_bytes());
            into.extend_from_slice(name.as_bytes());
            let length = value.map_or(NULL, |value| small(value.len()));
            into.extend_from_slice(&length.to_le_bytes());
            into.extend_from_slice(value.unwrap_or_default());
        }
        if let Some(key) = self.record.key {
            into.extend_from_slice(&small(key.len()).to_le_bytes());
            into.extend_from_slice(key);
        }
        into.extend_from_slice(self.record.value.unwrap_or_default());
        let frame = into.get_mut(start..).unwrap_or_default();
        let sum = checksum(frame);
        if let Some(place) = frame.get_mut(16..FRAME) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
    }

    /// Whether the format has room for it.
    pub(super) fn fits(&self) -> bool {
        (1..=usize::from(u8::MAX)).contains(&self.topic.len())
            && self.headers.len() < usize::from(u16::MAX)
            && self.payload_length() <= MOST_PAYLOAD
    }
}

/// Of a length that is far below.
fn small(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Of a whole frame: what stands before the sum, and the payload.
fn checksum(frame: &[u8]) -> u32 {
    let sum = crc32c::crc32c(frame.get(..16).unwrap_or_default());
    crc32c::crc32c_append(sum, frame.get(FRAME..).unwrap_or_default())
}

/// What is at the beginning of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// An undamaged frame.
    Whole { sequence: u64, length: usize },
    /// It would need so many bytes, if it is one.
    Incomplete { length: usize },
    /// Anything else.
    Damaged,
}

/// Looks at the beginning of the bytes, checksum and all.
pub(super) fn frame_at(marker: u32, bytes: &[u8]) -> Frame {
    let mut parts = Parts(bytes);
    let Some(own) = parts.take(4) else {
        return Frame::Incomplete { length: FRAME };
    };
    if own != marker.to_le_bytes() {
        return Frame::Damaged;
    }
    let (Some(payload), Some(sequence), Some(sum)) = (parts.u32(), parts.u64(), parts.u32()) else {
        return Frame::Incomplete { length: FRAME };
    };
    let payload = payload as usize;
    if !(LEAST_PAYLOAD..=MOST_PAYLOAD).contains(&payload) {
        return Frame::Damaged;
    }
    let length = FRAME + payload;
    let Some(frame) = bytes.get(..length) else {
        return Frame::Incomplete { length };
    };
    if checksum(frame) == sum {
        Frame::Whole { sequence, length }
    } else {
        Frame::Damaged
    }
}

/// The marker of the frame at the beginning of the bytes, whatever it is:
/// for a segment whose header is gone.
pub(super) fn marker_of(bytes: &[u8]) -> Option<u32> {
    let marker = Parts(bytes).u32()?;
    matches!(frame_at(marker, bytes), Frame::Whole { .. }).then_some(marker)
}

/// The next place from `from` on that has the marker.
pub(super) fn find_marker(marker: u32, bytes: &[u8], from: usize) -> Option<usize> {
    let wanted = marker.to_le_bytes();
    let mut windows = bytes.get(from..)?.windows(wanted.len());
    windows
        .position(|window| window == wanted)
        .map(|at| from + at)
}

/// The record of an undamaged frame.
pub(super) fn decode(frame: &[u8]) -> Option<Journaled<'_>> {
    let mut parts = Parts(frame.get(FRAME..)?);
    let flags = parts.u8()?;
    if flags & !flag::ALL != 0 {
        return None;
    }
    let has = |bit: u8| flags & bit != 0;
    let topic = parts.u8()?;
    let topic = parts.text(topic.into())?;
    let timestamp = parts.u64()?.cast_signed();
    let partition = match has(flag::PARTITION) {
        true => Some(parts.u32()?.cast_signed()),
        false => None,
    };
    let lane = match has(flag::LANE) {
        true => Some(parts.u32()?),
        false => None,
    };
    let count = parts.u16()?;
    // Each takes eight bytes at least.
    let mut headers = Vec::with_capacity(usize::from(count).min(parts.0.len() / 8));
    for _ in 0..count {
        let length = parts.u32()?;
        let name = parts.text(length as usize)?;
        let value = match parts.u32()? {
            NULL => None,
            length => Some(parts.take(length as usize)?),
        };
        headers.push((name, value));
    }
    let key = match has(flag::KEY) {
        true => {
            let length = parts.u32()?;
            Some(parts.take(length as usize)?)
        }
        false => None,
    };
    let value = has(flag::VALUE).then_some(parts.0);
    if value.is_none() && !parts.0.is_empty() {
        return None;
    }
    Some(Journaled {
        topic,
        record: Record { key, value },
        headers,
        timestamp,
        partition,
        lane,
    })
}

/// Takes bytes from the front, if there are enough.
pub(super) struct Parts<'a>(pub(super) &'a [u8]);

impl<'a> Parts<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.number().map(u8::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.number().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.number().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.number().map(u64::from_le_bytes)
    }

    fn text(&mut self, length: usize) -> Option<&'a str> {
        std::str::from_utf8(self.take(length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            topic in "[a-zA-Z0-9._-]{1,249}",
            key in option::of(vec(any::<u8>(), 0..50)),
            value in option::of(vec(any::<u8>(), 0..200)),
            headers in vec((".{0,10}", option::of(vec(any::<u8>(), 0..20))), 0..4),
            timestamp: i64,
            partition: Option<i32>,
            lane: Option<u32>,
            marker: u32,
            sequence: u64,
            flip in any::<prop::sample::Index>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let headers: Vec<(&str, Option<&[u8]>)> = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_deref()))
                .collect();
            let record = Record { key: key.as_deref(), value: value.as_deref() };
            let written = JournalRecord {
                topic: &topic, record, headers: &headers, timestamp, partition, lane,
            };
            prop_assert!(written.fits());
            let mut bytes = Vec::new();
            written.encode(marker, sequence, &mut bytes);
            prop_assert_eq!(bytes.len(), written.frame_length());
            let length = bytes.len();
            prop_assert_eq!(frame_at(marker, &bytes), Frame::Whole { sequence, length });
            let expected = Journaled {
                topic: &topic, record, headers: headers.clone(), timestamp, partition, lane,
            };
            prop_assert_eq!(decode(&bytes), Some(expected));
            let cut = frame_at(marker, &bytes[..cut.index(length)]);
            prop_assert!(matches!(cut, Frame::Incomplete { .. }), "{:?}", cut);
            let flip = flip.index(length);
            bytes[flip] ^= 0x10;
            // A damaged marker is none of a segment that has lost its header.
            prop_assert_eq!(marker_of(&bytes), None);
            let is_whole = matches!(frame_at(marker, &bytes), Frame::Whole { .. });
            prop_assert!(!is_whole);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..300), marker: u32) {
            let _ = Header::decode(&bytes);
            let _ = frame_at(marker, &bytes);
            let _ = marker_of(&bytes);
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn a_header_outlives_damage_of_one_copy() {
        let header = Header {
            marker: 7,
            base: 1 << 40,
        };
        let bytes = header.encode();
        assert_eq!(bytes.len(), HEADER);
        for at in 0..HEADER {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Header::decode(&damaged), Some(header), "byte {at}");
        }
        assert_eq!(Header::decode(&bytes[..HEADER - 1]), None);
    }

    #[test]
    fn null_and_empty_differ() {
        let read = |record: Record<'_>| {
            let mut bytes = Vec::new();
            let written = JournalRecord {
                topic: "t",
                record,
                headers: &[("h", None), ("h", Some(b""))],
                timestamp: -1,
                partition: None,
                lane: None,
            };
            written.encode(1, 1, &mut bytes);
            let read = decode(&bytes).unwrap();
            assert_eq!(read.headers, [("h", None), ("h", Some(&b""[..]))]);
            (read.record.key.is_some(), read.record.value.is_some())
        };
        for (key, value) in [(false, false), (false, true), (true, false), (true, true)] {
            let record = Record {
                key: key.then_some(b""),
                value: value.then_some(b""),
            };
            assert_eq!(read(record), (key, value));
        }
    }
}
