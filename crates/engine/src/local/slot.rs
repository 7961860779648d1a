//! Which partitions of a topic a worker reads.
//!
//! Contract: `node.md`, section 7. Nobody is asked: the number of workers and
//! the worker's own slot decide, so that a worker that comes back has the same
//! partitions, and a topic that grows moves none.

/// One of several workers that share the partitions of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerSlot {
    workers: u32,
    slot: u32,
}

/// Why a worker has nothing to read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// A slot is a number below that of the workers.
    #[error("worker slot {slot} of {workers} workers")]
    NoSuchSlot {
        /// The slot that was asked for.
        slot: u32,
        /// How many workers there are.
        workers: u32,
    },
    /// The topic has no partition at all.
    #[error("no partitions for topic {topic}")]
    NoPartitions {
        /// The topic.
        topic: String,
    },
    /// Some workers would have none; then every worker fails, so that the
    /// mistake is seen whichever is looked at. The space at the end of the
    /// text is kafka-native's.
    #[error("only {partitions} for {workers} workers ")]
    TooFewPartitions {
        /// How many the topic has.
        partitions: i32,
        /// How many workers there are.
        workers: u32,
    },
}

impl WorkerSlot {
    /// The only worker: it reads everything.
    pub const ALONE: Self = Self {
        workers: 1,
        slot: 0,
    };

    /// Slot `slot` of `workers`, counted from 0.
    ///
    /// # Errors
    /// [`SlotError::NoSuchSlot`]
    pub fn new(workers: u32, slot: u32) -> Result<Self, SlotError> {
        if slot >= workers {
            return Err(SlotError::NoSuchSlot { slot, workers });
        }
        Ok(Self { workers, slot })
    }

    /// Whether a partition is this worker's: its number modulo that of the
    /// workers is the slot.
    pub fn has(self, partition: i32) -> bool {
        u32::try_from(partition).is_ok_and(|partition| partition % self.workers == self.slot)
    }

    /// Its partitions of a topic that has `count`, ascending.
    ///
    /// # Errors
    /// Some worker would have none.
    pub fn partitions(self, topic: &str, count: i32) -> Result<Vec<i32>, SlotError> {
        if count <= 0 {
            return Err(SlotError::NoPartitions {
                topic: topic.to_owned(),
            });
        }
        if u32::try_from(count).is_ok_and(|count| count < self.workers) {
            return Err(SlotError::TooFewPartitions {
                partitions: count,
                workers: self.workers,
            });
        }
        Ok((0..count).filter(|id| self.has(*id)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partitions(workers: u32, slot: u32, count: i32) -> Result<Vec<i32>, SlotError> {
        WorkerSlot::new(workers, slot)?.partitions("T", count)
    }

    #[test]
    fn a_partition_belongs_to_the_slot_that_is_its_remainder() {
        assert_eq!(partitions(2, 0, 5), Ok(vec![0, 2, 4]));
        assert_eq!(partitions(2, 1, 5), Ok(vec![1, 3]));
        assert_eq!(WorkerSlot::ALONE.partitions("T", 3), Ok(vec![0, 1, 2]));
        assert_eq!(partitions(3, 2, 3), Ok(vec![2]));
    }

    #[test]
    fn slots_keep_their_partitions_when_the_topic_grows() {
        for slot in 0..4 {
            let before = partitions(4, slot, 6).unwrap();
            let after = partitions(4, slot, 31).unwrap();
            assert_eq!(after[..before.len()], before[..]);
        }
    }

    #[test]
    fn what_cannot_be_shared_is_refused_in_the_old_words() {
        let text = |result: Result<_, SlotError>| result.map(drop).unwrap_err().to_string();
        assert_eq!(text(partitions(1, 0, 0)), "no partitions for topic T");
        assert_eq!(text(partitions(3, 0, 2)), "only 2 for 3 workers ");
        assert_eq!(text(partitions(3, 2, 2)), "only 2 for 3 workers ");
        assert_eq!(text(partitions(2, 2, 2)), "worker slot 2 of 2 workers");
        assert_eq!(text(partitions(0, 0, 2)), "worker slot 0 of 0 workers");
    }
}
