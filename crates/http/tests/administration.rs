//! Offsets, consumers, topics: sections 3.4 to 3.7 of the contract.

use crate::support::{Changes, gateway, new_topic, start};
use barnabas_testkit::{shared, topic_name};
use serde_json::json;

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_read_and_written() {
    let gateway = gateway();
    let topic = new_topic("offsets", 2);
    let group = topic_name("offsets");
    for _ in 0..3 {
        shared().produce(&topic, Some(1), None, Some(b"x")).unwrap();
    }
    let path = format!("/topics/{topic}/offsets?group={group}");
    let empty = json!({"partition": 0, "begin": 0, "end": 0, "count": 0, "offset": -1, "lag": 0});
    let unread = json!({"partition": 1, "begin": 0, "end": 3, "count": 3, "offset": -1, "lag": 0});
    assert_eq!(gateway.get(&path).await.json(), json!([empty, unread]));
    // What curl sends; a field's name has no case, and others are ignored.
    let body = r#"[{"Partition": 1, "offset": 1, "metadata": "BB", "lag": 7}]"#;
    let answer = gateway.post(&path, FORM, body).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    let read = json!({
        "partition": 1, "begin": 0, "end": 3, "count": 3, "offset": 1, "lag": 2,
        "metadata": "BB", "sparse_acks": "1-2",
    });
    assert_eq!(gateway.get(&path).await.json(), json!([empty, read]));
    for (body, status, text) in [
        (
            "",
            400,
            "Failed to parse the request: err=(unexpected end of JSON input)",
        ),
        (
            "group=x",
            400,
            "Failed to parse the request: err=(invalid character 'g' looking for beginning of value)",
        ),
        (r#"[{"partition": 9}]"#, 404, "Unknown topic"),
    ] {
        gateway.post(&path, FORM, body).await.is_error(status, text);
    }
    assert_eq!(gateway.post(&path, FORM, "null").await.body, "{}");
    let missing = format!("/topics/{}/offsets?group={group}", topic_name("missing"));
    gateway.get(&missing).await.is_error(404, "Unknown topic");
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_are_listed_and_protected() {
    let gateway = gateway();
    let topic = new_topic("consumers", 2);
    let group = topic_name("consumers");
    shared().produce(&topic, Some(0), None, Some(b"x")).unwrap();
    let path = format!("/topics/{topic}/consumers?group={group}");
    let unknown = format!("unknown consumer group {group}");
    gateway.get(&path).await.is_error(400, &unknown);
    gateway.consume(&topic, &format!("group={group}")).await;
    let listed = gateway.get(&path).await.json();
    let members = listed[&group].as_object().unwrap();
    let partitions: Vec<_> = members.values().collect();
    assert_eq!(partitions, [&json!([0, 1])]);
    let other = new_topic("other", 1);
    let text = format!("topic {other} is not consumed by {group}");
    let path = format!("/topics/{other}/consumers");
    gateway
        .get(&format!("{path}?group={group}"))
        .await
        .is_error(400, &text);
    assert_eq!(gateway.get(&path).await.json(), json!({}));
    // What another process consumes is not changed under it; who consumes it
    // goes on from there.
    let path = format!("/topics/{topic}/offsets?group={group}");
    let body = r#"[{"partition": 0, "offset": 0}]"#;
    let other = start(Changes::default(), None);
    let answer = other.post(&path, "application/json", body).await;
    assert_eq!(answer.status, 409, "{}", answer.body);
    let text = format!("partition 0 of {topic} is being consumed by ");
    assert!(answer.body.contains(&text), "{}", answer.body);
    let answer = gateway.post(&path, "application/json", body).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    let again = gateway.consume(&topic, &format!("group={group}")).await;
    assert_eq!(
        (&again["partition"], &again["offset"]),
        (&json!(0), &json!(0))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_described() {
    let gateway = gateway();
    let topic = topic_name("described");
    shared()
        .create_topic_with(&topic, 2, 1, &[("retention.ms", "60000")])
        .unwrap();
    let names = gateway.get("/topics").await.json();
    assert!(names.as_array().unwrap().contains(&json!(topic)));
    let config = json!({"version": 1, "config": {"retention.ms": "60000"}});
    let one = gateway.get(&format!("/topics/{topic}")).await.json();
    assert_eq!(one, json!({"config": config}));
    let all = gateway
        .get("/topics?withPartitions&withConfig")
        .await
        .json();
    let partition = |id| json!({"partition": id, "leader": 0, "replicas": [0], "isr": [0]});
    assert_eq!(
        all[&topic],
        json!({"config": config, "partitions": [partition(0), partition(1)]})
    );
    let missing = format!("/topics/{}", topic_name("missing"));
    gateway.get(&missing).await.is_error(404, "Unknown topic");
}
