//! One producer for many callers.
//!
//! Data flow: `Caller::send` → librdkafka (or, while a topic is not known,
//! the topic's waiting list → lookup thread → librdkafka) → broker → delivery
//! thread → the caller's account.

mod caller;
mod delivery;
mod lookup;
mod topic;

use crate::error::{Error, ErrorCode, KafkaError};
use crate::native::{Client, Kind, NativeTopic};
use crate::news::News;
use crate::properties::Properties;
use caller::Account;
pub use caller::{Caller, CallerLimits, CallerReport, Sent};
use parking_lot::{Condvar, Mutex, RwLock};
use rdkafka::bindings::{RD_KAFKA_EVENT_DR, RD_KAFKA_EVENT_ERROR};
use slab::Slab;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};
pub use topic::Topic;
use topic::{State, Waiting, is_legal_name};

/// How long a closed caller's messages may be on their way before they count
/// as unflushed. They are sent nevertheless.
const UNFLUSHED_AFTER: Duration = Duration::from_secs(5);

/// The most that a record's frame adds to its key and value
/// (librdkafka's `RD_KAFKAP_MESSAGE_V2_MAX_OVERHEAD`).
const RECORD_OVERHEAD: u64 = 36;

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
    fn bytes(&self) -> u64 {
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

/// A record that has been handed over. Dropping it does not withdraw it.
pub struct Submitted {
    answer: oneshot::Receiver<Result<Delivery, Error>>,
}

impl Submitted {
    /// Where Kafka has put it. Cancelling does not withdraw the record.
    ///
    /// # Errors
    /// Kafka's code, when it was given up.
    pub async fn delivered(self) -> Result<Delivery, Error> {
        self.answer.await.unwrap_or(Err(Error::Closed))
    }
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
}

#[derive(Default)]
pub(crate) struct Counters {
    accepted: AtomicU64,
    delivered: AtomicU64,
    failed: AtomicU64,
    outstanding_offset: AtomicI64,
    unflushed: AtomicU64,
    unknown_events: AtomicU64,
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
    client: Arc<Client>,
    topics: RwLock<HashMap<Box<[u8]>, Arc<Topic>>>,
    accounts: RwLock<Slab<Arc<Account>>>,
    tickets: Mutex<Slab<Ticket>>,
    retired: Mutex<Vec<Retired>>,
    counters: Counters,
    news: News,
    lookups: mpsc::Sender<Option<Arc<Topic>>>,
    lists: mpsc::Sender<Option<lookup::ListRequest>>,
    somebody_wants_room: AtomicBool,
    progress: Notify,
    flush: Mutex<FlushState>,
    flush_wanted: Condvar,
    message_max_bytes: u64,
    message_timeout: Duration,
}

/// Somebody who waits for the fate of one message.
struct Ticket {
    result: oneshot::Sender<Result<Delivery, Error>>,
}

/// The account of a dropped caller. The delivery thread frees its slot once
/// nothing is outstanding.
struct Retired {
    slot: usize,
    account: Arc<Account>,
    since: Instant,
    is_counted: bool,
}

#[derive(Default)]
struct FlushState {
    wanted_by: usize,
    is_ending: bool,
}

/// Opaque numbers of messages: even ones name an account's slot, odd ones a
/// ticket.
const fn opaque_of_slot(slot: usize) -> usize {
    slot << 1
}

const fn opaque_of_ticket(ticket: usize) -> usize {
    ticket << 1 | 1
}

impl Producer {
    pub(crate) fn start(properties: &Properties) -> Result<Self, Error> {
        let number = |name: &str| properties.get(name)?.parse::<u64>().ok();
        let mut conf = properties.to_conf()?;
        conf.set_events(RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
        let client = Arc::new(
            Client::new(Kind::Producer, conf, "producer".to_owned())
                .map_err(|reason| Error::Client { reason })?,
        );
        let (lookups, searches) = mpsc::channel();
        let (lists, list_requests) = mpsc::channel();
        let shared = Arc::new(Shared {
            client,
            topics: RwLock::default(),
            accounts: RwLock::default(),
            news: News::default(),
            tickets: Mutex::default(),
            retired: Mutex::default(),
            counters: Counters::default(),
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

    fn topic(&self, name: &[u8]) -> Result<Arc<Topic>, KafkaError> {
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

    /// [`submit`](Self::submit), waiting for Kafka's answer.
    ///
    /// # Errors
    /// As [`submit`](Self::submit), or what the broker says.
    pub async fn deliver(
        &self,
        topic: &str,
        partition: Option<i32>,
        record: Record<'_>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<i64>,
    ) -> Result<Delivery, Error> {
        let submitted = self.submit(topic, partition, record, headers, timestamp)?;
        submitted.delivered().await
    }

    /// Hands over one record with everything a record can have. What is
    /// submitted to one partition keeps its order, whoever waits for it.
    ///
    /// # Errors
    /// Kafka's code, refused at once: queue full, too large, unknown topic or
    /// partition. A topic that is not known is looked up by librdkafka for
    /// `topic.metadata.propagation.max.ms`.
    pub fn submit(
        &self,
        topic: &str,
        partition: Option<i32>,
        record: Record<'_>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<i64>,
    ) -> Result<Submitted, Error> {
        let native = NativeTopic::new(&self.shared.client, topic).ok_or(Error::Kafka {
            error: KafkaError::from_code(ErrorCode::InvalidTopic),
        })?;
        let (result, answer) = oneshot::channel();
        let ticket = self.shared.tickets.lock().insert(Ticket { result });
        let code = self.shared.client.produce_one(
            &native,
            partition,
            record.key,
            record.value,
            headers,
            timestamp,
            opaque_of_ticket(ticket),
        );
        if code != 0 {
            self.shared.tickets.lock().try_remove(ticket);
            return Err(KafkaError::from_raw(code).into());
        }
        self.shared
            .counters
            .accepted
            .fetch_add(1, Ordering::Relaxed);
        Ok(Submitted { answer })
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
        }
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
    fn is_too_large(&self, bytes: u64) -> bool {
        bytes + RECORD_OVERHEAD > self.message_max_bytes
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

    /// Resolves when a delivery report has come in.
    async fn progress(&self) {
        let notified = self.progress.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        self.somebody_wants_room.store(true, Ordering::Release);
        notified.await;
    }

    /// While the guard lives, librdkafka sends without waiting for linger.
    fn flushing(self: &Arc<Self>) -> Flushing {
        self.flush.lock().wanted_by += 1;
        self.flush_wanted.notify_one();
        Flushing(Arc::clone(self))
    }
}

struct Flushing(Arc<Shared>);

impl Drop for Flushing {
    fn drop(&mut self) {
        self.0.flush.lock().wanted_by -= 1;
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
        let _ = self.shared.lookups.send(None);
        let _ = self.shared.lists.send(None);
        self.shared.flush.lock().is_ending = true;
        self.shared.flush_wanted.notify_one();
        for handle in self.handles.drain(..) {
            let _ = handle.join();
        }
    }
}

/// librdkafka ignores linger only while somebody is inside its blocking
/// flush call, so a thread is, as long as anybody waits for deliveries.
fn flush_while_wanted(shared: &Shared) {
    loop {
        {
            let mut state = shared.flush.lock();
            while state.wanted_by == 0 && !state.is_ending {
                shared.flush_wanted.wait(&mut state);
            }
            if state.is_ending {
                return;
            }
        }
        let before = Instant::now();
        shared.client.flush(Duration::from_millis(100));
        // An empty queue makes the call return at once, although waiting
        // records of unresolved topics may follow.
        if before.elapsed() < Duration::from_millis(1) {
            std::thread::sleep(Duration::from_millis(1));
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
