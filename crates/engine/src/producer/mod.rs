//! One producer for many callers.
//!
//! Data flow: `Caller::send` → librdkafka (or, while a topic is not known,
//! the topic's waiting list → lookup thread → librdkafka) → broker → delivery
//! thread → the caller's account.

mod caller;
mod delivery;
mod drops;
mod flushing;
mod lookup;
mod receivers;
mod renewal;
mod statistics;
mod submit;
mod tallies;
mod tickets;
mod topic;

use crate::batching::Batching;
use crate::error::{Error, ErrorCode, KafkaError};
use crate::native::{Client, NativeTopic};
use crate::news::News;
use crate::properties::Properties;
use crate::strategies::{Pickers, Strategies};
use arc_swap::ArcSwap;
use caller::Account;
pub use caller::{Caller, CallerLimits, CallerReport, Sent};
pub use drops::{DropReason, Drops};
use flushing::{FlushState, Flushing, flush_while_wanted};
use parking_lot::{Condvar, Mutex, RwLock};
use receivers::Receivers;
pub(crate) use receivers::{Alarm, HandedOver, Receiver, Report, Returned, Run, Tag};
pub(crate) use renewal::Renewal;
use slab::Slab;
use statistics::ClientStatistics;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
pub use submit::{DeliverySink, Destination, Submitted, Undelivered};
use tallies::Tallies;
pub use tallies::TopicStatistics;
pub use tickets::Stored;
use tickets::Tickets;
use tokio::sync::{Notify, futures::Notified, oneshot};
use topic::{State, Waiting, WaitingRooms};
pub use topic::{Topic, is_legal_name};

/// How long a closed caller's messages may be on their way before they count
/// as unflushed. They are sent nevertheless.
const UNFLUSHED_AFTER: Duration = Duration::from_secs(5);

/// The most that a record's frame adds to its key and value
/// (librdkafka's `RD_KAFKAP_MESSAGE_V2_MAX_OVERHEAD`).
pub(crate) const RECORD_OVERHEAD: u64 = 36;

/// Names that turned out not to exist are forgotten beyond this many, so
/// that a caller that invents names does not fill the memory.
const REMEMBERED_TOPICS: usize = 10_000;

/// A record to be produced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// `None`: no key. An empty key is stored, and partitioned as if absent.
    pub key: Option<&'a [u8]>,
    /// `None`: a tombstone.
    pub value: Option<&'a [u8]>,
}

impl Record<'_> {
    pub(crate) fn bytes(&self) -> u64 {
        (self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len)) as u64
    }
}

/// Where Kafka has put a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// The partition.
    pub partition: i32,
    /// The offset; -1 with `acks=0`.
    pub offset: i64,
    /// Milliseconds since 1970; `None` when the broker does not say.
    pub timestamp: Option<i64>,
}

/// Counters of a producer since its start or the last reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerStatistics {
    /// Records taken over from callers.
    pub accepted: u64,
    /// Acknowledged by Kafka.
    pub delivered: u64,
    /// Given up: failed delivery reports.
    pub failed: u64,
    /// Neither yet (a gauge: no reset).
    pub outstanding: u64,
    /// Undelivered five seconds after their caller was dropped, or at exit.
    pub unflushed: u64,
    /// Error events of librdkafka that are no delivery reports, without
    /// resets of connections by their peers.
    pub unknown_events: u64,
    /// librdkafka clients that had failed for good and were replaced (since
    /// the start).
    pub renewed: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    accepted: AtomicU64,
    delivered: AtomicU64,
    failed: AtomicU64,
    outstanding_offset: AtomicI64,
    unflushed: AtomicU64,
    unknown_events: AtomicU64,
    renewed: AtomicU64,
}

impl Counters {
    fn outstanding(&self) -> u64 {
        let accepted = self.accepted.load(Ordering::Acquire);
        let ended = self.delivered.load(Ordering::Acquire) + self.failed.load(Ordering::Acquire);
        // After a reset more may end than has been accepted since.
        let difference = accepted.wrapping_sub(ended).cast_signed();
        let offset = self.outstanding_offset.load(Ordering::Acquire);
        u64::try_from(difference.wrapping_add(offset)).unwrap_or(0)
    }

    /// Zeroes what is counted and keeps the gauge right.
    fn reset(&self) {
        let accepted = self.accepted.swap(0, Ordering::AcqRel);
        let ended =
            self.delivered.swap(0, Ordering::AcqRel) + self.failed.swap(0, Ordering::AcqRel);
        self.outstanding_offset
            .fetch_add(accepted.wrapping_sub(ended).cast_signed(), Ordering::AcqRel);
        self.unflushed.store(0, Ordering::Relaxed);
        self.unknown_events.store(0, Ordering::Relaxed);
    }
}

/// A librdkafka producer shared by all callers of one configuration. Clones
/// are the same producer; it ends with the last one.
#[derive(Clone)]
pub struct Producer {
    shared: Arc<Shared>,
    _threads: Arc<Threads>,
}

/// What callers and the producer's threads share.
struct Shared {
    /// Replaced when it fails for good, if `renewal` says how.
    client: ArcSwap<Client>,
    /// What the next client is made of.
    renewal: Option<Properties>,
    /// Who picks partitions, if it is not librdkafka.
    pickers: Option<Pickers>,
    /// When the batches of each topic leave.
    batching: Batching,
    topics: RwLock<HashMap<Box<[u8]>, Arc<Topic>>>,
    accounts: RwLock<Slab<Arc<Account>>>,
    tickets: Tickets,
    receivers: Receivers,
    retired: Mutex<Vec<Retired>>,
    counters: Counters,
    tallies: Tallies,
    client_statistics: ClientStatistics,
    news: News,
    /// Topics that somebody submits to by name.
    destinations: RwLock<HashMap<Box<str>, Arc<Destination>>>,
    lookups: mpsc::Sender<Option<Arc<Topic>>>,
    lists: mpsc::Sender<Option<lookup::ListRequest>>,
    somebody_wants_room: AtomicBool,
    progress: Notify,
    flush: Mutex<FlushState>,
    flush_wanted: Condvar,
    message_max_bytes: u64,
    message_timeout: Duration,
    waiting_rooms: WaitingRooms,
}

/// The account of a dropped caller. The delivery thread frees its slot once
/// nothing is outstanding.
struct Retired {
    slot: usize,
    account: Arc<Account>,
    since: Instant,
    is_counted: bool,
}

/// Opaque numbers of messages: even ones name an account's slot; of the odd
/// ones half a ticket (`tickets`), half a receiver's tag (`receivers`).
const fn opaque_of_slot(slot: usize) -> usize {
    slot << 1
}

impl Producer {
    /// `strategies` and `batching` are the topics' own.
    pub(crate) fn start(
        properties: &Properties,
        strategies: &Strategies,
        batching: &Batching,
        renewal: Renewal,
    ) -> Result<Self, Error> {
        let number = |name: &str| properties.get(name)?.parse::<u64>().ok();
        let pickers = Pickers::new(strategies, properties);
        let client = renewal::connect(properties, pickers.is_some())?;
        let (lookups, searches) = mpsc::channel();
        let (lists, list_requests) = mpsc::channel();
        let shared = Arc::new(Shared {
            client: ArcSwap::new(client),
            renewal: (renewal == Renewal::Own).then(|| properties.clone()),
            pickers,
            batching: batching.clone(),
            topics: RwLock::default(),
            accounts: RwLock::default(),
            news: News::default(),
            tickets: Tickets::default(),
            receivers: Receivers::default(),
            retired: Mutex::default(),
            counters: Counters::default(),
            tallies: Tallies::default(),
            client_statistics: ClientStatistics::default(),
            destinations: RwLock::default(),
            lookups,
            lists,
            somebody_wants_room: AtomicBool::new(false),
            progress: Notify::new(),
            flush: Mutex::default(),
            flush_wanted: Condvar::new(),
            message_max_bytes: number("message.max.bytes").unwrap_or(1_000_000),
            message_timeout: Duration::from_millis(
                number("message.timeout.ms")
                    .or_else(|| number("delivery.timeout.ms"))
                    .unwrap_or(300_000),
            ),
            waiting_rooms: WaitingRooms::of(properties),
        });
        let threads = Threads::start(&shared, searches, list_requests)?;
        Ok(Self {
            shared,
            _threads: Arc::new(threads),
        })
    }

    /// A new user of this producer.
    pub fn caller(&self, limits: CallerLimits) -> Caller {
        Caller::new(self.clone(), limits)
    }

    /// The topic of that name, for [`look_up`](Self::look_up) and
    /// [`submit_to`](Self::submit_to).
    ///
    /// # Errors
    /// As [`Caller::topic`].
    pub fn topic(&self, name: &[u8]) -> Result<Arc<Topic>, KafkaError> {
        if let Some(topic) = self.shared.topics.read().get(name) {
            return Ok(Arc::clone(topic));
        }
        if name.is_empty() {
            return Err(KafkaError::from_code(ErrorCode::InvalidArgument));
        }
        let text = match std::str::from_utf8(name) {
            Ok(text) if is_legal_name(name) => text,
            _ => return Err(KafkaError::from_code(ErrorCode::InvalidTopic)),
        };
        let mut topics = self.shared.topics.write();
        if topics.len() >= REMEMBERED_TOPICS {
            topics.retain(|_, topic| topic.state() == State::Known || Arc::strong_count(topic) > 1);
        }
        let topic = topics
            .entry(name.into())
            .or_insert_with(|| Arc::new(Topic::new(text)));
        Ok(Arc::clone(topic))
    }

    /// Resolves when there may be room again after "queue full", at the next
    /// deliveries. One that is made before the record is refused misses none.
    /// Dropping it loses nothing.
    pub fn room_again(&self) -> impl Future<Output = ()> + use<'_> {
        let progress = self.shared.progress();
        async {
            // What is not under way is not delivered any more.
            if self.shared.counters.outstanding() > 0 {
                progress.await;
            }
        }
    }

    /// The names of all topics of the cluster, internal ones too, sorted.
    /// One request serves all who ask at the same time; it gets two seconds.
    ///
    /// # Errors
    /// Kafka's code, e.g. "Local: Broker transport failure".
    pub async fn topic_names(&self) -> Result<Vec<String>, KafkaError> {
        let (reply, answer) = oneshot::channel();
        let closed = KafkaError::from_code(ErrorCode::BrokerDestroy);
        let request = lookup::ListRequest {
            reply,
            since: Instant::now(),
        };
        self.shared.lists.send(Some(request)).map_err(|_| closed)?;
        answer.await.unwrap_or(Err(closed))
    }

    /// The counters.
    pub fn statistics(&self) -> ProducerStatistics {
        let counters = &self.shared.counters;
        ProducerStatistics {
            accepted: counters.accepted.load(Ordering::Relaxed),
            delivered: counters.delivered.load(Ordering::Relaxed),
            failed: counters.failed.load(Ordering::Relaxed),
            outstanding: counters.outstanding(),
            unflushed: counters.unflushed.load(Ordering::Relaxed),
            unknown_events: counters.unknown_events.load(Ordering::Relaxed),
            renewed: counters.renewed.load(Ordering::Relaxed),
        }
    }

    /// Why nothing more can be produced by it, if so (KIP-360).
    pub(crate) fn fatal_error(&self) -> Option<String> {
        let client = self.shared.client.load();
        client.fatal_error().map(|(_, reason)| reason)
    }

    /// Brokers that slow the client down, and until when.
    pub(crate) fn throttles(&self) -> Vec<(i32, Instant)> {
        self.shared.client.load().throttles()
    }

    /// Gives up all messages that are queued or on their way: the reports of
    /// what it still has come soon.
    pub(crate) fn give_up_messages(&self) {
        self.shared.client.load().give_up_messages();
    }

    /// As long as the guard lives, nothing waits for linger.
    pub(crate) fn flushing(&self) -> Flushing {
        self.shared.flushing()
    }

    /// Messages without a report.
    pub(crate) fn outstanding(&self) -> u64 {
        self.shared.counters.outstanding()
    }

    /// Whether it is the same one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// As if it had failed for good.
    #[cfg(test)]
    pub(crate) fn fail_for_good(&self) {
        self.shared.client.load().fail_for_good();
    }

    /// Zeroes the counters, not the gauges.
    pub fn reset_statistics(&self) {
        self.shared.counters.reset();
    }

    /// Waits until all messages of all callers are delivered or given up, at
    /// most until `deadline`. What is left is counted as unflushed and
    /// returned.
    pub async fn flush(&self, deadline: Instant) -> u64 {
        let _flushing = self.shared.flushing();
        loop {
            let left = self.shared.counters.outstanding();
            if left == 0 {
                return 0;
            }
            let now = Instant::now();
            if now >= deadline {
                self.shared
                    .counters
                    .unflushed
                    .fetch_add(left, Ordering::Relaxed);
                return left;
            }
            let pause = Duration::from_millis(50).min(deadline - now);
            let _ = tokio::time::timeout(pause, self.shared.progress()).await;
        }
    }
}

impl Shared {
    /// Whether a message with this error is given back to a receiver: its topic
    /// is gone, and may come back; or this client has failed for good, and
    /// takes its messages with it.
    fn is_returned(&self, error: KafkaError) -> bool {
        const OF_THE_MESSAGE: [ErrorCode; 6] = [
            ErrorCode::MessageSizeTooLarge,
            ErrorCode::InvalidMessageSize,
            ErrorCode::TopicAuthorizationFailed,
            ErrorCode::InvalidRecord,
            ErrorCode::InvalidTimestamp,
            ErrorCode::MessageTimedOut,
        ];
        error.is_unknown_topic()
            || !OF_THE_MESSAGE.iter().any(|code| error.is(*code))
                && self.client.load().fatal_error().is_some()
    }

    /// Whether the error says that the topic is not there. A picker that refuses
    /// a message names a partition that does not exist.
    fn is_of_absence(&self, error: KafkaError) -> bool {
        let is_picked = self.pickers.is_some() && error.is(ErrorCode::UnknownPartition);
        error.is_unknown_topic() && !is_picked
    }

    /// Whether a topic's client has failed for good, and is replaced here.
    fn is_dead(&self, topic: &NativeTopic) -> bool {
        self.renewal.is_some() && topic.client().fatal_error().is_some()
    }

    fn is_too_large(&self, bytes: u64) -> bool {
        bytes + RECORD_OVERHEAD > self.message_max_bytes
    }

    /// What is known of a topic by now, if the cluster has said anything since
    /// its absences were counted; else it is being asked.
    fn ask_for(&self, topic: &Arc<Topic>, absences: u64) -> Option<Result<(), KafkaError>> {
        let mut waiting = topic.waiting();
        match topic.state() {
            State::Known => return Some(Ok(())),
            State::Missing => {
                let is_fresh = waiting
                    .asked
                    .is_some_and(|asked| asked.elapsed() < caller::RECHECK_INTERVAL);
                if is_fresh || topic.absences() != absences {
                    let unknown = KafkaError::from_code(ErrorCode::UnknownTopic);
                    return Some(Err(waiting.reason.unwrap_or(unknown)));
                }
                topic.set_state(&mut waiting, State::Unresolved);
            }
            State::Unresolved => {}
        }
        if !waiting.lookup_is_running {
            self.look_up(topic, &mut waiting);
        }
        None
    }

    /// Puts the topic on the lookup thread's list.
    fn look_up(&self, topic: &Arc<Topic>, waiting: &mut Waiting) {
        waiting.lookup_is_running = self.lookups.send(Some(Arc::clone(topic))).is_ok();
    }

    /// librdkafka or a broker says that a topic which was known is gone.
    fn topic_is_gone(&self, name: &str) {
        let topics = self.topics.read();
        let Some(topic) = topics.get(name.as_bytes()) else {
            return;
        };
        let mut waiting = topic.waiting();
        if topic.state() == State::Known {
            waiting.reason = Some(KafkaError::from_code(ErrorCode::UnknownTopic));
            waiting.asked = None;
            topic.set_state(&mut waiting, State::Missing);
        }
    }

    fn retire(&self, slot: usize, account: Arc<Account>) {
        self.retired.lock().push(Retired {
            slot,
            account,
            since: Instant::now(),
            is_counted: false,
        });
    }

    /// Resolves when a delivery report has come in since this call.
    fn progress(&self) -> Notified<'_> {
        // Woken by `notify_waiters` from now on, also before the first poll.
        let notified = self.progress.notified();
        self.somebody_wants_room.store(true, Ordering::Release);
        notified
    }
}

/// The producer's own threads; dropping ends them.
struct Threads {
    shared: Arc<Shared>,
    is_ending: Arc<AtomicBool>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    fn start(
        shared: &Arc<Shared>,
        searches: mpsc::Receiver<Option<Arc<Topic>>>,
        list_requests: mpsc::Receiver<Option<lookup::ListRequest>>,
    ) -> Result<Self, Error> {
        let is_ending = Arc::new(AtomicBool::new(false));
        let mut threads = Self {
            shared: Arc::clone(shared),
            is_ending: Arc::clone(&is_ending),
            handles: Vec::new(),
        };
        let delivery = Arc::clone(shared);
        threads.spawn("delivery", move || delivery::run(&delivery, &is_ending))?;
        let lookups = Arc::clone(shared);
        threads.spawn("lookup", move || lookup::run(&lookups, &searches))?;
        let lists = Arc::clone(shared);
        threads.spawn("topics", move || {
            lookup::list_topics(&lists, &list_requests);
        })?;
        let flusher = Arc::clone(shared);
        threads.spawn("flush", move || flush_while_wanted(&flusher))?;
        Ok(threads)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let handle = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(run)
            .map_err(|error| Error::Client {
                reason: format!("cannot start a thread: {error}"),
            })?;
        self.handles.push(handle);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Release);
        // The thread of the delivery reports looks up.
        self.shared.client.load().wake_poll();
        let _ = self.shared.lookups.send(None);
        let _ = self.shared.lists.send(None);
        self.shared.flush.lock().is_ending = true;
        self.shared.flush_wanted.notify_one();
        let this = std::thread::current().id();
        for handle in self.handles.drain(..) {
            // Somebody who was told of a message may have had the last producer.
            if handle.thread().id() != this {
                let _ = handle.join();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_with_messages_under_way_keeps_the_gauge_right() {
        let counters = Counters::default();
        counters.accepted.fetch_add(5, Ordering::AcqRel);
        counters.delivered.fetch_add(1, Ordering::AcqRel);
        for _ in 0..2 {
            counters.reset();
            assert_eq!(counters.outstanding(), 4);
        }
        counters.delivered.fetch_add(3, Ordering::AcqRel);
        assert_eq!(counters.outstanding(), 1);
        counters.reset();
        counters.failed.fetch_add(1, Ordering::AcqRel);
        assert_eq!(counters.outstanding(), 0);
    }
}
