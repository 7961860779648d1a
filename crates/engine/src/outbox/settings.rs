//! Settings of an outbox, most of them per topic.
//!
//! Contract: `producer-engine.md`, section 2.

use super::massage::MassageBuffer;
use super::strategy::Strategy;
use crate::journal::Durability;
use crate::properties::Properties;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Longer times are as good as never, and can be added to any point in time.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// More entries per partition than anybody has had.
const MOST_LANES: u32 = 10_000;

/// No longer than can be counted on.
pub(super) fn bounded(time: Duration) -> Duration {
    time.min(LONGEST)
}

/// A value for some topics, and one for all others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PerTopic<T> {
    default: T,
    topics: HashMap<Box<str>, T>,
}

impl<T> PerTopic<T> {
    /// The same for all topics.
    pub fn all(default: T) -> Self {
        Self {
            default,
            topics: HashMap::new(),
        }
    }

    /// With a value of its own for `topic`.
    #[must_use]
    pub fn with(mut self, topic: impl Into<Box<str>>, value: T) -> Self {
        self.topics.insert(topic.into(), value);
        self
    }

    /// Each value that a topic may have.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.default).chain(self.topics.values())
    }

    /// The value for a topic.
    pub fn of(&self, topic: &str) -> &T {
        self.topics.get(topic).unwrap_or(&self.default)
    }
}

impl<T> From<T> for PerTopic<T> {
    fn from(default: T) -> Self {
        Self::all(default)
    }
}

/// What happens to messages beyond [`TopicSettings::max_downtime_messages`],
/// or beyond the bound in bytes while a topic is down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DowntimePolicy {
    /// The caller is told how many were taken and how many were not.
    #[default]
    Reject,
    /// The first ones of all stay.
    DropNewest,
    /// The last ones of all stay.
    DropOldest,
}

/// Settings of all topics; `ekaf_` and the name of the setting in the contract
/// where it differs. Each field has its default from there.
#[derive(Clone)]
pub struct OutboxSettings {
    /// Entries of the ring per partition (`per_partition_workers`), 1 to
    /// 10,000. No connections: see [`connections`](Self::connections).
    pub lanes_per_partition: PerTopic<u32>,
    /// A batch leaves when a lane holds so many (`max_buffer_size`).
    pub max_batch_messages: PerTopic<u32>,
    /// A batch leaves when it holds so many bytes.
    pub max_batch_bytes: PerTopic<usize>,
    /// A batch leaves when its oldest message is so old (`buffer_ttl`); zero:
    /// at once.
    pub batch_ttl: PerTopic<Duration>,
    /// Messages kept while a topic is down (`max_downtime_buffer_size`);
    /// `None`: as many as [`max_buffered_bytes`](Self::max_buffered_bytes)
    /// allows.
    pub max_downtime_messages: PerTopic<Option<usize>>,
    /// What happens beyond that.
    pub downtime_policy: PerTopic<DowntimePolicy>,
    /// Messages that have waited in vain for so long are dropped. Zero:
    /// never.
    pub max_message_age: PerTopic<Duration>,
    /// Where messages go (`partition_strategy`).
    pub strategy: PerTopic<Strategy>,
    /// Picks before a sticky strategy goes on
    /// (`sticky_partition_buffer_size`), at least 1.
    pub sticky_picks: PerTopic<u64>,
    /// What is sent in the place of a batch (`callback_massage_buffer`).
    pub massage: PerTopic<Option<Arc<dyn MassageBuffer>>>,
    /// When those are answered who do not ask for Kafka's word. The front end
    /// goes by it; `Journal` needs a journal
    /// ([`OutboxBuilder::journal`](super::OutboxBuilder::journal)).
    pub durability: PerTopic<Durability>,
    /// librdkafka's `compression.type`; `None`: as the client has it. Read
    /// when a topic is first used, and not again.
    pub compression: PerTopic<Option<String>>,
    /// Whether the topic's events go to statsd (`push_to_statsd_enabled`), for
    /// [`Statsd`](super::Statsd).
    pub has_statsd: PerTopic<bool>,
    /// How long those wait who want to be told what Kafka said. What is at the
    /// client by then is reported within about a second more. Read at the
    /// start.
    pub sync_timeout: Duration,
    /// All that is admitted and not yet in Kafka: keys, values, headers and
    /// what surrounds them ([`OVERHEAD`](super::OVERHEAD) each).
    pub max_buffered_bytes: u64,
    /// The same as a number of messages.
    pub max_buffered_messages: u64,
    /// A partition that has answered nothing for so long counts as down.
    pub down_after: Duration,
    /// Between two attempts to reach a cluster that is down.
    pub retry_interval: Duration,
    /// How often partitions of topics are looked at that work.
    pub metadata_refresh: Duration,
    /// How long a topic may be unknown before its messages are given up: a
    /// broker that creates topics on use needs a moment.
    pub unknown_topic_grace: Duration,
    /// How long it then counts as unknown before it is asked for again.
    pub unknown_topic_memory: Duration,
    /// Clients; each partition belongs to one of them. Read at the start.
    pub connections: usize,
    /// Events that wait for their listeners; more are counted and left out.
    /// Read at the start.
    pub event_queue: usize,
    /// The seed of the random strategy; `None`: another one each time.
    pub seed: Option<u64>,
    /// Properties of librdkafka, in front of those of the cluster. Read at
    /// the start.
    pub librdkafka: Properties,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self {
            lanes_per_partition: 1.into(),
            max_batch_messages: 100.into(),
            max_batch_bytes: 1_000_000.into(),
            batch_ttl: Duration::from_secs(5).into(),
            max_downtime_messages: None.into(),
            downtime_policy: DowntimePolicy::default().into(),
            max_message_age: Duration::ZERO.into(),
            strategy: Strategy::default().into(),
            sticky_picks: 1_000.into(),
            massage: PerTopic::all(None),
            durability: Durability::default().into(),
            compression: None.into(),
            has_statsd: false.into(),
            sync_timeout: Duration::from_secs(5),
            max_buffered_bytes: 256 << 20,
            max_buffered_messages: 1_000_000,
            down_after: Duration::from_secs(3),
            retry_interval: Duration::from_secs(1),
            metadata_refresh: Duration::from_secs(60),
            unknown_topic_grace: Duration::from_secs(1),
            unknown_topic_memory: Duration::from_secs(5),
            connections: 1,
            event_queue: 10_000,
            seed: None,
            librdkafka: Properties::new(),
        }
    }
}

impl OutboxSettings {
    /// What holds for one topic.
    pub fn of(&self, topic: &str) -> TopicSettings {
        TopicSettings {
            lanes_per_partition: (*self.lanes_per_partition.of(topic)).clamp(1, MOST_LANES),
            max_batch_messages: (*self.max_batch_messages.of(topic)).max(1),
            max_batch_bytes: *self.max_batch_bytes.of(topic),
            batch_ttl: bounded(*self.batch_ttl.of(topic)),
            max_downtime_messages: *self.max_downtime_messages.of(topic),
            downtime_policy: *self.downtime_policy.of(topic),
            max_message_age: bounded(*self.max_message_age.of(topic)),
            strategy: self.strategy.of(topic).clone(),
            sticky_picks: (*self.sticky_picks.of(topic)).max(1),
            massage: self.massage.of(topic).clone(),
            durability: *self.durability.of(topic),
            compression: self.compression.of(topic).clone(),
            has_statsd: *self.has_statsd.of(topic),
        }
    }
}

/// Settings of one topic, see [`OutboxSettings`].
#[derive(Clone)]
#[allow(missing_docs, reason = "each field is described in OutboxSettings")]
pub struct TopicSettings {
    pub lanes_per_partition: u32,
    pub max_batch_messages: u32,
    pub max_batch_bytes: usize,
    pub batch_ttl: Duration,
    pub max_downtime_messages: Option<usize>,
    pub downtime_policy: DowntimePolicy,
    pub max_message_age: Duration,
    pub strategy: Strategy,
    pub sticky_picks: u64,
    pub massage: Option<Arc<dyn MassageBuffer>>,
    pub durability: Durability,
    pub compression: Option<String>,
    pub has_statsd: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_its_own_value_or_the_default() {
        let settings = OutboxSettings {
            max_batch_messages: PerTopic::all(100).with("clicks", 10_000),
            sticky_picks: PerTopic::all(0),
            ..OutboxSettings::default()
        };
        assert_eq!(settings.of("clicks").max_batch_messages, 10_000);
        assert_eq!(settings.of("orders").max_batch_messages, 100);
        assert_eq!(settings.of("orders").sticky_picks, 1, "never none");
    }
}
