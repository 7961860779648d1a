//! Topics of the outbox that go through the journal.

use super::{Log, flush, new_topic, numbers, sequence};
use crate::support::{eventually, open};
use barnabas_engine::{
    Admission, Dropped, Durability, Event, Events, Happening, Journal, JournalError,
    JournalOptions, NewRecord, OneLarge, Outbox, OutboxSettings, OutboxTopic, Payload, PerTopic,
    ProduceError, Strategy, TopicState, phash2,
};
use barnabas_testkit as testkit;
use barnabas_testkit::{Cluster, Record};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn settings(strategy: Strategy) -> OutboxSettings {
    OutboxSettings {
        strategy: strategy.into(),
        durability: Durability::Journal.into(),
        ..OutboxSettings::default()
    }
}

fn start(brokers: &str, options: JournalOptions, settings: OutboxSettings) -> (Outbox, Arc<Log>) {
    let log = Arc::new(Log::default());
    let listener: Arc<dyn Events> = Arc::<Log>::clone(&log);
    let builder = Outbox::builder(&open(brokers)).settings(settings);
    let builder = builder.journal(Journal::open(options).unwrap());
    (builder.listener(listener).start().unwrap(), log)
}

fn shared(directory: &Path, settings: OutboxSettings) -> (Outbox, Arc<Log>) {
    let brokers = testkit::shared().bootstrap_servers();
    start(&brokers, JournalOptions::new(directory), settings)
}

async fn write(topic: &OutboxTopic, values: &[String]) {
    for value in values {
        let admission = topic.produce_journaled(value.as_str()).await;
        assert_eq!(admission.all().unwrap(), 1);
    }
}

fn keyed(records: &[Record]) -> Vec<(i32, String, String)> {
    let place = |record: &Record| (record.partition, record.key_text(), record.value_text());
    records.iter().map(place).collect()
}

fn statistics(outbox: &Outbox) -> (u64, u64, u64) {
    let found = outbox.journal().unwrap().statistics();
    (found.written, found.delivered, found.refused)
}

/// Events about a downtime, in order.
fn downtime(log: &Log) -> Vec<(&'static str, usize)> {
    log.find(|what| match what {
        Happening::DowntimeSaved { messages } => Some(("saved", *messages)),
        Happening::DowntimeReplayed { messages } => Some(("replayed", *messages)),
        Happening::MaxDowntimeBufferReached { refused, dropped } => {
            assert_eq!(dropped, &[], "what is on disk is never dropped");
            Some(("refused", *refused))
        }
        _ => None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_strategy_picks_for_the_journal_too() {
    let folder = tempfile::tempdir().unwrap();
    let name = new_topic("journaled", 3);
    let (outbox, log) = shared(folder.path(), settings(Strategy::StrictRoundRobin));
    let topic = outbox.topic(&name).unwrap();
    topic.prepare().await.unwrap();
    write(&topic, &numbers(0..4)).await;
    // A list without keys is one pick.
    let list: Payload<'_> = ["4", "5", "6"].into_iter().collect();
    assert_eq!(topic.produce_journaled(list).await.all().unwrap(), 3);
    let mut permit = outbox.reserve(2, 100).unwrap();
    let records: Payload<'_> = ["7", "8"].into_iter().collect();
    let admission = permit.produce_journaled(&topic, records).await;
    assert_eq!((admission.all().unwrap(), permit.messages()), (2, 0));
    drop(permit);
    assert_eq!(
        outbox.info().bytes,
        0,
        "what is on disk takes no room in memory"
    );
    flush(&outbox).await;
    assert_eq!(sequence(&name, 9), [0, 1, 2, 0, 1, 1, 1, 2, 2]);
    assert_eq!(statistics(&outbox), (9, 9, 0));
    assert_eq!(downtime(&log), [], "there was none");
}

/// What waits on disk is picked when it is sent, in the order in which it was
/// accepted, also by the next process.
#[tokio::test(flavor = "multi_thread")]
async fn a_downtime_is_outlived_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let kafka = Cluster::builder().start().unwrap();
    for topic in ["keyed", "turns"] {
        kafka.create_topic(topic, 5).unwrap();
    }
    kafka.broker(0).stop().unwrap();
    let strategies = PerTopic::all(Strategy::StrictRoundRobin).with("keyed", Strategy::Phash2);
    let settings = || OutboxSettings {
        strategy: strategies.clone(),
        // Nothing of this holds for what is on disk.
        max_downtime_messages: Some(1).into(),
        max_message_age: Duration::from_millis(1).into(),
        massage: PerTopic::all(Some(Arc::new(OneLarge::Ndjson))),
        ..settings(Strategy::Random)
    };
    let options = || JournalOptions::new(folder.path());
    let keys = ["user1", "user2", "hello"];
    {
        let (outbox, log) = start(&kafka.bootstrap_servers(), options(), settings());
        let (by_key, turns) = (
            outbox.topic("keyed").unwrap(),
            outbox.topic("turns").unwrap(),
        );
        for value in numbers(0..30) {
            let key = keys[value.parse::<usize>().unwrap() % keys.len()];
            let admission = by_key.produce_journaled((key, value.as_str())).await;
            assert_eq!(admission.all().unwrap(), 1);
        }
        write(&turns, &numbers(0..7)).await;
        eventually("all are saved", || {
            (downtime(&log) == [("saved", 1); 37]).then_some(())
        })
        .await;
    }

    // Another process goes on with it.
    let (outbox, log) = start(&kafka.bootstrap_servers(), options(), settings());
    let turns = outbox.topic("turns").unwrap();
    write(&turns, &numbers(7..9)).await;
    assert_eq!(outbox.journal().unwrap().undelivered(), 39);
    kafka.broker(0).start().unwrap();
    flush(&outbox).await;
    assert_eq!(outbox.journal().unwrap().undelivered(), 0);
    eventually("the replay is told of", || {
        let expected = [("saved", 1), ("saved", 1), ("replayed", 2)];
        (downtime(&log) == expected).then_some(())
    })
    .await;

    let found = keyed(&kafka.read_all("keyed").unwrap());
    for key in keys {
        let own = found.iter().filter(|(_, found, _)| found == key);
        let (partitions, values): (Vec<i32>, Vec<&str>) = own
            .map(|(partition, _, value)| (*partition, &**value))
            .unzip();
        let expected = i32::try_from(phash2(key.as_bytes()) % 5).unwrap();
        assert_eq!(partitions, [expected; 10], "{key}");
        let numbers: Vec<usize> = values.iter().map(|value| value.parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "{key}: {numbers:?}");
    }
    let mut turns: Vec<(usize, i32)> = kafka
        .read_all("turns")
        .unwrap()
        .iter()
        .map(|record| (record.value_text().parse().unwrap(), record.partition))
        .collect();
    turns.sort_unstable();
    let expected: Vec<(usize, i32)> = (0..9).zip([0, 1, 2, 3, 4].into_iter().cycle()).collect();
    assert_eq!(turns, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_refuses_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("full", 1).unwrap();
    kafka.broker(0).stop().unwrap();
    let options = JournalOptions {
        max_bytes: 100_000,
        ..JournalOptions::new(folder.path())
    };
    let settings = settings(Strategy::StrictRoundRobin);
    let (outbox, log) = start(&kafka.bootstrap_servers(), options, settings);
    let topic = outbox.topic("full").unwrap();
    let mut accepted = 0_usize;
    let refused = loop {
        let value = format!("{accepted:01000}");
        let records = [NewRecord::of(value.as_bytes()); 2];
        let Admission {
            accepted: now,
            mut refused,
        } = topic.produce_journaled(&records[..]).await;
        match refused.pop() {
            None => accepted += now,
            Some(error) => break error,
        }
    };
    match refused {
        ProduceError::NotJournaled {
            refused: 2,
            error: JournalError::Full { .. },
            at,
        } => assert_eq!((&*at.topic, at.index), ("full", 0)),
        other => panic!("{other:?}"),
    }
    assert!((50..100).contains(&accepted), "{accepted}");
    let too_much = vec![b'x'; 80_000];
    let refused = topic.produce_journaled(&too_much[..]).await.all();
    assert!(
        matches!(refused, Err(ProduceError::TooLarge { limit: 75_000, .. })),
        "{refused:?}"
    );
    eventually("it is told of", || {
        (downtime(&log).last() == Some(&("refused", 2))).then_some(())
    })
    .await;
    kafka.broker(0).start().unwrap();
    flush(&outbox).await;
    let found = kafka.read_all("full").unwrap();
    let values: Vec<usize> = found
        .iter()
        .map(|record| record.value_text().parse().unwrap())
        .collect();
    let expected: Vec<usize> = (0..accepted).map(|number| number / 2 * 2).collect();
    assert_eq!(values, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_kept_aside_and_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let name = testkit::topic_name("nowhere");
    let settings = OutboxSettings {
        // It is still waited for when the first one comes.
        unknown_topic_grace: Duration::from_secs(5),
        unknown_topic_memory: Duration::from_secs(600),
        ..settings(Strategy::Random)
    };
    let (outbox, log) = shared(folder.path(), settings);
    let topic = outbox.topic(&name).unwrap();
    let admission = topic.produce_journaled(("key", "lost")).await;
    assert_eq!(admission.all().unwrap(), 1);
    let dropped = eventually("the drop", || {
        let dropped = log.find(|what| match what {
            Happening::Dropped { reason, records } => Some((*reason, records.clone())),
            _ => None,
        });
        dropped.into_iter().next()
    })
    .await;
    assert_eq!(dropped.0, Dropped::UnknownTopic);
    assert_eq!(dropped.1[0].key(), Some(&b"key"[..]));
    eventually("it is aside", || {
        (statistics(&outbox) == (1, 0, 1)).then_some(())
    })
    .await;
    let refused = topic.produce_journaled("no").await.all();
    assert!(matches!(refused, Err(ProduceError::UnknownTopic { .. })));
    assert_eq!(statistics(&outbox).0, 1, "nothing more was written");
}

/// A client that does not know a partition yet asks before it gives up.
#[tokio::test(flavor = "multi_thread")]
async fn new_partitions_are_reached_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let name = new_topic("growing", 1);
    let settings = OutboxSettings {
        metadata_refresh: Duration::from_millis(100),
        ..settings(Strategy::StrictRoundRobin)
    };
    let (outbox, _) = shared(folder.path(), settings);
    let topic = outbox.topic(&name).unwrap();
    topic.prepare().await.unwrap();
    write(&topic, &numbers(0..2)).await;
    flush(&outbox).await;
    testkit::shared().add_partitions(&name, 4).unwrap();
    eventually("they are known", || {
        (topic.info().partitions.len() == 4).then_some(())
    })
    .await;
    write(&topic, &numbers(2..10)).await;
    flush(&outbox).await;
    assert_eq!(statistics(&outbox), (10, 10, 0));
    let mut picked = sequence(&name, 10).split_off(2);
    picked.sort_unstable();
    assert_eq!(picked, [0, 0, 1, 1, 2, 2, 3, 3]);
    // Nobody's pick, and not there.
    let nowhere = NewRecord {
        partition: Some(4),
        ..NewRecord::of(b"x")
    };
    let refused = topic.produce_journaled(Payload::One([nowhere])).await.all();
    assert!(matches!(
        refused,
        Err(ProduceError::UnknownPartition { .. })
    ));
}

/// Nobody but the journal's client notices that it is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_again_gets_what_was_written_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let name = new_topic("journaled-again", 2);
    let settings = OutboxSettings {
        unknown_topic_grace: Duration::from_secs(60),
        metadata_refresh: Duration::from_secs(600),
        ..settings(Strategy::StrictRoundRobin)
    };
    let brokers = testkit::shared().bootstrap_servers();
    let mut config = open(&brokers).config().clone();
    // librdkafka believes in a topic for so long.
    let patience = "topic.metadata.propagation.max.ms";
    config.producer.set(patience, "1000");
    let journal = Journal::open(JournalOptions::new(folder.path())).unwrap();
    let builder = Outbox::builder(&barnabas_engine::Cluster::open(config).unwrap());
    let builder = builder.settings(settings).journal(journal);
    let outbox = builder.start().unwrap();
    let topic = outbox.topic(&name).unwrap();
    topic.prepare().await.unwrap();
    write(&topic, &["before".to_owned()]).await;
    flush(&outbox).await;
    testkit::shared().delete_topic(&name).unwrap();
    write(&topic, &numbers(0..4)).await;
    eventually("it is missed", || {
        (topic.info().state == TopicState::Starting).then_some(())
    })
    .await;
    write(&topic, &numbers(4..8)).await;
    testkit::shared().create_topic(&name, 2).unwrap();
    flush(&outbox).await;
    assert_eq!(statistics(&outbox), (9, 9, 0));
    let found = sequence(&name, 8);
    assert_eq!(found.iter().filter(|partition| **partition == 0).count(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_such_topic_without_a_journal() {
    let builder = Outbox::builder(&open("127.0.0.1:1")).settings(settings(Strategy::Random));
    let refused = builder.start().map(drop).unwrap_err();
    assert_eq!(refused.to_string(), "durability: there is no journal");
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(JournalOptions::new(folder.path())).unwrap();
    let cluster = open("127.0.0.1:1");
    journal.feed(&cluster).unwrap();
    let builder = Outbox::builder(&cluster).journal(journal);
    let refused = builder.start().map(drop).unwrap_err().to_string();
    assert!(refused.contains("somebody else"), "{refused}");
    // Told by nobody but its reply: it is refused once it is drained, too.
    let (outbox, log) = start(
        "127.0.0.1:1",
        JournalOptions::new(folder.path().join("own")),
        settings(Strategy::Random),
    );
    outbox.drain(std::time::Instant::now()).await;
    let topic = outbox.topic("t").unwrap();
    let refused = topic.produce_journaled("late").await.all();
    assert!(matches!(refused, Err(ProduceError::ShuttingDown { .. })));
    let is_saved = |event: &Event| matches!(event.what, Happening::DowntimeSaved { .. });
    assert!(!log.all().iter().any(is_saved));
}

/// Whatever Kafka says of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_cannot_be_made_holds_up_no_other() {
    use rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR as TOO_FEW;
    let folder = tempfile::tempdir().unwrap();
    let mock: MockCluster<'_, DefaultProducerContext> = MockCluster::new(1).unwrap();
    for topic in ["bad", "good"] {
        mock.create_topic(topic, 1, 1).unwrap();
    }
    mock.topic_error("bad", TOO_FEW).unwrap();
    let brokers = mock.bootstrap_servers();
    let options = JournalOptions::new(folder.path());
    let (outbox, _) = start(&brokers, options, settings(Strategy::StrictRoundRobin));
    for topic in ["bad", "good", "bad", "good"] {
        write(&outbox.topic(topic).unwrap(), &numbers(0..5)).await;
    }
    flush(&outbox).await;
    assert_eq!(statistics(&outbox), (20, 10, 10));
}
