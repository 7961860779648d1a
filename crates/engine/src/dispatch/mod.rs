//! Messages of consumer groups for many short requests: who asks gets the
//! next message of a topic and acknowledges it, by itself, any time later.
//!
//! Contract: `consume-and-ack.md`. In reading order:
//!
//! - `record`: a consumed message that outlives librdkafka's buffer;
//! - `question`: what many ask Kafka at the same time;
//! - `partition`: one owned partition: what is fetched, delivered, due;
//! - `topic`: one topic of a group: its partitions and the requests that wait
//!   for its messages;
//! - `group`: every way in which messages go out and acknowledgements come
//!   back;
//! - `start`: where a partition begins;
//! - `driver`: one task per group: joining, rebalances, commits, time;
//! - `groups`: the groups that there are, and starting them;
//! - `members`: the groups as this process knows them;
//! - `statistics`: what groups have done, and where they stand;
//! - `reply`: replies that confirm their messages when they are written.
//!
//! A group has one mutex, which nothing slow holds: requests and
//! acknowledgements work under it themselves, the driver only where time or
//! the cluster has something to say.

mod driver;
mod group;
mod groups;
mod members;
mod partition;
mod question;
mod record;
mod reply;
mod start;
mod statistics;
mod topic;

use crate::acks::AckPolicy;
use crate::admin::NewGroupOffset;
use crate::by_name::ByName;
use crate::cluster::Cluster;
use crate::consumer::Consumed;
use crate::error::Error;
use crate::producer::{Producer, is_legal_name};
use crate::properties::Properties;
use group::{Asked, Group};
use parking_lot::Mutex;
pub use record::ConsumedRecord;
pub use reply::ReplyBytes;
pub use statistics::{GroupStatistics, PartitionStatistics};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What is read ahead of each partition: nothing more is fetched while there
/// is so much (contract, section 3). One fetch may go beyond it.
const READ_AHEAD_MESSAGES: &str = "1000";
const READ_AHEAD_KILOBYTES: &str = "queued.max.messages.kbytes";

/// Stands for waits that the clock cannot express.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

/// Where a group begins in a partition of which it has committed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InitialOffset {
    /// At the end as it was when the group's first request for the topic
    /// came: nothing is missed that is produced after it.
    #[default]
    Newest,
    /// At the oldest message.
    Oldest,
    /// At the first message that is not older than this, in milliseconds
    /// since 1970; at the end if there is none.
    Time(i64),
}

/// How groups are served (contract, section 12).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DispatchConfig {
    /// Redelivery and limits per partition.
    pub acks: AckPolicy,
    /// Requests that may wait behind the first one of a topic.
    pub queued_requests: usize,
    /// How long a request waits for a message.
    pub long_polling: Duration,
    /// A topic without requests for so long is left.
    pub subscription_timeout: Duration,
    /// How often acknowledgements are committed.
    pub commit_interval: Duration,
    /// Pause before what has failed is tried again.
    pub retry_backoff: Duration,
    /// How long a partition that moves away waits for its acknowledgements.
    pub revoke_wait: Duration,
    /// Where new groups begin.
    pub initial_offset: InitialOffset,
    /// Where messages go that were delivered too often; `None` drops them.
    pub dead_letter_topic: Option<String>,
    /// Groups at the same time. Each is a client of the cluster with threads
    /// and connections of its own, and whoever may consume names them.
    pub max_groups: usize,
}

impl Default for DispatchConfig {
    fn default() -> Self {
        Self {
            acks: AckPolicy::default(),
            queued_requests: 64,
            long_polling: Duration::from_secs(3),
            subscription_timeout: Duration::from_secs(15),
            commit_interval: Duration::from_millis(500),
            retry_backoff: Duration::from_millis(500),
            revoke_wait: Duration::from_secs(30),
            initial_offset: InitialOffset::default(),
            dead_letter_topic: None,
            max_groups: 1_000,
        }
    }
}

/// How the messages of a request are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckMode {
    /// By this request, once its reply has been written
    /// ([`Deliveries::confirm`]): at most once.
    Auto,
    /// Later, one by one ([`Dispatcher::ack`]): at least once.
    Explicit,
}

/// Who holds deliveries, where they are somebody's and can be asked for or
/// given back together: a stream, a named consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Holder(u64);

impl Holder {
    /// Single requests, which hold nothing together.
    pub const NOBODY: Self = Self(0);

    /// One that there has not been before in this process.
    pub fn unique() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// How much somebody holds unacknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Messages.
    pub messages: usize,
    /// The bytes of their keys, values and headers.
    pub bytes: usize,
}

/// A request for messages.
#[derive(Debug, Clone, Copy)]
pub struct Consume<'a> {
    /// The consumer group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// How they are acknowledged.
    pub mode: AckMode,
    /// At most so many messages; at least one is waited for.
    pub max: usize,
    /// No further message once they have so many bytes.
    pub max_bytes: usize,
    /// How long to wait for the first message; `None`: as configured
    /// ([`DispatchConfig::long_polling`]). Zero does not wait, but joins.
    pub wait: Option<Duration>,
    /// Who gets them.
    pub holder: Holder,
}

impl<'a> Consume<'a> {
    /// One message, for a single request.
    pub fn one(group: &'a str, topic: &'a str, mode: AckMode) -> Self {
        Self {
            group,
            topic,
            mode,
            max: 1,
            max_bytes: usize::MAX,
            wait: None,
            holder: Holder::NOBODY,
        }
    }
}

/// Why a request got no message.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// Nothing came within [`DispatchConfig::long_polling`].
    #[error("long polling timeout")]
    Timeout,
    /// Too many requests wait for the topic already.
    #[error("too many requests")]
    TooManyRequests,
    /// There are [`DispatchConfig::max_groups`] groups already, and this one
    /// is not among them.
    #[error("too many consumer groups")]
    TooManyGroups,
    /// The process is about to end.
    #[error("service is shutting down")]
    ShuttingDown,
    /// The group's client could not be started.
    #[error(transparent)]
    Engine(#[from] Error),
}

/// Why an acknowledgement was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// This process does not own the partition (now).
    #[error("acks channel missing for {{{group} {topic} {partition}}}")]
    NotOwned {
        /// The consumer group.
        group: String,
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The partition has no such message (yet).
    #[error("bad offset: {0}")]
    BadOffset(i64),
}

impl AckError {
    /// [`AckError::NotOwned`]
    pub fn not_owned(group: &str, topic: &str, partition: i32) -> Self {
        Self::NotOwned {
            group: group.to_owned(),
            topic: topic.to_owned(),
            partition,
        }
    }
}

/// One message of [`Deliveries`].
#[derive(Debug, Clone)]
pub struct Delivered {
    /// The partition it came from.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Of this delivery, in this process.
    pub number: u64,
    /// Key, value, headers, time.
    pub record: Arc<ConsumedRecord>,
}

/// The messages that a request got. What is dropped unconfirmed has reached
/// nobody: it is delivered again at once, and this time does not count.
pub struct Deliveries {
    group: Arc<Group>,
    topic: Arc<str>,
    mode: AckMode,
    messages: Vec<Delivered>,
    is_settled: bool,
}

impl Deliveries {
    /// At least one message, in the order of delivery.
    pub fn messages(&self) -> &[Delivered] {
        &self.messages
    }

    /// Keeps the first `count` messages; the others have reached nobody, as
    /// if dropped unconfirmed.
    pub fn truncate(&mut self, count: usize) {
        if count < self.messages.len() {
            let rest = self.messages.split_off(count);
            self.group.release(&self.topic, &rest);
        }
    }

    /// The reply has been written. With [`AckMode::Auto`] the messages are
    /// acknowledged now, else their time begins to run.
    pub fn confirm(mut self) {
        self.is_settled = true;
        self.group.confirm(&self.topic, self.mode, &self.messages);
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        if !self.is_settled {
            self.group.release(&self.topic, &self.messages);
        }
    }
}

/// Serves requests for messages of any group and topic of a cluster, with one
/// librdkafka consumer per group that lives as long as requests come.
#[derive(Clone)]
pub struct Dispatcher {
    inner: Arc<Inner>,
}

struct Inner {
    config: DispatchConfig,
    properties: Properties,
    dead_letters: Option<Producer>,
    groups: Mutex<HashMap<String, Arc<Group>>>,
    consumed: Arc<ByName<Consumed>>,
    /// Whose turn it is to start a group, which takes milliseconds.
    starting: Arc<tokio::sync::Mutex<()>>,
    is_stopping: AtomicBool,
    /// Tells waiting requests that the process ends.
    stop: watch::Sender<bool>,
    runtime: tokio::runtime::Handle,
}

impl Dispatcher {
    /// Must be called inside a Tokio runtime, which carries the groups'
    /// tasks. `own` are consumer properties before those of the cluster;
    /// what acknowledging by messages needs is set in any case.
    ///
    /// # Errors
    /// What librdkafka refuses.
    pub fn start(
        cluster: &Cluster,
        config: DispatchConfig,
        own: &Properties,
    ) -> Result<Self, Error> {
        let mut properties = cluster.config().consumer_properties(own);
        let longest = config.acks.timeout + Duration::from_secs(60);
        let poll_limit = longest.max(Duration::from_secs(300)).as_millis();
        properties
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            // Also what a rebalance may take (contract, section 1).
            .set(
                "max.poll.interval.ms",
                poll_limit.min(86_400_000).to_string(),
            )
            .set_default("allow.auto.create.topics", "false")
            .set_default("fetch.queue.backoff.ms", "20")
            .set_default("fetch.wait.max.ms", "250")
            .set_default("queued.min.messages", READ_AHEAD_MESSAGES)
            // Of all partitions together, in one answer of a broker;
            // librdkafka's 50 MiB would be most of what a process needs.
            .set_default("fetch.max.bytes", "8388608");
        // Each partition has a queue of its own, so this is not shared as
        // that of a plain consumer is.
        let configured = [own, &cluster.config().consumer, &cluster.config().common];
        if configured
            .iter()
            .all(|properties| properties.get(READ_AHEAD_KILOBYTES).is_none())
        {
            properties.set(READ_AHEAD_KILOBYTES, "1024");
        }
        if let Some(problem) = properties.problems().into_iter().next() {
            return Err(problem);
        }
        let dead_letters = match config.dead_letter_topic {
            // What was consumed may be larger than what is produced here, and
            // gets headers. Whether it is too large the broker says.
            Some(_) => {
                let mut own = Properties::new();
                own.set("message.max.bytes", "1000000000");
                Some(cluster.producer(&own)?)
            }
            None => None,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                properties,
                dead_letters,
                groups: Mutex::default(),
                consumed: cluster.consumed(),
                starting: Arc::default(),
                is_stopping: AtomicBool::new(false),
                stop: watch::channel(false).0,
                runtime: tokio::runtime::Handle::current(),
            }),
        })
    }

    /// Waits for messages of a topic; joins the group if need be. Requests
    /// for a topic are served in the order in which they came. Cancelling
    /// takes no message.
    ///
    /// # Errors
    /// [`ConsumeError`]; a topic that does not exist only times out.
    pub async fn consume(&self, request: &Consume<'_>) -> Result<Deliveries, ConsumeError> {
        let came = Instant::now();
        let wait = request.wait.unwrap_or(self.inner.config.long_polling);
        let deadline = came.checked_add(wait).unwrap_or(came + FOREVER);
        let mut stop = self.inner.stop.subscribe();
        if !is_legal_name(request.topic.as_bytes()) {
            // There is no such topic. librdkafka would take some of these
            // names for patterns and refuse the group's topics for others.
            return tokio::select! {
                () = tokio::time::sleep_until(deadline.into()) => Err(ConsumeError::Timeout),
                _ = stop.wait_for(|stop| *stop) => Err(ConsumeError::ShuttingDown),
            };
        }
        loop {
            let group = self.group(request.group).await?;
            let waiting = match group.ask(request, came, deadline) {
                Asked::Served(deliveries) => return Ok(deliveries),
                Asked::TooMany => return Err(ConsumeError::TooManyRequests),
                // It has just left; the next one begins.
                Asked::Ended => continue,
                Asked::Waits(waiting) => waiting,
            };
            tokio::select! {
                biased;
                served = waiting => {
                    // Else the group has ended with the request in its queue.
                    if let Ok(deliveries) = served {
                        return Ok(deliveries);
                    }
                }
                () = tokio::time::sleep_until(deadline.into()) => return Err(ConsumeError::Timeout),
                _ = stop.changed() => return Err(ConsumeError::ShuttingDown),
            }
        }
    }

    /// Acknowledges messages by partition and offset, whoever delivered them;
    /// one result each, in order. False: it was acknowledged already, which
    /// is no error. Kafka has them after [`DispatchConfig::commit_interval`].
    ///
    /// # Errors
    /// [`AckError`]; nothing has changed for that message then.
    pub async fn ack(
        &self,
        group: &str,
        topic: &str,
        positions: &[(i32, i64)],
    ) -> Vec<Result<bool, AckError>> {
        match self.found(group) {
            Some(found) => found.ack(topic, positions).await,
            None => positions
                .iter()
                .map(|(partition, _)| Err(AckError::not_owned(group, topic, *partition)))
                .collect(),
        }
    }

    /// [`ack`](Self::ack) of one message; `None`, and nothing has changed, if
    /// Kafka has to be asked whether there is such a message.
    pub(crate) fn ack_at_once(
        &self,
        group: &str,
        topic: &str,
        (partition, offset): (i32, i64),
    ) -> Option<Result<bool, AckError>> {
        match self.found(group) {
            Some(found) => found.ack_at_once(topic, partition, offset),
            None => Some(Err(AckError::not_owned(group, topic, partition))),
        }
    }

    /// What a holder has got of a topic and not acknowledged, by partition
    /// and offset.
    pub fn held(&self, group: &str, topic: &str, holder: Holder) -> Vec<Delivered> {
        self.found(group)
            .map_or_else(Vec::new, |found| found.held(topic, holder))
    }

    /// How much a holder has got and not acknowledged, of all topics.
    pub fn held_by(&self, group: &str, holder: Holder) -> Held {
        self.found(group)
            .map_or_else(Held::default, |found| found.held_by(holder))
    }

    /// Who holds any of these messages of a topic, each once.
    pub fn holders(&self, group: &str, topic: &str, positions: &[(i32, i64)]) -> Vec<Holder> {
        self.found(group)
            .map_or_else(Vec::new, |found| found.holders(topic, positions))
    }

    /// Leaves a topic that nobody asks for now, without waiting for
    /// [`DispatchConfig::subscription_timeout`] or for acknowledgements.
    pub fn leave(&self, group: &str, topic: &str) {
        if let Some(found) = self.found(group) {
            found.abandon(topic);
        }
    }

    /// How many deliveries of a topic wait for their acknowledgement.
    pub fn pending(&self, group: &str, topic: &str) -> usize {
        self.found(group).map_or(0, |found| found.pending(topic))
    }

    /// Gives everything back that a holder has not acknowledged: it is
    /// delivered again at once.
    pub fn give_back(&self, group: &str, holder: Holder) {
        if let Some(found) = self.found(group) {
            found.give_back(holder);
        }
    }

    /// Sets positions of a topic that this process consumes for the group:
    /// what is pending is forgotten, the positions are committed and reading
    /// goes on there; -2 stands for the oldest message and -1 for the end,
    /// and what they are then is committed. False, and nothing has changed,
    /// if it does not own all of these partitions now. Cancelling does not
    /// take it back.
    ///
    /// # Errors
    /// Kafka's code; some partitions may have changed for a moment.
    pub async fn set_offsets(
        &self,
        group: &str,
        topic: &str,
        positions: &[NewGroupOffset],
    ) -> Result<bool, Error> {
        match self.found(group) {
            Some(found) => found.set_offsets(topic, positions).await,
            None => Ok(false),
        }
    }

    /// Ends all groups in good order: waiting requests are refused; what has
    /// been delivered may still be acknowledged until nothing is pending or
    /// its time is over; then everything is committed and the groups are
    /// left. `skip_waits` resolves when that waiting is to be cut short.
    pub async fn stop(&self, skip_waits: impl Future<Output = ()>) {
        self.inner.is_stopping.store(true, Ordering::Release);
        self.inner.stop.send_replace(true);
        let groups: Vec<Arc<Group>> = self.inner.groups.lock().values().cloned().collect();
        for group in &groups {
            group.stop();
        }
        let ended = async {
            for group in &groups {
                group.ended().await;
            }
        };
        tokio::pin!(ended);
        tokio::select! {
            () = &mut ended => return,
            () = skip_waits => {}
        }
        for group in &groups {
            group.hurry();
        }
        ended.await;
    }
}
