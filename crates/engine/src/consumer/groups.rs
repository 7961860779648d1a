//! The thread that serves the group events of all consumers, and the one
//! that does for them what blocks.

use super::commits::{Revocation, Timetable};
use super::{Consumed, Member};
use crate::by_name::ByName;
use crate::error::{Error, ErrorCode, KafkaError};
use crate::native::{Event, EventKind, Partitions, RebalanceProtocol, TopicLookup, WakeTarget};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often silence and missing topics are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often a consumer that is closing is looked at.
const CLOSING_TICK: Duration = Duration::from_millis(10);
/// How long a consumer may take to commit and leave (contract: `redis.md`,
/// section 8).
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// How long the metadata request for missing topics may take.
const METADATA_LIMIT: Duration = Duration::from_secs(1);
/// A missing topic is logged this often.
const MISSING_LOG_INTERVAL: Duration = Duration::from_secs(60);

enum Request {
    Register(Weak<Member>),
    Events(Arc<Waker>),
    Commit(Instant, Weak<Member>),
    Close(Arc<Member>, Option<oneshot::Sender<bool>>),
    End,
}

/// What blocks, and therefore is done by threads of its own.
struct Chores {
    /// Closed clients to be freed: librdkafka waits for its threads.
    free: Sender<Arc<Member>>,
    /// Consumers for which all topics are asked for, which makes librdkafka
    /// look at its subscription again.
    refresh: Sender<Weak<Member>>,
}

/// Puts its consumer on the thread's list, once until it has been served.
pub(super) struct Waker {
    requests: Sender<Request>,
    is_listed: AtomicBool,
    member: OnceLock<Weak<Member>>,
    /// Itself: the C side knows it by reference only.
    this: Weak<Waker>,
}

impl Waker {
    /// Makes the thread commit then what its consumer has stored.
    pub(super) fn commit_at(&self, due: Instant) {
        if let Some(member) = self.member.get() {
            let _ = self
                .requests
                .send(Request::Commit(due, Weak::clone(member)));
        }
    }
}

impl WakeTarget for Waker {
    fn queue_has_work(&self) {
        if !self.is_listed.swap(true, Ordering::AcqRel)
            && let Some(this) = self.this.upgrade()
        {
            let _ = self.requests.send(Request::Events(this));
        }
    }
}

/// How consumers reach the thread.
#[derive(Clone)]
pub(super) struct Handle {
    requests: Sender<Request>,
}

impl Handle {
    pub(super) fn waker(&self) -> Arc<Waker> {
        Arc::new_cyclic(|this| Waker {
            requests: self.requests.clone(),
            is_listed: AtomicBool::new(false),
            member: OnceLock::new(),
            this: Weak::clone(this),
        })
    }

    pub(super) fn register(&self, waker: &Arc<Waker>, member: &Arc<Member>) {
        let _ = waker.member.set(Arc::downgrade(member));
        let _ = self
            .requests
            .send(Request::Register(Arc::downgrade(member)));
        // Events that came before the waker knew its member.
        waker.is_listed.store(true, Ordering::Release);
        let _ = self.requests.send(Request::Events(Arc::clone(waker)));
    }

    /// `done` is told whether it has left.
    pub(super) fn close(&self, member: Arc<Member>, done: Option<oneshot::Sender<bool>>) {
        let _ = self.requests.send(Request::Close(member, done));
    }
}

/// Owns the threads; dropping ends them, once whoever is leaving has left
/// (ten seconds at most). Shared by the cluster and its consumers, so that no
/// consumer is ever without them.
pub(crate) struct Groups {
    handle: Handle,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Those that have not been freed.
    members: Mutex<Vec<Weak<Member>>>,
    consumed: Arc<ByName<Consumed>>,
    /// Frees members, which blocks; taken when everything ends.
    free: Mutex<Option<Sender<Arc<Member>>>>,
}

impl Groups {
    pub(crate) fn start() -> Self {
        let (requests, inbox) = mpsc::channel();
        let (free, to_free) = mpsc::channel::<Arc<Member>>();
        let (refresh, to_refresh) = mpsc::channel();
        let to_be_freed = free.clone();
        let chores = Chores { free, refresh };
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(run)
        };
        let threads = [
            spawn("groups", Box::new(move || serve(&inbox, &chores))),
            spawn(
                "groups-free",
                Box::new(move || to_free.iter().for_each(drop)),
            ),
            spawn("groups-refresh", Box::new(move || refresh_all(&to_refresh))),
        ];
        // A process that cannot start three threads cannot serve consumers;
        // joining fails later, by time-out, with the reason in the log.
        let threads = threads
            .into_iter()
            .filter_map(|thread| {
                thread
                    .inspect_err(|error| tracing::error!("cannot start a thread: {error}"))
                    .ok()
            })
            .collect();
        Self {
            handle: Handle { requests },
            threads: Mutex::new(threads),
            members: Mutex::default(),
            consumed: Arc::default(),
            free: Mutex::new(Some(to_be_freed)),
        }
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What has been consumed, by topic.
    pub(crate) fn consumed(&self) -> &Arc<ByName<Consumed>> {
        &self.consumed
    }

    /// Remembers a member while it lives, for those who look at all of them.
    pub(super) fn note(&self, member: &Arc<Member>) {
        let mut members = self.members.lock();
        members.retain(|member| member.strong_count() > 0);
        members.push(Arc::downgrade(member));
    }

    /// Asks every member that lives. It may end meanwhile, and is not freed by
    /// the one who asks then.
    pub(super) fn ask_members<T>(&self, mut ask: impl FnMut(&Member) -> Vec<T>) -> Vec<T> {
        let known = self.members.lock().clone();
        let mut answers = Vec::new();
        for member in known.iter().filter_map(Weak::upgrade) {
            answers.extend(ask(&member));
            if let Some(last) = Arc::into_inner(member)
                && let Some(free) = &*self.free.lock()
            {
                let _ = free.send(Arc::new(last));
            }
        }
        answers
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        let _ = self.handle.requests.send(Request::End);
        *self.free.lock() = None;
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
    }
}

/// A consumer that is committing and leaving.
struct ClosingMember {
    member: Arc<Member>,
    since: Instant,
    done: Option<oneshot::Sender<bool>>,
}

fn serve(inbox: &Receiver<Request>, chores: &Chores) {
    let mut members: Vec<Weak<Member>> = Vec::new();
    let mut closing: Vec<ClosingMember> = Vec::new();
    let mut commits = Timetable::default();
    let mut ticked = Instant::now();
    let mut is_ending = false;
    // Whoever is leaving is seen off: librdkafka waits for ever for an answer
    // to a rebalance that it asked about while closing.
    while !is_ending || !closing.is_empty() {
        let pause = match (closing.is_empty(), members.is_empty()) {
            (false, _) => CLOSING_TICK,
            (true, false) => TICK,
            (true, true) => Duration::from_secs(3600),
        };
        let pause = commits.pause().map_or(pause, |until| until.min(pause));
        match inbox.recv_timeout(pause) {
            Ok(Request::Register(member)) => members.push(member),
            Ok(Request::Events(waker)) => {
                // Unlisted first: what comes from now on lists it again.
                waker.is_listed.store(false, Ordering::Release);
                if let Some(member) = waker.member.get().and_then(Weak::upgrade) {
                    member.serve_events();
                    // The consumer may have been closed meanwhile, and then
                    // this is the last one to hold it.
                    free_if_last(member, chores);
                }
            }
            Ok(Request::Commit(due, member)) => commits.add(due, member),
            Ok(Request::Close(member, done)) => {
                if begin_close(&member) {
                    closing.push(ClosingMember {
                        member,
                        since: Instant::now(),
                        done,
                    });
                } else {
                    let _ = chores.free.send(member);
                }
            }
            Ok(Request::End) | Err(RecvTimeoutError::Disconnected) => is_ending = true,
            Err(RecvTimeoutError::Timeout) => {}
        }
        while let Some(member) = commits.take_due() {
            if let Some(member) = member.upgrade() {
                member.commit_stored();
                free_if_last(member, chores);
            }
        }
        closing = finish_closed(closing, chores);
        if ticked.elapsed() >= TICK {
            members.retain(|member| tick(member, chores));
            ticked = Instant::now();
        }
    }
}

fn free_if_last(member: Arc<Member>, chores: &Chores) {
    if Arc::strong_count(&member) == 1 {
        let _ = chores.free.send(member);
    }
}

/// Starts the farewell; false when there is nothing to wait for.
fn begin_close(member: &Member) -> bool {
    member.fetched.lock().clear();
    match member.client.consumer_close_begin(&member.close_events) {
        Ok(()) => true,
        Err(reason) => {
            tracing::warn!(component = member.client.component(), "closing: {reason}");
            false
        }
    }
}

fn finish_closed(closing: Vec<ClosingMember>, chores: &Chores) -> Vec<ClosingMember> {
    let mut open = Vec::with_capacity(closing.len());
    for entry in closing {
        entry.member.serve_events();
        let is_closed = entry.member.client.consumer_is_closed();
        if is_closed || entry.since.elapsed() > CLOSE_LIMIT {
            if !is_closed {
                tracing::warn!(
                    component = entry.member.client.component(),
                    "did not leave its group within {} s",
                    CLOSE_LIMIT.as_secs()
                );
            }
            if let Some(done) = entry.done {
                let _ = done.send(is_closed && !entry.member.commits.has_failed());
            }
            let _ = chores.free.send(entry.member);
        } else {
            open.push(entry);
        }
    }
    open
}

/// Looks after one consumer; false when it is gone.
fn tick(member: &Weak<Member>, chores: &Chores) -> bool {
    let Some(member) = member.upgrade() else {
        return false;
    };
    // Once until it has been done: brokers may be slow to answer.
    if member.misses_topics.load(Ordering::Acquire)
        && !member.is_refresh_due.swap(true, Ordering::AcqRel)
    {
        let _ = chores.refresh.send(Arc::downgrade(&member));
    }
    // librdkafka has to be polled within `max.poll.interval.ms` as well, and
    // knows nothing of readers that wait.
    member.serve_events();
    if member.liveness.exceeded_ms.load(Ordering::Acquire) == 0
        && let Some(excess) = member.liveness.excess_ms()
    {
        tracing::warn!(
            component = member.client.component(),
            "no poll for {} ms: leaving the group until the next one",
            member.liveness.limit.as_millis()
        );
        member.client.unsubscribe();
        member
            .liveness
            .exceeded_ms
            .store(excess.max(1), Ordering::Release);
        member.has_failure.store(true, Ordering::Release);
    }
    free_if_last(member, chores);
    true
}

fn refresh_all(inbox: &Receiver<Weak<Member>>) {
    for member in inbox {
        if let Some(member) = member.upgrade() {
            member.is_refresh_due.store(false, Ordering::Release);
            refresh(&member);
        }
    }
}

fn refresh(member: &Member) {
    if !member.misses_topics.load(Ordering::Acquire) {
        return;
    }
    let Ok(topics) = member.client.metadata(&TopicLookup::All, METADATA_LIMIT) else {
        return;
    };
    // A pattern is missing until something has matched it.
    let has_matched = member.assignment.lock().has_had_other_than(&member.topics);
    let is_missing = |wanted: &&str| match wanted.starts_with('^') {
        true => !has_matched,
        false => !topics.iter().any(|topic| topic.name == *wanted),
    };
    let wanted = member.topics.iter().map(String::as_str);
    let missing: Vec<&str> = wanted.filter(is_missing).collect();
    let mut logged = member.missing_logged.lock();
    if missing.is_empty() {
        member.misses_topics.store(false, Ordering::Release);
    } else if logged.is_none_or(|logged| logged.elapsed() >= MISSING_LOG_INTERVAL) {
        *logged = Some(Instant::now());
        tracing::warn!(
            component = member.client.component(),
            "waiting for topics that do not exist: {}",
            missing.join(", ")
        );
    }
}

impl Member {
    /// Handles everything that has come in besides messages.
    fn serve_events(&self) {
        for queue in [&self.events, &self.close_events] {
            while let Some(event) = queue.poll(Duration::ZERO) {
                self.serve_event(&event);
            }
        }
        while let Some(event) = self.commits.answers.poll(Duration::ZERO) {
            self.commit_answered(&event);
        }
    }

    fn serve_event(&self, event: &Event) {
        match event.kind() {
            EventKind::Rebalance => self.rebalance(event),
            EventKind::Error => {
                self.note_error(KafkaError::from_raw(event.error()), event.error_text());
            }
            EventKind::OffsetCommit => {
                self.note_commit(event);
            }
            EventKind::Messages => self.refetch(event),
            EventKind::Statistics => {
                let json: Arc<str> = event.statistics().into();
                self.tell_statistics(&json);
                *self.said.lock() = Some(json);
            }
            EventKind::DeliveryReports | EventKind::Log | EventKind::Other => {}
        }
    }

    fn rebalance(&self, event: &Event) {
        let partitions = event.partitions();
        let protocol = self.client.rebalance_protocol();
        if KafkaError::from_raw(event.error()).is(ErrorCode::AssignPartitions) {
            let result = self.take_on(protocol, &partitions);
            self.tell("assigned", &partitions, result);
        } else {
            self.give_up(Revocation {
                protocol,
                partitions,
            });
        }
    }

    fn tell(&self, what: &str, partitions: &Partitions, result: Result<(), String>) {
        let component = self.client.component();
        let names: Vec<String> = partitions
            .iter()
            .map(|(topic, partition)| format!("{topic} [{partition}]"))
            .collect();
        let names = names.join(", ");
        match result {
            Ok(()) => tracing::info!(component, "{what}: {names}"),
            Err(reason) => tracing::error!(component, "{what} {names}: {reason}"),
        }
    }

    fn take_on(&self, protocol: RebalanceProtocol, partitions: &Partitions) -> Result<(), String> {
        let mut assignment = self.assignment.lock();
        for (topic, partition) in partitions.iter() {
            self.client
                .redirect_partition(&topic, partition, &self.messages);
            assignment.add(topic, partition);
        }
        drop(assignment);
        // Before anything of them can be delivered.
        self.tell_assigned(partitions);
        self.client.assign(protocol, partitions)
    }

    /// Nothing of the partitions is delivered once this has begun. Their
    /// stored offsets are committed by librdkafka, unless they are lost, and
    /// behind any commit that is under way.
    fn give_up(&self, revocation: Revocation) {
        self.is_revoking.store(true, Ordering::Release);
        self.forget(&revocation.partitions);
        let is_lost = self.client.assignment_is_lost();
        self.tell_revoked(&revocation.partitions, is_lost);
        let due = if is_lost {
            tracing::warn!(
                component = self.client.component(),
                "partitions are lost: acks since the last commit may come too late"
            );
            Some(revocation)
        } else {
            self.commits.postpone(revocation)
        };
        if let Some(revocation) = due {
            self.finish_revocation(&revocation);
        }
    }

    pub(super) fn finish_revocation(&self, revocation: &Revocation) {
        let partitions = &revocation.partitions;
        let result = self.client.unassign(revocation.protocol, partitions);
        // A reader may have been inside librdkafka when this began.
        self.forget(partitions);
        self.is_revoking.store(false, Ordering::Release);
        self.arrivals.notify.notify_one();
        self.tell("revoked", partitions, result);
    }

    fn forget(&self, revoked: &Partitions) {
        let revoked: Vec<(String, i32)> = revoked.iter().collect();
        let is_revoked = |topic: &str, partition: i32| {
            revoked
                .iter()
                .any(|(name, id)| *id == partition && name == topic)
        };
        self.fetched
            .lock()
            .retain(|message| !is_revoked(message.topic(), message.partition()));
        let mut assignment = self.assignment.lock();
        for (topic, partition) in &revoked {
            assignment.remove(topic, *partition);
        }
    }

    pub(super) fn note_error(&self, error: KafkaError, text: String) {
        let component = self.client.component();
        if error.is_unknown_topic() {
            if !self.misses_topics.swap(true, Ordering::AcqRel) {
                self.tell_error(error, &text);
                tracing::warn!(component, "{text}");
            }
        } else if error.is_transient() || error.is(ErrorCode::PartitionEOF) {
            if self.news.is_worth_a_line(&text) {
                if !error.is(ErrorCode::PartitionEOF) {
                    self.tell_error(error, &text);
                }
                tracing::warn!(component, "{text}");
            }
        } else {
            tracing::error!(component, "{text}");
            let fatal = self.client.fatal_error();
            let is_fatal = fatal.is_some();
            let text = fatal.map_or(text, |(_, reason)| reason);
            self.fail(Error::Consume {
                error,
                text,
                is_fatal,
            });
        }
    }

    /// A message that came to the event queue escaped the redirection:
    /// fetch it again where it belongs.
    fn refetch(&self, event: &Event) {
        if let Some((topic, partition, offset)) = event.first_position() {
            tracing::warn!(
                component = self.client.component(),
                "{topic} [{partition}]: fetching again from {offset}"
            );
            self.client
                .redirect_partition(&topic, partition, &self.messages);
            self.client.seek(&topic, partition, offset);
        }
    }
}
