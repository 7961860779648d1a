//! Bounds: the outbox's, the valve's, Kafka away.

use super::{Changes, WELL, gateway, plain, says, start, topic};
use crate::support::PATIENCE;
use barnabas_engine::{OutboxSettings, PerTopic};
use barnabas_http::{KafboyOptions, ValveOptions};
use barnabas_testkit::Cluster;
use std::time::{Duration, Instant};

/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:1";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_taken_whole_or_not_at_all() {
    let gateway = start(Changes {
        brokers: NOBODY.to_owned(),
        settings: OutboxSettings {
            max_buffered_messages: 5,
            sync_timeout: Duration::from_millis(300),
            ..OutboxSettings::default()
        },
        ..Changes::default()
    });
    says(&gateway.form("/async/t", "a=1&a=2&a=3").await, 200, WELL);
    for path in ["/async/t", "/batch/async/t", "/batch/sync/t", "/sync/t"] {
        let reply = gateway.form(path, "a=1&a=2&a=3").await;
        says(&reply, 503, r#"{"error":"overload"}"#);
        assert_eq!(reply.all("retry-after"), ["30"], "nothing leaves");
    }
    assert_eq!(gateway.outbox.info().messages, 3, "no part of it");
    says(&gateway.form("/batch/async/t", "a=1&a=2").await, 200, WELL);
    // More than there will ever be room for.
    let reply = gateway.form("/async/t", "a&=1&=2&=3&=4&=5&=6").await;
    says(&reply, 503, r#"{"error":"overload"}"#);
    let reply = gateway.form("/async/t", "=1&=2&=3&=4&=5&=6").await;
    says(&reply, 413, r#"{"error":"too_large"}"#);
    gateway.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topics_own_bound_of_downtime_counts_too() {
    let gateway = start(Changes {
        brokers: NOBODY.to_owned(),
        settings: OutboxSettings {
            max_downtime_messages: PerTopic::all(None).with("t", Some(2)),
            ..OutboxSettings::default()
        },
        ..Changes::default()
    });
    let reply = gateway.form("/async/t", "a=1&a=2&a=3").await;
    says(&reply, 503, r#"{"error":"overload"}"#);
    assert_eq!(gateway.outbox.info().messages, 2, "what fits stays");
    says(
        &gateway.form("/async/other", "a=1&a=2&a=3").await,
        200,
        WELL,
    );
    gateway.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_told_in_time_that_kafka_is_away() {
    let gateway = start(Changes {
        brokers: NOBODY.to_owned(),
        settings: OutboxSettings {
            sync_timeout: Duration::from_millis(500),
            ..OutboxSettings::default()
        },
        ..Changes::default()
    });
    let asked = Instant::now();
    let reply = gateway.form("/sync/t", "a=1&b=2").await;
    says(&reply, 504, r#"{"error":"timeout"}"#);
    assert!(asked.elapsed() >= Duration::from_millis(500));
    assert_eq!(gateway.outbox.info().messages, 0, "it is never sent");
    gateway.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_have_a_bound_together() {
    let gateway = start(Changes {
        options: KafboyOptions {
            max_bodies_bytes: 10,
            ..KafboyOptions::default()
        },
        ..Changes::default()
    });
    let reply = gateway.form("/echo_post", "a=234567890").await;
    says(&reply, 503, r#"{"error":"overload"}"#);
    assert_eq!(reply.all("retry-after").len(), 1);
    says(
        &gateway.form("/echo_post", "a=2").await,
        200,
        r#"{"a":"2"}"#,
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_valve_stands_before_safe_only() {
    let gateway = start(Changes {
        options: KafboyOptions {
            valve: Some(ValveOptions {
                interval: Duration::from_secs(3_600),
                rate: 2,
                token_limit: 2,
                size: 0,
                concurrency: 10,
            }),
            ..KafboyOptions::default()
        },
        ..Changes::default()
    });
    let topic = topic();
    let safe = format!("/safe/batch/async/{topic}");
    for _ in 0..2 {
        says(&gateway.form(&safe, "a=1").await, 200, WELL);
    }
    let reply = gateway.form(&safe, "a=1").await;
    says(&reply, 503, r#"{"error":"system queue full"}"#);
    assert_eq!(reply.all("retry-after").len(), 1);
    says(
        &gateway.form(&format!("/async/{topic}"), "a=1").await,
        200,
        WELL,
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_ends_messages_are_to_go_elsewhere() {
    let gateway = gateway();
    gateway.outbox.drain(Instant::now() + PATIENCE).await;
    for path in ["/async/t", "/sync/t", "/safe/batch/sync/t"] {
        let reply = gateway.form(path, "a=1").await;
        says(&reply, 503, r#"{"error":"overload"}"#);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_while_kafka_is_away_arrives_in_order_once() {
    let kafka = tokio::task::spawn_blocking(|| Cluster::builder().start().unwrap());
    let kafka = kafka.await.unwrap();
    kafka.create_topic("t", 1).unwrap();
    let gateway = start(Changes {
        brokers: kafka.bootstrap_servers(),
        ..Changes::default()
    });
    says(
        &gateway.post("/sync/t", "", "before").await,
        200,
        r#"[{"ok":true}]"#,
    );
    kafka.broker(0).kill().unwrap();
    let mut expected = vec![plain("before")];
    for number in 0..50 {
        let (path, value) = match number % 2 {
            0 => ("/async/t", format!("{number}")),
            _ => ("/batch/async/t", format!("{number}")),
        };
        says(
            &gateway.post(path, "text/plain", value.clone()).await,
            200,
            WELL,
        );
        expected.push(plain(&value));
    }
    kafka.broker(0).start().unwrap();
    let started = Instant::now();
    let found = loop {
        let records = kafka.read_all("t").unwrap();
        if records.len() >= expected.len() {
            break records;
        }
        assert!(started.elapsed() < PATIENCE * 2, "{}", records.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let mut values: Vec<String> = found.iter().map(|record| record.value_text()).collect();
    assert_eq!(values.len(), expected.len());
    // Batched and un-batched ones have an order each.
    let ordered = |parity: usize| {
        let own = |value: &&String| value.parse::<usize>().is_ok_and(|n| n % 2 == parity);
        values.iter().filter(own).cloned().collect::<Vec<_>>()
    };
    for parity in 0..2 {
        let numbers = (0..50).filter(|number| number % 2 == parity);
        let wanted: Vec<String> = numbers.map(|number| number.to_string()).collect();
        assert_eq!(ordered(parity), wanted);
    }
    values.sort();
    values.dedup();
    assert_eq!(values.len(), expected.len(), "nothing twice");
    gateway.stop().await;
}
