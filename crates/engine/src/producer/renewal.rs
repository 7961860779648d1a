//! Another client in the place of one that has failed for good.
//!
//! A producer with idempotence that has lost its place (KIP-360), or that a
//! broker refuses a producer id, takes nothing any more. What it has is given up
//! at once: whoever waits hears "Local: Fatal error". What comes after that goes
//! to a new client, through the same [`Producer`](super::Producer), accounts and
//! counters. The old client stays until its last report is in.
//!
//! The outbox and the journal's feeder send again what a dead client had, and
//! therefore replace the whole producer themselves.

use super::Shared;
use crate::error::{Error, ErrorCode, KafkaError};
use crate::native::{Client, Conf, Kind, NativeTopic, Queue};
use crate::properties::Properties;
use arc_swap::{ArcSwap, Guard};
use rdkafka::bindings::{RD_KAFKA_EVENT_DR, RD_KAFKA_EVENT_ERROR, RD_KAFKA_EVENT_STATS};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Pause before one that failed as soon as it was made is replaced again;
/// doubled up to the second.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// One that has lived so long has not failed as soon as it was made.
const LIFE: Duration = Duration::from_secs(60);
/// How long a client that has failed is kept though it has no messages: who was
/// handing some over when it failed may not be done yet.
const GRACE: Duration = Duration::from_secs(5);
/// How often messages are given up once more: one may have been on its way
/// between two queues.
const GIVE_UP: Duration = Duration::from_millis(100);

/// Who replaces a client that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Renewal {
    /// The producer.
    Own,
    /// Whoever has made the producer; it takes nothing until then.
    Others,
}

/// Makes a client.
pub(super) fn connect(properties: &Properties, has_pickers: bool) -> Result<Arc<Client>, Error> {
    let mut conf: Conf = properties.to_conf()?;
    if has_pickers {
        // Or they would not be asked where messages without a key go.
        let set = conf.set("sticky.partitioning.linger.ms", "0");
        set.map_err(|reason| Error::Client { reason })?;
    }
    conf.set_events(RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_STATS);
    Client::new(Kind::Producer, conf, "producer".to_owned())
        .map(Arc::new)
        .map_err(|reason| Error::Client { reason })
}

/// The handle of a topic that follows its producer from client to client.
pub(super) struct Following {
    native: ArcSwap<NativeTopic>,
}

impl Following {
    pub(super) fn new(native: NativeTopic) -> Self {
        Self {
            native: ArcSwap::from_pointee(native),
        }
    }

    pub(super) fn load(&self) -> Guard<Arc<NativeTopic>> {
        self.native.load()
    }

    /// Goes over to the producer's present client; false if it is there
    /// already, or nothing can be had of it.
    pub(super) fn follow(&self, shared: &Shared, name: &str) -> bool {
        if self.native.load().is_of(&shared.client.load()) {
            return false;
        }
        match shared.native_topic(name) {
            Some(native) => {
                self.native.store(Arc::new(native));
                true
            }
            None => false,
        }
    }
}

/// The delivery thread's: the client that it listens to, and those before.
pub(super) struct Clients {
    client: Arc<Client>,
    pub(super) queue: Queue,
    since: Instant,
    /// Not before.
    renewed_at: Option<Instant>,
    pause: Duration,
    given_up: Option<Instant>,
    dead: Vec<Dead>,
}

/// A client that has failed, until it has reported all that it had.
struct Dead {
    client: Arc<Client>,
    queue: Queue,
    since: Instant,
    given_up: Instant,
}

impl Clients {
    pub(super) fn of(shared: &Shared) -> Self {
        let client = shared.client.load_full();
        Self {
            queue: client.main_queue(),
            client,
            since: Instant::now(),
            renewed_at: None,
            pause: PAUSE,
            given_up: None,
            dead: Vec::new(),
        }
    }

    /// Whether there are any whose last reports are to be taken.
    pub(super) fn have_dead(&self) -> bool {
        !self.dead.is_empty() || self.given_up.is_some()
    }

    /// The queues of those that have failed.
    pub(super) fn dead_queues(&self) -> impl Iterator<Item = &Queue> {
        self.dead.iter().map(|dead| &dead.queue)
    }

    /// Lets go of those that have reported everything, and replaces the present
    /// one if it has failed.
    pub(super) fn look_after(&mut self, shared: &Arc<Shared>) {
        let is_over = |dead: &mut Dead| {
            let is_empty = dead.client.undelivered() == 0;
            if !is_empty && dead.given_up.elapsed() >= GIVE_UP {
                dead.client.give_up_messages();
                dead.given_up = Instant::now();
            }
            is_empty && dead.since.elapsed() >= GRACE
        };
        let over: Vec<Dead> = self.dead.extract_if(.., is_over).collect();
        if !over.is_empty() {
            // It joins the client's threads, which may be looking up a name.
            let end = std::thread::Builder::new().name("dead client".to_owned());
            if let Err(error) = end.spawn(move || drop(over)) {
                tracing::error!(component = "producer", "cannot start a thread: {error}");
            }
        }
        let Some(renewal) = &shared.renewal else {
            return;
        };
        let Some((_, reason)) = self.client.fatal_error() else {
            return;
        };
        let now = Instant::now();
        if self.given_up.is_none_or(|then| then.elapsed() >= GIVE_UP) {
            if self.given_up.is_none() {
                if self.since.elapsed() >= LIFE {
                    self.pause = PAUSE;
                    self.renewed_at = None;
                }
                tracing::error!(
                    component = "producer",
                    "a client has failed for good, a new one goes on; what it had is given up: \
                     {reason}"
                );
            }
            self.given_up = Some(now);
            self.client.give_up_messages();
        }
        if self.renewed_at.is_some_and(|then| then + self.pause > now) {
            return;
        }
        if self.renewed_at.replace(now).is_some() {
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        match connect(renewal, shared.pickers.is_some()) {
            Ok(client) => self.go_over(shared, client),
            Err(error) => tracing::error!(component = "producer", "no new client: {error}"),
        }
    }

    fn go_over(&mut self, shared: &Arc<Shared>, client: Arc<Client>) {
        shared.client.store(Arc::clone(&client));
        // Who comes between meets the dead one, and then follows by himself.
        for topic in shared.topics.read().values() {
            topic.follow(shared);
        }
        for (name, destination) in &*shared.destinations.read() {
            destination.native.follow(shared, name);
        }
        shared.counters.renewed.fetch_add(1, Ordering::Relaxed);
        let queue = client.main_queue();
        self.dead.push(Dead {
            client: std::mem::replace(&mut self.client, client),
            queue: std::mem::replace(&mut self.queue, queue),
            since: Instant::now(),
            given_up: Instant::now(),
        });
        self.since = Instant::now();
        self.given_up = None;
        // Whoever finds no room may find some now.
        if shared.somebody_wants_room.swap(false, Ordering::AcqRel) {
            shared.progress.notify_waiters();
        }
    }
}

/// What is told of a message that a dead client has given up: why, not how.
pub(super) fn reason_of(error: KafkaError) -> KafkaError {
    match error.is(ErrorCode::PurgeQueue) || error.is(ErrorCode::PurgeInflight) {
        true => KafkaError::from_code(ErrorCode::Fatal),
        false => error,
    }
}

#[cfg(test)]
mod tests;
