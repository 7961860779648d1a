//! Brokers that go and come back.

use crate::support::{
    PATIENCE, at, caller, eventually, join, next, numbers, open, read, send_all, settle, values,
};
use barnabas_engine::{DispatchConfig, Dispatcher, Properties, Proxy, ProxyOptions};
use barnabas_testkit::{Cluster, topic_name};
use std::collections::BTreeSet;
use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn producer_and_consumer_outlive_a_restart_of_the_broker() {
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("restart", 1).unwrap();
    let cluster = open(&kafka.bootstrap_servers());
    let group = topic_name("restart");
    let mut caller = caller(&cluster);
    let topic = caller.topic(b"restart").unwrap();
    send_all(&mut caller, &topic, values(&numbers(0..10)));
    settle(&caller).await;
    // The member outlives a slow start of the broker.
    let own = [
        ("session.timeout.ms", "45000"),
        ("auto.commit.interval.ms", "100"),
    ];
    let consumer = join(&cluster, &group, "one", "restart", &own);
    read(&consumer, 10).await;

    kafka.broker(0).stop().unwrap();
    // To be committed while there is nobody to commit it to, and again when
    // the coordinator is back and not ready yet.
    consumer.store(&[at("restart", 0, 10)]).unwrap();
    send_all(&mut caller, &topic, values(&numbers(10..20)));
    // A topic that nobody could ask for yet waits as well.
    let unresolved = caller.topic(b"not-asked-for").unwrap();
    send_all(&mut caller, &unresolved, values(&numbers(0..1)));
    let waited = tokio::time::timeout(Duration::from_millis(700), consumer.next()).await;
    assert!(waited.is_err(), "a reader goes on waiting");
    assert_eq!(caller.outstanding(), 11);
    let producer = caller.producer().clone();
    let listed = tokio::time::timeout(PATIENCE, producer.topic_names()).await;
    listed.unwrap().unwrap_err();

    kafka.broker(0).start().unwrap();
    settle(&caller).await;
    let report = caller.report();
    assert_eq!((report.delivered, report.failed), (20, 1));
    let mut seen = BTreeSet::new();
    while seen.len() < 10 {
        seen.insert(next(&consumer).await.value);
    }
    assert_eq!(seen, numbers(10..20).into_iter().collect());
    consumer.store(&[at("restart", 0, 20)]).unwrap();
    // That commit, however late, does not come after the last one.
    assert!(consumer.close().done().await, "it leaves");
    assert_eq!(kafka.committed(&group, "restart").unwrap()[&0], 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_does_not_wait_for_ever_for_a_broker_that_is_gone() {
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("gone", 1).unwrap();
    kafka.produce("gone", None, None, Some(b"0")).unwrap();
    let cluster = open(&kafka.bootstrap_servers());
    let consumer = join(&cluster, &topic_name("gone"), "one", "gone", &[]);
    read(&consumer, 1).await;
    consumer.store(&[at("gone", 0, 1)]).unwrap();
    kafka.broker(0).kill().unwrap();
    // The engine gives up after ten seconds.
    let has_left = tokio::time::timeout(PATIENCE, consumer.close().done())
        .await
        .expect("it is freed nevertheless");
    assert!(!has_left, "it says that it has not left");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_brokers_failure_is_told_once_in_a_while() {
    let log = Log::default();
    let writer = log.clone();
    // For the whole process: clients log on threads of their own.
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::WARN)
        .with_writer(move || writer.clone())
        .init();
    // One broker that takes connections only to drop them, which shows how
    // often it is tried, and two that are not there: nobody listens to these
    // ports, and nobody is given them.
    let dropping = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone: [u16; 2] = [1, 2];
    let brokers = format!(
        "{},127.0.0.1:{},127.0.0.1:{}",
        dropping.local_addr().unwrap(),
        gone[0],
        gone[1]
    );
    let cluster = open(&brokers);
    let group = topic_name("unreachable");
    let own = [
        ("log_level", "0"),
        ("reconnect.backoff.ms", "10"),
        ("reconnect.backoff.max.ms", "20"),
    ];
    let started = Instant::now();
    let _consumer = join(&cluster, &group, "one", "nowhere", &own);
    let failures = |port: u16| {
        let address = format!("127.0.0.1:{port}/");
        let lines = log.lines();
        let about = |line: &&String| {
            line.contains(&group) && line.contains(&address) && line.contains("Connection refused")
        };
        lines.iter().filter(about).count()
    };
    tokio::task::spawn_blocking(move || (0..20).for_each(|_| drop(dropping.accept().unwrap())))
        .await
        .unwrap();
    for port in gone {
        eventually("the failure in the log", || {
            (failures(port) > 0).then_some(())
        })
        .await;
        // Every ten seconds.
        let count = failures(port) as u64;
        let most = 1 + started.elapsed().as_secs() / 10;
        assert!(count <= most, "{:#?}", log.lines());
    }
}

/// What the process has logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        let text = self.0.lock().unwrap();
        String::from_utf8_lossy(&text)
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Contract, `consume-and-ack.md`, section 13, B30.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_counts_as_unreachable_until_it_answers() {
    let kafka = Cluster::builder().start().unwrap();
    let cluster = open(&kafka.bootstrap_servers());
    kafka.broker(0).stop().unwrap();
    let dispatcher =
        Dispatcher::start(&cluster, DispatchConfig::default(), &Properties::new()).unwrap();
    let options = ProxyOptions {
        is_consuming_disabled: false,
        has_headers: true,
        max_message_bytes: 1_000_000,
        strict_async: false,
    };
    let proxy = Arc::new(Proxy::new(&cluster, dispatcher, options).unwrap());
    assert!(proxy.is_reachable(), "nobody knows yet");
    let asking = Arc::clone(&proxy);
    let reached = tokio::spawn(async move { asking.reach().await });
    eventually("a question that nobody answers", || {
        (!proxy.is_reachable()).then_some(())
    })
    .await;
    kafka.broker(0).start().unwrap();
    tokio::time::timeout(PATIENCE, reached)
        .await
        .unwrap()
        .unwrap();
    assert!(proxy.is_reachable());
    // It stays so: what fails later says so itself.
    kafka.broker(0).stop().unwrap();
    assert!(proxy.is_reachable());
}
