//! Members of consumer groups.
//!
//! A librdkafka consumer puts rebalances and messages into one queue, so that
//! a reader that pauses holds up its whole group. Here they are kept apart:
//! each assigned partition is redirected to a queue of messages, which
//! readers take from without a lock that anything slow holds, and the rest is
//! served at once by a thread that all consumers share (`groups`).

mod assignment;
mod commits;
mod consumed;
mod groups;
mod observer;
mod statistics;

use crate::error::{Error, ErrorCode, KafkaError};
use crate::native::{Client, Kind, Message, MessageBox, Partitions, Queue, WakeTarget};
use crate::news::News;
use crate::properties::Properties;
use assignment::Assignment;
use commits::Commits;
pub(crate) use consumed::Consumed;
pub use consumed::ConsumedStatistics;
pub(crate) use groups::Groups;
pub use observer::ConsumerObserver;
use parking_lot::Mutex;
use rdkafka::bindings::{
    RD_KAFKA_EVENT_ERROR, RD_KAFKA_EVENT_OFFSET_COMMIT, RD_KAFKA_EVENT_REBALANCE,
    RD_KAFKA_EVENT_STATS,
};
pub use statistics::MemberStatistics;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// Messages taken from librdkafka in one call.
const TAKEN_AT_ONCE: usize = 64;

/// A position in a partition: the next offset to be consumed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset of the next message to be consumed; not negative.
    pub offset: i64,
}

/// A member of a consumer group. Delivery is at least once: what was
/// delivered and not stored as consumed comes again after a rebalance or a
/// restart.
///
/// Offsets that were stored are committed every `auto.commit.interval.ms`,
/// when partitions are revoked, and on [`close`](Self::close). Dropping a
/// consumer closes it in the background.
///
/// A reader that calls neither [`try_next`](Self::try_next) nor
/// [`next`](Self::next) for `max.poll.interval.ms` leaves the group; its next
/// call says so, and the one after it joins again. Until then a silent reader
/// holds up nobody: rebalances are served in the background.
pub struct Consumer {
    /// `None` only while dropping.
    member: Option<Arc<Member>>,
    closer: groups::Handle,
    /// The threads that serve it, also when the cluster's last handle is gone.
    _groups: Arc<Groups>,
}

/// What the reader and the group thread share. The messages are declared
/// before the client because they must be freed before it.
struct Member {
    fetched: Mutex<VecDeque<MessageBox>>,
    messages: Queue,
    events: Queue,
    close_events: Queue,
    client: Arc<Client>,
    assignment: Mutex<Assignment>,
    arrivals: Arc<Arrivals>,
    /// Set while partitions are being given up: nothing is taken from
    /// librdkafka then, because it might belong to one of them.
    is_revoking: AtomicBool,
    failure: Mutex<Option<Error>>,
    has_failure: AtomicBool,
    liveness: Liveness,
    subscription: Mutex<Partitions>,
    topics: Vec<String>,
    misses_topics: AtomicBool,
    /// Whether the missing topics are about to be asked for.
    is_refresh_due: AtomicBool,
    /// When the log last said that topics are missing.
    missing_logged: Mutex<Option<Instant>>,
    news: News,
    commits: Commits,
    stores_by_itself: bool,
    group: String,
    /// What is counted of `topics`, in their order.
    consumed: Vec<Arc<Consumed>>,
    /// What librdkafka has said about the client last.
    said: Mutex<Option<Arc<str>>>,
    observer: Option<Arc<dyn ConsumerObserver>>,
}

/// When the reader last showed itself.
struct Liveness {
    epoch: Instant,
    last_call_ms: AtomicU64,
    waiting: AtomicUsize,
    limit: Duration,
    /// By how many milliseconds the limit was exceeded; 0 is not.
    exceeded_ms: AtomicU64,
}

impl Liveness {
    fn new(limit: Duration) -> Self {
        Self {
            epoch: Instant::now(),
            last_call_ms: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            limit,
            exceeded_ms: AtomicU64::new(0),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn touch(&self) {
        self.last_call_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// By how much the silence is too long; `None` while somebody waits.
    fn excess_ms(&self) -> Option<u64> {
        if self.waiting.load(Ordering::Acquire) > 0 {
            return None;
        }
        let limit = u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX);
        let silent = self
            .now_ms()
            .saturating_sub(self.last_call_ms.load(Ordering::Relaxed));
        (silent > limit).then(|| silent - limit)
    }
}

/// Wakes readers when messages have arrived. Only the change from empty to
/// non-empty is told, so a reader drains before it waits.
#[derive(Default)]
struct Arrivals {
    notify: Notify,
}

impl WakeTarget for Arrivals {
    fn queue_has_work(&self) {
        self.notify.notify_one();
    }
}

impl Consumer {
    pub(crate) fn join(
        groups: &Arc<Groups>,
        properties: &Properties,
        topics: &[&str],
        observer: Option<Arc<dyn ConsumerObserver>>,
    ) -> Result<Self, Error> {
        if topics.is_empty() || topics.iter().any(|topic| topic.is_empty()) {
            return Err(Error::EmptyTopicName);
        }
        if topics.iter().any(|topic| topic.contains('\0')) {
            return Err(KafkaError::from_code(ErrorCode::InvalidTopic).into());
        }
        let mut conf = properties.to_conf()?;
        conf.set_events(
            RD_KAFKA_EVENT_REBALANCE
                | RD_KAFKA_EVENT_ERROR
                | RD_KAFKA_EVENT_OFFSET_COMMIT
                | RD_KAFKA_EVENT_STATS,
        );
        let text = |name: &str| properties.get(name).unwrap_or("");
        let component = format!(
            "consumer-{}:{}|{}",
            text("group.id"),
            text("client.id"),
            topics.join(",")
        );
        let limit = text("max.poll.interval.ms").parse().unwrap_or(300_000);
        let refused = |reason| Error::Client { reason };
        // See `commits`; giving partitions up still makes librdkafka commit.
        conf.set("auto.commit.interval.ms", "0").map_err(refused)?;
        let interval = text("auto.commit.interval.ms").parse().unwrap_or(5_000);
        let client = match &observer {
            Some(observer) => {
                let log = Arc::new(observer::Log(Arc::clone(observer)));
                Client::with_log(Kind::Consumer, conf, component, log)
            }
            None => Client::new(Kind::Consumer, conf, component),
        };
        let client = Arc::new(client.map_err(refused)?);
        let mut messages = client.new_queue();
        let arrivals = Arc::new(Arrivals::default());
        messages.wake(Arc::<Arrivals>::clone(&arrivals));
        let mut subscription = Partitions::new();
        for topic in topics {
            subscription.add(topic, -1, None);
        }
        let (closer, mut events, mut close_events) =
            (groups.handle(), client.consumer_queue(), client.new_queue());
        let (waker, mut answers) = (closer.waker(), client.new_queue());
        events.wake(Arc::<groups::Waker>::clone(&waker));
        close_events.wake(Arc::<groups::Waker>::clone(&waker));
        answers.wake(Arc::<groups::Waker>::clone(&waker));
        let commits = Commits::new(
            answers,
            properties.switch("enable.auto.commit") != Some(false),
            Duration::from_millis(interval),
            Arc::clone(&waker),
        );
        let member = Arc::new(Member {
            fetched: Mutex::default(),
            messages,
            events,
            close_events,
            client,
            assignment: Mutex::default(),
            arrivals,
            is_revoking: AtomicBool::new(false),
            failure: Mutex::default(),
            has_failure: AtomicBool::new(false),
            liveness: Liveness::new(Duration::from_millis(limit)),
            subscription: Mutex::new(subscription),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            misses_topics: AtomicBool::new(false),
            is_refresh_due: AtomicBool::new(false),
            missing_logged: Mutex::default(),
            news: News::default(),
            commits,
            stores_by_itself: properties.switch("enable.auto.offset.store") == Some(true),
            group: text("group.id").to_owned(),
            consumed: topics
                .iter()
                .map(|topic| groups.consumed().get(topic))
                .collect(),
            said: Mutex::default(),
            observer,
        });
        groups.note(&member);
        closer.register(&waker, &member);
        let consumer = Self {
            member: Some(member),
            closer,
            _groups: Arc::clone(groups),
        };
        match consumer.member().subscribe() {
            0 => Ok(consumer),
            code => Err(KafkaError::from_raw(code).into()),
        }
    }

    fn member(&self) -> &Arc<Member> {
        match &self.member {
            Some(member) => member,
            // Taken only by `close` and `drop`, which end the consumer.
            None => std::process::abort(),
        }
    }

    /// The next message that has already arrived. Offsets ascend within a
    /// partition; partitions interleave.
    ///
    /// # Errors
    /// What waiting does not cure, e.g. a failed authorization, or that the
    /// reader was silent too long. The consumer goes on; a later call may
    /// succeed.
    pub fn try_next(&self) -> Result<Option<Message<'_>>, Error> {
        let member = self.member();
        member.liveness.touch();
        member.take_failure()?;
        Ok(member.take().map(Message::new))
    }

    /// Whether [`try_next`](Self::try_next) has something to say without
    /// waiting.
    pub fn has_arrived(&self) -> bool {
        let member = self.member();
        if member.has_failure.load(Ordering::Acquire) {
            return true;
        }
        // What has come instead of a message is no answer.
        let fetched = member.fetched.lock();
        fetched.iter().any(|message| message.error() == 0)
    }

    /// The next message, waiting for it. Meant for one reader at a time.
    /// Cancelling takes no message.
    ///
    /// # Errors
    /// As [`try_next`](Self::try_next).
    pub async fn next(&self) -> Result<Message<'_>, Error> {
        let member = self.member();
        let _waiting = Waiting::new(member);
        loop {
            let arrival = member.arrivals.notify.notified();
            member.take_failure()?;
            if let Some(message) = member.take() {
                return Ok(Message::new(message));
            }
            arrival.await;
        }
    }

    /// Stores positions for the next commit: all of them or none. The last
    /// one wins, also when it is lower than an earlier one; it covers all
    /// that is before it in its partition.
    ///
    /// # Errors
    /// "Local: Unknown partition" for what the consumer does not know,
    /// "Local: Erroneous state" for what is not assigned to it (any more).
    pub fn store(&self, positions: &[Position]) -> Result<(), KafkaError> {
        let member = self.member();
        if member.stores_by_itself {
            return Ok(());
        }
        let mut assignment = member.assignment.lock();
        // First of all, because librdkafka would store those before it.
        if let Some(position) = positions
            .iter()
            .find(|position| !assignment.holds(&position.topic, position.partition))
        {
            let stored = member.store_unassigned(&assignment, position);
            // One that is being revoked at this moment is still taken.
            return match positions {
                [_] => stored,
                _ => stored.and(Err(KafkaError::from_code(ErrorCode::State))),
            };
        }
        member.store(positions)?;
        member.count_acks(positions);
        member.commits.schedule();
        let mut lowered = Partitions::new();
        let mut is_lowered = false;
        for position in positions {
            if assignment.note_stored(&position.topic, position.partition, position.offset) {
                lowered.add(&position.topic, position.partition, Some(position.offset));
                is_lowered = true;
            }
        }
        // Stored offsets are never committed backwards by librdkafka, so this
        // commit is explicit.
        if is_lowered {
            member.commit_exactly(&lowered);
        }
        Ok(())
    }

    /// Messages that were taken from librdkafka, whose statistics do not count
    /// them, and not delivered.
    pub fn held(&self) -> usize {
        self.member().fetched.lock().len()
    }

    /// Topics and partitions that are assigned now.
    pub fn assignment(&self) -> Vec<(String, i32)> {
        self.member().assignment.lock().iter().collect()
    }

    /// Commits, leaves the group and frees the consumer, in the background.
    /// Waiting for the result is optional.
    pub fn close(mut self) -> Closing {
        let (done, closed) = oneshot::channel();
        if let Some(member) = self.member.take() {
            self.closer.close(member, Some(done));
        }
        Closing { closed }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if let Some(member) = self.member.take() {
            self.closer.close(member, None);
        }
    }
}

/// A consumer on its way out of its group.
pub struct Closing {
    closed: oneshot::Receiver<bool>,
}

impl Closing {
    /// Waits until the offsets are committed and the group is left; false if
    /// that was given up (after ten seconds), so that the brokers are left to
    /// notice, and the offsets stored last may not be committed. Cancelling
    /// does not stop the closing.
    pub async fn done(self) -> bool {
        self.closed.await.unwrap_or(false)
    }
}

/// Counts a reader as waiting, so that its time is not silence.
struct Waiting<'a>(&'a Member);

impl<'a> Waiting<'a> {
    fn new(member: &'a Member) -> Self {
        member.liveness.waiting.fetch_add(1, Ordering::AcqRel);
        Self(member)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.liveness.touch();
        if self.0.liveness.waiting.fetch_sub(1, Ordering::AcqRel) > 1 {
            // Arrivals are told once: pass the word on to the next reader.
            self.0.arrivals.notify.notify_one();
        }
    }
}

impl Member {
    fn subscribe(&self) -> i32 {
        self.liveness.touch();
        self.client.subscribe(&self.subscription.lock())
    }

    fn take(&self) -> Option<MessageBox> {
        let mut fetched = self.fetched.lock();
        loop {
            while let Some(message) = fetched.pop_front() {
                match message.error() {
                    0 => {
                        if self.stores_by_itself {
                            self.commits.schedule();
                        }
                        return Some(message);
                    }
                    code => self.note_error(KafkaError::from_raw(code), message.error_text()),
                }
            }
            if self.is_revoking.load(Ordering::Acquire) {
                return None;
            }
            // What librdkafka hands over counts as consumed when it stores
            // offsets by itself.
            let limit = if self.stores_by_itself {
                1
            } else {
                TAKEN_AT_ONCE
            };
            if self.messages.take_messages(limit, &mut *fetched) == 0 {
                return None;
            }
            self.count(&fetched);
        }
    }

    /// The failure that a reader has not been told yet.
    fn take_failure(&self) -> Result<(), Error> {
        if !self.has_failure.load(Ordering::Acquire) {
            return Ok(());
        }
        self.has_failure.store(false, Ordering::Release);
        let exceeded = self.liveness.exceeded_ms.swap(0, Ordering::AcqRel);
        if exceeded > 0 {
            self.subscribe();
            return Err(Error::Consume {
                error: KafkaError::from_code(ErrorCode::PollExceeded),
                text: format!(
                    "Application maximum poll interval ({}ms) exceeded by {exceeded}ms",
                    self.liveness.limit.as_millis()
                ),
                is_fatal: false,
            });
        }
        match self.failure.lock().take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn fail(&self, failure: Error) {
        *self.failure.lock() = Some(failure);
        self.has_failure.store(true, Ordering::Release);
        self.arrivals.notify.notify_one();
    }

    fn store_unassigned(
        &self,
        assignment: &Assignment,
        position: &Position,
    ) -> Result<(), KafkaError> {
        let topic = &position.topic;
        // Only a topic that librdkafka knows anyhow may be asked for.
        let is_known = self.topics.contains(topic) || assignment.has_had(topic);
        if !is_known || position.partition < 0 {
            return Err(KafkaError::from_code(ErrorCode::UnknownPartition));
        }
        match self
            .client
            .store_offset(topic, position.partition, position.offset)
        {
            0 => {
                self.commits.schedule();
                Ok(())
            }
            code => Err(KafkaError::from_raw(code)),
        }
    }

    fn store(&self, positions: &[Position]) -> Result<(), KafkaError> {
        let mut list = Partitions::new();
        for position in positions {
            list.add(&position.topic, position.partition, Some(position.offset));
        }
        match self.client.store_offsets(&mut list) {
            0 => Ok(()),
            code => Err(KafkaError::from_raw(code)),
        }
    }
}
