//! The journal and real brokers: what is in it reaches them, in order.

use crate::support::{eventually, new_topic, open, within};
use barnabas_engine::{
    Cluster as Opened, Durabilities, JournalOptions, OnFull, REPLAYED_HEADER, Record, inspect,
};
use barnabas_testkit::{Cluster, shared, topic_name};
use std::path::Path;
use std::time::Duration;

/// How long brokers and producers may take to find each other again.
const AGAIN: Duration = Duration::from_secs(60);

/// A cluster with a journal that is fed.
fn keeping(servers: &str, options: JournalOptions) -> Opened {
    let cluster = open(servers);
    cluster
        .set_durability(Durabilities::default(), Some(options))
        .unwrap();
    cluster
}

/// Writes the numbers with keys in turn; they are on disk then.
async fn write(cluster: &Opened, topic: &str, numbers: std::ops::Range<u32>) {
    let texts: Vec<(String, String)> = numbers
        .map(|number| (format!("k{}", number % 7), number.to_string()))
        .collect();
    let records = texts.iter().map(|(key, value)| Record {
        key: Some(key.as_bytes()),
        value: Some(value.as_bytes()),
    });
    let appended = cluster
        .append(topic, records, &[], None, None)
        .await
        .unwrap();
    appended.synced().await.unwrap();
}

async fn drained(cluster: &Opened) {
    let journal = cluster.journal().unwrap();
    tokio::time::timeout(AGAIN, journal.drained())
        .await
        .unwrap_or_else(|_| panic!("{:?}", journal.statistics()));
}

/// The numbers of each key in the order in which Kafka has them.
fn by_key(kafka: &Cluster, topic: &str) -> Vec<Vec<u32>> {
    let mut found = vec![Vec::new(); 7];
    for record in kafka.read_all(topic).unwrap() {
        let key: usize = record.key_text()[1..].parse().unwrap();
        found[key].push(record.value_text().parse().unwrap());
    }
    found
}

fn expected(count: u32) -> Vec<Vec<u32>> {
    (0..7)
        .map(|key| (0..count).filter(|number| number % 7 == key).collect())
        .collect()
}

fn small(directory: &Path) -> JournalOptions {
    JournalOptions {
        segment_bytes: 20_000,
        ..JournalOptions::new(directory)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_while_the_brokers_are_away_comes_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("away", 3).unwrap();
    let cluster = keeping(&kafka.bootstrap_servers(), small(folder.path()));
    write(&cluster, "away", 0..500).await;
    drained(&cluster).await;
    kafka.broker(0).kill().unwrap();
    for start in (500..3_000).step_by(100) {
        write(&cluster, "away", start..start + 100).await;
    }
    let journal = cluster.journal().unwrap();
    assert_eq!(journal.undelivered(), 2_500);
    assert!(journal.statistics().segments > 2);
    kafka.broker(0).start().unwrap();
    drained(&cluster).await;
    assert_eq!(by_key(&kafka, "away"), expected(3_000));
    // What is delivered goes.
    eventually("delivered segments are removed", || {
        (journal.statistics().segments <= 1).then_some(())
    })
    .await;
    assert_eq!(journal.statistics().delivered, 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_process_sends_what_is_left_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let topic = new_topic("left", 3);
    // Nobody is there.
    let first = keeping("127.0.0.1:1", small(folder.path()));
    write(&first, &topic, 0..1_000).await;
    first.journal().unwrap().close();
    let marking = JournalOptions {
        mark_replayed: true,
        ..small(folder.path())
    };
    let second = keeping(&shared().bootstrap_servers(), marking.clone());
    write(&second, &topic, 1_000..1_200).await;
    drained(&second).await;
    assert_eq!(second.journal().unwrap().statistics().replayed, 1_000);
    second.journal().unwrap().close();
    assert_eq!(by_key(shared(), &topic), expected(1_200));
    for record in shared().read_all(&topic).unwrap() {
        let is_marked = record
            .headers
            .iter()
            .any(|(name, _)| name == REPLAYED_HEADER);
        let number: u32 = record.value_text().parse().unwrap();
        assert_eq!(is_marked, number < 1_000, "{number}");
        assert!(record.timestamp.is_some());
    }
    // A third one finds nothing to do.
    let third = keeping(&shared().bootstrap_servers(), marking);
    assert_eq!(third.journal().unwrap().undelivered(), 0);
    drained(&third).await;
    assert_eq!(by_key(shared(), &topic), expected(1_200));
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_a_record_has_arrives_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let topic = new_topic("parts", 1);
    let cluster = keeping(&shared().bootstrap_servers(), small(folder.path()));
    let record = |key: Option<&'static str>, value: Option<&'static str>| Record {
        key: key.map(str::as_bytes),
        value: value.map(str::as_bytes),
    };
    let parts = [
        record(None, None),
        record(Some(""), Some("")),
        record(Some("k"), None),
        record(None, Some("v")),
    ];
    let headers: [(&str, Option<&[u8]>); 3] = [("a", Some(b"1")), ("a", None), ("b", Some(b""))];
    for (number, record) in (0_i64..).zip(parts) {
        let timestamp = Some(1_700_000_000_000 + number);
        let appended = cluster
            .append(&topic, std::iter::once(record), &headers, timestamp, None)
            .await
            .unwrap();
        appended.synced().await.unwrap();
    }
    drained(&cluster).await;
    let found = shared().read_all(&topic).unwrap();
    assert_eq!(found.len(), 4);
    for ((number, written), record) in (0_i64..).zip(parts).zip(&found) {
        assert_eq!(record.key.as_deref(), written.key);
        assert_eq!(record.value.as_deref(), written.value);
        assert_eq!(record.timestamp, Some(1_700_000_000_000 + number));
        let names: Vec<&str> = record
            .headers
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(names, ["a", "a", "b"]);
        assert_eq!(record.headers[1].1, None);
        assert_eq!(record.headers[2].1.as_deref(), Some(&b""[..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_refuses_for_good_is_kept_aside_and_holds_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let topic = topic_name("known");
    let config = [("max.message.bytes", "2000")];
    shared().create_topic_with(&topic, 1, 1, &config).unwrap();
    let cluster = {
        let mut config = open(&shared().bootstrap_servers()).config().clone();
        config
            .producer
            .set("topic.metadata.propagation.max.ms", "1000");
        let cluster = Opened::open(config).unwrap();
        cluster
            .set_durability(
                Durabilities::default(),
                Some(JournalOptions::new(folder.path())),
            )
            .unwrap();
        cluster
    };
    let missing = topic_name("missing");
    let large = vec![1; 10_000];
    for round in 0..5 {
        write(&cluster, &missing, 0..3).await;
        let record = Record {
            key: None,
            value: Some(&large),
        };
        let appended = cluster
            .append(&topic, std::iter::once(record), &[], None, None)
            .await
            .unwrap();
        appended.synced().await.unwrap();
        write(&cluster, &topic, round * 10..round * 10 + 10).await;
    }
    drained(&cluster).await;
    assert_eq!(by_key(shared(), &topic), expected(50));
    let statistics = cluster.journal().unwrap().statistics();
    assert_eq!((statistics.refused, statistics.delivered), (20, 50));
    cluster.journal().unwrap().close();
    let report = inspect(folder.path(), |_, _, _| {}).unwrap();
    assert_eq!((report.refused, report.undelivered), (20, 0));
    assert!(report.is_sound());
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_costs_the_records_that_it_hits() {
    let folder = tempfile::tempdir().unwrap();
    let topic = new_topic("damage", 1);
    let first = keeping("127.0.0.1:1", small(folder.path()));
    for start in (0..2_000).step_by(50) {
        write(&first, &topic, start..start + 50).await;
    }
    first.journal().unwrap().close();
    let mut segments: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|own| own == "segment"))
        .collect();
    segments.sort();
    assert!(segments.len() > 3);
    // In the middle of one, and the end of another that is not the last.
    let mut bytes = std::fs::read(&segments[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 100].fill(0);
    std::fs::write(&segments[1], bytes).unwrap();
    let bytes = std::fs::read(&segments[2]).unwrap();
    std::fs::write(&segments[2], &bytes[..bytes.len() - 300]).unwrap();
    let mut intact = Vec::new();
    let report = inspect(folder.path(), |_, record, _| {
        intact.push(String::from_utf8(record.record.value.unwrap().to_vec()).unwrap());
    })
    .unwrap();
    assert!(report.missing > 2, "{report:?}");
    assert_eq!(intact.len() as u64 + report.missing, 2_000);
    let second = keeping(&shared().bootstrap_servers(), small(folder.path()));
    drained(&second).await;
    let found: Vec<String> = shared()
        .read_all(&topic)
        .unwrap()
        .iter()
        .map(|record| record.value_text())
        .collect();
    assert_eq!(found, intact);
    let statistics = second.journal().unwrap().statistics();
    assert_eq!(statistics.damaged, report.missing);
    assert_eq!(statistics.delivered, intact.len() as u64);
    let kept = std::fs::read_dir(folder.path()).unwrap();
    let kept = kept.filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        path.extension().is_some_and(|own| own == "damaged")
    });
    assert_eq!(kept.count(), 2);
}

/// Far more than the producer takes at once: what has no room there waits.
#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_producer_holds_arrives_once_each() {
    let folder = tempfile::tempdir().unwrap();
    let topic = new_topic("much", 4);
    let cluster = keeping(
        &shared().bootstrap_servers(),
        JournalOptions::new(folder.path()),
    );
    let value = vec![7; 500];
    let count = 300_000;
    for _ in 0..count / 1_000 {
        let records = (0..1_000).map(|_| Record {
            key: None,
            value: Some(&value),
        });
        let appended = cluster
            .append(&topic, records, &[], None, None)
            .await
            .unwrap();
        appended.synced().await.unwrap();
    }
    let journal = cluster.journal().unwrap();
    within(AGAIN, "everything is delivered", || {
        (journal.undelivered() == 0).then_some(())
    })
    .await;
    let written: i64 = shared().end_offsets(&topic).unwrap().values().sum();
    assert_eq!(written, count);
    assert_eq!(journal.statistics().failed_writes, 0);
}

/// However much of it one batch takes: once it is delivered there is room.
#[tokio::test(flavor = "multi_thread")]
async fn large_batches_in_a_small_journal_follow_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let topic = new_topic("large", 1);
    let options = JournalOptions {
        max_bytes: 1 << 20,
        on_full: OnFull::Wait,
        ..JournalOptions::new(folder.path())
    };
    let cluster = keeping(&shared().bootstrap_servers(), options);
    let value = vec![7; 700_000];
    for _ in 0..5 {
        let record = Record {
            key: None,
            value: Some(&value),
        };
        let appending = cluster.append(&topic, std::iter::once(record), &[], None, None);
        let appended = tokio::time::timeout(AGAIN, appending).await;
        let appended = appended.expect("there is room in time").unwrap();
        appended.synced().await.unwrap();
    }
    drained(&cluster).await;
    assert_eq!(shared().end_offsets(&topic).unwrap()[&0], 5);
}
