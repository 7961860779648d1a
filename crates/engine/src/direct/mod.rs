//! A producer with one owner, who names partitions, hears of everything that
//! the client says, and waits for nothing.
//!
//! What [`Producer`](crate::Producer) does for many callers (accounts, topics
//! that are looked up first, limits) is left out: messages go to librdkafka at
//! once, which keeps those of a topic that it does not know yet and says later
//! what became of them. For embedding the engine in a process of another
//! language: its owner configures it by librdkafka's properties and gets
//! librdkafka's numbers and sentences back.
//!
//! Data flow: `send` → librdkafka; `submit` → librdkafka, or, while its queue
//! is full, the backlog → librdkafka, in order; broker → the thread of this
//! producer → the [`DirectObserver`], and the receivers of what was submitted.
//!
//! In reading order: `record`, what is produced; `tickets`, what is known of
//! messages whose results somebody wants; `backlog`, what waits for room;
//! `hand_over`, the way into librdkafka; `delivery`, the way back; `draining`,
//! sending without linger.

mod backlog;
mod delivery;
mod draining;
mod hand_over;
mod record;
mod tickets;

use crate::error::{ErrorCode, KafkaError};
use crate::native::{Client, ClusterView, Conf, Kind, LogTarget, NativeTopic};
use backlog::Backlog;
pub use draining::Draining;
use draining::Drains;
use parking_lot::{Mutex, RwLock};
use rdkafka::bindings::{RD_KAFKA_EVENT_DR, RD_KAFKA_EVENT_ERROR, RD_KAFKA_EVENT_STATS};
pub use record::{DirectHeader, DirectRecord};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tickets::Tickets;
pub use tickets::{DirectOutcome, OutcomeSink};

/// Whether successes are reported too; a property that is ours to act on,
/// because what is outstanding is counted by all reports.
const ONLY_ERRORS: &str = "delivery.report.only.error";

/// Hears what a client says. Called by its thread, and with log lines by
/// librdkafka's threads, also while the client is being made; nothing of it
/// may wait.
pub trait DirectObserver: Send + Sync + 'static {
    /// A log line: its syslog level, librdkafka's name for its kind, its text.
    fn log(&self, level: i32, facility: &str, text: &str);
    /// Something is wrong with the client, or its connections.
    fn error(&self, error: KafkaError, reason: &str, is_fatal: bool);
    /// librdkafka's statistics as JSON, if it was configured to make them.
    fn statistics(&self, json: String);
    /// So many messages have ended with this code; 0 is success, which is
    /// told only if `delivery.report.only.error` is off.
    fn ended(&self, error: KafkaError, messages: u64);
    /// While somebody drains: nothing is outstanding. Everything else has been
    /// told by then. Told again when it is so again, perhaps more than once.
    fn drained(&self);
}

/// How a client is made: librdkafka's properties, in the order in which they
/// are set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectConfig {
    /// Of the client; properties of topics among them are their default.
    pub client: Vec<(String, String)>,
    /// Of topics; judged when a topic is used for the first time.
    pub topics: Vec<(String, String)>,
    /// Whether [`DirectObserver::statistics`] is wanted.
    pub has_statistics: bool,
}

/// librdkafka's sentence about a configuration that it does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(pub String);

/// The producer. Dropping it closes it: what is outstanding is dropped, and
/// whoever waits for results hears [`ErrorCode::BrokerDestroy`].
pub struct DirectProducer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

pub(crate) struct Shared {
    client: Arc<Client>,
    observer: Arc<dyn DirectObserver>,
    topics: RwLock<HashMap<Box<str>, Arc<NativeTopic>>>,
    topic_properties: Vec<(String, String)>,
    /// Messages that librdkafka has.
    in_client: AtomicU64,
    /// Messages in the backlog.
    waiting: AtomicU64,
    tickets: Tickets,
    backlog: Mutex<Backlog>,
    reports_successes: bool,
    drains: Drains,
    is_ending: AtomicBool,
}

struct Log(Arc<dyn DirectObserver>);

impl LogTarget for Log {
    fn line(&self, level: i32, facility: &str, text: &str) {
        self.0.log(level, facility, text);
    }
}

impl DirectProducer {
    /// Makes the client; it begins to connect.
    ///
    /// # Errors
    /// librdkafka's sentence about the first property that it does not know or
    /// take, or about all of them together.
    pub fn start(config: DirectConfig, observer: Arc<dyn DirectObserver>) -> Result<Self, Refusal> {
        let mut conf = Conf::new();
        let mut only_errors = false;
        for (name, value) in &config.client {
            conf.set(name, value).map_err(Refusal)?;
            if name == ONLY_ERRORS {
                only_errors = is_on(value);
            }
        }
        conf.set(ONLY_ERRORS, "false").map_err(Refusal)?;
        let mut events = RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR;
        if config.has_statistics {
            events |= RD_KAFKA_EVENT_STATS;
        } else {
            conf.set("statistics.interval.ms", "0").map_err(Refusal)?;
        }
        conf.set_events(events);
        let log = Arc::new(Log(Arc::clone(&observer)));
        let client = Client::with_log(Kind::Producer, conf, "direct".to_owned(), log);
        let shared = Arc::new(Shared {
            client: Arc::new(client.map_err(Refusal)?),
            observer,
            topics: RwLock::default(),
            topic_properties: config.topics,
            in_client: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            tickets: Tickets::default(),
            backlog: Mutex::default(),
            reports_successes: !only_errors,
            drains: Drains::default(),
            is_ending: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("direct".to_owned())
            .spawn(move || delivery::run(&own))
            .map_err(|error| Refusal(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Messages that are neither delivered nor given up, those that wait for
    /// room included.
    pub fn outstanding(&self) -> u64 {
        self.shared.outstanding()
    }

    /// Asks a broker about a topic; blocks up to `timeout`.
    ///
    /// # Errors
    /// The topic's properties are refused, or no broker answers: its code and
    /// text.
    pub fn view(&self, topic: &str, timeout: Duration) -> Result<ClusterView, ViewError> {
        view(&self.shared, topic, timeout)
    }

    /// [`view`](Self::view) for another thread, which lives at most as long as
    /// `timeout` longer than the producer.
    pub fn viewer(&self) -> Viewer {
        Viewer(Arc::clone(&self.shared))
    }

    /// Refuses topics whose properties librdkafka does not take.
    ///
    /// # Errors
    /// librdkafka's sentence.
    pub fn check_topic(&self, topic: &str) -> Result<(), Refusal> {
        self.shared.topic(topic).map(|_| ())
    }
}

/// Asks about topics from another thread.
pub struct Viewer(Arc<Shared>);

impl Viewer {
    /// [`DirectProducer::view`].
    ///
    /// # Errors
    /// The same.
    pub fn view(&self, topic: &str, timeout: Duration) -> Result<ClusterView, ViewError> {
        view(&self.0, topic, timeout)
    }
}

/// Why a topic could not be asked about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// Its properties are refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No broker has answered.
    #[error("{0}")]
    Kafka(KafkaError),
}

fn view(shared: &Shared, topic: &str, timeout: Duration) -> Result<ClusterView, ViewError> {
    let topic = shared.topic(topic)?;
    let view = shared.client.view(&topic, timeout);
    view.map_err(|code| ViewError::Kafka(KafkaError::from_raw(code)))
}

impl fmt::Debug for DirectProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectProducer")
            .field("outstanding", &self.outstanding())
            .finish_non_exhaustive()
    }
}

impl Drop for DirectProducer {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Release);
        self.shared.client.wake_poll();
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
        self.shared.end_drains();
        let gone = KafkaError::from_code(ErrorCode::BrokerDestroy);
        self.shared.backlog.lock().clear();
        self.shared.tickets.end_all(gone);
        self.shared.topics.write().clear();
    }
}

impl Shared {
    fn outstanding(&self) -> u64 {
        self.in_client.load(Ordering::Acquire) + self.waiting.load(Ordering::Acquire)
    }

    /// librdkafka's topic, made when it is named first.
    fn topic(&self, name: &str) -> Result<Arc<NativeTopic>, Refusal> {
        if let Some(topic) = self.topics.read().get(name) {
            return Ok(Arc::clone(topic));
        }
        let made = NativeTopic::with_properties(&self.client, name, &self.topic_properties);
        let topic = Arc::new(made.map_err(Refusal)?);
        self.topics.write().insert(name.into(), Arc::clone(&topic));
        Ok(topic)
    }
}

/// A switch as librdkafka reads it.
fn is_on(value: &str) -> bool {
    ["true", "t", "1"]
        .iter()
        .any(|on| value.eq_ignore_ascii_case(on))
}
