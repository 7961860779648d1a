//! When batches leave, topic by topic, for producers that many share: librdkafka
//! has `linger.ms` and `batch.num.messages` per client only, so it was given a
//! call that puts others in their place for one topic (`vendor/README.md`). One
//! client therefore serves all topics, with one queue, one bound and one order.
//!
//! Contract: `producer-engine.md`, sections 2 and 5. The outbox has batches of
//! its own in front of librdkafka's.

use crate::outbox::PerTopic;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// When the batches of a topic's partitions leave: as soon as one of these is so,
/// or librdkafka's `batch.size` is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TopicBatching {
    /// The oldest message is so old; zero: at once. It should be below
    /// `message.timeout.ms`, or messages are given up before they leave.
    /// `None`: the cluster's `linger.ms`.
    pub linger: Option<Duration>,
    /// There are so many messages; no batch has more. 0 is 1. `None`: the
    /// cluster's `batch.num.messages`.
    pub messages: Option<u32>,
}

/// The batches of a cluster's topics. Clones are the same.
#[derive(Clone, Default)]
pub struct Batching {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    topics: ArcSwap<PerTopic<TopicBatching>>,
    /// Counts replacements.
    version: AtomicU64,
}

impl Batching {
    /// For these topics.
    pub fn new(topics: PerTopic<TopicBatching>) -> Self {
        let batching = Self::default();
        batching.shared.topics.store(Arc::new(topics));
        batching
    }

    /// What `other` says in the place of what was said: of each topic from its
    /// next message on, which takes those along that wait already.
    pub fn replace(&self, other: &Self) {
        self.shared.topics.store(other.shared.topics.load_full());
        self.shared.version.fetch_add(1, Ordering::Release);
    }

    /// Changes with every replacement.
    pub(crate) fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// That of a topic.
    pub(crate) fn of(&self, topic: &str) -> TopicBatching {
        *self.shared.topics.load().of(topic)
    }
}

/// They say the same.
impl PartialEq for Batching {
    fn eq(&self, other: &Self) -> bool {
        *self.shared.topics.load() == *other.shared.topics.load()
    }
}

impl Eq for Batching {}

impl std::fmt::Debug for Batching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.shared.topics.load().fmt(f)
    }
}

#[cfg(test)]
mod tests;
