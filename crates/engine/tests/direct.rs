//! The producer with one owner, on real Kafka.

use barnabas_engine::{
    DirectConfig, DirectObserver, DirectOutcome, DirectProducer, DirectRecord, ErrorCode,
    KafkaError, ViewError,
};
use barnabas_testkit::{Quickest, shared, topic_name};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// What the observer has heard.
#[derive(Debug, PartialEq)]
enum Heard {
    Ended(i32, u64),
    Drained,
    Error(i32),
    Statistics,
}

struct Ear {
    heard: Mutex<Sender<Heard>>,
    lines: Mutex<Vec<String>>,
}

impl Ear {
    fn hear(&self, heard: Heard) {
        // A test that has seen enough is gone.
        let _ = self.heard.lock().unwrap().send(heard);
    }
}

impl DirectObserver for Ear {
    fn log(&self, _level: i32, facility: &str, text: &str) {
        self.lines
            .lock()
            .unwrap()
            .push(format!("{facility} {text}"));
    }
    fn error(&self, error: KafkaError, _reason: &str, _is_fatal: bool) {
        self.hear(Heard::Error(error.number()));
    }
    fn statistics(&self, json: String) {
        assert!(json.starts_with('{'), "{json}");
        self.hear(Heard::Statistics);
    }
    fn ended(&self, error: KafkaError, messages: u64) {
        self.hear(Heard::Ended(error.number(), messages));
    }
    fn drained(&self) {
        self.hear(Heard::Drained);
    }
}

struct Setup {
    producer: DirectProducer,
    heard: Receiver<Heard>,
    ear: Arc<Ear>,
}

fn start(address: &str, client: &[(&str, &str)], topics: &[(&str, &str)]) -> Setup {
    let (sender, heard) = channel();
    let ear = Arc::new(Ear {
        heard: Mutex::new(sender),
        lines: Mutex::default(),
    });
    let owned = |properties: &[(&str, &str)]| -> Vec<(String, String)> {
        let properties = properties.iter();
        properties
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    let config = DirectConfig {
        client: owned(&[&[("bootstrap.servers", address)], client].concat()),
        topics: owned(topics),
        has_statistics: client
            .iter()
            .any(|(name, _)| *name == "statistics.interval.ms"),
    };
    let observer: Arc<dyn DirectObserver> = Arc::clone(&ear) as _;
    Setup {
        producer: DirectProducer::start(config, observer).unwrap(),
        heard,
        ear,
    }
}

/// Waits until nothing is on its way.
fn all_told(producer: &DirectProducer) {
    let started = Instant::now();
    while producer.outstanding() > 0 {
        assert!(started.elapsed() < PATIENCE, "{}", producer.outstanding());
        std::thread::yield_now();
    }
}

fn plain(value: &[u8]) -> DirectRecord<'_> {
    DirectRecord {
        value: Some(value),
        ..DirectRecord::default()
    }
}

fn submit(
    producer: &DirectProducer,
    topic: &str,
    records: &[DirectRecord<'_>],
) -> Receiver<Vec<DirectOutcome>> {
    let (sender, outcomes) = channel();
    let sink = move |all| sender.send(all).unwrap();
    producer.submit(topic, 0, records, Box::new(sink)).unwrap();
    outcomes
}

fn topic(partitions: i32) -> String {
    let topic = topic_name("direct");
    shared().create_topic(&topic, partitions).unwrap();
    topic
}

#[test]
fn values_are_delivered_in_order_and_counted_until_then() {
    let topic = topic(1);
    let setup = start(
        &shared().bootstrap_servers(),
        // Or they would be a full batch, which leaves at once.
        &[("linger.ms", "100000"), ("batch.num.messages", "20000")],
        &[],
    );
    let values: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
    let bytes = values.iter().map(|value| Some(value.as_bytes()));
    let taken = setup.producer.send_values(&topic, 0, bytes).unwrap();
    assert_eq!(taken, 10_000);
    assert_eq!(setup.producer.outstanding(), 10_000);
    // Draining sends at once; successes are reported unless they are not wanted.
    let _draining = setup.producer.drain().unwrap();
    let mut delivered = 0;
    loop {
        match setup.heard.recv_timeout(PATIENCE).unwrap() {
            Heard::Ended(0, messages) => delivered += messages,
            Heard::Drained => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((delivered, setup.producer.outstanding()), (10_000, 0));
    let records = shared().read_all(&topic).unwrap();
    let stored: Vec<String> = records.iter().map(|record| record.value_text()).collect();
    assert_eq!(stored, values);
}

#[test]
fn a_full_queue_takes_a_prefix_and_says_what_it_did_not_take() {
    let setup = start(
        "127.0.0.1:1",
        &[
            ("queue.buffering.max.messages", "5000"),
            ("message.max.bytes", "1000"),
        ],
        &[],
    );
    let long = vec![b'x'; 2000];
    let records = [plain(b"a"), plain(&long), plain(b"b")];
    let mut refused = Vec::new();
    let taken = setup.producer.send("t", 0, &records, |index, error| {
        refused.push((index, error.number()));
    });
    assert_eq!(taken.unwrap(), 2);
    assert_eq!(refused, [(1, ErrorCode::MessageSizeTooLarge as i32)]);
    // More than one call to librdkafka.
    let many = (0..20_000).map(|_| Some(b"x".as_slice()));
    assert_eq!(setup.producer.send_values("t", 0, many).unwrap(), 4_998);
    let mut refused = BTreeMap::new();
    let with_header = DirectRecord {
        headers: vec![("h", None)],
        ..plain(b"c")
    };
    let records = [plain(b"a"), with_header, plain(b"b")];
    let taken = setup.producer.send("t", 0, &records, |index, error| {
        refused.insert(index, error.number());
    });
    assert_eq!(taken.unwrap(), 0);
    let full = ErrorCode::QueueFull as i32;
    assert_eq!(refused, BTreeMap::from([(0, full), (1, full), (2, full)]));
    assert_eq!(setup.producer.outstanding(), 5_000);
}

#[test]
fn what_is_submitted_waits_for_room_in_its_order() {
    let topic = topic(1);
    let setup = start(
        &shared().bootstrap_servers(),
        &[("queue.buffering.max.messages", "7"), ("linger.ms", "1")],
        &[],
    );
    let values: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    let calls: Vec<_> = values
        .chunks(100)
        .map(|chunk| {
            let records: Vec<_> = chunk.iter().map(|value| plain(value.as_bytes())).collect();
            submit(&setup.producer, &topic, &records)
        })
        .collect();
    let mut offsets = Vec::new();
    for call in calls {
        let outcomes = call.recv_timeout(PATIENCE).unwrap();
        assert!(outcomes.iter().all(|outcome| outcome.error.is_none()));
        offsets.extend(outcomes.iter().map(|outcome| outcome.offset));
    }
    assert_eq!(offsets, (0..300).collect::<Vec<i64>>());
    let records = shared().read_all(&topic).unwrap();
    let stored: Vec<String> = records.iter().map(|record| record.value_text()).collect();
    assert_eq!(stored, values);
}

#[test]
fn closing_tells_those_who_wait() {
    let mut quickest = Quickest::of(3, Duration::from_secs(2));
    while quickest.is_missing() {
        quickest.took(close_while_somebody_waits());
    }
}

fn close_while_somebody_waits() -> Duration {
    let setup = start("127.0.0.1:1", &[("queue.buffering.max.messages", "1")], &[]);
    let outcomes = submit(
        &setup.producer,
        "t",
        &[plain(b"in the queue"), plain(b"waits")],
    );
    assert_eq!(setup.producer.outstanding(), 2);
    let closing = Instant::now();
    drop(setup.producer);
    let closed = closing.elapsed();
    let outcomes = outcomes.recv_timeout(PATIENCE).unwrap();
    assert_eq!(outcomes.len(), 2);
    for outcome in outcomes {
        assert!(outcome.error.unwrap().is(ErrorCode::BrokerDestroy));
    }
    closed
}

#[test]
fn failures_and_errors_are_told_with_their_numbers_and_the_log_is_ones_own() {
    let setup = start(
        "127.0.0.1:1",
        &[("linger.ms", "1"), ("statistics.interval.ms", "50")],
        &[("message.timeout.ms", "50")],
    );
    let values = [Some(b"a".as_slice()), None];
    assert_eq!(
        setup
            .producer
            .send_values("t", 0, values.into_iter())
            .unwrap(),
        2
    );
    let mut wanted = vec![
        Heard::Ended(ErrorCode::MessageTimedOut as i32, 2),
        Heard::Error(ErrorCode::BrokerTransportFailure as i32),
        Heard::Statistics,
    ];
    while !wanted.is_empty() {
        let heard = setup.heard.recv_timeout(PATIENCE).unwrap();
        wanted.retain(|one| *one != heard);
    }
    let lines = setup.ear.lines.lock().unwrap();
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("FAIL") && line.contains("Connection refused")),
        "{lines:?}"
    );
}

#[test]
fn properties_are_refused_in_librdkafkas_words() {
    let (sender, _heard) = channel();
    let ear = Arc::new(Ear {
        heard: Mutex::new(sender),
        lines: Mutex::default(),
    });
    let config = DirectConfig {
        client: vec![("x".to_owned(), "1".to_owned())],
        ..DirectConfig::default()
    };
    let refusal = DirectProducer::start(config, ear).unwrap_err();
    assert_eq!(refusal.to_string(), "No such configuration property: \"x\"");
    let setup = start("127.0.0.1:1", &[], &[("acks", "many")]);
    let refusal = setup.producer.check_topic("t").unwrap_err();
    assert_eq!(
        refusal.0,
        "Invalid value for configuration property \"request.required.acks\""
    );
    let view = setup.producer.view("t", Duration::from_millis(10));
    assert_eq!(view, Err(ViewError::Refused(refusal)));
}

#[test]
fn a_topic_is_described_whole() {
    let topic = topic(3);
    let setup = start(&shared().bootstrap_servers(), &[], &[]);
    let view = setup.producer.viewer().view(&topic, PATIENCE).unwrap();
    assert_eq!((view.brokers.len(), view.topics.len()), (1, 1));
    assert_eq!(
        (view.topics[0].name.as_str(), view.topics[0].error),
        (topic.as_str(), 0)
    );
    let partitions = &view.topics[0].partitions;
    let ids: Vec<i32> = partitions.iter().map(|partition| partition.id).collect();
    assert_eq!(ids, [0, 1, 2]);
    for partition in partitions {
        assert_eq!((partition.leader, partition.error), (0, 0));
        assert_eq!(
            (&*partition.replicas, &*partition.in_sync),
            ([0].as_slice(), [0].as_slice())
        );
    }
}

#[test]
fn what_is_sent_while_draining_does_not_wait_for_linger() {
    let topic = topic(1);
    let setup = start(
        &shared().bootstrap_servers(),
        &[("linger.ms", "100000")],
        &[],
    );
    let _draining = setup.producer.drain().unwrap();
    for round in 0..3 {
        while setup.heard.recv_timeout(PATIENCE).unwrap() != Heard::Drained {}
        // There was a moment at which nothing was outstanding.
        let values = [Some(b"more".as_slice())].into_iter();
        let taken = setup.producer.send_values(&topic, 0, values).unwrap();
        assert_eq!((round, taken), (round, 1));
        while setup.heard.recv_timeout(PATIENCE).unwrap() != Heard::Ended(0, 1) {}
    }
}

#[test]
fn closing_waits_for_the_thread_that_drains() {
    let setup = start("127.0.0.1:1", &[], &[]);
    let values = [Some(b"stays".as_slice())].into_iter();
    setup.producer.send_values("t", 0, values).unwrap();
    let draining = setup.producer.drain().unwrap();
    drop(draining);
    drop(setup.producer);
    assert_eq!(Arc::strong_count(&setup.ear), 1, "nobody can call it");
}

/// Notes, each time that it is told of messages, what was outstanding then.
struct Watch {
    producer: OnceLock<Weak<DirectProducer>>,
    noted: Mutex<Sender<(u64, u64)>>,
}

impl DirectObserver for Watch {
    fn log(&self, _level: i32, _facility: &str, _text: &str) {}
    fn error(&self, _error: KafkaError, _reason: &str, _is_fatal: bool) {}
    fn statistics(&self, _json: String) {}
    fn ended(&self, _error: KafkaError, messages: u64) {
        let producer = self.producer.wait().upgrade().unwrap();
        let noted = (messages, producer.outstanding());
        self.noted.lock().unwrap().send(noted).unwrap();
    }
    fn drained(&self) {}
}

#[test]
fn who_sees_that_nothing_is_outstanding_has_been_told_everything() {
    let (sender, noted) = channel();
    let watch = Arc::new(Watch {
        producer: OnceLock::new(),
        noted: Mutex::new(sender),
    });
    let property = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let config = DirectConfig {
        client: vec![
            property("bootstrap.servers", "127.0.0.1:1"),
            property("queue.buffering.max.kbytes", "1"),
            property("message.timeout.ms", "50"),
        ],
        ..DirectConfig::default()
    };
    let observer: Arc<dyn DirectObserver> = Arc::clone(&watch) as _;
    let producer = Arc::new(DirectProducer::start(config, observer).unwrap());
    watch.producer.set(Arc::downgrade(&producer)).unwrap();
    let values = [Some(b"a".as_slice()), None].into_iter();
    assert_eq!(producer.send_values("t", 0, values).unwrap(), 2);
    let mut told = 0;
    while told < 2 {
        let (messages, outstanding) = noted.recv_timeout(PATIENCE).unwrap();
        assert!(outstanding >= messages, "{outstanding} of {messages}");
        told += messages;
    }
    all_told(&producer);

    // The same for what never finds room: it waits until it is refused.
    let (sender, seen) = channel();
    let watched = Arc::downgrade(&producer);
    let sink = move |outcomes: Vec<DirectOutcome>| {
        let outstanding = watched.upgrade().unwrap().outstanding();
        sender.send((outcomes, outstanding)).unwrap();
    };
    let large = [b'x'; 2000];
    producer
        .submit("t", 0, &[plain(&large)], Box::new(sink))
        .unwrap();
    let (outcomes, outstanding) = seen.recv_timeout(PATIENCE).unwrap();
    assert!(outcomes[0].error.unwrap().is(ErrorCode::QueueFull));
    assert_eq!(outstanding, 1);
    all_told(&producer);
}
