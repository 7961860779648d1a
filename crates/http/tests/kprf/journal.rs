//! Records that are on disk when their clients are told so (section 7.1), and
//! what becomes of those that fail when nobody waits any more (section 9).

use super::{PUSH, WELL, gateway, request, start_with};
use crate::support::{PATIENCE, new_topic};
use barnabas_engine::{Durability, JournalOptions};
use barnabas_http::{DeadLetterTopics, KprfOptions, ReplyShape};
use barnabas_testkit::{Cluster, shared};
use serde_json::json;
use std::time::{Duration, Instant};

const ON_DISK: &str = "/push?durability=journal";
const FULL: &str = "Message production error: QueueFull (Local: Queue full)";

fn keeps(durability: Durability) -> KprfOptions {
    KprfOptions {
        durability,
        ..KprfOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_to_kafka_over_the_disk_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (new_topic("kprf-disk", 3), new_topic("kprf-disk", 1));
    let gateway = start_with(
        &shared().bootstrap_servers(),
        keeps(Durability::Journal),
        &[],
        Some(JournalOptions::new(folder.path())),
    );
    let body = json!({"records": [
        {"topic": one, "data": "a", "key": "k", "partition": 2},
        {"topic": two, "data": ""},
        {"topic": one, "data": "b", "partition": 2},
        {"topic": "bad topic!", "data": "x"},
        {"topic": two, "data": "c"},
    ]});
    let answer = gateway.push(body).await;
    // The others are sent all the same, as without a journal.
    assert_eq!(answer.status, 500);
    assert_eq!(answer.body.matches("\"error\":true").count(), 1);
    assert!(answer.body.contains("InvalidTopic"), "{}", answer.body);
    let journal = gateway.cluster.journal().unwrap();
    assert_eq!(journal.statistics().written, 4);
    let found = super::records(&one, 2).await;
    let shown: Vec<_> = found
        .iter()
        .map(|record| (record.partition, record.key_text(), record.value_text()))
        .collect();
    let record = |key: &str, value: &str| (2, key.to_owned(), value.to_owned());
    assert_eq!(shown, [record("k", "a"), record("", "b")]);
    let values: Vec<String> = super::records(&two, 2)
        .await
        .iter()
        .map(|record| record.value_text())
        .collect();
    assert_eq!(values, ["", "c"]);

    // What a request says counts before that.
    let memory = gateway.send(
        "/push?durability=memory",
        request(&two, &["d"], false).to_string(),
    );
    assert_eq!(memory.await.text(), WELL);
    assert_eq!(gateway.push(request(&two, &["e"], true)).await.body, WELL);
    assert_eq!(journal.statistics().written, 4);
    let empty = gateway.push(json!({"records": []})).await;
    assert_eq!((empty.status, &*empty.body), (200, WELL));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durability_that_there_is_not_is_refused() {
    let topic = new_topic("kprf-disk", 1);
    let gateway = gateway(KprfOptions::default());
    for (path, expected) in [
        (
            ON_DISK,
            "there is no journal; it is configured by journal.dir",
        ),
        (
            "/push?durability=tape",
            "there is no durability \"tape\", only memory, journal, kafka",
        ),
    ] {
        let reply = gateway.send(path, request(&topic, &["a"], false).to_string());
        let reply = reply.await;
        assert_eq!((reply.status, &*reply.text()), (400, expected));
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_refuses_whole_requests_until_kafka_is_back() {
    let kafka = tokio::task::spawn_blocking(|| Cluster::builder().start().unwrap());
    let kafka = kafka.await.unwrap();
    kafka.create_topic("t", 1).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let journal = JournalOptions {
        max_bytes: 1 << 20,
        ..JournalOptions::new(folder.path())
    };
    let options = KprfOptions {
        // kprf's "yes" to all who do not wait would be a lie here.
        is_strict: true,
        reply_shape: ReplyShape::Program,
        ..KprfOptions::default()
    };
    let brokers = kafka.bootstrap_servers();
    let gateway = start_with(&brokers, options.clone(), &[], Some(journal));
    kafka.broker(0).kill().unwrap();
    let large = "x".repeat(50_000);
    let mut expected = Vec::new();
    let refused = loop {
        let values = [0, 1].map(|one| format!("{}-{one}-{large}", expected.len()));
        let values = values.each_ref().map(String::as_str);
        let reply = gateway.send(ON_DISK, request("t", &values, false).to_string());
        let reply = reply.await;
        if reply.status != 200 {
            break reply;
        }
        expected.extend(values.map(str::to_owned));
        assert!(expected.len() < 100);
    };
    assert!(expected.len() > 15, "{}", expected.len());
    let both = format!(
        r#"{{"status":"err","errors":[{{"error":true,"message":"{FULL}"}},{{"error":true,"message":"{FULL}"}}]}}"#
    );
    assert_eq!((refused.status, refused.text()), (500, both.clone()));
    assert_eq!(refused.all("retry-after"), [""; 0]);
    // The same as we say it.
    gateway.kprf.reload(&KprfOptions {
        is_strict: false,
        ..options
    });
    let refused = gateway.send(ON_DISK, request("t", &[&*large; 2], false).to_string());
    let refused = refused.await;
    assert_eq!((refused.status, refused.text()), (503, both));
    let after: u64 = refused.all("retry-after")[0].parse().unwrap();
    assert!((1..=30).contains(&after), "{after}");
    // The journal is not memory.
    assert_eq!(
        gateway.push(request("t", &["memory"], false)).await.body,
        WELL
    );

    kafka.broker(0).start().unwrap();
    let started = Instant::now();
    let mut records = Vec::new();
    while records.len() <= expected.len() {
        assert!(started.elapsed() < PATIENCE * 2, "{}", records.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
        records = kafka.read_all("t").unwrap();
    }
    let found: Vec<String> = records.iter().map(|record| record.value_text()).collect();
    let of_disk: Vec<String> = found.into_iter().filter(|one| one != "memory").collect();
    assert!(of_disk == expected, "in the order of accepting, each once");
    let reply = gateway.send(ON_DISK, request("t", &["after"], false).to_string());
    assert_eq!(reply.await.text(), WELL, "there is room again");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_when_nobody_waits_is_in_the_dead_letters() {
    let topic = new_topic("kprf-fails", 1);
    let (letters, other) = (new_topic("kprf-letters", 1), new_topic("kprf-other", 1));
    let gateway = gateway(KprfOptions {
        dead_letters: DeadLetterTopics {
            default: None,
            topics: [(topic.clone(), letters.clone())].into(),
        },
        ..KprfOptions::default()
    });
    let record = |topic: &str, value: &str| json!({"topic": topic, "data": value, "key": "k", "partition": 99});
    // They are accepted: that there is no such partition is found out later.
    let body = json!({"records": [record(&topic, "lost"), record(&other, "without")]});
    assert_eq!(gateway.push(body).await.body, WELL);
    let found = super::records(&letters, 1).await;
    let [letter] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(
        (letter.key_text(), letter.value_text()),
        ("k".into(), "lost".into())
    );
    let header = |name: &str| {
        let mut headers = letter.headers.iter();
        let value = headers.find(|(own, _)| own == name).unwrap().1.clone();
        String::from_utf8(value.unwrap_or_default()).unwrap()
    };
    assert_eq!(header("barnabas-topic"), topic);
    let reason = header("barnabas-reason");
    assert_eq!(reason, "UnknownPartition (Local: Unknown partition)");
    // Who waits is told, and nothing more is done.
    let mut waiting = json!({"records": [record(&topic, "told")]});
    waiting["wait_for_send"] = true.into();
    assert_eq!(gateway.push(waiting).await.status, 500);
    // What it took is given back.
    let started = Instant::now();
    while gateway.value("barnabas_admitted_messages").await != Some(0.0) {
        assert!(started.elapsed() < PATIENCE);
    }
    assert_eq!(gateway.value("barnabas_admitted_bytes").await, Some(0.0));
    assert_eq!(super::records(&letters, 1).await.len(), 1);
    let failed = format!("kafka_errors_count{{error_code=\"-190\",topic=\"{topic}\"}}");
    assert_eq!(gateway.value(&failed).await, Some(2.0));
    let reply = gateway.send(PUSH, request(&letters, &["more"], true).to_string());
    assert_eq!(reply.await.text(), WELL);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kafka_refuses_of_the_journal_is_in_the_dead_letters_too() {
    let folder = tempfile::tempdir().unwrap();
    let letters = new_topic("kprf-letters", 1);
    let missing = barnabas_testkit::topic_name("kprf-missing");
    let options = KprfOptions {
        dead_letters: DeadLetterTopics {
            default: Some(letters.clone()),
            ..DeadLetterTopics::default()
        },
        ..keeps(Durability::Journal)
    };
    let gateway = start_with(
        &shared().bootstrap_servers(),
        options,
        &[],
        Some(JournalOptions::new(folder.path())),
    );
    assert_eq!(
        gateway
            .push(request(&missing, &["a", "b"], false))
            .await
            .body,
        WELL
    );
    let found = super::records(&letters, 2).await;
    let mut values: Vec<String> = found.iter().map(|record| record.value_text()).collect();
    values.sort_unstable();
    assert_eq!(values, ["a", "b"]);
    let journal = gateway.cluster.journal().unwrap();
    tokio::time::timeout(PATIENCE, journal.drained())
        .await
        .unwrap();
    assert_eq!(journal.statistics().refused, 2, "they are kept aside, too");
    let failed = format!("kafka_errors_count{{error_code=\"3\",topic=\"{missing}\"}}");
    let local = format!("kafka_errors_count{{error_code=\"-188\",topic=\"{missing}\"}}");
    let count = gateway.value(&failed).await.or(gateway.value(&local).await);
    assert_eq!(count, Some(2.0));
    let started = Instant::now();
    while gateway.value("barnabas_admitted_bytes").await != Some(0.0) {
        assert!(started.elapsed() < PATIENCE);
    }
    gateway.stop().await;
}
