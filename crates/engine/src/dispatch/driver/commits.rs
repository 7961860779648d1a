//! Commits of what has been acknowledged (contract, section 6).

use super::Driver;
use super::set_offsets::Found;
use crate::acks::Snapshot;
use crate::error::{ErrorCode, KafkaError};
use crate::native::{Event, Partitions};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long commits may be refused because of their generation before the member
/// is taken for one that the group goes on without. A heartbeat is answered in
/// less (`heartbeat.interval.ms`, 3 s), and by that librdkafka learns it.
const STALE_LIMIT: Duration = Duration::from_secs(5);

/// A commit that is under way.
pub(super) enum Committing {
    /// What has been acknowledged.
    Acks(Sent),
    /// Positions that somebody sets.
    Setting(Found),
}

pub(super) struct Sent {
    pub(super) parts: Vec<(Arc<str>, i32, Snapshot)>,
    /// How often partitions had been given up by then.
    releases: u64,
    pub(super) at: Instant,
}

impl Driver {
    pub(super) fn commit_if_due(&mut self) {
        let now = Instant::now();
        if self.committing.is_none()
            && self.commit_after <= now
            && now.duration_since(self.last_commit) >= self.group.config().commit_interval
        {
            self.last_commit = now;
            self.commit();
        }
    }

    /// Sends a commit of everything that has changed.
    pub(super) fn commit(&mut self) {
        let mut parts = Vec::new();
        {
            let mut state = self.group.state();
            for (topic, found) in &mut state.topics {
                for partition in found.partitions.values_mut() {
                    partition.see_end();
                    if let Some(snapshot) = partition.unsaved() {
                        parts.push((Arc::clone(topic), partition.id(), snapshot));
                    }
                }
            }
        }
        if parts.is_empty() {
            return;
        }
        let mut list = Partitions::new();
        for (topic, partition, snapshot) in &parts {
            list.add_with_metadata(topic, *partition, snapshot.offset, &snapshot.metadata);
        }
        let sent = Sent {
            parts,
            releases: self.releases,
            at: Instant::now(),
        };
        match self.client.commit_to(Some(&list), &self.events) {
            0 => self.committing = Some(Committing::Acks(sent)),
            code => self.commit_has_failed(KafkaError::from_raw(code), sent.releases, sent.at),
        }
    }

    pub(super) fn finish_commit(&mut self, event: &Event) {
        let Some(committing) = self.committing.take() else {
            return;
        };
        let error = KafkaError::from_raw(event.error());
        let results: HashMap<(String, i32), i32> = event
            .partitions()
            .positions()
            .map(|result| ((result.topic, result.partition), result.error))
            .collect();
        let first_failure = std::iter::once(event.error())
            .chain(results.values().copied())
            .find(|code| *code != 0)
            .map(KafkaError::from_raw);
        match committing {
            Committing::Setting(found) => {
                self.finish_setting(found, first_failure.map_or(Ok(()), Err));
            }
            Committing::Acks(sent) => {
                if error.number() == 0 {
                    self.is_lost = false;
                    self.stale_since = None;
                    self.save(sent.parts, &results);
                }
                if let Some(error) = first_failure {
                    self.commit_has_failed(error, sent.releases, sent.at);
                }
            }
        }
        self.commit_setting();
    }

    /// Notes what Kafka has stored.
    fn save(
        &mut self,
        parts: Vec<(Arc<str>, i32, Snapshot)>,
        results: &HashMap<(String, i32), i32>,
    ) {
        let mut state = self.group.state();
        for (topic, partition, snapshot) in parts {
            let result = results.get(&(topic.to_string(), partition));
            if result.is_none_or(|code| *code == 0)
                && let Some(found) = state
                    .topics
                    .get_mut(&topic)
                    .and_then(|found| found.partitions.get_mut(&partition))
            {
                found.tracker().save(snapshot);
                if let Some(ends) = self.ends.get_mut(&*topic) {
                    let end = ends.entry(partition).or_default();
                    end.follow(found.topic_id());
                }
            }
        }
    }

    fn commit_has_failed(&mut self, error: KafkaError, releases: u64, sent: Instant) {
        // What is said of partitions that were given up since says nothing about
        // those that have come.
        if releases == self.releases {
            // A commit that crosses the group's next generation is refused,
            // though the member is in that, too, and owns what it did. So are
            // those behind it until it has heard of the new one. That one commit is
            // answered late says nothing: it waits until the group is complete, if
            // the member's JoinGroup is on its way before it.
            let is_stale = error.is(ErrorCode::IllegalGeneration) && {
                let since = *self.stale_since.get_or_insert_with(Instant::now);
                sent.saturating_duration_since(since) >= STALE_LIMIT
            };
            // The coordinator knows a younger member in this one's place.
            self.is_lost |= is_stale
                || error.is(ErrorCode::UnknownMemberId)
                || error.is(ErrorCode::FencedInstanceId);
        }
        let text = format!("commit failed, it is tried again: {error}");
        if self.news.is_worth_a_line(&text) {
            tracing::warn!(component = self.component(), "{text}");
        }
        self.commit_after = Instant::now() + self.group.config().retry_backoff;
    }
}
