//! Requests with an `Idempotency-Key` (`docs/http-api.md`, "Once").

use crate::support::{Changes, Full, Gateway, PATIENCE, gateway, new_topic, start};
use barnabas_engine::{Access, Action, Grant};
use barnabas_http::{IdempotencyOptions, Options};
use barnabas_testkit::{shared, topic_name};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

fn path(topic: &str) -> String {
    format!("/v1/topics/{topic}/records")
}

async fn post(gateway: &Gateway, path: &str, key: &str, kind: &str, body: &str) -> Full {
    let request = gateway.ask("POST", path).header("idempotency-key", key);
    request.body(kind, body).send().await
}

fn is_replayed(reply: &Full) -> bool {
    reply.all("idempotent-replayed") == ["true"]
}

fn values(topic: &str) -> Vec<String> {
    let records = shared().read_all(topic).unwrap();
    records.iter().map(|record| record.value_text()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_has_the_first_answer_and_produces_nothing() {
    let gateway = gateway();
    let topic = new_topic("once", 1);
    let records = r#"[{"value": "b"}, {"value": 7, "partition": 99}, {"value": "c"}]"#;
    for (key, query, kind, body, status) in [
        ("\"one\"", "", "text/plain", "a", 200),
        ("many", "?as=records", JSON, records, 207),
        ("lines", "", NDJSON, "d\ne\n\nf", 200),
        ("memory", "?durability=memory", "text/plain", "g", 202),
    ] {
        let path = path(&topic) + query;
        let first = post(&gateway, &path, key, kind, body).await;
        assert_eq!(first.status, status, "{}", first.text());
        assert!(!is_replayed(&first));
        let again = post(&gateway, &path, key, kind, body).await;
        assert_eq!((again.status, again.text()), (status, first.text()));
        assert!(is_replayed(&again), "{key}");
        assert_eq!(again.all("content-type"), [JSON]);
    }
    // The key without its quotation marks is the same one.
    let again = post(&gateway, &path(&topic), "one", "text/plain", "a").await;
    assert!(is_replayed(&again));
    let started = Instant::now();
    while values(&topic).len() < 7 {
        assert!(started.elapsed() < PATIENCE);
    }
    // A record of its own, behind everything that was ever sent.
    let last = gateway
        .ask("POST", &path(&topic))
        .body("text/plain", "last");
    assert_eq!(last.send().await.status, 200);
    assert_eq!(values(&topic), ["a", "b", "c", "d", "e", "f", "g", "last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_request_with_the_key_is_refused() {
    let gateway = gateway();
    let (topic, other) = (new_topic("once", 1), new_topic("once", 1));
    let first = post(&gateway, &path(&topic), "k", "text/plain", "a").await;
    assert_eq!(first.status, 200);
    for (query, kind, body) in [
        ("", "text/plain", "b"),
        ("?partition=0", "text/plain", "a"),
        ("", "text/html", "a"),
    ] {
        let reply = post(&gateway, &(path(&topic) + query), "k", kind, body).await;
        assert_eq!(reply.status, 422, "{}", reply.text());
        assert_eq!(reply.json()["code"], "idempotency-key-reused");
        assert_eq!(reply.all("content-type"), ["application/problem+json"]);
    }
    let header = gateway
        .ask("POST", &path(&topic))
        .header("idempotency-key", "k")
        .header("kafka-key", "x")
        .body("text/plain", "a");
    assert_eq!(header.send().await.status, 422);
    // Of another topic it is another key.
    let elsewhere = post(&gateway, &path(&other), "k", "text/plain", "b").await;
    assert_eq!(elsewhere.status, 200);
    let bad = post(&gateway, &path(&topic), "\"", "text/plain", "a").await;
    assert_eq!(
        (bad.status, &bad.json()["code"]),
        (400, &json!("invalid-parameter"))
    );
    assert_eq!(values(&topic), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_first_is_under_way_others_wait_their_turn() {
    let gateway = gateway();
    let topic = new_topic("once", 1);
    let mut socket = tokio::net::TcpStream::connect(gateway.address)
        .await
        .unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Type: \
         text/plain\r\nIdempotency-Key: k\r\nExpect: 100-continue\r\n\r\n",
        path(&topic)
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    // It asks for the body once it has the key.
    let mut asked = [0; 25];
    socket.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"a").await.unwrap();
    let refused = post(&gateway, &path(&topic), "k", "text/plain", "ab").await;
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert_eq!(refused.json()["code"], "idempotency-key-in-use");
    assert_eq!(refused.all("retry-after"), ["1"]);
    // Half a request is none: its key is free, and nothing is produced.
    drop(socket);
    let started = Instant::now();
    loop {
        let reply = post(&gateway, &path(&topic), "k", "text/plain", "ab").await;
        if reply.status == 200 {
            assert!(!is_replayed(&reply));
            break;
        }
        assert_eq!(reply.status, 409);
        assert!(started.elapsed() < PATIENCE);
    }
    assert_eq!(values(&topic), ["ab"]);
}

/// The reason for it all: the first answer never came.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_finds_what_has_become_of_its_request() {
    let gateway = gateway();
    let topic = new_topic("once", 1);
    let body = "x".repeat(1_000);
    for number in 0..10 {
        let mut socket = tokio::net::TcpStream::connect(gateway.address)
            .await
            .unwrap();
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nContent-Type: \
             text/plain\r\nIdempotency-Key: {number}\r\n\r\n{body}",
            path(&topic),
            body.len()
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        drop(socket);
    }
    let started = Instant::now();
    for number in 0..10 {
        loop {
            let key = number.to_string();
            let reply = post(&gateway, &path(&topic), &key, "text/plain", &body).await;
            // Whichever was read first, the other one is the repetition.
            if reply.status == 200 {
                break;
            }
            assert_eq!(reply.status, 409, "{}", reply.text());
            assert!(started.elapsed() < PATIENCE);
        }
    }
    assert_eq!(values(&topic).len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_had_no_effect_may_be_tried_again() {
    let gateway = gateway();
    let topic = topic_name("once-later");
    for attempt in 0..2 {
        let reply = post(&gateway, &path(&topic), "k", "text/plain", "a").await;
        assert_eq!(reply.status, 404, "{attempt}: {}", reply.text());
        assert!(!is_replayed(&reply));
    }
    shared().create_topic(&topic, 1).unwrap();
    let started = Instant::now();
    loop {
        let reply = post(&gateway, &path(&topic), "k", "text/plain", "a").await;
        if reply.status == 200 {
            assert!(!is_replayed(&reply));
            break;
        }
        assert_eq!(reply.status, 404, "{}", reply.text());
        assert!(started.elapsed() < PATIENCE);
    }
    let again = post(&gateway, &path(&topic), "k", "text/plain", "a").await;
    assert!(is_replayed(&again));
    assert_eq!(values(&topic), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_bounded_in_time_and_number_and_are_the_tokens_own() {
    let grant = || {
        vec![Grant {
            clusters: vec!["*".to_owned()],
            topics: vec!["*".to_owned()],
            actions: vec![Action::Produce],
        }]
    };
    let tokens = ["ann", "bob"].map(|token| (token.to_owned(), grant()));
    let gateway = start(
        Changes {
            options: Options {
                idempotency: IdempotencyOptions {
                    window: Duration::from_secs(10),
                    max_keys: 2,
                },
                access: Arc::new(Access::only(tokens)),
                ..Options::default()
            },
            ..Changes::default()
        },
        None,
    );
    let topic = new_topic("once", 1);
    let post = async |token: &str, key: &str, body: &str| {
        let request = gateway.ask("POST", &path(&topic));
        let request = request.header("authorization", &format!("Bearer {token}"));
        let request = request.header("idempotency-key", key);
        request.body("text/plain", body).send().await
    };
    assert_eq!(post("ann", "k", "of ann").await.status, 200);
    let of_bob = post("bob", "k", "of bob").await;
    assert_eq!(of_bob.status, 200);
    assert!(!is_replayed(&of_bob), "it is another key");
    let full = post("ann", "l", "more").await;
    assert_eq!(full.status, 503);
    assert_eq!(full.json()["code"], "idempotency-keys-exhausted");
    let wait: u64 = full.all("retry-after")[0].parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    tokio::time::sleep(Duration::from_secs(wait)).await;
    assert_eq!(post("ann", "l", "more").await.status, 200);
    // Until bob's is over, too.
    let started = Instant::now();
    let after = loop {
        let after = post("ann", "k", "of ann").await;
        if after.status != 503 || started.elapsed() > PATIENCE {
            break after;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(after.status, 200);
    assert!(!is_replayed(&after), "the window is over");
    assert_eq!(values(&topic), ["of ann", "of bob", "more", "of ann"]);
}
