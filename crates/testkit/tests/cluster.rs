//! One broker and three, their life and death.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use barnabas_testkit::{Cluster, Error, KafkaVersion, NewRecord};

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

fn fill(cluster: &Cluster, topic: &str, values: &[String]) {
    cluster
        .produce_all(
            topic,
            values.iter().map(|value| NewRecord {
                value: Some(value.as_bytes()),
                ..NewRecord::default()
            }),
        )
        .unwrap();
}

fn sorted_values(cluster: &Cluster, topic: &str) -> Vec<String> {
    let records = cluster.read_all(topic).unwrap();
    let mut values: Vec<String> = records.iter().map(|record| record.value_text()).collect();
    values.sort_by_key(|value| value.parse::<usize>().unwrap());
    values
}

fn timed<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = act();
    println!("{what}: {:?}", started.elapsed());
    result
}

#[test]
fn a_killed_broker_comes_back_with_its_data() {
    let cluster = timed("start", || Cluster::builder().start().unwrap());
    let broker = cluster.broker(0);
    let address = broker.address().unwrap();
    timed("create topic", || {
        cluster.create_topic("numbers", 3).unwrap()
    });
    fill(&cluster, "numbers", &numbers(1000));

    let first = broker.pid().unwrap();
    timed("kill", || broker.kill().unwrap());
    assert!(!broker.is_running().unwrap());
    assert!(TcpStream::connect(&address).is_err());
    timed("start after kill", || broker.start().unwrap());
    assert_ne!(broker.pid().unwrap(), first);
    assert_eq!(broker.address().unwrap(), address);
    assert_eq!(sorted_values(&cluster, "numbers"), numbers(1000));

    timed("stop", || broker.stop().unwrap());
    timed("start after stop", || broker.start().unwrap());
    fill(&cluster, "numbers", &["1000".to_owned()]);
    assert_eq!(sorted_values(&cluster, "numbers"), numbers(1001));
}

#[test]
fn a_paused_broker_keeps_its_connections_and_answers_later() {
    let cluster = Cluster::builder().start().unwrap();
    let broker = cluster.broker(0);
    cluster.create_topic("paused", 1).unwrap();
    cluster.produce("paused", None, None, Some(b"0")).unwrap();

    broker.pause().unwrap();
    assert!(!broker.is_running().unwrap());
    TcpStream::connect(broker.address().unwrap()).expect("the kernel accepts for it");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| cluster.produce("paused", None, None, Some(b"1")));
        // Nothing can be awaited here: the point is that nothing happens.
        std::thread::sleep(Duration::from_millis(500));
        assert!(!waiting.is_finished());
        broker.resume().unwrap();
        waiting.join().unwrap().unwrap();
    });
    assert!(broker.is_running().unwrap());
    assert_eq!(sorted_values(&cluster, "paused"), numbers(2));
}

#[test]
fn three_brokers_survive_the_loss_of_one() {
    let cluster = timed("start of three", || {
        Cluster::builder().brokers(3).start().unwrap()
    });
    assert_eq!(cluster.bootstrap_servers().split(',').count(), 3);
    cluster.create_topic("numbers", 6).unwrap();
    fill(&cluster, "numbers", &numbers(300));

    let victim = cluster.leaders("numbers").unwrap()[&0];
    cluster.broker(victim).kill().unwrap();
    let mut all = numbers(300);
    for value in 300..400 {
        all.push(value.to_string());
    }
    timed("produce after the loss", || {
        fill(&cluster, "numbers", &all[300..])
    });
    assert_eq!(sorted_values(&cluster, "numbers"), all);
    for (partition, leader) in cluster.leaders("numbers").unwrap() {
        assert_ne!(leader, victim, "partition {partition}");
    }

    timed("return of the lost one", || {
        cluster.broker(victim).start().unwrap()
    });
    assert_eq!(cluster.running_ids(), [0, 1, 2]);
}

trait RunningIds {
    fn running_ids(&self) -> Vec<i32>;
}

impl RunningIds for Cluster {
    fn running_ids(&self) -> Vec<i32> {
        self.brokers()
            .filter(|broker| broker.is_running().unwrap())
            .map(|broker| broker.id())
            .collect()
    }
}

#[test]
fn kafka_3_9_starts() {
    let cluster = timed("start of 3.9", || {
        Cluster::builder()
            .version(KafkaVersion::V3_9)
            .start()
            .unwrap()
    });
    cluster.create_topic("old", 2).unwrap();
    fill(&cluster, "old", &numbers(10));
    assert_eq!(sorted_values(&cluster, "old"), numbers(10));
    let log = std::fs::read_to_string(cluster.broker(0).log_path().unwrap()).unwrap();
    assert!(log.contains("Kafka version: 3.9"), "{log}");
}

#[test]
fn a_broker_that_cannot_start_shows_its_log() {
    let error = Cluster::builder()
        .property("num.io.threads", "many")
        .start()
        .unwrap_err();
    match &error {
        Error::BrokerEnded {
            log_tail, folder, ..
        } => {
            assert!(log_tail.contains("num.io.threads"), "{error}");
            assert!(folder.exists());
            // Kept for a person, who has seen this one.
            std::fs::remove_dir_all(folder.parent().unwrap()).unwrap();
        }
        _ => panic!("{error}"),
    }
}

#[test]
fn a_benchmark_broker_starts() {
    let cluster = timed("start for a benchmark", || {
        Cluster::builder().for_benchmark().start().unwrap()
    });
    cluster.create_topic("fast", 1).unwrap();
    fill(&cluster, "fast", &numbers(1));
}
