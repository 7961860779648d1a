//! Records in a buffer, as `lib/records.js` writes them.
//!
//! Values alone: the bytes of all of them, and a table of their lengths, where
//! [`NULL`] stands for null. Records with more: one after the other
//!
//! ```text
//! flags u8: 1 value, 2 key, 4 timestamp, 8 headers
//! [u32 length, value] [u32 length, key] [f64 timestamp]
//! [u32 count, then each: u32 length, name, u8 has value, [u32 length, value]]
//! ```
//!
//! numbers little-endian, parts without their flag left out.

use barnabas_engine::DirectRecord;

/// The length of a value that is null.
pub(crate) const NULL: u32 = u32::MAX;

const VALUE: u8 = 1;
const KEY: u8 = 2;
const TIMESTAMP: u8 = 4;
const HEADERS: u8 = 8;

/// Values one after the other, as a table of lengths cuts them.
pub(crate) struct Values<'a> {
    bytes: &'a [u8],
    lengths: std::slice::Iter<'a, u32>,
}

impl<'a> Values<'a> {
    /// `None` unless the buffer holds what the table says.
    pub(crate) fn new(bytes: &'a [u8], lengths: &'a [u32]) -> Option<Self> {
        let sum: usize = lengths
            .iter()
            .filter(|length| **length != NULL)
            .map(|length| *length as usize)
            .sum();
        (sum <= bytes.len()).then(|| Self {
            bytes,
            lengths: lengths.iter(),
        })
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = *self.lengths.next()?;
        if length == NULL {
            return Some(None);
        }
        let (value, rest) = self.bytes.split_at_checked(length as usize)?;
        self.bytes = rest;
        Some(Some(value))
    }
}

/// Values as records.
pub(crate) fn of_values(values: Values<'_>) -> Vec<DirectRecord<'_>> {
    values
        .map(|value| DirectRecord {
            value,
            ..DirectRecord::default()
        })
        .collect()
}

/// All records of a buffer; `None` if it is none of ours.
pub(crate) fn records(bytes: &[u8]) -> Option<Vec<DirectRecord<'_>>> {
    let mut reader = Reader(bytes);
    let mut records = Vec::new();
    while !reader.0.is_empty() {
        records.push(reader.record()?);
    }
    Some(records)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn record(&mut self) -> Option<DirectRecord<'a>> {
        let flags = self.byte()?;
        let mut record = DirectRecord::default();
        if flags & VALUE != 0 {
            record.value = Some(self.bytes()?);
        }
        if flags & KEY != 0 {
            record.key = Some(self.bytes()?);
        }
        if flags & TIMESTAMP != 0 {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "JavaScript has checked that it is a whole number"
            )]
            let timestamp = f64::from_le_bytes(self.array()?) as i64;
            record.timestamp = Some(timestamp);
        }
        if flags & HEADERS != 0 {
            for _ in 0..self.number()? {
                let name = std::str::from_utf8(self.bytes()?).ok()?;
                let value = match self.byte()? {
                    0 => None,
                    _ => Some(self.bytes()?),
                };
                record.headers.push((name, value));
            }
        }
        Some(record)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()? as usize;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }
}
