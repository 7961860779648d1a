//! The journal of a whole gateway: killed, without its brokers, full, and
//! looked into from outside.

use crate::support::{
    PATIENCE, address, binary, curl, eventually, file, grpcurl, run, stderr, stdout, text,
};
use barnabas_testkit::{Cluster, Gateway, Signal, shared, topic_name};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often the gateway is killed.
const KILLS: usize = 4;
/// Messages that are answered between two of them.
const BETWEEN: usize = 3_000;
const REDIS_WRITERS: usize = 4;
const HTTP_WRITERS: usize = 4;
/// Commands in a pipeline.
const PIPELINE: usize = 40;

/// A configuration with all front ends and a journal beside it.
fn configured(servers: &str, more: &str) -> (tempfile::TempDir, String) {
    let (folder, path) = file(
        "barnabas.yaml",
        &format!(
            "clusters:\n  default:\n    properties: {{bootstrap.servers: '{servers}', \
             reconnect.backoff.max.ms: 500}}\nredis: {{listen: '127.0.0.1:0'}}\nhttp: {{listen: \
             '127.0.0.1:0'}}\ngrpc: {{listen: '127.0.0.1:0'}}\n{more}\n"
        ),
    );
    let path = text(&path).to_owned();
    (folder, path)
}

fn start(config: &str, journal: &Path) -> Gateway {
    Gateway::builder(binary())
        .args(["serve", "--config", config])
        .env("BARNABAS_JOURNAL__DIR", text(journal))
        .listeners(3)
        .spawn()
        .unwrap()
}

fn new_topic(partitions: i32) -> String {
    let topic = topic_name("journal");
    shared().create_topic(&topic, partitions).unwrap();
    topic
}

/// What was answered well. A value is `<writer>-<number>`, and a writer's
/// numbers ascend.
#[derive(Default)]
struct Answered {
    values: Mutex<BTreeSet<(usize, usize)>>,
    count: AtomicUsize,
    next: Vec<AtomicUsize>,
}

impl Answered {
    fn add(&self, writer: usize, numbers: impl IntoIterator<Item = usize>) {
        let mut values = self.values.lock().unwrap();
        let before = values.len();
        values.extend(numbers.into_iter().map(|number| (writer, number)));
        self.count
            .fetch_add(values.len() - before, Ordering::AcqRel);
    }
}

/// Writes pipelines until the gateway has gone.
fn write_redis(writer: usize, address: &str, topic: &str, answered: &Answered) {
    let client = redis::Client::open(format!("redis://{address}/")).unwrap();
    let Ok(mut connection) = client.get_connection() else {
        return;
    };
    loop {
        let first = answered.next[writer].fetch_add(PIPELINE, Ordering::AcqRel);
        let numbers = first..first + PIPELINE;
        let mut pipeline = redis::pipe();
        for number in numbers.clone() {
            pipeline
                .cmd("RPUSHX")
                .arg(format!("topics:{topic}:{writer}"))
                .arg(format!("{writer}-{number}"));
        }
        match pipeline.query::<Vec<i64>>(&mut connection) {
            Ok(replies) => {
                assert_eq!(replies, vec![1; PIPELINE]);
                answered.add(writer, numbers);
            }
            Err(_) => return,
        }
    }
}

async fn write_http(writer: usize, address: String, topic: String, answered: Arc<Answered>) {
    let client = reqwest::Client::new();
    loop {
        let number = answered.next[writer].fetch_add(1, Ordering::AcqRel);
        let sent = client
            .post(format!(
                "http://{address}/topics/{topic}/messages?key={writer}"
            ))
            .header("content-type", "text/plain")
            .body(format!("{writer}-{number}"))
            .send();
        match sent.await {
            Ok(reply) if reply.status() == 200 => answered.add(writer, [number]),
            Ok(reply) => panic!("{reply:?}"),
            Err(_) => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_again_and_again_nothing_that_was_answered_is_lost() {
    let topic = new_topic(3);
    let (folder, config) = configured(&shared().bootstrap_servers(), "durability: journal");
    let journal = folder.path().join("journal");
    let answered = Arc::new(Answered {
        next: (0..REDIS_WRITERS + HTTP_WRITERS)
            .map(|_| AtomicUsize::new(0))
            .collect(),
        ..Answered::default()
    });
    for kill in 1..=KILLS {
        let gateway = start(&config, &journal);
        let (redis, http) = (gateway.address(), address(&gateway, 1));
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..REDIS_WRITERS {
            let (redis, topic, answered) = (redis.clone(), topic.clone(), Arc::clone(&answered));
            writers.spawn_blocking(move || write_redis(writer, &redis, &topic, &answered));
        }
        for writer in REDIS_WRITERS..REDIS_WRITERS + HTTP_WRITERS {
            writers.spawn(write_http(
                writer,
                http.clone(),
                topic.clone(),
                Arc::clone(&answered),
            ));
        }
        let started = Instant::now();
        while answered.count.load(Ordering::Acquire) < kill * BETWEEN {
            assert!(started.elapsed() < PATIENCE, "{}", gateway.stderr());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gateway.signal(Signal::Kill).unwrap();
        gateway.wait(PATIENCE).unwrap();
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
    }
    // The last one only sends what is left, and ends when that is done.
    let (status, _) = start(&config, &journal).terminate().unwrap();
    assert_eq!(status.code(), Some(0));
    let report = inspected(&journal);
    assert_eq!(report[0]["undelivered"], 0, "{report}");

    let records = shared().read_all(&topic).unwrap();
    let mut seen: Vec<Vec<usize>> = vec![Vec::new(); REDIS_WRITERS + HTTP_WRITERS];
    let mut found = BTreeSet::new();
    for record in &records {
        let value = record.value_text();
        let (writer, number) = value.split_once('-').unwrap();
        let (writer, number): (usize, usize) = (writer.parse().unwrap(), number.parse().unwrap());
        assert_eq!(record.key_text(), writer.to_string());
        if found.insert((writer, number)) {
            seen[writer].push(number);
        }
    }
    let expected = answered.values.lock().unwrap();
    let lost: Vec<_> = expected.difference(&found).take(10).collect();
    assert!(lost.is_empty(), "answered and not in Kafka: {lost:?}");
    for numbers in &seen {
        assert!(numbers.is_sorted(), "the order of a key is not kept");
    }
    println!(
        "{KILLS} kills: {} answered, {} in Kafka of which {} twice or more, {} unanswered",
        expected.len(),
        records.len(),
        records.len() - found.len(),
        found.len() - expected.len()
    );
}

fn inspected(journal: &Path) -> Value {
    let output = run(&["journal", "inspect", "--json", "--dir", text(journal)]);
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn push(connection: &mut redis::Connection, topic: &str, value: &str) -> Result<i64, String> {
    redis::cmd("RPUSHX")
        .arg(format!("topics:{topic}"))
        .arg(value)
        .query(connection)
        .map_err(|error| error.to_string())
}

#[test]
fn without_brokers_it_accepts_until_it_is_full_and_says_so_to_everybody() {
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("down", 1).unwrap();
    let (folder, config) = configured(
        &kafka.bootstrap_servers(),
        "durability: journal\njournal: {max_bytes: 1048576}\nshutdown: {deadline: 5s}",
    );
    let journal = folder.path().join("journal");
    // Nobody has ever been there, as far as the gateway knows.
    kafka.broker(0).kill().unwrap();
    let gateway = start(&config, &journal);
    let (http, grpc) = (address(&gateway, 1), address(&gateway, 2));
    let client = redis::Client::open(format!("redis://{}/", gateway.address())).unwrap();
    let mut connection = client.get_connection().unwrap();
    let url = format!("http://{http}/topics/down/messages");
    let post = |value: &str| curl(&["-i", "-H", "Content-Type: text/plain", "-d", value, &url]);
    let request =
        |value: &str| format!(r#"{{"topic": "down", "message": "{value}", "async_mode": true}}"#);

    let native = format!("http://{http}/v1/topics/down/records?durability=journal");
    let lines = |value: &str| {
        let kind = "Content-Type: application/x-ndjson";
        curl(&["-i", "-H", kind, "--data-binary", value, &native])
    };
    let mut expected: Vec<String> = ["first", "second", "third", "fourth", "fifth"]
        .map(ToOwned::to_owned)
        .to_vec();
    push(&mut connection, "down", "first").unwrap();
    let (status, body) = post("second");
    assert_eq!(status, 200, "{body}");
    grpcurl(&grpc, "Produce", &request("dGhpcmQ=")).unwrap();
    let (status, body) = lines("fourth\nfifth\n");
    assert_eq!(status, 202, "{body}");
    assert!(body.contains("\"accepted\":2"), "{body}");
    let large = "x".repeat(50_000);
    let mut refused = None;
    for number in 0..100 {
        let value = format!("{number}-{large}");
        match push(&mut connection, "down", &value) {
            Ok(_) => expected.push(value),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let refused = refused.unwrap();
    assert!(refused.contains("the journal is full"), "{refused}");
    assert!(expected.len() > 15, "{}", expected.len());
    let (status, reply) = post(&large);
    assert_eq!(status, 503, "{reply}");
    let after = reply
        .lines()
        .find_map(|line| line.strip_prefix("retry-after: "));
    let after: u64 = after.unwrap().trim().parse().unwrap();
    assert!((1..=30).contains(&after), "{reply}");
    let (status, reply) = lines(&large);
    assert_eq!(status, 207, "{reply}");
    assert!(reply.contains("journal-full"), "{reply}");
    let value = "eHh4eHh4eHh4".repeat(6_000);
    let error = grpcurl(&grpc, "Produce", &request(&value)).unwrap_err();
    assert!(error.contains("ResourceExhausted"), "{error}");

    kafka.broker(0).start().unwrap();
    eventually("there is room again", || {
        push(&mut connection, "down", &large).is_ok().then_some(())
    });
    expected.push(large);
    // Everything before it is in Kafka, in order.
    let left: u64 = redis::cmd("DUMP")
        .arg(120_000)
        .query(&mut connection)
        .unwrap();
    assert_eq!(left, 0);
    let found: Vec<String> = kafka
        .read_all("down")
        .unwrap()
        .iter()
        .map(|record| record.value_text())
        .collect();
    assert_eq!(found.len(), expected.len());
    assert!(found == expected, "the order is that of accepting");
    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn what_stays_is_shown_checked_and_sent_by_the_command_line() {
    let topic = new_topic(1);
    let more = "durability: journal\nshutdown: {deadline: 1s}";
    let (folder, config) = configured("127.0.0.1:1", more);
    let journal = folder.path().join("journal");
    let gateway = start(&config, &journal);
    let client = redis::Client::open(format!("redis://{}/", gateway.address())).unwrap();
    let mut connection = client.get_connection().unwrap();
    for number in 0..100 {
        push(&mut connection, &topic, &number.to_string()).unwrap();
    }
    // It is in use.
    let (_other, path) = configured("127.0.0.1:1", "");
    let output = run(&[
        "journal",
        "replay",
        "--config",
        &path,
        "--dir",
        text(&journal),
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("in use by another process"),
        "{}",
        stderr(&output)
    );
    drop(connection);
    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(
        gateway.stderr().contains("100 messages stay in"),
        "{}",
        gateway.stderr()
    );

    let report = inspected(&journal);
    assert_eq!(report[0]["undelivered"], 100);
    assert_eq!(report[0]["topics"][&topic]["records"], 100);
    let shown = stdout(&run(&["journal", "inspect", "--dir", text(&journal)]));
    assert!(
        shown.contains(&format!(
            "topic {topic}: 100 records, 190 bytes, undelivered 100"
        )),
        "{shown}"
    );
    let verified = run(&["journal", "verify", "--dir", text(&journal)]);
    assert!(verified.status.success(), "{}", stderr(&verified));

    let (_folder, reachable) = configured(&shared().bootstrap_servers(), "");
    let replay = [
        "journal",
        "replay",
        "--config",
        &reachable,
        "--dir",
        text(&journal),
    ];
    let output = run(&replay);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stdout(&output).contains("100 messages sent, 0 refused by Kafka, 0 damaged, 0 left"),
        "{}",
        stdout(&output)
    );
    let found: Vec<String> = shared()
        .read_all(&topic)
        .unwrap()
        .iter()
        .map(|record| record.value_text())
        .collect();
    let numbers: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(found, numbers);
    assert_eq!(inspected(&journal)[0]["undelivered"], 0);
}

#[test]
fn a_damaged_journal_fails_its_check() {
    let (folder, config) = configured(
        "127.0.0.1:1",
        "durability: journal\nshutdown: {deadline: 1s}",
    );
    let journal = folder.path().join("journal");
    let gateway = start(&config, &journal);
    let client = redis::Client::open(format!("redis://{}/", gateway.address())).unwrap();
    let mut connection = client.get_connection().unwrap();
    for number in 0..10 {
        push(&mut connection, "t", &number.to_string()).unwrap();
    }
    gateway.signal(Signal::Kill).unwrap();
    gateway.wait(PATIENCE).unwrap();
    let segments: Vec<_> = std::fs::read_dir(journal.join("default"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|own| own == "segment"))
        .collect();
    let mut bytes = std::fs::read(&segments[0]).unwrap();
    bytes[120] ^= 1;
    std::fs::write(&segments[0], bytes).unwrap();
    let output = run(&["journal", "verify", "--dir", text(&journal)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("missing 1"), "{}", stderr(&output));
    let nothing = run(&["journal", "verify", "--dir", text(folder.path())]);
    // The folder itself holds no journal, only the one below it does.
    assert_eq!(nothing.status.code(), Some(1));
}

#[test]
fn a_topic_can_be_answered_once_kafka_has_it() {
    let topic = new_topic(1);
    let config = format!("durability: {{{topic}: kafka, nowhere: kafka, default: memory}}");
    let (_folder, config) = configured(&shared().bootstrap_servers(), &config);
    let gateway = Gateway::builder(binary())
        .args(["serve", "--config", &config])
        .listeners(3)
        .spawn()
        .unwrap();
    let client = redis::Client::open(format!("redis://{}/", gateway.address())).unwrap();
    let mut connection = client.get_connection().unwrap();
    let end = || shared().end_offsets(&topic).unwrap()[&0];
    for count in 1..=3 {
        push(&mut connection, &topic, "x").unwrap();
        assert_eq!(end(), count);
    }
    let mut pipeline = redis::pipe();
    for _ in 0..100 {
        pipeline
            .cmd("RPUSHX")
            .arg(format!("topics:{topic}"))
            .arg("y");
    }
    let replies: Vec<i64> = pipeline.query(&mut connection).unwrap();
    assert_eq!(replies, [1; 100]);
    assert_eq!(end(), 103);
    let error = push(&mut connection, "nowhere", "x").unwrap_err();
    assert!(error.contains("Unknown topic"), "{error}");
    let http = address(&gateway, 1);
    let url = format!("http://{http}/topics/{topic}/messages");
    let (status, body) = curl(&["-H", "Content-Type: text/plain", "-d", "z", &url]);
    assert_eq!((status, body.as_str()), (200, "{}"));
    assert_eq!(end(), 104);
    let url = format!("http://{http}/topics/nowhere/messages");
    let (status, body) = curl(&["-H", "Content-Type: text/plain", "-d", "z", &url]);
    assert_eq!(status, 404, "{body}");
}

#[test]
fn when_full_it_can_hold_up_its_clients_and_nobody_else() {
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("full", 1).unwrap();
    let (folder, config) = configured(
        &kafka.bootstrap_servers(),
        "durability: {full: journal}\njournal: {max_bytes: 1048576, on_full: wait}\nshutdown: \
         {deadline: 5s}",
    );
    kafka.broker(0).kill().unwrap();
    let gateway = start(&config, &folder.path().join("journal"));
    let client = redis::Client::open(format!("redis://{}/", gateway.address())).unwrap();
    let mut other = client.get_connection().unwrap();
    let mut connection = client.get_connection().unwrap();
    let answered = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&answered);
    let writer = std::thread::spawn(move || {
        for number in 0..40 {
            let value = format!("{number}-{}", "x".repeat(50_000));
            push(&mut connection, "full", &value).unwrap();
            counting.fetch_add(1, Ordering::AcqRel);
        }
    });
    let mut before = (0, Instant::now());
    eventually("the journal is full", || {
        let now = answered.load(Ordering::Acquire);
        if now != before.0 {
            before = (now, Instant::now());
        }
        (now >= 15 && before.1.elapsed() > Duration::from_secs(1)).then_some(())
    });
    assert!(before.0 < 40);
    let pong: String = redis::cmd("PING").query(&mut other).unwrap();
    assert_eq!(pong, "PONG");
    assert_eq!(push(&mut other, "in-memory", "x"), Ok(1));
    assert!(!writer.is_finished());
    kafka.broker(0).start().unwrap();
    writer.join().unwrap();
    eventually("everything is in Kafka", || {
        (kafka.end_offsets("full").unwrap()[&0] == 40).then_some(())
    });
}
