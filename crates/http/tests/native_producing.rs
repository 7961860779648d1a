//! The native API: `POST /v1/topics/{topic}/records` (`docs/http-api.md`).

use crate::support::{Changes, Full, Gateway, PATIENCE, gateway, new_topic, start};
use barnabas_testkit::{shared, tools, topic_name};
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

/// Posts bytes; headers are names and values in turn.
async fn post(gateway: &Gateway, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Full {
    let mut request = gateway.client.post(gateway.url(path)).body(body.to_vec());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    Full {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.bytes().await.unwrap().to_vec(),
    }
}

fn path(topic: &str) -> String {
    format!("/v1/topics/{topic}/records")
}

fn values(topic: &str) -> Vec<String> {
    let records = shared().read_all(topic).unwrap();
    let text = |value: &Option<Vec<u8>>| String::from_utf8(value.clone().unwrap()).unwrap();
    records.iter().map(|record| text(&record.value)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_body_is_a_record() {
    let gateway = gateway();
    let topic = new_topic("any-body", 1);
    let bodies: [(&str, &[u8]); 5] = [
        (JSON, br#"{"order": 1, "as": [it, is"#),
        ("application/json; charset=utf-8", b"[1, 2]"),
        ("application/vnd.github+json", b"{}"),
        ("application/octet-stream", b"\x00\xff\n"),
        ("text/plain", b""),
    ];
    for (offset, (kind, body)) in bodies.iter().enumerate() {
        let reply = post(&gateway, &path(&topic), &[("content-type", kind)], body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let mut place = reply.json();
        assert!(place["timestamp"].take().is_i64());
        let expected =
            json!({"result": "written", "partition": 0, "offset": offset, "timestamp": null});
        assert_eq!(place, expected);
    }
    let found = shared().read_all(&topic).unwrap();
    for (record, (_, body)) in found.iter().zip(&bodies) {
        assert_eq!(record.value.as_deref(), Some(*body));
        assert_eq!((&record.key, record.headers.len()), (&None, 0));
    }
    assert_eq!(found.len(), bodies.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_besides_the_value_is_in_headers_or_the_query() {
    let gateway = gateway();
    let topic = new_topic("besides", 3);
    let all = [
        ("kafka-key", "%FF%00k"),
        ("kafka-header", "a%20b=x%3D"),
        ("kafka-header", "n"),
        ("kafka-partition", "2"),
        ("kafka-timestamp", "1700000000001"),
    ];
    let reply = post(&gateway, &path(&topic), &all, b"v").await;
    assert_eq!(reply.json()["partition"], 2, "{}", reply.text());
    let query = format!("{}?key=k%20y&partition=1&timestamp=5", path(&topic));
    let tombstone = [("kafka-tombstone", "true")];
    let reply = post(&gateway, &query, &tombstone, b"").await;
    assert_eq!(reply.json()["timestamp"], 5, "{}", reply.text());
    let mut records = shared().read_all(&topic).unwrap();
    records.sort_by_key(|record| record.partition);
    let [second, first] = &records[..] else {
        panic!("{records:?}");
    };
    assert_eq!(first.key.as_deref(), Some(&b"\xff\x00k"[..]));
    assert_eq!(first.timestamp, Some(1_700_000_000_001));
    let headers: Vec<(&str, Option<&[u8]>)> = first
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_deref()))
        .collect();
    assert_eq!(headers, [("a b", Some(&b"x="[..])), ("n", None)]);
    assert_eq!(second.key.as_deref(), Some(&b"k y"[..]));
    assert_eq!((&second.value, second.partition), (&None, 1));

    for (name, value) in [
        ("kafka-partition", "-1"),
        ("kafka-timestamp", "soon"),
        ("kafka-header", "%FF=x"),
    ] {
        let reply = post(&gateway, &path(&topic), &[(name, value)], b"v").await;
        assert_eq!(reply.code(), "invalid-parameter", "{name}");
    }
    let twice = format!("{}?key=a", path(&topic));
    let reply = post(&gateway, &twice, &[("kafka-key", "b")], b"v").await;
    assert_eq!(reply.code(), "invalid-parameter");
    let reply = post(&gateway, &path(&topic), &tombstone, b"v").await;
    assert_eq!(reply.code(), "invalid-body");
    assert_eq!(shared().read_all(&topic).unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_on_as_they_were_consumed() {
    let gateway = gateway();
    let (from, to) = (new_topic("from", 1), new_topic("to", 1));
    let written = json!([
        {"key": "a", "value": "text", "headers": [{"name": "n", "value": "v"}, {"name": "null"}]},
        {"key": "/wA=", "key_encoding": "base64", "value": "/v8=", "value_encoding": "base64"},
        {"value": {"a": [1, "b"]}, "timestamp": 1_700_000_000_001_i64},
        {"value": "\"quoted\"", "value_encoding": "json"},
        {"key": "", "value": null},
    ]);
    let all = format!("{}?as=records", path(&from));
    let body = written.to_string();
    let reply = post(&gateway, &all, &[("content-type", JSON)], body.as_bytes()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let results = reply.json();
    let offsets = results.as_array().unwrap().iter();
    let offsets: Vec<_> = offsets.map(|result| &result["offset"]).collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4]);

    let take = format!(
        "/v1/groups/{}/topics/{from}/records?max=100",
        topic_name("g")
    );
    let mut consumed = Vec::new();
    while consumed.len() < 5 {
        let batch = gateway.take(&take, JSON).await.json();
        consumed.extend(batch.as_array().unwrap().iter().cloned());
    }
    let lines: String = consumed
        .iter()
        .map(|record| format!("{record}\n"))
        .collect();
    let all = format!("{}?as=records", path(&to));
    let reply = post(
        &gateway,
        &all,
        &[("content-type", NDJSON)],
        lines.as_bytes(),
    )
    .await;
    assert_eq!(reply.json()["written"], 5, "{}", reply.text());
    let stored = |topic: &str| {
        let records = shared().read_all(topic).unwrap().into_iter();
        let parts = records.map(|one| (one.key, one.value, one.headers, one.timestamp));
        parts.collect::<Vec<_>>()
    };
    assert_eq!(stored(&from), stored(&to));
    let values: Vec<Option<Vec<u8>>> = stored(&to)
        .into_iter()
        .map(|(_, value, ..)| value)
        .collect();
    let some = |value: &[u8]| Some(value.to_vec());
    let expected = [
        some(b"text"),
        some(b"\xfe\xff"),
        some(br#"{"a":[1,"b"]}"#),
        some(b"\"\\\"quoted\\\"\""),
        None,
    ];
    assert_eq!(values, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_has_its_result() {
    let gateway = gateway();
    let topic = new_topic("each", 1);
    let all = format!("{}?as=records", path(&topic));
    let large = "x".repeat(1_000_001);
    let body = json!([
        {"value": "first"},
        {"key": "no value"},
        {"value": large},
        {"value": "elsewhere", "partition": 7},
        {"value": "last"},
    ]);
    let reply = post(
        &gateway,
        &all,
        &[("content-type", JSON)],
        body.to_string().as_bytes(),
    )
    .await;
    assert_eq!(reply.status, 207, "{}", reply.text());
    let results = reply.json();
    let short: Vec<&str> = results
        .as_array()
        .unwrap()
        .iter()
        .map(|result| {
            result
                .get("code")
                .unwrap_or(&result["result"])
                .as_str()
                .unwrap()
        })
        .collect();
    let expected = [
        "written",
        "invalid-body",
        "payload-too-large",
        "partition-not-found",
        "written",
    ];
    assert_eq!(short, expected);
    assert_eq!(values(&topic), ["first", "last"]);
    // One alone is answered by a problem.
    let reply = post(&gateway, &path(&topic_name("none")), &[], b"v").await;
    assert_eq!((reply.status, &*reply.code()), (404, "topic-not-found"));
    let elsewhere = format!("{}?partition=7", path(&topic));
    let reply = post(&gateway, &elsewhere, &[], b"v").await;
    assert_eq!((reply.status, &*reply.code()), (404, "partition-not-found"));
    let reply = post(&gateway, &path(&topic), &[], large.as_bytes()).await;
    assert_eq!((reply.status, &*reply.code()), (413, "payload-too-large"));
    let reply = post(&gateway, &all, &[("content-type", JSON)], b"[{]").await;
    assert_eq!((reply.status, &*reply.code()), (400, "invalid-body"));
    assert_eq!(values(&topic).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_records_of_any_number() {
    let gateway = gateway();
    let topic = new_topic("lines", 1);
    let large = "x".repeat(1_200_000);
    let body = format!("one\r\n\n  \n{{\"two\": 2}}\n{large}\nfour\nlast");
    let reply = post(
        &gateway,
        &path(&topic),
        &[("content-type", NDJSON)],
        body.as_bytes(),
    )
    .await;
    assert_eq!(reply.status, 207);
    let counts = reply.json();
    let mut expected = json!({
        "records": 5, "written": 4, "accepted": 0, "refused": 1,
        "errors": [{"result": "refused", "code": "payload-too-large", "detail": null, "line": 3}],
    });
    expected["errors"][0]["detail"] = counts["errors"][0]["detail"].clone();
    assert_eq!(counts, expected);
    assert_eq!(values(&topic), ["one", "{\"two\": 2}", "four", "last"]);

    // A body that has no length, in pieces that end anywhere.
    let many: String = (0..50_000).map(|number| format!("{number}\n")).collect();
    let topic = new_topic("many-lines", 1);
    let curl = tools::ensure_program("curl", "curl").unwrap();
    let mut child = Command::new(curl)
        .args([
            "-sS",
            "-H",
            "Transfer-Encoding: chunked",
            "--data-binary",
            "@-",
        ])
        .args([
            "-H",
            "Content-Type: application/x-ndjson",
            &gateway.url(&path(&topic)),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let output = tokio::task::spawn_blocking(move || {
        input.write_all(many.as_bytes()).unwrap();
        drop(input);
        child.wait_with_output().unwrap()
    });
    let output = output.await.unwrap();
    assert!(output.status.success());
    let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&reply["written"], &reply["refused"]),
        (&json!(50_000), &json!(0))
    );
    let expected: Vec<String> = (0..50_000).map(|number| number.to_string()).collect();
    assert_eq!(values(&topic), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_wait_is_answered_at_once() {
    let changes = Changes {
        has_other: true,
        ..Changes::default()
    };
    let gateway = start(changes, None);
    let topic = new_topic("memory", 1);
    let memory = format!("{}?durability=memory", path(&topic));
    let reply = post(&gateway, &memory, &[], b"v").await;
    assert_eq!(
        (reply.status, reply.json()),
        (202, json!({"result": "accepted"}))
    );
    let reply = post(&gateway, &memory, &[("content-type", NDJSON)], b"a\nb\n").await;
    assert_eq!(
        (reply.status, reply.json()["records"].clone()),
        (202, json!(2))
    );
    let started = Instant::now();
    while shared().end_offsets(&topic).unwrap()[&0] < 3 {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // No broker answers; memory takes it all the same.
    let memory = format!("/v1/clusters/other/topics/{topic}/records?durability=memory");
    let reply = post(&gateway, &memory, &[], b"v").await;
    assert_eq!(reply.status, 202, "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_may_be_compressed() {
    let gateway = gateway();
    let topic = new_topic("compressed", 1);
    let gzip = |body: &[u8]| {
        let level = flate2::Compression::default();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    };
    let encoded = [("content-encoding", "gzip")];
    let reply = post(&gateway, &path(&topic), &encoded, &gzip(b"one")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let lines = zstd::encode_all(&b"two\nthree"[..], 0).unwrap();
    let encoded_lines = [("content-encoding", "zstd"), ("content-type", NDJSON)];
    let reply = post(&gateway, &path(&topic), &encoded_lines, &lines).await;
    assert_eq!(reply.json()["written"], 2, "{}", reply.text());
    assert_eq!(values(&topic), ["one", "two", "three"]);
    // What it is when it is inflated counts.
    let bomb = gzip(&vec![0; 64 << 20]);
    let reply = post(&gateway, &path(&topic), &encoded, &bomb).await;
    assert_eq!((reply.status, &*reply.code()), (413, "payload-too-large"));
    let reply = post(&gateway, &path(&topic), &encoded, b"none").await;
    assert_eq!((reply.status, &*reply.code()), (400, "invalid-body"));
    let other = [("content-encoding", "br")];
    let reply = post(&gateway, &path(&topic), &other, b"x").await;
    assert_eq!(
        (reply.status, &*reply.code()),
        (415, "unsupported-media-type")
    );
    assert_eq!(values(&topic).len(), 3);
}
