//! When stored offsets are committed.
//!
//! librdkafka's own timer sends a commit at every interval, whether or not the
//! last one has been answered. Those that meet a coordinator which is not
//! ready yet are sent again a little later, and then arrive behind newer ones:
//! the group goes back to an older offset, for good if that happens while the
//! consumer closes. So the timer is ours, one commit is under way at a time,
//! and partitions are given up, which makes librdkafka commit what is left,
//! when none is.

use super::Member;
use super::groups::Waker;
use crate::error::{ErrorCode, KafkaError};
use crate::native::{Event, Partitions, Queue, RebalanceProtocol};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Of one consumer.
pub(super) struct Commits {
    /// Where the answers arrive.
    pub(super) answers: Queue,
    /// `None`: only when partitions are given up.
    interval: Option<Duration>,
    /// Whether offsets are committed at all.
    is_on: bool,
    /// Whether the group thread has been asked to commit.
    is_scheduled: AtomicBool,
    under_way: Mutex<UnderWay>,
    /// Whether the last commit that had something to say was refused.
    has_failed: AtomicBool,
    waker: Arc<Waker>,
}

#[derive(Default)]
struct UnderWay {
    /// Commits that are not answered.
    count: usize,
    /// More has been stored meanwhile, and its time has come.
    is_wanted: bool,
    /// What is given up once the last answer is here.
    revocation: Option<Revocation>,
}

/// Partitions to be given up.
pub(super) struct Revocation {
    pub(super) protocol: RebalanceProtocol,
    pub(super) partitions: Partitions,
}

impl Commits {
    /// `interval` is `auto.commit.interval.ms`; zero switches the timer off,
    /// as it does for librdkafka.
    pub(super) fn new(answers: Queue, is_on: bool, interval: Duration, waker: Arc<Waker>) -> Self {
        Self {
            answers,
            interval: Some(interval).filter(|interval| is_on && !interval.is_zero()),
            is_on,
            is_scheduled: AtomicBool::new(false),
            under_way: Mutex::default(),
            has_failed: AtomicBool::new(false),
            waker,
        }
    }

    /// Sees to it that what is stored now is committed one interval later at
    /// the latest.
    pub(super) fn schedule(&self) {
        if let Some(interval) = self.interval
            && !self.is_scheduled.swap(true, Ordering::AcqRel)
        {
            self.waker.commit_at(Instant::now() + interval);
        }
    }

    /// Whether something may be stored that Kafka does not have.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Keeps a revocation until the commits under way are answered; hands it
    /// back when there are none.
    pub(super) fn postpone(&self, revocation: Revocation) -> Option<Revocation> {
        let mut under_way = self.under_way.lock();
        if under_way.count == 0 {
            return Some(revocation);
        }
        // librdkafka asks for one at a time; were it not so, the first would
        // have waited long enough.
        under_way.revocation.replace(revocation)
    }
}

impl Member {
    /// Commits what is stored; later if a commit is under way.
    pub(super) fn commit_stored(&self) {
        self.commits.is_scheduled.store(false, Ordering::Release);
        let mut under_way = self.commits.under_way.lock();
        if under_way.count > 0 {
            under_way.is_wanted = true;
            return;
        }
        self.begin_commit(&mut under_way, None);
    }

    /// Commits exactly these positions, unless the consumer commits nothing.
    pub(super) fn commit_exactly(&self, positions: &Partitions) {
        if self.commits.is_on {
            self.begin_commit(&mut self.commits.under_way.lock(), Some(positions));
        }
    }

    fn begin_commit(&self, under_way: &mut UnderWay, positions: Option<&Partitions>) {
        match self.client.commit_to(positions, &self.commits.answers) {
            0 => under_way.count += 1,
            code => {
                let error = KafkaError::from_raw(code);
                tracing::warn!(component = self.client.component(), "commit: {error}");
            }
        }
    }

    /// How a commit has ended, ours or one for partitions given up; true if
    /// it has to be tried again.
    pub(super) fn note_commit(&self, event: &Event) -> bool {
        let error = KafkaError::from_raw(event.error());
        // How librdkafka says that nothing was new, and that partitions are
        // lost, which has been logged.
        if error.is(ErrorCode::NoOffset) || error.is(ErrorCode::AssignmentLost) {
            return false;
        }
        let has_failed = event.error() != 0;
        self.commits.has_failed.store(has_failed, Ordering::Release);
        if has_failed {
            tracing::warn!(
                component = self.client.component(),
                "commit failed: {error}"
            );
        }
        has_failed
    }

    /// The answer to a commit of ours.
    pub(super) fn commit_answered(&self, event: &Event) {
        if self.note_commit(event) {
            self.commits.schedule();
        }
        let revocation = {
            let mut under_way = self.commits.under_way.lock();
            under_way.count = under_way.count.saturating_sub(1);
            if under_way.count > 0 {
                return;
            }
            under_way.revocation.take()
        };
        if let Some(revocation) = revocation {
            self.finish_revocation(&revocation);
        }
        let mut under_way = self.commits.under_way.lock();
        if under_way.count == 0 && std::mem::take(&mut under_way.is_wanted) {
            self.begin_commit(&mut under_way, None);
        }
    }
}

/// The consumers that have something to commit, by time.
#[derive(Default)]
pub(super) struct Timetable {
    entries: BTreeMap<(Instant, u64), Weak<Member>>,
    number: u64,
}

impl Timetable {
    pub(super) fn add(&mut self, due: Instant, member: Weak<Member>) {
        self.number += 1;
        self.entries.insert((due, self.number), member);
    }

    /// How long nothing is due; `None` if there is nothing.
    pub(super) fn pause(&self) -> Option<Duration> {
        let ((due, _), _) = self.entries.first_key_value()?;
        Some(due.saturating_duration_since(Instant::now()))
    }

    /// One that is due.
    pub(super) fn take_due(&mut self) -> Option<Weak<Member>> {
        let entry = self.entries.first_entry()?;
        (entry.key().0 <= Instant::now()).then(|| entry.remove())
    }
}
