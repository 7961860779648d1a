//! Partitioners that librdkafka does not have: each partition in turn
//! (contract: `consume-and-ack.md`, section 11), and whatever a topic's own
//! picker says (`strategies`). And those that it has, to be called from there.

use super::{Client, Conf, NativeTopic};
use crate::strategies::Picker;
use parking_lot::Mutex;
use rdkafka::bindings as sys;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Topics whose turns are remembered; more only come about where topics are
/// made and deleted all the time, and then begin at 0 again.
const REMEMBERED: usize = 100_000;

/// How long after a topic's first message a partition may be without a leader
/// before it is passed over.
const READY_LIMIT: Duration = Duration::from_secs(1);

/// The partition that is next, by configuration and topic. Configurations are
/// told apart by a number instead of a pointer: nothing says when librdkafka
/// lets go of one, and most are made only to be checked.
static TURNS: LazyLock<Mutex<HashMap<usize, Turns>>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Turns {
    by_topic: HashMap<Box<[u8]>, Turn>,
}

/// Where one topic stands.
#[derive(Default)]
struct Turn {
    next: i32,
    readiness: Readiness,
}

/// Whether a partition that is not available has no leader: of a topic that
/// the client has just begun to use they become available one by one, as they
/// are given to their leaders' connections, and would all be passed over but
/// the first.
pub(crate) enum Readiness {
    /// Partitions that were available one after another, and since when the
    /// topic has messages.
    Becoming(i32, Option<Instant>),
    Ready,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::Becoming(0, None)
    }
}

impl Readiness {
    /// Hears of the partition whose turn it is, once each time. All have been
    /// available, or have had their time: the topic is ready.
    pub(crate) fn note(
        &mut self,
        is_available: bool,
        count: i32,
        limit: Duration,
        now: impl FnOnce() -> Instant,
    ) {
        let Self::Becoming(in_a_row, since) = self else {
            return;
        };
        let now = now();
        *in_a_row = if is_available { *in_a_row + 1 } else { 0 };
        let elapsed = now.saturating_duration_since(*since.get_or_insert(now));
        if *in_a_row >= count || elapsed >= limit {
            *self = Self::Ready;
        }
    }

    /// Whether partitions that are not available have no leader.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

impl Turns {
    /// The next partition while the topic's partitions become available, and
    /// then the first from it on that is available, or it if none is.
    fn take(
        &mut self,
        topic: &[u8],
        count: i32,
        is_available: impl Fn(i32) -> bool,
        now: impl FnOnce() -> Instant,
    ) -> i32 {
        if count <= 0 {
            return 0;
        }
        if self.by_topic.len() >= REMEMBERED && !self.by_topic.contains_key(topic) {
            self.by_topic.clear();
        }
        let turn = match self.by_topic.get_mut(topic) {
            Some(turn) => turn,
            None => self.by_topic.entry(topic.into()).or_default(),
        };
        // The topic may have become smaller.
        let next = turn.next % count;
        let next_is_available = is_available(next);
        turn.readiness
            .note(next_is_available, count, READY_LIMIT, now);
        let taken = match turn.readiness {
            Readiness::Ready if !next_is_available => {
                let mut others = (next + 1..count).chain(0..next);
                others.find(|one| is_available(*one)).unwrap_or(next)
            }
            _ => next,
        };
        turn.next = (taken + 1) % count;
        taken
    }
}

impl Conf {
    /// Lets the messages of each topic, whatever their keys, go to the
    /// partitions that have a leader, one after another from 0 on. A partition
    /// that has never had one keeps its turn for the topic's first second.
    pub(crate) fn set_round_robin(&mut self) {
        static LAST: AtomicUsize = AtomicUsize::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the configuration is owned and alive. It owns the topics'
        // configuration that it answers with or is given. The opaque value is
        // a number that nobody follows as a pointer.
        unsafe {
            let conf = self.pointer.as_ptr();
            let mut topics = sys::rd_kafka_conf_get_default_topic_conf(conf);
            if topics.is_null() {
                topics = sys::rd_kafka_topic_conf_new();
                sys::rd_kafka_conf_set_default_topic_conf(conf, topics);
            }
            sys::rd_kafka_topic_conf_set_partitioner_cb(topics, Some(partition));
            sys::rd_kafka_topic_conf_set_opaque(topics, std::ptr::without_provenance_mut(number));
        }
    }
}

/// librdkafka's own partitioners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Builtin {
    Random,
    Consistent,
    ConsistentRandom,
    Murmur2,
    Murmur2Random,
    Fnv1a,
    Fnv1aRandom,
}

impl Builtin {
    /// By the value of the property `partitioner`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "random" => Self::Random,
            "consistent" => Self::Consistent,
            "consistent_random" => Self::ConsistentRandom,
            "murmur2" => Self::Murmur2,
            "murmur2_random" => Self::Murmur2Random,
            "fnv1a" => Self::Fnv1a,
            "fnv1a_random" => Self::Fnv1aRandom,
            _ => return None,
        })
    }

    /// Whether messages without a key go anywhere.
    pub(crate) fn is_random(self) -> bool {
        !matches!(self, Self::Consistent | Self::Murmur2 | Self::Fnv1a)
    }
}

/// The partitions of a topic, as a picker sees them while librdkafka asks it.
pub(crate) trait TopicPartitions {
    /// How many there are; at least one.
    fn count(&self) -> i32;

    /// Whether messages get there at present.
    fn is_available(&self, partition: i32) -> bool;

    /// Where one of librdkafka's own partitioners sends the key.
    fn pick(&self, builtin: Builtin, key: Option<&[u8]>) -> i32;
}

/// librdkafka's, within its call.
struct Asked {
    topic: *const sys::rd_kafka_topic_t,
    count: i32,
}

impl TopicPartitions for Asked {
    fn count(&self) -> i32 {
        self.count
    }

    fn is_available(&self, partition: i32) -> bool {
        // SAFETY: only ever asked from within a partitioner, as rdkafka.h
        // wants, with the topic that it was called with.
        unsafe { sys::rd_kafka_topic_partition_available(self.topic, partition) == 1 }
    }

    fn pick(&self, builtin: Builtin, key: Option<&[u8]>) -> i32 {
        let function = match builtin {
            Builtin::Random => sys::rd_kafka_msg_partitioner_random,
            Builtin::Consistent => sys::rd_kafka_msg_partitioner_consistent,
            Builtin::ConsistentRandom => sys::rd_kafka_msg_partitioner_consistent_random,
            Builtin::Murmur2 => sys::rd_kafka_msg_partitioner_murmur2,
            Builtin::Murmur2Random => sys::rd_kafka_msg_partitioner_murmur2_random,
            Builtin::Fnv1a => sys::rd_kafka_msg_partitioner_fnv1a,
            Builtin::Fnv1aRandom => sys::rd_kafka_msg_partitioner_fnv1a_random,
        };
        let nothing = std::ptr::null_mut();
        // SAFETY: called from within a partitioner, with its topic; the key is
        // not written to.
        unsafe {
            function(
                self.topic,
                key.map_or(std::ptr::null(), |key| key.as_ptr().cast()),
                key.map_or(0, <[u8]>::len),
                self.count,
                nothing,
                nothing,
            )
        }
    }
}

impl NativeTopic {
    /// A topic whose messages go where `picker` says, unless they name a
    /// partition. The first who names a topic decides. `None` when librdkafka
    /// refuses the name.
    pub(crate) fn picked_by(
        client: &Arc<Client>,
        name: &str,
        picker: &Arc<Picker>,
    ) -> Option<Self> {
        let name = CString::new(name).ok()?;
        // Before librdkafka can ask it.
        client.keep(picker);
        // SAFETY: the client is alive and keeps the picker until it has ended;
        // the configuration is a copy of the client's default that belongs to
        // the topic if one is made, and is destroyed here otherwise.
        let pointer = unsafe {
            let conf = sys::rd_kafka_default_topic_conf_dup(client.pointer.as_ptr());
            sys::rd_kafka_topic_conf_set_partitioner_cb(conf, Some(ask));
            let opaque = Arc::as_ptr(picker).cast_mut().cast();
            sys::rd_kafka_topic_conf_set_opaque(conf, opaque);
            let pointer = sys::rd_kafka_topic_new(client.pointer.as_ptr(), name.as_ptr(), conf);
            if pointer.is_null() {
                sys::rd_kafka_topic_conf_destroy(conf);
            }
            pointer
        };
        Self::of(pointer, client)
    }
}

/// Called by librdkafka for each message, once its topic is known.
unsafe extern "C" fn ask(
    topic: *const sys::rd_kafka_topic_t,
    key: *const c_void,
    key_length: usize,
    count: i32,
    picker: *mut c_void,
    _message: *mut c_void,
) -> i32 {
    // SAFETY: `picked_by` has given it a picker that the client keeps.
    let picker = unsafe { &*picker.cast_const().cast::<Picker>() };
    let key = (!key.is_null()).then(|| {
        // SAFETY: librdkafka calls this with a key of that length.
        unsafe { std::slice::from_raw_parts(key.cast::<u8>(), key_length) }
    });
    picker.pick(key, &Asked { topic, count })
}

/// librdkafka's hashes of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyHash {
    /// Kafka's Java client's.
    Murmur2,
    /// librdkafka's own default.
    Crc32,
    /// Sarama's.
    Fnv1a,
}

/// The partition, of so many, that librdkafka sends the key to.
pub(crate) fn hashed_partition(hash: KeyHash, key: &[u8], partitions: usize) -> i32 {
    let count = i32::try_from(partitions).unwrap_or(i32::MAX);
    if count == 0 {
        return 0;
    }
    let function = match hash {
        KeyHash::Murmur2 => sys::rd_kafka_msg_partitioner_murmur2,
        KeyHash::Crc32 => sys::rd_kafka_msg_partitioner_consistent,
        KeyHash::Fnv1a => sys::rd_kafka_msg_partitioner_fnv1a,
    };
    let nothing = std::ptr::null_mut();
    // SAFETY: these three look at key, length and count only (rdkafka_msg.c);
    // the key is not written to.
    unsafe {
        function(
            std::ptr::null(),
            key.as_ptr().cast(),
            key.len(),
            count,
            nothing,
            nothing,
        )
    }
}

/// Called by librdkafka for each message, once its topic is known.
unsafe extern "C" fn partition(
    topic: *const sys::rd_kafka_topic_t,
    _key: *const c_void,
    _key_length: usize,
    count: i32,
    number: *mut c_void,
    _message: *mut c_void,
) -> i32 {
    // SAFETY: librdkafka calls this with a live topic, whose name ends with a
    // NUL and lives as long.
    let name = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(topic)) };
    // SAFETY: only ever asked from within a partitioner, as rdkafka.h wants.
    let is_available =
        |partition| unsafe { sys::rd_kafka_topic_partition_available(topic, partition) == 1 };
    let mut turns = TURNS.lock();
    let turns = turns.entry(number.addr()).or_default();
    turns.take(name.to_bytes(), count, is_available, Instant::now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_with_a_leader_has_its_turn() {
        let mut turns = Turns::default();
        let now = Instant::now();
        let mut take =
            |topic: &[u8], count, without| turns.take(topic, count, |p| p != without, || now);
        let all: Vec<i32> = (0..5).map(|_| take(b"a", 3, -1)).collect();
        assert_eq!(all, [0, 1, 2, 0, 1]);
        assert_eq!(take(b"b", 3, -1), 0, "topics are counted by themselves");
        // 2 has no leader.
        let without: Vec<i32> = (0..3).map(|_| take(b"a", 3, 2)).collect();
        assert_eq!(without, [0, 1, 0]);
        // A topic that has become smaller, then nobody leads.
        take(b"a", 3, -1);
        assert_eq!(take(b"a", 1, -1), 0);
        assert_eq!(turns.take(b"a", 2, |_| false, || now), 0);
        assert_eq!(turns.take(b"a", 2, |_| false, || now), 1);
    }

    #[test]
    fn partitions_that_are_not_available_yet_have_their_turn() {
        let mut turns = Turns::default();
        let begun = Instant::now();
        let mut take = |available: &[i32], after| {
            let now = begun + Duration::from_millis(after);
            turns.take(b"a", 3, |one| available.contains(&one), || now)
        };
        // Given to their leaders one by one.
        assert_eq!(take(&[], 0), 0);
        assert_eq!(take(&[0], 1), 1);
        assert_eq!(take(&[0, 1], 2), 2);
        assert_eq!(take(&[0, 1], 3), 0);
        // One round in which all are there.
        assert_eq!(take(&[0, 1, 2], 4), 1);
        assert_eq!(take(&[0, 1, 2], 5), 2);
        assert_eq!(take(&[1, 2], 6), 1, "0 has lost its leader");
    }

    #[test]
    fn a_partition_that_never_has_a_leader_is_passed_over_after_a_second() {
        let mut turns = Turns::default();
        let begun = Instant::now();
        let mut take = |after| turns.take(b"a", 2, |one| one == 0, || begun + after);
        let before = READY_LIMIT - Duration::from_millis(1);
        assert_eq!([take(Duration::ZERO), take(before)], [0, 1]);
        assert_eq!([READY_LIMIT; 3].map(take), [0, 0, 0]);
    }
}
