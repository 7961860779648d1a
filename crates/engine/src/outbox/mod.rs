//! Producing that outlives Kafka's absence: strategies, batches, a buffer for
//! downtime, events.
//!
//! The contract (`producer-engine.md`) calls this `Producer`; it is named
//! `Outbox` here because [`Producer`](crate::Producer) is the shared
//! librdkafka client below it.
//!
//! Data flow: a payload is admitted (`budget`) and picked (`strategy`). While
//! its topic is up it goes to the client at once, or into the batch of its
//! partition (`stream`); otherwise it is kept by the topic (`backlog`). The
//! `clock` thread hands over what is due; the `monitor` thread finds out which
//! partitions can be reached; the client's delivery thread reports back
//! (`flights`), and what comes back without an answer goes before all others
//! (`renewal`). What is to survive the process goes through the journal instead
//! (`journaled`). All of a topic is under the topic's own lock; topics share
//! nothing but two counters.

mod admission;
mod answers;
mod backlog;
mod budget;
mod clients;
mod clock;
mod core;
mod error;
mod events;
mod flights;
mod hand_over;
mod hashes;
mod info;
mod journaled;
mod massage;
mod monitor;
mod payload;
mod permit;
mod reach;
mod renewal;
mod settings;
mod start;
mod statsd;
mod strategy;
mod stream;
mod topic;

pub use answers::{AllAnswers, Answers, Hearer, Outcome, ProduceSink};
pub use budget::OVERHEAD;
pub use error::{Dropped, Place, ProduceError};
pub use events::{Event, Events, Happening};
pub use hashes::phash2;
pub use info::{ForgottenTopics, OutboxInfo, TopicCounts, TopicInfo, TopicState};
pub use massage::{MassageBuffer, Massaged, OneLarge};
pub use payload::{Header, KeptRecord, NewRecord, Payload};
pub use permit::Permit;
pub use settings::{DowntimePolicy, OutboxSettings, PerTopic, TopicSettings};
pub use statsd::{Statsd, StatsdConfig};
pub(crate) use strategy::{NotPicked, Ring};
pub use strategy::{PartitionPicker, PartitionView, Pick, Strategy, TopicView};
pub use topic::OutboxTopic;

use self::core::Core;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::journal::{Journal, JournalWatch};
use crate::producer::Producer;
use crate::properties::Properties;
use budget::Budget;
use clients::Clients;
use clock::Clock;
use events::Announcer;
use monitor::Monitor;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// Topics beyond this many are forgotten as soon as nothing is left of them.
const REMEMBERED_TOPICS: usize = 10_000;

/// How a payload is produced. All modes pick in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Sent at once. Waits in memory as long as Kafka is away.
    Async,
    /// As [`Async`](Self::Async), in the batch of its partition.
    AsyncBatched,
    /// Sent at once, with a limit
    /// ([`sync_timeout`](OutboxSettings::sync_timeout)) after which it is never
    /// sent.
    Sync,
}

/// What was taken of a payload.
#[derive(Debug, Default)]
#[must_use]
pub struct Admission {
    /// How many records.
    pub accepted: usize,
    /// Why not the others: each says which record it is about. One
    /// [`Full`](ProduceError::Full), [`NotJournaled`](ProduceError::NotJournaled)
    /// or [`ShuttingDown`](ProduceError::ShuttingDown) stands for its record and
    /// all after it of which no other one says so; it is the last.
    pub refused: Vec<ProduceError>,
}

impl Admission {
    /// How many, if that is all of them; else the first reason.
    ///
    /// # Errors
    /// The first refusal.
    pub fn all(self) -> Result<usize, ProduceError> {
        self.refused
            .into_iter()
            .next()
            .map_or(Ok(self.accepted), Err)
    }
}

/// Where a batched record has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffered {
    /// `None` while the topic is down: it is picked later.
    pub partition: Option<i32>,
    /// What the lane, or the topic's buffer, holds with it; 0 if it went on at
    /// once.
    pub length: usize,
}

/// Where a message would go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picked {
    /// The partition.
    pub partition: i32,
    /// Its lane.
    pub lane: u32,
}

/// Produces to any topic of one cluster. Clones share everything; threads:
/// two, one for events, and those of the clients below.
#[derive(Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
    journal: Option<Journal>,
    _threads: Arc<Threads>,
}

/// What is configured before the start.
pub struct OutboxBuilder {
    cluster: Cluster,
    settings: OutboxSettings,
    listeners: Vec<Arc<dyn Events>>,
    topics: Vec<String>,
    journal: Option<Journal>,
}

/// All topics, and what they share.
struct Shared {
    parts: Arc<Parts>,
    topics: RwLock<HashMap<Box<str>, Arc<Core>>>,
    forgotten: Mutex<ForgottenTopics>,
}

/// What topics share.
struct Parts {
    cluster: Cluster,
    clients: RwLock<Clients<Producer>>,
    /// What they are made of, for each kind.
    own: OwnProperties,
    /// Clients without a limit in time.
    connections: usize,
    /// Clients that had failed for good and were replaced.
    renewed: AtomicU64,
    /// The largest message, with what surrounds it.
    message_max_bytes: u64,
    /// Not the journal itself: its threads come here.
    journal: Option<JournalWatch>,
    settings: RwLock<Arc<OutboxSettings>>,
    budget: Budget,
    announcer: Announcer,
    clock: Arc<Clock>,
    monitor: Arc<Monitor>,
}

/// Properties in front of those of the cluster.
struct OwnProperties {
    patient: Properties,
    limited: Properties,
}

/// Ends the threads with the last outbox.
struct Threads {
    shared: Arc<Shared>,
    handles: Vec<std::thread::JoinHandle<()>>,
}

impl OutboxBuilder {
    /// Settings in the place of the defaults.
    #[must_use]
    pub fn settings(mut self, settings: OutboxSettings) -> Self {
        self.settings = settings;
        self
    }

    /// A listener that hears everything from the start.
    #[must_use]
    pub fn listener(mut self, listener: Arc<dyn Events>) -> Self {
        self.listeners.push(listener);
        self
    }

    /// A topic that is looked at from the start (`bootstrap_topics`).
    #[must_use]
    pub fn topic(mut self, name: impl Into<String>) -> Self {
        self.topics.push(name.into());
        self
    }

    /// For the topics that are to be [durable](OutboxSettings::durability) so.
    /// It is fed from now on, not before, and by nobody else.
    #[must_use]
    pub fn journal(mut self, journal: Journal) -> Self {
        self.journal = Some(journal);
        self
    }

    /// Starts it. No broker needs to be there yet.
    ///
    /// # Errors
    /// What librdkafka refuses, a topic that cannot be one, or no journal where
    /// a topic is to have one.
    pub fn start(self) -> Result<Outbox, Error> {
        Outbox::start(self)
    }
}

impl Outbox {
    /// For the topics of this cluster.
    pub fn builder(cluster: &Cluster) -> OutboxBuilder {
        OutboxBuilder {
            cluster: cluster.clone(),
            settings: OutboxSettings::default(),
            listeners: Vec::new(),
            topics: Vec::new(),
            journal: None,
        }
    }

    /// A topic to produce to; it need not exist. Whoever produces many
    /// messages keeps it: the methods below look it up each time, under a lock
    /// that all topics share.
    ///
    /// # Errors
    /// [`ProduceError::InvalidTopic`].
    pub fn topic(&self, name: &str) -> Result<OutboxTopic, ProduceError> {
        let core = self.shared.core(name).ok_or_else(|| {
            // A name may be as long as a request.
            let topic: String = name.chars().take(250).collect();
            let topic: Arc<str> = topic.into();
            let (partition, index) = (None, 0);
            ProduceError::InvalidTopic {
                at: Place {
                    topic,
                    partition,
                    index,
                },
            }
        })?;
        Ok(OutboxTopic::new(core, self.clone()))
    }

    /// [`OutboxTopic::produce_async`].
    ///
    /// # Errors
    /// The first refusal.
    pub fn produce_async<'a>(
        &self,
        topic: &str,
        payload: impl Into<Payload<'a>>,
    ) -> Result<usize, ProduceError> {
        self.topic(topic)?.produce_async(payload).all()
    }

    /// [`produce_async`](Self::produce_async) by its other name.
    ///
    /// # Errors
    /// The first refusal.
    pub fn publish<'a>(
        &self,
        topic: &str,
        payload: impl Into<Payload<'a>>,
    ) -> Result<usize, ProduceError> {
        self.produce_async(topic, payload)
    }

    /// [`OutboxTopic::produce_async_batched`].
    ///
    /// # Errors
    /// The first refusal.
    pub fn produce_async_batched<'a>(
        &self,
        topic: &str,
        payload: impl Into<Payload<'a>>,
    ) -> Result<usize, ProduceError> {
        self.topic(topic)?.produce_async_batched(payload).all()
    }

    /// [`OutboxTopic::produce_sync`].
    ///
    /// # Errors
    /// [`ProduceError::InvalidTopic`]; other errors stand in the list.
    pub async fn produce_sync<'a>(
        &self,
        topic: &str,
        payload: impl Into<Payload<'a>>,
    ) -> Result<Vec<Outcome>, ProduceError> {
        Ok(self.topic(topic)?.produce_sync(payload).await)
    }

    /// [`OutboxTopic::produce_sync_batched`].
    ///
    /// # Errors
    /// [`ProduceError::InvalidTopic`]; other errors stand in the list.
    pub fn produce_sync_batched<'a>(
        &self,
        topic: &str,
        payload: impl Into<Payload<'a>>,
    ) -> Result<Vec<Result<Buffered, ProduceError>>, ProduceError> {
        Ok(self.topic(topic)?.produce_sync_batched(payload))
    }

    /// [`produce_sync_batched`](Self::produce_sync_batched) by its other name.
    ///
    /// # Errors
    /// As there.
    pub fn batch<'a>(
        &self,
        topic: &str,
        payload: impl Into<Payload<'a>>,
    ) -> Result<Vec<Result<Buffered, ProduceError>>, ProduceError> {
        self.produce_sync_batched(topic, payload)
    }

    /// Room for `count` records of `bytes` (keys, values and headers) together,
    /// or nothing. What is not used goes back when the permit is dropped.
    /// `None`: there is no such room now, or the outbox is being drained.
    pub fn reserve(&self, count: usize, bytes: u64) -> Option<Permit> {
        Permit::new(&self.shared.parts, count, bytes)
    }

    /// Sends all batches now and waits until nothing is left, in the journal
    /// neither, at most until `deadline`. Returns how many messages are left in
    /// memory then; those in the journal are safe there. Others may go on
    /// producing, and are waited for.
    pub async fn flush(&self, deadline: Instant) -> u64 {
        let on_disk = async {
            if let Some(journal) = &self.journal {
                // What is left is in the journal's own numbers.
                let _ = tokio::time::timeout_at(deadline.into(), journal.drained()).await;
            }
        };
        tokio::join!(self.shared.flush(deadline), on_disk).0
    }

    /// The journal, if it has one.
    pub fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref()
    }

    /// Takes no more and then [`flush`](Self::flush)es. Permits that were given
    /// before are honoured.
    pub async fn drain(&self, deadline: Instant) -> u64 {
        self.shared.parts.budget.close();
        self.flush(deadline).await
    }

    /// Lets somebody hear of events from now on.
    pub fn subscribe(&self, listener: Arc<dyn Events>) {
        self.shared.parts.announcer.subscribe(listener);
    }

    /// Replaces the settings, for topics in use, too. What is read at the start
    /// stays (see [`OutboxSettings`]).
    pub fn reload(&self, settings: OutboxSettings) {
        self.shared.reload(settings);
    }

    /// Whether so many records of `bytes` could be admitted if nothing else
    /// were there. What could not is never to be tried again.
    pub fn could_hold(&self, count: usize, bytes: u64) -> bool {
        self.shared.parts.budget.could_hold(count, bytes)
    }

    /// Whether it is being drained, and takes no more.
    pub fn is_draining(&self) -> bool {
        self.shared.parts.budget.is_closed()
    }

    /// Levels and counters of the whole.
    pub fn info(&self) -> OutboxInfo {
        self.shared.info()
    }

    /// Each topic in use.
    pub fn topics(&self) -> Vec<TopicInfo> {
        let cores: Vec<Arc<Core>> = self.shared.cores();
        cores.iter().map(|core| core.info()).collect()
    }

    /// What topics had counted that are remembered no more: beyond 10,000
    /// those are forgotten of which nothing is left.
    pub fn forgotten_topics(&self) -> ForgottenTopics {
        *self.shared.forgotten.lock()
    }

    /// Whether a record is small enough to be sent (`message.max.bytes`).
    pub fn fits(&self, record: &NewRecord<'_>) -> bool {
        let bytes = (record.bytes() as u64).saturating_add(crate::producer::RECORD_OVERHEAD);
        bytes <= self.shared.parts.message_max_bytes()
    }

    /// The clients that send without a limit in time, for their statistics.
    /// One that fails for good is replaced.
    pub fn patient_clients(&self) -> Vec<Producer> {
        self.shared.parts.clients.read().patient.clone()
    }

    /// The client of those who wait.
    pub fn waiting_client(&self) -> Producer {
        self.shared.parts.clients.read().limited.clone()
    }
}
