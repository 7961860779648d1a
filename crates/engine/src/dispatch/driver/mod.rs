//! The task of a group. In reading order: this file (its loop), `topics`,
//! `rebalance`, `commits`, `set_offsets`, `dead_letters`.

mod commits;
mod dead_letters;
mod rebalance;
mod set_offsets;
mod topics;

use super::Inner;
use super::group::{Group, Setting, free};
use super::partition::Exhausted;
use super::start::{Ends, Start, Starts};
use super::topic::TopicState;
use crate::error::{Error, KafkaError};
use crate::native::{Client, Event, EventKind, Kind, Queue, WakeTarget};
use crate::news::News;
use commits::Committing;
use rdkafka::bindings::{
    RD_KAFKA_EVENT_ERROR, RD_KAFKA_EVENT_OFFSET_COMMIT, RD_KAFKA_EVENT_REBALANCE,
    RD_KAFKA_EVENT_STATS,
};
use rebalance::Rebalance;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

/// How often time is looked at (contract, section 1).
const TICK: Duration = Duration::from_millis(100);
/// How long freeing a client is waited for.
const FREE_LIMIT: Duration = Duration::from_secs(5);

/// Starts the client of a group and makes its task, which is to be [run].
/// This takes milliseconds.
///
/// [run]: Driver::run
pub(super) fn start(inner: &Arc<Inner>, name: &str) -> Result<Driver, Error> {
    let mut properties = inner.properties.clone();
    properties.set("group.id", name);
    let mut conf = properties.to_conf()?;
    conf.set_events(
        RD_KAFKA_EVENT_REBALANCE
            | RD_KAFKA_EVENT_ERROR
            | RD_KAFKA_EVENT_OFFSET_COMMIT
            | RD_KAFKA_EVENT_STATS,
    );
    let client = Client::new(Kind::Consumer, conf, format!("consumer-{name}"))
        .map_err(|reason| Error::Client { reason })?;
    let client = Arc::new(client);
    let group = Group::new(
        name,
        inner.config.clone(),
        Arc::clone(&client),
        Arc::clone(&inner.consumed),
    );
    let waker = Arc::new(Waker(Arc::clone(&group.driver)));
    let (mut events, mut close_events) = (client.consumer_queue(), client.new_queue());
    events.wake(Arc::<Waker>::clone(&waker));
    close_events.wake(waker);
    Ok(Driver {
        inner: Arc::clone(inner),
        group,
        client,
        events,
        close_events,
        jobs: JoinSet::new(),
        ends: HashMap::new(),
        is_asking_for_ends: false,
        subscribed: BTreeSet::new(),
        rebalance: Rebalance::None,
        is_lost: false,
        stale_since: None,
        rebalances: 0,
        releases: 0,
        late: BTreeSet::new(),
        is_asking_for_late: false,
        committing: None,
        setting: None,
        is_looking: false,
        last_commit: Instant::now(),
        commit_after: Instant::now(),
        born: Instant::now(),
        last_missing: Instant::now(),
        misses_topics: false,
        unsubscribed: None,
        leaving: None,
        news: News::default(),
    })
}

/// Tells the driver that the client has something to say.
struct Waker(Arc<Notify>);

impl WakeTarget for Waker {
    fn queue_has_work(&self) {
        self.0.notify_one();
    }
}

/// What has been done aside.
enum Job {
    Ends(HashMap<String, Ends>),
    /// Where new partitions begin, as asked for that rebalance.
    Starts(u64, Result<Starts, i32>),
    /// The same of those that are late.
    LateStarts(Result<Starts, i32>),
    /// The topics that there are.
    Topics(Result<BTreeSet<String>, i32>),
    /// Where positions lie that are to be set.
    Found(Setting, Result<Vec<Start>, i32>),
    /// Their fetchers have moved, or not.
    Sought(set_offsets::Found, Result<(), String>),
    /// A message that was delivered too often is safe elsewhere, or is to be tried
    /// again after that pause.
    PutAway(Arc<str>, Exhausted, Option<Duration>),
}

/// Its own handles on the client are declared before the group, which frees
/// the client ([`Group`]'s drop) if the runtime ends before the task.
pub(super) struct Driver {
    inner: Arc<Inner>,
    events: Queue,
    close_events: Queue,
    client: Arc<Client>,
    group: Arc<Group>,
    jobs: JoinSet<Job>,
    /// Where topics ended when they were first asked for; 0 where another topic of the name
    /// has come since.
    ends: HashMap<String, Ends>,
    is_asking_for_ends: bool,
    subscribed: BTreeSet<String>,
    rebalance: Rebalance,
    /// The coordinator takes no commits of this member any more.
    is_lost: bool,
    /// Since when commits are refused because of their generation.
    stale_since: Option<Instant>,
    /// Counts what the cluster has asked of the group's members.
    rebalances: u64,
    /// Counts how often partitions were given up.
    releases: u64,
    /// Assigned partitions of which it is not known yet where to begin: they
    /// have no leader.
    late: BTreeSet<(String, i32)>,
    is_asking_for_late: bool,
    committing: Option<Committing>,
    /// Somebody's positions, to be committed next.
    setting: Option<set_offsets::Found>,
    /// Somebody's positions are being looked at.
    is_looking: bool,
    last_commit: Instant,
    /// Not before: the last one has failed.
    commit_after: Instant,
    last_missing: Instant,
    misses_topics: bool,
    /// The first request comes right after.
    born: Instant,
    /// Since when a static member has let go of its topics, to be closed.
    unsubscribed: Option<Instant>,
    /// Since when the group is being left.
    leaving: Option<Instant>,
    news: News,
}

impl Driver {
    pub(super) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    pub(super) async fn run(mut self) {
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
            self.set_offsets();
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
        self.refuse_settings();
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
        let (done, freed) = oneshot::channel::<()>();
        free(move || {
            drop(partitions);
            drop((events, close_events, client, shared));
            drop(done);
        });
        // Everything that can be saved has been.
        let _ = tokio::time::timeout(FREE_LIMIT, freed).await;
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
                EventKind::Statistics => self.group.note_statistics(event.statistics()),
                EventKind::Messages
                | EventKind::DeliveryReports
                | EventKind::Log
                | EventKind::Other => {}
            }
        }
    }

    fn note_error(&mut self, event: &Event) {
        let error = KafkaError::from_raw(event.error());
        let text = event.error_text();
        if error.is_unknown_topic() {
            self.misses_topics = true;
        }
        if self.news.is_worth_a_line(&text) {
            tracing::warn!(component = self.component(), "{text}");
        }
    }

    fn finish(&mut self, job: Job) {
        match job {
            Job::Ends(ends) => {
                self.is_asking_for_ends = false;
                // The others are asked for again, while nobody answers.
                if !ends.is_empty() {
                    self.ends.extend(ends);
                    self.group.state().has_changed = true;
                }
            }
            // Others have moved on since: what was asked for these is old.
            Job::Starts(rebalance, _) if rebalance != self.rebalances => {}
            Job::Starts(_, Ok(starts)) => self.take_on(starts),
            Job::LateStarts(starts) => self.take_on_late(starts),
            Job::Starts(_, Err(code)) => {
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
            Job::Found(setting, found) => self.finish_looking(setting, found),
            Job::Sought(found, sought) => self.finish_seeking(found, sought),
            Job::PutAway(topic, message, again) => {
                if again.is_none() {
                    self.group.count_put_away(&topic);
                }
                let mut state = self.group.state();
                if let Some(partition) = state
                    .topics
                    .get_mut(&topic)
                    .and_then(|topic| topic.partitions.get_mut(&message.partition))
                {
                    let again = again.map(|pause| Instant::now() + pause);
                    partition.put_away(message.offset, again);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
