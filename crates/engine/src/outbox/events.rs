//! What happens to topics, told to listeners behind a bounded queue.
//!
//! Contract: `producer-engine.md`, section 7.

use super::error::Dropped;
use super::payload::KeptRecord;
use crate::error::{Error, KafkaError};
use parking_lot::RwLock;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// How often listeners hear [`Events::pause`] at least.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes of dropped messages that wait to be told of; beyond that the events
/// come without them.
const MAX_RECORD_BYTES: u64 = 16 << 20;

/// Something that has happened to a topic.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Event {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition, if it is about one.
    pub partition: Option<i32>,
    /// The broker that leads the partition, if one does.
    pub leader: Option<i32>,
    /// When.
    pub at: SystemTime,
    /// Whether the topic's events go to statsd.
    pub has_statsd: bool,
    /// What.
    pub what: Happening,
}

/// What can happen. `ekaf_callback_` and the name in the contract.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Happening {
    /// A batch was handed to the client.
    Flush {
        /// Its messages.
        messages: usize,
    },
    /// Kafka has answered for all of a batch.
    FlushedReplied {
        /// Its messages.
        messages: usize,
        /// Those that were given up.
        failed: usize,
        /// Why the last of them was.
        error: Option<KafkaError>,
        /// From the hand-over to the answer.
        duration: Duration,
        /// Batches of the partition that are still unanswered.
        unanswered: usize,
    },
    /// The partition can be written to, on this many lanes.
    WorkerUp {
        /// Its lanes.
        lanes: u32,
    },
    /// It cannot any more.
    WorkerDown {
        /// What was last heard.
        reason: Arc<str>,
    },
    /// An attempt to reach the cluster has failed.
    WorkerStillDown {
        /// What was last heard.
        reason: Arc<str>,
    },
    /// The partition's leader has answered.
    TimeToConnect(Duration),
    /// The cluster is reachable again, so long after the topic was last seen
    /// up, or first used.
    TimeDown(Duration),
    /// Messages are kept because the topic is down.
    DowntimeSaved {
        /// Those of one call.
        messages: usize,
    },
    /// What was kept has been handed over.
    DowntimeReplayed {
        /// All of it.
        messages: usize,
    },
    /// A topic that is down has as many messages as it may have.
    MaxDowntimeBufferReached {
        /// What was dropped for it. Empty, and counted as left out, if
        /// listeners lag behind by 16 MiB of such messages.
        dropped: Vec<KeptRecord>,
        /// How many the caller was told to keep.
        refused: usize,
    },
    /// Admitted messages were dropped.
    Dropped {
        /// Why.
        reason: Dropped,
        /// The messages, unless they were at the client already; bounded as
        /// those above.
        records: Vec<KeptRecord>,
    },
}

/// Hears of events, on a thread of its own; one that panics hears the next
/// one nevertheless.
pub trait Events: Send + Sync + 'static {
    /// Something has happened.
    fn happened(&self, event: &Event);

    /// Called when nothing is left to be told, at least every tenth of a
    /// second.
    fn pause(&self) {}
}

type Listeners = RwLock<Vec<Arc<dyn Events>>>;

/// An event, and the bytes of the messages that it owns.
struct Queued {
    event: Event,
    bytes: u64,
}

impl Happening {
    fn records(&mut self) -> Option<&mut Vec<KeptRecord>> {
        match self {
            Self::MaxDowntimeBufferReached {
                dropped: records, ..
            }
            | Self::Dropped { records, .. } => Some(records),
            _ => None,
        }
    }
}

/// Tells listeners, behind a queue.
pub(super) struct Announcer {
    shared: Arc<Shared>,
    queue: Option<SyncSender<Queued>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    listeners: Listeners,
    somebody_listens: AtomicBool,
    left_out: AtomicU64,
    record_bytes: AtomicU64,
}

impl Announcer {
    pub(super) fn start(capacity: usize) -> Result<Self, Error> {
        let shared = Arc::new(Shared::default());
        let (queue, events) = sync_channel(capacity.max(1));
        let listeners = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || tell(&events, &listeners))
            .map_err(|error| Error::Client {
                reason: format!("cannot start a thread: {error}"),
            })?;
        Ok(Self {
            shared,
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    pub(super) fn subscribe(&self, listener: Arc<dyn Events>) {
        self.shared.listeners.write().push(listener);
        self.shared.somebody_listens.store(true, Ordering::Release);
    }

    /// Whether an event would be heard by anybody.
    pub(super) fn is_heard(&self) -> bool {
        self.shared.somebody_listens.load(Ordering::Acquire)
    }

    /// Never waits: what finds no room is counted.
    pub(super) fn announce(&self, mut event: Event) {
        let shared = &self.shared;
        let mut bytes = 0;
        if let Some(records) = event.what.records()
            && !records.is_empty()
        {
            bytes = records.iter().map(|record| record.bytes() as u64).sum();
            let all = shared.record_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
            if all > MAX_RECORD_BYTES {
                shared.record_bytes.fetch_sub(bytes, Ordering::AcqRel);
                shared.left_out.fetch_add(1, Ordering::Relaxed);
                *records = Vec::new();
                bytes = 0;
            }
        }
        if let Some(queue) = &self.queue
            && queue.try_send(Queued { event, bytes }).is_err()
        {
            shared.record_bytes.fetch_sub(bytes, Ordering::AcqRel);
            shared.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events that found no room.
    pub(super) fn left_out(&self) -> u64 {
        self.shared.left_out.load(Ordering::Relaxed)
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

fn tell(events: &Receiver<Queued>, shared: &Shared) {
    let each = |call: &dyn Fn(&dyn Events)| {
        // A listener may subscribe another one.
        let listeners = shared.listeners.read().clone();
        for listener in &listeners {
            if catch_unwind(AssertUnwindSafe(|| call(&**listener))).is_err() {
                tracing::error!(component = "producer", "a listener has panicked");
            }
        }
    };
    loop {
        match events.recv_timeout(PAUSE) {
            Ok(first) => {
                for queued in std::iter::once(first).chain(events.try_iter()) {
                    each(&|listener| listener.happened(&queued.event));
                    shared
                        .record_bytes
                        .fetch_sub(queued.bytes, Ordering::AcqRel);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                each(&|listener| listener.pause());
                return;
            }
        }
        each(&|listener| listener.pause());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::NewRecord;
    use parking_lot::Mutex;
    use std::time::Instant;

    /// Stands still until it is let go, and panics at every second event.
    struct Slow {
        gate: Mutex<()>,
        heard: Mutex<Vec<usize>>,
    }

    impl Events for Slow {
        fn happened(&self, event: &Event) {
            drop(self.gate.lock());
            let records = match &event.what {
                Happening::Dropped { records, .. } => records.len(),
                _ => 0,
            };
            let count = {
                let mut heard = self.heard.lock();
                heard.push(records);
                heard.len()
            };
            assert!(count % 2 == 1, "a listener panics");
        }
    }

    fn dropped(bytes: usize) -> Event {
        let value = vec![b'x'; bytes];
        let record = KeptRecord::new(&NewRecord::of(&value), Instant::now());
        Event {
            topic: "t".into(),
            partition: None,
            leader: None,
            at: SystemTime::now(),
            has_statsd: false,
            what: Happening::Dropped {
                reason: Dropped::Oldest,
                records: vec![record],
            },
        }
    }

    #[test]
    fn listeners_that_lag_hold_nobody_up_and_cost_a_bounded_amount() {
        let slow = Arc::new(Slow {
            gate: Mutex::new(()),
            heard: Mutex::default(),
        });
        let announcer = Announcer::start(4).unwrap();
        announcer.subscribe(Arc::<Slow>::clone(&slow) as Arc<dyn Events>);
        let gate = slow.gate.lock();
        let bytes = usize::try_from(MAX_RECORD_BYTES / 2).unwrap();
        for _ in 0..3 {
            announcer.announce(dropped(bytes));
        }
        assert_eq!(announcer.left_out(), 1, "the messages of the third");
        for _ in 0..10 {
            announcer.announce(dropped(0));
        }
        // One is being told, four wait, or all five do.
        let left_out = announcer.left_out();
        assert!((9..=10).contains(&left_out), "{left_out}");
        drop(gate);
        drop(announcer);
        let heard = slow.heard.lock();
        assert_eq!(heard.len() as u64, 13 - (left_out - 1), "{heard:?}");
        assert_eq!(heard[..3], [1, 1, 0]);
    }
}
