//! Drivers that are led by hand, on librdkafka's mock.

use super::*;
use crate::acks::Acked;
use crate::admin::NewGroupOffset;
use crate::cluster::{Cluster, ClusterConfig};
use crate::dispatch::partition::Partition;
use crate::dispatch::start::{self, End};
use crate::dispatch::{ConsumedRecord, DispatchConfig, Dispatcher, InitialOffset};
use crate::native::{Partitions, RebalanceProtocol, TopicId};
use crate::properties::Properties;
use barnabas_testkit::NewRecord;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Headers as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext as Context;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(60);

/// What the group has stored of the partition.
fn stored(driver: &Driver) -> i64 {
    let mut list = Partitions::new();
    list.add("t", 0, None);
    driver.client.committed(&mut list, PATIENCE).unwrap();
    list.positions().next().unwrap().offset
}

fn act(driver: &Driver, mut act: impl FnMut(&mut Partition)) {
    let mut is_there = false;
    driver.each_of(&[("t".to_owned(), 0)], |partition| {
        is_there = true;
        act(partition);
    });
    assert!(is_there, "the driver has no such partition");
}

async fn commit_is_done(driver: &mut Driver) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while driver.committing.is_some() {
        assert!(tokio::time::Instant::now() < deadline, "no answer");
        tokio::time::sleep(Duration::from_millis(5)).await;
        driver.serve_events();
    }
}

async fn job_is_done(driver: &mut Driver) {
    let job = tokio::time::timeout(PATIENCE, driver.jobs.join_next());
    let job = job.await.unwrap().unwrap().unwrap();
    driver.finish(job);
}

/// A member of a group, on a mock that has the topic.
fn member() -> (MockCluster<'static, Context>, Cluster, Driver) {
    member_with(DispatchConfig::default(), &[])
}

fn member_with(
    served: DispatchConfig,
    own: &[(&str, &str)],
) -> (MockCluster<'static, Context>, Cluster, Driver) {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let mut config = ClusterConfig::default();
    config
        .common
        .set("bootstrap.servers", mock.bootstrap_servers());
    for (name, value) in own {
        config.producer.set(*name, *value);
    }
    let cluster = Cluster::open(config).unwrap();
    let dispatcher = Dispatcher::start(&cluster, served, &Properties::new()).unwrap();
    let driver = start(&dispatcher.inner, "g").unwrap();
    (mock, cluster, driver)
}

/// However often the group is rebalanced meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_without_a_leader_are_asked_for_once_at_a_time() {
    let (_mock, _cluster, mut driver) = member();
    let late = ("not-there".to_owned(), 0);
    for _ in 0..3 {
        driver.rebalance = Rebalance::Starting {
            protocol: RebalanceProtocol::Cooperative,
            partitions: vec![late.clone()],
        };
        let (starts, unknown) = (Vec::new(), vec![late.clone()]);
        driver.take_on(Starts { starts, unknown });
        assert_eq!(driver.jobs.len(), 1);
    }
    job_is_done(&mut driver).await;
    assert_eq!(driver.jobs.len(), 1, "it is asked for again");
    driver.late.clear();
    job_is_done(&mut driver).await;
    assert_eq!(driver.jobs.len(), 0);
}

/// Begins to read at 5, which is committed at once.
fn begin(driver: &mut Driver) {
    let begins = Start {
        topic: "t".to_owned(),
        partition: 0,
        offset: 5,
        acked: Acked::below(5),
        end: 10,
        differs: true,
        id: None,
    };
    driver.begin(RebalanceProtocol::Eager, vec![begins]);
}

type Answer = JoinHandle<Result<bool, Error>>;

/// A member that has acknowledged up to 5 and has that stored, and for which
/// position 2 has been committed since; its fetcher is about to move there. One
/// more acknowledgement came meanwhile.
async fn about_to_move() -> (MockCluster<'static, Context>, Driver, Answer) {
    let (mock, cluster, mut driver) = member();
    let producer = cluster.producer(&Properties::new()).unwrap();
    for _ in 0..10 {
        let record = crate::producer::Record {
            key: None,
            value: Some(b"x"),
        };
        let sent = producer.deliver("t", Some(0), record, &[], None);
        sent.await.unwrap();
    }
    begin(&mut driver);
    commit_is_done(&mut driver).await;
    assert_eq!(stored(&driver), 5);

    let group = Arc::clone(driver.group());
    let asking = tokio::spawn(async move {
        let position = NewGroupOffset {
            partition: 0,
            offset: 2,
            metadata: String::new(),
        };
        group.set_offsets("t", &[position]).await
    });
    while !driver.is_looking {
        tokio::task::yield_now().await;
        driver.set_offsets();
    }
    job_is_done(&mut driver).await;
    act(&driver, |partition| assert!(partition.ack(5)));
    commit_is_done(&mut driver).await;
    assert_eq!(stored(&driver), 2);
    (mock, driver, asking)
}

/// The next generation may be longer on its way than the pause between commits.
#[tokio::test(flavor = "multi_thread")]
async fn commits_that_are_refused_for_a_moment_lose_nothing() {
    let (mock, _cluster, mut driver) = member();
    let stale = RDKafkaRespErr::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION;
    mock.request_errors(RDKafkaApiKey::OffsetCommit, &[stale; 3]);
    begin(&mut driver);
    for _ in 0..3 {
        commit_is_done(&mut driver).await;
        assert!(driver.stale_since.is_some());
        assert!(!driver.is_lost);
        // Whatever the time that has passed.
        driver.stale_since = Some(Instant::now());
        driver.commit();
    }
    commit_is_done(&mut driver).await;
    assert_eq!(driver.stale_since, None);
    assert_eq!(stored(&driver), 5);
}

/// The group goes on without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_commits_stay_refused_is_lost() {
    let (mock, _cluster, mut driver) = member();
    let stale = RDKafkaRespErr::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION;
    mock.request_errors(RDKafkaApiKey::OffsetCommit, &[stale; 2]);
    begin(&mut driver);
    commit_is_done(&mut driver).await;
    assert!(!driver.is_lost);
    // It was first refused long ago.
    let long_ago = Instant::now().checked_sub(PATIENCE).unwrap();
    driver.stale_since = Some(long_ago);
    driver.commit();
    commit_is_done(&mut driver).await;
    assert!(driver.is_lost);
}

/// One that had to wait for the next generation is refused late, and once.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_refused_late_loses_nothing() {
    let (mock, _cluster, mut driver) = member();
    let stale = RDKafkaRespErr::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION;
    mock.request_errors(RDKafkaApiKey::OffsetCommit, &[stale; 2]);
    begin(&mut driver);
    commit_is_done(&mut driver).await;
    let long_ago = Instant::now().checked_sub(PATIENCE).unwrap();
    driver.stale_since = Some(long_ago);
    driver.commit();
    let Some(Committing::Acks(sent)) = &mut driver.committing else {
        panic!("it is sent");
    };
    sent.at = long_ago;
    commit_is_done(&mut driver).await;
    assert!(!driver.is_lost);
}

/// What was acknowledged before would undo it.
#[tokio::test(flavor = "multi_thread")]
async fn no_commit_comes_between_a_position_and_the_move_to_it() {
    let (_mock, mut driver, asking) = about_to_move().await;
    driver.commit();
    commit_is_done(&mut driver).await;
    assert_eq!(stored(&driver), 2);
    job_is_done(&mut driver).await;
    driver.commit();
    commit_is_done(&mut driver).await;
    assert_eq!(stored(&driver), 2);
    assert!(asking.await.unwrap().unwrap());
    act(&driver, |partition| {
        assert!(!partition.is_held());
        assert_eq!(partition.first_unacknowledged(), 2);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_commit_of_a_partition_that_moves_away_keeps_the_position() {
    let (_mock, mut driver, asking) = about_to_move().await;
    act(&driver, Partition::leave);
    driver.commit();
    commit_is_done(&mut driver).await;
    job_is_done(&mut driver).await;
    driver.commit();
    commit_is_done(&mut driver).await;
    assert_eq!(stored(&driver), 2);
    assert!(asking.await.unwrap().unwrap());
    act(&driver, |partition| assert!(partition.is_leaving()));
}

/// Reading goes on where it was, so that is stored again.
#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_fails_is_undone() {
    let (_mock, mut driver, asking) = about_to_move().await;
    let job = tokio::time::timeout(PATIENCE, driver.jobs.join_next());
    let Job::Sought(found, _) = job.await.unwrap().unwrap().unwrap() else {
        panic!("the fetcher was to move");
    };
    driver.finish_seeking(found, Err("no answer".to_owned()));
    asking.await.unwrap().unwrap_err();
    act(&driver, |partition| {
        assert!(!partition.is_held());
        assert_eq!(partition.first_unacknowledged(), 6);
    });
    driver.commit();
    commit_is_done(&mut driver).await;
    assert_eq!(stored(&driver), 6);
}

/// A message is as large as may be produced here, and even the broker may find it
/// too large with what is added.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_has_room_for_where_it_came_from_or_goes_without() {
    use RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE as TOO_LARGE;
    for is_refused in [false, true] {
        let config = DispatchConfig {
            dead_letter_topic: Some("t".to_owned()),
            ..DispatchConfig::default()
        };
        let (mock, cluster, mut driver) = member_with(config, &[("message.max.bytes", "1000")]);
        let value = vec![b'x'; 1_000];
        let record = crate::producer::Record {
            key: None,
            value: Some(&value),
        };
        let small = cluster.producer(&Properties::new()).unwrap();
        let refused = small.deliver("t", Some(0), record, &[], None).await;
        refused.unwrap_err();
        if is_refused {
            mock.request_errors(RDKafkaApiKey::Produce, &[TOO_LARGE]);
        }
        let headers: Vec<(bytes::Bytes, Option<bytes::Bytes>)> =
            vec![("its own".into(), Some("value".into()))];
        let exhausted = Exhausted {
            partition: 3,
            offset: 7,
            record: Arc::new(ConsumedRecord {
                key: None,
                value: Some(value.clone().into()),
                headers: headers.clone(),
                timestamp: Some(1),
            }),
        };
        let source: Arc<str> = "source".into();
        driver.group.state().exhausted.push((source, exhausted));
        driver.put_away();
        let job = tokio::time::timeout(PATIENCE, driver.jobs.join_next());
        let Job::PutAway(_, _, again) = job.await.unwrap().unwrap().unwrap() else {
            panic!("it was to be put away");
        };
        assert_eq!(again, None, "it is safe");

        let reader: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", mock.bootstrap_servers())
            .set("group.id", "reader")
            .create()
            .unwrap();
        let mut assignment = TopicPartitionList::new();
        let from = Offset::Beginning;
        assignment.add_partition_offset("t", 0, from).unwrap();
        reader.assign(&assignment).unwrap();
        let found = reader.poll(PATIENCE).unwrap().unwrap();
        assert_eq!(found.payload(), Some(&value[..]));
        let names: Vec<&str> = found.headers().unwrap().iter().map(|one| one.key).collect();
        assert_eq!(names.first(), Some(&"its own"));
        assert_eq!(names.contains(&"barnabas-offset"), !is_refused, "{names:?}");
    }
}

/// Members that have not heard yet that a topic was made again store what they
/// know of the old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_in_a_deleted_topic_is_none_in_the_next() {
    let kafka = barnabas_testkit::shared();
    for age in [0, 3_600_000] {
        let is_young = age == 0;
        let topic = barnabas_testkit::topic_name("remade");
        kafka.create_topic(&topic, 1).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let records = ["a", "b", "c"].map(|value| NewRecord {
            value: Some(value.as_bytes()),
            timestamp: Some(i64::try_from(now.as_millis()).unwrap() - age),
            ..NewRecord::default()
        });
        kafka.produce_all(&topic, records).unwrap();

        let mut config = ClusterConfig::default();
        config
            .common
            .set("bootstrap.servers", kafka.bootstrap_servers());
        let cluster = Cluster::open(config).unwrap();
        let served = DispatchConfig {
            initial_offset: InitialOffset::Newest,
            ..DispatchConfig::default()
        };
        let dispatcher = Dispatcher::start(&cluster, served, &Properties::new()).unwrap();
        let mut driver = super::start(&dispatcher.inner, &topic).unwrap();
        let partitions = vec![(topic.clone(), 0)];
        let begins_at = async |driver: &mut Driver| {
            driver.rebalance = Rebalance::Starting {
                protocol: RebalanceProtocol::Eager,
                partitions: partitions.clone(),
            };
            driver.find_starts(Duration::ZERO);
            // Kafka has just started: there may be no coordinator yet, for either.
            let deadline = tokio::time::Instant::now() + PATIENCE;
            while matches!(driver.rebalance, Rebalance::Starting { .. }) {
                assert!(tokio::time::Instant::now() < deadline, "no beginning");
                job_is_done(driver).await;
            }
            let mut first = None;
            driver.each_of(&partitions, |partition| {
                first = Some(partition.first_unacknowledged());
            });
            loop {
                commit_is_done(driver).await;
                let mut is_saved = false;
                driver.each_of(&partitions, |partition| {
                    is_saved = partition.unsaved().is_none();
                });
                if is_saved {
                    break;
                }
                assert!(tokio::time::Instant::now() < deadline, "no commit");
                tokio::time::sleep(Duration::from_millis(50)).await;
                driver.commit();
            }
            first.unwrap()
        };
        let stored = || kafka.committed_with_metadata(&topic, &topic).unwrap()[&0].clone();

        let asked = [(topic.clone(), i64::MAX)];
        let deadline = Instant::now() + PATIENCE;
        // A new partition may have no leader yet.
        while driver.ends.get(&topic).is_none_or(HashMap::is_empty) {
            assert!(Instant::now() < deadline, "no ends");
            driver.ends = start::ends(&driver.client, &asked);
        }
        let end_in = |driver: &Driver| driver.ends[&topic][&0];
        let this_one = end_in(&driver);
        assert_eq!(this_one.offset, 3);
        assert!(this_one.id.is_some(), "Kafka tells ids");
        let remade = End {
            offset: 0,
            ..this_one
        };
        let of_another_is = |driver: &mut Driver, partition| {
            let end = End {
                offset: 2,
                id: TopicId::new(1, 2),
            };
            driver.ends.get_mut(&topic).unwrap().insert(partition, end);
        };
        let of_another = |driver: &mut Driver| of_another_is(driver, 0);

        // Nothing is stored: all of another topic came after the first request.
        of_another(&mut driver);
        assert_eq!(begins_at(&mut driver).await, 0);
        assert_eq!(stored(), (0, String::new()));
        assert_eq!(end_in(&driver), remade);

        // A position beyond the end; all below 2, and 3, which this topic does not have
        // yet; the same without any below.
        for (offset, metadata) in [(5, ""), (2, "BB"), (0, "EB")] {
            let mut stale = Partitions::new();
            stale.add_with_metadata(&topic, 0, offset, metadata);
            let store = |driver: &Driver| {
                assert_eq!(driver.client.commit_to(Some(&stale), &driver.events), 0);
                // Whatever else there is to say.
                while driver.events.poll(PATIENCE).unwrap().kind() != EventKind::OffsetCommit {}
                assert_eq!(stored(), (offset, metadata.to_owned()));
            };
            store(&driver);
            let begins = begins_at(&mut driver).await;
            assert_eq!(begins, offset, "it may be of this one");
            of_another(&mut driver);
            if !is_young {
                assert_eq!(begins_at(&mut driver).await, offset, "they have heard");
                continue;
            }
            assert_eq!(begins_at(&mut driver).await, 0);
            assert_eq!(stored(), (0, String::new()));
            assert_eq!(end_in(&driver), remade);

            // The other topic had another partition only.
            store(&driver);
            driver.ends.get_mut(&topic).unwrap().clear();
            of_another_is(&mut driver, 1);
            assert_eq!(begins_at(&mut driver).await, 0);
            assert_eq!(end_in(&driver), remade);
            driver.ends.get_mut(&topic).unwrap().remove(&1);
        }
        driver.ends.get_mut(&topic).unwrap().clear();
        driver.each_of(&partitions, |partition| partition.tracker().unsave());
        driver.commit();
        commit_is_done(&mut driver).await;
        assert_eq!(end_in(&driver), remade, "a partition that was not there");
    }
}
