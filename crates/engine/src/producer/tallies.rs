//! What has become of the records of each topic.
//!
//! Whoever hands records to librdkafka counts them in their topic's native
//! handle, once per call; the delivery thread counts once per event, all of
//! whose reports are of one topic.

use super::Producer;
use crate::by_name::ByName;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a producer has done for a topic since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicStatistics {
    /// Records handed over to librdkafka.
    pub accepted: u64,
    /// Acknowledged by Kafka.
    pub delivered: u64,
    /// Given up.
    pub failed: u64,
    /// Bytes of keys and values of those that were acknowledged.
    pub bytes: u64,
}

impl TopicStatistics {
    /// Neither acknowledged nor given up.
    pub fn outstanding(&self) -> u64 {
        let ended = self.delivered + self.failed;
        self.accepted.saturating_sub(ended)
    }
}

#[derive(Default)]
struct Tally {
    accepted: Arc<AtomicU64>,
    delivered: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
}

/// Those of a producer.
#[derive(Default)]
pub(super) struct Tallies {
    topics: ByName<Tally>,
}

impl Tallies {
    /// Where records of a topic are counted as they are handed over.
    pub(super) fn accepted(&self, topic: &str) -> Arc<AtomicU64> {
        Arc::clone(&self.topics.get(topic).accepted)
    }
}

/// Reports of one event, counted together.
#[derive(Default)]
pub(super) struct Reported {
    pub(super) delivered: u64,
    pub(super) failed: u64,
    pub(super) bytes: u64,
}

/// The delivery thread's: it meets the same topic again and again.
#[derive(Default)]
pub(super) struct LastTally {
    topic: String,
    tally: Arc<Tally>,
}

impl LastTally {
    /// What comes next is of this topic.
    pub(super) fn meet(&mut self, tallies: &Tallies, topic: &str) {
        if self.topic != topic {
            topic.clone_into(&mut self.topic);
            self.tally = tallies.topics.get(topic);
        }
    }

    /// Counts for the topic that was met last.
    pub(super) fn add(&self, reported: &Reported) {
        let tally = &self.tally;
        for (counter, count) in [
            (&tally.delivered, reported.delivered),
            (&tally.failed, reported.failed),
            (&tally.bytes, reported.bytes),
        ] {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }
}

impl Producer {
    /// Shows what has become of the records of each topic, in no order;
    /// beyond 10,000 topics the rest together, as `other`.
    pub fn each_topic(&self, mut show: impl FnMut(&str, TopicStatistics)) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.shared.tallies.topics.each(|topic, tally| {
            // What has ended is read first: nothing ends that was not begun.
            let (delivered, failed) = (get(&tally.delivered), get(&tally.failed));
            let statistics = TopicStatistics {
                accepted: get(&tally.accepted),
                delivered,
                failed,
                bytes: get(&tally.bytes),
            };
            show(topic, statistics);
        });
    }
}
