//! Section 1's table of cases: statuses, texts, shapes, types.

use super::{PUSH, WELL, full, gateway, request, start};
use crate::support::new_topic;
use barnabas_engine::Durability;
use barnabas_http::{KprfOptions, ReplyShape};
use barnabas_testkit::{shared, topic_name};
use serde_json::json;
use std::process::Command;
use std::time::{Duration, Instant};

const UNKNOWN_PARTITION: &str =
    "Message production error: UnknownPartition (Local: Unknown partition)";

#[tokio::test(flavor = "multi_thread")]
async fn all_well_is_answered_byte_for_byte() {
    let gateway = gateway(KprfOptions::default());
    let topic = new_topic("kprf-well", 1);
    for waits in [false, true] {
        let body = request(&topic, &["a"], waits).to_string();
        for path in [PUSH, "/push/", "/push?x=%zz&reply=nothing", "/push/?a"] {
            let reply = gateway.send(path, body.clone()).await;
            assert_eq!((reply.status, reply.text().as_str()), (200, WELL), "{path}");
            assert_eq!(reply.all("content-type"), ["application/json"]);
        }
    }
    for body in [
        json!({"records": []}),
        json!({"records": [], "wait_for_send": true}),
    ] {
        let answer = gateway.push(body).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, WELL));
    }
    // No content type at all, any parameters, HTTP/2 by prior knowledge.
    let body = request(&topic, &["b"], true).to_string();
    let bare = gateway.client.post(gateway.url(PUSH)).body(body.clone());
    assert_eq!(full(bare).await.status, 200);
    let second = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let request = second.post(gateway.url(PUSH)).body(body);
    let reply = full(request.header("content-type", "application/json; charset=utf-8")).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, WELL));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused_in_kprfs_words() {
    let gateway = gateway(KprfOptions {
        max_body_bytes: 100,
        ..KprfOptions::default()
    });
    for (body, text) in [
        ("{}", "missing field `records` at line 1 column 2"),
        ("", "EOF while parsing a value at line 1 column 0"),
        (
            r#"{"records":[{"topic":"t","data":1}]}"#,
            "invalid type: integer `1`, expected a string at line 1 column 33",
        ),
        (
            r#"[[["d","t",null,null]],true]"#,
            "invalid type: sequence, expected struct PushRequest at line 1 column 0",
        ),
    ] {
        let reply = gateway.send(PUSH, body).await;
        let expected = format!("Request body deserialize error: {text}");
        assert_eq!((reply.status, reply.text()), (400, expected));
        assert_eq!(reply.all("content-type"), ["text/plain; charset=utf-8"]);
    }
    for method in ["GET", "PUT", "OPTIONS", "HEAD"] {
        let method: reqwest::Method = method.parse().unwrap();
        let asked = gateway.client.request(method.clone(), gateway.url(PUSH));
        let reply = full(asked).await;
        assert_eq!(reply.status, 405, "{method}");
        assert_eq!(reply.all("allow"), ["POST"]);
        assert_eq!(reply.all("content-type"), ["text/plain; charset=utf-8"]);
        if method != reqwest::Method::HEAD {
            assert_eq!(reply.text(), "HTTP method not allowed");
        }
    }
    for path in ["/", "/pushes", "/push/x", "/metrics"] {
        let reply = gateway.send(path, "{}").await;
        assert_eq!((reply.status, reply.body.len()), (404, 0), "{path}");
        assert_eq!(reply.all("content-type"), [""; 0], "{path}");
    }
    let reply = gateway.send(PUSH, " ".repeat(101)).await;
    let text = "The request payload is too large";
    assert_eq!((reply.status, reply.text().as_str()), (413, text));
    let reply = gateway.send("/push?durability=maybe", "{}").await;
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("maybe"), "{}", reply.text());

    // curl's own type is that of a form.
    let url = gateway.url(PUSH);
    let curl = tokio::task::spawn_blocking(move || {
        let form = [
            "--silent",
            "--max-time",
            "20",
            "--data",
            "{}",
            "--write-out",
        ];
        let output = Command::new("curl")
            .args(form)
            .args([" %{http_code} %{content_type}", &url])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    });
    assert_eq!(
        curl.await.unwrap(),
        "The request's content-type is not supported 415 text/plain; charset=utf-8"
    );
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_line_up_with_their_records_in_both_shapes() {
    let gateway = gateway(KprfOptions::default());
    let topic = new_topic("kprf-lineup", 1);
    let body = json!({"records": [
        {"topic": topic, "data": "a"},
        {"topic": topic, "data": "b", "partition": 99},
        {"topic": topic, "data": "c"},
    ], "wait_for_send": true});
    let program = format!(
        r#"{{"status":"err","errors":[{{"error":false,"message":null}},{{"error":true,"message":"{UNKNOWN_PARTITION}"}},{{"error":false,"message":null}}]}}"#
    );
    let documented = format!(
        r#"{{"status":"error","errors":[{{"status":"ok","error":""}},{{"status":"error","error":"{UNKNOWN_PARTITION}"}},{{"status":"ok","error":""}}]}}"#
    );
    for (path, expected) in [
        (PUSH, &program),
        ("/push?reply=documented", &documented),
        ("/push?reply=program", &program),
    ] {
        let reply = gateway.send(path, body.to_string()).await;
        assert_eq!((reply.status, &reply.text()), (500, expected), "{path}");
        assert_eq!(reply.all("content-type"), ["application/json"]);
    }
    // The good ones are in Kafka.
    let records = super::records(&topic, 6).await;
    let values: String = records.iter().map(|record| record.value_text()).collect();
    assert_eq!(values, "acacac");
    gateway.stop().await;

    let gateway = super::gateway(KprfOptions {
        reply_shape: ReplyShape::Documented,
        durability: Durability::Kafka,
        ..KprfOptions::default()
    });
    let mut body = body;
    body["wait_for_send"] = false.into();
    assert_eq!(gateway.push(body.clone()).await.body, documented);
    let reply = gateway.send("/push?durability=memory", body.to_string());
    // Nobody waits: whether librdkafka knows the partitions by now decides.
    assert!(matches!(reply.await.status, 200 | 500));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_cannot_be_sent_are_refused_whether_anybody_waits_or_not() {
    let gateway = gateway(KprfOptions::default());
    let topic = new_topic("kprf-refused", 1);
    let message = |name: &str| format!("Message production error: {name}");
    let invalid = message("InvalidTopic (Broker: Invalid topic)");
    let large = message("MessageSizeTooLarge (Broker: Message size too large)");
    let cases = [
        (json!({"topic": "bad topic!", "data": ""}), Some(&invalid)),
        (json!({"topic": "", "data": ""}), Some(&invalid)),
        (json!({"topic": "..", "data": ""}), Some(&invalid)),
        (json!({"topic": "a\u{0}b", "data": ""}), Some(&invalid)),
        (
            json!({"topic": "x".repeat(250), "data": ""}),
            Some(&invalid),
        ),
        (
            json!({"topic": topic, "data": "x".repeat(1_048_570)}),
            Some(&large),
        ),
        (json!({"topic": topic, "data": "x".repeat(1_048_000)}), None),
        (json!({"topic": topic, "data": "y", "partition": -1}), None),
    ];
    let below = UNKNOWN_PARTITION.to_owned();
    let records: Vec<_> = cases
        .iter()
        .map(|(record, _)| record.clone())
        .chain([json!({"topic": topic, "data": "z", "partition": -2})])
        .collect();
    let expected: Vec<_> = cases
        .iter()
        .map(|(_, text)| *text)
        .chain([Some(&below)])
        .map(|text| json!({"error": text.is_some(), "message": text}))
        .collect();
    for waits in [true, false] {
        let answer = gateway
            .push(json!({"records": records, "wait_for_send": waits}))
            .await;
        let expected = json!({"status": "err", "errors": expected});
        assert_eq!((answer.status, answer.json()), (500, expected));
    }
    assert_eq!(super::records(&topic, 4).await.len(), 4);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_exist_is_told_of_soon_and_remembered() {
    let gateway = start(&shared().bootstrap_servers(), KprfOptions::default(), &[]);
    let topic = topic_name("kprf-missing");
    let expected = json!({"status": "err", "errors": [{"error": true, "message":
        "Message production error: UnknownTopicOrPartition (Broker: Unknown topic or partition)"}]});
    let answer = gateway.push(request(&topic, &["a"], true)).await;
    assert_eq!((answer.status, answer.json()), (500, expected.clone()));
    // The quickest of five: any may meet the end of what is remembered.
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        let asked = Instant::now();
        let answer = gateway.push(request(&topic, &["a"], true)).await;
        assert_eq!((answer.status, answer.json()), (500, expected.clone()));
        quickest = quickest.min(asked.elapsed());
    }
    assert!(quickest < Duration::from_millis(500), "remembered");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_topics_that_are_allowed_may_be_used() {
    let (allowed, denied) = (new_topic("kprf-allowed", 1), new_topic("kprf-allowed", 1));
    let gateway = gateway(KprfOptions {
        allowed_topics: vec!["kprf-allowed*".to_owned()],
        denied_topics: vec![denied.clone()],
        ..KprfOptions::default()
    });
    let statuses = [&*allowed, &*denied, "other"];
    let mut found = Vec::new();
    for topic in statuses {
        found.push(gateway.push(request(topic, &["a"], true)).await);
    }
    assert_eq!(found[0].status, 200);
    let text = "TopicAuthorizationFailed (Broker: Topic authorization failed)";
    for refused in &found[1..] {
        assert_eq!(refused.status, 500);
        assert!(refused.body.contains(text), "{}", refused.body);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_ends_records_are_to_go_elsewhere() {
    let gateway = gateway(KprfOptions::default());
    let topic = new_topic("kprf-ending", 1);
    gateway.kprf.begin_to_stop();
    // Balancers are told before anybody is refused.
    assert_eq!(gateway.look("/health/ready").await.status, 503);
    let taken = gateway.push(request(&topic, &["a"], true)).await;
    assert_eq!(taken.status, 200, "{}", taken.body);
    gateway.kprf.refuse_work();
    let reply = gateway.send(PUSH, request("t", &["a"], false).to_string());
    let reply = reply.await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert_eq!(reply.all("retry-after").len(), 1);
    assert_eq!(gateway.look("/health/ready").await.status, 503);
    assert_eq!(gateway.look("/health/live").await.status, 200);
    gateway.stop().await;
}
