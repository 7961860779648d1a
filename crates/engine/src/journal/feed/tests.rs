//! Errors that Kafka is made to answer with.

use super::*;
use crate::cluster::Cluster;
use crate::journal::delivered::Delivered;
use crate::journal::{Journal, JournalOptions, JournalRecord, JournalStatistics, SyncMode};
use crate::producer::Record;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext as Context;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use std::time::Instant;

async fn write(journal: &Journal, range: Range<u32>) {
    for number in range {
        let value = number.to_le_bytes();
        let record = JournalRecord {
            topic: "t",
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
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let (cluster, journal) = feed(&mock, JournalOptions::new(folder));
    (mock, cluster, journal)
}

fn feed(mock: &MockCluster<'_, Context>, options: JournalOptions) -> (Cluster, Journal) {
    let mut config = ClusterConfig::default();
    config
        .common
        .set("bootstrap.servers", mock.bootstrap_servers());
    let cluster = Cluster::open(config).unwrap();
    let journal = Journal::open(options).unwrap();
    journal.feed(&cluster).unwrap();
    (cluster, journal)
}

async fn eventually(what: &str, journal: &Journal, is_so: impl Fn(JournalStatistics) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so(journal.statistics()) {
        let statistics = journal.statistics();
        assert!(Instant::now() < deadline, "{what}: {statistics:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
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

/// One that cannot be kept aside, because the disk is full: the others go on,
/// and their segments make room.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_that_the_disk_does_not_take_holds_up_nothing() {
    use RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as TOO_LARGE;
    let folder = tempfile::tempdir().unwrap();
    let in_its_way = folder.path().join("refused");
    std::fs::create_dir(&in_its_way).unwrap();
    let options = || JournalOptions {
        segment_bytes: 1_000,
        sync: SyncMode::Os,
        ..JournalOptions::new(folder.path())
    };
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    // Of its batch, and then of itself.
    mock.request_errors(RDKafkaApiKey::Produce, &[TOO_LARGE, TOO_LARGE]);
    let (_cluster, journal) = feed(&mock, options());
    let (tell, told) = std::sync::mpsc::channel();
    journal.hear_refused(move |_| {
        let _ = tell.send(());
    });
    write(&journal, 0..1).await;
    let told = tokio::task::spawn_blocking(move || told.recv_timeout(Duration::from_secs(60)));
    told.await.unwrap().unwrap();
    write(&journal, 1..300).await;
    eventually("the others", &journal, |now| now.delivered == 299).await;
    // That of the refused one, and the last.
    eventually("room", &journal, |now| now.segments <= 2).await;
    assert_eq!(journal.undelivered(), 1);
    journal.close();
    // The next process does not miss them, and has room.
    std::fs::remove_dir(&in_its_way).unwrap();
    let (_cluster, journal) = feed(&mock, options());
    drained(&journal).await;
    let statistics = journal.statistics();
    assert_eq!((statistics.delivered, statistics.damaged), (1, 0));
}
