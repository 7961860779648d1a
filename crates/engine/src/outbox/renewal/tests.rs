//! Clients that fail for good while they have messages, on librdkafka's mock.

use super::super::core::{Absence, Reach};
use super::super::{Answers, Mode, NewRecord, Outbox, OutboxSettings, Payload, Strategy};

use crate::cluster::{Cluster, ClusterConfig};
use crate::error::{ErrorCode, KafkaError};
use crate::producer::Tag;
use crate::properties::Properties;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Headers as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext as Context;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// A mock with the topic, and an outbox for it. One request at a time: the mock
/// does not look at sequences, and would take what comes behind a refused one.
fn start(partitions: i32, own: &[(&str, &str)]) -> (MockCluster<'static, Context>, Outbox) {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", partitions, 1).unwrap();
    let mut config = ClusterConfig::default();
    let servers = mock.bootstrap_servers();
    config.common.set("bootstrap.servers", servers);
    let mut librdkafka = Properties::new();
    librdkafka.set("max.in.flight", "1");
    for (name, value) in own {
        librdkafka.set(*name, *value);
    }
    let settings = OutboxSettings {
        strategy: Strategy::StrictRoundRobin.into(),
        batch_ttl: Duration::from_millis(20).into(),
        sync_timeout: PATIENCE,
        librdkafka,
        ..OutboxSettings::default()
    };
    let cluster = Cluster::open(config).unwrap();
    let outbox = Outbox::builder(&cluster).settings(settings);
    (mock, outbox.start().unwrap())
}

/// Numbers that a partition of the mock has, in order, with the headers of
/// each, up to the last of them.
fn read(servers: &str, partition: i32, last: usize) -> Vec<(usize, Option<String>)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "reader")
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset("t", partition, Offset::Beginning)
        .unwrap();
    consumer.assign(&assignment).unwrap();
    let mut found = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            let text = std::str::from_utf8(message.payload().unwrap()).unwrap();
            let number = text.parse().unwrap();
            let header = message.headers().map(|headers| {
                let header = headers.get(0);
                String::from_utf8_lossy(header.value.unwrap()).into_owned()
            });
            found.push((number, header));
            if number == last {
                break;
            }
        }
    }
    found
}

/// Without those that came again.
fn once(found: &[(usize, Option<String>)]) -> Vec<usize> {
    let mut numbers: Vec<usize> = Vec::new();
    for (number, _) in found {
        if !numbers.contains(number) {
            numbers.push(*number);
        }
    }
    numbers
}

async fn flush(outbox: &Outbox) {
    let left = outbox.flush(Instant::now() + PATIENCE).await;
    assert_eq!(left, 0, "{:#?}", outbox.topics());
    assert_eq!((outbox.info().messages, outbox.info().bytes), (0, 0));
}

/// So many clients are renewed soon: each is in its turn, and a flush need not wait for one that has
/// nothing.
async fn renewed(outbox: &Outbox, count: u64) {
    let started = Instant::now();
    while outbox.info().clients_renewed < count {
        assert!(started.elapsed() < PATIENCE, "{:?}", outbox.info());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(outbox.info().clients_renewed, count);
}

fn fail(outbox: &Outbox) {
    let clients = outbox.shared.parts.clients.read().clone();
    for client in clients.iter() {
        client.fail_for_good();
    }
}

/// What is queued in the client, on its way, in batches and still to come goes
/// on in the order in which it was accepted.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_client_has_goes_on_in_order() {
    let (mock, outbox) = start(1, &[("batch.num.messages", "7"), ("linger.ms", "0")]);
    let topic = outbox.topic("t").unwrap();
    topic.prepare().await.unwrap();
    let mut number = 0;
    let mut next = || {
        number += 1;
        (number - 1).to_string()
    };
    // One request is on its way, others wait in librdkafka's two queues.
    mock.broker_round_trip_time(1, Duration::from_millis(400))
        .unwrap();
    let headers: [(&str, Option<&[u8]>); 1] = [("h", Some(b"1"))];
    let (answers, all) = Answers::new(100);
    for index in 0..300 {
        let value = next();
        let record = NewRecord {
            headers: if index % 5 == 0 { &headers } else { &[] },
            ..NewRecord::of(value.as_bytes())
        };
        // Some with somebody who wants to know, some in batches.
        let hearer = (index % 3 == 0).then(|| (Arc::clone(&answers) as _, index / 3));
        let mode = [Mode::Async, Mode::AsyncBatched][usize::from(index % 20 >= 15)];
        let admission = topic.produce(mode, Payload::One([record]), hearer);
        assert_eq!(admission.all().unwrap(), 1);
        if index == 100 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    fail(&outbox);
    // Before and after it is known.
    for _ in 0..200 {
        assert_eq!(topic.produce_async(next().as_str()).all().unwrap(), 1);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    mock.broker_round_trip_time(1, Duration::ZERO).unwrap();
    flush(&outbox).await;
    let outcomes = all.all().await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    renewed(&outbox, 2).await;
    let found = read(&mock.bootstrap_servers(), 0, 499);
    assert_eq!(once(&found), (0..500).collect::<Vec<_>>());
    for (number, header) in &found {
        let has_header = *number < 300 && number % 5 == 0;
        assert_eq!(header.is_some(), has_header, "{number}");
    }
    // And the next one, which is no different.
    fail(&outbox);
    assert_eq!(topic.produce_async("500").all().unwrap(), 1);
    flush(&outbox).await;
    renewed(&outbox, 4).await;
}

/// What is still in a batch came later than what comes back.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_passes_what_is_batched() {
    let (mock, outbox) = start(1, &[("batch.num.messages", "4"), ("linger.ms", "0")]);
    outbox.reload(OutboxSettings {
        strategy: Strategy::StrictRoundRobin.into(),
        batch_ttl: PATIENCE.into(),
        max_batch_messages: 4.into(),
        ..OutboxSettings::default()
    });
    let topic = outbox.topic("t").unwrap();
    topic.prepare().await.unwrap();
    mock.broker_round_trip_time(1, Duration::from_millis(400))
        .unwrap();
    // One batch is on its way, two wait for it, and one is not full.
    for number in 0..14 {
        let value = number.to_string();
        assert_eq!(
            topic.produce_async_batched(value.as_str()).all().unwrap(),
            1
        );
    }
    assert_eq!(topic.info().batched, 2);
    fail(&outbox);
    // Not before: a flush takes it out of the batch.
    renewed(&outbox, 2).await;
    mock.broker_round_trip_time(1, Duration::ZERO).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    flush(&outbox).await;
    let found = read(&mock.bootstrap_servers(), 0, 13);
    assert_eq!(once(&found), (0..14).collect::<Vec<_>>());
}

/// One that has waited while very many were handed over keeps its place.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_far_behind_keeps_its_place() {
    let (mock, outbox) = start(1, &[("batch.num.messages", "2"), ("linger.ms", "0")]);
    let topic = outbox.topic("t").unwrap();
    topic.prepare().await.unwrap();
    mock.broker_round_trip_time(1, PATIENCE).unwrap();
    let core = outbox.shared.core("t").unwrap();
    for number in 0..12 {
        if number == 6 {
            core.inner.lock().handed_over += Tag::INDICES as u64 - 8;
        }
        let value = number.to_string();
        assert_eq!(topic.produce_async(value.as_str()).all().unwrap(), 1);
    }
    // The last ones have a flight each.
    assert_eq!(core.inner.lock().plain_in_flight, 8);
    fail(&outbox);
    mock.broker_round_trip_time(1, Duration::ZERO).unwrap();
    flush(&outbox).await;
    assert_eq!(core.inner.lock().plain_in_flight, 0);
    let found = read(&mock.bootstrap_servers(), 0, 11);
    assert_eq!(once(&found), (0..12).collect::<Vec<_>>());
}

/// A broker's answer that librdkafka gives up over (KIP-360).
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_a_client_costs_nothing() {
    use RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER as OUT_OF_ORDER;
    let (mock, outbox) = start(2, &[]);
    let topic = outbox.topic("t").unwrap();
    topic.prepare().await.unwrap();
    let write = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            let value = number.to_string();
            assert_eq!(topic.produce_async(value.as_str()).all().unwrap(), 1);
        }
    };
    write(0..20);
    flush(&outbox).await;
    assert_eq!(outbox.info().clients_renewed, 0);
    mock.request_errors(RDKafkaApiKey::Produce, &[OUT_OF_ORDER]);
    write(20..400);
    flush(&outbox).await;
    assert_eq!(outbox.info().clients_renewed, 1);
    let dropped: u64 = topic.info().dropped.iter().map(|(_, count)| count).sum();
    assert_eq!(dropped, 0, "nothing is given up");
    for partition in 0..2 {
        let last = 398 + partition;
        let found = read(
            &mock.bootstrap_servers(),
            i32::try_from(partition).unwrap(),
            last,
        );
        let numbers: Vec<usize> = found.iter().map(|(number, _)| *number).collect();
        let expected: Vec<usize> = (partition..400).step_by(2).collect();
        assert_eq!(numbers, expected, "each once, in order");
    }
}

/// Who waits is told once, and of success.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_hears_from_the_next_client() {
    use RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER as OUT_OF_ORDER;
    let (mock, outbox) = start(1, &[]);
    let topic = outbox.topic("t").unwrap();
    topic.prepare().await.unwrap();
    mock.request_errors(RDKafkaApiKey::Produce, &[OUT_OF_ORDER]);
    let list: Payload<'_> = ["0", "1", "2"].into_iter().collect();
    let offsets: Vec<i64> = topic
        .produce_sync(list)
        .await
        .into_iter()
        .map(|outcome| outcome.unwrap().offset)
        .collect();
    assert_eq!(offsets, [0, 1, 2]);
    assert_eq!(outbox.info().clients_renewed, 1);
    flush(&outbox).await;
}

/// Those who wait for Kafka's word do not pass each other, neither those of one
/// list nor of two calls.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_not_passed_by_who_comes_later() {
    let (mock, outbox) = start(1, &[]);
    let topic = outbox.topic("t").unwrap();
    topic.prepare().await.unwrap();
    let core = outbox.shared.core("t").unwrap();
    let (answers, all) = Answers::new(200);
    for round in 0..100 {
        // As long as a client is being replaced, and until the clock comes.
        core.inner.lock().is_renewing = true;
        let produce = |number: u64| {
            let value = number.to_string();
            let record = NewRecord {
                key: Some(b"k"),
                ..NewRecord::of(value.as_bytes())
            };
            let hearer = (Arc::clone(&answers) as _, number);
            let admission = topic.produce(Mode::Sync, Payload::One([record]), Some(hearer));
            assert_eq!(admission.all().unwrap(), 1);
        };
        produce(2 * round);
        core.inner.lock().is_renewing = false;
        produce(2 * round + 1);
    }
    let outcomes = all.all().await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let found = read(&mock.bootstrap_servers(), 0, 199);
    let numbers: Vec<usize> = found.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>(), "in their order");
}

/// What comes back to a topic that was given up while it was on its way does
/// not wait for one that nobody asks for; once that is long ago, somebody asks.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_to_a_topic_that_was_given_up_does_not_stay() {
    for is_over in [false, true] {
        // One is on its way, the others wait for it.
        let (mock, outbox) = start(1, &[("linger.ms", "0"), ("batch.num.messages", "1")]);
        let topic = outbox.topic("t").unwrap();
        topic.prepare().await.unwrap();
        let core = outbox.shared.core("t").unwrap();
        mock.broker_round_trip_time(1, PATIENCE / 2).unwrap();
        for number in 0..10 {
            let value = number.to_string();
            assert_eq!(topic.produce_async(value.as_str()).all().unwrap(), 1);
        }
        {
            let mut inner = core.inner.lock();
            let now = Instant::now();
            inner.absence = Some(Absence {
                error: KafkaError::from_code(ErrorCode::UnknownTopicOrPartition),
                until: if is_over { now } else { now + 10 * PATIENCE },
            });
            inner.reach = Reach::Starting;
        }
        fail(&outbox);
        mock.broker_round_trip_time(1, Duration::ZERO).unwrap();
        flush(&outbox).await;
        let info = topic.info();
        let dropped: u64 = info.dropped.iter().map(|(_, count)| count).sum();
        // The report of what was on its way may still come.
        assert_eq!(dropped + info.counts.delivered, 10);
        assert_eq!(dropped > 0, !is_over);
    }
}
