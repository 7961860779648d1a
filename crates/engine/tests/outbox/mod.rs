//! The outbox on a cluster that is there: picks, batches, answers.

mod batches;
mod journaled;

use crate::support::{PATIENCE, eventually, new_topic, numbers, open, properties};
use barnabas_engine::{
    Answers, Buffered, CallerLimits, Event, Events, Happening, MassageBuffer, Massaged, Mode,
    NewRecord, OneLarge, Outbox, OutboxSettings, OutboxTopic, PartitionPicker, Payload, PerTopic,
    Pick, ProduceError, Record, Strategy, TopicView,
};
use barnabas_testkit as testkit;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Keeps all events.
#[derive(Default)]
pub(crate) struct Log(Mutex<Vec<Event>>);

impl Events for Log {
    fn happened(&self, event: &Event) {
        self.0.lock().unwrap().push(event.clone());
    }
}

impl Log {
    pub(crate) fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    /// What `of` finds in the events, in order.
    pub(crate) fn find<T>(&self, of: impl Fn(&Happening) -> Option<T>) -> Vec<T> {
        self.all()
            .iter()
            .filter_map(|event| of(&event.what))
            .collect()
    }

    pub(crate) fn flushes(&self) -> Vec<usize> {
        self.find(|what| match what {
            Happening::Flush { messages } => Some(*messages),
            _ => None,
        })
    }
}

pub(crate) fn outbox_at(brokers: &str, settings: OutboxSettings) -> (Outbox, Arc<Log>) {
    let log = Arc::new(Log::default());
    let listener: Arc<dyn Events> = Arc::<Log>::clone(&log);
    let builder = Outbox::builder(&open(brokers)).settings(settings);
    (builder.listener(listener).start().unwrap(), log)
}

fn outbox(settings: OutboxSettings) -> (Outbox, Arc<Log>) {
    outbox_at(&testkit::shared().bootstrap_servers(), settings)
}

fn with_strategy(strategy: Strategy) -> OutboxSettings {
    OutboxSettings {
        strategy: strategy.into(),
        batch_ttl: Duration::from_millis(20).into(),
        sync_timeout: PATIENCE,
        ..OutboxSettings::default()
    }
}

pub(crate) async fn flush(outbox: &Outbox) {
    assert_eq!(outbox.flush(Instant::now() + PATIENCE).await, 0);
}

/// Each value's partition.
fn partitions(topic: &str) -> BTreeMap<String, i32> {
    let records = testkit::shared().read_all(topic).unwrap();
    let place = |record: testkit::Record| (record.value_text(), record.partition);
    records.into_iter().map(place).collect()
}

/// The partitions of values `0`, `1`, … in this order.
fn sequence(topic: &str, count: usize) -> Vec<i32> {
    let partitions = partitions(topic);
    assert_eq!(partitions.len(), count, "{partitions:?}");
    numbers(0..count)
        .iter()
        .map(|value| partitions[value])
        .collect()
}

async fn ready(outbox: &Outbox, name: &str) -> OutboxTopic {
    let topic = outbox.topic(name).unwrap();
    topic.prepare().await.unwrap();
    topic
}

async fn picked_in(
    mode: Mode,
    settings: OutboxSettings,
    partitions: i32,
    count: usize,
) -> Vec<i32> {
    let name = new_topic("picks", partitions);
    let (outbox, _) = outbox(settings);
    let topic = ready(&outbox, &name).await;
    for value in numbers(0..count) {
        let admission = topic.produce(mode, value.as_str(), None);
        assert_eq!(admission.all().unwrap(), 1);
    }
    flush(&outbox).await;
    sequence(&name, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_modes_pick_in_turn() {
    for mode in [Mode::Async, Mode::AsyncBatched, Mode::Sync] {
        let settings = with_strategy(Strategy::StrictRoundRobin);
        let picked = picked_in(mode, settings, 3, 7).await;
        assert_eq!(picked, [0, 1, 2, 0, 1, 2, 0], "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_take_their_turns_side_by_side() {
    let settings = OutboxSettings {
        lanes_per_partition: 2.into(),
        ..with_strategy(Strategy::StrictRoundRobin)
    };
    let picked = picked_in(Mode::Async, settings, 3, 8).await;
    assert_eq!(picked, [0, 0, 1, 1, 2, 2, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sticky_strategy_stays() {
    let settings = OutboxSettings {
        sticky_picks: 3.into(),
        ..with_strategy(Strategy::StickyRoundRobin)
    };
    let picked = picked_in(Mode::AsyncBatched, settings, 3, 10).await;
    assert_eq!(picked, [0, 0, 0, 1, 1, 1, 2, 2, 2, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_reaches_all_partitions_alike() {
    let settings = OutboxSettings {
        seed: Some(1),
        ..with_strategy(Strategy::Random)
    };
    let picked = picked_in(Mode::Async, settings, 4, 10_000).await;
    for partition in 0..4 {
        let count = picked.iter().filter(|picked| **picked == partition).count();
        assert!(count.abs_diff(2_500) <= 130, "{count} to {partition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_without_keys_is_one_pick_and_each_key_is_one() {
    let name = new_topic("lists", 3);
    let (outbox, _) = outbox(with_strategy(Strategy::StrictRoundRobin));
    let topic = ready(&outbox, &name).await;
    let list: Payload<'_> = ["0", "1", "2", "3"].into_iter().collect();
    assert_eq!(topic.produce_async(list).all().unwrap(), 4);
    assert_eq!(topic.produce_async("4").all().unwrap(), 1);
    // Two runs without keys around a key: three picks.
    let mixed = vec![
        NewRecord::from("5"),
        NewRecord::from("6"),
        NewRecord::from(("k", "7")),
        NewRecord::from("8"),
    ];
    assert_eq!(topic.produce_async(Payload::List(mixed)).all().unwrap(), 4);
    let keyed: Payload<'_> = [("a", "9"), ("a", "10"), ("a", "11")].into_iter().collect();
    assert_eq!(topic.produce_async(keyed).all().unwrap(), 3);
    let nothing = Payload::List(Vec::new());
    assert_eq!(topic.produce_async(nothing).all().unwrap(), 0);
    flush(&outbox).await;
    let expected = [0, 0, 0, 0, 1, 2, 2, 0, 1, 2, 0, 1];
    assert_eq!(sequence(&name, 12), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_where_erlang_sends_them() {
    let name = new_topic("phash2", 5);
    let (outbox, _) = outbox(with_strategy(Strategy::named("custom").unwrap()));
    let topic = ready(&outbox, &name).await;
    let keys = ["user2", "topic", "user3", "hello", "user1"];
    let records: Payload<'_> = keys.iter().map(|key| (*key, *key)).collect();
    let delivered = topic.produce_sync(records).await;
    let partitions: Vec<i32> = delivered
        .into_iter()
        .map(|outcome| outcome.unwrap().partition)
        .collect();
    assert_eq!(partitions, [0, 1, 2, 3, 4]);
}

/// Key for key the same as librdkafka's own partitioners.
#[tokio::test(flavor = "multi_thread")]
async fn hashes_are_those_of_librdkafka() {
    let cluster = open(&testkit::shared().bootstrap_servers());
    let keys: Vec<String> = (0..300).map(|number| format!("key-{number}")).collect();
    for (strategy, partitioner) in [
        (Strategy::Murmur2, "murmur2_random"),
        (Strategy::Crc32, "consistent_random"),
        (Strategy::Fnv1a, "fnv1a_random"),
    ] {
        let ours = new_topic("ours", 7);
        let (outbox, _) = outbox(with_strategy(strategy));
        let topic = ready(&outbox, &ours).await;
        let records: Payload<'_> = keys.iter().map(|key| (&**key, &**key)).collect();
        assert_eq!(topic.produce_async(records).all().unwrap(), keys.len());
        flush(&outbox).await;

        let theirs = new_topic("theirs", 7);
        let own = properties(&[("partitioner", partitioner)]);
        let mut caller = cluster
            .producer(&own)
            .unwrap()
            .caller(CallerLimits::default());
        let topic = caller.topic(theirs.as_bytes()).unwrap();
        let records = keys.iter().map(|key| Record {
            key: Some(key.as_bytes()),
            value: Some(key.as_bytes()),
        });
        assert_eq!(caller.send(&topic, records).accepted, keys.len());
        caller.settled().await;
        let theirs = partitions(&theirs);
        assert_eq!(theirs.len(), keys.len());
        assert_eq!(partitions(&ours), theirs, "{partitioner}");
    }
}

struct Decides;

impl PartitionPicker for Decides {
    fn pick(&self, _: &TopicView<'_>, key: Option<&[u8]>, _: Option<&[u8]>) -> Pick {
        match key {
            Some(b"no") => Pick::Refused("blocked".to_owned()),
            // As a panic does, without a word on stderr.
            Some(b"panic") => std::panic::resume_unwind(Box::new("a picker panics")),
            Some(_) => Pick::Partition(2),
            None => Pick::Undecided,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picker_of_ones_own_refuses_single_records() {
    let name = new_topic("picker", 3);
    let (outbox, _) = outbox(with_strategy(Strategy::Custom(Arc::new(Decides))));
    let topic = ready(&outbox, &name).await;
    let records: Payload<'_> = [("a", "0"), ("no", "x"), ("panic", "1"), ("b", "2")]
        .into_iter()
        .collect();
    let outcomes = topic.produce_sync(records).await;
    let partition = |index: usize| outcomes[index].clone().unwrap().partition;
    assert_eq!((partition(0), partition(2), partition(3)), (2, 0, 2));
    match &outcomes[1] {
        Err(ProduceError::Blocked { at, reason }) => {
            assert_eq!((at.index, reason.as_str()), (1, "blocked"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(partitions(&name).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_has_its_own_answer() {
    let name = new_topic("answers", 2);
    let (outbox, _) = outbox(OutboxSettings::default());
    let topic = outbox.topic(&name).unwrap();
    let headers: [(&str, Option<&[u8]>); 2] = [("a", Some(b"1")), ("b", None)];
    let large = vec![b'x'; 1_000_001];
    let records = vec![
        NewRecord {
            headers: &headers,
            timestamp: Some(1_234),
            partition: Some(1),
            ..NewRecord::keyed(b"k", b"v")
        },
        NewRecord::of(&large),
        NewRecord {
            partition: Some(2),
            ..NewRecord::of(b"nowhere")
        },
        NewRecord {
            partition: Some(0),
            ..NewRecord::default()
        },
    ];
    // The topic is not known yet: they wait for that, too.
    let outcomes = topic.produce_sync(Payload::List(records)).await;
    let first = outcomes[0].clone().unwrap();
    assert_eq!((first.partition, first.offset), (1, 0));
    let place = |index: usize| outcomes[index].clone().unwrap_err().place().index;
    assert!(matches!(
        outcomes[1],
        Err(ProduceError::TooLarge {
            bytes: 1_000_037,
            limit: 1_000_000,
            ..
        })
    ));
    assert!(matches!(
        outcomes[2],
        Err(ProduceError::UnknownPartition { .. })
    ));
    assert_eq!((place(1), place(2)), (1, 2));
    assert_eq!(outcomes[3].clone().unwrap().partition, 0);
    let records = testkit::shared().read_all(&name).unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].value, None, "a tombstone");
    assert_eq!(records[1].timestamp, Some(1_234));
    let headers = [
        ("a".to_owned(), Some(b"1".to_vec())),
        ("b".to_owned(), None),
    ];
    assert_eq!(records[1].headers, headers);
    assert_eq!(outbox.info().bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn room_is_reserved_as_a_whole() {
    let name = new_topic("room", 1);
    let (outbox, _) = outbox(OutboxSettings {
        max_buffered_messages: 5,
        ..OutboxSettings::default()
    });
    let topic = ready(&outbox, &name).await;
    assert!(outbox.reserve(6, 0).is_none());
    let mut permit = outbox.reserve(4, 400).unwrap();
    assert!(outbox.reserve(2, 0).is_none());
    let list: Payload<'_> = ["x", "y"].into_iter().collect();
    // Others have what is left, record by record.
    match topic.produce_async(list).all() {
        Err(ProduceError::Full {
            accepted: 1,
            refused: 1,
            at,
        }) => assert_eq!(at.index, 1),
        other => panic!("{other:?}"),
    }
    let (answers, all) = Answers::new(3);
    for number in 0..3 {
        let hearer = Some((Arc::<Answers>::clone(&answers) as _, number));
        let admission = permit.produce(&topic, Mode::Async, "p", hearer);
        assert_eq!(admission.all().unwrap(), 1);
    }
    assert_eq!(permit.messages(), 1);
    drop(permit);
    let offsets: Vec<i64> = all
        .all()
        .await
        .unwrap()
        .into_iter()
        .map(|outcome| outcome.unwrap().offset)
        .collect();
    assert_eq!(offsets, [1, 2, 3]);
    flush(&outbox).await;
    assert_eq!((outbox.info().messages, outbox.info().bytes), (0, 0));
    assert!(outbox.reserve(5, 100).is_some(), "all of it is back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_outbox_takes_no_more() {
    let name = new_topic("drain", 1);
    let (outbox, _) = outbox(OutboxSettings::default());
    let topic = outbox.topic(&name).unwrap();
    assert_eq!(topic.produce_async_batched("0").all().unwrap(), 1);
    let mut permit = outbox.reserve(1, 10).unwrap();
    assert_eq!(outbox.drain(Instant::now() + PATIENCE).await, 0);
    let refused = topic.produce_async("no").all();
    assert!(matches!(refused, Err(ProduceError::ShuttingDown { .. })));
    assert!(outbox.reserve(1, 0).is_none());
    let admission = permit.produce(&topic, Mode::Async, "1", None);
    assert_eq!(
        admission.all().unwrap(),
        1,
        "room that was given is honoured"
    );
    flush(&outbox).await;
    assert_eq!(sequence(&name, 2), [0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_given_up_after_its_grace() {
    let name = testkit::topic_name("nowhere");
    let (outbox, log) = outbox(OutboxSettings {
        // It is still waited for when the first ones come.
        unknown_topic_grace: Duration::from_secs(5),
        sync_timeout: Duration::from_secs(60),
        unknown_topic_memory: Duration::from_secs(600),
        ..OutboxSettings::default()
    });
    let topic = outbox.topic(&name).unwrap();
    assert_eq!(topic.produce_async("lost").all().unwrap(), 1);
    let outcome = topic.produce_sync("too").await.remove(0);
    assert!(
        matches!(outcome, Err(ProduceError::UnknownTopic { .. })),
        "{outcome:?}"
    );
    let refused = topic.produce_async("no").all();
    assert!(matches!(refused, Err(ProduceError::UnknownTopic { .. })));
    let refused = topic.prepare().await;
    assert!(matches!(refused, Err(ProduceError::UnknownTopic { .. })));
    let dropped = eventually("the drop", || {
        let dropped = log.find(|what| match what {
            Happening::Dropped { records, .. } => Some(records.clone()),
            _ => None,
        });
        dropped.into_iter().next()
    })
    .await;
    assert_eq!(dropped[0].value(), Some(&b"lost"[..]));
    assert_eq!(outbox.info().messages, 0);
    assert!(outbox.topic("bad name").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn new_partitions_join_the_ring() {
    let name = new_topic("growth", 2);
    let settings = || OutboxSettings {
        metadata_refresh: Duration::from_millis(200),
        ..with_strategy(Strategy::StrictRoundRobin)
    };
    let (outbox, log) = outbox(settings());
    let topic = ready(&outbox, &name).await;
    let produce = async |range: std::ops::Range<usize>| {
        for value in numbers(range) {
            let outcome = topic.produce_sync(value.as_str()).await.remove(0);
            outcome.unwrap();
        }
    };
    produce(0..3).await;
    testkit::shared().add_partitions(&name, 4).unwrap();
    eventually("the new partitions", || {
        (topic.info().partitions.len() == 4).then_some(())
    })
    .await;
    // 1 was next.
    produce(3..8).await;
    assert_eq!(sequence(&name, 8), [0, 1, 0, 1, 2, 3, 0, 1]);
    let ups: Vec<Option<i32>> = log
        .all()
        .iter()
        .filter(|event| matches!(event.what, Happening::WorkerUp { .. }))
        .map(|event| event.partition)
        .collect();
    assert_eq!(ups, [Some(0), Some(1), Some(2), Some(3)]);
    // Settings are read again, too: the same entry, then the next.
    outbox.reload(OutboxSettings {
        lanes_per_partition: 2.into(),
        ..settings()
    });
    let picks: Vec<i32> = (0..4)
        .map(|_| topic.pick(None).unwrap().partition)
        .collect();
    assert_eq!(picks, [2, 2, 3, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_of_more_clients_keep_their_order() {
    let name = new_topic("clients", 3);
    let (outbox, _) = outbox(OutboxSettings {
        connections: 2,
        ..with_strategy(Strategy::StrictRoundRobin)
    });
    let topic = ready(&outbox, &name).await;
    for value in numbers(0..3_000) {
        assert_eq!(topic.produce_async(value.as_str()).all().unwrap(), 1);
    }
    flush(&outbox).await;
    let mut next = [0, 1, 2];
    for record in testkit::shared().read_all(&name).unwrap() {
        let next = &mut next[usize::try_from(record.partition).unwrap()];
        assert_eq!(record.value_text(), next.to_string());
        *next += 3;
    }
    assert_eq!(next, [3_000, 3_001, 3_002]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_client_is_never_shown_while_there_is_room() {
    let name = new_topic("shallow", 2);
    let mut settings = with_strategy(Strategy::StrictRoundRobin);
    settings
        .librdkafka
        .set("queue.buffering.max.messages", "10");
    let (outbox, _) = outbox(settings);
    let topic = ready(&outbox, &name).await;
    for value in numbers(0..500) {
        assert_eq!(topic.produce_async(value.as_str()).all().unwrap(), 1);
    }
    flush(&outbox).await;
    let records = testkit::shared().read_all(&name).unwrap();
    assert_eq!(records.len(), 500);
    let order: Vec<usize> = records
        .iter()
        .filter(|record| record.partition == 0)
        .map(|record| record.value_text().parse().unwrap())
        .collect();
    assert!(order.is_sorted(), "{order:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_its_own_compression() {
    let (plain, packed) = (new_topic("plain", 1), new_topic("packed", 1));
    let (outbox, _) = outbox(OutboxSettings {
        compression: PerTopic::all(None).with(packed.as_str(), Some("lz4".to_owned())),
        ..OutboxSettings::default()
    });
    let value = "a".repeat(10_000);
    for name in [&plain, &packed] {
        let outcomes = outbox.produce_sync(name, value.as_str()).await.unwrap();
        assert!(outcomes[0].is_ok(), "{outcomes:?}");
        let records = testkit::shared().read_all(name).unwrap();
        assert_eq!(records[0].value_text(), value);
    }
    let buffered = outbox.batch(&plain, "b").unwrap();
    let expected = Buffered {
        partition: Some(0),
        length: 1,
    };
    assert_eq!(buffered, [Ok(expected)]);
    assert_eq!(outbox.publish(&plain, "c").unwrap(), 1);
}
