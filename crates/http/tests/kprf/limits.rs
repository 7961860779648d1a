//! The rate limiter (section 2) and the bound of what may be under way
//! (section 9).

use super::{PUSH, WELL, gateway, request, start};
use crate::support::new_topic;
use barnabas_http::{KprfOptions, RateRule};
use serde_json::{Value, json};

fn limited(topic: &str, limit: u32) -> KprfOptions {
    KprfOptions {
        rules: vec![RateRule {
            topic_name: topic.to_owned(),
            max_requests_per_minute: limit,
        }],
        ..KprfOptions::default()
    }
}

fn entries(messages: &[Option<&str>]) -> Value {
    let entries = messages
        .iter()
        .map(|message| json!({"error": message.is_some(), "message": message}));
    json!({"status": "err", "errors": entries.collect::<Vec<_>>()})
}

#[tokio::test(flavor = "multi_thread")]
async fn records_beyond_the_rate_are_refused_and_the_others_sent() {
    let topic = new_topic("kprf-rate", 1);
    let gateway = gateway(limited(&topic, 2));
    let expected = entries(&[None, None, Some("ratelimit")]);
    let reply = gateway.send(PUSH, request(&topic, &["a", "b", "c"], true).to_string());
    let reply = reply.await;
    assert_eq!((reply.status, reply.json()), (429, expected));
    let wait: u64 = reply.all("retry-after")[0].parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    // Who does not wait is told, too; other topics are free.
    let reply = gateway.send(PUSH, request(&topic, &["d"], false).to_string());
    let reply = reply.await;
    let expected = entries(&[Some("ratelimit")]);
    assert_eq!((reply.status, reply.json()), (429, expected));
    let free = new_topic("kprf-rate", 1);
    assert_eq!(
        gateway.push(request(&free, &["a"; 9], true)).await.body,
        WELL
    );
    let values: Vec<String> = super::records(&topic, 2)
        .await
        .iter()
        .map(|record| record.value_text())
        .collect();
    assert_eq!(values, ["a", "b"]);
    let series = format!("ratelimit_messages_count{{topic=\"{topic}\"}}");
    assert_eq!(gateway.value(&series).await, Some(2.0));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_accepted_counts() {
    let topic = new_topic("kprf-counted", 1);
    let gateway = gateway(KprfOptions {
        message_max_bytes: 1_000,
        ..limited(&topic, 1)
    });
    let large = "x".repeat(2_000);
    for _ in 0..3 {
        let reply = gateway.push(request(&topic, &[&large], true)).await;
        assert_eq!(reply.status, 500, "{}", reply.body);
        assert!(reply.body.contains("MessageSizeTooLarge"), "{}", reply.body);
    }
    assert_eq!(gateway.push(request(&topic, &["a"], true)).await.body, WELL);
    let more = gateway.push(request(&topic, &["a"], true)).await;
    assert_eq!(more.status, 429, "{}", more.body);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_replies_have_kprfs_statuses() {
    let topic = new_topic("kprf-strict", 1);
    let gateway = gateway(KprfOptions {
        is_strict: true,
        ..limited(&topic, 1)
    });
    for (waits, statuses) in [(true, [200, 500]), (false, [200, 200])] {
        let topic = if waits { topic.as_str() } else { "bad topic!" };
        for status in statuses {
            let reply = gateway.send(PUSH, request(topic, &["a"], waits).to_string());
            let reply = reply.await;
            assert_eq!(reply.status, status, "{}", reply.text());
            assert_eq!(reply.all("retry-after"), [""; 0]);
            assert_eq!(reply.text() == WELL, status == 200);
        }
    }
    gateway.stop().await;
}

/// Nobody listens at the broker's address, so that nothing ever leaves.
#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_bound_requests_are_refused_whole() {
    let options = KprfOptions {
        max_messages: 10,
        ..KprfOptions::default()
    };
    let gateway = start("127.0.0.1:1", options, &[]);
    let push = async |count: usize, waits: bool| {
        let body = request("t", &vec!["x"; count], waits).to_string();
        gateway.send(PUSH, body).await
    };
    assert_eq!(push(7, false).await.status, 200);
    let full = "Message production error: QueueFull (Local: Queue full)";
    for waits in [false, true] {
        let reply = push(4, waits).await;
        assert_eq!(
            (reply.status, reply.json()),
            (503, entries(&[Some(full); 4]))
        );
        assert_eq!(reply.all("retry-after"), ["30"], "nothing leaves");
    }
    // Nothing of the refused ones has been kept.
    assert_eq!(push(3, false).await.status, 200);
    assert_eq!(push(1, false).await.status, 503);
    assert_eq!(
        gateway.value("barnabas_admitted_messages").await,
        Some(10.0)
    );
    let queue = gateway.value("kafka_internal_queue_size{topic=\"t\"}");
    assert_eq!(queue.await, Some(10.0));
    let errors = gateway.value("kafka_errors_count{error_code=\"-184\",topic=\"t\"}");
    assert_eq!(errors.await, Some(9.0));
    gateway.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_are_bounded_and_come_back() {
    let topic = new_topic("kprf-bytes", 1);
    let options = KprfOptions {
        max_buffered_bytes: 100_000,
        ..KprfOptions::default()
    };
    let gateway = gateway(options);
    let value = "x".repeat(60_000);
    let two = gateway.push(request(&topic, &[&value, &value], true)).await;
    assert_eq!(two.status, 503, "{}", two.body);
    for _ in 0..5 {
        let one = gateway.push(request(&topic, &[&value], true)).await;
        assert_eq!((one.status, one.body.as_str()), (200, WELL));
    }
    assert_eq!(gateway.value("barnabas_admitted_bytes").await, Some(0.0));
    assert_eq!(super::records(&topic, 5).await.len(), 5);
    gateway.stop().await;
}
