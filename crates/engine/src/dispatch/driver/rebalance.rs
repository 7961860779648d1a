//! Partitions that come and go (contract, section 8).

use super::super::group::ask;
use super::super::partition::{Arrivals, Partition};
use super::super::start::{self, Start, Starts};
use super::super::topic::TopicState;
use super::commits::Committing;
use super::{Driver, Job};
use crate::error::{ErrorCode, KafkaError};
use crate::native::{Event, Partitions, RebalanceProtocol};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the last commit before a partition is given up may take.
const LAST_COMMIT_LIMIT: Duration = Duration::from_secs(10);

/// What the cluster has asked of the group's members and waits for.
pub(super) enum Rebalance {
    None,
    /// Where the new partitions begin is being asked.
    Starting {
        protocol: RebalanceProtocol,
        partitions: Vec<(String, i32)>,
    },
    /// Partitions that move away wait for their acknowledgements, then for
    /// their last commit.
    Releasing {
        protocol: RebalanceProtocol,
        partitions: Vec<(String, i32)>,
        until: Instant,
        last_commit: Option<Instant>,
    },
}

impl Driver {
    pub(super) fn begin_rebalance(&mut self, event: &Event) {
        self.rebalances += 1;
        let protocol = self.client.rebalance_protocol();
        let mut partitions: Vec<(String, i32)> = event.partitions().iter().collect();
        let shown: Vec<String> = partitions
            .iter()
            .map(|(topic, partition)| format!("{topic} [{partition}]"))
            .collect();
        let shown = shown.join(", ");
        if KafkaError::from_raw(event.error()).is(ErrorCode::AssignPartitions) {
            tracing::info!(component = self.component(), "assigned: {shown}");
            let released = self.take_releasing();
            if !released.is_empty() {
                self.give_up(protocol, &released);
            }
            self.rebalance = Rebalance::Starting {
                protocol,
                partitions,
            };
            self.find_starts(Duration::ZERO);
            self.let_others_go_on();
            return;
        }
        // What still waits for its acknowledgements goes with these: nobody
        // asks for it a second time.
        for waiting in self.take_releasing() {
            if !partitions.contains(&waiting) {
                partitions.push(waiting);
            }
        }
        self.late.retain(|late| !partitions.contains(late));
        if self.client.assignment_is_lost() {
            // Another member may have them: what is acknowledged here would
            // overwrite what it does.
            tracing::warn!(component = self.component(), "lost: {shown}");
            self.give_up(protocol, &partitions);
            return;
        }
        tracing::info!(component = self.component(), "revoked: {shown}");
        let wait = match (self.group.is_stopping(), self.group.is_hurried()) {
            (_, true) => Duration::ZERO,
            (true, false) => self.group.config().acks.timeout,
            (false, false) => self.group.config().revoke_wait,
        };
        self.each_of(&partitions, Partition::leave);
        self.rebalance = Rebalance::Releasing {
            protocol,
            partitions,
            until: Instant::now() + wait,
            last_commit: None,
        };
        self.let_others_go_on();
    }

    /// Partitions that were on their way out when something else came.
    fn take_releasing(&mut self) -> Vec<(String, i32)> {
        match std::mem::replace(&mut self.rebalance, Rebalance::None) {
            Rebalance::Releasing { partitions, .. } => partitions,
            other => {
                self.rebalance = other;
                Vec::new()
            }
        }
    }

    /// What stays here delivers while the group waits for what comes or moves
    /// away (contract, section 13, B14).
    fn let_others_go_on(&self) {
        let mut staying = Partitions::new();
        let state = self.group.state();
        for (name, topic) in &state.topics {
            for partition in topic.partitions.values() {
                if !partition.is_leaving() {
                    staying.add(name, partition.id(), None);
                }
            }
        }
        self.client.go_on_fetching(&staying);
    }

    pub(super) fn each_of(
        &self,
        partitions: &[(String, i32)],
        mut act: impl FnMut(&mut Partition),
    ) {
        let mut state = self.group.state();
        for (topic, partition) in partitions {
            if let Some(found) = state
                .topics
                .get_mut(topic.as_str())
                .and_then(|topic| topic.partitions.get_mut(partition))
            {
                act(found);
            }
        }
    }

    /// Asks aside where the new partitions begin.
    pub(super) fn find_starts(&mut self, pause: Duration) {
        if let Rebalance::Starting { partitions, .. } = &self.rebalance {
            let partitions = partitions.clone();
            let rebalance = self.rebalances;
            self.ask_for_starts(partitions, pause, move |found| {
                Job::Starts(rebalance, found)
            });
        }
    }

    fn ask_for_starts(
        &mut self,
        partitions: Vec<(String, i32)>,
        pause: Duration,
        outcome: impl FnOnce(Result<Starts, i32>) -> Job + Send + 'static,
    ) {
        let client = Arc::clone(&self.client);
        let (initial, ends) = (self.group.config().initial_offset, self.ends.clone());
        self.jobs.spawn(async move {
            tokio::time::sleep(pause).await;
            let found = ask(client, move |client| {
                start::find(client, &partitions, initial, &ends)
            });
            outcome(found.await.unwrap_or_else(|_| Ok(Starts::default())))
        });
    }

    pub(super) fn take_on(&mut self, found: Starts) {
        let Rebalance::Starting { protocol, .. } = self.rebalance else {
            return;
        };
        if protocol != RebalanceProtocol::Cooperative && !found.unknown.is_empty() {
            // All of them have to be assigned at once.
            self.find_starts(self.group.config().retry_backoff);
            return;
        }
        self.rebalance = Rebalance::None;
        self.late.extend(found.unknown);
        self.begin(protocol, found.starts);
        self.ask_for_late();
    }

    /// Asks again where partitions begin that had no leader, one question at a
    /// time: each answer brings the next one.
    pub(super) fn ask_for_late(&mut self) {
        if !self.late.is_empty() && !self.is_asking_for_late {
            self.is_asking_for_late = true;
            let late = self.late.iter().cloned().collect();
            let pause = self.group.config().retry_backoff;
            self.ask_for_starts(late, pause, Job::LateStarts);
        }
    }

    pub(super) fn take_on_late(&mut self, found: Result<Starts, i32>) {
        self.is_asking_for_late = false;
        // In the middle of a rebalance an assignment would be its answer.
        if matches!(self.rebalance, Rebalance::None)
            && self.leaving.is_none()
            && self.unsubscribed.is_none()
        {
            let mut starts = found.unwrap_or_default().starts;
            starts.retain(|start| self.late.remove(&(start.topic.clone(), start.partition)));
            if !starts.is_empty() {
                self.begin(RebalanceProtocol::Cooperative, starts);
            }
        }
        self.ask_for_late();
    }

    /// Begins to read partitions.
    pub(super) fn begin(&mut self, protocol: RebalanceProtocol, starts: Vec<Start>) {
        let policy = self.group.config().acks;
        let mut list = Partitions::new();
        {
            let mut state = self.group.state();
            for start in starts {
                list.add(&start.topic, start.partition, Some(start.offset));
                let arrivals = Arrivals::new(Arc::clone(&self.group.driver));
                let mut queue = self.client.new_queue();
                queue.wake(Arc::<Arrivals>::clone(&arrivals));
                self.client
                    .redirect_partition(&start.topic, start.partition, &queue);
                let mut partition = Partition::new(
                    start.partition,
                    queue,
                    arrivals,
                    start.acked,
                    start.end,
                    policy,
                );
                partition.is_of(start.id);
                if start.differs {
                    partition.tracker().unsave();
                }
                let name = Arc::from(start.topic);
                let unasked = TopicState::new(&name, Instant::now());
                let topic = state.topics.entry(name).or_insert(unasked);
                topic.partitions.insert(start.partition, partition);
            }
        }
        if let Err(reason) = self.client.assign(protocol, &list) {
            tracing::error!(component = self.component(), "assign: {reason}");
        }
        // Where it begins is pinned at once.
        if self.committing.is_none() {
            self.commit();
        }
    }

    fn give_up(&mut self, protocol: RebalanceProtocol, partitions: &[(String, i32)]) {
        let mut list = Partitions::new();
        let mut dropped = Vec::new();
        {
            let mut state = self.group.state();
            for (topic, partition) in partitions {
                let found = state.topics.get_mut(topic.as_str());
                // One that came late may never have been assigned, and
                // librdkafka would refuse all of them for its sake.
                if let Some(found) = found.and_then(|topic| topic.partitions.remove(partition)) {
                    list.add(topic, *partition, None);
                    dropped.push(found);
                }
            }
        }
        if let Err(reason) = self.client.unassign(protocol, &list) {
            tracing::error!(component = self.component(), "unassign: {reason}");
        }
        self.rebalance = Rebalance::None;
        self.is_lost = false;
        self.stale_since = None;
        self.releases += 1;
        // Waiting for acknowledgements was no part of leaving.
        self.leaving = self.leaving.map(|_| Instant::now());
        self.unsubscribed = self.unsubscribed.map(|_| Instant::now());
        // What was put away of them will not be committed here.
        if let Some(Committing::Acks(sent)) = &mut self.committing {
            sent.parts.retain(|(topic, partition, _)| {
                !partitions
                    .iter()
                    .any(|(name, id)| **name == **topic && id == partition)
            });
        }
    }

    /// Gives partitions up once nothing of them is pending and everything is
    /// committed, or their time is over.
    pub(super) fn advance_rebalance(&mut self) {
        let Rebalance::Releasing {
            protocol,
            partitions,
            until,
            last_commit,
        } = &mut self.rebalance
        else {
            return;
        };
        // Positions are being set: their commit is the last one.
        if matches!(self.committing, Some(Committing::Setting(_))) {
            return;
        }
        let now = Instant::now();
        let is_hurried = self.group.is_hurried();
        let (mut is_pending, mut is_unsaved) = (false, false);
        {
            let mut state = self.group.state();
            for (topic, partition) in partitions.iter() {
                if let Some(found) = state
                    .topics
                    .get_mut(topic.as_str())
                    .and_then(|topic| topic.partitions.get_mut(partition))
                {
                    is_pending |= found.last_deadline().is_some_and(|last| now < last);
                    is_unsaved |= found.unsaved().is_some();
                }
            }
        }
        // Another member may have them already.
        let is_lost = self.is_lost || self.client.assignment_is_lost();
        if is_pending && now < *until && !is_hurried && !is_lost {
            return;
        }
        if is_unsaved && !is_lost {
            let since = *last_commit.get_or_insert(now);
            if now.duration_since(since) < LAST_COMMIT_LIMIT {
                if self.committing.is_none() && self.commit_after <= now {
                    self.commit();
                }
                return;
            }
        }
        if is_unsaved {
            tracing::error!(
                component = self.client.component(),
                "partitions are given up without their last commit"
            );
        }
        let (protocol, partitions) = (*protocol, std::mem::take(partitions));
        self.give_up(protocol, &partitions);
    }
}
