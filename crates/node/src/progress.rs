//! What a consumer may commit, and what it has missed.

use barnabas_engine::{BatchNumber, Progress, WorkerSlot};
use napi::{Error, Result};
use napi_derive::napi;

/// The engine's `Progress` for JavaScript, a call per batch.
#[napi]
#[derive(Default)]
pub struct NativeProgress {
    progress: Progress,
}

/// A message below the expected offset.
#[napi(object)]
pub struct JumpBack {
    /// The partition.
    pub partition: i32,
    /// What came.
    pub offset: f64,
    /// What should have come.
    pub expected: f64,
}

/// What a batch brought.
#[napi(object)]
pub struct Summary {
    /// Its number.
    pub number: f64,
    /// Offsets jumped over.
    pub misses: f64,
    /// Those of them below the start of the log.
    pub expired: f64,
    /// Jumps back.
    pub repeats: f64,
    /// Each of them.
    pub jumps: Vec<JumpBack>,
    /// Partition and last offset in turn.
    pub last: Vec<f64>,
    /// Places of messages that are not ours.
    pub unassigned: Vec<u32>,
}

#[napi]
impl NativeProgress {
    /// Without partitions.
    #[napi(constructor)]
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes on a partition whose last processed offset is `stored`, -1 for
    /// none.
    #[napi]
    pub fn add(&mut self, partition: i32, stored: f64) {
        let stored = Some(whole(stored)).filter(|stored| *stored >= 0);
        self.progress.add(partition, stored);
    }

    /// Gives a partition up.
    #[napi]
    pub fn remove(&mut self, partition: i32) {
        self.progress.remove(partition);
    }

    /// Notes a batch: partition and offset of each message, and partitions
    /// with their log starts in turn.
    #[napi]
    pub fn hand_over(
        &mut self,
        partitions: &[i32],
        offsets: &[f64],
        log_starts: &[f64],
    ) -> Summary {
        let offsets = offsets.iter().map(|offset| whole(*offset));
        let messages = partitions.iter().copied().zip(offsets);
        let (starts, _) = log_starts.as_chunks::<2>();
        let start_of = |partition: i32| {
            let own =
                |[id, start]: &[f64; 2]| (whole(*id) == i64::from(partition)).then_some(*start);
            starts.iter().find_map(own).map(whole)
        };
        let summary = self.progress.hand_over(messages, start_of);
        Summary {
            number: count(summary.number.get()),
            misses: count(summary.misses),
            expired: count(summary.expired),
            repeats: count(summary.repeats),
            jumps: summary
                .jumps_back
                .into_iter()
                .map(|jump| JumpBack {
                    partition: jump.partition,
                    offset: number(jump.offset),
                    expected: number(jump.expected),
                })
                .collect(),
            last: in_turn(summary.last),
            unassigned: summary
                .unassigned
                .into_iter()
                .filter_map(|place| u32::try_from(place).ok())
                .collect(),
        }
    }

    /// Notes that a batch was processed; partitions and offsets to be
    /// committed, in turn.
    #[napi]
    pub fn finish(&mut self, number: f64) -> Vec<f64> {
        let number = u64::try_from(whole(number)).unwrap_or(0);
        in_turn(self.progress.finish(BatchNumber::from_number(number)))
    }

    /// Partitions and the offsets that they expect, in turn.
    #[napi]
    #[must_use]
    pub fn expected(&self) -> Vec<f64> {
        in_turn(self.progress.expected())
    }

    /// The last offsets of the open batches of a partition.
    #[napi]
    #[must_use]
    pub fn open(&self, partition: i32) -> Vec<f64> {
        let mut open = self.progress.open();
        let own = open.find(|(id, _)| *id == partition);
        own.map(|(_, offsets)| offsets.into_iter().map(number).collect())
            .unwrap_or_default()
    }

    /// The partitions of a worker's slot.
    ///
    /// # Errors
    /// The topic has too few, in kafka-native's words.
    #[napi]
    #[allow(
        clippy::needless_pass_by_value,
        reason = "arguments from JavaScript are values"
    )]
    pub fn slot_partitions(topic: String, count: i32, workers: u32, slot: u32) -> Result<Vec<i32>> {
        let slot = WorkerSlot::new(workers, slot);
        let own = slot.and_then(|slot| slot.partitions(&topic, count));
        own.map_err(|error| Error::from_reason(error.to_string()))
    }
}

fn in_turn(pairs: impl IntoIterator<Item = (i32, i64)>) -> Vec<f64> {
    let pairs = pairs.into_iter();
    pairs
        .flat_map(|(partition, offset)| [f64::from(partition), number(offset)])
        .collect()
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "numbers of JavaScript that stand for whole ones; `as` saturates"
)]
pub(crate) fn whole(number: f64) -> i64 {
    number as i64
}

#[allow(
    clippy::cast_precision_loss,
    reason = "JavaScript's numbers are exact up to 2^53"
)]
fn count(count: u64) -> f64 {
    count as f64
}

#[allow(
    clippy::cast_precision_loss,
    reason = "JavaScript's numbers are exact up to 2^53"
)]
pub(crate) fn number(offset: i64) -> f64 {
    offset as f64
}
