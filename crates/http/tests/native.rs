//! The native API: taking records, acks, offsets, topics, groups, clusters
//! (`docs/http-api.md`).

use crate::support::{Changes, Gateway, PATIENCE, gateway, is_committed, new_topic, start};
use barnabas_testkit::{shared, topic_name};
use serde_json::{Value, json};
use std::time::Instant;

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const BYTES: &str = "application/octet-stream";

/// A topic with records that are hard to show, and the group's path to it.
async fn odd_records(gateway: &Gateway) -> (String, String, String) {
    let (topic, group) = (new_topic("native", 1), topic_name("native"));
    let batch = json!([
        {"key": "/wA=", "value": "/v8=", "timestamp": 1_700_000_000_001_i64, "headers": [
            {"key": "a b", "value": "eA=="}, {"key": "a b", "value": "gA=="}, {"key": "n"},
        ]},
        {"key": "ay8=", "value": "eyJhIjogMX0="},
        {"value": null},
    ]);
    let path = format!("/topics/{topic}/batches");
    let answer = gateway.post(&path, JSON, batch.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let path = format!("/v1/groups/{group}/topics/{topic}");
    (topic, group, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_record_comes_as_it_is() {
    let gateway = gateway();
    let (topic, group, path) = odd_records(&gateway).await;
    let path = format!("{path}/records");
    let first = gateway.take(&path, "*/*").await;
    assert_eq!(first.body, b"\xfe\xff");
    assert_eq!(first.all("content-type"), [BYTES]);
    assert_eq!(first.all("kafka-topic"), [&topic]);
    assert_eq!(first.all("kafka-partition"), ["0"]);
    assert_eq!(first.all("kafka-offset"), ["0"]);
    assert_eq!(first.all("kafka-timestamp"), ["1700000000001"]);
    assert_eq!(first.all("kafka-key"), ["%FF%00"]);
    assert_eq!(first.all("kafka-header"), ["a%20b=x", "a%20b=%80", "n"]);
    let second = gateway.take(&path, "application/json, */*;q=0.1").await;
    let mut record = second.json();
    assert!(record["timestamp"].take().is_i64());
    assert_eq!(
        record,
        json!({
            "topic": topic, "partition": 0, "offset": 1, "timestamp": null,
            "key": "k/", "value": "{\"a\": 1}", "headers": [],
        })
    );
    let third = gateway.take(&path, BYTES).await;
    assert_eq!(
        (third.body.len(), third.all("kafka-tombstone")),
        (0, vec!["true"])
    );
    assert!(third.all("kafka-key").is_empty());
    // All three were acknowledged when they were written.
    is_committed(&group, &topic, 3, "").await;
    let nothing = gateway.ask("POST", &format!("{path}?wait=0")).send().await;
    assert_eq!((nothing.status, nothing.body.len()), (204, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_record_makes_a_batch_unreadable() {
    let gateway = gateway();
    let (topic, _, path) = odd_records(&gateway).await;
    let cluster = path.replace("/v1/", "/v1/clusters/main/");
    for (group, accept) in [("a", JSON), ("b", NDJSON)] {
        let path = cluster.replace("/groups/", &format!("/groups/{group}-"));
        let path = format!("{path}/records?max=10&ack=explicit&values=json");
        let batch = gateway.take(&path, accept).await;
        assert_eq!(batch.all("content-type"), [accept]);
        let records: Vec<Value> = match accept {
            JSON => batch.json().as_array().unwrap().clone(),
            _ => {
                let text = batch.text();
                text.lines()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect()
            }
        };
        assert_eq!(records.len(), 3);
        assert_eq!(
            records[0],
            json!({
                "topic": topic, "partition": 0, "offset": 0, "timestamp": 1_700_000_000_001_i64,
                "key": "/wA=", "key_encoding": "base64",
                "value": "/v8=", "value_encoding": "base64",
                "headers": [
                    {"name": "a b", "value": "x"},
                    {"name": "a b", "value": "gA==", "value_encoding": "base64"},
                    {"name": "n", "value": null},
                ],
            })
        );
        assert_eq!(records[1]["value"], json!({"a": 1}));
        assert_eq!(records[1]["value_encoding"], "json");
        assert_eq!(
            (&records[2]["key"], &records[2]["value"]),
            (&json!(null), &json!(null))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_stop_at_their_bytes() {
    let gateway = gateway();
    let (topic, group) = (new_topic("bytes", 1), topic_name("bytes"));
    for _ in 0..4 {
        shared()
            .produce(&topic, Some(0), None, Some(&[b'x'; 100]))
            .unwrap();
    }
    let path = format!("/v1/groups/{group}/topics/{topic}/records?max=4&max_bytes=150");
    let batch = gateway.take(&path, JSON).await.json();
    assert_eq!(batch.as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_have_a_result_each() {
    let gateway = gateway();
    let (topic, group, path) = odd_records(&gateway).await;
    let taken = gateway
        .take(&format!("{path}/records?max=3&ack=explicit"), JSON)
        .await;
    assert_eq!(taken.json().as_array().unwrap().len(), 3);
    let path = format!("{path}/acks");
    // Records can be sent back as they came.
    let sent = taken.json()[1].to_string();
    for result in ["acknowledged", "known"] {
        let one = gateway
            .ask("POST", &path)
            .body(JSON, sent.clone())
            .send()
            .await;
        let expected = json!({"partition": 0, "offset": 1, "result": result});
        assert_eq!((one.status, one.json()), (200, expected));
    }
    is_committed(&group, &topic, 0, "BB").await;
    let many = r#"[{"partition":0,"offset":2},{"partition":0,"offset":77},{"partition":7,
        "offset":0},{"partition":-1,"offset":0},"x",{"partition":0,"offset":1}]"#;
    let many = gateway.ask("POST", &path).body(JSON, many).send().await;
    assert_eq!(many.status, 207);
    let shown = |result: &Value| {
        let code = result.get("code").cloned().unwrap_or_default();
        (result["result"].clone(), code)
    };
    let results: Vec<_> = many.json().as_array().unwrap().iter().map(shown).collect();
    let refused = |code: &str| (json!("refused"), json!(code));
    let expected = [
        (json!("acknowledged"), json!(null)),
        refused("bad-offset"),
        refused("not-owned"),
        refused("invalid-body"),
        refused("invalid-body"),
        (json!("known"), json!(null)),
    ];
    assert_eq!(results, expected);
    let lines = "{\"partition\":0,\"offset\":0}\r\n\n{\"partition\":0}\n";
    let lines = gateway.ask("POST", &path).body(NDJSON, lines).send().await;
    assert_eq!(
        (lines.status, lines.all("content-type")),
        (207, vec![NDJSON])
    );
    assert_eq!(lines.text().lines().count(), 2);
    is_committed(&group, &topic, 3, "").await;
    let all = r#"[{"partition":0,"offset":0}]"#;
    let all = gateway.ask("POST", &path).body(JSON, all).send().await;
    assert_eq!(all.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_read_and_set() {
    let gateway = gateway();
    let (topic, group) = (new_topic("set", 2), topic_name("set"));
    let path = format!("/topics/{topic}/messages?sync&key=foo");
    for time in [1_000, 2_000, 3_000] {
        let path = format!("{path}&timestamp={time}");
        assert_eq!(gateway.post(&path, "text/plain", "x").await.status, 200);
    }
    // Key `foo` belongs to partition 1.
    let path = format!("/v1/groups/{group}/topics/{topic}/offsets");
    let of = |partition: i32, latest: i64, committed: Option<i64>| {
        json!({
            "partition": partition, "earliest": 0, "latest": latest, "committed": committed,
            "lag": committed.map(|committed| latest - committed), "metadata": "",
            "acknowledged": null,
        })
    };
    let read = async || gateway.ask("GET", &path).send().await.json();
    assert_eq!(
        read().await,
        json!({"offsets": [of(0, 0, None), of(1, 3, None)]})
    );
    let set = async |body: &str| {
        let set = gateway.ask("PUT", &path).body(JSON, body).send().await;
        (set.status, set.json())
    };
    for (body, offsets) in [
        (r#"{"to": "latest"}"#, [0, 3]),
        (r#"{"timestamp": 1500}"#, [0, 1]),
        (r#"{"to": "earliest"}"#, [0, 0]),
        (r#"{"timestamp": 9000}"#, [0, 3]),
    ] {
        let [first, second] = offsets;
        let expected = json!({"offsets": [
            {"partition": 0, "offset": first}, {"partition": 1, "offset": second},
        ]});
        assert_eq!(set(body).await, (200, expected));
        let committed = json!({"offsets": [of(0, 0, Some(first)), of(1, 3, Some(second))]});
        assert_eq!(read().await, committed);
    }
    for place in [r#""offset": 2"#, r#""timestamp": 2500"#] {
        let body = format!(r#"{{"offsets": [{{"partition": 1, {place}}}]}}"#);
        let expected = json!({"offsets": [{"partition": 1, "offset": 2}]});
        assert_eq!(set(&body).await, (200, expected));
    }
    let body = r#"{"offsets": [{"partition": 1, "offset": 0, "metadata": "BB"}]}"#;
    assert_eq!(set(body).await.0, 200);
    assert_eq!(read().await["offsets"][1]["acknowledged"], "1-2");
    // HEAD is answered where GET is.
    let head = gateway.ask("HEAD", &path).send().await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_groups_and_clusters_are_described() {
    let gateway = start(
        Changes {
            has_other: true,
            ..Changes::default()
        },
        None,
    );
    let clusters = gateway.ask("GET", "/v1/clusters").send().await.json();
    let main = json!({"name": "main", "default": true});
    let expected = json!({"clusters": [main, {"name": "other", "default": false}]});
    assert_eq!(clusters, expected);
    assert_eq!(
        gateway.ask("GET", "/v1/clusters/main").send().await.json(),
        main
    );
    let topic = topic_name("created");
    let body = json!({"name": topic, "partitions": 2}).to_string();
    let created = gateway
        .ask("POST", "/v1/topics")
        .body(JSON, body)
        .send()
        .await;
    assert_eq!(created.status, 201, "{}", created.text());
    let path = format!("/v1/clusters/main/topics/{topic}");
    assert_eq!(created.all("location"), [&path]);
    let partition = |id| json!({"partition": id, "leader": 0, "replicas": [0], "in_sync": [0]});
    let partitions = json!([partition(0), partition(1)]);
    let expected = json!({"name": topic, "partitions": partitions, "config": {}});
    // The broker may hear of it a moment later than the controller.
    let started = Instant::now();
    loop {
        let described = gateway.ask("GET", &path).send().await.json();
        if described == expected {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{described}");
    }
    let all = gateway.ask("GET", "/v1/topics").send().await.json();
    let listed = json!({"name": topic, "partitions": partitions});
    assert!(all["topics"].as_array().unwrap().contains(&listed));

    let group = topic_name("described");
    shared().produce(&topic, Some(0), None, Some(b"x")).unwrap();
    gateway
        .take(&format!("/v1/groups/{group}/topics/{topic}/records"), "*/*")
        .await;
    let found = gateway
        .ask("GET", &format!("/v1/groups/{group}"))
        .send()
        .await
        .json();
    assert_eq!(
        (&found["name"], &found["state"]),
        (&json!(group), &json!("Stable"))
    );
    let assigned = json!([{"topic": topic, "partition": 0}, {"topic": topic, "partition": 1}]);
    assert_eq!(found["members"][0]["assigned"], assigned);
    let all = gateway.ask("GET", "/v1/groups").send().await.json();
    let listed = json!({"name": group, "state": "Stable", "members": 1, "topics": [topic]});
    assert!(all["groups"].as_array().unwrap().contains(&listed), "{all}");
    let deleted = gateway.ask("DELETE", &path).send().await;
    assert_eq!((deleted.status, deleted.body.len()), (204, 0));
}
