//! The partitions that a consumer holds, and what was stored for them.

use std::collections::{HashMap, HashSet};

/// Assigned partitions by topic, each with the position stored last.
#[derive(Default)]
pub(super) struct Assignment {
    topics: HashMap<String, HashMap<i32, Option<i64>>>,
    /// Topics that it has or has had something of.
    known: HashSet<String>,
}

impl Assignment {
    pub(super) fn add(&mut self, topic: String, partition: i32) {
        if !self.known.contains(&topic) {
            self.known.insert(topic.clone());
        }
        self.topics
            .entry(topic)
            .or_default()
            .insert(partition, None);
    }

    pub(super) fn remove(&mut self, topic: &str, partition: i32) {
        if let Some(partitions) = self.topics.get_mut(topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    /// Whether a partition of the topic is or was assigned.
    pub(super) fn has_had(&self, topic: &str) -> bool {
        self.known.contains(topic)
    }

    /// Whether a partition of another topic is or was assigned: something that
    /// a pattern has matched.
    pub(super) fn has_had_other_than(&self, topics: &[String]) -> bool {
        self.known.iter().any(|known| !topics.contains(known))
    }

    pub(super) fn holds(&self, topic: &str, partition: i32) -> bool {
        self.topics
            .get(topic)
            .is_some_and(|partitions| partitions.contains_key(&partition))
    }

    /// Notes what was stored; true when that is before what was stored last.
    pub(super) fn note_stored(&mut self, topic: &str, partition: i32, offset: i64) -> bool {
        let stored = self
            .topics
            .get_mut(topic)
            .and_then(|partitions| partitions.get_mut(&partition));
        match stored {
            Some(stored) => stored.replace(offset).is_some_and(|before| offset < before),
            None => false,
        }
    }

    /// All of them, with the position stored last.
    pub(super) fn stored(&self) -> Vec<(String, i32, Option<i64>)> {
        let topics = self.topics.iter();
        let all = topics.flat_map(|(topic, partitions)| {
            let own = partitions.iter();
            own.map(move |(partition, stored)| (topic.clone(), *partition, *stored))
        });
        all.collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (String, i32)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions
                .keys()
                .map(move |partition| (topic.clone(), *partition))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_position_is_noticed() {
        let mut assignment = Assignment::default();
        assignment.add("t".to_owned(), 0);
        assert!(!assignment.note_stored("t", 0, 5));
        assert!(!assignment.note_stored("t", 0, 7));
        assert!(assignment.note_stored("t", 0, 6));
        assert!(!assignment.note_stored("t", 0, 6));
        assert!(!assignment.note_stored("t", 1, 0));
    }

    #[test]
    fn a_partition_that_comes_back_starts_afresh() {
        let mut assignment = Assignment::default();
        assignment.add("t".to_owned(), 0);
        assignment.note_stored("t", 0, 5);
        assignment.remove("t", 0);
        assert!(!assignment.holds("t", 0));
        assignment.add("t".to_owned(), 0);
        assert!(!assignment.note_stored("t", 0, 3));
    }
}
