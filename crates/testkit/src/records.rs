//! Records: put some in, and look at what is there without going through the code under test.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer,
};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::client::{self, REQUEST_TIMEOUT};
use crate::cluster::Cluster;
use crate::error::{Context, Error, Result};

/// A record as it is in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// The key; `None` is not the same as empty.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// In order; a name may occur more than once.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
}

impl Record {
    /// The key as text, for assertions; what is not UTF-8 is replaced, no key is empty.
    pub fn key_text(&self) -> String {
        text(self.key.as_deref())
    }

    /// The value as text, for assertions; what is not UTF-8 is replaced, a tombstone is empty.
    pub fn value_text(&self) -> String {
        text(self.value.as_deref())
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned()
}

/// A record to put into Kafka; what is left at its default is chosen by the client library.
#[derive(Clone, Debug, Default)]
pub struct NewRecord<'a> {
    /// The partition; by default by the key, or at random.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// In order.
    pub headers: Vec<(&'a str, Option<&'a [u8]>)>,
    /// Milliseconds since 1970; by default now.
    pub timestamp: Option<i64>,
}

/// Where a record went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
}

impl Cluster {
    /// Puts one record into Kafka, with `acks=all`, and waits until it is there.
    ///
    /// # Errors
    /// [`Error::Kafka`] with Kafka's code.
    pub fn produce(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Position> {
        let record = NewRecord {
            partition,
            key,
            value,
            ..NewRecord::default()
        };
        self.produce_all(topic, [record])?
            .pop()
            .ok_or_else(|| Error::Kafka {
                action: format!("produce to {topic}"),
                source: KafkaError::Canceled,
            })
    }

    /// Puts records into Kafka, with `acks=all`, in order per partition, and waits until all are
    /// there; the positions are in the order of the records. A broker that fails meanwhile may
    /// leave a record there twice.
    ///
    /// # Errors
    /// [`Error::Kafka`] with the first failure; other records may be there nonetheless.
    pub fn produce_all<'a>(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = NewRecord<'a>>,
    ) -> Result<Vec<Position>> {
        let action = || format!("produce to {topic}");
        let producer = self.record_producer()?;
        let (reply, deliveries) = mpsc::channel();
        for (index, record) in records.into_iter().enumerate() {
            let delivery = Delivery {
                index,
                reply: reply.clone(),
            };
            producer.send(topic, &record, delivery).context(action)?;
        }
        drop(reply);
        let mut positions = BTreeMap::new();
        // Ends when the last delivery was reported: each holds a sender. A record is reported as
        // failed after `message.timeout.ms` at the latest.
        for (index, result) in deliveries {
            positions.insert(index, result.context(action)?);
        }
        Ok(positions.into_values().collect())
    }

    /// Puts values into partition 0, each in a transaction of its own: behind each record is a
    /// marker that no consumer gets.
    ///
    /// # Errors
    /// [`Error::Kafka`] with Kafka's code.
    pub fn produce_in_transactions(&self, topic: &str, values: &[&str]) -> Result<()> {
        let action = || format!("produce to {topic} in transactions");
        let producer: BaseProducer = client::configuration(&self.running().reachable())
            .set("transactional.id", topic)
            .create()
            .context(action)?;
        producer
            .init_transactions(REQUEST_TIMEOUT)
            .context(action)?;
        for value in values {
            producer.begin_transaction().context(action)?;
            let record = BaseRecord::<(), str>::to(topic).partition(0).payload(value);
            producer
                .send(record)
                .map_err(|(error, _)| error)
                .context(action)?;
            producer
                .commit_transaction(REQUEST_TIMEOUT)
                .context(action)?;
        }
        Ok(())
    }

    /// All records from the beginning of the topic up to its end at the time of the call, by
    /// partition and offset. Like a default consumer it leaves out aborted transactions.
    ///
    /// # Errors
    /// [`Error::Kafka`] with Kafka's code, for example for an unknown topic; [`Error::Timeout`] if
    /// no record comes for 30 s.
    pub fn read_all(&self, topic: &str) -> Result<Vec<Record>> {
        let action = || format!("read {topic}");
        let consumer = client::consumer(&self.running().reachable(), "testkit")?;
        let mut ends = BTreeMap::new();
        let mut assignment = TopicPartitionList::new();
        for (partition, (start, end)) in watermarks(&consumer, topic)? {
            if start < end {
                ends.insert(partition, end);
                assignment
                    .add_partition_offset(topic, partition, Offset::Offset(start))
                    .context(action)?;
            }
        }
        consumer.assign(&assignment).context(action)?;

        let mut records = Vec::new();
        let mut last_event = Instant::now();
        while !ends.is_empty() {
            let Some(event) = consumer.poll(Duration::from_millis(100)) else {
                if last_event.elapsed() > REQUEST_TIMEOUT {
                    return Err(Error::Timeout {
                        what: format!("records of {topic}, partitions {:?}", ends.keys()),
                        waited: last_event.elapsed(),
                    });
                }
                continue;
            };
            last_event = Instant::now();
            match event {
                Ok(message) => {
                    let Some(end) = ends.get(&message.partition()).copied() else {
                        continue;
                    };
                    if message.offset() < end {
                        records.push(record(&message));
                    }
                    if message.offset() + 1 >= end {
                        ends.remove(&message.partition());
                    }
                }
                // The last offsets may belong to transaction markers or have been compacted away.
                Err(KafkaError::PartitionEOF(partition)) => {
                    ends.remove(&partition);
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error).context(action),
            }
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    /// The offset after the last record of each partition.
    ///
    /// # Errors
    /// [`Error::Kafka`] with Kafka's code, for example for an unknown topic.
    pub fn end_offsets(&self, topic: &str) -> Result<BTreeMap<i32, i64>> {
        let observer = self.running().observer()?;
        Ok(watermarks(&observer, topic)?
            .into_iter()
            .map(|(partition, (_, end))| (partition, end))
            .collect())
    }

    fn record_producer(&self) -> Result<&RecordProducer> {
        let slot = &self.running().producer;
        if let Some(producer) = slot.get() {
            return Ok(producer);
        }
        let producer = RecordProducer::new(&self.bootstrap_servers())?;
        Ok(slot.get_or_init(|| producer))
    }
}

fn watermarks(consumer: &BaseConsumer, topic: &str) -> Result<BTreeMap<i32, (i64, i64)>> {
    let action = || format!("find the offsets of {topic}");
    client::partitions(consumer, topic)?
        .into_iter()
        .map(|partition| {
            consumer
                .fetch_watermarks(topic, partition, REQUEST_TIMEOUT)
                .context(action)
                .map(|offsets| (partition, offsets))
        })
        .collect()
}

/// Errors that the client library tells and then mends by itself.
fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
        )
    )
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: message.headers().map_or_else(Vec::new, |headers| {
            headers
                .iter()
                .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                .collect()
        }),
        timestamp: message.timestamp().to_millis(),
    }
}

/// The producer of a cluster, made when it is first needed.
pub(crate) struct RecordProducer {
    producer: ThreadedProducer<Deliveries>,
}

impl std::fmt::Debug for RecordProducer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("RecordProducer")
    }
}

impl RecordProducer {
    fn new(bootstrap_servers: &str) -> Result<Self> {
        let producer = client::configuration(bootstrap_servers)
            .set("linger.ms", "0")
            .set("message.timeout.ms", "30000")
            // The broker's limits are the ones that count.
            .set("message.max.bytes", "1000000000")
            // Keeps the order through retries. Idempotence would too, but then a topic that was
            // deleted and created again refuses the sequence numbers of before.
            .set("max.in.flight.requests.per.connection", "1")
            .create_with_context(Deliveries)
            .context(|| "make a producer".to_owned())?;
        Ok(Self { producer })
    }

    fn send(&self, topic: &str, new: &NewRecord<'_>, delivery: Delivery) -> Result<(), KafkaError> {
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, Box::new(delivery));
        record.partition = new.partition;
        record.key = new.key;
        record.payload = new.value;
        record.timestamp = new.timestamp;
        if !new.headers.is_empty() {
            record.headers = Some(
                new.headers
                    .iter()
                    .fold(OwnedHeaders::new(), |headers, (key, value)| {
                        headers.insert(Header { key, value: *value })
                    }),
            );
        }
        let started = Instant::now();
        let mut has_refreshed = false;
        loop {
            let (error, returned) = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::QueueFull) if started.elapsed() < REQUEST_TIMEOUT => {
                    thread::sleep(Duration::from_millis(5));
                }
                // The topic has grown since the client library last looked.
                Some(RDKafkaErrorCode::UnknownPartition) if !has_refreshed => {
                    has_refreshed = true;
                    self.producer
                        .client()
                        .fetch_metadata(Some(topic), REQUEST_TIMEOUT)?;
                }
                _ => return Err(error),
            }
            record = returned;
        }
    }
}

struct Deliveries;

struct Delivery {
    index: usize,
    reply: mpsc::Sender<(usize, Result<Position, KafkaError>)>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Delivery>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivery: Box<Delivery>) {
        let result = match result {
            Ok(message) => Ok(Position {
                partition: message.partition(),
                offset: message.offset(),
            }),
            Err((error, _)) => Err(error.clone()),
        };
        // Nobody listens any more if an earlier record failed.
        let _ = delivery.reply.send((delivery.index, result));
    }
}
