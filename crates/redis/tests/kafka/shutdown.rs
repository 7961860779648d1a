//! The order in which everything stops.

use crate::support::{Client, Gateway, PATIENCE, Reply, bulk, error, fill, new_topic, stored};
use barnabas_redis::Config;
use barnabas_testkit::{Cluster, Quickest, Stalls, shared, topic_name};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What a busy machine gets on top of the contract's bounds.
const SLACK: Duration = Duration::from_millis(500);

const SHUTDOWN: &str = "CONS Server shutdown";

#[test]
fn a_shutdown_tells_who_waits_commits_what_was_acked_and_delivers_what_was_accepted() {
    let mut told = Quickest::of(3, Duration::from_millis(200) + SLACK);
    let mut over = Quickest::of(3, Duration::from_secs(5));
    while told.is_missing() || over.is_missing() {
        let shutdown = shut_down();
        told.took(shutdown.told);
        over.took(shutdown.over);
    }
}

/// How long a shutdown took.
struct Shutdown {
    /// Until a waiting consumer was told.
    told: Duration,
    over: Duration,
}

fn shut_down() -> Shutdown {
    let mut gateway = Gateway::with(shared(), Config::default(), |config| {
        // Nothing leaves or is committed for another reason than the shutdown.
        config.producer.set("linger.ms", "600000");
        config.producer.set("message.timeout.ms", "1200000");
        config.consumer.set("auto.commit.interval.ms", "600000");
    });
    let consumed = new_topic("shutdown", 1);
    let waited = new_topic("shutdown", 1);
    let produced = new_topic("shutdown", 1);
    fill(&consumed, 1, 3);
    let (idle_group, waiting_group) = (topic_name("idle"), topic_name("waiting"));
    let mut idle = gateway.named(&format!("{idle_group}:one"));
    let message = idle.next(&consumed);
    idle.ack(&message);
    let mut waiting = gateway.named(&format!("{waiting_group}:one"));
    assert_eq!(waiting.pop(&waited, "0.1"), None);
    waiting.send(&["blpop", &format!("topics:{waited}"), "60"]);
    let mut producer = gateway.connect();
    for number in 0..50 {
        producer.produce(&produced, &number.to_string());
    }
    assert_eq!(producer.call(&["dump", "0"]), Reply::Integer(50));
    let mut plain = gateway.connect();
    assert_eq!(plain.call(&["ping"]), Reply::Simple("PONG".to_owned()));
    plain.until_blocked(1);
    assert_eq!(
        shared().committed(&idle_group, &consumed).unwrap().get(&0),
        None
    );
    let address = gateway.address();

    let started = Instant::now();
    let told = std::thread::scope(|scope| {
        let heard = scope.spawn(|| {
            // Exactly this: old clients compare the whole text.
            assert_eq!(waiting.reply(), error(SHUTDOWN));
            let elapsed = started.elapsed();
            waiting.expect_end();
            elapsed
        });
        let drained = gateway.drain();
        assert_eq!((drained.consumers_left, drained.connections_cut), (0, 0));
        heard.join().unwrap()
    });
    // Consumers left at once, then the others were let go.
    let over = started.elapsed();
    for client in [&mut idle, &mut producer, &mut plain] {
        client.expect_end();
    }
    assert!(std::net::TcpStream::connect(address).is_err());
    assert_eq!(shared().committed(&idle_group, &consumed).unwrap()[&0], 1);
    for group in [&idle_group, &waiting_group] {
        assert!(shared().group_members(group).unwrap().is_empty());
    }

    // The last step is the caller's.
    assert_eq!(gateway.flush(PATIENCE), 0);
    let expected: BTreeSet<String> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(stored(shared(), &produced), expected);
    Shutdown { told, over }
}

#[test]
fn a_shutdown_has_bounds_when_the_broker_does_not_answer() {
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("hang", 1).unwrap();
    kafka.produce("hang", None, None, Some(b"0")).unwrap();
    let mut gateway = Gateway::on(&kafka);
    let group = topic_name("hang");
    let mut consumer = gateway.named(&format!("{group}:one"));
    let message = consumer.next("hang");
    consumer.ack(&message);
    let mut producer = gateway.connect();
    producer.produce("hang", "delivered");
    producer.dump();
    // Or it would come later, and leave the consumer idle, who is not told but cut off.
    consumer.next("hang");
    let address = gateway.address();

    kafka.broker(0).pause().unwrap();
    producer.produce("hang", "stuck");
    consumer.send(&["blpop", "topics:hang", "60"]);
    producer.until_blocked(1);
    // Ten seconds are too long to be tried again: what the machine stands still is taken off.
    let stalls = Stalls::watch();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| gateway.drain());
        assert_eq!(consumer.reply(), error(SHUTDOWN));
        let elapsed = started.elapsed().saturating_sub(stalls.total());
        assert!(elapsed < Duration::from_millis(200) + SLACK, "{elapsed:?}");
        consumer.expect_end();

        // While consumers leave, the others are served, new ones too, and nobody consumes.
        let mut newcomer = Client::connect(address);
        assert_eq!(newcomer.call(&["ping", "still"]), bulk("still"));
        newcomer.produce("hang", "accepted");
        newcomer.set_name(&format!("{group}:two"));
        for _ in 0..2 {
            let reply = newcomer.call(&["blpop", "topics:hang", "5"]);
            assert_eq!(reply, error(SHUTDOWN));
        }
        assert_eq!(newcomer.call(&["ping"]), Reply::Simple("PONG".to_owned()));
        // It ends with the count when everybody has to go.
        producer.send(&["dump", "60000"]);
        let undelivered = producer.reply();
        assert_eq!(undelivered, Reply::Integer(1));
        let elapsed = started.elapsed();
        assert!(elapsed >= Duration::from_secs(9), "{elapsed:?}");
        producer.expect_end();
        newcomer.expect_end();
        let drained = drained.join().unwrap();
        assert_eq!((drained.consumers_left, drained.connections_cut), (1, 0));
    });
    // Ten seconds for the consumers, half a second for commands.
    let elapsed = started.elapsed().saturating_sub(stalls.total());
    assert!(
        elapsed < Duration::from_millis(10_500) + 2 * SLACK,
        "{elapsed:?}"
    );
    let limit = Duration::from_secs(1);
    let mut quickest = Quickest::of(5, limit + SLACK);
    while quickest.is_missing() {
        let flushing = Instant::now();
        assert_eq!(gateway.flush(limit), 2);
        quickest.took(flushing.elapsed());
    }
    kafka.broker(0).resume().unwrap();
    assert_eq!(gateway.flush(PATIENCE), 0);
    let expected = ["0", "delivered", "stuck", "accepted"].map(str::to_owned);
    assert_eq!(stored(&kafka, "hang"), expected.into());
}

#[test]
fn a_consumer_without_limit_hears_of_the_shutdown() {
    let mut gateway = Gateway::start();
    let topic = new_topic("no-limit", 1);
    let mut client = gateway.named(&format!("{}:one", topic_name("no-limit")));
    client.send(&["blpop", &format!("topics:{topic}"), "0"]);
    gateway.connect().until_blocked(1);
    gateway.drain();
    assert_eq!(client.reply(), error(SHUTDOWN));
    client.expect_end();
}
