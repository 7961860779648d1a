//! Sequences of picks, without Kafka.

use super::*;

fn partitions(ids: &[i32]) -> Vec<PartitionView> {
    let view = |id: &i32| PartitionView {
        id: *id,
        leader: Some(1),
        is_available: true,
    };
    ids.iter().map(view).collect()
}

fn ring(ids: &[i32], lanes: u32) -> Ring {
    let mut ring = Ring::new(lanes, Some(7));
    ring.rebuild(partitions(ids), lanes);
    ring
}

fn pick(ring: &mut Ring, strategy: &Strategy, sticky: u64, key: Option<&str>) -> i32 {
    let key = key.map(str::as_bytes);
    let entry = ring.pick((strategy, sticky), "t", None, key, None).unwrap();
    ring.partitions()[entry.slot].id
}

fn picks(ring: &mut Ring, strategy: &Strategy, sticky: u64, count: usize) -> Vec<i32> {
    (0..count)
        .map(|_| pick(ring, strategy, sticky, None))
        .collect()
}

#[test]
fn strict_round_robin_takes_each_entry_in_turn() {
    let strict = Strategy::StrictRoundRobin;
    assert_eq!(
        picks(&mut ring(&[0, 1, 2], 1), &strict, 1, 6),
        [0, 1, 2, 0, 1, 2]
    );
    let two_lanes = picks(&mut ring(&[0, 1, 2], 2), &strict, 1, 8);
    assert_eq!(two_lanes, [0, 0, 1, 1, 2, 2, 0, 0]);
    let hundred = picks(&mut ring(&[0, 1, 2], 100), &strict, 1, 301);
    let expected: Vec<i32> = (0..301).map(|pick| pick / 100 % 3).collect();
    assert_eq!(hundred, expected);
}

#[test]
fn the_lanes_of_a_partition_stand_side_by_side() {
    let mut ring = ring(&[0, 1], 2);
    let strict = (&Strategy::StrictRoundRobin, 1);
    let entries: Vec<(usize, u32)> = (0..4)
        .map(|_| ring.pick(strict, "t", None, None, None).unwrap())
        .map(|entry| (entry.slot, entry.lane))
        .collect();
    assert_eq!(entries, [(0, 0), (0, 1), (1, 0), (1, 1)]);
}

#[test]
fn sticky_round_robin_stays_for_its_picks() {
    let sticky = Strategy::StickyRoundRobin;
    let three = picks(&mut ring(&[0, 1, 2], 1), &sticky, 3, 10);
    assert_eq!(three, [0, 0, 0, 1, 1, 1, 2, 2, 2, 0]);
    let thousand = picks(&mut ring(&[0, 1], 1), &sticky, 1_000, 2_001);
    let expected: Vec<i32> = (0..2_001).map(|pick| pick / 1_000 % 2).collect();
    assert_eq!(thousand, expected);
}

#[test]
fn random_is_uniform_and_seedable() {
    for lanes in [1, 3] {
        let mut counts = [0_i32; 4];
        for partition in picks(
            &mut ring(&[0, 1, 2, 3], lanes),
            &Strategy::Random,
            1,
            10_000,
        ) {
            counts[usize::try_from(partition).unwrap()] += 1;
        }
        for count in counts {
            assert!((count - 2_500).abs() <= 130, "{counts:?}");
        }
    }
    let same = || picks(&mut ring(&[0, 1, 2, 3], 1), &Strategy::Random, 1, 50);
    assert_eq!(same(), same());
}

#[test]
fn the_default_picker_is_phash2_of_the_key() {
    let custom = Strategy::named("custom").unwrap();
    let mut five = ring(&[0, 1, 2, 3, 4], 1);
    for (key, partition) in [
        ("user1", 4),
        ("user2", 0),
        ("user3", 2),
        ("hello", 3),
        ("topic", 1),
    ] {
        assert_eq!(pick(&mut five, &custom, 1, Some(key)), partition, "{key}");
    }
    let mut three = ring(&[0, 1, 2], 1);
    for key in ["user1", "user2", "user3"] {
        assert_eq!(pick(&mut three, &custom, 1, Some(key)), 2, "{key}");
    }
    // The result indexes the ids.
    assert_eq!(pick(&mut ring(&[0, 1, 3], 1), &custom, 1, Some("user1")), 3);
    assert_eq!(picks(&mut ring(&[0, 1], 1), &custom, 1, 4), [0, 1, 0, 1]);
}

#[test]
fn keys_take_the_lanes_of_their_partition_in_turn() {
    let mut ring = ring(&[0, 1], 2);
    let lanes: Vec<u32> = (0..3)
        .map(|_| {
            let key = Some(&b"user1"[..]);
            ring.pick((&Strategy::Phash2, 1), "t", None, key, None)
                .unwrap()
                .lane
        })
        .collect();
    assert_eq!(lanes, [0, 1, 0]);
}

/// Kafka's Java client's, Go's and zlib's values, modulo the partitions.
#[test]
fn the_other_hashes_are_those_of_their_clients() {
    let mut ring = ring(&(0..1_000).collect::<Vec<i32>>(), 1);
    let mut of = |strategy: &Strategy, key| pick(&mut ring, strategy, 1, Some(key));
    assert_eq!(
        of(&Strategy::Murmur2, "kafka"),
        (0xd067_cf64_u32 & 0x7fff_ffff) as i32 % 1_000
    );
    assert_eq!(of(&Strategy::Fnv1a, "kafka"), 0x0d33_c4e1 % 1_000);
    assert_eq!(
        of(&Strategy::Crc32, "123456789"),
        (0xcbf4_3926_u32 % 1_000) as i32
    );
    // Without a key they are sticky; librdkafka's has no empty key.
    assert_eq!(of(&Strategy::Crc32, ""), 0);
    assert_eq!(of(&Strategy::Murmur2, ""), 0x106e_08d9 % 1_000);
}

#[test]
fn partitions_that_cannot_be_reached_are_left_out() {
    let mut ring = ring(&[0, 1, 2], 1);
    ring.set_available(1, false);
    assert_eq!(
        picks(&mut ring, &Strategy::StrictRoundRobin, 1, 4),
        [0, 2, 0, 2]
    );
    assert!(!picks(&mut ring, &Strategy::Random, 1, 100).contains(&1));
    // Unless the key or the caller wants them.
    assert_eq!(pick(&mut ring, &Strategy::Murmur2, 1, Some("a2")), {
        hashed_partition(KeyHash::Murmur2, b"a2", 3)
    });
    let wanted = ring.pick((&Strategy::Random, 1), "t", Some(1), None, None);
    assert_eq!(wanted.unwrap().slot, 1);
    for slot in [0, 2] {
        ring.set_available(slot, false);
    }
    let nobody = ring.pick((&Strategy::Random, 1), "t", None, None, None);
    assert_eq!(nobody, Err(NotPicked::NobodyThere));
    let unknown = ring.pick((&Strategy::Random, 1), "t", Some(3), None, None);
    assert_eq!(unknown, Err(NotPicked::UnknownPartition));
}

#[test]
fn a_rebuilt_ring_goes_on_where_it_was() {
    let strict = Strategy::StrictRoundRobin;
    let mut ring = ring(&[0, 1, 3], 1);
    assert_eq!(picks(&mut ring, &strict, 1, 2), [0, 1]);
    // 3 is next, and stays so among more.
    ring.rebuild(partitions(&[0, 1, 2, 3, 4]), 1);
    assert_eq!(picks(&mut ring, &strict, 1, 2), [3, 4]);
    assert_eq!(picks(&mut ring, &strict, 1, 2), [0, 1]);
    // 2 is next and gone: the one behind it is.
    ring.rebuild(partitions(&[0, 1, 3]), 1);
    assert_eq!(picks(&mut ring, &strict, 1, 2), [3, 0]);
    ring.rebuild(partitions(&[0]), 1);
    assert_eq!(picks(&mut ring, &strict, 1, 2), [0, 0]);
}

struct Scripted(Pick);

impl PartitionPicker for Scripted {
    fn pick(&self, topic: &TopicView<'_>, key: Option<&[u8]>, _: Option<&[u8]>) -> Pick {
        assert_eq!((topic.topic, topic.partitions.len()), ("t", 3));
        assert!(key.is_some(), "it panics without a key");
        self.0.clone()
    }
}

fn custom(pick: Pick) -> Strategy {
    Strategy::Custom(Arc::new(Scripted(pick)))
}

#[test]
fn a_picker_of_the_users_decides() {
    let mut ring = ring(&[0, 1, 2], 2);
    let key = Some("k");
    assert_eq!(pick(&mut ring, &custom(Pick::Partition(2)), 1, key), 2);
    // A partition that is not there, and no word, are the ring's turn.
    assert_eq!(pick(&mut ring, &custom(Pick::Partition(9)), 1, key), 0);
    assert_eq!(pick(&mut ring, &custom(Pick::Undecided), 1, key), 0);
    let lane = custom(Pick::Lane {
        partition: 0,
        lane: 1,
    });
    assert_eq!(pick(&mut ring, &lane, 1, key), 0);
    assert_eq!(
        pick(&mut ring, &custom(Pick::Undecided), 1, key),
        1,
        "behind that lane"
    );
    let refused = custom(Pick::Refused("blocked".to_owned()));
    let picked = ring.pick((&refused, 1), "t", None, Some(b"k"), None);
    assert_eq!(picked, Err(NotPicked::Refused("blocked".to_owned())));
}

#[test]
fn a_picker_that_panics_is_undecided() {
    let strategy = custom(Pick::Partition(2));
    assert_eq!(pick(&mut ring(&[0, 1, 2], 1), &strategy, 1, None), 0);
}
