//! Kafka-Pixy's partitions: the same key goes where it went before (`consume-and-ack.md`,
//! section 11).

use crate::support::{new_topic, open, properties, send_all, settle};
use barnabas_engine::{CallerLimits, Record};
use barnabas_testkit::shared;
use std::collections::BTreeMap;

/// Keys and their partitions of 4, 10 and 64, as the old system's library computed them.
const TABLE: [(&[u8], [i32; 3]); 16] = [
    (b"", [3, 5, 59]),
    (b"0", [3, 3, 47]),
    (b"1", [0, 4, 28]),
    (b"2", [1, 1, 21]),
    (b"A", [0, 4, 52]),
    (b"B", [3, 7, 59]),
    (b"C", [2, 6, 14]),
    (b"D", [1, 1, 45]),
    (b"foo", [1, 3, 41]),
    (b"bar", [2, 2, 26]),
    (b"kafka", [1, 5, 33]),
    (b"user-42", [3, 9, 43]),
    (b"\x00", [3, 1, 31]),
    (b"\xff\xfe", [0, 0, 48]),
    ("ключ".as_bytes(), [3, 3, 31]),
    (b"qqk42v", [0, 8, 0]),
];

/// FNV-1a read as a signed number; the remainder has its sign, and loses it.
fn partition(key: &[u8], partitions: i32) -> i32 {
    let hash = key.iter().fold(2_166_136_261_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(16_777_619)
    });
    (hash.cast_signed() % partitions).abs()
}

#[test]
fn the_rule_is_the_table() {
    for (key, expected) in TABLE {
        let found = [4, 10, 64].map(|partitions| partition(key, partitions));
        assert_eq!(found, expected, "{key:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fnv1a_random_follows_the_rule() {
    let cluster = open(&shared().bootstrap_servers());
    let own = properties(&[("partitioner", "fnv1a_random")]);
    let producer = cluster.producer(&own).unwrap();
    let mut keys: Vec<Vec<u8>> = TABLE.iter().map(|(key, _)| key.to_vec()).collect();
    keys.extend((0..1_000_u32).map(|number| format!("key {number}").into_bytes()));
    keys.extend(
        (0..1_000_u32).map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes().to_vec()),
    );
    for partitions in [4, 10, 64] {
        let name = new_topic("fnv1a", partitions);
        let mut caller = producer.caller(CallerLimits::default());
        let topic = caller.topic(name.as_bytes()).unwrap();
        let records = keys.iter().map(|key| Record {
            key: Some(key),
            value: Some(b"x"),
        });
        send_all(&mut caller, &topic, records);
        settle(&caller).await;
        let found: BTreeMap<Vec<u8>, i32> = shared()
            .read_all(&name)
            .unwrap()
            .into_iter()
            .map(|record| (record.key.unwrap(), record.partition))
            .collect();
        let expected: BTreeMap<Vec<u8>, i32> = keys
            .iter()
            .map(|key| (key.clone(), partition(key, partitions)))
            .collect();
        assert_eq!(found, expected);
    }
}

/// Any key, from 0 on, topic by topic; also what waits for its topic to be
/// known.
#[tokio::test(flavor = "multi_thread")]
async fn round_robin_gives_each_partition_its_turn() {
    let cluster = open(&shared().bootstrap_servers());
    let producer = cluster.producer(&properties(&[("partitioner", "roundrobin")]));
    let producer = producer.unwrap();
    for topic in [new_topic("turns", 3), new_topic("turns", 3)] {
        let mut submitted = Vec::new();
        for key in [None, Some(&b"same"[..]), Some(b"same"), None, None] {
            let record = Record {
                key,
                value: Some(b"x"),
            };
            submitted.push(producer.submit(&topic, None, record, &[], None).unwrap());
        }
        let mut partitions = Vec::new();
        for one in submitted {
            partitions.push(one.delivered().await.unwrap().partition);
        }
        assert_eq!(partitions, [0, 1, 2, 0, 1]);
        let records = shared().read_all(&topic).unwrap();
        let keys = records.iter().filter_map(|record| record.key.as_deref());
        assert_eq!(keys.collect::<Vec<_>>(), [b"same", b"same"], "stored");
    }
}
