//! The trace of a request in the headers of its records (`docs/tracing.md`).

use super::access::Elsewhere;
use super::{Changes, FORM, WELL, full, says, start, topic};
use crate::support::PATIENCE;
use barnabas_engine::OutboxSettings;
use barnabas_testkit::{Record, shared};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// The records of a topic, once there are so many.
async fn records(topic: &str, count: usize) -> Vec<Record> {
    let started = Instant::now();
    loop {
        let name = topic.to_owned();
        let read = tokio::task::spawn_blocking(move || shared().read_all(&name));
        let found = read.await.unwrap().unwrap();
        if found.len() >= count {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{} of {count}", found.len());
    }
}

fn carried(record: &Record) -> Vec<String> {
    let headers = record.headers.iter();
    let text = |value: &Option<Vec<u8>>| String::from_utf8(value.clone().unwrap()).unwrap();
    let shown = headers.map(|(name, value)| format!("{name}={}", text(value)));
    shown.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn all_messages_of_a_request_carry_its_trace() {
    let settings = OutboxSettings {
        batch_ttl: Duration::from_millis(50).into(),
        // Room for what comes, and for what it carries, but not for ever.
        max_buffered_bytes: 8_192,
        ..OutboxSettings::default()
    };
    let gateway = start(Changes {
        settings,
        ..Changes::default()
    });
    let topic = topic();
    let send = async |mode: &str, body: String, parent: &str, baggage: &str| {
        let posted = gateway
            .client
            .post(gateway.url(&format!("/{mode}/{topic}")));
        let posted = posted.header("content-type", FORM);
        let posted = posted.header("traceparent", parent);
        let posted = posted.header("tracestate", "a=1");
        full(posted.header("baggage", baggage).body(body)).await
    };
    let two = || "a=1&b=2".to_owned();
    // Again and again: the room is given back, whatever was carried.
    for _ in 0..20 {
        let sync = send("sync", two(), PARENT, "b=2").await;
        says(&sync, 200, r#"[{"ok":true},{"ok":true}]"#);
    }
    for mode in ["async", "batch/async", "batch/sync"] {
        says(&send(mode, two(), PARENT, "b=2").await, 200, WELL);
    }
    let expected = [
        format!("traceparent={PARENT}"),
        "tracestate=a=1".to_owned(),
        "baggage=b=2".to_owned(),
    ];
    for record in records(&topic, 46).await {
        assert_eq!(carried(&record), expected);
    }
    let plain = send("sync", "c=3".to_owned(), "malformed", "").await;
    says(&plain, 200, r#"[{"ok":true}]"#);
    // What is carried counts.
    let large = format!("b={}", "x".repeat(1_000));
    let many = |count: usize| vec!["k=v"; count].join("&");
    let full = send("sync", many(8), PARENT, &large).await;
    says(&full, 413, r#"{"error":"too_large"}"#);
    assert_eq!(send("sync", many(8), PARENT, "").await.status, 200);
    assert_eq!(send("sync", many(4), PARENT, &large).await.status, 200);
    let found = records(&topic, 59).await;
    assert_eq!(found.len(), 59);
    assert!(carried(&found[46]).is_empty());
    assert_eq!(carried(&found[58])[2], format!("baggage={large}"));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_with_it_goes_without() {
    let mut librdkafka = barnabas_engine::Properties::new();
    librdkafka.set("message.max.bytes", "2000");
    let settings = OutboxSettings {
        librdkafka,
        ..OutboxSettings::default()
    };
    let gateway = start(Changes {
        settings,
        ..Changes::default()
    });
    let topic = topic();
    let value = "v".repeat(1_850);
    let posted = gateway.client.post(gateway.url(&format!("/sync/{topic}")));
    let posted = posted.header("content-type", FORM);
    let posted = posted
        .header("traceparent", PARENT)
        .header("tracestate", "a=1");
    let posted = posted.header("baggage", "b=".to_owned() + &"x".repeat(100));
    let reply = full(posted.body(format!("a={value}&b=1"))).await;
    says(&reply, 200, r#"[{"ok":true},{"ok":true}]"#);
    let found = records(&topic, 2).await;
    let large = found
        .iter()
        .find(|one| one.value.as_deref().unwrap().len() > 1);
    let small = found
        .iter()
        .find(|one| one.value.as_deref().unwrap().len() == 1);
    assert!(carried(large.unwrap()).is_empty());
    assert_eq!(carried(small.unwrap()).len(), 3);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hook_sends_carries_it_to_every_topic() {
    let gateway = start(Changes {
        hook: Some(Arc::new(Elsewhere)),
        ..Changes::default()
    });
    let (one, other) = (topic(), topic());
    let posted = gateway.client.post(gateway.url("/sync/x"));
    let posted = posted.header("content-type", FORM);
    let posted = posted.header("traceparent", PARENT);
    let reply = full(posted.body(format!("{one}=1&{other}=2&{one}=3"))).await;
    says(&reply, 200, r#"[{"ok":true}]"#);
    for (topic, count) in [(&one, 2), (&other, 1)] {
        let found = records(topic, count).await;
        assert_eq!(found.len(), count);
        for record in found {
            assert_eq!(carried(&record), [format!("traceparent={PARENT}")]);
        }
    }
    gateway.stop().await;
}
