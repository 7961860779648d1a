//! What a consumer hands over at once.

use crate::error::KafkaError;
use crate::native::{Client, MessageBox, TimestampKind};

/// Messages, and what came in the place of messages. The bytes are
/// librdkafka's own and are freed when the hand-over ends.
pub struct LocalBatch<'a> {
    pub(super) topic: &'a str,
    pub(super) messages: &'a [MessageBox],
    pub(super) client: &'a Client,
}

/// A record of a batch.
#[derive(Clone, Copy)]
pub struct LocalRecord<'a>(&'a MessageBox);

/// What came in the place of a message, e.g. that the end of a partition was
/// reached (-191, if asked for), or that its offset is out of range and
/// `auto.offset.reset` is `error` (-140).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalMark {
    /// The partition; -1 if it is about none.
    pub partition: i32,
    /// The offset that it is about.
    pub offset: i64,
    /// What it is.
    pub error: KafkaError,
    /// librdkafka's sentence.
    pub text: String,
}

impl<'a> LocalBatch<'a> {
    /// The topic of all of them.
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// How many there are, marks included; at least one.
    #[allow(clippy::len_without_is_empty, reason = "there is no empty batch")]
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// The records: offsets rise within a partition, partitions interleave in
    /// the order of arrival.
    pub fn records(&self) -> impl Iterator<Item = LocalRecord<'a>> + Clone + use<'a> {
        let messages = self.messages.iter();
        messages
            .filter(|message| message.error() == 0)
            .map(LocalRecord)
    }

    /// What is no record.
    pub fn marks(&self) -> impl Iterator<Item = LocalMark> + use<'a> {
        let messages = self.messages.iter();
        messages
            .filter(|message| message.error() != 0)
            .map(|message| LocalMark {
                partition: message.partition(),
                offset: message.offset(),
                error: KafkaError::from_raw(message.error()),
                text: message.error_text(),
            })
    }

    /// Where a partition's log began at the last fetch.
    pub fn log_start(&self, partition: i32) -> Option<i64> {
        self.client.known_start(self.topic, partition)
    }
}

impl<'a> LocalRecord<'a> {
    /// The partition it came from.
    pub fn partition(&self) -> i32 {
        self.0.partition()
    }

    /// Its offset in the partition.
    pub fn offset(&self) -> i64 {
        self.0.offset()
    }

    /// The key; `None` when the record has none.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.0.key()
    }

    /// The value; `None` is a tombstone.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.0.value()
    }

    /// Milliseconds since 1970, and whose time that is; `None` on message
    /// format 0.
    pub fn timestamp(&self) -> Option<(i64, TimestampKind)> {
        self.0.timestamp_and_kind()
    }

    /// The headers in the order they were written: name, and value or null.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let message = self.0;
        (0..).map_while(|index| message.header(index))
    }
}
