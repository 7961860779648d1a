//! Sequences of picks, without librdkafka.

use super::*;
use crate::outbox::{PartitionPicker, Pick, TopicView};
use std::cell::{Cell, RefCell};

/// A topic of librdkafka's.
struct Topic {
    count: Cell<i32>,
    without_leader: RefCell<Vec<i32>>,
    /// Its own partitioners were asked.
    asked: RefCell<Vec<(Builtin, Option<Vec<u8>>)>>,
}

impl Topic {
    fn of(count: i32) -> Self {
        Self {
            count: Cell::new(count),
            without_leader: RefCell::default(),
            asked: RefCell::default(),
        }
    }
}

impl TopicPartitions for Topic {
    fn count(&self) -> i32 {
        self.count.get()
    }

    fn is_available(&self, partition: i32) -> bool {
        !self.without_leader.borrow().contains(&partition)
    }

    fn pick(&self, builtin: Builtin, key: Option<&[u8]>) -> i32 {
        let mut asked = self.asked.borrow_mut();
        asked.push((builtin, key.map(<[u8]>::to_vec)));
        i32::try_from(asked.len()).unwrap() % self.count.get()
    }
}

fn own(strategy: Strategy, sticky_picks: u64) -> Option<TopicStrategy> {
    Some(TopicStrategy {
        strategy,
        sticky_picks,
    })
}

fn pickers(topics: PerTopic<Option<TopicStrategy>>) -> (Strategies, Pickers) {
    pickers_with(topics, &[])
}

fn pickers_with(
    topics: PerTopic<Option<TopicStrategy>>,
    properties: &[(&str, &str)],
) -> (Strategies, Pickers) {
    let strategies = Strategies::new(topics);
    let mut own = Properties::new();
    for (name, value) in properties {
        own.set(*name, *value);
    }
    let pickers = Pickers::new(&strategies, &own).unwrap();
    (strategies, pickers)
}

fn picks(picker: &Picker, topic: &Topic, keys: &[Option<&[u8]>]) -> Vec<i32> {
    let picks = keys.iter().map(|key| picker.pick(*key, topic));
    picks.collect()
}

const KEYLESS: [Option<&[u8]>; 7] = [None; 7];

#[test]
fn each_topic_has_its_own_sequence() {
    let topics = PerTopic::all(own(Strategy::StickyRoundRobin, 3))
        .with("strict", own(Strategy::StrictRoundRobin, 3))
        .with("hash", own(Strategy::Phash2, 3));
    let (_, pickers) = pickers(topics);
    let topic = Topic::of(3);
    let strict = pickers.of("strict");
    assert_eq!(picks(&strict, &topic, &KEYLESS), [0, 1, 2, 0, 1, 2, 0]);
    let keyed: Vec<Option<&[u8]>> = vec![Some(b"k"); 4];
    assert_eq!(
        picks(&strict, &topic, &keyed),
        [1, 2, 0, 1],
        "keys count nothing"
    );
    for name in ["a", "b"] {
        let sticky = pickers.of(name);
        assert_eq!(
            picks(&sticky, &topic, &KEYLESS),
            [0, 0, 0, 1, 1, 1, 2],
            "{name}"
        );
    }
    let five = Topic::of(5);
    let keys: [Option<&[u8]>; 7] = [
        Some(b"user1"),
        Some(b"user2"),
        None,
        Some(b"user3"),
        Some(b"hello"),
        Some(b"topic"),
        None,
    ];
    let hash = pickers.of("hash");
    assert_eq!(picks(&hash, &five, &keys), [4, 0, 0, 2, 3, 1, 1]);
    assert!(Arc::ptr_eq(&hash, &pickers.of("hash")));
}

#[test]
fn partitions_without_a_leader_are_passed_over_unless_the_key_names_them() {
    let topics =
        PerTopic::all(own(Strategy::StrictRoundRobin, 1)).with("keyed", own(Strategy::Phash2, 1));
    let (_, pickers) = pickers(topics);
    let topic = Topic::of(3);
    let picker = pickers.of("a");
    assert_eq!(picks(&picker, &topic, &KEYLESS[..4]), [0, 1, 2, 0]);
    topic.without_leader.borrow_mut().push(1);
    assert_eq!(picks(&picker, &topic, &KEYLESS[..4]), [2, 0, 2, 0]);
    *topic.without_leader.borrow_mut() = vec![0, 1, 2];
    let mut nobody = picks(&picker, &topic, &KEYLESS[..6]);
    nobody.sort_unstable();
    nobody.dedup();
    assert_eq!(nobody, [0, 1, 2], "then all have their turns");
    let five = Topic::of(5);
    five.without_leader.borrow_mut().push(4);
    assert_eq!(picks(&pickers.of("keyed"), &five, &[Some(b"user1")]), [4]);
}

#[test]
fn a_partition_that_has_a_leader_again_comes_back() {
    let (_, pickers) = pickers(PerTopic::all(own(Strategy::StrictRoundRobin, 1)));
    let topic = Topic::of(2);
    let picker = pickers.of("a");
    assert_eq!(picks(&picker, &topic, &KEYLESS[..2]), [0, 1]);
    topic.without_leader.borrow_mut().push(0);
    assert_eq!(picks(&picker, &topic, &KEYLESS[..2]), [1, 1]);
    topic.without_leader.borrow_mut().clear();
    // As if it had been some time ago.
    picker.state.lock().looked = Instant::now().checked_sub(LOOK);
    let mut again = picks(&picker, &topic, &KEYLESS[..2]);
    again.sort_unstable();
    assert_eq!(again, [0, 1]);
}

#[test]
fn a_sticky_partition_that_is_not_available_yet_has_its_turn() {
    let (_, pickers) = pickers(PerTopic::all(own(Strategy::StickyRoundRobin, 3)));
    let topic = Topic::of(3);
    let picker = pickers.of("a");
    // As librdkafka gives them to their leaders.
    *topic.without_leader.borrow_mut() = vec![1, 2];
    let picked = picks(&picker, &topic, &KEYLESS[..6]);
    assert_eq!(picked, [0, 0, 0, 1, 1, 1]);
    topic.without_leader.borrow_mut().clear();
    assert_eq!(picks(&picker, &topic, &KEYLESS), [2, 2, 2, 0, 0, 0, 1]);
    *topic.without_leader.borrow_mut() = vec![1];
    assert_eq!(picks(&picker, &topic, &KEYLESS[..4]), [2, 2, 2, 0]);
}

#[test]
fn a_topic_that_grows_or_shrinks_goes_on_with_the_next_turn() {
    let (_, pickers) = pickers(PerTopic::all(own(Strategy::StrictRoundRobin, 1)));
    let topic = Topic::of(2);
    let picker = pickers.of("a");
    assert_eq!(picks(&picker, &topic, &KEYLESS[..3]), [0, 1, 0]);
    topic.count.set(4);
    assert_eq!(picks(&picker, &topic, &KEYLESS[..4]), [1, 2, 3, 0]);
    topic.count.set(1);
    assert_eq!(picks(&picker, &topic, &KEYLESS[..2]), [0, 0]);
}

#[test]
fn random_leaves_no_partition_out() {
    let (_, pickers) = pickers(PerTopic::all(own(Strategy::Random, 1)));
    let topic = Topic::of(4);
    let picker = pickers.of("a");
    let mut counts = [0_u32; 4];
    for _ in 0..10_000 {
        counts[usize::try_from(picker.pick(Some(b"same"), &topic)).unwrap()] += 1;
    }
    // Six standard deviations.
    assert!(
        counts.iter().all(|count| (2_240..=2_760).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn others_take_their_place_while_it_runs() {
    let (strategies, pickers) = pickers(PerTopic::all(None));
    let topic = Topic::of(3);
    let picker = pickers.of("a");
    picker.pick(Some(b"k"), &topic);
    assert_eq!(topic.asked.borrow().len(), 1, "librdkafka's own");
    let others = PerTopic::all(own(Strategy::StrictRoundRobin, 1));
    assert!(strategies.replace(others));
    assert_eq!(picks(&picker, &topic, &KEYLESS[..2]), [0, 1]);
    let others = PerTopic::all(own(Strategy::StickyRoundRobin, 2));
    assert!(strategies.replace(others));
    assert_eq!(
        picks(&picker, &topic, &KEYLESS[..3]),
        [2, 2, 0],
        "the turn stays"
    );
    assert_eq!(topic.asked.borrow().len(), 1);
    assert!(!Strategies::default().replace(PerTopic::all(None)));
}

#[test]
fn a_topic_without_a_strategy_is_as_librdkafka_has_it() {
    let asked = |properties: &[(&str, &str)], keys: &[Option<&[u8]>]| {
        let (_, pickers) = pickers_with(PerTopic::all(None), properties);
        let topic = Topic::of(3);
        picks(&pickers.of("a"), &topic, keys);
        topic.asked.take()
    };
    let long = ("sticky.partitioning.linger.ms", "600000");
    let keys: [Option<&[u8]>; 5] = [Some(b"k"), None, Some(b""), None, Some(b"k")];
    let key = |builtin, key: &[u8]| (builtin, Some(key.to_vec()));
    // Without keys they stay with the partition that was found for the first.
    let by_key = Builtin::ConsistentRandom;
    let expected = [
        key(by_key, b"k"),
        (Builtin::Random, None),
        key(by_key, b"k"),
    ];
    assert_eq!(asked(&[long], &keys), expected);
    let by_key = Builtin::Murmur2Random;
    let murmur2 = [long, ("partitioner", "murmur2_random")];
    let expected = [
        key(by_key, b"k"),
        (Builtin::Random, None),
        key(by_key, b""),
        key(by_key, b"k"),
    ];
    assert_eq!(asked(&murmur2, &keys), expected);
    // These know no chance, or are not to stay.
    let fnv1a = [long, ("partitioner", "fnv1a")];
    assert_eq!(
        asked(&fnv1a, &[None, None]),
        vec![(Builtin::Fnv1a, None); 2]
    );
    let restless = [("sticky.partitioning.linger.ms", "0")];
    let expected = vec![(Builtin::ConsistentRandom, None); 2];
    assert_eq!(asked(&restless, &[None, None]), expected);
    // Ours.
    assert_eq!(asked(&[("partitioner", "roundrobin")], &KEYLESS), []);
}

#[test]
fn a_sticky_partition_that_loses_its_leader_is_left() {
    let long = ("sticky.partitioning.linger.ms", "600000");
    let (_, pickers) = pickers_with(PerTopic::all(None), &[long]);
    let (topic, picker) = (Topic::of(3), pickers.of("a"));
    assert_eq!(picks(&picker, &topic, &KEYLESS[..3]), [1, 1, 1]);
    topic.without_leader.borrow_mut().push(1);
    assert_eq!(picks(&picker, &topic, &KEYLESS[..3]), [2, 2, 2]);
    topic.count.set(2);
    topic.without_leader.borrow_mut().clear();
    assert_eq!(
        picks(&picker, &topic, &KEYLESS[..2]),
        [1, 1],
        "the third has gone"
    );
}

/// By the length of the key.
struct ByLength;

impl PartitionPicker for ByLength {
    fn pick(&self, topic: &TopicView<'_>, key: Option<&[u8]>, value: Option<&[u8]>) -> Pick {
        assert!(value.is_none(), "librdkafka does not show it");
        match key.map(<[u8]>::len) {
            None => Pick::Undecided,
            Some(0) => Pick::Refused(format!("no key for {}", topic.topic)),
            Some(length) => {
                Pick::Partition(i32::try_from(length % topic.partitions.len()).unwrap())
            }
        }
    }
}

#[test]
fn a_picker_of_the_users_decides() {
    let custom = Strategy::Custom(Arc::new(ByLength));
    let (_, pickers) = pickers(PerTopic::all(None).with("own", own(custom, 1)));
    let topic = Topic::of(3);
    let picker = pickers.of("own");
    let keys: [Option<&[u8]>; 6] = [Some(b"a"), Some(b"bb"), None, None, Some(b""), None];
    assert_eq!(picks(&picker, &topic, &keys), [1, 2, 0, 1, NOWHERE, 2]);
    assert_eq!(topic.asked.borrow().len(), 0);
}
