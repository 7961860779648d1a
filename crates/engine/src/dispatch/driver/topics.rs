//! The topics that requests come for, and leaving when none do (contract,
//! section 1).

use super::super::group::ask;
use super::super::start;
use super::super::topic::TopicState;
use super::rebalance::Rebalance;
use super::{Driver, Job};
use crate::error::KafkaError;
use crate::native::{Partitions, TopicLookup};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often topics that do not exist are asked for.
const MISSING_INTERVAL: Duration = Duration::from_secs(1);
/// How long the question for them may take.
const MISSING_LIMIT: Duration = Duration::from_secs(1);
/// A group without a topic is not left before.
const INFANCY: Duration = Duration::from_secs(1);
/// How long librdkafka may take to begin what unsubscribing brings.
const UNSUBSCRIBING: Duration = Duration::from_millis(500);
/// How long leaving may take.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

impl Driver {
    /// Subscribes to what is asked for, and leaves what is idle.
    pub(super) fn look_after_topics(&mut self) {
        if self.leaving.is_some() {
            return;
        }
        if let Some(since) = self.unsubscribed {
            self.close_once_unassigned(since);
            return;
        }
        let now = Instant::now();
        let wanted = if self.group.is_stopping() {
            BTreeSet::new()
        } else {
            self.wanted_topics(now)
        };
        if wanted.is_empty() {
            if self.group.is_stopping() || self.born.elapsed() >= INFANCY {
                self.leave(now);
            }
            return;
        }
        let initial_ends_known = self.ask_for_ends(&wanted);
        let known: BTreeSet<String> = wanted
            .into_iter()
            .filter(|topic| initial_ends_known.contains(topic))
            .collect();
        if known != self.subscribed && !known.is_empty() {
            let mut list = Partitions::new();
            for topic in &known {
                list.add(topic, -1, None);
            }
            let error = KafkaError::from_raw(self.client.subscribe(&list));
            if error.number() == 0 {
                self.subscribed = known;
            } else {
                tracing::error!(component = self.component(), "subscribe: {error}");
            }
        }
        if self.misses_topics && now.duration_since(self.last_missing) >= MISSING_INTERVAL {
            self.last_missing = now;
            let client = Arc::clone(&self.client);
            self.jobs.spawn(async move {
                // Its answer makes librdkafka look at the subscription again.
                let asked = ask(client, |client| {
                    client.metadata(&TopicLookup::All, MISSING_LIMIT)
                });
                let topics = asked.await.unwrap_or(Ok(Vec::new()));
                Job::Topics(
                    topics.map(|topics| topics.into_iter().map(|topic| topic.name).collect()),
                )
            });
        }
    }

    /// The topics that requests have been coming for, and those whose
    /// deliveries are still waited for. The others are forgotten.
    fn wanted_topics(&mut self, now: Instant) -> BTreeSet<String> {
        let config = self.group.config();
        let mut wanted = BTreeSet::new();
        let mut state = self.group.state();
        for (name, topic) in &mut state.topics {
            let idle = now.duration_since(topic.last_request);
            let is_unwanted = !topic.is_wanted();
            if is_unwanted && topic.is_abandoned {
                continue;
            }
            let is_idle = is_unwanted && idle >= config.subscription_timeout;
            if is_idle && topic.has_pending() && idle >= config.acks.timeout {
                if self.subscribed.contains(&**name) {
                    tracing::error!(
                        component = self.client.component(),
                        "{name} is left with deliveries that nobody has acknowledged"
                    );
                }
            } else if !is_idle || topic.has_pending() {
                wanted.insert(name.to_string());
            }
        }
        state
            .topics
            .retain(|name, topic| wanted.contains(&**name) || !topic.partitions.is_empty());
        wanted
    }

    /// The topics whose ends are known, so that nothing is missed that is
    /// produced while the group is being joined.
    fn ask_for_ends(&mut self, wanted: &BTreeSet<String>) -> BTreeSet<String> {
        self.ends.retain(|topic, _| wanted.contains(topic));
        let unknown = wanted
            .iter()
            .filter(|topic| !self.ends.contains_key(*topic));
        let unknown: Vec<(String, i64)> = {
            let state = self.group.state();
            let since = |topic: &String| {
                let found = state.topics.get(topic.as_str());
                (topic.clone(), found.map_or(i64::MAX, |found| found.since))
            };
            unknown.map(since).collect()
        };
        if !unknown.is_empty() && !self.is_asking_for_ends {
            self.is_asking_for_ends = true;
            let client = Arc::clone(&self.client);
            self.jobs.spawn(async move {
                let asked = ask(client, move |client| start::ends(client, &unknown));
                Job::Ends(asked.await.unwrap_or_default())
            });
        }
        self.ends.keys().cloned().collect()
    }

    /// Begins to leave the group, unless a request has just come.
    fn leave(&mut self, now: Instant) {
        {
            let mut state = self.group.state();
            let is_wanted = state.topics.values_mut().any(TopicState::is_wanted);
            if is_wanted && !self.group.is_stopping() {
                return;
            }
            state.has_ended = true;
        }
        // A static member (KIP-345) that only ends keeps its place, which is
        // right when the process ends and wrong when nobody asks any more.
        // Others would leave by closing, too; but in the middle of a rebalance
        // librdkafka then drops the answer that names the new generation, and
        // the last commit is refused. It unsubscribes when that is over.
        let unsubscribes = if self.is_static() {
            !self.group.is_stopping()
        } else {
            !self.has_nothing()
        };
        if unsubscribes {
            self.client.unsubscribe();
            self.unsubscribed = Some(now);
            return;
        }
        self.close(now);
    }

    fn is_static(&self) -> bool {
        self.inner.properties.get("group.instance.id").is_some()
    }

    /// No partition is here, and none comes or goes.
    fn has_nothing(&self) -> bool {
        let is_empty = {
            let state = self.group.state();
            let mut topics = state.topics.values();
            topics.all(|topic| topic.partitions.is_empty())
        };
        is_empty && matches!(self.rebalance, Rebalance::None)
    }

    /// Closes a member once unsubscribing has let go of everything, or there is
    /// no time for that. A static one that is closed too early would not tell
    /// its coordinator.
    fn close_once_unassigned(&mut self, since: Instant) {
        let now = Instant::now();
        let waited = now.duration_since(since);
        let is_settled = self.has_nothing() && (!self.is_static() || waited >= UNSUBSCRIBING);
        let is_releasing = matches!(self.rebalance, Rebalance::Releasing { .. });
        let is_over = waited >= LEAVE_LIMIT || self.group.is_hurried();
        if is_settled || is_over && !is_releasing {
            self.close(now);
        }
    }

    fn close(&mut self, now: Instant) {
        self.leaving = Some(now);
        if let Err(reason) = self.client.consumer_close_begin(&self.close_events) {
            tracing::warn!(component = self.component(), "leaving: {reason}");
        }
    }

    pub(super) fn has_left(&self) -> bool {
        let Some(since) = self.leaving else {
            return false;
        };
        if self.client.consumer_is_closed() {
            return true;
        }
        // While partitions wait for acknowledgements librdkafka waits, too.
        let is_waiting = matches!(self.rebalance, Rebalance::Releasing { .. });
        if is_waiting || since.elapsed() < LEAVE_LIMIT {
            return false;
        }
        tracing::warn!(
            component = self.component(),
            "did not leave its group within {} s",
            LEAVE_LIMIT.as_secs()
        );
        true
    }
}
