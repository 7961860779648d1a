//! What members of groups have done, and where they stand.

use super::{Consumed, Groups, Member, MessageBox, Position};
use std::collections::VecDeque;
use std::sync::Arc;

/// One partition of a member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberStatistics {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// How far the stored position is behind the end, as the brokers said
    /// with the last fetch; `None` while either is not known.
    pub lag: Option<u64>,
}

impl Groups {
    /// Where all members stand. Asks no broker.
    pub(crate) fn statistics(&self) -> Vec<MemberStatistics> {
        self.ask_members(Member::standing)
    }

    /// What librdkafka says about each member's client, as it has written it
    /// last.
    pub(crate) fn client_statistics(&self) -> Vec<Arc<str>> {
        self.ask_members(|member| member.said.lock().iter().cloned().collect())
    }
}

impl Member {
    /// Counts messages that have just come, those of one topic together.
    pub(super) fn count(&self, fetched: &VecDeque<MessageBox>) {
        let mut run: (&str, u64, u64) = ("", 0, 0);
        for message in fetched.iter().filter(|message| message.error() == 0) {
            let topic = message.topic();
            if topic != run.0 {
                self.count_run(run);
                run = (topic, 0, 0);
            }
            let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len) as u64;
            run.1 += 1;
            run.2 += length(message.key()) + length(message.value());
        }
        self.count_run(run);
    }

    fn count_run(&self, (topic, messages, bytes): (&str, u64, u64)) {
        if let Some(consumed) = self.consumed(topic) {
            Consumed::add(&consumed.messages, messages);
            Consumed::add(&consumed.bytes, bytes);
        }
    }

    /// Counts positions that were stored.
    pub(super) fn count_acks(&self, positions: &[Position]) {
        for position in positions {
            if let Some(consumed) = self.consumed(&position.topic) {
                Consumed::add(&consumed.acked, 1);
            }
        }
    }

    /// What is counted of a topic; of those that a pattern has found nothing.
    fn consumed(&self, topic: &str) -> Option<&Consumed> {
        let mut own = self.topics.iter().zip(&self.consumed);
        own.find(|(name, _)| *name == topic)
            .map(|(_, consumed)| &**consumed)
    }

    fn standing(&self) -> Vec<MemberStatistics> {
        let stored = self.assignment.lock().stored();
        let partitions = stored.into_iter().map(|(topic, partition, stored)| {
            let end = self.client.known_end(&topic, partition);
            let lag = end
                .zip(stored)
                .map(|(end, stored)| end.saturating_sub(stored));
            MemberStatistics {
                group: self.group.clone(),
                topic,
                partition,
                lag: lag.map(|lag| u64::try_from(lag).unwrap_or(0)),
            }
        });
        partitions.collect()
    }
}
