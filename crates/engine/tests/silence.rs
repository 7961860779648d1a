//! A network that swallows packets without a word: connections stay open, nothing is refused,
//! nothing arrives. Everything that waits is longer than every time limit on the way there.

use crate::outbox::{flush, outbox_at};
use crate::support::{numbers, properties};
use barnabas_engine::{
    Cluster as Opened, ClusterConfig, Durabilities, ErrorCode, Journal, JournalOptions, OnFull,
    OutboxSettings, PerTopic, ProduceError, Record, TopicState,
};
use barnabas_testkit::{Cluster, Conditions, Link, Network, Quickest};
use std::time::{Duration, Instant};

/// librdkafka's limits, but for that of messages.
const LIMITS: [(&str, &str); 4] = [
    ("socket.timeout.ms", "2000"),
    ("socket.connection.setup.timeout.ms", "1000"),
    ("request.timeout.ms", "1000"),
    ("reconnect.backoff.max.ms", "500"),
];
/// Longer than all of them together.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a record may take that waits for Kafka.
const MESSAGE_LIMIT: Duration = Duration::from_secs(4);
const AGAIN: Duration = Duration::from_secs(60);

fn isolated(topic: &str) -> Cluster {
    let kafka = Cluster::builder().isolated().start().unwrap();
    kafka.create_topic(topic, 1).unwrap();
    kafka
}

fn network(kafka: &Cluster) -> &Network {
    kafka.network().unwrap()
}

fn open(kafka: &Cluster, own: &[(&str, &str)]) -> Opened {
    let mut config = ClusterConfig::default();
    config
        .common
        .set("bootstrap.servers", kafka.bootstrap_servers());
    for (name, value) in LIMITS.iter().chain(own) {
        // Some are the producer's alone.
        config.producer.set(*name, *value);
    }
    Opened::open(config).unwrap()
}

fn values(kafka: &Cluster, topic: &str) -> Vec<String> {
    let records = kafka.read_all(topic).unwrap();
    records.iter().map(|record| record.value_text()).collect()
}

async fn write(cluster: &Opened, topic: &str, values: &[String]) {
    let records = values.iter().map(|value| Record {
        key: None,
        value: Some(value.as_bytes()),
    });
    let appended = cluster.append(topic, records, &[], None, None).await;
    appended.unwrap().synced().await.unwrap();
}

fn undelivered(journal: &Journal) -> u64 {
    journal.statistics().undelivered
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_takes_records_and_sends_them_in_order_afterwards() {
    let kafka = isolated("kept");
    let cluster = open(&kafka, &[]);
    let folder = tempfile::tempdir().unwrap();
    let options = JournalOptions {
        on_full: OnFull::Reject,
        ..JournalOptions::new(folder.path())
    };
    cluster
        .set_durability(Durabilities::default(), Some(options))
        .unwrap();
    write(&cluster, "kept", &numbers(0..50)).await;
    let journal = cluster.journal().unwrap();
    tokio::time::timeout(AGAIN, journal.drained())
        .await
        .unwrap();
    network(&kafka).set(Link::Brokers, Conditions::silent());
    let begun = Instant::now();
    let mut next = 50;
    while begun.elapsed() < SILENCE {
        write(&cluster, "kept", &numbers(next..next + 10)).await;
        next += 10;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(undelivered(journal) > 0, "nothing gets through");
    network(&kafka).restore();
    tokio::time::timeout(AGAIN, journal.drained())
        .await
        .unwrap_or_else(|_| panic!("{:?}", journal.statistics()));
    assert_eq!(values(&kafka, "kept"), numbers(0..next));
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_takes_records_up_to_its_bound_and_sends_them_in_order_afterwards() {
    const BOUND: usize = 300;
    let kafka = isolated("buffered");
    let settings = OutboxSettings {
        max_downtime_messages: PerTopic::all(Some(BOUND)),
        down_after: Duration::from_secs(1),
        librdkafka: properties(&LIMITS),
        ..OutboxSettings::default()
    };
    let (outbox, _) = outbox_at(&kafka.bootstrap_servers(), settings);
    let topic = outbox.topic("buffered").unwrap();
    topic.prepare().await.unwrap();
    for value in numbers(0..50) {
        topic.produce_async(value.as_str()).all().unwrap();
    }
    flush(&outbox).await;
    network(&kafka).set(Link::Brokers, Conditions::silent());
    let begun = Instant::now();
    let mut taken = 50;
    let mut refused = 0;
    // A slow machine takes longer than that until the bound is reached.
    while begun.elapsed() < SILENCE || refused == 0 {
        assert!(begun.elapsed() < AGAIN, "{taken} were taken");
        match topic.produce_async(taken.to_string().as_str()).all() {
            Ok(_) => taken += 1,
            Err(ProduceError::Full { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_ne!(topic.info().state, TopicState::Up);
    assert!(taken >= 50 + BOUND, "{taken} were taken");
    assert!(refused > 0, "there is a bound");
    network(&kafka).restore();
    let until = Instant::now() + AGAIN;
    assert_eq!(outbox.flush(until).await, 0);
    assert_eq!(values(&kafka, "buffered"), numbers(0..taken));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_kafka_is_told_in_time_and_why() {
    let kafka = isolated("awaited");
    let limit = MESSAGE_LIMIT.as_millis().to_string();
    let cluster = open(&kafka, &[("message.timeout.ms", &limit)]);
    let producer = cluster.producer(&properties(&[])).unwrap();
    let record = Record {
        key: None,
        value: Some(b"x"),
    };
    producer
        .deliver("awaited", None, record, &[], None)
        .await
        .unwrap();
    network(&kafka).set(Link::Brokers, Conditions::silent());
    // It looks once a second, and waits for what is on its way.
    let mut quickest = Quickest::of(3, MESSAGE_LIMIT + Duration::from_secs(5));
    while quickest.is_missing() {
        let begun = Instant::now();
        let delivered = producer.deliver("awaited", None, record, &[], None).await;
        quickest.took(begun.elapsed());
        let error = match delivered.unwrap_err() {
            barnabas_engine::Error::Kafka { error } => error,
            other => panic!("{other}"),
        };
        assert!(error.is(ErrorCode::MessageTimedOut), "{error:?}");
    }
    network(&kafka).restore();
    let again = tokio::time::timeout(AGAIN, async {
        while producer
            .deliver("awaited", None, record, &[], None)
            .await
            .is_err()
        {}
    });
    again.await.expect("it goes on when the network is back");
}
