//! What can be seen of an outbox from outside.

use super::error::Dropped;
use super::strategy::PartitionView;
use std::sync::Arc;

/// Where a topic stands.
///
/// Contract: `producer-engine.md`, section 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TopicState {
    /// Nothing is known of it yet.
    Starting,
    /// All of its partitions can be reached.
    Up,
    /// Some of them.
    Degraded,
    /// None of them.
    Down,
    /// What was kept meanwhile is being handed over; new messages stand
    /// behind it.
    Replaying,
}

impl TopicState {
    /// As a label: `starting`, `up`, …
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
            Self::Replaying => "replaying",
        }
    }
}

/// What has become of a topic's messages since its first use.
///
/// Contract: `producer-engine.md`, sections 7 and 8.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicCounts {
    /// Admitted.
    pub accepted: u64,
    /// Records that Kafka has acknowledged; one that was made of a batch
    /// counts once.
    pub delivered: u64,
    /// Kept because the topic, or their partition, could not be reached.
    pub saved: u64,
    /// Of what was kept in a downtime of the topic, handed over after it.
    pub replayed: u64,
}

impl TopicCounts {
    fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.delivered += other.delivered;
        self.saved += other.saved;
        self.replayed += other.replayed;
    }
}

/// The counters of topics that are remembered no more, added up, so that
/// nobody's sums fall.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ForgottenTopics {
    /// What had become of their messages.
    pub counts: TopicCounts,
    /// As [`TopicInfo::dropped`].
    pub dropped: [(Dropped, u64); Dropped::ALL.len()],
}

impl Default for ForgottenTopics {
    fn default() -> Self {
        Self {
            counts: TopicCounts::default(),
            dropped: Dropped::ALL.map(|reason| (reason, 0)),
        }
    }
}

impl ForgottenTopics {
    pub(super) fn add(&mut self, topic: &TopicInfo) {
        self.counts.add(&topic.counts);
        for ((_, sum), (_, count)) in self.dropped.iter_mut().zip(topic.dropped) {
            *sum += count;
        }
    }
}

/// Levels and counters of a topic.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TopicInfo {
    /// Its name.
    pub topic: Arc<str>,
    /// Where it stands.
    pub state: TopicState,
    /// Its partitions, ascending; none until they are known.
    pub partitions: Vec<PartitionView>,
    /// Entries of the ring per partition.
    pub lanes: u32,
    /// Messages at which a batch leaves.
    pub max_batch_messages: u32,
    /// Messages in batches.
    pub batched: usize,
    /// Messages that are kept because the topic is down, or because the
    /// client's queue is full.
    pub kept: usize,
    /// Messages of those who wait, kept for the same reason.
    pub waiting: usize,
    /// Messages at the client.
    pub in_flight: usize,
    /// What was last heard of trouble.
    pub last_error: Arc<str>,
    /// What has become of its messages.
    pub counts: TopicCounts,
    /// Messages that were admitted and dropped, by reason, for
    /// `barnabas_dropped_messages_total`.
    pub dropped: [(Dropped, u64); Dropped::ALL.len()],
}

/// Levels and counters of an outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutboxInfo {
    /// Admitted and not yet in Kafka.
    pub messages: u64,
    /// What they take, with what is reserved.
    pub bytes: u64,
    /// Events that found no room on their way to the listeners.
    pub events_left_out: u64,
    /// Clients that had failed for good (KIP-360) and were replaced.
    pub clients_renewed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_forgotten_topics_have_counted_adds_up() {
        let topic = |count: u64| {
            let mut dropped = Dropped::ALL.map(|reason| (reason, 0));
            dropped[Dropped::Expired as usize].1 = count;
            TopicInfo {
                topic: "t".into(),
                state: TopicState::Starting,
                partitions: Vec::new(),
                lanes: 1,
                max_batch_messages: 1,
                batched: 0,
                kept: 0,
                waiting: 0,
                in_flight: 0,
                last_error: "none".into(),
                counts: TopicCounts {
                    accepted: count,
                    delivered: 2 * count,
                    saved: 3 * count,
                    replayed: 4 * count,
                },
                dropped,
            }
        };
        let mut forgotten = ForgottenTopics::default();
        forgotten.add(&topic(1));
        forgotten.add(&topic(10));
        let expected = TopicCounts {
            accepted: 11,
            delivered: 22,
            saved: 33,
            replayed: 44,
        };
        assert_eq!(forgotten.counts, expected);
        for (reason, count) in forgotten.dropped {
            let expected = if reason == Dropped::Expired { 11 } else { 0 };
            assert_eq!(count, expected, "{reason:?}");
        }
    }
}
