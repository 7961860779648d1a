//! Where groups stand. Asked for now and then, by those who show it.

use super::Dispatcher;
use super::group::{Group, free};
use super::partition::Partition;
use crate::consumer::Consumed;
use crate::native::Client;
use std::sync::Arc;

/// One topic of a group in this process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStatistics {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// Requests that wait for a message.
    pub waiting: usize,
    /// The partitions that this process owns.
    pub partitions: Vec<PartitionStatistics>,
}

/// One partition of a topic that this process owns.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionStatistics {
    /// Its number.
    pub partition: i32,
    /// Deliveries that wait for their acknowledgement.
    pub pending: usize,
    /// How far the group is behind the end, as the brokers said with the last
    /// fetch; `None` before they have said anything.
    pub lag: Option<u64>,
}

impl Dispatcher {
    /// Where all groups stand. Asks no broker.
    pub fn statistics(&self) -> Vec<GroupStatistics> {
        let groups: Vec<Arc<Group>> = self.inner.groups.lock().values().cloned().collect();
        groups.iter().flat_map(|group| group.statistics()).collect()
    }

    /// What librdkafka says about each group's client, as it has written it
    /// last.
    pub fn client_statistics(&self) -> Vec<Arc<str>> {
        let groups = self.inner.groups.lock();
        let said = groups
            .values()
            .filter_map(|group| group.client_statistics());
        said.collect()
    }
}

impl Group {
    /// Counts a message that was delivered too often: it is safe elsewhere, or
    /// was dropped.
    pub(super) fn count_put_away(&self, topic: &str) {
        let own = self.consumed.get(topic);
        let is_kept = self.config().dead_letter_topic.is_some();
        let counter = if is_kept {
            &own.dead_letters
        } else {
            &own.dropped
        };
        Consumed::add(counter, 1);
    }

    /// Notes what librdkafka says about the client.
    pub(super) fn note_statistics(&self, json: String) {
        *self.said.lock() = Some(json.into());
    }

    pub(super) fn client_statistics(&self) -> Option<Arc<str>> {
        self.said.lock().clone()
    }

    /// Where each of its topics stands.
    pub(super) fn statistics(&self) -> Vec<GroupStatistics> {
        let client = self.client.lock().clone();
        let mut state = self.state();
        let topics = state.topics.values_mut();
        let owned = topics.filter(|topic| !topic.partitions.is_empty());
        let statistics = owned
            .map(|topic| {
                topic.drop_gone();
                GroupStatistics {
                    group: self.name().to_owned(),
                    topic: topic.name.to_string(),
                    waiting: topic.waiting.len(),
                    partitions: topic
                        .partitions
                        .values()
                        .map(|partition| partition.statistics(client.as_deref(), &topic.name))
                        .collect(),
                }
            })
            .collect();
        drop(state);
        // Its last user may be this one, which must not wait for its end.
        if let Some(client) = client.and_then(Arc::into_inner) {
            free(move || drop(client));
        }
        statistics
    }
}

impl Partition {
    /// What is known of it; its end is what the client has heard of it.
    pub(super) fn statistics(&self, client: Option<&Client>, topic: &str) -> PartitionStatistics {
        let heard = client.and_then(|client| client.known_end(topic, self.id()));
        let done = self.first_unacknowledged();
        let behind = |end: i64| u64::try_from(end.saturating_sub(done)).unwrap_or(0);
        PartitionStatistics {
            partition: self.id(),
            pending: self.pending(),
            lag: heard.map(|end| behind(end.max(self.end()))),
        }
    }
}
