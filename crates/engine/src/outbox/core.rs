//! One topic: all that its lock guards, and its places at the clients.

use super::Parts;
use super::answers::{Hearer, Outcome};
use super::clients::Clients;
use super::error::{Dropped, Place, ProduceError};
use super::events::{Event, Happening};
use super::flights::Flight;
use super::info::{TopicCounts, TopicInfo, TopicState};
use super::journaled::SavedOnDisk;
use super::renewal::Back;
use super::settings::{OutboxSettings, TopicSettings, bounded};
use super::strategy::{Entry, NotPicked, Ring};
use super::stream::{Held, Stream};
use crate::error::{ErrorCode, KafkaError};
use crate::native::NativeTopic;
use crate::producer::{Producer, is_legal_name};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use slab::Slab;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

/// The topic as its clients, the clock and the monitor share it.
pub(super) struct Core {
    pub(super) name: Arc<str>,
    pub(super) parts: Arc<Parts>,
    /// Replaced under the lock of `inner`.
    pub(super) outlets: ArcSwapOption<Clients<Arc<Outlet>>>,
    pub(super) inner: Mutex<Inner>,
    /// Told when the topic's state has changed.
    pub(super) changed: Notify,
}

/// The topic at one client.
pub(super) struct Outlet {
    pub(super) producer: Producer,
    pub(super) native: NativeTopic,
    /// What the client's reports name the topic by.
    pub(super) number: usize,
}

/// Whether messages can be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Its partitions are not known yet.
    Starting,
    /// At least one partition answers.
    Open,
    /// None does.
    Down,
}

/// The cluster does not have the topic, or will not let us use it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Absence {
    pub(super) error: KafkaError,
    /// It is asked for again then.
    pub(super) until: Instant,
}

/// All that the topic's lock guards.
pub(super) struct Inner {
    pub(super) settings: TopicSettings,
    pub(super) sync_timeout: Duration,
    pub(super) reach: Reach,
    pub(super) ring: Ring,
    /// One per partition of the ring.
    pub(super) streams: Vec<Stream>,
    /// Messages that wait to be picked, in order.
    pub(super) backlog: VecDeque<Held>,
    /// Messages of those who wait for Kafka's word, in order.
    pub(super) waiting: VecDeque<Held>,
    /// Until when those wait whose messages were handed over late, and the
    /// flights of these.
    pub(super) late: VecDeque<(Instant, usize, Instant)>,
    /// How many messages were handed over, or refused then.
    pub(super) handed_over: u64,
    /// Messages at the client of which nobody wants to know.
    pub(super) plain_in_flight: usize,
    /// None of them has a smaller number.
    pub(super) plain_since: u64,
    /// A client has failed for good: nothing is handed over before what it had
    /// has come back.
    pub(super) is_renewing: bool,
    pub(super) back: Vec<Back>,
    /// Batches and lists at the client; 0 is nobody's.
    pub(super) flights: Slab<Flight>,
    pub(super) in_flight: usize,
    /// While what was kept in a downtime is being handed over: how much was.
    pub(super) replayed: Option<usize>,
    pub(super) last_error: Arc<str>,
    /// What the journal has of a downtime.
    pub(super) on_disk: Option<SavedOnDisk>,
    /// Since when the topic is down, or in use.
    pub(super) down_since: Instant,
    pub(super) absence: Option<Absence>,
    /// Since when the cluster says that it does not have it.
    pub(super) absent_since: Option<Instant>,
    /// When the cluster was last asked.
    pub(super) asked: Option<Instant>,
    /// Whether anybody has answered then.
    pub(super) is_answered: bool,
    /// Since when questions are not answered though it is up.
    pub(super) silent_since: Option<Instant>,
    /// The client's queue was full.
    pub(super) is_stuck: bool,
    /// When the clock comes.
    pub(super) due: Option<Instant>,
    pub(super) counts: TopicCounts,
    pub(super) dropped: [u64; Dropped::ALL.len()],
    pub(super) said: Option<Instant>,
    pub(super) unsaid: u64,
}

/// What is told once the topic's lock is free.
#[derive(Default)]
pub(super) struct After {
    told: Vec<(Hearer, Outcome)>,
}

impl After {
    pub(super) fn tell(&mut self, hearer: Option<Hearer>, outcome: impl FnOnce() -> Outcome) {
        if let Some(hearer) = hearer {
            self.told.push((hearer, outcome()));
        }
    }

    pub(super) fn run(self) {
        for ((sink, number), outcome) in self.told {
            sink.settled(number, outcome);
        }
    }
}

impl Core {
    /// `None`: no topic can have that name, or there are too many.
    pub(super) fn new(name: &str, parts: &Arc<Parts>) -> Option<Arc<Self>> {
        if !is_legal_name(name.as_bytes()) {
            return None;
        }
        let now = Instant::now();
        let settings = Arc::clone(&parts.settings.read());
        let own = settings.of(name);
        let mut flights = Slab::new();
        flights.insert(Flight::nobodys(now));
        let core = Arc::new(Self {
            name: name.into(),
            parts: Arc::clone(parts),
            outlets: ArcSwapOption::empty(),
            inner: Mutex::new(Inner {
                ring: Ring::new(own.lanes_per_partition, settings.seed),
                settings: own,
                sync_timeout: bounded(settings.sync_timeout),
                reach: Reach::Starting,
                streams: Vec::new(),
                backlog: VecDeque::new(),
                waiting: VecDeque::new(),
                late: VecDeque::new(),
                handed_over: 0,
                plain_in_flight: 0,
                plain_since: 0,
                is_renewing: false,
                back: Vec::new(),
                flights,
                in_flight: 0,
                replayed: None,
                on_disk: None,
                last_error: "not connected yet".into(),
                down_since: now,
                absence: None,
                absent_since: None,
                asked: None,
                is_answered: true,
                silent_since: None,
                is_stuck: false,
                due: None,
                counts: TopicCounts::default(),
                dropped: Default::default(),
                said: None,
                unsaid: 0,
            }),
            changed: Notify::new(),
        });
        let clients = parts.clients.read().clone();
        let outlets = clients.try_map(|client| core.outlet_at(client).map(Arc::new))?;
        core.outlets.store(Some(Arc::new(outlets)));
        Some(core)
    }

    pub(super) fn outlet_at(self: &Arc<Self>, producer: &Producer) -> Option<Outlet> {
        let compression = self.inner.lock().settings.compression.clone();
        let native = producer.native_topic(&self.name, compression.as_deref())?;
        let receiver = Arc::clone(self);
        Some(Outlet {
            producer: producer.clone(),
            native,
            number: producer.receive(receiver)?,
        })
    }

    /// Where the cluster is asked about it.
    pub(super) fn first_outlet(&self) -> Option<Arc<Outlet>> {
        self.outlets.load().as_ref()?.first()
    }

    /// Its clients forget it, so that it can end.
    pub(super) fn forget(&self) {
        let outlets = self.outlets.load_full();
        for outlet in outlets.iter().flat_map(|outlets| outlets.iter()) {
            outlet.producer.forget_receiver(outlet.number);
        }
    }

    pub(super) fn place(&self, index: usize, partition: Option<i32>) -> Place {
        Place {
            topic: Arc::clone(&self.name),
            partition,
            index,
        }
    }

    pub(super) fn failed(
        &self,
        error: KafkaError,
        index: usize,
        partition: Option<i32>,
    ) -> ProduceError {
        let at = self.place(index, partition);
        if error.is(ErrorCode::UnknownPartition) {
            ProduceError::UnknownPartition { at }
        } else if error.is_unknown_topic() {
            ProduceError::UnknownTopic { at }
        } else {
            ProduceError::Broker { at, error }
        }
    }

    pub(super) fn not_picked(&self, why: NotPicked, index: usize) -> ProduceError {
        let at = self.place(index, None);
        match why {
            NotPicked::Refused(reason) => ProduceError::Blocked { at, reason },
            NotPicked::UnknownPartition | NotPicked::NobodyThere => {
                ProduceError::UnknownPartition { at }
            }
        }
    }

    /// Announces something, if anybody listens.
    pub(super) fn announce(
        &self,
        inner: &Inner,
        slot: Option<usize>,
        what: impl FnOnce() -> Happening,
    ) {
        if !self.parts.announcer.is_heard() {
            return;
        }
        let partition = slot.and_then(|slot| inner.ring.partitions().get(slot));
        self.parts.announcer.announce(Event {
            topic: Arc::clone(&self.name),
            partition: partition.map(|partition| partition.id),
            leader: partition.and_then(|partition| partition.leader),
            at: SystemTime::now(),
            has_statsd: inner.settings.has_statsd,
            what: what(),
        });
    }

    /// Whether nothing is left of it and nobody uses it.
    pub(super) fn is_forgettable(self: &Arc<Self>) -> bool {
        let inner = self.inner.lock();
        // Its clients and the outbox have it.
        let owners = 2 + self.parts.connections;
        Arc::strong_count(self) <= owners
            && inner.in_flight == 0
            && inner.back.is_empty()
            && inner.backlog.is_empty()
            && inner.waiting.is_empty()
            && inner.on_disk.is_none()
            && inner.streams.iter().all(Stream::is_empty)
    }

    /// Takes over new settings.
    pub(super) fn reload(self: &Arc<Self>, settings: &OutboxSettings) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        inner.settings = settings.of(&self.name);
        inner.sync_timeout = bounded(settings.sync_timeout);
        let partitions = inner.ring.partitions().to_vec();
        inner
            .ring
            .rebuild(partitions, inner.settings.lanes_per_partition);
        inner.plan(self, Instant::now());
    }

    pub(super) fn info(&self) -> TopicInfo {
        let inner = self.inner.lock();
        let mut dropped = Dropped::ALL.map(|reason| (reason, 0));
        for (entry, count) in dropped.iter_mut().zip(inner.dropped) {
            entry.1 = count;
        }
        TopicInfo {
            topic: Arc::clone(&self.name),
            state: inner.state(),
            partitions: inner.ring.partitions().to_vec(),
            lanes: inner.ring.lanes(),
            max_batch_messages: inner.settings.max_batch_messages,
            batched: inner.streams.iter().map(Stream::len).sum(),
            kept: inner.backlog.len(),
            waiting: inner.waiting.len(),
            in_flight: inner.in_flight,
            last_error: Arc::clone(&inner.last_error),
            counts: inner.counts,
            dropped,
        }
    }
}

impl Inner {
    pub(super) fn state(&self) -> TopicState {
        match self.reach {
            Reach::Starting => TopicState::Starting,
            Reach::Down => TopicState::Down,
            Reach::Open if self.replayed.is_some() || self.is_renewing => TopicState::Replaying,
            Reach::Open if self.ring.available() < self.streams.len() => TopicState::Degraded,
            Reach::Open => TopicState::Up,
        }
    }

    pub(super) fn partition(&self, slot: usize) -> i32 {
        let partition = self.ring.partitions().get(slot);
        partition.map_or(-1, |partition| partition.id)
    }

    pub(super) fn is_available(&self, slot: usize) -> bool {
        let partition = self.ring.partitions().get(slot);
        partition.is_some_and(|partition| partition.is_available)
    }

    pub(super) fn pick(
        &mut self,
        topic: &str,
        wanted: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Entry, NotPicked> {
        let strategy = (&self.settings.strategy, self.settings.sticky_picks);
        self.ring.pick(strategy, topic, wanted, key, value)
    }

    /// Whether messages may pass what is kept: nothing is.
    pub(super) fn is_direct(&self) -> bool {
        self.reach == Reach::Open
            && self.backlog.is_empty()
            && self.replayed.is_none()
            && !self.is_renewing
    }
    /// The same for messages of those who wait for Kafka's word: they pass the
    /// others, and not each other.
    pub(super) fn is_direct_for_waiting(&self) -> bool {
        self.reach == Reach::Open && self.waiting.is_empty() && !self.is_renewing
    }
}
