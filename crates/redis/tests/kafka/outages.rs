//! Brokers that go, under load too.

use crate::support::{Gateway, LATE, PATIENCE, Reply, error, eventually, stored};
use barnabas_testkit::{Cluster, Quickest, topic_name};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What one connection may have under way (contract, section 11, row 3).
const LIMIT: usize = 100_000;

#[test]
fn while_the_broker_is_down_messages_wait_up_to_the_limit_and_all_recover() {
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("down", 2).unwrap();
    let gateway = Gateway::on(&kafka);
    let group = topic_name("down");
    let mut consumer = gateway.named(&format!("{group}:one"));
    let mut producer = gateway.connect();
    let mut other = gateway.connect();
    let mut leaver = gateway.connect();
    producer.produce("down", "before");
    producer.dump();
    let before = consumer.next("down");
    assert_eq!(before.value, "before");
    consumer.ack(&before);

    kafka.broker(0).stop().unwrap();
    let numbers: Vec<String> = (0..LIMIT).map(|number| number.to_string()).collect();
    for lot in numbers.chunks(1_000) {
        let mut command = vec!["rpushx", "topics:down"];
        command.extend(lot.iter().map(String::as_str));
        assert_eq!(producer.call(&command), Reply::Integer(1_000));
    }
    // The next one is held up for half a second, then refused; others are not concerned.
    let started = Instant::now();
    let full = producer.call(&["rpushx", "topics:down", "too much"]);
    assert_eq!(full, error("PROD Local: Queue full"));
    assert!(started.elapsed() >= Duration::from_millis(500));
    // In EXEC, too, once for all its commands.
    for command in [
        &["multi"][..],
        &["rpushx", "topics:down", "x"],
        &["rpushx", "topics:down", "y"],
    ] {
        producer.call(command);
    }
    let started = Instant::now();
    let refused = error("PROD Local: Queue full");
    assert_eq!(
        producer.call(&["exec"]),
        Reply::Array(vec![refused.clone(), refused])
    );
    assert!(started.elapsed() >= Duration::from_millis(500));
    other.produce("down", "other");
    assert_eq!(
        producer.call(&["dump", "100"]),
        Reply::Integer(LIMIT.try_into().unwrap())
    );
    assert_eq!(other.call(&["dump", "100"]), Reply::Integer(1));

    // Nothing to read is no error, and not late.
    let told = Duration::from_secs(1);
    let mut quickest = Quickest::of(5, told + LATE);
    while quickest.is_missing() {
        let started = Instant::now();
        assert_eq!(consumer.pop("down", "1"), None);
        let elapsed = started.elapsed();
        assert!(elapsed >= told, "{elapsed:?}");
        quickest.took(elapsed);
    }
    // Two seconds by contract; then an error.
    let mut quickest = Quickest::of(3, Duration::from_secs(3));
    while quickest.is_missing() {
        let started = Instant::now();
        let Reply::Error(text) = other.call(&["keys", "topics:"]) else {
            panic!("no error");
        };
        quickest.took(started.elapsed());
        assert!(
            text.starts_with("ERR Error getting metadata: Local: "),
            "{text}"
        );
    }
    // Also who asks while another waits: two seconds for each.
    let (mut early, mut late) = (gateway.connect(), gateway.connect());
    let mut quickest = Quickest::of(3, Duration::from_secs(3));
    while quickest.is_missing() {
        early.send(&["keys", "topics:"]);
        std::thread::sleep(Duration::from_millis(300));
        let started = Instant::now();
        assert!(matches!(late.call(&["keys", "topics:"]), Reply::Error(_)));
        quickest.took(started.elapsed());
        assert!(matches!(early.reply(), Reply::Error(_)));
    }
    // Who leaves with messages under way is counted after five seconds.
    for number in 0..5 {
        leaver.produce("down", &format!("left {number}"));
    }
    let left = Instant::now();
    leaver.quit();
    eventually("the count of unflushed messages", || {
        (other.stat("producer.unflushed.messages") == 5).then_some(())
    });
    assert!(left.elapsed() >= Duration::from_secs(5));

    kafka.broker(0).start().unwrap();
    producer.dump();
    other.dump();
    eventually("the messages of the one who left", || {
        (other.stat("producer.messages.outstanding") == 0).then_some(())
    });
    assert_eq!(other.stat("producer.delivery.errors"), 0);
    let mut expected: BTreeSet<String> = numbers.into_iter().collect();
    expected.extend(["before", "other"].map(str::to_owned));
    expected.extend((0..5).map(|number| format!("left {number}")));
    assert_eq!(stored(&kafka, "down"), expected);
    let message = consumer.next("down");
    consumer.ack(&message);
    producer.produce("down", "after");
    producer.dump();
}

/// Several connections produce while a broker goes and comes back; everything that was accepted and
/// for which DUMP said `:0` without delivery errors is in Kafka, and everything has been consumed.
fn everything_acknowledged_is_there(kafka: &Cluster, topic: &str, outage: impl FnOnce()) {
    const PRODUCERS: usize = 4;
    let gateway = Gateway::on(kafka);
    let group = topic_name("load");
    let accepted: Mutex<BTreeSet<String>> = Mutex::default();
    let consumed: Mutex<BTreeSet<String>> = Mutex::default();
    let is_over = AtomicBool::new(false);
    let finished = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (gateway, accepted, is_over, finished) = (&gateway, &accepted, &is_over, &finished);
            scope.spawn(move || {
                let mut client = gateway.connect();
                let mut number = 0;
                while !is_over.load(Ordering::Acquire) {
                    let value = format!("{producer}-{number}");
                    number += 1;
                    let key = format!("topics:{topic}:{}", number % 16);
                    // Whatever is refused is not promised.
                    if client.call(&["rpushx", &key, &value]) == Reply::Integer(1) {
                        accepted.lock().unwrap().insert(value);
                    }
                    // A steady load of some thousand messages a second, not a flood.
                    std::thread::sleep(Duration::from_micros(500));
                }
                let undelivered = client.call(&["dump", "60000"]);
                finished.fetch_add(1, Ordering::AcqRel);
                assert_eq!(undelivered, Reply::Integer(0));
            });
        }
        scope.spawn(|| {
            let mut client = gateway.named(&format!("{group}:one"));
            let mut last = Instant::now();
            // Until all is delivered and all of it read.
            while last.elapsed() < PATIENCE {
                if finished.load(Ordering::Acquire) < PRODUCERS {
                    // Its silence may be the outage's.
                    last = Instant::now();
                } else if consumed.lock().unwrap().len() >= accepted.lock().unwrap().len() {
                    break;
                }
                // An outage is silence for a consumer, never an error.
                if let Some(message) = client.pop(topic, "0.5") {
                    last = Instant::now();
                    client.call(&["rpush", "acks", &message.ack()]);
                    consumed.lock().unwrap().insert(message.value);
                }
            }
        });
        let at_least = |count: usize| {
            eventually("messages", || {
                (accepted.lock().unwrap().len() >= count).then_some(())
            });
        };
        at_least(1_000);
        outage();
        let so_far = accepted.lock().unwrap().len();
        at_least(so_far + 1_000);
        is_over.store(true, Ordering::Release);
    });
    let accepted = accepted.into_inner().unwrap();
    println!("{} messages", accepted.len());
    assert_eq!(gateway.connect().stat("producer.delivery.errors"), 0);
    let found = stored(kafka, topic);
    let lost: Vec<&String> = accepted.difference(&found).take(10).collect();
    assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
    // What was not refused is all there is.
    assert_eq!(found.len(), accepted.len());
    let consumed = consumed.into_inner().unwrap();
    let unread: Vec<&String> = accepted.difference(&consumed).take(10).collect();
    assert!(unread.is_empty(), "there and not consumed: {unread:?}");
}

#[test]
fn nothing_is_lost_when_the_only_broker_is_away_for_ten_seconds() {
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("load", 3).unwrap();
    everything_acknowledged_is_there(&kafka, "load", || {
        let broker = kafka.broker(0);
        broker.stop().unwrap();
        std::thread::sleep(Duration::from_secs(10));
        broker.start().unwrap();
    });
}

#[test]
fn nothing_is_lost_when_one_of_three_brokers_is_killed_for_ten_seconds() {
    let kafka = Cluster::builder().brokers(3).start().unwrap();
    kafka.create_topic("load", 3).unwrap();
    everything_acknowledged_is_there(&kafka, "load", || {
        let victim = kafka.broker(kafka.leaders("load").unwrap()[&0]);
        victim.kill().unwrap();
        std::thread::sleep(Duration::from_secs(10));
        victim.start().unwrap();
    });
}
