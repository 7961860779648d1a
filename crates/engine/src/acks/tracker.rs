//! What has been delivered of a partition and waits for acknowledgement.

use super::Acked;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long and how often messages wait for their acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckPolicy {
    /// A message that is not acknowledged for so long is due again.
    pub timeout: Duration,
    /// With more than so many unacknowledged, nothing new is delivered.
    pub max_pending: usize,
    /// How often a message is delivered again; `None` for ever.
    pub max_retries: Option<u32>,
    /// Bytes of a commit's metadata, at most.
    pub metadata_limit: usize,
}

impl Default for AckPolicy {
    /// 5 minutes, 300, for ever, 4,096 bytes (contract, section 12).
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(300),
            max_pending: 300,
            max_retries: None,
            metadata_limit: 4_096,
        }
    }
}

/// A message whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It is to be delivered again ([`Tracker::redeliver`]).
    Again(i64),
    /// It has been delivered often enough: whoever keeps such messages keeps
    /// it, and then acknowledges it. Until then [`Tracker::postpone`] holds
    /// it back.
    Exhausted(i64),
}

/// What a commit would store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The lowest offset that is not acknowledged.
    pub offset: i64,
    /// The acknowledged ranges above it.
    pub metadata: String,
}

/// One delivery that waits.
#[derive(Debug)]
struct Pending<M> {
    message: M,
    deadline: Instant,
    /// How often it has been handed to a client.
    deliveries: u32,
}

/// The deliveries and acknowledgements of one partition, as long as this
/// process owns it. Holds at most one message more than
/// [`AckPolicy::max_pending`].
#[derive(Debug)]
pub struct Tracker<M> {
    policy: AckPolicy,
    acked: Acked,
    /// The offset behind the last one that Kafka has given.
    expected: i64,
    pending: BTreeMap<i64, Pending<M>>,
    /// No deadline is earlier; a new look finds the true one.
    earliest: Option<Instant>,
    saved: Snapshot,
}

impl<M> Tracker<M> {
    /// Begins with what was committed.
    pub fn new(acked: Acked, policy: AckPolicy) -> Self {
        let saved = snapshot(&acked, policy);
        Self {
            policy,
            expected: acked.committed(),
            acked,
            pending: BTreeMap::new(),
            earliest: None,
            saved,
        }
    }

    /// Which messages are acknowledged.
    pub fn acked(&self) -> &Acked {
        &self.acked
    }

    /// How many deliveries wait.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether nothing new may be delivered until something is acknowledged.
    /// `in_hand` of those that wait are not waited for by anybody: their
    /// replies are on the way, and acknowledge them.
    pub fn is_blocked(&self, in_hand: usize) -> bool {
        self.pending.len().saturating_sub(in_hand) > self.policy.max_pending
    }

    /// Notes that Kafka has given the message at `offset`, and with it that
    /// there is none between the one before and this one (compacted, aborted,
    /// or a transaction's marker). False if it is acknowledged already and is
    /// not to be delivered.
    pub fn meet(&mut self, offset: i64) -> bool {
        self.pass(offset);
        self.expected = self.expected.max(offset.saturating_add(1));
        !self.acked.contains(offset) && !self.pending.contains_key(&offset)
    }

    /// The offset behind the last one that Kafka has given.
    pub fn expected(&self) -> i64 {
        self.expected
    }

    /// Kafka has another log in the place of the one so far, and gives it from
    /// `offset` on: nothing of it is acknowledged, and what is pending is gone.
    pub fn begin_again(&mut self, offset: i64) {
        self.acked = Acked::below(offset);
        self.expected = offset;
        self.pending.clear();
        self.earliest = None;
        self.unsave();
    }

    /// Notes that Kafka has nothing before `offset` that it has not given:
    /// the end of the partition, or the next message.
    pub fn pass(&mut self, offset: i64) {
        if self.expected < offset {
            self.acked.ack(self.expected..offset);
            self.expected = offset;
        }
    }

    /// Registers a first delivery, before the reply leaves.
    pub fn deliver(&mut self, offset: i64, message: M, now: Instant) {
        let deadline = now + self.policy.timeout;
        self.look_at(deadline);
        self.pending.insert(
            offset,
            Pending {
                message,
                deadline,
                deliveries: 1,
            },
        );
    }

    /// Registers that a message has been handed out again: its clock starts
    /// anew. `None` if it has been acknowledged meanwhile.
    pub fn redeliver(&mut self, offset: i64, now: Instant) -> Option<&mut M> {
        let deadline = now + self.policy.timeout;
        let pending = self.pending.get_mut(&offset)?;
        pending.deadline = deadline;
        pending.deliveries = pending.deliveries.saturating_add(1);
        Some(&mut pending.message)
    }

    /// Takes a delivery back that has not reached its client: the message is
    /// due at once, and this delivery does not count.
    pub fn release(&mut self, offset: i64, now: Instant) {
        if let Some(pending) = self.pending.get_mut(&offset) {
            pending.deadline = now;
            pending.deliveries = pending.deliveries.saturating_sub(1);
            self.look_at(now);
        }
    }

    /// Holds a due message back for a while, or makes one due (again).
    pub fn postpone(&mut self, offset: i64, until: Instant) {
        if let Some(pending) = self.pending.get_mut(&offset) {
            pending.deadline = until;
            self.look_at(until);
        }
    }

    /// Acknowledges a message, whoever has delivered it. False if that
    /// changes nothing; beside it the message, if it was pending.
    pub fn ack(&mut self, offset: i64) -> (bool, Option<M>) {
        let pending = self.pending.remove(&offset);
        let is_new = self.acked.ack(offset..offset.saturating_add(1));
        (is_new, pending.map(|pending| pending.message))
    }

    /// As [`message`](Self::message), to be changed.
    pub fn message_mut(&mut self, offset: i64) -> Option<&mut M> {
        let pending = self.pending.get_mut(&offset)?;
        Some(&mut pending.message)
    }

    /// Registers that a delivery has reached its client: its clock starts now.
    pub fn reached(&mut self, offset: i64, now: Instant) {
        if let Some(pending) = self.pending.get_mut(&offset) {
            pending.deadline = now + self.policy.timeout;
        }
    }

    /// All that waits for its acknowledgement, by offset.
    pub fn messages(&self) -> impl Iterator<Item = (i64, &M)> {
        self.pending
            .iter()
            .map(|(offset, pending)| (*offset, &pending.message))
    }

    /// The due message of the lowest offset.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        if self.earliest.is_none_or(|earliest| now < earliest) {
            return None;
        }
        let due = self
            .pending
            .iter()
            .find(|(_, pending)| pending.deadline <= now);
        let Some((offset, pending)) = due else {
            self.earliest = self.next_deadline();
            return None;
        };
        let is_exhausted = self
            .policy
            .max_retries
            .is_some_and(|retries| pending.deliveries > retries);
        Some(if is_exhausted {
            Due::Exhausted(*offset)
        } else {
            Due::Again(*offset)
        })
    }

    /// A message that waits for its acknowledgement.
    pub fn message(&self, offset: i64) -> Option<&M> {
        self.pending.get(&offset).map(|pending| &pending.message)
    }

    /// When the next message is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines().min()
    }

    /// When the last delivery stops waiting: so long a partition that moves
    /// may still be acknowledged.
    pub fn last_deadline(&self) -> Option<Instant> {
        self.deadlines().max()
    }

    /// What is to be committed, if that is not what was saved last.
    pub fn unsaved(&self) -> Option<Snapshot> {
        Some(snapshot(&self.acked, self.policy)).filter(|snapshot| *snapshot != self.saved)
    }

    /// Notes that Kafka has stored something else than what this began with.
    pub fn unsave(&mut self) {
        self.saved.offset = -1;
    }

    /// Notes that Kafka has stored a snapshot.
    pub fn save(&mut self, snapshot: Snapshot) {
        self.saved = snapshot;
    }

    fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.pending.values().map(|pending| pending.deadline)
    }

    fn look_at(&mut self, deadline: Instant) {
        self.earliest = Some(self.earliest.map_or(deadline, |old| old.min(deadline)));
    }
}

fn snapshot(acked: &Acked, policy: AckPolicy) -> Snapshot {
    Snapshot {
        offset: acked.committed(),
        metadata: acked.encode(policy.metadata_limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const SECOND: Duration = Duration::from_secs(1);

    fn policy() -> AckPolicy {
        AckPolicy {
            timeout: 10 * SECOND,
            max_pending: 2,
            max_retries: Some(1),
            metadata_limit: 4_096,
        }
    }

    #[test]
    fn another_log_knows_nothing_of_the_old_ones_acknowledgements() {
        let now = Instant::now();
        let mut tracker = Tracker::new(Acked::below(5), policy());
        deliver(&mut tracker, 5, now);
        deliver(&mut tracker, 6, now);
        assert!(tracker.ack(5).0);
        if let Some(snapshot) = tracker.unsaved() {
            tracker.save(snapshot);
        }
        assert_eq!(tracker.expected(), 7);
        tracker.begin_again(0);
        assert_eq!((tracker.expected(), tracker.pending()), (0, 0));
        assert_eq!(tracker.next_deadline(), None);
        assert_eq!(tracker.unsaved().map(|snapshot| snapshot.offset), Some(0));
        // All of these had been acknowledged.
        for offset in 0..2 {
            deliver(&mut tracker, offset, now);
            assert!(tracker.ack(offset).0);
        }
        assert_eq!(tracker.acked().committed(), 2);
    }

    fn deliver(tracker: &mut Tracker<i64>, offset: i64, now: Instant) {
        assert!(tracker.meet(offset));
        tracker.deliver(offset, offset, now);
    }

    #[test]
    fn too_many_unacknowledged_block_the_partition() {
        let now = Instant::now();
        let mut tracker = Tracker::new(Acked::below(0), policy());
        for offset in 0..3 {
            assert!(!tracker.is_blocked(0));
            deliver(&mut tracker, offset, now);
        }
        assert!(tracker.is_blocked(0));
        assert_eq!(tracker.ack(1), (true, Some(1)));
        assert!(!tracker.is_blocked(0));
        assert_eq!(tracker.ack(1), (false, None));
    }

    #[test]
    fn due_messages_come_lowest_first_and_not_for_ever() {
        let start = Instant::now();
        let mut tracker = Tracker::new(Acked::below(0), policy());
        deliver(&mut tracker, 0, start + SECOND);
        deliver(&mut tracker, 1, start);
        assert_eq!(tracker.due(start + 9 * SECOND), None);
        assert_eq!(tracker.due(start + 10 * SECOND), Some(Due::Again(1)));
        let late = start + 11 * SECOND;
        assert_eq!(tracker.due(late), Some(Due::Again(0)));
        assert_eq!(tracker.redeliver(0, late), Some(&mut 0));
        assert_eq!(tracker.due(late), Some(Due::Again(1)));
        tracker.ack(1);
        assert_eq!(tracker.redeliver(1, late), None);
        assert_eq!(tracker.due(late), None);
        let later = late + 10 * SECOND;
        assert_eq!(tracker.due(later), Some(Due::Exhausted(0)));
        tracker.postpone(0, later + SECOND);
        assert_eq!(tracker.due(later), None);
        assert_eq!(tracker.due(later + SECOND), Some(Due::Exhausted(0)));
        tracker.ack(0);
        assert_eq!(tracker.due(later + SECOND), None);
    }

    #[test]
    fn what_reached_nobody_comes_at_once_and_does_not_count() {
        let now = Instant::now();
        let mut tracker = Tracker::new(Acked::below(0), policy());
        deliver(&mut tracker, 0, now);
        for _ in 0..5 {
            tracker.release(0, now);
            assert_eq!(tracker.due(now), Some(Due::Again(0)));
            tracker.redeliver(0, now);
            assert_eq!(tracker.due(now), None);
        }
    }

    #[test]
    fn offsets_without_a_message_do_not_hold_up_the_commit() {
        let now = Instant::now();
        let mut tracker = Tracker::new(Acked::below(1), policy());
        deliver(&mut tracker, 3, now);
        assert_eq!(tracker.acked().committed(), 3);
        tracker.ack(3);
        assert_eq!(tracker.acked().committed(), 4);
        tracker.pass(8);
        assert_eq!(
            tracker.unsaved(),
            Some(Snapshot {
                offset: 8,
                metadata: String::new()
            })
        );
    }

    #[test]
    fn a_snapshot_is_due_until_it_is_saved() {
        let now = Instant::now();
        let mut tracker = Tracker::new(Acked::below(0), policy());
        assert_eq!(tracker.unsaved(), None);
        deliver(&mut tracker, 0, now);
        deliver(&mut tracker, 1, now);
        tracker.ack(1);
        let first = tracker.unsaved().unwrap();
        assert_eq!((first.offset, first.metadata.as_str()), (0, "BB"));
        // Acknowledged while the commit is under way.
        tracker.ack(0);
        tracker.save(first);
        let second = tracker.unsaved().unwrap();
        assert_eq!((second.offset, second.metadata.as_str()), (2, ""));
        tracker.save(second);
        assert_eq!(tracker.unsaved(), None);
    }

    /// What may happen to a partition.
    #[derive(Debug, Clone)]
    enum Step {
        /// Kafka gives the next message, after a gap.
        Offer {
            gap: i64,
        },
        Ack {
            offset: i64,
        },
        Release {
            offset: i64,
        },
        Wait {
            seconds: u64,
        },
        Commit,
        /// The process ends without a word; the next begins with the commit.
        Crash,
        /// The partition is given up in good order.
        Revoke,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0..3i64).prop_map(|gap| Step::Offer { gap }),
            5 => (0..60i64).prop_map(|offset| Step::Ack { offset }),
            1 => (0..60i64).prop_map(|offset| Step::Release { offset }),
            3 => (0..15u64).prop_map(|seconds| Step::Wait { seconds }),
            2 => Just(Step::Commit),
            1 => Just(Step::Crash),
            1 => Just(Step::Revoke),
        ];
        prop::collection::vec(step, 0..120)
    }

    /// One partition in the simplest terms: sets of offsets.
    #[derive(Default)]
    struct Model {
        /// The messages there are, and what is acknowledged, by whomever.
        log: BTreeSet<i64>,
        acked: BTreeSet<i64>,
        /// Acknowledged and committed.
        kept: BTreeSet<i64>,
        /// Delivered by this owner, and when it is due.
        pending: BTreeMap<i64, Instant>,
        /// Where this owner goes on reading.
        position: i64,
    }

    impl Model {
        fn lowest_unacked(&self) -> i64 {
            (0..).find(|offset| !self.acked.contains(offset)).unwrap()
        }
    }

    proptest! {
        #[test]
        fn it_behaves_as_the_model(steps in steps()) {
            let policy = AckPolicy { max_pending: 5, max_retries: None, ..policy() };
            let mut now = Instant::now();
            let mut model = Model::default();
            let mut tracker: Tracker<i64> = Tracker::new(Acked::below(0), policy);
            let mut stored = (0, String::new());
            let mut log_end = 0;
            for step in steps {
                match step {
                    Step::Offer { gap } => {
                        if model.pending.len() > 5 {
                            prop_assert!(tracker.is_blocked(0));
                            continue;
                        }
                        prop_assert!(!tracker.is_blocked(0));
                        // Read again what there is, else write something new.
                        let offset = match model.log.range(model.position..).next() {
                            Some(offset) => *offset,
                            None => log_end.max(model.position) + gap,
                        };
                        model.log.insert(offset);
                        log_end = log_end.max(offset + 1);
                        // What Kafka leaves out counts as acknowledged.
                        model.acked.extend(model.position..offset);
                        model.position = offset + 1;
                        let is_wanted = !model.acked.contains(&offset);
                        prop_assert_eq!(tracker.meet(offset), is_wanted);
                        if is_wanted {
                            tracker.deliver(offset, offset, now);
                            model.pending.insert(offset, now + policy.timeout);
                        }
                    }
                    Step::Ack { offset } => {
                        // Only what exists is acknowledged (refused before).
                        if model.log.contains(&offset) {
                            tracker.ack(offset);
                            model.acked.insert(offset);
                            model.pending.remove(&offset);
                        }
                    }
                    Step::Release { offset } => {
                        tracker.release(offset, now);
                        if let Some(deadline) = model.pending.get_mut(&offset) {
                            *deadline = now;
                        }
                    }
                    Step::Wait { seconds } => {
                        now += Duration::from_secs(seconds);
                        let due = model.pending.iter().find(|(_, deadline)| **deadline <= now);
                        let due = due.map(|(offset, _)| *offset);
                        prop_assert_eq!(tracker.due(now), due.map(Due::Again));
                        if let Some(offset) = due {
                            let redelivered = tracker.redeliver(offset, now).copied();
                            prop_assert_eq!(redelivered, Some(offset));
                            model.pending.insert(offset, now + policy.timeout);
                        }
                    }
                    Step::Commit | Step::Revoke | Step::Crash => {
                        if !matches!(step, Step::Crash) {
                            if let Some(snapshot) = tracker.unsaved() {
                                stored = (snapshot.offset, snapshot.metadata.clone());
                                tracker.save(snapshot);
                            }
                            prop_assert_eq!(tracker.unsaved(), None);
                            model.kept = model.acked.clone();
                        }
                        if !matches!(step, Step::Commit) {
                            let acked = Acked::decode(stored.0, &stored.1, log_end).unwrap();
                            model.acked = model.kept.clone();
                            model.pending.clear();
                            model.position = acked.committed();
                            tracker = Tracker::new(acked, policy);
                        }
                    }
                }
                prop_assert_eq!(tracker.pending(), model.pending.len());
                prop_assert_eq!(tracker.acked().committed(), model.lowest_unacked());
                for offset in &model.log {
                    let is_acked = tracker.acked().contains(*offset);
                    prop_assert_eq!(is_acked, model.acked.contains(offset), "{}", offset);
                }
            }
        }
    }
}
