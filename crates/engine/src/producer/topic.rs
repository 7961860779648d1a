//! What a producer knows of a topic, and what waits for it to become known.

use super::Shared;
use super::renewal::Following;
use crate::error::KafkaError;
use crate::native::NativeTopic;
use crate::properties::Properties;
use crate::room::{Kept, Room};
use arc_swap::Guard;
use parking_lot::{Mutex, MutexGuard};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// Where a topic stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    /// Nobody has asked the cluster yet, or the answer is still out.
    /// Messages wait in the gateway: librdkafka would keep them for
    /// `topic.metadata.propagation.max.ms` before it says that a topic does
    /// not exist.
    Unresolved = 0,
    /// It exists; messages go straight to librdkafka.
    Known = 1,
    /// The cluster said that it does not exist.
    Missing = 2,
}

/// A topic of one producer. Shared by all callers.
pub struct Topic {
    name: String,
    state: AtomicU8,
    /// How often the cluster has said "does not exist".
    absences: AtomicU64,
    native: OnceLock<Following>,
    waiting: Mutex<Waiting>,
    /// Told when it has turned out to exist or not.
    decided: Notify,
}

/// Messages that wait for the topic to become known, in order.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) records: Vec<WaitingRecord>,
    /// Whether the lookup thread has the topic on its list.
    pub(super) lookup_is_running: bool,
    /// When the cluster was last asked.
    pub(super) asked: Option<Instant>,
    /// Why the topic is missing.
    pub(super) reason: Option<KafkaError>,
}

/// A message that librdkafka does not have yet.
pub(super) struct WaitingRecord {
    pub(super) key: Option<Box<[u8]>>,
    pub(super) value: Option<Box<[u8]>>,
    /// The slot of its caller.
    pub(super) slot: usize,
    pub(super) accepted: Instant,
    pub(super) _room: WaitingRoom,
}

/// What messages may take that librdkafka does not have yet, those of all topics and
/// callers together: as much as its own queue.
pub(super) struct WaitingRooms {
    messages: Arc<Room>,
    bytes: Arc<Room>,
}

/// What one of them takes.
pub(super) struct WaitingRoom {
    _message: Kept,
    _bytes: Kept,
}

impl WaitingRooms {
    /// By the properties of librdkafka's queue.
    pub(super) fn of(properties: &Properties) -> Self {
        let number = |name: &str| properties.get(name)?.parse::<u64>().ok();
        // None is no bound, as in librdkafka.
        let messages = number("queue.buffering.max.messages").filter(|most| *most > 0);
        let kilobytes = number("queue.buffering.max.kbytes").unwrap_or(1 << 20);
        Self {
            messages: Arc::new(Room::new(messages.unwrap_or(u64::MAX))),
            bytes: Arc::new(Room::new(kilobytes << 10)),
        }
    }

    /// Room for a message; `None` if there is none.
    pub(super) fn take(&self, bytes: u64) -> Option<WaitingRoom> {
        let room = |room: &Arc<Room>, size| {
            let mut kept = room.keep_nothing();
            kept.hold(size).then_some(kept)
        };
        Some(WaitingRoom {
            _message: room(&self.messages, 1)?,
            _bytes: room(&self.bytes, bytes)?,
        })
    }
}

impl WaitingRecord {
    pub(super) fn bytes(&self) -> u64 {
        let length = |part: &Option<Box<[u8]>>| part.as_ref().map_or(0, |part| part.len() as u64);
        length(&self.key) + length(&self.value)
    }
}

impl Topic {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: AtomicU8::new(State::Unresolved as u8),
            absences: AtomicU64::new(0),
            native: OnceLock::new(),
            waiting: Mutex::new(Waiting::default()),
            decided: Notify::new(),
        }
    }

    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            1 => State::Known,
            2 => State::Missing,
            _ => State::Unresolved,
        }
    }

    /// Changes the state; the caller holds the lock of `waiting`, so that no
    /// message slips past the change.
    pub(super) fn set_state(&self, _locked: &mut Waiting, state: State) {
        if state == State::Missing {
            self.absences.fetch_add(1, Ordering::Relaxed);
        }
        self.state.store(state as u8, Ordering::Release);
        if state != State::Unresolved {
            self.decided.notify_waiters();
        }
    }

    /// Resolves at the next decision.
    pub(super) fn decided(&self) -> Notified<'_> {
        self.decided.notified()
    }

    /// Whether the cluster has said that it exists.
    pub fn is_known(&self) -> bool {
        self.state() == State::Known
    }

    pub(super) fn absences(&self) -> u64 {
        self.absences.load(Ordering::Relaxed)
    }

    pub(super) fn native(&self) -> Option<Guard<Arc<NativeTopic>>> {
        self.native.get().map(Following::load)
    }

    /// Goes over to the producer's present client; false if it is there
    /// already.
    pub(super) fn follow(&self, shared: &Shared) -> bool {
        let native = self.native.get();
        native.is_some_and(|native| native.follow(shared, &self.name))
    }

    /// Keeps librdkafka's topic object, once the topic is known to exist.
    pub(super) fn adopt(&self, native: NativeTopic) {
        let _ = self.native.set(Following::new(native));
    }

    pub(super) fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock()
    }
}

impl std::fmt::Debug for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topic")
            .field("name", &self.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// A topic to hand over to, counted.
    pub(super) fn native_topic(&self, name: &str) -> Option<NativeTopic> {
        let client = self.client.load();
        let native = match &self.pickers {
            None => NativeTopic::new(&client, name)?,
            Some(pickers) => NativeTopic::picked_by(&client, name, &pickers.of(name))?,
        };
        Some(self.as_told(native, name))
    }

    /// Counted, and batched as is said of the topic.
    pub(super) fn as_told(&self, native: NativeTopic, name: &str) -> NativeTopic {
        let counted = native.counting(self.tallies.accepted(name));
        counted.batched_by(&self.batching)
    }
}

/// Whether Kafka allows the name: 1 to 249 of `[A-Za-z0-9._-]`, and neither
/// `.` nor `..` (Kafka's `Topic.validate`).
pub fn is_legal_name(name: &[u8]) -> bool {
    (1..=249).contains(&name.len())
        && name != b"."
        && name != b".."
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::is_legal_name;

    #[test]
    fn kafkas_rules_for_names() {
        for good in ["a", "orders", "A.b_c-9", &"x".repeat(249)] {
            assert!(is_legal_name(good.as_bytes()), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", "a\n", &"x".repeat(250)] {
            assert!(!is_legal_name(bad.as_bytes()), "{bad}");
        }
    }
}
