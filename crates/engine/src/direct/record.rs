//! What is produced.

/// A header: its name, and its value or null.
pub type DirectHeader<'a> = (&'a str, Option<&'a [u8]>);

/// A record with all that it can have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectRecord<'a> {
    /// `None`: no key.
    pub key: Option<&'a [u8]>,
    /// `None`: a tombstone.
    pub value: Option<&'a [u8]>,
    /// In order; a name may occur more than once.
    pub headers: Vec<DirectHeader<'a>>,
    /// Milliseconds since 1970; `None`: now.
    pub timestamp: Option<i64>,
}

impl DirectRecord<'_> {
    /// Whether it has nothing but key and value, so that it can go with others
    /// in one call.
    pub(super) fn is_plain(&self) -> bool {
        self.headers.is_empty() && self.timestamp.is_none()
    }

    /// A copy that can wait.
    pub(super) fn to_waiting(&self) -> WaitingRecord {
        WaitingRecord {
            key: self.key.map(Into::into),
            value: self.value.map(Into::into),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| ((*name).into(), value.map(Into::into)))
                .collect(),
            timestamp: self.timestamp,
        }
    }
}

/// A header that waits.
type WaitingHeader = (Box<str>, Option<Box<[u8]>>);

/// A record that waits for room.
pub(super) struct WaitingRecord {
    key: Option<Box<[u8]>>,
    value: Option<Box<[u8]>>,
    headers: Vec<WaitingHeader>,
    timestamp: Option<i64>,
}

impl WaitingRecord {
    pub(super) fn borrowed(&self) -> DirectRecord<'_> {
        DirectRecord {
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| (&**name, value.as_deref()))
                .collect(),
            timestamp: self.timestamp,
        }
    }
}
