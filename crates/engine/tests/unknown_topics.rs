//! Producing to topics that are not there (yet).

use crate::support::{
    PATIENCE, caller, new_topic, numbers, open, properties, send_all, settle, values,
};
use barnabas_engine::{Error, ErrorCode, KafkaError, Properties, Record};
use barnabas_testkit::{shared, shared_auto_create, topic_name};
use std::time::{Duration, Instant};

/// The contract's bound is 500 ms, on a machine that does nothing else. librdkafka
/// by itself would take this long at least.
const WAITED: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_fails_the_first_messages_and_refuses_the_next() {
    let cluster = open(&shared().bootstrap_servers());
    let unknown = KafkaError::from_code(ErrorCode::UnknownTopic);
    assert_eq!(unknown.to_string(), "Local: Unknown topic");
    let mut first = caller(&cluster);
    let mut second = caller(&cluster);
    // The bound is not about connecting to the broker.
    let known = first.topic(new_topic("known", 1).as_bytes()).unwrap();
    send_all(&mut first, &known, values(&numbers(0..1)));
    settle(&first).await;

    let name = topic_name("missing");
    let missing = first.topic(name.as_bytes()).unwrap();
    let started = Instant::now();
    send_all(&mut first, &missing, values(&numbers(0..3)));
    settle(&first).await;
    let elapsed = started.elapsed();
    assert!(elapsed < WAITED, "{elapsed:?}");
    let report = first.report();
    assert_eq!((report.delivered, report.failed), (1, 3));
    assert_eq!((report.outstanding, report.last_error), (0, Some(unknown)));

    // This caller knows; another one is asked to try first.
    let one = numbers(0..1);
    let sent = first.send(&missing, values(&one));
    assert_eq!((sent.accepted, sent.refused), (0, &[(0, unknown)][..]));
    send_all(&mut second, &missing, values(&one));
    settle(&second).await;
    assert_eq!(second.report().failed, 1);
    assert_eq!(second.send(&missing, values(&one)).refused, [(0, unknown)]);
    let statistics = first.producer().statistics();
    assert_eq!((statistics.failed, statistics.outstanding), (4, 0));

    // Made later, it is used by the callers that are there: they ask once a second.
    shared().create_topic(&name, 1).unwrap();
    let created = Instant::now();
    for caller in [&mut first, &mut second] {
        while caller.send(&missing, values(&one)).accepted == 0 {
            let waited = created.elapsed();
            assert!(waited < WAITED, "{waited:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        settle(caller).await;
    }
    assert_eq!(shared().end_offsets(&name).unwrap()[&0], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_the_broker_creates_loses_nothing() {
    let cluster = open(&shared_auto_create().bootstrap_servers());
    let name = topic_name("created");
    let mut callers = [caller(&cluster), caller(&cluster)];
    let topic = callers[0].topic(name.as_bytes()).unwrap();
    let numbers = numbers(0..2_000);
    for (index, lot) in numbers.chunks(10).enumerate() {
        send_all(&mut callers[index % 2], &topic, values(lot));
    }
    for caller in &callers {
        settle(caller).await;
        assert_eq!(caller.report().failed, 0);
    }
    // One partition: all of each caller in order.
    let records = shared_auto_create().read_all(&name).unwrap();
    assert_eq!(records.len(), numbers.len());
    for which in 0..2 {
        let own: Vec<usize> = records
            .iter()
            .map(|record| record.value_text().parse().unwrap())
            .filter(|number| number / 10 % 2 == which)
            .collect();
        assert!(own.is_sorted(), "{own:?}");
        assert_eq!(own.len(), numbers.len() / 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_kafka_forbids_is_refused_at_once() {
    let cluster = open(&shared().bootstrap_servers());
    let caller = caller(&cluster);
    for (name, text) in [
        (&b""[..], "Local: Invalid argument or configuration"),
        (b"a b", "Broker: Invalid topic"),
        (b"\xff", "Broker: Invalid topic"),
        (b"..", "Broker: Invalid topic"),
        (&[b'x'; 250], "Broker: Invalid topic"),
    ] {
        assert_eq!(caller.topic(name).unwrap_err().to_string(), text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_topics_can_be_listed() {
    let cluster = open(&shared().bootstrap_servers());
    let name = new_topic("listed", 1);
    let producer = cluster.producer(&Properties::new()).unwrap();
    let names = tokio::time::timeout(PATIENCE, producer.topic_names())
        .await
        .unwrap()
        .unwrap();
    assert!(names.contains(&name), "{names:?}");
    assert!(names.is_sorted(), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_can_be_looked_up_before_anything_is_sent_to_it() {
    let cluster = open(&shared().bootstrap_servers());
    let producer = cluster.producer(&Properties::new()).unwrap();
    let unknown = KafkaError::from_code(ErrorCode::UnknownTopic);
    let name = topic_name("looked-up");
    let topic = producer.topic(name.as_bytes()).unwrap();
    let record = Record {
        value: Some(b"first"),
        ..Record::default()
    };
    // The bound is not about connecting to the broker.
    assert_eq!(producer.look_up(&topic).await, Err(unknown));
    let started = Instant::now();
    assert_eq!(producer.look_up(&topic).await, Err(unknown));
    let elapsed = started.elapsed();
    assert!(elapsed < WAITED, "{elapsed:?}");
    assert!(!topic.is_known());
    let refused = producer.submit_to(&topic, None, record, &[], None);
    assert!(refused.is_err());

    shared().create_topic(&name, 2).unwrap();
    let created = Instant::now();
    while producer.look_up(&topic).await.is_err() {
        let waited = created.elapsed();
        assert!(waited < WAITED, "{waited:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(topic.is_known());
    let headers = [("trace", Some(&b"ab1"[..]))];
    let sent = producer.submit_to(&topic, Some(1), record, &headers, Some(7));
    let delivery = sent.unwrap().await.unwrap();
    assert_eq!((delivery.partition, delivery.offset), (1, 0));
    let nowhere = producer.submit_to(&topic, Some(9), record, &[], None);
    assert!(
        matches!(nowhere, Err(Error::Kafka { error }) if error.is(ErrorCode::UnknownPartition))
    );
    // It is the partition that is unknown.
    assert!(topic.is_known());
    let illegal = producer.topic(b"no/topic").err();
    assert_eq!(
        illegal,
        Some(KafkaError::from_code(ErrorCode::InvalidTopic))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_librdkafka_did_not_find_is_found_once_it_is_there() {
    let cluster = open(&shared().bootstrap_servers());
    let own = properties(&[("topic.metadata.propagation.max.ms", "1000")]);
    let producer = cluster.producer(&own).unwrap();
    let name = topic_name("by-name");
    let record = Record {
        value: Some(b"x"),
        ..Record::default()
    };
    // Taken over, as librdkafka does not know; its report says so.
    let submitted = producer.submit(&name, None, record, &[], None).unwrap();
    let Err(Error::Kafka { error }) = submitted.delivered().await else {
        panic!("delivered to nowhere");
    };
    assert!(error.is_unknown_topic(), "{error}");
    shared().create_topic(&name, 1).unwrap();
    // librdkafka asks again every second.
    let created = Instant::now();
    let submitted = loop {
        match producer.submit(&name, None, record, &[], None) {
            Ok(submitted) => break submitted,
            Err(refused) => {
                assert_eq!(refused.to_string(), "Local: Unknown topic");
                let waited = created.elapsed();
                assert!(waited < WAITED, "{waited:?}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    assert_eq!(submitted.delivered().await.unwrap().offset, 0);
    // The topic is not gone because a partition is not there.
    let nowhere = producer.submit(&name, Some(9), record, &[], None);
    assert!(
        matches!(nowhere, Err(Error::Kafka { error }) if error.is(ErrorCode::UnknownPartition))
    );
    let delivery = producer.deliver(&name, None, record, &[], None).await;
    assert_eq!(delivery.unwrap().offset, 1);
}
