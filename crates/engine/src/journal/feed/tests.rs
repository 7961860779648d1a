//! Errors that Kafka is made to answer with.

use super::*;
use crate::batching::{Batching, TopicBatching};
use crate::cluster::Cluster;
use crate::journal::delivered::Delivered;
use crate::journal::{Journal, JournalOptions, JournalRecord};
use crate::outbox::PerTopic;
use crate::producer::Record;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext as Context;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use std::time::Instant;

async fn write(journal: &Journal, range: Range<u32>) {
    write_to(journal, "t", range).await;
}

async fn write_to(journal: &Journal, topic: &str, range: Range<u32>) {
    let values = range.map(|number| number.to_le_bytes().to_vec());
    write_values(journal, topic, values).await;
}

async fn write_values(journal: &Journal, topic: &str, values: impl Iterator<Item = Vec<u8>>) {
    for value in values {
        let record = JournalRecord {
            topic,
            record: Record {
                key: None,
                value: Some(&value),
            },
            headers: &[],
            timestamp: 1,
            partition: Some(0),
            lane: None,
        };
        let appended = journal.append(std::iter::once(record)).await.unwrap();
        appended.synced().await.unwrap();
    }
}

/// What the mock has of the topic, up to `count` different values.
fn read(servers: &str, count: usize) -> BTreeSet<u32> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "reader")
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset("t", 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&assignment).unwrap();
    let mut found = BTreeSet::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while found.len() < count && Instant::now() < deadline {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            let value = message.payload().unwrap().try_into().unwrap();
            found.insert(u32::from_le_bytes(value));
        }
    }
    found
}

/// A mock with the topic, and a journal that is fed to it.
fn start_all(folder: &std::path::Path) -> (MockCluster<'static, Context>, Cluster, Journal) {
    start_with(folder, ClusterConfig::default())
}

fn start_with(
    folder: &std::path::Path,
    mut config: ClusterConfig,
) -> (MockCluster<'static, Context>, Cluster, Journal) {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    config
        .common
        .set("bootstrap.servers", mock.bootstrap_servers());
    let cluster = Cluster::open(config).unwrap();
    let journal = Journal::open(JournalOptions::new(folder)).unwrap();
    journal.feed(&cluster).unwrap();
    (mock, cluster, journal)
}

async fn drained(journal: &Journal) {
    let drained = tokio::time::timeout(Duration::from_secs(60), journal.drained()).await;
    assert!(drained.is_ok(), "{:?}", journal.statistics());
}

/// Errors that librdkafka gives records up for, though another attempt
/// would do: none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn failures_that_pass_lose_nothing() {
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS as INVALID_ACKS,
        RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR as STORAGE, RD_KAFKA_RESP_ERR_UNKNOWN as UNKNOWN,
    };
    let folder = tempfile::tempdir().unwrap();
    let (mock, _cluster, journal) = start_all(folder.path());
    write(&journal, 0..20).await;
    mock.request_errors(
        RDKafkaApiKey::Produce,
        &[UNKNOWN, INVALID_ACKS, STORAGE, UNKNOWN],
    );
    write(&journal, 20..100).await;
    drained(&journal).await;
    assert_eq!(journal.statistics().refused, 0);
    assert_eq!(journal.statistics().delivered, 100);
    let found = read(&mock.bootstrap_servers(), 100);
    assert_eq!(found, (0..100).collect());
}

/// Whoever waits for everything that is on its way would wait for its batches.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_waits_for_no_linger() {
    use RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN as UNKNOWN;
    let folder = tempfile::tempdir().unwrap();
    let patient = TopicBatching {
        linger: Some(Duration::from_secs(600)),
        messages: Some(1_000),
    };
    let config = ClusterConfig {
        batching: Batching::new(PerTopic::default().with("t", patient)),
        ..ClusterConfig::default()
    };
    let (mock, _cluster, journal) = start_with(folder.path(), config);
    mock.create_topic("u", 1, 1).unwrap();
    write_to(&journal, "t", 0..2).await;
    mock.request_errors(RDKafkaApiKey::Produce, &[UNKNOWN]);
    write_to(&journal, "u", 0..5).await;
    drained(&journal).await;
    assert_eq!(journal.statistics().delivered, 7);
}

/// What makes librdkafka's producer give up for ever (KIP-360): another
/// one sends what is left.
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_fails_for_good_is_replaced() {
    use RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER as OUT_OF_ORDER;
    let folder = tempfile::tempdir().unwrap();
    let (mock, _cluster, journal) = start_all(folder.path());
    write(&journal, 0..20).await;
    drained(&journal).await;
    mock.request_errors(RDKafkaApiKey::Produce, &[OUT_OF_ORDER]);
    write(&journal, 20..100).await;
    drained(&journal).await;
    let statistics = journal.statistics();
    assert_eq!((statistics.delivered, statistics.refused), (100, 0));
    assert_eq!(statistics.producers_failed, 1);
    // What was on its way may be there twice.
    let found = read(&mock.bootstrap_servers(), 100);
    assert_eq!(found, (0..100).collect());
}

/// A file whose name says that very many records stand before it, though there
/// is none in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_no_segment_could_have_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(JournalOptions::new(folder.path())).unwrap();
    write(&journal, 0..20).await;
    journal.close();
    let stray = folder.path().join("09999999999999999999.segment");
    std::fs::write(&stray, b"not a record").unwrap();
    let (mock, _cluster, journal) = start_all(folder.path());
    assert!(!stray.exists());
    write(&journal, 20..40).await;
    drained(&journal).await;
    let statistics = journal.statistics();
    assert_eq!((statistics.delivered, statistics.damaged), (40, 0));
    assert_eq!(read(&mock.bootstrap_servers(), 40), (0..40).collect());
}

/// So many that they cannot be noted one by one.
#[tokio::test(flavor = "multi_thread")]
async fn very_many_missing_records_cost_no_memory() {
    const FAR: u64 = 1 << 60;
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let journal = Journal::open(JournalOptions::new(folder.path())).unwrap();
    write(&journal, 0..20).await;
    journal.close();
    // The same journal, as if most of it had gone.
    std::fs::copy(folder.path().join("lock"), other.path().join("lock")).unwrap();
    Delivered::new(FAR).store(other.path()).unwrap();
    let journal = Journal::open(JournalOptions::new(other.path())).unwrap();
    write(&journal, 20..40).await;
    journal.close();
    let name = format!("{FAR:020}.segment");
    std::fs::copy(other.path().join(&name), folder.path().join(&name)).unwrap();
    let (mock, _cluster, journal) = start_all(folder.path());
    drained(&journal).await;
    let statistics = journal.statistics();
    assert_eq!((statistics.delivered, statistics.damaged), (40, FAR - 20));
    assert_eq!(read(&mock.bootstrap_servers(), 40), (0..40).collect());
}

/// Where they are kept nothing can be written for a while: who listens hears of
/// each once, when it is kept, and so is more than one portion.
#[tokio::test(flavor = "multi_thread")]
async fn refused_records_are_told_of_once_they_are_kept() {
    const REFUSED: usize = 20;
    let folder = tempfile::tempdir().unwrap();
    // In the place of the file.
    let place = folder.path().join("refused");
    std::fs::create_dir(&place).unwrap();
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let mut config = ClusterConfig::default();
    config
        .common
        .set("bootstrap.servers", mock.bootstrap_servers());
    // Each is larger than what a client may send.
    config.common.set("message.max.bytes", "1000");
    let cluster = Cluster::open(config).unwrap();
    let journal = Journal::open(JournalOptions::new(folder.path())).unwrap();
    let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let hears = Arc::clone(&told);
    journal.hear_refused(move |refused| {
        let value = refused.record.value.unwrap_or_default();
        hears
            .lock()
            .push(value.first().copied().unwrap_or_default());
    });
    let values = (0..REFUSED).map(|number| vec![u8::try_from(number).unwrap(); 150_000]);
    write_values(&journal, "t", values).await;
    journal.feed(&cluster).unwrap();
    // Time for some attempts, of which nothing tells.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(told.lock().is_empty(), "nothing is kept yet");
    assert_eq!(journal.statistics().refused, 0);
    std::fs::remove_dir(&place).unwrap();
    drained(&journal).await;
    assert_eq!(journal.statistics().refused, REFUSED as u64);
    let mut told = told.lock().clone();
    told.sort_unstable();
    assert_eq!(told, (0..REFUSED as u8).collect::<Vec<u8>>());
    assert!(std::fs::metadata(&place).unwrap().len() > 150_000 * REFUSED as u64);
}
