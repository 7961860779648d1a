//! `barnabas kafboy` with topics in a journal: killed, and without its brokers.

use crate::support::{
    PATIENCE, address, binary, curl, eventually, file, run, stderr, stdout, text,
};
use barnabas_testkit::{Cluster, Gateway, Record, Signal, Stalls, shared, topic_name};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How often the gateway is killed.
const KILLS: usize = 3;
/// Requests that are answered between two kills.
const BETWEEN: usize = 200;
const WRITERS: usize = 6;
/// Messages of one request.
const LIST: usize = 5;

fn configured(brokers: &str, journal: &Path, more: &str) -> (tempfile::TempDir, String) {
    let dir = text(journal);
    let (folder, path) = file(
        "kafboy.yaml",
        &format!(
            "kafboy: {{kafboy_http_listen: 127.0.0.1, kafboy_http_port: 0}}\nekaf: \
             {{ekaf_bootstrap_broker: '{brokers}', ekaf_partition_strategy: custom, durability: \
             journal}}\njournal: {{dir: '{dir}', max_bytes: 1048576}}\n{more}\n"
        ),
    );
    let path = text(&path).to_owned();
    (folder, path)
}

fn spawn(config: &str) -> (Gateway, String) {
    let gateway = Gateway::builder(binary()).args(["kafboy", "-c", config]);
    let gateway = gateway.spawn().unwrap();
    let url = format!("http://{}", address(&gateway, 0));
    (gateway, url)
}

/// What was answered well: writers and their numbers, which ascend.
#[derive(Default)]
struct Answered {
    values: Mutex<BTreeSet<(usize, usize)>>,
    requests: AtomicUsize,
    next: [AtomicUsize; WRITERS],
}

/// Posts forms of one key until the gateway has gone, into batches or not.
async fn write(url: String, writer: usize, answered: Arc<Answered>) {
    let client = reqwest::Client::new();
    loop {
        let first = answered.next[writer].fetch_add(LIST, Ordering::AcqRel);
        let numbers = first..first + LIST;
        let pairs: Vec<String> = numbers
            .clone()
            .map(|number| format!("{writer}={writer}-{number}"))
            .collect();
        let sent = client.post(&url).body(pairs.join("&")).send().await;
        match sent {
            Ok(reply) if reply.status() == 200 => {
                let mut values = answered.values.lock().unwrap();
                values.extend(numbers.map(|number| (writer, number)));
                answered.requests.fetch_add(1, Ordering::AcqRel);
            }
            Ok(reply) => panic!("{reply:?}"),
            Err(_) => return,
        }
    }
}

fn undelivered(journal: &Path) -> String {
    let output = run(&["journal", "inspect", "--json", "--dir", text(journal)]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    report[0]["undelivered"].to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_again_and_again_nothing_that_was_answered_is_lost() {
    let topic = topic_name("kafboy-kill");
    shared().create_topic(&topic, 3).unwrap();
    let journal = tempfile::tempdir().unwrap();
    let brokers = shared().bootstrap_servers();
    let (_folder, config) = configured(&brokers, journal.path(), "");
    let answered = Arc::new(Answered::default());
    for kill in 1..=KILLS {
        let (gateway, url) = spawn(&config);
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let route = ["async", "batch/async"][writer % 2];
            let url = format!("{url}/{route}/{topic}");
            writers.spawn(write(url, writer, Arc::clone(&answered)));
        }
        let started = Instant::now();
        while answered.requests.load(Ordering::Acquire) < kill * BETWEEN {
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
    let (status, _) = spawn(&config).0.terminate().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(undelivered(journal.path()), "0");

    let records = shared().read_all(&topic).unwrap();
    let mut seen: [Vec<usize>; WRITERS] = Default::default();
    let mut partitions: [BTreeSet<i32>; WRITERS] = Default::default();
    let mut found = BTreeSet::new();
    for record in &records {
        let value = record.value_text();
        let (writer, number) = value.split_once('-').unwrap();
        let (writer, number): (usize, usize) = (writer.parse().unwrap(), number.parse().unwrap());
        assert_eq!(record.key_text(), writer.to_string());
        partitions[writer].insert(record.partition);
        if found.insert((writer, number)) {
            seen[writer].push(number);
        }
    }
    let expected = answered.values.lock().unwrap();
    let lost: Vec<_> = expected.difference(&found).take(10).collect();
    assert!(lost.is_empty(), "answered and not in Kafka: {lost:?}");
    for (numbers, partitions) in seen.iter().zip(&partitions) {
        assert!(numbers.is_sorted(), "the order of a key is not kept");
        assert_eq!(partitions.len(), 1, "the strategy goes by the key");
    }
    println!(
        "{KILLS} kills: {} answered, {} in Kafka of which {} twice or more, {} unanswered",
        expected.len(),
        records.len(),
        records.len() - found.len(),
        found.len() - expected.len()
    );
}

#[test]
fn without_brokers_it_accepts_until_the_journal_is_full() {
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("down", 3).unwrap();
    let brokers = kafka.bootstrap_servers();
    kafka.broker(0).stop().unwrap();
    let journal = tempfile::tempdir().unwrap();
    let (_folder, config) = configured(&brokers, journal.path(), "shutdown_timeout_ms: 500");
    let (gateway, url) = spawn(&config);
    let url = format!("{url}/async/down");
    let large = "x".repeat(20_000);
    let post = |number: usize| {
        let body = format!("{}={number}-{large}", number % 3);
        curl(&["-i", "--data", &body, &url])
    };
    let mut accepted = 0;
    let refused = loop {
        match post(accepted) {
            (200, _) => accepted += 1,
            refused => break refused,
        }
    };
    assert!((40..60).contains(&accepted), "{accepted}");
    let (status, reply) = refused;
    assert_eq!(status, 503, "{reply}");
    assert!(reply.ends_with(r#"{"error":"overload"}"#), "{reply}");
    assert!(reply.contains("retry-after: "), "{reply}");

    // The end does not wait longer than it may, and loses nothing.
    let stalls = Stalls::watch();
    let (status, took) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(10) + stalls.total(), "{took:?}");
    let errors = gateway.stderr();
    let stays = "messages stay in the journal until the next start";
    assert!(errors.contains(stays), "{errors}");
    assert!(!errors.contains("were not delivered"), "{errors}");
    assert_eq!(undelivered(journal.path()), accepted.to_string());

    let (gateway, url) = spawn(&config);
    kafka.broker(0).start().unwrap();
    let url = format!("{url}/async/down");
    eventually("there is room again", || {
        (curl(&["--data", "0=last", &url]).0 == 200).then_some(())
    });
    let records = eventually("all are in Kafka", || {
        let records = kafka.read_all("down").unwrap();
        (records.len() > accepted).then_some(records)
    });
    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0));
    for key in 0..3 {
        let own = records
            .iter()
            .filter(|found| found.key_text() == key.to_string());
        let numbers: Vec<String> = own
            .map(Record::value_text)
            .map(|value| value.split('-').next().unwrap().to_owned())
            .collect();
        let mut expected: Vec<String> = (0..accepted)
            .filter(|number| number % 3 == key)
            .map(|number| number.to_string())
            .collect();
        expected.extend((key == 0).then(|| "last".to_owned()));
        assert_eq!(numbers, expected, "{key}");
    }
}

#[test]
fn the_first_journal_needs_a_restart() {
    let settings = |durability: &str| {
        format!(
            "kafboy: {{kafboy_http_listen: 127.0.0.1, kafboy_http_port: 0}}\nekaf: \
             {{ekaf_bootstrap_broker: '127.0.0.1:1', durability: {durability}}}\n"
        )
    };
    let (folder, path) = file("kafboy.yaml", &settings("memory"));
    let (gateway, _) = spawn(text(&path));
    let dir = text(folder.path());
    let wanted = format!(
        "{}journal: {{dir: '{dir}'}}\n",
        settings("{clicks: journal}")
    );
    std::fs::write(&path, wanted).unwrap();
    gateway.signal(Signal::Hangup).unwrap();
    // All else counts at once.
    let line = "needs a restart: ekaf.durability (there is no journal), journal.dir";
    eventually(line, || gateway.stderr().contains(line).then_some(()));

    let (_other, missing) = file("kafboy.yaml", &settings("{clicks: journal}"));
    let output = run(&["kafboy", "--check", "-c", text(&missing)]);
    assert_eq!(output.status.code(), Some(2));
    let expected = "ekaf.durability: journal needs journal.dir\n";
    assert_eq!(stderr(&output), expected);
    let output = run(&["kafboy", "--check", "-c", text(&path)]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}
