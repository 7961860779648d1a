//! Producing: section 3.1 of the contract.

use crate::support::{Changes, answer, gateway, new_topic, start};
use barnabas_engine::DropReason;
use barnabas_testkit::{shared, topic_name};
use serde_json::json;
use std::time::Duration;

const TEXT: &str = "text/plain";
const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_as_they_are() {
    let gateway = gateway();
    let topic = new_topic("produce", 4);
    let path = format!("/topics/{topic}/messages");
    // Partitions are those of the contract's table.
    for (index, (query, kind, body, partition)) in [
        ("sync&key=foo", TEXT, "a", 1),
        ("sync=false&key=", "text/plain; charset=utf-8", "", 3),
        ("key=bar&sync", "application/json", "{broken", 2),
        ("key=user-42&sync", "application/vnd.x+json; v=1", "é", 3),
        ("key=ignored&sync", FORM, "msg=a+b%20c&key=%ff%fe", 0),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = gateway.post(&format!("{path}?{query}"), kind, body).await;
        assert_eq!(answer.status, 200, "{index}: {}", answer.body);
        assert_eq!(answer.json()["partition"], partition, "{index}");
        assert!(answer.json()["offset"].is_i64());
    }
    let async_ = gateway.post(&path, TEXT, "later").await;
    assert_eq!((async_.status, async_.json()), (200, json!({})));
    let prefixed = format!("/clusters/main{path}?sync");
    assert_eq!(gateway.post(&prefixed, TEXT, "last").await.status, 200);

    let started = std::time::Instant::now();
    let records = loop {
        let records = shared().read_all(&topic).unwrap();
        if records.len() == 7 {
            break records;
        }
        assert!(started.elapsed() < Duration::from_secs(10));
    };
    let mut seen: Vec<_> = records
        .iter()
        .map(|record| (record.key.clone(), record.value.clone().unwrap()))
        .collect();
    seen.sort();
    let mut expected = vec![
        (Some(b"foo".to_vec()), b"a".to_vec()),
        (Some(Vec::new()), Vec::new()),
        (Some(b"bar".to_vec()), b"{broken".to_vec()),
        (Some(b"user-42".to_vec()), "é".as_bytes().to_vec()),
        (Some(b"\xff\xfe".to_vec()), b"a b c".to_vec()),
        (None, b"later".to_vec()),
        (None, b"last".to_vec()),
    ];
    expected.sort();
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_become_headers_of_the_record() {
    let gateway = gateway();
    let topic = new_topic("headers", 1);
    let url = gateway.url(&format!("/topics/{topic}/messages?sync"));
    let request = gateway.client.post(&url).header("content-type", TEXT);
    let request = request
        .header("x-kafka-trace-ID", "AA==")
        .header("X-Kafka-b", "")
        .header("x-kafka-trace-id", "AQI=");
    assert_eq!(answer(request.body("x")).await.status, 200);
    let record = &shared().read_all(&topic).unwrap()[0];
    let mut headers = record.headers.clone();
    headers.sort();
    assert_eq!(
        headers,
        [
            ("B".to_owned(), Some(Vec::new())),
            ("Trace-Id".to_owned(), Some(vec![0])),
            ("Trace-Id".to_owned(), Some(vec![1, 2])),
        ]
    );
    let request = gateway.client.post(&url).header("content-type", TEXT);
    let request = request.header("x-kafka-bad-ONE", "?").body("x");
    let text = "Invalid base64 encoding for header: X-Kafka-Bad-One";
    answer(request).await.is_error(400, text);

    let old = start(
        Changes {
            has_headers: false,
            ..Changes::default()
        },
        None,
    );
    let url = old.url(&format!("/topics/{topic}/messages"));
    let request = |query: &str| {
        let request = old.client.post(format!("{url}{query}"));
        let request = request.header("content-type", TEXT);
        request.header("x-kafka-a", "AA==").body("x")
    };
    answer(request("?sync")).await.is_error(
        400,
        "headers are not supported with this version of Kafka. Consider changing `kafka.version` \
         (https://github.com/mailgun/kafka-pixy/blob/master/default.yaml#L35)",
    );
    assert_eq!(answer(request("")).await.body, "{}");
    assert_eq!(shared().end_offsets(&topic).unwrap()[&0], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_produced_is_refused() {
    let gateway = gateway();
    let topic = new_topic("refused", 1);
    let path = format!("/topics/{topic}/messages?sync");
    let refused = async |kind: &str, body: &str| gateway.post(&path, kind, body).await;
    for kind in ["text/html", "multipart/form-data; boundary=x"] {
        let text = format!("unsupported content type {kind}");
        refused(kind, "x").await.is_error(400, &text);
    }
    refused(FORM, "message=x")
        .await
        .is_error(400, "empty message");
    refused(FORM, "msg=").await.is_error(400, "empty message");
    let too_large =
        "kafka server: Message was too large, server rejected it to avoid allocation error.";
    // The edge that was probed: 36 + 3 + 999,961 bytes are the limit.
    let keyed = format!("{path}&key=foo");
    let fits = gateway.post(&keyed, TEXT, "x".repeat(999_961)).await;
    assert_eq!(fits.status, 200, "{}", fits.body);
    let large = gateway.post(&keyed, TEXT, "x".repeat(999_962)).await;
    large.is_error(500, too_large);
    let huge = gateway.post(&path, TEXT, "x".repeat(1_100_000)).await;
    huge.is_error(500, too_large);
    let missing = topic_name("missing");
    let missing = format!("/topics/{missing}/messages?sync");
    gateway.post(&missing, TEXT, "x").await.is_error(
        404,
        "kafka server: Request was for a topic or partition that does not exist on this broker.",
    );
    let unknown = format!("/clusters/other{path}");
    let text = "proxy `other` does not exist";
    gateway.post(&unknown, TEXT, "x").await.is_error(400, text);
    gateway.proxies.refuse_work();
    refused(TEXT, "x")
        .await
        .is_error(503, "service is shutting down");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_has_a_result_for_each_message() {
    let gateway = gateway();
    let topic = new_topic("batch", 1);
    let path = format!("/topics/{topic}/batches");
    let batch = json!([
        {"key": "Zm9v", "value": "YQ==", "headers": [{"key": "x-Y", "value": "AA=="}]},
        {"value": "?"},
        {"key": "", "value": null},
    ]);
    let answer = gateway
        .post(&path, "application/json", batch.to_string())
        .await;
    assert_eq!(
        answer.json(),
        json!([
            {"partition": 0, "offset": 0},
            {"error": "Invalid base64 encoding for value"},
            {"partition": 0, "offset": 1},
        ])
    );
    let records = shared().read_all(&topic).unwrap();
    assert_eq!(records[0].headers, [("x-Y".to_owned(), Some(vec![0]))]);
    assert_eq!(
        (&records[1].key, &records[1].value),
        (&Some(Vec::new()), &None)
    );
    let answer = gateway.post(&path, "application/json", "[{").await;
    assert_eq!(answer.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_go_in_and_out_for_those_who_ask() {
    let gateway = gateway();
    let topic = new_topic("times", 1);
    let path = format!("/topics/{topic}");
    let messages = format!("{path}/messages");
    let early = format!("{messages}?sync&timestamp=1500");
    assert_eq!(gateway.post(&early, TEXT, "a").await.status, 200);
    let sync = format!("{messages}?sync");
    let form = gateway.post(&sync, FORM, "msg=b&timestamp=1600").await;
    assert_eq!(form.status, 200);
    let batch = json!([
        {"value": "Yw==", "timestamp": 1700},
        {"value": "ZA==", "timestamp": -1},
    ]);
    let path = format!("{path}/batches");
    let batch = gateway.post(&path, "application/json", batch.to_string());
    let results = batch.await.json();
    assert_eq!(results[1], json!({"error": "bad timestamp: [-1]"}));
    let bad = format!("{messages}?timestamp=x");
    gateway.post(&bad, TEXT, "a").await.is_error(
        400,
        "bad timestamp: [x]: strconv.ParseInt: parsing \"x\": invalid syntax",
    );
    let group = topic_name("times");
    let old = gateway.consume(&topic, &format!("group={group}")).await;
    assert_eq!(
        (&old["value"], old.get("timestamp")),
        (&json!("YQ=="), None)
    );
    let query = format!("group={group}&timestamp");
    assert_eq!(gateway.consume(&topic, &query).await["timestamp"], 1600);
    let many = gateway.consume(&topic, &format!("{query}&max=5")).await;
    assert_eq!(many[0]["timestamp"], 1700);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_dropped_is_counted_or_told() {
    let topic = new_topic("dropped", 1);
    let path = format!("/topics/{topic}/messages");
    let counts = |gateway: &crate::support::Gateway| {
        let counts = gateway.server.dropped();
        counts.filter(|(_, count)| *count > 0).collect::<Vec<_>>()
    };
    let old = |strict_async| Changes {
        has_headers: false,
        strict_async,
        ..Changes::default()
    };
    let (lenient, strict) = (start(old(false), None), start(old(true), None));
    let with_header = |gateway: &crate::support::Gateway| {
        let request = gateway.client.post(gateway.url(&path)).body("x");
        request
            .header("content-type", TEXT)
            .header("x-kafka-a", "AA==")
    };
    for size in [1_000_000, 1_100_000] {
        let large = lenient.post(&path, TEXT, "x".repeat(size)).await;
        assert_eq!((large.status, large.body.as_str()), (200, "{}"));
        let large = strict.post(&path, TEXT, "x".repeat(size)).await;
        assert_eq!(large.status, 500, "{}", large.body);
    }
    assert_eq!(answer(with_header(&lenient)).await.status, 200);
    assert_eq!(answer(with_header(&strict)).await.status, 400);
    let expected = [
        (DropReason::TooLarge, 2),
        (DropReason::HeadersUnsupported, 1),
    ];
    assert_eq!(counts(&lenient), expected);
    assert_eq!(counts(&strict), []);
    // Nobody is told that what is dropped has been taken while the process
    // ends.
    for gateway in [lenient, strict] {
        gateway.proxies.refuse_work();
        let refused = gateway.post(&path, TEXT, "x").await;
        refused.is_error(503, "service is shutting down");
    }
    assert!(shared().read_all(&topic).unwrap().is_empty());
}
