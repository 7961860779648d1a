//! A consumed message that outlives librdkafka's buffer.

use crate::native::MessageBox;
use crate::trace::TraceContext;
use bytes::Bytes;

/// Key, value, headers and time of a consumed message. Copied once, into one
/// allocation: a message that waits for its acknowledgement would otherwise
/// hold the whole fetched batch that it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// The key; `None` when the record has none.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Names and values in the order in which they were written.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
    /// Milliseconds since 1970, UTC; `None` on message format 0.
    pub timestamp: Option<i64>,
}

impl ConsumedRecord {
    /// The bytes of key, value and headers.
    pub fn bytes(&self) -> usize {
        let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter();
        length(&self.key)
            + length(&self.value)
            + headers
                .map(|(name, value)| name.len() + length(value))
                .sum::<usize>()
    }

    /// The trace in whose course it was sent, as its headers say.
    pub fn trace(&self) -> TraceContext {
        let headers = self.headers.iter();
        TraceContext::of_record(headers.map(|(name, value)| (&**name, value.as_deref())))
    }

    pub(super) fn copy_of(message: &MessageBox) -> Self {
        let headers: Vec<_> = (0..).map_while(|index| message.header(index)).collect();
        let parts = [message.key(), message.value()].into_iter().chain(
            headers
                .iter()
                .flat_map(|(name, value)| [Some(*name), *value]),
        );
        let parts: Vec<Option<&[u8]>> = parts.collect();
        let mut all = Vec::with_capacity(parts.iter().flatten().map(|part| part.len()).sum());
        for part in parts.iter().flatten() {
            all.extend_from_slice(part);
        }
        let all = Bytes::from(all);
        let mut from = 0;
        let mut slices = parts.iter().map(|part| {
            part.map(|part| {
                let slice = all.slice(from..from + part.len());
                from += part.len();
                slice
            })
        });
        let (key, value) = (slices.next().flatten(), slices.next().flatten());
        let mut copied = Vec::with_capacity(headers.len());
        while let (Some(name), Some(value)) = (slices.next(), slices.next()) {
            copied.push((name.unwrap_or_default(), value));
        }
        Self {
            key,
            value,
            headers: copied,
            timestamp: message.timestamp(),
        }
    }
}
