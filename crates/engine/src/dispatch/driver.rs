//! The task of a group: joining, rebalances, commits, and what time brings.

use super::group::{Group, TopicState};
use super::partition::{Arrivals, Exhausted, Partition};
use super::start::{self, Ends, Start};
use super::{ConsumedRecord, Inner};
use crate::acks::Snapshot;
use crate::error::{Error, ErrorCode, KafkaError};
use crate::native::{
    Client, Event, EventKind, Kind, Partitions, Queue, RebalanceProtocol, TopicLookup, WakeTarget,
};
use crate::news::News;
use rdkafka::bindings::{
    RD_KAFKA_EVENT_ERROR, RD_KAFKA_EVENT_OFFSET_COMMIT, RD_KAFKA_EVENT_REBALANCE,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// How often time is looked at (contract, section 1).
const TICK: Duration = Duration::from_millis(100);
/// How often topics that do not exist are asked for.
const MISSING_INTERVAL: Duration = Duration::from_secs(1);
/// How long the question for them may take.
const MISSING_LIMIT: Duration = Duration::from_secs(1);
/// How long the last commit before a partition is given up may take.
const LAST_COMMIT_LIMIT: Duration = Duration::from_secs(10);
/// A group without a topic is not left before.
const INFANCY: Duration = Duration::from_secs(1);
/// How long leaving may take.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// Starts the client and the task of a group.
pub(super) fn start(inner: &Arc<Inner>, name: &str) -> Result<Arc<Group>, Error> {
    let mut properties = inner.properties.clone();
    properties.set("group.id", name);
    let mut conf = properties.to_conf()?;
    conf.set_events(RD_KAFKA_EVENT_REBALANCE | RD_KAFKA_EVENT_ERROR | RD_KAFKA_EVENT_OFFSET_COMMIT);
    let client = Client::new(Kind::Consumer, conf, format!("consumer-{name}"))
        .map_err(|reason| Error::Client { reason })?;
    let client = Arc::new(client);
    let group = Group::new(name, inner.config.clone(), Arc::clone(&client));
    let waker = Arc::new(Waker(Arc::clone(&group.driver)));
    let (mut events, mut close_events) = (client.consumer_queue(), client.new_queue());
    events.wake(Arc::<Waker>::clone(&waker));
    close_events.wake(waker);
    let driver = Driver {
        inner: Arc::clone(inner),
        group: Arc::clone(&group),
        client,
        events,
        close_events,
        jobs: JoinSet::new(),
        ends: HashMap::new(),
        asked: BTreeSet::new(),
        subscribed: BTreeSet::new(),
        rebalance: Rebalance::None,
        committing: None,
        last_commit: Instant::now(),
        commit_after: Instant::now(),
        born: Instant::now(),
        last_missing: Instant::now(),
        misses_topics: false,
        leaving: None,
        news: News::default(),
    };
    inner.runtime.spawn(driver.run());
    Ok(group)
}

/// Tells the driver that the client has something to say.
struct Waker(Arc<Notify>);

impl WakeTarget for Waker {
    fn queue_has_work(&self) {
        self.0.notify_one();
    }
}

/// What the cluster has asked of the group's members and waits for.
enum Rebalance {
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

/// A commit that is under way.
struct Committing {
    parts: Vec<(Arc<str>, i32, Snapshot)>,
}

/// What has been done aside.
enum Job {
    Ends(String, Result<Ends, i32>),
    Starts(Result<Vec<Start>, i32>),
    /// The topics that there are.
    Topics(Result<BTreeSet<String>, i32>),
    /// A message that was delivered too often is safe elsewhere, or not.
    PutAway(Arc<str>, Exhausted, bool),
}

struct Driver {
    inner: Arc<Inner>,
    group: Arc<Group>,
    client: Arc<Client>,
    events: Queue,
    close_events: Queue,
    jobs: JoinSet<Job>,
    /// Where topics ended when they were first asked for.
    ends: HashMap<String, Ends>,
    /// Topics whose ends are being asked for.
    asked: BTreeSet<String>,
    subscribed: BTreeSet<String>,
    rebalance: Rebalance,
    committing: Option<Committing>,
    last_commit: Instant,
    /// Not before: the last one has failed.
    commit_after: Instant,
    last_missing: Instant,
    misses_topics: bool,
    /// The first request comes right after.
    born: Instant,
    /// Since when the group is being left.
    leaving: Option<Instant>,
    news: News,
}

impl Driver {
    async fn run(mut self) {
        let driver = Arc::clone(&self.group.driver);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut is_tick = false;
            tokio::select! {
                () = driver.notified() => {}
                _ = ticks.tick() => is_tick = true,
                Some(job) = self.jobs.join_next() => {
                    if let Ok(job) = job {
                        self.finish(job);
                    }
                }
            }
            self.serve_events();
            self.advance_rebalance();
            if is_tick || std::mem::take(&mut self.group.state().has_changed) {
                self.look_after_topics();
                self.commit_if_due();
            }
            self.group.serve_all(&mut self.group.state());
            self.put_away();
            if self.has_left() {
                break;
            }
        }
        self.end().await;
    }

    /// Frees the client, which blocks.
    async fn end(self) {
        let Self {
            inner,
            group,
            client,
            events,
            close_events,
            mut jobs,
            ..
        } = self;
        jobs.shutdown().await;
        let partitions: Vec<TopicState> = {
            let mut state = group.state();
            state.has_ended = true;
            state.topics.drain().map(|(_, topic)| topic).collect()
        };
        inner.forget(&group);
        let shared = group.end();
        let freed = tokio::task::spawn_blocking(move || {
            drop(partitions);
            drop((events, close_events, client, shared));
        });
        let _ = freed.await;
    }

    fn component(&self) -> &str {
        self.client.component()
    }

    fn serve_events(&mut self) {
        while let Some(event) = self
            .events
            .poll(Duration::ZERO)
            .or_else(|| self.close_events.poll(Duration::ZERO))
        {
            match event.kind() {
                EventKind::Rebalance => self.begin_rebalance(&event),
                EventKind::OffsetCommit => self.finish_commit(&event),
                EventKind::Error => self.note_error(&event),
                EventKind::Messages | EventKind::DeliveryReports | EventKind::Other => {}
            }
        }
    }

    fn note_error(&mut self, event: &Event) {
        let error = KafkaError::from_raw(event.error());
        let text = event.error_text();
        if error.is_unknown_topic() {
            self.misses_topics = true;
        }
        if self.news.is_worth_a_line(error, &text) {
            tracing::warn!(component = self.component(), "{text}");
        }
    }

    fn begin_rebalance(&mut self, event: &Event) {
        let protocol = self.client.rebalance_protocol();
        let partitions: Vec<(String, i32)> = event.partitions().iter().collect();
        let shown: Vec<String> = partitions
            .iter()
            .map(|(topic, partition)| format!("{topic} [{partition}]"))
            .collect();
        let shown = shown.join(", ");
        if KafkaError::from_raw(event.error()).is(ErrorCode::AssignPartitions) {
            tracing::info!(component = self.component(), "assigned: {shown}");
            self.rebalance = Rebalance::Starting {
                protocol,
                partitions,
            };
            self.find_starts(Duration::ZERO);
            return;
        }
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
    }

    fn each_of(&self, partitions: &[(String, i32)], mut act: impl FnMut(&mut Partition)) {
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
    fn find_starts(&mut self, pause: Duration) {
        let Rebalance::Starting { partitions, .. } = &self.rebalance else {
            return;
        };
        let (client, partitions) = (Arc::clone(&self.client), partitions.clone());
        let (initial, ends) = (self.group.config().initial_offset, self.ends.clone());
        self.jobs.spawn(async move {
            tokio::time::sleep(pause).await;
            let found = tokio::task::spawn_blocking(move || {
                start::find(&client, &partitions, initial, &ends)
            });
            Job::Starts(found.await.unwrap_or(Ok(Vec::new())))
        });
    }

    fn finish(&mut self, job: Job) {
        match job {
            Job::Ends(topic, ends) => {
                self.asked.remove(&topic);
                // Asked again while nobody answers.
                if let Ok(ends) = ends {
                    self.ends.insert(topic, ends);
                    self.group.state().has_changed = true;
                }
            }
            Job::Starts(Ok(starts)) => self.take_on(starts),
            Job::Starts(Err(code)) => {
                let error = KafkaError::from_raw(code);
                tracing::warn!(
                    component = self.component(),
                    "where to begin is not known yet: {error}"
                );
                self.find_starts(self.group.config().retry_backoff);
            }
            Job::Topics(names) => {
                if let Ok(names) = names {
                    self.misses_topics = !self.subscribed.is_subset(&names);
                }
            }
            Job::PutAway(topic, message, is_safe) => {
                let mut state = self.group.state();
                if let Some(partition) = state
                    .topics
                    .get_mut(&topic)
                    .and_then(|topic| topic.partitions.get_mut(&message.partition))
                {
                    if is_safe {
                        partition.tracker().ack(message.offset);
                    } else {
                        let again = Instant::now() + self.group.config().retry_backoff;
                        partition.tracker().postpone(message.offset, again);
                    }
                }
            }
        }
    }

    fn take_on(&mut self, starts: Vec<Start>) {
        let Rebalance::Starting { protocol, .. } = self.rebalance else {
            return;
        };
        self.rebalance = Rebalance::None;
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
                if start.differs {
                    partition.tracker().unsave();
                }
                let name = Arc::from(start.topic);
                let unasked = TopicState::new(&name);
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
                list.add(topic, *partition, None);
                if let Some(found) = state.topics.get_mut(topic.as_str()) {
                    dropped.extend(found.partitions.remove(partition));
                }
            }
        }
        if let Err(reason) = self.client.unassign(protocol, &list) {
            tracing::error!(component = self.component(), "unassign: {reason}");
        }
        self.rebalance = Rebalance::None;
        // What was put away of them will not be committed here.
        if let Some(committing) = &mut self.committing {
            committing.parts.retain(|(topic, partition, _)| {
                !partitions
                    .iter()
                    .any(|(name, id)| **name == **topic && id == partition)
            });
        }
    }

    /// Gives partitions up once nothing of them is pending and everything is
    /// committed, or their time is over.
    fn advance_rebalance(&mut self) {
        let Rebalance::Releasing {
            protocol,
            partitions,
            until,
            last_commit,
        } = &mut self.rebalance
        else {
            return;
        };
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
        if is_pending && now < *until && !is_hurried {
            return;
        }
        if is_unsaved {
            let since = *last_commit.get_or_insert(now);
            if now.duration_since(since) < LAST_COMMIT_LIMIT {
                if self.committing.is_none() && self.commit_after <= now {
                    self.commit();
                }
                return;
            }
            tracing::error!(
                component = self.client.component(),
                "partitions are given up without their last commit"
            );
        }
        let (protocol, partitions) = (*protocol, std::mem::take(partitions));
        self.give_up(protocol, &partitions);
    }

    fn commit_if_due(&mut self) {
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
    fn commit(&mut self) {
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
        match self.client.commit_to(&list, &self.events) {
            0 => self.committing = Some(Committing { parts }),
            code => self.commit_has_failed(KafkaError::from_raw(code)),
        }
    }

    fn finish_commit(&mut self, event: &Event) {
        let Some(committing) = self.committing.take() else {
            return;
        };
        let error = KafkaError::from_raw(event.error());
        if error.number() != 0 {
            self.commit_has_failed(error);
            return;
        }
        let results: HashMap<(String, i32), i32> = event
            .partitions()
            .positions()
            .map(|result| ((result.topic, result.partition), result.error))
            .collect();
        let mut failure = None;
        let mut state = self.group.state();
        for (topic, partition, snapshot) in committing.parts {
            let result = results.get(&(topic.to_string(), partition));
            match result.copied().unwrap_or(0) {
                0 => {
                    if let Some(found) = state
                        .topics
                        .get_mut(&topic)
                        .and_then(|found| found.partitions.get_mut(&partition))
                    {
                        found.tracker().save(snapshot);
                    }
                }
                code => failure = Some(KafkaError::from_raw(code)),
            }
        }
        drop(state);
        if let Some(error) = failure {
            self.commit_has_failed(error);
        }
    }

    fn commit_has_failed(&mut self, error: KafkaError) {
        let text = format!("commit failed, it is tried again: {error}");
        if self.news.is_worth_a_line(error, &text) {
            tracing::warn!(component = self.component(), "{text}");
        }
        self.commit_after = Instant::now() + self.group.config().retry_backoff;
    }

    /// Messages that were delivered too often go to the dead letters, or are
    /// dropped with a line in the log.
    fn put_away(&mut self) {
        let given_up = std::mem::take(&mut self.group.state().exhausted);
        for (topic, message) in given_up {
            tracing::error!(
                component = self.component(),
                "{topic} [{}] offset {} was delivered too often: key {:?}, {} bytes",
                message.partition,
                message.offset,
                message.record.key,
                message.record.value.as_ref().map_or(0, |value| value.len()),
            );
            let dead_letters = self.inner.dead_letters.clone();
            let group = self.group.name().to_owned();
            let target = self.group.config().dead_letter_topic.clone();
            self.jobs.spawn(async move {
                let is_safe = match (dead_letters, target) {
                    (Some(producer), Some(target)) => {
                        dead_letter(&producer, &target, &group, &topic, &message).await
                    }
                    _ => true,
                };
                Job::PutAway(topic, message, is_safe)
            });
        }
    }
}

impl Driver {
    /// Subscribes to what is asked for, and leaves what is idle.
    fn look_after_topics(&mut self) {
        if self.leaving.is_some() {
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
            if error.number() != 0 {
                tracing::error!(component = self.component(), "subscribe: {error}");
            }
            self.subscribed = known;
        }
        if self.misses_topics && now.duration_since(self.last_missing) >= MISSING_INTERVAL {
            self.last_missing = now;
            let client = Arc::clone(&self.client);
            self.jobs.spawn(async move {
                // Its answer makes librdkafka look at the subscription again.
                let asked = tokio::task::spawn_blocking(move || {
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
            let is_idle = !topic.is_wanted() && idle >= config.subscription_timeout;
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
        for topic in wanted {
            if self.ends.contains_key(topic) || !self.asked.insert(topic.clone()) {
                continue;
            }
            let (client, topic) = (Arc::clone(&self.client), topic.clone());
            self.jobs.spawn(async move {
                let name = topic.clone();
                let asked = tokio::task::spawn_blocking(move || start::ends(&client, &name));
                let ends = asked.await.unwrap_or(Ok(Ends::new()));
                Job::Ends(topic, ends)
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
        self.leaving = Some(now);
        if let Err(reason) = self.client.consumer_close_begin(&self.close_events) {
            tracing::warn!(component = self.component(), "leaving: {reason}");
        }
    }

    fn has_left(&self) -> bool {
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

/// Whether a message that was delivered too often is safe in `target`.
async fn dead_letter(
    producer: &crate::producer::Producer,
    target: &str,
    group: &str,
    topic: &str,
    message: &Exhausted,
) -> bool {
    let record: &ConsumedRecord = &message.record;
    let (partition, offset) = (message.partition.to_string(), message.offset.to_string());
    let own = [
        ("barnabas-topic", topic),
        ("barnabas-partition", partition.as_str()),
        ("barnabas-offset", offset.as_str()),
        ("barnabas-group", group),
        ("barnabas-reason", "max retries exceeded"),
    ];
    let names: Vec<_> = record
        .headers
        .iter()
        .map(|(name, _)| String::from_utf8_lossy(name))
        .collect();
    let mut headers: Vec<(&str, Option<&[u8]>)> = names
        .iter()
        .zip(&record.headers)
        .map(|(name, (_, value))| (name.as_ref(), value.as_deref()))
        .collect();
    headers.extend(own.map(|(name, value)| (name, Some(value.as_bytes()))));
    let sent = producer
        .deliver(
            target,
            None,
            crate::producer::Record {
                key: record.key.as_deref(),
                value: record.value.as_deref(),
            },
            &headers,
            record.timestamp,
        )
        .await;
    if let Err(error) = &sent {
        tracing::error!(
            component = format!("consumer-{group}"),
            "{topic} [{partition}] offset {offset} could not be written to {target}: {error}"
        );
    }
    sent.is_ok()
}
