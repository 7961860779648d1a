//! Keys and entries of streams (contract, 13.3): `topics:<topic>`,
//! `<offset>-<partition>`, and a message as fields.

use super::keys::PREFIX;
use crate::codec::Reply;
use barnabas_engine::{ConsumedRecord, Delivered};

/// What Redis says to an id that is none.
pub(super) const BAD_ID: &str = "ERR Invalid stream ID specified as stream command argument";

/// What a server without consumer groups for streams says.
pub(super) const NO_GROUPS: &str =
    "ERR Consumer groups of streams are not served here: this server was started without them";

/// Field names with a meaning of their own.
pub(super) const RESERVED: [&[u8]; 4] = [b"value", b"key", b"timestamp", b"partition"];
/// What makes any field a header.
pub(super) const HEADER: &[u8] = b"header:";

/// What a bulk string costs besides its bytes, at most.
const BULK_OVERHEAD: usize = 16;
/// The same for an entry: its own array, its id, that of its fields, and the
/// names and times that every entry may have.
const ENTRY_OVERHEAD: usize = 160;

/// The topic of a stream's key; the error is the reply's text.
pub(super) fn topic_of(key: &[u8]) -> Result<&str, String> {
    let topic = key
        .strip_prefix(PREFIX.as_bytes())
        .and_then(|topic| std::str::from_utf8(topic).ok());
    topic.ok_or_else(|| {
        format!(
            "ERR Expected key to be '{PREFIX}<topic>', got {}",
            String::from_utf8_lossy(key)
        )
    })
}

/// Whether Kafka allows the name of a topic.
pub(super) fn is_legal(topic: &str) -> bool {
    (1..=249).contains(&topic.len())
        && topic != "."
        && topic != ".."
        && topic
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// The place of an entry. Ordered as Redis orders ids: by what is before the
/// dash, then by what is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId {
    pub(super) offset: i64,
    pub(super) partition: i32,
}

impl EntryId {
    /// Below every entry.
    pub(super) const BEFORE_ALL: Self = Self {
        offset: -1,
        partition: 0,
    };

    /// `<offset>-<partition>`; without a dash, partition 0. What Redis takes
    /// and Kafka cannot have is beyond everything.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (offset, partition) = match text.split_once('-') {
            Some((offset, partition)) => (offset, partition),
            None => (text, "0"),
        };
        let number = |text: &str| {
            // `parse` takes a sign, too.
            let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
            is_digits.then(|| text.parse::<u64>().ok()).flatten()
        };
        let (offset, partition) = (number(offset)?, number(partition)?);
        Some(Self {
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
            partition: i32::try_from(partition).unwrap_or(i32::MAX),
        })
    }
}

/// Not less than the bytes of a message as an entry.
pub(super) fn size(message: &Delivered) -> usize {
    let record = &*message.record;
    // Escaping may lengthen a header's name.
    let headers = record.headers.len() * (2 * BULK_OVERHEAD + HEADER.len());
    record.bytes() + headers + ENTRY_OVERHEAD
}

/// Writes a message as an entry: its id, and its fields in a flat array.
pub(super) fn write(reply: &mut Reply, message: &Delivered) {
    let record = &*message.record;
    reply.array(2);
    reply.entry_id(message.offset, message.partition);
    reply.array(fields(record) * 2);
    for (name, part) in [(RESERVED[0], &record.value), (RESERVED[1], &record.key)] {
        if let Some(part) = part {
            reply.bulk(name);
            reply.bulk(part);
        }
    }
    for (name, value) in &record.headers {
        if is_reserved(name) {
            reply.bulk(&[HEADER, name].concat());
        } else {
            reply.bulk(name);
        }
        // Redis has no fields without a value.
        reply.bulk(value.as_deref().unwrap_or(&[]));
    }
    if let Some(timestamp) = record.timestamp {
        reply.bulk(RESERVED[2]);
        reply.bulk_number(timestamp);
    }
}

fn fields(record: &ConsumedRecord) -> usize {
    usize::from(record.value.is_some())
        + usize::from(record.key.is_some())
        + record.headers.len()
        + usize::from(record.timestamp.is_some())
}

/// Whether XADD would take the header's name for something else.
fn is_reserved(name: &[u8]) -> bool {
    RESERVED.contains(&name) || name.starts_with(HEADER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn ids_are_offset_and_partition() {
        let id = |offset, partition| Some(EntryId { offset, partition });
        assert_eq!(EntryId::parse(b"42-2"), id(42, 2));
        assert_eq!(EntryId::parse(b"42"), id(42, 0));
        assert_eq!(EntryId::parse(b"0-0"), id(0, 0));
        assert_eq!(
            EntryId::parse(b"18446744073709551615-18446744073709551615"),
            id(i64::MAX, i32::MAX)
        );
        for bad in [
            &b""[..],
            b"-",
            b"-1",
            b"1-",
            b"+1-1",
            b"1-1-1",
            b"1-x",
            b"*",
            b"18446744073709551616",
            b"\xff",
        ] {
            assert_eq!(EntryId::parse(bad), None, "{bad:?}");
        }
        assert!(EntryId::parse(b"1-9") < EntryId::parse(b"2-0"));
        assert!(EntryId::parse(b"1-0") < EntryId::parse(b"1-1"));
    }

    #[test]
    fn keys_name_topics() {
        assert_eq!(topic_of(b"topics:orders"), Ok("orders"));
        assert_eq!(topic_of(b"topics:"), Ok(""));
        assert_eq!(
            topic_of(b"orders"),
            Err("ERR Expected key to be 'topics:<topic>', got orders".to_owned())
        );
        assert!(is_legal("a.b_c-D9") && !is_legal("") && !is_legal("..") && !is_legal("a/b"));
    }

    fn written(record: ConsumedRecord) -> (String, usize) {
        let message = Delivered {
            partition: 2,
            offset: 42,
            number: 1,
            record: Arc::new(record),
        };
        let mut reply = Reply::default();
        write(&mut reply, &message);
        let estimated = size(&message);
        assert!(reply.bytes.len() <= estimated);
        (String::from_utf8(reply.bytes).unwrap(), estimated)
    }

    #[test]
    fn fields_come_in_the_order_of_the_contract() {
        let header =
            |name: &'static str, value: Option<&'static str>| (name.into(), value.map(Into::into));
        let (text, _) = written(ConsumedRecord {
            key: Some("k".into()),
            value: Some("".into()),
            headers: vec![
                header("trace", Some("1")),
                header("key", Some("2")),
                header("header:x", None),
                header("trace", Some("3")),
            ],
            timestamp: Some(-1),
        });
        assert_eq!(
            text,
            "*2\r\n$4\r\n42-2\r\n*14\r\n$5\r\nvalue\r\n$0\r\n\r\n$3\r\nkey\r\n$1\r\nk\r\n\
             $5\r\ntrace\r\n$1\r\n1\r\n$10\r\nheader:key\r\n$1\r\n2\r\n\
             $15\r\nheader:header:x\r\n$0\r\n\r\n$5\r\ntrace\r\n$1\r\n3\r\n\
             $9\r\ntimestamp\r\n$2\r\n-1\r\n"
        );
        let (text, _) = written(ConsumedRecord {
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
        });
        assert_eq!(text, "*2\r\n$4\r\n42-2\r\n*0\r\n");
    }

    #[test]
    fn sizes_are_never_too_small() {
        for count in [0_usize, 1, 9, 300] {
            let name = || bytes::Bytes::from_static(b"value");
            written(ConsumedRecord {
                key: Some(vec![b'k'; count].into()),
                value: Some(vec![b'v'; count * 1_000].into()),
                headers: (0..count).map(|_| (name(), Some(name()))).collect(),
                timestamp: Some(i64::MIN),
            });
        }
    }
}
