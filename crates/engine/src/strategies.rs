//! Partition strategies per topic for producers that many share: librdkafka
//! asks here, by its partitioner callback, where a message goes. So messages
//! that wait for their topic are picked in turn, too, and nothing stands between
//! a front end and the producer.
//!
//! Contract: `producer-engine.md`, section 4. The outbox, which has lanes and
//! knows leaders, picks by itself.

use crate::native::{Builtin, Readiness, TopicPartitions};
use crate::news::News;
use crate::outbox::{NotPicked, PartitionView, PerTopic, Ring, Strategy};
use crate::properties::Properties;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often partitions are looked at again that had no leader.
const LOOK: Duration = Duration::from_millis(100);

/// How long after a topic's first message a partition may be without a leader
/// before it is passed over: at first they become available one by one.
const READY_LIMIT: Duration = Duration::from_secs(5);

/// What librdkafka takes for a partition that does not exist: the message is
/// refused with "Local: Unknown partition".
const NOWHERE: i32 = i32::MAX;

/// How the partitions of a topic are picked.
#[derive(Debug, Clone)]
pub struct TopicStrategy {
    /// The strategy. A picker of the user's sees the key, but neither the value
    /// nor leaders, and one lane of each partition.
    pub strategy: Strategy,
    /// Picks before a sticky strategy goes on to the next partition.
    pub sticky_picks: u64,
}

/// The strategies of a cluster's topics; `None` is what the cluster's
/// `partitioner` does. Clones are the same.
#[derive(Clone, Default)]
pub struct Strategies {
    shared: Option<Arc<Shared>>,
}

struct Shared {
    topics: ArcSwap<PerTopic<Option<TopicStrategy>>>,
    /// Counts replacements.
    version: AtomicU64,
}

impl Strategies {
    /// For these topics.
    pub fn new(topics: PerTopic<Option<TopicStrategy>>) -> Self {
        Self {
            shared: Some(Arc::new(Shared {
                topics: ArcSwap::from_pointee(topics),
                version: AtomicU64::new(0),
            })),
        }
    }

    /// Others in their place, from the next message on; whose turn it is in a
    /// topic stays. False if there were none at the start: then the producers
    /// do not ask.
    pub fn replace(&self, others: PerTopic<Option<TopicStrategy>>) -> bool {
        let Some(shared) = &self.shared else {
            return false;
        };
        shared.topics.store(Arc::new(others));
        shared.version.fetch_add(1, Ordering::Release);
        true
    }

    /// Whether there are any.
    pub fn are_given(&self) -> bool {
        self.shared.is_some()
    }
}

/// The same ones.
impl PartialEq for Strategies {
    fn eq(&self, other: &Self) -> bool {
        match (&self.shared, &other.shared) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (None, None) => true,
            _ => false,
        }
    }
}

impl Eq for Strategies {}

impl std::fmt::Debug for Strategies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.shared {
            Some(shared) => shared.topics.load().fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// The pickers of one producer, by topic. They outlive its client, so that turns
/// go on with the next one.
pub(crate) struct Pickers {
    shared: Arc<Shared>,
    cluster: ClusterPartitioner,
    topics: Mutex<HashMap<Box<str>, Arc<Picker>>>,
}

impl Pickers {
    /// `None` if librdkafka is to pick by itself. `properties` are those of the
    /// producer.
    pub(crate) fn new(strategies: &Strategies, properties: &Properties) -> Option<Self> {
        Some(Self {
            shared: Arc::clone(strategies.shared.as_ref()?),
            cluster: ClusterPartitioner::of(properties),
            topics: Mutex::default(),
        })
    }

    /// The topic's, made on first use. As many are kept as librdkafka keeps
    /// topics: until the end.
    pub(crate) fn of(&self, topic: &str) -> Arc<Picker> {
        let mut topics = self.topics.lock();
        if let Some(picker) = topics.get(topic) {
            return Arc::clone(picker);
        }
        let picker = Arc::new(Picker {
            topic: topic.into(),
            shared: Arc::clone(&self.shared),
            cluster: self.cluster,
            state: Mutex::new(State {
                version: None,
                own: None,
                ring: Ring::new(1, None),
                readiness: Readiness::default(),
                noted: None,
                looked: None,
                sticky: None,
                news: News::default(),
            }),
        });
        topics.insert(topic.into(), Arc::clone(&picker));
        picker
    }
}

/// What is done with topics that have no strategy: what librdkafka would do if
/// it were not asking here, which it does for all topics of a client or for
/// messages with keys only (`sticky.partitioning.linger.ms`).
#[derive(Debug, Clone, Copy)]
struct ClusterPartitioner {
    /// `None`: each partition in turn, which is ours.
    builtin: Option<Builtin>,
    /// How long messages without a key stay with a partition.
    linger: Duration,
}

impl ClusterPartitioner {
    fn of(properties: &Properties) -> Self {
        let linger = properties.get("sticky.partitioning.linger.ms");
        let linger = linger.and_then(|text| text.parse().ok());
        Self {
            builtin: match properties.is_round_robin() {
                true => None,
                false => Some(properties.partitioner()),
            },
            linger: Duration::from_millis(linger.unwrap_or(10)),
        }
    }

    fn of_our_own(self) -> Option<TopicStrategy> {
        self.builtin.is_none().then_some(TopicStrategy {
            strategy: Strategy::StrictRoundRobin,
            sticky_picks: 1,
        })
    }

    /// As `rd_kafka_msg_partitioner` does it.
    fn pick(
        self,
        key: Option<&[u8]>,
        partitions: &impl TopicPartitions,
        sticky: &mut Option<(i32, Instant)>,
    ) -> i32 {
        let builtin = self.builtin.unwrap_or(Builtin::Random);
        let is_keyless = match key {
            None => true,
            Some(key) => key.is_empty() && builtin == Builtin::ConsistentRandom,
        };
        if !is_keyless || !builtin.is_random() || self.linger.is_zero() {
            return partitions.pick(builtin, key);
        }
        let now = Instant::now();
        match sticky {
            Some((partition, until))
                if now < *until
                    && *partition < partitions.count()
                    && partitions.is_available(*partition) =>
            {
                *partition
            }
            _ => {
                let partition = partitions.pick(Builtin::Random, key);
                *sticky = Some((partition, now + self.linger));
                partition
            }
        }
    }
}

/// Picks the partitions of one topic.
pub(crate) struct Picker {
    topic: Box<str>,
    shared: Arc<Shared>,
    cluster: ClusterPartitioner,
    state: Mutex<State>,
}

struct State {
    /// That of the settings which `own` is from.
    version: Option<u64>,
    own: Option<TopicStrategy>,
    ring: Ring,
    readiness: Readiness,
    /// The partition that it was told of last.
    noted: Option<i32>,
    /// When partitions without a leader were looked at.
    looked: Option<Instant>,
    /// The partition for messages without a key, and until when, where the
    /// cluster's partitioner counts.
    sticky: Option<(i32, Instant)>,
    news: News,
}

impl Picker {
    /// Where a message goes. Called by librdkafka under the topic's lock, so it
    /// waits for nothing but a script, which has limits of its own.
    pub(crate) fn pick(&self, key: Option<&[u8]>, partitions: &impl TopicPartitions) -> i32 {
        let mut state = self.state.lock();
        let version = self.shared.version.load(Ordering::Acquire);
        if state.version != Some(version) {
            state.version = Some(version);
            let own = self.shared.topics.load().of(&self.topic).clone();
            state.own = own.or_else(|| self.cluster.of_our_own());
        }
        let state = &mut *state;
        match state.own.take() {
            None => self.cluster.pick(key, partitions, &mut state.sticky),
            Some(own) => {
                let partition = state.pick(&self.topic, &own, key, partitions);
                state.own = Some(own);
                partition
            }
        }
    }
}

impl State {
    fn pick(
        &mut self,
        topic: &str,
        own: &TopicStrategy,
        key: Option<&[u8]>,
        partitions: &impl TopicPartitions,
    ) -> i32 {
        let count = partitions.count();
        if self.ring.partitions().len() != usize::try_from(count).unwrap_or(0) {
            let all = (0..count).map(|id| PartitionView {
                id,
                leader: None,
                is_available: true,
            });
            self.ring.rebuild(all.collect(), 1);
        }
        self.look_again(partitions);
        // Who names a partition, by a key or a script, means it.
        let is_named = own.strategy.is_by_key(key);
        loop {
            let strategy = (&own.strategy, own.sticky_picks);
            let slot = match self.ring.pick(strategy, topic, None, key, None) {
                Ok(entry) => entry.slot,
                Err(NotPicked::Refused(reason)) => {
                    if self.news.is_worth_a_line(&reason) {
                        tracing::warn!(
                            component = "producer",
                            topic,
                            "the partition picker refuses messages: {reason}"
                        );
                    }
                    return NOWHERE;
                }
                // Whose turn it is has them when somebody leads it again.
                Err(NotPicked::NobodyThere | NotPicked::UnknownPartition) => {
                    self.ring.turn_of_all()
                }
            };
            let partition = i32::try_from(slot).unwrap_or(NOWHERE);
            if is_named || self.ring.available() == 0 {
                return partition;
            }
            let is_available = partitions.is_available(partition);
            // Of a sticky one the first pick counts.
            if self.noted.replace(partition) != Some(partition) || count == 1 {
                let limit = READY_LIMIT;
                self.readiness
                    .note(is_available, count, limit, Instant::now);
            }
            if is_available || !self.readiness.is_ready() {
                return partition;
            }
            self.ring.set_available(slot, false);
            self.looked.get_or_insert_with(Instant::now);
        }
    }

    /// Partitions that had no leader may have one again.
    fn look_again(&mut self, partitions: &impl TopicPartitions) {
        if self.looked.is_none_or(|looked| looked.elapsed() < LOOK) {
            return;
        }
        let all = self.ring.partitions().len();
        for slot in 0..all {
            let known = self.ring.partitions().get(slot);
            if let Some(partition) = known.filter(|known| !known.is_available)
                && partitions.is_available(partition.id)
            {
                self.ring.set_available(slot, true);
            }
        }
        let is_whole = self.ring.available() == all;
        self.looked = (!is_whole).then(Instant::now);
    }
}

#[cfg(test)]
mod tests;
