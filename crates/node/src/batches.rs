//! Consumed messages in buffers, as `lib/batches.js` reads them.
//!
//! Everything of a batch crosses at once: columns of numbers, and the bytes of
//! all parts one after the other. A record's parts are its key, its payload,
//! and then name and value of each header; a part that is null has the length
//! -1.

use crate::progress::number;
use barnabas_engine::{LocalBatch, LocalRecord, Message, TimestampKind};
use napi::bindgen_prelude::{Buffer, Float64Array, Int32Array, Uint8Array};
use napi_derive::napi;

/// The length of a part that is null.
const NULL: i32 = -1;

/// What is gathered on the consumer's own thread.
#[derive(Default)]
pub(crate) struct Gathered {
    partitions: Vec<i32>,
    offsets: Vec<f64>,
    lengths: Vec<i32>,
    bytes: Vec<u8>,
    marks: Vec<Mark>,
    more: Option<More>,
}

/// What only those get who ask for it.
#[derive(Default)]
struct More {
    timestamps: Vec<f64>,
    kinds: Vec<u8>,
    header_counts: Vec<i32>,
    /// Partition and log start in turn.
    log_starts: Vec<f64>,
}

/// What came in the place of a message.
#[napi(object)]
pub struct Mark {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset that it is about.
    pub offset: f64,
    /// librdkafka's number.
    pub errcode: i32,
    /// Its sentence.
    pub errstr: String,
}

/// A batch.
#[napi(object)]
pub struct Batch {
    /// The partition of each record.
    pub partitions: Int32Array,
    /// The offset of each.
    pub offsets: Float64Array,
    /// The lengths of all parts.
    pub lengths: Int32Array,
    /// The bytes of all parts.
    pub bytes: Buffer,
    /// Whether all of them are ASCII.
    pub is_ascii: bool,
    /// What is no record.
    pub marks: Vec<Mark>,
    /// Milliseconds since 1970, -1 for none; with the following only if they
    /// were asked for.
    pub timestamps: Option<Float64Array>,
    /// Whose time that is: 0 nobody's, 1 the producer's, 2 the broker's.
    pub kinds: Option<Uint8Array>,
    /// How many headers each record has.
    pub header_counts: Option<Int32Array>,
    /// Partitions and where their logs begin, in turn.
    pub log_starts: Option<Float64Array>,
}

/// What a record's parts are taken from.
pub(crate) trait Source {
    fn offset(&self) -> i64;
    fn key(&self) -> Option<&[u8]>;
    fn value(&self) -> Option<&[u8]>;
    fn timestamp(&self) -> Option<(i64, TimestampKind)>;
    fn headers(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)>;
}

impl Source for LocalRecord<'_> {
    fn offset(&self) -> i64 {
        LocalRecord::offset(self)
    }

    fn key(&self) -> Option<&[u8]> {
        LocalRecord::key(self)
    }

    fn value(&self) -> Option<&[u8]> {
        LocalRecord::value(self)
    }

    fn timestamp(&self) -> Option<(i64, TimestampKind)> {
        LocalRecord::timestamp(self)
    }

    fn headers(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        LocalRecord::headers(self)
    }
}

impl Source for Message<'_> {
    fn offset(&self) -> i64 {
        Message::offset(self)
    }

    fn key(&self) -> Option<&[u8]> {
        Message::key(self)
    }

    fn value(&self) -> Option<&[u8]> {
        Message::value(self)
    }

    fn timestamp(&self) -> Option<(i64, TimestampKind)> {
        self.timestamp_and_kind()
    }

    fn headers(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        Message::headers(self)
    }
}

impl Gathered {
    /// An empty one.
    pub(crate) fn empty(is_extended: bool) -> Self {
        Self {
            more: is_extended.then(More::default),
            ..Self::default()
        }
    }

    /// How many records there are.
    pub(crate) fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Copies a batch, which is librdkafka's.
    pub(crate) fn new(batch: &LocalBatch<'_>, is_extended: bool) -> Self {
        let count = batch.len();
        let bytes: usize = batch.records().map(|record| size(&record)).sum();
        let mut gathered = Self {
            partitions: Vec::with_capacity(count),
            offsets: Vec::with_capacity(count),
            lengths: Vec::with_capacity(count * 2),
            bytes: Vec::with_capacity(bytes),
            ..Self::empty(is_extended)
        };
        for record in batch.records() {
            gathered.add(record.partition(), &record);
        }
        // Those of most batches end here.
        if gathered.partitions.len() < count {
            gathered.marks = batch
                .marks()
                .map(|mark| Mark {
                    topic: batch.topic().to_owned(),
                    partition: mark.partition,
                    offset: number(mark.offset),
                    errcode: mark.error.number(),
                    errstr: mark.text,
                })
                .collect();
        }
        gathered.add_log_starts(batch);
        gathered
    }

    /// Copies a record.
    pub(crate) fn add(&mut self, partition: i32, record: &impl Source) {
        self.partitions.push(partition);
        self.offsets.push(number(record.offset()));
        self.part(record.key());
        self.part(record.value());
        if self.more.is_none() {
            return;
        }
        let mut headers = 0;
        for (name, value) in record.headers() {
            self.part(Some(name));
            self.part(value);
            headers += 1;
        }
        if let Some(more) = &mut self.more {
            let (timestamp, kind) = match record.timestamp() {
                None => (-1, 0),
                Some((timestamp, TimestampKind::Create)) => (timestamp, 1),
                Some((timestamp, TimestampKind::Append)) => (timestamp, 2),
            };
            more.timestamps.push(number(timestamp));
            more.kinds.push(kind);
            more.header_counts.push(headers);
        }
    }

    fn part(&mut self, part: Option<&[u8]>) {
        // No message is longer than 2^31 bytes.
        let length = part.map_or(NULL, |part| i32::try_from(part.len()).unwrap_or(NULL));
        self.lengths.push(length);
        self.bytes.extend_from_slice(part.unwrap_or_default());
    }

    fn add_log_starts(&mut self, batch: &LocalBatch<'_>) {
        let Some(more) = &mut self.more else {
            return;
        };
        let mut partitions = self.partitions.clone();
        partitions.sort_unstable();
        partitions.dedup();
        for partition in partitions {
            if let Some(start) = batch.log_start(partition) {
                more.log_starts
                    .extend([f64::from(partition), number(start)]);
            }
        }
    }
}

fn size(record: &LocalRecord<'_>) -> usize {
    let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
    length(record.key()) + length(record.value())
}

impl From<Gathered> for Batch {
    fn from(gathered: Gathered) -> Self {
        let is_ascii = gathered.bytes.is_ascii();
        let mut batch = Self {
            partitions: gathered.partitions.into(),
            offsets: gathered.offsets.into(),
            lengths: gathered.lengths.into(),
            bytes: gathered.bytes.into(),
            is_ascii,
            marks: gathered.marks,
            timestamps: None,
            kinds: None,
            header_counts: None,
            log_starts: None,
        };
        if let Some(more) = gathered.more {
            batch.timestamps = Some(more.timestamps.into());
            batch.kinds = Some(more.kinds.into());
            batch.header_counts = Some(more.header_counts.into());
            batch.log_starts = Some(more.log_starts.into());
        }
        batch
    }
}
