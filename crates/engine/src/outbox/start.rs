//! Putting an outbox together, and taking it apart.

use super::budget::Budget;
use super::clients::Clients;
use super::clock::Clock;
use super::core::Core;
use super::events::Announcer;
use super::journaled::Places;
use super::monitor::{Limits, Monitor};
use super::settings::bounded;
use super::{
    Outbox, OutboxBuilder, OutboxInfo, OutboxSettings, OwnProperties, Parts, REMEMBERED_TOPICS,
    Shared, Threads,
};
use crate::error::{Error, ErrorCode, KafkaError};
use crate::journal::{Durability, Journal};
use crate::producer::{Alarm, Producer, Renewal};
use crate::properties::Properties;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// While somebody waits for all messages, batches are looked at this often.
const FLUSH_INTERVAL: Duration = Duration::from_millis(50);

impl Outbox {
    pub(super) fn start(builder: OutboxBuilder) -> Result<Self, Error> {
        let settings = builder.settings;
        let wants_journal = |one: &Durability| *one == Durability::Journal;
        if builder.journal.is_none() && settings.durability.values().any(wants_journal) {
            return Err(Error::Client {
                reason: "durability: there is no journal".to_owned(),
            });
        }
        let cluster = builder.cluster;
        let own = own_properties(&settings);
        let mut clients = vec![cluster.mortal_producer(&own)?];
        while clients.len() < settings.connections {
            // The cluster has one client of a configuration; these are more.
            let properties = cluster.config().producer_properties(&own);
            clients.push(
                cluster
                    .config()
                    .start_producer(&properties, Renewal::Others)?,
            );
        }
        // Started now: in a cluster with brokers that are silent, a new client
        // may need longer than its first caller can wait.
        let limit = settings.sync_timeout.as_millis().clamp(1, 2_147_483_647);
        let mut own_limited = own.clone();
        // What stands before messages, as asking for a producer id does, gives
        // up a silent broker in their time, too.
        let patience = limit.clamp(1_000, 60_000).to_string();
        own_limited
            .set("message.timeout.ms", limit.to_string())
            .set_default("socket.timeout.ms", &patience);
        let limited = cluster.mortal_producer(&own_limited)?;
        let monitor = Arc::new(Monitor::new());
        let alarm: Arc<dyn Alarm> = Arc::<Monitor>::clone(&monitor);
        for client in clients.iter().chain([&limited]) {
            client.add_alarm(&alarm);
        }
        let announcer = Announcer::start(settings.event_queue)?;
        for listener in builder.listeners {
            announcer.subscribe(listener);
        }
        let parts = Arc::new(Parts {
            budget: Budget::new(settings.max_buffered_messages, settings.max_buffered_bytes),
            connections: clients.len(),
            message_max_bytes: limited.message_max_bytes(),
            clients: RwLock::new(Clients {
                patient: clients,
                limited,
            }),
            own: OwnProperties {
                patient: own,
                limited: own_limited,
            },
            renewed: AtomicU64::new(0),
            cluster: cluster.clone(),
            journal: builder.journal.as_ref().map(Journal::watch),
            settings: RwLock::new(Arc::new(settings)),
            announcer,
            clock: Arc::new(Clock::default()),
            monitor,
        });
        let shared = Arc::new(Shared {
            parts,
            topics: RwLock::default(),
            forgotten: Mutex::default(),
        });
        let mut threads = Threads {
            shared: Arc::clone(&shared),
            handles: Vec::new(),
        };
        let clock = Arc::clone(&shared.parts.clock);
        threads.handles.push(spawn("clock", move || clock.run())?);
        let watched = Arc::clone(&shared);
        let watch = move || watched.parts.monitor.run(&watched);
        threads.handles.push(spawn("monitor", watch)?);
        for name in builder.topics {
            if shared.core(&name).is_none() {
                let error = KafkaError::from_code(ErrorCode::InvalidTopic);
                return Err(Error::Kafka { error });
            }
        }
        if let Some(journal) = &builder.journal {
            let places = Arc::new(Places::of(&shared));
            let heard = Arc::clone(&places);
            journal.hear_refused(move |refused| heard.refused(&refused));
            if !journal.feed_by(&cluster, Some(places))? {
                return Err(Error::Client {
                    reason: "the journal is fed by somebody else, or closed".to_owned(),
                });
            }
        }
        Ok(Self {
            shared,
            journal: builder.journal,
            _threads: Arc::new(threads),
        })
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(run).map_err(|error| Error::Client {
        reason: format!("cannot start a thread: {error}"),
    })
}

/// Of the client without a limit in time.
fn own_properties(settings: &OutboxSettings) -> Properties {
    let mut properties = settings.librdkafka.clone();
    let refresh = settings.metadata_refresh.as_millis().clamp(10, 3_600_000);
    // librdkafka's bounds.
    let messages = settings.max_buffered_messages.clamp(1, 10_000_000);
    properties
        .set("message.timeout.ms", "0")
        .set_default("reconnect.backoff.max.ms", "1000")
        .set_default("queue.buffering.max.messages", &messages.to_string())
        .set_default("topic.metadata.refresh.interval.ms", &refresh.to_string());
    properties
}

impl Parts {
    /// The largest message, with what surrounds it.
    pub(super) fn message_max_bytes(&self) -> u64 {
        self.message_max_bytes
    }

    /// Who hears of a client's trouble.
    pub(super) fn alarm(&self) -> Arc<dyn Alarm> {
        Arc::<Monitor>::clone(&self.monitor)
    }
}

impl Shared {
    /// The topic of that name; `None`: no topic can have it.
    pub(super) fn core(&self, name: &str) -> Option<Arc<Core>> {
        if let Some(core) = self.topics.read().get(name) {
            return Some(Arc::clone(core));
        }
        let mut topics = self.topics.write();
        if let Some(core) = topics.get(name) {
            return Some(Arc::clone(core));
        }
        if topics.len() >= REMEMBERED_TOPICS {
            topics.retain(|_, core| {
                let is_kept = !core.is_forgettable();
                if !is_kept {
                    core.forget();
                    self.forgotten.lock().add(&core.info());
                }
                is_kept
            });
        }
        let core = Core::new(name, &self.parts)?;
        topics.insert(name.into(), Arc::clone(&core));
        drop(topics);
        self.parts.monitor.wake();
        Some(core)
    }

    /// Brokers that slow a client down, and until when.
    pub(super) fn throttles(&self) -> Vec<(i32, Instant)> {
        let clients = self.parts.clients.read();
        clients.iter().flat_map(Producer::throttles).collect()
    }

    pub(super) fn cores(&self) -> Vec<Arc<Core>> {
        self.topics.read().values().cloned().collect()
    }

    pub(super) fn limits(&self) -> Limits {
        let settings = self.parts.settings.read();
        Limits {
            down_after: bounded(settings.down_after),
            retry: bounded(settings.retry_interval),
            refresh: bounded(settings.metadata_refresh),
            grace: bounded(settings.unknown_topic_grace),
            memory: bounded(settings.unknown_topic_memory),
        }
    }

    pub(super) async fn flush(&self, deadline: Instant) -> u64 {
        loop {
            let clients = self.parts.clients.read().clone();
            let _hurrying: Vec<_> = clients.iter().map(Producer::hurrying).collect();
            let emptied = self.parts.budget.emptied();
            for core in self.cores() {
                core.flush_batches();
            }
            let left = self.parts.budget.messages();
            let now = Instant::now();
            if left == 0 || now >= deadline {
                return left;
            }
            let pause = FLUSH_INTERVAL.min(deadline - now);
            let _ = tokio::time::timeout(pause, emptied).await;
        }
    }

    pub(super) fn reload(&self, settings: OutboxSettings) {
        let settings = Arc::new(settings);
        let (messages, bytes) = (settings.max_buffered_messages, settings.max_buffered_bytes);
        self.parts.budget.set_bounds(messages, bytes);
        *self.parts.settings.write() = Arc::clone(&settings);
        for core in self.cores() {
            core.reload(&settings);
        }
        self.parts.monitor.wake();
    }

    pub(super) fn info(&self) -> OutboxInfo {
        OutboxInfo {
            messages: self.parts.budget.messages(),
            bytes: self.parts.budget.bytes(),
            events_left_out: self.parts.announcer.left_out(),
            clients_renewed: self.parts.renewed.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.parts.clock.end();
        self.shared.parts.monitor.end();
        for handle in self.handles.drain(..) {
            if handle.thread().id() == std::thread::current().id() {
                // Somebody who was told of a message had the last outbox.
                continue;
            }
            let _ = handle.join();
        }
        // Topics and clients hold each other.
        let topics = std::mem::take(&mut *self.shared.topics.write());
        for core in topics.values() {
            core.forget();
        }
    }
}
