//! Messages of consumer groups for many short requests: who asks gets the
//! next message of a topic and acknowledges it, by itself, any time later.
//!
//! Contract: `consume-and-ack.md`. In reading order:
//!
//! - `record`: a consumed message that outlives librdkafka's buffer;
//! - `partition`: one owned partition: what is fetched, delivered, due;
//! - `group`: the topics of a group, the requests that wait for them, and
//!   every way in which messages go out and acknowledgements come back;
//! - `start`: where a partition begins;
//! - `driver`: one task per group: joining, rebalances, commits, time.
//!
//! A group has one mutex, which nothing slow holds: requests and
//! acknowledgements work under it themselves, the driver only where time or
//! the cluster has something to say.

mod driver;
mod group;
mod partition;
mod record;
mod start;

use crate::acks::AckPolicy;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::producer::Producer;
use crate::properties::Properties;
use group::{Asked, Group};
use parking_lot::Mutex;
pub use record::ConsumedRecord;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Where a group begins in a partition of which it has committed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InitialOffset {
    /// At the end as it was when the group's first request for the topic
    /// came: nothing is missed that is produced after it.
    #[default]
    Newest,
    /// At the oldest message.
    Oldest,
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

/// One message of [`Deliveries`].
#[derive(Debug, Clone)]
pub struct Delivered {
    /// The partition it came from.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
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

    /// The reply has been written. With [`AckMode::Auto`] the messages are
    /// acknowledged now, else their time begins to run.
    pub fn confirm(mut self) {
        self.is_settled = true;
        if self.mode == AckMode::Auto {
            self.group.settle(&self.topic, &self.messages);
        }
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        if !self.is_settled {
            self.group.release(&self.topic, self.mode, &self.messages);
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
            .set_default("fetch.wait.max.ms", "250");
        if let Some(problem) = properties.problems().into_iter().next() {
            return Err(problem);
        }
        let dead_letters = match config.dead_letter_topic {
            Some(_) => Some(cluster.producer(&Properties::new())?),
            None => None,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                properties,
                dead_letters,
                groups: Mutex::default(),
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
        let deadline = Instant::now() + self.inner.config.long_polling;
        let mut stop = self.inner.stop.subscribe();
        loop {
            if self.inner.is_stopping.load(Ordering::Acquire) {
                return Err(ConsumeError::ShuttingDown);
            }
            let group = self.group(request.group)?;
            let waiting = match group.ask(request, deadline) {
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

    /// Acknowledges a message, whoever delivered it. Doing it again changes
    /// nothing and succeeds. Kafka has it after
    /// [`DispatchConfig::commit_interval`].
    ///
    /// # Errors
    /// [`AckError`]; nothing has changed then.
    pub async fn ack(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), AckError> {
        let found = self.inner.groups.lock().get(group).map(Arc::clone);
        match found {
            Some(found) => found.ack(topic, partition, offset).await,
            None => Err(AckError::NotOwned {
                group: group.to_owned(),
                topic: topic.to_owned(),
                partition,
            }),
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

    fn group(&self, name: &str) -> Result<Arc<Group>, Error> {
        let mut groups = self.inner.groups.lock();
        if let Some(group) = groups.get(name).filter(|group| !group.has_ended()) {
            return Ok(Arc::clone(group));
        }
        let group = driver::start(&self.inner, name)?;
        groups.insert(name.to_owned(), Arc::clone(&group));
        Ok(group)
    }
}

impl Inner {
    /// Forgets a group that has left.
    fn forget(&self, group: &Arc<Group>) {
        let mut groups = self.groups.lock();
        if groups
            .get(group.name())
            .is_some_and(|found| Arc::ptr_eq(found, group))
        {
            groups.remove(group.name());
        }
    }
}
