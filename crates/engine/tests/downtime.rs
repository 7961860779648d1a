//! The outbox while brokers are away: what is kept, what is dropped, and how
//! it comes back.

use crate::outbox::{Log, flush, outbox_at};
use crate::support::{PATIENCE, eventually, numbers, within};
use barnabas_engine::{
    Answers, DowntimePolicy, Dropped, ErrorCode, Event, Happening, Mode, NewRecord, Outbox,
    OutboxSettings, OutboxTopic, Payload, PerTopic, ProduceError, Strategy, TopicState,
};
use barnabas_testkit::{Cluster, Record};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

async fn is_in(topic: &OutboxTopic, state: TopicState) {
    let begun = Instant::now();
    while topic.info().state != state {
        assert!(
            begun.elapsed() < 3 * PATIENCE,
            "not {}: {:#?}",
            state.name(),
            topic.info()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn values(kafka: &Cluster, topic: &str) -> Vec<String> {
    let records = kafka.read_all(topic).unwrap();
    records.iter().map(Record::value_text).collect()
}

/// Where the first event of a kind stands.
fn first(log: &Log, is_it: impl Fn(&Happening) -> bool) -> usize {
    let all = log.all();
    all.iter()
        .position(|event| is_it(&event.what))
        .unwrap_or_else(|| panic!("not in {all:#?}"))
}

fn last(log: &Log, is_it: impl Fn(&Happening) -> bool) -> usize {
    log.all()
        .iter()
        .rposition(|event| is_it(&event.what))
        .unwrap()
}

/// The contract's timeline (`producer-engine.md`, section 6), shortened.
#[tokio::test(flavor = "multi_thread")]
async fn the_timeline_of_a_downtime() {
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("events", 1).unwrap();
    kafka.broker(0).stop().unwrap();
    let (outbox, log) = outbox_at(
        &kafka.bootstrap_servers(),
        OutboxSettings {
            strategy: Strategy::StrictRoundRobin.into(),
            lanes_per_partition: 2.into(),
            batch_ttl: Duration::from_secs(1).into(),
            ..OutboxSettings::default()
        },
    );
    let begun = Instant::now();
    let topic = outbox.topic("events").unwrap();
    for value in numbers(0..20) {
        let buffered = topic
            .produce_sync_batched(value.as_str())
            .remove(0)
            .unwrap();
        assert_eq!(buffered.partition, None);
        assert_eq!(
            buffered.length.to_string(),
            (value.parse::<usize>().unwrap() + 1).to_string()
        );
    }
    let still_down = || {
        log.find(|what| matches!(what, Happening::WorkerStillDown { .. }).then_some(()))
            .len()
    };
    within(PATIENCE, "three attempts in vain", || {
        (still_down() >= 3).then_some(())
    })
    .await;
    let waited = begun.elapsed();
    assert!(
        waited >= Duration::from_secs(2),
        "an attempt a second, not {waited:?}"
    );
    kafka.broker(0).start().unwrap();
    is_in(&topic, TopicState::Up).await;
    flush(&outbox).await;
    eventually("the last event", || {
        let answered = log.find(|what| match what {
            Happening::FlushedReplied { messages, .. } => Some(*messages),
            _ => None,
        });
        (answered.iter().sum::<usize>() == 20).then_some(())
    })
    .await;

    assert_eq!(values(&kafka, "events"), numbers(0..20));
    let saved = log.find(|what| match what {
        Happening::DowntimeSaved { messages } => Some(*messages),
        _ => None,
    });
    assert_eq!(saved, [1; 20], "one for each message");
    let replayed = log.find(|what| match what {
        Happening::DowntimeReplayed { messages } => Some(*messages),
        _ => None,
    });
    assert_eq!(replayed, [20], "once, with all");
    assert_eq!(log.flushes().iter().sum::<usize>(), 20);
    let down = log.find(|what| match what {
        Happening::TimeDown(time) => Some(*time),
        _ => None,
    });
    assert_eq!(down.len(), 1);
    assert!(down[0] >= waited && down[0] <= begun.elapsed(), "{down:?}");
    let unanswered = log.find(|what| match what {
        Happening::FlushedReplied { unanswered, .. } => Some(*unanswered),
        _ => None,
    });
    assert_eq!(unanswered.last(), Some(&0));

    let is_saved = |what: &Happening| matches!(what, Happening::DowntimeSaved { .. });
    let is_replayed = |what: &Happening| matches!(what, Happening::DowntimeReplayed { .. });
    let is_time_down = |what: &Happening| matches!(what, Happening::TimeDown(_));
    let is_up = |what: &Happening| matches!(what, Happening::WorkerUp { lanes: 2 });
    let is_connected = |what: &Happening| matches!(what, Happening::TimeToConnect(_));
    let is_flush = |what: &Happening| matches!(what, Happening::Flush { .. });
    let is_answered = |what: &Happening| matches!(what, Happening::FlushedReplied { .. });
    assert!(last(&log, is_saved) < first(&log, is_replayed));
    assert!(first(&log, is_time_down) < first(&log, is_up));
    assert!(first(&log, is_connected) < first(&log, is_up));
    assert!(first(&log, is_flush) < first(&log, is_answered));
}

/// A cluster whose broker was there and is not any more, as its topics know.
async fn downed(kafka: &Cluster, outbox: &Outbox, names: &[&str]) -> Vec<OutboxTopic> {
    let mut topics = Vec::new();
    for name in names {
        kafka.create_topic(name, 1).unwrap();
        let topic = outbox.topic(name).unwrap();
        topic.prepare().await.unwrap();
        topics.push(topic);
    }
    kafka.broker(0).kill().unwrap();
    for topic in &topics {
        is_in(topic, TopicState::Down).await;
    }
    topics
}

#[tokio::test(flavor = "multi_thread")]
async fn each_policy_at_its_limit() {
    let kafka = Cluster::builder().start().unwrap();
    let lists = ["reject5", "newest5", "oldest5"];
    let singles = ["reject4", "newest4", "oldest4"];
    let mut bound = PerTopic::all(Some(5));
    let mut policy = PerTopic::all(DowntimePolicy::Reject);
    for name in singles {
        bound = bound.with(name, Some(4));
    }
    for name in ["newest5", "newest4"] {
        policy = policy.with(name, DowntimePolicy::DropNewest);
    }
    for name in ["oldest5", "oldest4"] {
        policy = policy.with(name, DowntimePolicy::DropOldest);
    }
    let (outbox, log) = outbox_at(
        &kafka.bootstrap_servers(),
        OutboxSettings {
            max_downtime_messages: bound,
            downtime_policy: policy,
            ..OutboxSettings::default()
        },
    );
    let topics = downed(&kafka, &outbox, &[lists, singles].concat()).await;
    let ten = numbers(0..10);
    for topic in &topics[..3] {
        let list: Payload<'_> = ten.iter().map(String::as_str).collect();
        let admission = topic.produce_async(list);
        if topic.name() == "reject5" {
            assert_eq!(admission.accepted, 5);
            match &admission.refused[..] {
                [
                    ProduceError::Full {
                        at,
                        accepted: 5,
                        refused: 5,
                    },
                ] => assert_eq!(at.index, 5),
                other => panic!("{other:?}"),
            }
        } else {
            assert_eq!(admission.all().unwrap(), 10);
        }
    }
    for topic in &topics[3..] {
        for (index, value) in ten[..5].iter().enumerate() {
            let admitted = topic.produce_async(value.as_str()).all();
            if topic.name() == "reject4" && index == 4 {
                assert!(matches!(
                    admitted,
                    Err(ProduceError::Full { refused: 1, .. })
                ));
            } else {
                assert_eq!(admitted.unwrap(), 1);
            }
        }
    }
    // What the events say was dropped or refused, by topic.
    let reached = eventually("six events", || {
        let all = log.all();
        let reached: BTreeMap<String, (Vec<String>, usize)> = all
            .iter()
            .filter_map(|event| match &event.what {
                Happening::MaxDowntimeBufferReached { dropped, refused } => {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    let dropped = dropped.iter().map(|record| text(record.value().unwrap()));
                    Some((event.topic.to_string(), (dropped.collect(), *refused)))
                }
                _ => None,
            })
            .collect();
        (reached.len() == 6).then_some(reached)
    })
    .await;
    let expected = |dropped: &[String], refused: usize| (dropped.to_vec(), refused);
    assert_eq!(reached["reject5"], expected(&[], 5));
    assert_eq!(reached["newest5"], expected(&ten[5..], 0));
    assert_eq!(reached["oldest5"], expected(&ten[..5], 0));
    assert_eq!(reached["reject4"], expected(&[], 1));
    assert_eq!(reached["newest4"], expected(&ten[4..5], 0));
    assert_eq!(reached["oldest4"], expected(&ten[..1], 0));
    let info = topics[2].info();
    assert_eq!(info.kept, 5);
    assert!(info.dropped.contains(&(Dropped::Oldest, 5)));

    let before = info.counts;
    kafka.broker(0).start().unwrap();
    flush(&outbox).await;
    let after = topics[2].info().counts;
    assert_eq!(
        (before.accepted, before.saved, before.replayed),
        (10, 10, 0)
    );
    assert_eq!((after.accepted, after.saved, after.replayed), (10, 10, 5));
    assert_eq!(after.delivered, before.delivered + 5);
    for (name, kept) in [
        ("reject5", &ten[..5]),
        ("newest5", &ten[..5]),
        ("oldest5", &ten[5..]),
        ("reject4", &ten[..4]),
        ("newest4", &ten[..4]),
        ("oldest4", &ten[1..5]),
    ] {
        assert_eq!(values(&kafka, name), kept, "{name}");
    }
    assert_eq!(outbox.info().bytes, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_in_time_and_nothing_is_sent_afterwards() {
    let kafka = Cluster::builder().start().unwrap();
    let limit = Duration::from_secs(1);
    let (outbox, _) = outbox_at(
        &kafka.bootstrap_servers(),
        OutboxSettings {
            sync_timeout: limit,
            max_message_age: PerTopic::all(Duration::ZERO).with("aged", Duration::from_millis(300)),
            ..OutboxSettings::default()
        },
    );
    let topics = downed(&kafka, &outbox, &["waits", "aged"]).await;
    let begun = Instant::now();
    let outcome = topics[0].produce_sync("never").await.remove(0);
    match outcome {
        Err(ProduceError::Downtime { last, .. }) => {
            assert!(last.contains("refused") || last.contains("ailed"), "{last}");
        }
        other => panic!("{other:?}"),
    }
    let took = begun.elapsed();
    assert!(took >= limit, "{took:?}");
    assert_eq!(topics[0].info().waiting, 0);
    assert!(topics[0].pick(None).is_err());
    // What may not grow old is dropped, and only that.
    assert_eq!(topics[1].produce_async("old").all().unwrap(), 1);
    eventually("it is dropped", || {
        let dropped = topics[1].info().dropped;
        dropped.contains(&(Dropped::Expired, 1)).then_some(())
    })
    .await;
    assert_eq!(topics[0].produce_async("kept").all().unwrap(), 1);
    let soon = Instant::now() + Duration::from_millis(200);
    assert_eq!(outbox.flush(soon).await, 1, "it is left");
    kafka.broker(0).start().unwrap();
    flush(&outbox).await;
    assert_eq!(values(&kafka, "waits"), ["kept"]);
    assert_eq!(values(&kafka, "aged"), [""; 0]);
}

/// Packets that vanish count as well as those that are refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_broker_is_down_too() {
    const DOWN_AFTER: Duration = Duration::from_secs(1);
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("silence", 2).unwrap();
    let (outbox, log) = outbox_at(
        &kafka.bootstrap_servers(),
        OutboxSettings {
            strategy: Strategy::StrictRoundRobin.into(),
            sync_timeout: Duration::from_secs(2),
            down_after: DOWN_AFTER,
            ..OutboxSettings::default()
        },
    );
    let topic = outbox.topic("silence").unwrap();
    topic.prepare().await.unwrap();
    let produce = |range| {
        for value in numbers(range) {
            assert_eq!(topic.produce_async(value.as_str()).all().unwrap(), 1);
        }
    };
    produce(0..10);
    flush(&outbox).await;
    let paused = Instant::now();
    kafka.broker(0).pause().unwrap();
    produce(10..20);
    let state = topic.info().state;
    if paused.elapsed() < DOWN_AFTER {
        assert_eq!(state, TopicState::Up, "nobody knows yet");
    }
    // On the wire when its time is over: nobody can say.
    let on_the_wire = topic.produce_sync("wire").await.remove(0).unwrap_err();
    assert!(
        matches!(
            on_the_wire,
            ProduceError::PossiblyPersisted { .. }
                | ProduceError::Timeout { .. }
                | ProduceError::Downtime { .. }
        ),
        "{on_the_wire:?}"
    );
    is_in(&topic, TopicState::Down).await;
    produce(20..30);
    assert!(topic.info().kept >= 10, "{:?}", topic.info());
    let never = topic.produce_sync("never").await.remove(0).unwrap_err();
    assert!(matches!(never, ProduceError::Downtime { .. }), "{never:?}");
    kafka.broker(0).resume().unwrap();
    is_in(&topic, TopicState::Up).await;
    produce(30..40);
    flush(&outbox).await;
    let mut by_partition: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
    for record in kafka.read_all("silence").unwrap() {
        match record.value_text().as_str() {
            "never" => panic!("it was reported as not sent"),
            "wire" => assert!(matches!(
                on_the_wire,
                ProduceError::PossiblyPersisted { .. }
            )),
            value => by_partition
                .entry(record.partition)
                .or_default()
                .push(value.parse().unwrap()),
        }
    }
    assert!(
        by_partition.values().all(|values| values.is_sorted()),
        "{by_partition:?}"
    );
    let mut all: Vec<usize> = by_partition.into_values().flatten().collect();
    all.sort_unstable();
    assert_eq!(all, (0..40).collect::<Vec<usize>>(), "each once");
    // A slow machine may have seemed silent once more: each time, both ends
    // are told.
    for partition in 0..2 {
        let own = |event: &Event| match event.what {
            Happening::WorkerUp { .. } if event.partition == Some(partition) => Some(true),
            Happening::WorkerDown { .. } if event.partition == Some(partition) => Some(false),
            _ => None,
        };
        let ups: Vec<bool> = log.all().iter().filter_map(own).collect();
        assert!(ups.contains(&false), "{ups:?}");
        assert_eq!(ups.last(), Some(&true));
        assert!(ups.is_sorted_by(|one, next| one != next), "{ups:?}");
    }
}

/// The broker is killed and started again under a load of keyed messages.
#[tokio::test(flavor = "multi_thread")]
async fn keys_keep_their_order_over_an_outage() {
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("keys", 3).unwrap();
    let (outbox, _) = outbox_at(
        &kafka.bootstrap_servers(),
        OutboxSettings {
            strategy: Strategy::Murmur2.into(),
            max_batch_messages: 10.into(),
            batch_ttl: Duration::from_millis(20).into(),
            ..OutboxSettings::default()
        },
    );
    let topic = outbox.topic("keys").unwrap();
    let keys = numbers(0..7);
    let mut count = 0;
    let mut produce_until = async |done: &dyn Fn(&OutboxTopic) -> bool, least: usize| {
        let end = count + least;
        let begun = Instant::now();
        while count < end || !done(&topic) {
            assert!(begun.elapsed() < 3 * PATIENCE, "{:?}", topic.info());
            let key = &keys[count % keys.len()];
            let value = count.to_string();
            // Batched or not, a key's order is one.
            let mode = [Mode::Async, Mode::AsyncBatched][count / 50 % 2];
            let record = NewRecord::keyed(key.as_bytes(), value.as_bytes());
            assert_eq!(topic.produce(mode, record, None).all().unwrap(), 1);
            count += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let is = |state| move |topic: &OutboxTopic| topic.info().state == state;
    produce_until(&is(TopicState::Up), 200).await;
    kafka.broker(0).kill().unwrap();
    produce_until(&is(TopicState::Down), 0).await;
    produce_until(&|_| true, 300).await;
    kafka.broker(0).launch().unwrap();
    produce_until(&is(TopicState::Up), 200).await;
    flush(&outbox).await;
    kafka.broker(0).wait_until_ready().unwrap();
    let mut by_key: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for record in kafka.read_all("keys").unwrap() {
        let value = record.value_text().parse().unwrap();
        by_key.entry(record.key_text()).or_default().push(value);
    }
    for (number, key) in keys.iter().enumerate() {
        let expected: Vec<usize> = (number..count).step_by(keys.len()).collect();
        assert_eq!(by_key[key], expected, "key {key}");
    }
}

/// One of three brokers stands still: the others' partitions go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_with_a_dead_partition_is_degraded() {
    let kafka = Cluster::builder().brokers(3).start().unwrap();
    // A replica each, so that nobody takes over.
    kafka.create_topic_with("part", 3, 1, &[]).unwrap();
    let leaders = kafka.leaders("part").unwrap();
    let dead = 1;
    let others: Vec<i32> = (0..3)
        .filter(|one| leaders[one] != leaders[&dead])
        .collect();
    assert_eq!(others, [0, 2]);
    let (outbox, _) = outbox_at(
        &kafka.bootstrap_servers(),
        OutboxSettings {
            strategy: Strategy::StrictRoundRobin.into(),
            down_after: Duration::from_secs(1),
            ..OutboxSettings::default()
        },
    );
    let topic = outbox.topic("part").unwrap();
    topic.prepare().await.unwrap();
    is_in(&topic, TopicState::Up).await;
    // Both clients have begun.
    let before = NewRecord {
        partition: Some(0),
        ..NewRecord::of(b"before")
    };
    assert_eq!(topic.produce_async(before).all().unwrap(), 1);
    topic.produce_sync(before).await.remove(0).unwrap();
    flush(&outbox).await;
    kafka.broker(leaders[&dead]).pause().unwrap();
    let to = |partition, value: &str| {
        let record = NewRecord {
            partition: Some(partition),
            ..NewRecord::of(value.as_bytes())
        };
        assert_eq!(topic.produce_async(record).all().unwrap(), 1);
    };
    to(dead, "0");
    is_in(&topic, TopicState::Degraded).await;
    // Whoever does not care goes elsewhere; the others wait.
    for _ in 0..4 {
        assert_ne!(topic.pick(None).unwrap().partition, dead);
    }
    to(dead, "1");
    to(dead, "2");
    assert_eq!(topic.info().batched, 2);
    let alive = topic.produce_sync("alive").await.remove(0).unwrap();
    assert_ne!(alive.partition, dead);
    kafka.broker(leaders[&dead]).resume().unwrap();
    is_in(&topic, TopicState::Up).await;
    flush(&outbox).await;
    let records = kafka.read_all("part").unwrap();
    let of = |partition| {
        let records = records
            .iter()
            .filter(move |record| record.partition == partition);
        records.map(Record::value_text).collect::<Vec<String>>()
    };
    assert_eq!(of(dead), ["0", "1", "2"]);
    assert_eq!(of(alive.partition).last().unwrap(), "alive");
    assert_eq!(records.len(), 6);
}

/// What Kafka's brokers answer now and then, and the real ones cannot be made
/// to.
#[tokio::test(flavor = "multi_thread")]
async fn passing_errors_pass_and_lasting_ones_are_told() {
    let kafka = MockCluster::new(1).unwrap();
    kafka.create_topic("errors", 1, 1).unwrap();
    let (outbox, log) = outbox_at(&kafka.bootstrap_servers(), OutboxSettings::default());
    let topic = outbox.topic("errors").unwrap();
    topic.prepare().await.unwrap();
    let delivered = async |value: &str| {
        let (answers, all) = Answers::new(1);
        let admission = topic.produce(Mode::Async, value, Some((answers, 0)));
        assert_eq!(admission.all().unwrap(), 1);
        let waited = tokio::time::timeout(3 * PATIENCE, all.all()).await;
        waited.expect("an answer comes").unwrap().remove(0)
    };
    kafka.request_errors(
        RDKafkaApiKey::Produce,
        &[
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
        ],
    );
    let first = delivered("passing").await.unwrap();
    assert_eq!(first.offset, 0);
    kafka.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED],
    );
    match delivered("lasting").await {
        Err(ProduceError::Broker { at, error }) => {
            assert_eq!((&*at.topic, at.partition), ("errors", Some(0)));
            assert!(error.is(ErrorCode::TopicAuthorizationFailed), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(topic.info().dropped.contains(&(Dropped::Refused, 1)));
    // The client refuses the topic until it has heard of it anew.
    eventually("the topic is allowed again", || {
        topic.produce_async("next").all().ok()
    })
    .await;
    assert_eq!(delivered("last").await.unwrap().offset, 2);
    flush(&outbox).await;
    assert_eq!(outbox.info().bytes, 0);
    let dropped = log.find(|what| match what {
        Happening::Dropped { reason, .. } => Some(*reason),
        _ => None,
    });
    assert_eq!(dropped, [Dropped::Refused]);
}
