//! Where messages go: the ring of a topic's lanes, and who picks from it.
//!
//! Contract: `producer-engine.md`, sections 3 and 4.

use super::hashes::phash2;
use crate::native::{KeyHash, hashed_partition};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// How a topic's partitions are picked.
#[derive(Clone, Default)]
pub enum Strategy {
    /// Any entry of the ring, with the same probability, at each pick.
    #[default]
    Random,
    /// The ring's entries, one after another.
    StrictRoundRobin,
    /// The same entry for [`sticky_picks`](super::TopicSettings) picks, then
    /// the next; also known as `ordered_round_robin`.
    StickyRoundRobin,
    /// By Erlang's `phash2` of the key; without a key as strict round robin.
    Phash2,
    /// By a picker of the user's.
    Custom(Arc<dyn PartitionPicker>),
    /// By the key as Kafka's Java client has it; without a key sticky.
    Murmur2,
    /// By the key as librdkafka and kprf have it (`consistent_random`); without
    /// a key, or with an empty one, sticky.
    Crc32,
    /// By the key as Kafka-Pixy has it; without a key sticky.
    Fnv1a,
}

impl Strategy {
    /// By the name in a configuration; `custom` is the default picker.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "random" => Self::Random,
            "strict_round_robin" => Self::StrictRoundRobin,
            "sticky_round_robin" | "ordered_round_robin" => Self::StickyRoundRobin,
            "custom" => Self::Phash2,
            "murmur2" => Self::Murmur2,
            "crc32" => Self::Crc32,
            "fnv1a" => Self::Fnv1a,
            _ => return None,
        })
    }

    /// Whether it is the message that says where it goes.
    pub(crate) fn is_by_key(&self, key: Option<&[u8]>) -> bool {
        match self {
            Self::Random | Self::StrictRoundRobin | Self::StickyRoundRobin => false,
            Self::Custom(_) => true,
            Self::Phash2 | Self::Murmur2 | Self::Fnv1a => key.is_some(),
            Self::Crc32 => key.is_some_and(|key| !key.is_empty()),
        }
    }

    /// The names that [`named`](Self::named) knows.
    pub const NAMES: [&str; 8] = [
        "random",
        "strict_round_robin",
        "sticky_round_robin",
        "ordered_round_robin",
        "custom",
        "murmur2",
        "crc32",
        "fnv1a",
    ];
}

impl std::fmt::Debug for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Random => "random",
            Self::StrictRoundRobin => "strict_round_robin",
            Self::StickyRoundRobin => "sticky_round_robin",
            Self::Phash2 => "custom",
            Self::Custom(_) => "custom (own picker)",
            Self::Murmur2 => "murmur2",
            Self::Crc32 => "crc32",
            Self::Fnv1a => "fnv1a",
        })
    }
}

/// Picks partitions in the place of a strategy. One that panics counts as
/// undecided.
pub trait PartitionPicker: Send + Sync {
    /// The partition of a message, or of a run of messages without key, of
    /// which `value` is the first one's then.
    fn pick(&self, topic: &TopicView<'_>, key: Option<&[u8]>, value: Option<&[u8]>) -> Pick;
}

/// A picker's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// The next lane of this partition. One that does not exist counts as
    /// undecided.
    Partition(i32),
    /// This lane; the ring goes on behind it.
    Lane {
        /// Its partition.
        partition: i32,
        /// Which of the partition's lanes, from 0.
        lane: u32,
    },
    /// The message is not sent.
    Refused(String),
    /// The ring's next entry.
    Undecided,
}

/// What a picker sees of a topic.
#[derive(Debug, Clone, Copy)]
pub struct TopicView<'a> {
    /// Its name.
    pub topic: &'a str,
    /// Its partitions, ascending.
    pub partitions: &'a [PartitionView],
    /// Lanes of each partition.
    pub lanes: u32,
}

/// A partition of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionView {
    /// Its number.
    pub id: i32,
    /// The broker that leads it, if any does.
    pub leader: Option<i32>,
    /// Whether messages get there at present.
    pub is_available: bool,
}

/// A picked entry: which of the ring's partitions, and which lane of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) slot: usize,
    pub(crate) lane: u32,
}

/// Why nothing was picked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotPicked {
    /// There is no such partition.
    UnknownPartition,
    /// The user's picker says no.
    Refused(String),
    /// No partition is available.
    NobodyThere,
}

/// The lanes of a topic in order, and whose turn it is.
pub(crate) struct Ring {
    partitions: Vec<PartitionView>,
    available: usize,
    lanes: u32,
    /// Whose turn it is.
    next: Entry,
    /// Picks of `next` so far, for sticky strategies.
    taken: u64,
    /// The next lane of each partition, for picks that name a partition.
    turns: Vec<u32>,
    random: fastrand::Rng,
}

impl Ring {
    pub(crate) fn new(lanes: u32, seed: Option<u64>) -> Self {
        Self {
            partitions: Vec::new(),
            available: 0,
            lanes,
            next: Entry { slot: 0, lane: 0 },
            taken: 0,
            turns: Vec::new(),
            random: seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
        }
    }

    pub(crate) fn partitions(&self) -> &[PartitionView] {
        &self.partitions
    }

    pub(super) fn lanes(&self) -> u32 {
        self.lanes
    }

    /// How many partitions are available.
    pub(crate) fn available(&self) -> usize {
        self.available
    }

    /// Whether more than one broker leads the topic's partitions.
    pub(super) fn has_many_leaders(&self) -> bool {
        let mut leaders = self.partitions.iter().filter_map(|at| at.leader);
        let first = leaders.next();
        leaders.any(|leader| Some(leader) != first)
    }

    /// Where the partition of that number stands.
    pub(super) fn slot_of(&self, partition: i32) -> Option<usize> {
        // Nearly always they are 0, 1, 2, …
        let guess = usize::try_from(partition).ok()?;
        match self.partitions.get(guess) {
            Some(found) if found.id == partition => Some(guess),
            _ => self
                .partitions
                .binary_search_by_key(&partition, |known| known.id)
                .ok(),
        }
    }

    /// Rebuilds the ring; `partitions` ascend. The turn stays with its entry,
    /// or goes to the next one.
    pub(crate) fn rebuild(&mut self, partitions: Vec<PartitionView>, lanes: u32) {
        let turn = self.partitions.get(self.next.slot).map(|at| at.id);
        if let Some(id) = turn {
            let slot = partitions.partition_point(|known| known.id < id);
            let stays = partitions.get(slot).is_some_and(|at| at.id == id);
            if !stays || self.next.lane >= lanes {
                self.taken = 0;
                let slot = if stays { slot + 1 } else { slot };
                self.next = Entry { slot, lane: 0 };
            } else {
                self.next.slot = slot;
            }
        }
        if self.next.slot >= partitions.len() {
            self.next = Entry { slot: 0, lane: 0 };
        }
        self.turns.resize(partitions.len(), 0);
        self.available = partitions.iter().filter(|at| at.is_available).count();
        self.partitions = partitions;
        self.lanes = lanes;
    }

    pub(crate) fn set_available(&mut self, slot: usize, is_available: bool) {
        if let Some(partition) = self.partitions.get_mut(slot) {
            partition.is_available = is_available;
        }
        self.available = self.partitions.iter().filter(|at| at.is_available).count();
    }

    /// Picks an entry for a record, or for a run of records without key.
    /// Partitions that are not available are left out unless the key or the
    /// caller (`wanted`) names one.
    pub(crate) fn pick(
        &mut self,
        (strategy, sticky): (&Strategy, u64),
        topic: &str,
        wanted: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Entry, NotPicked> {
        if let Some(partition) = wanted {
            let slot = self.slot_of(partition).ok_or(NotPicked::UnknownPartition)?;
            return Ok(self.lane_of(slot));
        }
        if let Strategy::Custom(picker) = strategy {
            return self.ask(&**picker, topic, key, value);
        }
        let hashed = match (strategy, key) {
            (Strategy::Phash2, Some(key)) => {
                let count = self.partitions.len().max(1);
                Some(phash2(key) as usize % count)
            }
            (Strategy::Murmur2, Some(key)) => Some(self.hashed(KeyHash::Murmur2, key)),
            (Strategy::Crc32, Some(key)) if !key.is_empty() => {
                Some(self.hashed(KeyHash::Crc32, key))
            }
            (Strategy::Fnv1a, Some(key)) => Some(self.hashed(KeyHash::Fnv1a, key)),
            _ => None,
        };
        if let Some(slot) = hashed {
            return Ok(self.lane_of(slot));
        }
        match strategy {
            Strategy::Random => self.any(),
            Strategy::StrictRoundRobin | Strategy::Phash2 | Strategy::Custom(_) => self.turn(1),
            Strategy::StickyRoundRobin | Strategy::Murmur2 | Strategy::Crc32 | Strategy::Fnv1a => {
                self.turn(sticky)
            }
        }
    }

    fn hashed(&self, hash: KeyHash, key: &[u8]) -> usize {
        usize::try_from(hashed_partition(hash, key, self.partitions.len())).unwrap_or(0)
    }

    /// Asks a picker of the user's.
    fn ask(
        &mut self,
        picker: &dyn PartitionPicker,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Entry, NotPicked> {
        let view = TopicView {
            topic,
            partitions: &self.partitions,
            lanes: self.lanes,
        };
        let pick = catch_unwind(AssertUnwindSafe(|| picker.pick(&view, key, value)));
        let pick = pick.unwrap_or_else(|_| {
            tracing::error!(
                component = "producer",
                topic,
                "the partition picker has panicked"
            );
            Pick::Undecided
        });
        match pick {
            Pick::Refused(reason) => Err(NotPicked::Refused(reason)),
            Pick::Undecided => self.turn(1),
            Pick::Partition(partition) => match self.slot_of(partition) {
                Some(slot) => Ok(self.lane_of(slot)),
                None => self.turn(1),
            },
            Pick::Lane { partition, lane } => match self.slot_of(partition) {
                Some(slot) if lane < self.lanes => {
                    self.next = Entry { slot, lane };
                    self.taken = 0;
                    self.advance();
                    Ok(Entry { slot, lane })
                }
                _ => self.turn(1),
            },
        }
    }

    /// The next lane of a partition.
    fn lane_of(&mut self, slot: usize) -> Entry {
        let mut lane = 0;
        if let Some(turn) = self.turns.get_mut(slot) {
            // Settings may have taken lanes away.
            lane = if *turn < self.lanes { *turn } else { 0 };
            *turn = (lane + 1) % self.lanes.max(1);
        }
        Entry { slot, lane }
    }

    fn is_available(&self, slot: usize) -> bool {
        self.partitions
            .get(slot)
            .is_some_and(|partition| partition.is_available)
    }

    fn any(&mut self) -> Result<Entry, NotPicked> {
        let all_lanes = self.available as u64 * u64::from(self.lanes);
        if all_lanes == 0 {
            return Err(NotPicked::NobodyThere);
        }
        let chosen = self.random.u64(0..all_lanes);
        let lane = u32::try_from(chosen % u64::from(self.lanes)).unwrap_or(0);
        let nth = usize::try_from(chosen / u64::from(self.lanes)).unwrap_or(0);
        let slot = if self.available == self.partitions.len() {
            nth
        } else {
            let mut available = self.partitions.iter().enumerate();
            let mut available = available.by_ref().filter(|(_, at)| at.is_available);
            available.nth(nth).map_or(0, |(slot, _)| slot)
        };
        Ok(Entry { slot, lane })
    }

    /// The entry whose turn it is, for `picks` picks.
    fn turn(&mut self, picks: u64) -> Result<Entry, NotPicked> {
        if self.available == 0 {
            return Err(NotPicked::NobodyThere);
        }
        while !self.is_available(self.next.slot) {
            self.next.lane = self.lanes;
            self.taken = 0;
            self.advance();
        }
        let entry = self.next;
        self.taken += 1;
        if self.taken >= picks {
            self.taken = 0;
            self.advance();
        }
        Ok(entry)
    }

    /// The partition whose turn it is, whether it is available or not; there
    /// are partitions.
    pub(crate) fn turn_of_all(&mut self) -> usize {
        let slot = self.next.slot;
        self.taken = 0;
        self.advance();
        slot
    }

    fn advance(&mut self) {
        self.next.lane += 1;
        if self.next.lane >= self.lanes {
            self.next.lane = 0;
            self.next.slot += 1;
            if self.next.slot >= self.partitions.len() {
                self.next.slot = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests;
