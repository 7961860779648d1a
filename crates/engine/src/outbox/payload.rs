//! What is produced: one record or a list of them.

use std::time::Instant;

/// A header: its name and value.
pub type Header<'a> = (&'a str, Option<&'a [u8]>);

/// A record with everything that it can have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NewRecord<'a> {
    /// A record with a key is a pick of its own, also in a list.
    pub key: Option<&'a [u8]>,
    /// `None`: a tombstone.
    pub value: Option<&'a [u8]>,
    /// In order; a name may occur more than once.
    pub headers: &'a [Header<'a>],
    /// Milliseconds since 1970; `None`: when it is handed to the client.
    pub timestamp: Option<i64>,
    /// `None`: the topic's strategy picks one.
    pub partition: Option<i32>,
}

impl<'a> NewRecord<'a> {
    /// A value without a key.
    pub fn of(value: &'a [u8]) -> Self {
        Self {
            value: Some(value),
            ..Self::default()
        }
    }

    /// A value with a key.
    pub fn keyed(key: &'a [u8], value: &'a [u8]) -> Self {
        Self {
            key: Some(key),
            ..Self::of(value)
        }
    }

    /// Bytes of key, value and headers.
    pub fn bytes(&self) -> usize {
        self.plain_bytes() + self.header_bytes()
    }

    pub(super) fn plain_bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len)
    }

    pub(super) fn header_bytes(&self) -> usize {
        let length = |(name, value): &Header<'_>| name.len() + value.map_or(0, <[u8]>::len);
        self.headers.iter().map(length).sum()
    }

    /// Whether one call of librdkafka takes many of its kind.
    pub(super) fn is_plain(&self) -> bool {
        self.headers.is_empty() && self.timestamp.is_none()
    }
}

impl<'a> From<&'a [u8]> for NewRecord<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::of(value)
    }
}

impl<'a> From<&'a str> for NewRecord<'a> {
    fn from(value: &'a str) -> Self {
        Self::of(value.as_bytes())
    }
}

impl<'a> From<(&'a [u8], &'a [u8])> for NewRecord<'a> {
    fn from((key, value): (&'a [u8], &'a [u8])) -> Self {
        Self::keyed(key, value)
    }
}

impl<'a> From<(&'a str, &'a str)> for NewRecord<'a> {
    fn from((key, value): (&'a str, &'a str)) -> Self {
        Self::keyed(key.as_bytes(), value.as_bytes())
    }
}

/// One record or a list. Each record with a key is one pick, and so is each
/// run of neighbours without.
#[derive(Debug, Clone)]
pub enum Payload<'a> {
    /// One record; nothing is allocated for it.
    One([NewRecord<'a>; 1]),
    /// A list that the caller keeps.
    Slice(&'a [NewRecord<'a>]),
    /// A list.
    List(Vec<NewRecord<'a>>),
}

impl<'a> Payload<'a> {
    /// The records in order.
    pub fn records(&self) -> &[NewRecord<'a>] {
        match self {
            Self::One(record) => record,
            Self::Slice(records) => records,
            Self::List(records) => records,
        }
    }
}

impl<'a, T: Into<NewRecord<'a>>> From<T> for Payload<'a> {
    fn from(record: T) -> Self {
        Self::One([record.into()])
    }
}

impl<'a> From<&'a [NewRecord<'a>]> for Payload<'a> {
    fn from(records: &'a [NewRecord<'a>]) -> Self {
        Self::Slice(records)
    }
}

impl<'a, T: Into<NewRecord<'a>>> FromIterator<T> for Payload<'a> {
    fn from_iter<I: IntoIterator<Item = T>>(records: I) -> Self {
        Self::List(records.into_iter().map(Into::into).collect())
    }
}

/// A record that had to be kept: in a batch, or because the topic is down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRecord {
    /// Key and value, one after the other.
    bytes: Box<[u8]>,
    key: Option<u32>,
    has_value: bool,
    extra: Option<Box<Extra>>,
    /// The partition that the caller wants.
    pub(super) wanted: Option<i32>,
    pub(super) since: Instant,
}

type OwnHeader = (Box<str>, Option<Box<[u8]>>);

/// What few records have.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Extra {
    headers: Vec<OwnHeader>,
    timestamp: Option<i64>,
}

impl KeptRecord {
    pub(super) fn new(record: &NewRecord<'_>, since: Instant) -> Self {
        let mut bytes = Vec::with_capacity(record.plain_bytes());
        bytes.extend_from_slice(record.key.unwrap_or_default());
        bytes.extend_from_slice(record.value.unwrap_or_default());
        let extra = (!record.is_plain()).then(|| {
            let own = |(name, value): &Header<'_>| ((*name).into(), value.map(Into::into));
            Box::new(Extra {
                headers: record.headers.iter().map(own).collect(),
                timestamp: record.timestamp,
            })
        });
        Self {
            bytes: bytes.into(),
            key: record
                .key
                .map(|key| u32::try_from(key.len()).unwrap_or(u32::MAX)),
            has_value: record.value.is_some(),
            extra,
            wanted: record.partition,
            since,
        }
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let length = self.key.map_or(0, |length| length as usize);
        self.bytes.split_at_checked(length).unwrap_or_default()
    }

    /// The key.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.map(|_| self.parts().0)
    }

    /// The value; `None`: a tombstone.
    pub fn value(&self) -> Option<&[u8]> {
        self.has_value.then(|| self.parts().1)
    }

    /// The headers in order.
    pub fn headers(&self) -> Vec<Header<'_>> {
        let headers = self.extra.iter().flat_map(|extra| &extra.headers);
        headers
            .map(|(name, value)| (&**name, value.as_deref()))
            .collect()
    }

    /// The timestamp that it was given.
    pub fn timestamp(&self) -> Option<i64> {
        self.extra.as_ref().and_then(|extra| extra.timestamp)
    }

    pub(super) fn is_plain(&self) -> bool {
        self.extra.is_none()
    }

    /// Bytes of key and value.
    pub(super) fn plain_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of key, value and headers.
    pub fn bytes(&self) -> usize {
        let headers = self.extra.iter().flat_map(|extra| &extra.headers);
        let length =
            |(name, value): &OwnHeader| name.len() + value.as_ref().map_or(0, |value| value.len());
        self.bytes.len() + headers.map(length).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_record_is_what_it_was() {
        let headers: [Header<'_>; 2] = [("a", Some(b"1")), ("b", None)];
        let full = NewRecord {
            headers: &headers,
            timestamp: Some(5),
            partition: Some(3),
            ..NewRecord::keyed(b"key", b"value")
        };
        let kept = KeptRecord::new(&full, Instant::now());
        assert_eq!(kept.key(), Some(&b"key"[..]));
        assert_eq!(kept.value(), Some(&b"value"[..]));
        assert_eq!(kept.headers(), headers);
        assert_eq!(kept.timestamp(), Some(5));
        assert_eq!(kept.wanted, Some(3));
        assert_eq!(kept.bytes(), full.bytes());
        // Absent is not empty.
        let empty = KeptRecord::new(&NewRecord::keyed(b"", b""), Instant::now());
        assert_eq!(
            (empty.key(), empty.value()),
            (Some(&b""[..]), Some(&b""[..]))
        );
        let none = KeptRecord::new(&NewRecord::default(), Instant::now());
        assert_eq!((none.key(), none.value()), (None, None));
    }
}
