//! Accounts, order, partitions, limits.

use crate::support::{
    PATIENCE, caller, eventually, new_topic, numbers, open, properties, send_all, settle, values,
};
use barnabas_engine::{
    CallerLimits, Delivery, DeliverySink, Error, ErrorCode, KafkaError, Producer, Properties,
    Record, Undelivered,
};
use barnabas_testkit::{shared, topic_name};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// CRC-32 (IEEE 802.3), bit by bit: what librdkafka's `consistent_random` takes modulo the number
/// of partitions.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_is_shared_by_all_who_ask_for_the_same_properties() {
    let cluster = open(&shared().bootstrap_servers());
    let topic = new_topic("shared-producer", 1);
    let own = properties(&[("linger.ms", "1")]);
    let (first, second) = (cluster.producer(&own), cluster.producer(&own));
    let other = cluster.producer(&Properties::new()).unwrap();

    let mut caller = first.unwrap().caller(CallerLimits::default());
    let topic = caller.topic(topic.as_bytes()).unwrap();
    send_all(&mut caller, &topic, values(&numbers(0..7)));
    settle(&caller).await;
    assert_eq!(second.unwrap().statistics().delivered, 7);
    assert_eq!(other.statistics().accepted, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_has_an_account_of_its_own_and_waits_for_nobody_else() {
    let cluster = open(&shared().bootstrap_servers());
    let name = new_topic("accounts", 1);
    // Nothing leaves by itself for a minute: `settled` must not wait for that.
    let producer = cluster
        .producer(&properties(&[("linger.ms", "60000")]))
        .unwrap();
    let mut busy = producer.caller(CallerLimits::default());
    let idle = producer.caller(CallerLimits::default());
    assert!(!busy.has_produced());
    let topic = busy.topic(name.as_bytes()).unwrap();
    send_all(&mut busy, &topic, values(&numbers(0..10)));
    assert!(busy.has_produced());
    assert_eq!((busy.outstanding(), idle.outstanding()), (10, 0));
    assert_eq!(producer.statistics().outstanding, 10);
    settle(&idle).await;
    assert_eq!(busy.outstanding(), 10, "nobody has asked for them");

    settle(&busy).await;
    let report = busy.report();
    assert_eq!((report.accepted, report.delivered), (10, 10));
    assert_eq!((report.failed, report.outstanding), (0, 0));
    assert_eq!(report.last_error, None);
    assert_eq!(idle.report().accepted, 0);
    assert_eq!(shared().end_offsets(&name).unwrap()[&0], 10);

    producer.reset_statistics();
    let statistics = producer.statistics();
    assert_eq!((statistics.accepted, statistics.outstanding), (0, 0));
    assert_eq!(cluster.flush(Duration::from_secs(5)).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_caller_keep_their_order_in_each_partition() {
    let cluster = open(&shared().bootstrap_servers());
    let name = new_topic("order", 4);
    let mut callers = [caller(&cluster), caller(&cluster)];
    let topic = callers[0].topic(name.as_bytes()).unwrap();
    let keys: Vec<String> = (0..16).map(|key| format!("key-{key}")).collect();
    let numbers = numbers(0..6_000);
    for (index, lot) in numbers.chunks(100).enumerate() {
        let records = lot.iter().enumerate().map(|(place, value)| Record {
            key: Some(keys[place % keys.len()].as_bytes()),
            value: Some(value.as_bytes()),
        });
        send_all(&mut callers[index % 2], &topic, records);
    }
    settle(&callers[0]).await;
    settle(&callers[1]).await;

    let records = shared().read_all(&name).unwrap();
    let found: BTreeSet<String> = records.iter().map(|record| record.value_text()).collect();
    assert_eq!(found, numbers.iter().cloned().collect());
    assert_eq!(records.len(), numbers.len(), "none is there twice");
    // Who sent a number follows from the number.
    let mut last: BTreeMap<(usize, i32), usize> = BTreeMap::new();
    for record in &records {
        let number: usize = record.value_text().parse().unwrap();
        let before = last.insert((number / 100 % 2, record.partition), number);
        assert!(before.is_none_or(|before| before < number), "{record:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_decides_the_partition_as_it_always_has() {
    let cluster = open(&shared().bootstrap_servers());
    let name = new_topic("keys", 4);
    let mut caller = caller(&cluster);
    let topic = caller.topic(name.as_bytes()).unwrap();
    let mut keys: Vec<String> = ["k", "k1", "kk", "user-42"].map(str::to_owned).into();
    keys.extend((0..60).map(|number| format!("customer {number}")));
    let records = keys.iter().map(|key| Record {
        key: Some(key.as_bytes()),
        value: Some(b""),
    });
    send_all(&mut caller, &topic, records);
    settle(&caller).await;

    let found: BTreeMap<String, i32> = shared()
        .read_all(&name)
        .unwrap()
        .iter()
        .map(|record| (record.key_text(), record.partition))
        .collect();
    assert_eq!(found.len(), keys.len());
    // Measured on the old system.
    for (key, partition) in [("k", 1), ("k1", 1), ("kk", 3), ("user-42", 3)] {
        assert_eq!(found[key], partition, "{key}");
    }
    for (key, partition) in &found {
        let expected = i32::try_from(crc32(key.as_bytes()) % 4).unwrap();
        assert_eq!(*partition, expected, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_is_not_absent() {
    let cluster = open(&shared().bootstrap_servers());
    let name = new_topic("empty", 4);
    // Otherwise keyless messages of the same moment share a partition.
    let own = properties(&[("sticky.partitioning.linger.ms", "0")]);
    let producer = cluster.producer(&own).unwrap();
    let mut caller = producer.caller(CallerLimits::default());
    let topic = caller.topic(name.as_bytes()).unwrap();
    // One before and one after the topic is known: the two ways of a message.
    for lot in ["first", "second"] {
        let record = |key, value| Record { key, value };
        let records = [
            record(None, None),
            record(None, Some(&b""[..])),
            record(Some(&b""[..]), Some(lot.as_bytes())),
        ];
        send_all(&mut caller, &topic, records.iter().copied());
        settle(&caller).await;
    }
    let records = shared().read_all(&name).unwrap();
    let count = |key: Option<&[u8]>, value: Option<&[u8]>| {
        records
            .iter()
            .filter(|record| record.key.as_deref() == key && record.value.as_deref() == value)
            .count()
    };
    assert_eq!(count(None, None), 2, "tombstones: {records:?}");
    assert_eq!(count(None, Some(b"")), 2, "empty values: {records:?}");
    assert_eq!(count(Some(b""), Some(b"first")), 1, "{records:?}");
    assert_eq!(count(Some(b""), Some(b"second")), 1, "{records:?}");

    // By its CRC an empty key would always go to partition 0.
    let many = [Record {
        key: Some(b""),
        value: Some(b"many"),
    }; 60];
    send_all(&mut caller, &topic, many.iter().copied());
    settle(&caller).await;
    let used: BTreeSet<i32> = shared()
        .read_all(&name)
        .unwrap()
        .iter()
        .filter(|record| record.value_text() == "many")
        .map(|record| record.partition)
        .collect();
    assert!(used.len() > 1, "all in {used:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_message_with_everything_gets_an_answer_of_its_own() {
    let cluster = open(&shared().bootstrap_servers());
    let name = new_topic("deliver", 3);
    let producer = cluster.producer(&Properties::new()).unwrap();
    let record = Record {
        key: Some(b"k:1"),
        value: Some(b"v"),
    };
    let headers: [(&str, Option<&[u8]>); 4] = [
        ("trace", Some(b"ab1")),
        ("empty", Some(b"")),
        ("null", None),
        ("trace", Some(b"again")),
    ];
    let timestamp = 1_600_000_000_123;
    for offset in 0..2 {
        let delivery = producer
            .deliver(&name, Some(2), record, &headers, Some(timestamp))
            .await
            .unwrap();
        assert_eq!((delivery.partition, delivery.offset), (2, offset));
        assert_eq!(delivery.timestamp, Some(timestamp));
    }
    let found = &shared().read_all(&name).unwrap()[0];
    assert_eq!(found.key.as_deref(), Some(&b"k:1"[..]));
    assert_eq!(found.timestamp, Some(timestamp));
    let expected = headers.map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)));
    assert_eq!(found.headers, expected);

    let error = producer
        .deliver(&name, Some(99), record, &[], None)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "Local: Unknown partition");
    let error = producer
        .deliver("no such name", None, record, &[], None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("nvalid topic"), "{error}");
    let statistics = producer.statistics();
    assert_eq!((statistics.delivered, statistics.outstanding), (2, 0));
}

/// Number, bytes, and the offset or topic and error.
type Answer = (u64, u64, Result<i64, (String, KafkaError)>);

/// Keeps what it hears.
#[derive(Default)]
struct Heard(Mutex<Vec<Answer>>);

impl DeliverySink for Heard {
    fn settled(&self, number: u64, bytes: u64, result: Result<Delivery, Undelivered<'_>>) {
        let result = result
            .map(|delivery| delivery.offset)
            .map_err(|undelivered| (undelivered.topic.to_owned(), undelivered.error));
        self.0.lock().unwrap().push((number, bytes, result));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_hears_of_all_that_was_submitted_to_it() {
    let cluster = open(&shared().bootstrap_servers());
    let own = properties(&[("topic.metadata.propagation.max.ms", "1000")]);
    let producer = cluster.producer(&own).unwrap();
    let heard = Arc::new(Heard::default());
    let sink: Arc<dyn DeliverySink> = heard.clone();
    let (topic, missing) = (new_topic("sink", 1), topic_name("missing"));
    let there = producer.destination(&topic).unwrap();
    let nowhere = producer.destination(&missing).unwrap();
    let submit = |destination, value: &[u8], number| {
        let record = Record {
            key: Some(b"key"),
            value: Some(value),
        };
        producer.submit_for(destination, Some(0), record, &[], None, (&sink, number))
    };
    for number in 0..100 {
        submit(&there, b"value", 1_000 + number).unwrap();
    }
    submit(&nowhere, b"", 7).unwrap();
    // Refused at once: the sink hears nothing of it.
    let refused = submit(&there, &vec![0; 2_000_000], 8).unwrap_err();
    assert_eq!(refused.to_string(), "Broker: Message size too large");
    assert!(producer.destination("a\0b").is_err());

    let all = || (heard.0.lock().unwrap().len() == 101).then_some(());
    eventually("all answers", all).await;
    let mut heard = heard.0.lock().unwrap();
    heard.sort_by_key(|(number, ..)| *number);
    let (number, bytes, lost) = &heard[0];
    assert_eq!((*number, *bytes), (7, 3));
    let (of_topic, error) = lost.clone().unwrap_err();
    assert_eq!(of_topic, missing);
    assert!(error.is_unknown_topic(), "{error:?}");
    for (offset, answer) in heard[1..].iter().enumerate() {
        assert_eq!(*answer, (1_000 + offset as u64, 8, Ok(offset as i64)));
    }
    assert_eq!(producer.statistics().outstanding, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_submitted_in_one_go() {
    let cluster = open(&shared().bootstrap_servers());
    let own = properties(&[("message.max.bytes", "20000")]);
    let producer = cluster.producer(&own).unwrap();
    let there = producer.destination(&new_topic("many", 1)).unwrap();
    let heard = Arc::new(Heard::default());
    let sink: Arc<dyn DeliverySink> = heard.clone();
    // More than go to librdkafka at a time.
    let large = vec![b'x'; 30_000];
    let records = (0..3_000).map(|number| Record {
        key: Some(b"key"),
        value: Some(if number % 1_000 == 7 {
            &large
        } else {
            b"value"
        }),
    });
    let mut refused = Vec::new();
    producer.submit_all_for(&there, records, (&sink, 50), |number, error| {
        refused.push((number, error));
    });
    let too_large = KafkaError::from_code(ErrorCode::MessageSizeTooLarge);
    let expected = [57, 1_057, 2_057].map(|number| (number, too_large));
    assert_eq!(refused, expected);
    let all = || (heard.0.lock().unwrap().len() == 2_997).then_some(());
    eventually("all answers", all).await;
    let heard = heard.0.lock().unwrap();
    let taken = (50..3_050).filter(|number| number % 1_000 != 57);
    for (offset, (number, answer)) in taken.zip(heard.iter()).enumerate() {
        assert_eq!(*answer, (number, 8, Ok(offset as i64)));
    }
    assert_eq!(producer.statistics().outstanding, 0);
    producer.submit_all_for(&there, [].into_iter(), (&sink, 0), |number, error| {
        panic!("{number} was refused: {error}");
    });
}

/// Makes a caller of its own for what it hears.
struct Calling(Producer, Notify);

impl DeliverySink for Calling {
    fn settled(&self, _: u64, _: u64, _: Result<Delivery, Undelivered<'_>>) {
        drop(self.0.caller(CallerLimits::default()));
        self.1.notify_one();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_may_use_its_producer() {
    let cluster = open(&shared().bootstrap_servers());
    let producer = cluster.producer(&Properties::new()).unwrap();
    let calling = Arc::new(Calling(producer.clone(), Notify::new()));
    let sink: Arc<dyn DeliverySink> = calling.clone();
    let there = producer.destination(&new_topic("calling", 1)).unwrap();
    let record = Record {
        value: Some(b"x"),
        ..Record::default()
    };
    let submitted = producer.submit_for(&there, None, record, &[], None, (&sink, 0));
    submitted.unwrap();
    let heard = tokio::time::timeout(PATIENCE, calling.1.notified()).await;
    if heard.is_err() {
        // The delivery thread waits for itself; so would whoever drops it.
        std::mem::forget(producer);
        panic!("not heard of");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_is_refused_and_harms_no_other() {
    let cluster = open(&shared().bootstrap_servers());
    let name = new_topic("large", 1);
    let mut caller = caller(&cluster);
    let topic = caller.topic(name.as_bytes()).unwrap();
    let large = vec![b'x'; 1_000_001];
    let too_large = KafkaError::from_code(ErrorCode::MessageSizeTooLarge);
    assert_eq!(too_large.to_string(), "Broker: Message size too large");
    // Before and after the topic is known.
    for _ in 0..2 {
        let lot = [&b"before"[..], &large, b"after"].map(|value| Record {
            key: None,
            value: Some(value),
        });
        let sent = caller.send(&topic, lot.iter().copied());
        assert_eq!(sent.accepted, 2);
        assert_eq!(sent.refused, [(1, too_large)]);
        assert_eq!(sent.first_without_room(), None);
        settle(&caller).await;
    }
    let values: Vec<String> = shared()
        .read_all(&name)
        .unwrap()
        .iter()
        .map(|record| record.value_text())
        .collect();
    assert_eq!(values, ["before", "after", "before", "after"]);
    assert_eq!(caller.report().failed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_at_its_limit_is_told_and_told_when_there_is_room() {
    let cluster = open(&shared().bootstrap_servers());
    let name = new_topic("limits", 1);
    let producer = cluster
        // Nothing leaves before somebody waits.
        .producer(&properties(&[("linger.ms", "60000")]))
        .unwrap();
    let mut caller = producer.caller(CallerLimits {
        messages: 10,
        bytes: 1 << 20,
    });
    let mut other = producer.caller(CallerLimits::default());
    let topic = caller.topic(name.as_bytes()).unwrap();
    let full = KafkaError::from_code(ErrorCode::QueueFull);
    assert_eq!(full.to_string(), "Local: Queue full");
    // Before and after the topic is known.
    for round in 0..2_u64 {
        let numbers = numbers(0..12);
        let sent = caller.send(&topic, values(&numbers));
        assert_eq!(sent.accepted, 10);
        assert_eq!(sent.refused, [(10, full), (11, full)]);
        assert_eq!(sent.first_without_room(), Some(10));
        assert_eq!(caller.send(&topic, values(&numbers)).accepted, 0);
        send_all(&mut other, &topic, values(&numbers));
        assert!(caller.outstanding() == 10, "the reports are not in yet");
        settle(&other).await;
        tokio::time::timeout(PATIENCE, caller.room_again())
            .await
            .expect("room comes with the reports");
        assert!(caller.outstanding() < 10);
        settle(&caller).await;
        assert_eq!(caller.report().accepted, 10 * (round + 1));
    }
    assert_eq!(shared().end_offsets(&name).unwrap()[&0], 2 * (10 + 12));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_the_queue_full_is_told_when_there_is_room() {
    const TASKS: usize = 8;
    const EACH: usize = 50;
    let cluster = open(&shared().bootstrap_servers());
    let topic = new_topic("room", 1);
    let own = [("queue.buffering.max.messages", "3"), ("linger.ms", "0")];
    let producer = cluster.producer(&properties(&own)).unwrap();
    let refused = Arc::new(AtomicUsize::new(0));
    let tasks = (0..TASKS).map(|_| {
        let (producer, topic, refused) = (producer.clone(), topic.clone(), Arc::clone(&refused));
        tokio::spawn(async move {
            let record = Record {
                key: None,
                value: Some(b"x"),
            };
            for _ in 0..EACH {
                loop {
                    let room = producer.room_again();
                    match producer.submit(&topic, None, record, &[], None) {
                        Ok(_submitted) => break,
                        Err(Error::Kafka { error }) if error.is(ErrorCode::QueueFull) => {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => panic!("{error}"),
                    }
                    // One that is given up takes nothing away from the others.
                    drop(producer.room_again());
                    tokio::time::timeout(PATIENCE, room)
                        .await
                        .expect("there is room");
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(producer.flush(Instant::now() + PATIENCE).await, 0);
    assert_eq!(producer.statistics().delivered, (TASKS * EACH) as u64);
    assert!(refused.load(Ordering::Relaxed) > 0, "the queue was full");
    tokio::time::timeout(PATIENCE, producer.room_again())
        .await
        .expect("an empty queue has room");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_limited_too_but_one_message_always_fits() {
    let cluster = open(&shared().bootstrap_servers());
    let name = new_topic("bytes", 1);
    let producer = cluster.producer(&Properties::new()).unwrap();
    let mut caller = producer.caller(CallerLimits {
        messages: 1_000,
        bytes: 1_000,
    });
    let topic = caller.topic(name.as_bytes()).unwrap();
    let lot: Vec<String> = vec!["x".repeat(400); 4];
    let sent = caller.send(&topic, values(&lot));
    assert_eq!(sent.accepted, 2);
    assert_eq!(sent.first_without_room(), Some(2));
    settle(&caller).await;
    let larger = ["x".repeat(2_000), "y".to_owned()];
    let started = Instant::now();
    let sent = caller.send(&topic, values(&larger));
    assert_eq!(sent.accepted, 1, "it would never fit otherwise");
    settle(&caller).await;
    send_all(&mut caller, &topic, values(&larger[1..]));
    settle(&caller).await;
    assert!(started.elapsed() < PATIENCE);
    assert_eq!(shared().end_offsets(&name).unwrap()[&0], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn librdkafkas_statistics_are_kept_and_heard() {
    let cluster = open(&shared().bootstrap_servers());
    let silent = cluster.producer(&Properties::new()).unwrap();
    let own = properties(&[("statistics.interval.ms", "50")]);
    let producer = cluster.producer(&own).unwrap();
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    producer.hear_client_statistics(move |json| {
        assert!(json.starts_with('{'), "{json}");
        counter.fetch_add(1, Ordering::Relaxed);
    });
    eventually("two reports", || {
        (heard.load(Ordering::Relaxed) > 1).then_some(())
    })
    .await;
    let latest = producer.client_statistics().unwrap();
    assert!(latest.contains(r#""type": "producer""#) || latest.contains(r#""type":"producer""#));
    assert_eq!(silent.client_statistics(), None);
}
