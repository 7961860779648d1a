//! Producing to topics that are not there (yet).

use crate::support::{
    PATIENCE, caller, eventually, new_topic, numbers, open, properties, send_all, settle, values,
};
use barnabas_engine::{Error, ErrorCode, KafkaError, Properties, Record};
use barnabas_testkit::{Quickest, shared, shared_auto_create, topic_name};
use std::time::{Duration, Instant};

/// The contract's bound is 500 ms; a machine that runs several brokers gets this much more.
const SLACK: Duration = Duration::from_millis(500);

/// Until it is said that a topic is not there.
fn refusal() -> Quickest {
    Quickest::of(5, Duration::from_millis(500) + SLACK)
}

/// Until a topic that was made later is used: it is asked for once a second.
fn use_of_it() -> Quickest {
    Quickest::of(5, Duration::from_secs(2) + SLACK)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_fails_the_first_messages_and_refuses_the_next() {
    let (mut refusal, mut using) = (refusal(), use_of_it());
    while refusal.is_missing() || using.is_missing() {
        let (refused, used) = send_to_a_missing_topic().await;
        refusal.took(refused);
        using.took(used);
    }
}

/// How long it took to say so, and to use it once it was there.
async fn send_to_a_missing_topic() -> (Duration, Duration) {
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
    let refused = started.elapsed();
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

    // Made later, it is used by the callers that are there.
    shared().create_topic(&name, 1).unwrap();
    let created = Instant::now();
    let mut used = Duration::ZERO;
    for caller in [&mut first, &mut second] {
        eventually("the topic is used", || {
            (caller.send(&missing, values(&one)).accepted > 0).then_some(())
        })
        .await;
        used = created.elapsed();
        settle(caller).await;
    }
    assert_eq!(shared().end_offsets(&name).unwrap()[&0], 2);
    (refused, used)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_the_broker_creates_loses_nothing() {
    let cluster = open(&shared_auto_create().bootstrap_servers());
    let numbers = numbers(0..2_000);
    // The contract gives a broker 300 ms. A busy one takes longer at times, and then messages fail:
    // another topic shows it.
    let mut names = (0..15).map(|_| topic_name("created"));
    let name = loop {
        let name = names.next().expect("a topic that was created in time");
        let mut callers = [caller(&cluster), caller(&cluster)];
        let topic = callers[0].topic(name.as_bytes()).unwrap();
        let mut accepted = 0;
        for (index, lot) in numbers.chunks(10).enumerate() {
            accepted += callers[index % 2].send(&topic, values(lot)).accepted;
        }
        let mut failed = 0;
        for caller in &callers {
            settle(caller).await;
            failed += caller.report().failed;
        }
        if failed == 0 {
            assert_eq!(accepted, numbers.len(), "refused, and none had failed");
            break name;
        }
    };
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
    // Brokers are given two seconds.
    let started = Instant::now();
    let names = loop {
        let asked = tokio::time::timeout(PATIENCE, producer.topic_names());
        match asked.await.unwrap() {
            Ok(names) => break names,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
        }
    };
    assert!(names.contains(&name), "{names:?}");
    assert!(names.is_sorted(), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_can_be_looked_up_before_anything_is_sent_to_it() {
    let (mut refusal, mut using) = (refusal(), use_of_it());
    while refusal.is_missing() || using.is_missing() {
        let (refused, used) = look_a_topic_up().await;
        refusal.took(refused);
        using.took(used);
    }
}

/// How long it took to say that it is not there, and to find it once it was.
async fn look_a_topic_up() -> (Duration, Duration) {
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
    let refused = started.elapsed();
    assert!(!topic.is_known());
    let unsent = producer.submit_to(&topic, None, record, &[], None);
    assert!(unsent.is_err());

    shared().create_topic(&name, 2).unwrap();
    let created = Instant::now();
    while producer.look_up(&topic).await.is_err() {
        assert!(created.elapsed() < PATIENCE, "not found");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let used = created.elapsed();
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
    (refused, used)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_librdkafka_did_not_find_is_found_once_it_is_there() {
    let mut using = use_of_it();
    while using.is_missing() {
        using.took(find_what_librdkafka_did_not().await);
    }
}

async fn find_what_librdkafka_did_not() -> Duration {
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
    let submitted = eventually("the topic is found", || {
        match producer.submit(&name, None, record, &[], None) {
            Ok(submitted) => Some(submitted),
            Err(refused) => {
                assert_eq!(refused.to_string(), "Local: Unknown topic");
                None
            }
        }
    })
    .await;
    let used = created.elapsed();
    assert_eq!(submitted.delivered().await.unwrap().offset, 0);
    // The topic is not gone because a partition is not there.
    let nowhere = producer.submit(&name, Some(9), record, &[], None);
    assert!(
        matches!(nowhere, Err(Error::Kafka { error }) if error.is(ErrorCode::UnknownPartition))
    );
    let delivery = producer.deliver(&name, None, record, &[], None).await;
    assert_eq!(delivery.unwrap().offset, 1);
    used
}
