//! What a consumer has been given, what it has done with it, and what may be
//! committed.
//!
//! Contract: `node.md`, section 5 (misses and repeats), section 8 (commit
//! order) and B9. Pure: no Kafka, no clock and no disk in here.

use std::collections::{BTreeMap, VecDeque};

/// A batch that was handed over and is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchNumber(u64);

impl BatchNumber {
    /// As a number, for those who keep it outside of Rust.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// From what [`get`](Self::get) has given.
    pub const fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// A message below the offset that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeat {
    /// The partition.
    pub partition: i32,
    /// What came.
    pub offset: i64,
    /// What should have come.
    pub expected: i64,
}

/// What a batch brought.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchSummary {
    /// Its number, with which it is finished.
    pub number: BatchNumber,
    /// Offsets that were jumped over: expired, compacted, or taken by
    /// transaction markers.
    pub misses: u64,
    /// The part of `misses` that lies below the start of the log.
    pub expired: u64,
    /// How often an offset went back.
    pub repeats: u64,
    /// Each jump back, in order.
    pub jumps_back: Vec<Repeat>,
    /// The last offset of each partition, which is not always the highest.
    pub last: Vec<(i32, i64)>,
    /// Places, in the batch, of messages whose partition is not ours.
    pub unassigned: Vec<usize>,
}

/// The expectations of all partitions of a consumer, and its open batches.
///
/// Batches may finish in any order; what is committed never runs ahead of one
/// that is open. Holds a few words per open batch and partition.
///
/// ```
/// use barnabas_engine::Progress;
///
/// let mut progress = Progress::new([(0, None)]);
/// let first = progress.hand_over([(0, 0), (0, 1)], |_| None);
/// let second = progress.hand_over([(0, 2)], |_| None);
/// assert_eq!(progress.finish(second.number), []);
/// assert_eq!(progress.finish(first.number), [(0, 2)]);
/// ```
#[derive(Debug, Default)]
pub struct Progress {
    lanes: BTreeMap<i32, Lane>,
    handed_over: u64,
    /// The partitions of each open batch.
    open: BTreeMap<BatchNumber, Vec<i32>>,
}

/// One partition.
#[derive(Debug)]
struct Lane {
    expected: i64,
    /// In the order of the batches, whose numbers rise.
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    batch: BatchNumber,
    last: i64,
    is_finished: bool,
}

impl Progress {
    /// With the last processed offset of each partition, if any was stored.
    pub fn new(stored: impl IntoIterator<Item = (i32, Option<i64>)>) -> Self {
        let mut progress = Self::default();
        for (partition, stored) in stored {
            progress.add(partition, stored);
        }
        progress
    }

    /// Takes on one more partition; one that is there stays as it is.
    pub fn add(&mut self, partition: i32, stored: Option<i64>) {
        self.lanes.entry(partition).or_insert_with(|| Lane {
            expected: stored.map_or(0, |stored| stored.saturating_add(1)),
            entries: VecDeque::new(),
        });
    }

    /// Gives a partition up: nothing of it is committed any more.
    pub fn remove(&mut self, partition: i32) {
        self.lanes.remove(&partition);
    }

    /// The partitions with the offset that each expects next.
    pub fn expected(&self) -> impl Iterator<Item = (i32, i64)> {
        self.lanes
            .iter()
            .map(|(partition, lane)| (*partition, lane.expected))
    }

    /// The last offsets of the batches of each partition that are not
    /// committed, in the order in which they were handed over.
    pub fn open(&self) -> impl Iterator<Item = (i32, Vec<i64>)> {
        self.lanes.iter().map(|(partition, lane)| {
            let offsets = lane.entries.iter().map(|entry| entry.last);
            (*partition, offsets.collect())
        })
    }

    /// Notes a batch of messages, partition and offset of each.
    /// `log_start` is asked when offsets are missing: where the partition's
    /// log begins now, if that is known.
    pub fn hand_over(
        &mut self,
        messages: impl IntoIterator<Item = (i32, i64)>,
        mut log_start: impl FnMut(i32) -> Option<i64>,
    ) -> BatchSummary {
        self.handed_over += 1;
        let mut summary = BatchSummary {
            number: BatchNumber(self.handed_over),
            misses: 0,
            expired: 0,
            repeats: 0,
            jumps_back: Vec::new(),
            last: Vec::new(),
            unassigned: Vec::new(),
        };
        let mut messages = messages.into_iter().enumerate().peekable();
        while let Some((place, (partition, offset))) = messages.next() {
            let Some(lane) = self.lanes.get_mut(&partition) else {
                summary.unassigned.push(place);
                continue;
            };
            summary.meet(lane, partition, offset, &mut log_start);
            // Messages of a partition come in runs.
            while let Some((_, (_, offset))) = messages.next_if(|(_, (next, _))| *next == partition)
            {
                summary.meet(lane, partition, offset, &mut log_start);
            }
            let last = lane.expected.saturating_sub(1);
            match lane.entries.back_mut() {
                Some(entry) if entry.batch == summary.number => entry.last = last,
                _ => {
                    lane.entries.push_back(Entry {
                        batch: summary.number,
                        last,
                        is_finished: false,
                    });
                    summary.last.push((partition, last));
                }
            }
        }
        for (partition, last) in &mut summary.last {
            if let Some(entry) = self.lanes.get(partition).and_then(|l| l.entries.back()) {
                *last = entry.last;
            }
        }
        let partitions = summary.last.iter().map(|(partition, _)| *partition);
        self.open.insert(summary.number, partitions.collect());
        summary
    }

    /// Notes that a batch was processed. Returns what is to be committed by
    /// that: for each partition whose oldest open batch this was, the last
    /// offset before the next open one. Nothing for a batch that is not open.
    pub fn finish(&mut self, batch: BatchNumber) -> Vec<(i32, i64)> {
        let mut commit = Vec::new();
        for partition in self.open.remove(&batch).unwrap_or_default() {
            let Some(lane) = self.lanes.get_mut(&partition) else {
                continue;
            };
            if let Ok(place) = lane
                .entries
                .binary_search_by_key(&batch, |entry| entry.batch)
                && let Some(entry) = lane.entries.get_mut(place)
            {
                entry.is_finished = true;
            }
            let mut last = None;
            while let Some(entry) = lane.entries.pop_front_if(|entry| entry.is_finished) {
                last = Some(entry.last);
            }
            commit.extend(last.map(|last| (partition, last)));
        }
        commit
    }
}

impl BatchSummary {
    fn meet(
        &mut self,
        lane: &mut Lane,
        partition: i32,
        offset: i64,
        log_start: &mut impl FnMut(i32) -> Option<i64>,
    ) {
        let expected = lane.expected;
        if offset > expected {
            self.misses += offset.abs_diff(expected);
            if let Some(start) = log_start(partition) {
                let end = start.min(offset);
                self.expired += u64::try_from(end.saturating_sub(expected)).unwrap_or(0);
            }
        } else if offset < expected {
            self.repeats += 1;
            self.jumps_back.push(Repeat {
                partition,
                offset,
                expected,
            });
        }
        lane.expected = offset.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A consumer that expects `expected`.
    fn expecting(expected: &[(i32, i64)]) -> Progress {
        let stored = |expected: i64| (expected > 0).then_some(expected - 1);
        Progress::new(expected.iter().map(|(id, next)| (*id, stored(*next))))
    }

    #[test]
    fn misses_and_repeats_are_counted_per_batch() {
        // The contract's table: expected before, offsets; misses, repeats,
        // commit.
        let rows: [(i64, &[i64], u64, u64, i64); 6] = [
            (40, &[40, 41, 42], 0, 0, 42),
            (40, &[45, 46, 50], 8, 0, 50),
            (0, &[500, 501], 500, 0, 501),
            (900, &[0, 1, 2], 0, 1, 2),
            (10, &[10, 11, 7, 8, 15], 6, 1, 15),
            (20, &[20, 21, 18], 0, 1, 18),
        ];
        for (expected, offsets, misses, repeats, commit) in rows {
            let mut progress = expecting(&[(0, expected)]);
            let batch = offsets.iter().map(|offset| (0, *offset));
            let summary = progress.hand_over(batch, |_| None);
            assert_eq!(
                (summary.misses, summary.repeats),
                (misses, repeats),
                "{offsets:?}"
            );
            assert_eq!(summary.last, [(0, commit)], "{offsets:?}");
            assert_eq!(progress.finish(summary.number), [(0, commit)]);
            assert_eq!(progress.expected().collect::<Vec<_>>(), [(0, commit + 1)]);
        }
    }

    #[test]
    fn partitions_are_counted_apart_and_summed() {
        let mut progress = expecting(&[(0, 0), (1, 100)]);
        let batch = [(0, 0), (1, 103), (0, 1), (1, 104), (0, 5)];
        let summary = progress.hand_over(batch, |_| None);
        assert_eq!((summary.misses, summary.repeats), (6, 0));
        assert_eq!(summary.last, [(0, 5), (1, 104)]);
        // Never cumulative.
        let summary = progress.hand_over([(0, 6), (1, 105)], |_| None);
        assert_eq!((summary.misses, summary.repeats), (0, 0));
    }

    #[test]
    fn a_jump_back_says_what_was_expected() {
        let mut progress = expecting(&[(3, 900)]);
        let summary = progress.hand_over([(3, 0), (3, 1)], |_| None);
        let jump = Repeat {
            partition: 3,
            offset: 0,
            expected: 900,
        };
        assert_eq!(summary.jumps_back, [jump]);
    }

    #[test]
    fn what_lies_below_the_log_start_has_expired() {
        let mut progress = expecting(&[(0, 10), (1, 10), (2, 10)]);
        let start = |partition| (partition != 2).then_some(20);
        // 10 to 19 expired and 20 to 24 are holes; all of them expired; not
        // known.
        let summary = progress.hand_over([(0, 25), (1, 15), (2, 12)], start);
        assert_eq!((summary.misses, summary.expired), (15 + 5 + 2, 10 + 5));
        let summary = progress.hand_over([(0, 30)], start);
        assert_eq!((summary.misses, summary.expired), (4, 0));
    }

    #[test]
    fn messages_of_others_are_left_out() {
        let mut progress = expecting(&[(0, 0)]);
        let summary = progress.hand_over([(7, 3), (0, 0), (7, 4)], |_| None);
        assert_eq!(summary.unassigned, [0, 2]);
        assert_eq!(summary.last, [(0, 0)]);
        let summary = progress.hand_over([(7, 5)], |_| None);
        assert_eq!((summary.unassigned, summary.last), (vec![0], vec![]));
        assert_eq!(progress.finish(summary.number), []);
    }

    #[test]
    fn a_batch_that_finishes_early_waits_for_older_ones() {
        let mut progress = expecting(&[(0, 0)]);
        let batches = [0..=9, 10..=19, 20..=29]
            .map(|offsets| progress.hand_over(offsets.map(|offset| (0, offset)), |_| None));
        assert_eq!(progress.open().collect::<Vec<_>>(), [(0, vec![9, 19, 29])]);
        assert_eq!(progress.finish(batches[2].number), []);
        assert_eq!(progress.finish(batches[0].number), [(0, 9)]);
        assert_eq!(progress.finish(batches[1].number), [(0, 29)]);
        assert_eq!(progress.open().collect::<Vec<_>>(), [(0, vec![])]);
        assert_eq!(progress.finish(batches[1].number), [], "only once");
    }

    #[test]
    fn partitions_of_a_batch_are_committed_together() {
        let mut progress = expecting(&[(0, 39), (1, 5)]);
        let d = progress.hand_over([(0, 39), (1, 5)], |_| None);
        let e = progress.hand_over((6..=12).map(|offset| (1, offset)), |_| None);
        assert_eq!(progress.finish(e.number), []);
        assert_eq!(progress.finish(d.number), [(0, 39), (1, 12)]);
    }

    #[test]
    fn what_is_given_up_is_not_committed() {
        let mut progress = expecting(&[(0, 0), (1, 0)]);
        let batch = progress.hand_over([(0, 0), (1, 0)], |_| None);
        progress.remove(0);
        progress.add(0, Some(70));
        assert_eq!(progress.finish(batch.number), [(1, 0)]);
        assert_eq!(progress.expected().collect::<Vec<_>>(), [(0, 71), (1, 1)]);
    }

    #[test]
    fn a_new_partition_begins_at_its_own_place() {
        let mut progress = expecting(&[(0, 3)]);
        progress.add(2, None);
        progress.add(0, Some(77));
        assert_eq!(progress.expected().collect::<Vec<_>>(), [(0, 3), (2, 0)]);
    }

    proptest! {
        /// Whatever the order in which batches finish: nothing is committed
        /// behind which a batch is open, and in the end all is.
        #[test]
        fn nothing_unfinished_is_committed(
            sizes in prop::collection::vec((0..3, 1..5_i64), 1..40),
            order in prop::collection::vec(any::<prop::sample::Index>(), 40),
        ) {
            let mut progress = expecting(&[(0, 0), (1, 0), (2, 0)]);
            let mut next = [0_i64; 3];
            let mut open: Vec<(BatchNumber, usize, i64, i64)> = Vec::new();
            for (partition, size) in sizes {
                let lane = partition as usize;
                let first = next[lane];
                next[lane] += size;
                let batch = (first..next[lane]).map(|offset| (partition, offset));
                let summary = progress.hand_over(batch, |_| None);
                open.push((summary.number, lane, first, next[lane]));
            }
            let mut committed = [-1_i64; 3];
            for index in order {
                if open.is_empty() {
                    break;
                }
                let (number, ..) = open.swap_remove(index.index(open.len()));
                for (partition, offset) in progress.finish(number) {
                    let lane = partition as usize;
                    prop_assert!(offset > committed[lane]);
                    committed[lane] = offset;
                    let oldest = open.iter().filter(|(_, own, ..)| *own == lane);
                    let oldest = oldest.map(|(_, _, first, _)| *first).min();
                    prop_assert!(oldest.is_none_or(|oldest| offset < oldest));
                }
            }
            if open.is_empty() {
                prop_assert_eq!(committed, next.map(|next| next - 1));
            }
        }
    }
}
