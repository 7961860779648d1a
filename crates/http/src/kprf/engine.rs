//! What kprf's front end needs of the engine, and nothing else: two producers,
//! and which topics are known not to exist.
//!
//! Who waits gets librdkafka's `message.timeout.ms`; what nobody waits for
//! waits for Kafka as long as it takes (contract, section 9).

use super::metrics::{Metrics, TopicSeries};
use barnabas_engine::{
    DeliverySink, Destination, Error, ErrorCode, Headers, Journal, KafkaError, Producer,
    Properties, Record, is_legal_topic_name,
};
use barnabas_metrics::ClientStatistics;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long the cluster may say that a topic does not exist before that is
/// believed: brokers that create topics on use need a moment.
pub(super) const TOPIC_GRACE: Duration = Duration::from_millis(900);
/// How long it is remembered.
const ABSENCE: Duration = Duration::from_secs(5);
/// The engine repeats what it was told a second ago without asking again.
const ASK_AGAIN: Duration = Duration::from_millis(1_010);
/// Topics that are known by name.
const REMEMBERED: usize = 10_000;
/// Topics whose existence is being found out at the same time. librdkafka
/// finds out by itself, too, but slowly.
const SEARCHES: usize = 256;

/// What the clients are called in metrics.
const CLIENTS: [&str; 2] = ["patient", "waiting"];

/// The producers of one front end.
pub struct KprfProducers {
    /// For requests that wait: its `message.timeout.ms` is their limit.
    pub waiting: Producer,
    /// For those that do not: without a limit.
    pub patient: Producer,
    /// For records that are answered once they are on disk.
    pub journal: Option<Journal>,
}

impl KprfProducers {
    /// What both have to be configured with beside what users configure: our
    /// bound is the one that counts, not that of librdkafka's queue, and
    /// topics that do not exist are told of soon.
    pub fn add_defaults(properties: &mut Properties) {
        properties
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", "2147483647")
            .set_default(
                "topic.metadata.propagation.max.ms",
                &TOPIC_GRACE.as_millis().to_string(),
            );
    }
}

pub(super) struct Engine {
    clients: [Client; 2],
    topics: RwLock<HashMap<Box<str>, Arc<Topic>>>,
}

struct Client {
    producer: Producer,
    searches: Arc<Semaphore>,
}

/// A topic that somebody has sent to.
pub(super) struct Topic {
    pub(super) name: Box<str>,
    pub(super) series: Arc<TopicSeries>,
    pub(super) is_legal: bool,
    /// By client.
    existence: [Mutex<Existence>; 2],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Existence {
    Unknown,
    Believed,
    AbsentSince(Instant),
}

/// A topic of one client.
pub(super) struct Target {
    client: usize,
    destination: Arc<Destination>,
}

impl Engine {
    pub(super) fn new(producers: KprfProducers) -> Self {
        let client = |producer| Client {
            producer,
            searches: Arc::new(Semaphore::new(SEARCHES)),
        };
        Self {
            clients: [client(producers.patient), client(producers.waiting)],
            topics: RwLock::default(),
        }
    }

    /// The topic of a name.
    pub(super) fn topic(&self, name: &str, metrics: &Metrics) -> Arc<Topic> {
        if let Some(found) = self.topics.read().get(name) {
            return Arc::clone(found);
        }
        let is_legal = is_legal_topic_name(name.as_bytes());
        let made = Arc::new(Topic {
            name: name.into(),
            series: metrics.topic(name, is_legal),
            is_legal,
            existence: [Existence::Unknown; 2].map(Mutex::new),
        });
        // A name that is none may be as long as a body.
        if is_legal {
            let mut topics = self.topics.write();
            if topics.len() >= REMEMBERED {
                topics.clear();
            }
            return Arc::clone(topics.entry(name.into()).or_insert(made));
        }
        made
    }

    /// Where records of a topic go.
    ///
    /// # Errors
    /// It can be no topic, or is known not to exist.
    pub(super) fn target(&self, topic: &Arc<Topic>, waits: bool) -> Result<Target, KafkaError> {
        if !topic.is_legal {
            return Err(KafkaError::from_code(ErrorCode::InvalidTopic));
        }
        let index = usize::from(waits);
        let client = self.client(waits);
        {
            let mut existence = topic.existence(waits).lock();
            match *existence {
                Existence::Believed => {}
                Existence::AbsentSince(then) if then.elapsed() < ABSENCE => {
                    return Err(KafkaError::from_code(ErrorCode::UnknownTopicOrPartition));
                }
                Existence::AbsentSince(_) | Existence::Unknown => {
                    *existence = Existence::Believed;
                    client.search(topic);
                }
            }
        }
        match client.producer.destination(&topic.name) {
            Ok(destination) => Ok(Target {
                client: index,
                destination,
            }),
            Err(error) => Err(code(&error)),
        }
    }

    /// Hands a record over; `sink` hears what becomes of it.
    ///
    /// # Errors
    /// It was refused, and nothing more will be heard of it.
    pub(super) fn submit(
        &self,
        target: &Target,
        partition: Option<i32>,
        record: Record<'_>,
        headers: Headers<'_>,
        sink: (&Arc<dyn DeliverySink>, u64),
    ) -> Result<(), KafkaError> {
        let producer = &self.client(target.client == 1).producer;
        producer
            .submit_for(&target.destination, partition, record, headers, None, sink)
            .map_err(|error| code(&error))
    }

    /// [`submit`](Self::submit) for records that have nothing but keys and
    /// values, with numbers from `first` on; `refused` is told of those that
    /// were not taken, by number.
    pub(super) fn submit_all<'a>(
        &self,
        target: &Target,
        records: impl ExactSizeIterator<Item = Record<'a>>,
        (sink, first): (&Arc<dyn DeliverySink>, u64),
        refused: impl FnMut(u64, KafkaError),
    ) {
        let producer = &self.client(target.client == 1).producer;
        producer.submit_all_for(&target.destination, records, (sink, first), refused);
    }

    /// Hands over a record that has failed elsewhere, for as long as it takes.
    ///
    /// # Errors
    /// As [`submit`](Self::submit).
    pub(super) fn submit_aside(
        &self,
        topic: &str,
        record: Record<'_>,
        headers: Headers<'_>,
        sink: &Arc<dyn DeliverySink>,
    ) -> Result<(), KafkaError> {
        let producer = &self.client(false).producer;
        let submitted = producer.destination(topic).and_then(|destination| {
            producer.submit_for(&destination, None, record, headers, None, (sink, 0))
        });
        submitted.map_err(|error| code(&error))
    }

    /// What librdkafka has said about itself, of each client; of those without
    /// a limit first.
    pub(super) fn statistics(&self) -> Vec<ClientStatistics> {
        let clients = self.clients.iter().zip(CLIENTS);
        let said = clients.filter_map(|(client, name)| {
            Some(ClientStatistics {
                cluster: Arc::from(""),
                client: Arc::from(name),
                json: client.producer.client_statistics()?,
            })
        });
        said.collect()
    }

    /// That of one client.
    pub(super) fn statistics_of(&self, waits: bool) -> Option<Arc<str>> {
        self.client(waits).producer.client_statistics()
    }

    /// Whether the cluster answers, within two seconds.
    pub(super) async fn is_reachable(&self) -> bool {
        self.client(true).producer.topic_names().await.is_ok()
    }

    fn client(&self, waits: bool) -> &Client {
        let [patient, waiting] = &self.clients;
        if waits { waiting } else { patient }
    }
}

impl Client {
    /// Asks for a topic until it is found or has been missing for too long:
    /// librdkafka reads the answers, too, and fails what waits for the topic.
    fn search(&self, topic: &Topic) {
        let (Ok(place), Ok(wanted)) = (
            Arc::clone(&self.searches).try_acquire_owned(),
            self.producer.topic(topic.name.as_bytes()),
        ) else {
            return;
        };
        let producer = self.producer.clone();
        tokio::spawn(async move {
            if producer.look_up(&wanted).await.is_err() {
                tokio::time::sleep(ASK_AGAIN).await;
                let _ = producer.look_up(&wanted).await;
            }
            drop(place);
        });
    }
}

impl Topic {
    fn existence(&self, waits: bool) -> &Mutex<Existence> {
        let [patient, waiting] = &self.existence;
        if waits { waiting } else { patient }
    }

    /// Notes what an error says about the topic, and words it as a broker
    /// does.
    pub(super) fn learn(&self, waits: bool, error: KafkaError) -> KafkaError {
        let unknown = KafkaError::from_code(ErrorCode::UnknownTopicOrPartition);
        if error != unknown && !error.is(ErrorCode::UnknownTopic) {
            return error;
        }
        *self.existence(waits).lock() = Existence::AbsentSince(Instant::now());
        unknown
    }
}

/// Only Kafka's codes come from these calls.
fn code(error: &Error) -> KafkaError {
    match error {
        Error::Kafka { error } => *error,
        _ => KafkaError::from_code(ErrorCode::Fail),
    }
}
