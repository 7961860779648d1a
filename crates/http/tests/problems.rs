//! Every problem of the native API, from its cause.

use crate::support::{Changes, gateway, new_topic, start};
use barnabas_engine::DispatchConfig;
use barnabas_testkit::{shared, topic_name};
use std::time::Duration;

const JSON: &str = "application/json";

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_told_apart() {
    let gateway = gateway();
    let (topic, missing) = (new_topic("problems", 1), topic_name("missing"));
    let group = topic_name("problems");
    let of = format!("/v1/groups/{group}/topics/{topic}");
    let records = format!("{of}/records");
    let existing = format!(r#"{{"name": "{topic}"}}"#);
    let twice = r#"{"offsets":[{"partition":0,"offset":0},{"partition":0,"offset":0}]}"#;
    let large = format!(r#"[{}]"#, " ".repeat(2 << 20));
    let ack = r#"{"partition":0,"offset":0}"#;
    for (method, path, body, code) in [
        (
            "POST",
            format!("{records}?max=0"),
            "",
            "400 invalid-parameter",
        ),
        (
            "POST",
            format!("{records}?max=1001"),
            "",
            "400 invalid-parameter",
        ),
        (
            "POST",
            format!("{records}?max=x"),
            "",
            "400 invalid-parameter",
        ),
        (
            "POST",
            format!("{records}?wait=60001"),
            "",
            "400 invalid-parameter",
        ),
        (
            "POST",
            format!("{records}?ack=no"),
            "",
            "400 invalid-parameter",
        ),
        (
            "POST",
            format!("{records}?max=1&max=2"),
            "",
            "400 invalid-parameter",
        ),
        (
            "POST",
            format!("{records}?Max=1"),
            "",
            "400 invalid-parameter",
        ),
        (
            "POST",
            format!("{records}?max=%zz"),
            "",
            "400 invalid-parameter",
        ),
        (
            "GET",
            "/v1/topics/%zz".to_owned(),
            "",
            "400 invalid-parameter",
        ),
        ("POST", format!("{of}/acks"), "", "400 invalid-body"),
        ("POST", format!("{of}/acks"), "[{", "400 invalid-body"),
        ("POST", format!("{of}/acks"), "{}", "400 invalid-body"),
        (
            "POST",
            format!("{of}/acks"),
            r#"{"partition":0,"offset":-1}"#,
            "400 invalid-body",
        ),
        ("PUT", format!("{of}/offsets"), "{}", "400 invalid-body"),
        (
            "PUT",
            format!("{of}/offsets"),
            r#"{"to":"middle"}"#,
            "400 invalid-body",
        ),
        (
            "PUT",
            format!("{of}/offsets"),
            r#"{"To":"latest"}"#,
            "400 invalid-body",
        ),
        (
            "PUT",
            format!("{of}/offsets"),
            r#"{"timestamp":-1}"#,
            "400 invalid-body",
        ),
        (
            "PUT",
            format!("{of}/offsets"),
            r#"{"offsets":[{"partition":0}]}"#,
            "400 invalid-body",
        ),
        (
            "PUT",
            format!("{of}/offsets"),
            r#"{"to":"latest","timestamp":1}"#,
            "400 invalid-body",
        ),
        ("PUT", format!("{of}/offsets"), twice, "400 invalid-body"),
        (
            "POST",
            "/v1/topics".to_owned(),
            r#"{"name":"a b"}"#,
            "400 invalid-body",
        ),
        (
            "POST",
            "/v1/topics".to_owned(),
            r#"{"name":"a","partitions":0}"#,
            "400 invalid-body",
        ),
        (
            "POST",
            "/v1/topics".to_owned(),
            r#"{"name":"a","replication":9}"#,
            "400 invalid-body",
        ),
        ("GET", "/v1/nowhere".to_owned(), "", "404 not-found"),
        (
            "GET",
            "/v1/clusters/nowhere/topics".to_owned(),
            "",
            "404 cluster-not-found",
        ),
        (
            "GET",
            "/v1/clusters/nowhere".to_owned(),
            "",
            "404 cluster-not-found",
        ),
        (
            "GET",
            format!("/v1/topics/{missing}"),
            "",
            "404 topic-not-found",
        ),
        (
            "GET",
            "/v1/topics/a%20b".to_owned(),
            "",
            "404 topic-not-found",
        ),
        (
            "DELETE",
            format!("/v1/topics/{missing}"),
            "",
            "404 topic-not-found",
        ),
        (
            "GET",
            format!("/v1/groups/g/topics/{missing}/offsets"),
            "",
            "404 topic-not-found",
        ),
        (
            "PUT",
            format!("{of}/offsets"),
            r#"{"offsets":[{"partition":9,"offset":0}]}"#,
            "404 partition-not-found",
        ),
        (
            "GET",
            format!("/v1/groups/{missing}"),
            "",
            "404 group-not-found",
        ),
        ("GET", records.clone(), "", "405 method-not-allowed"),
        (
            "PATCH",
            "/v1/topics".to_owned(),
            "",
            "405 method-not-allowed",
        ),
        (
            "POST",
            "/v1/topics".to_owned(),
            &existing,
            "409 topic-exists",
        ),
        ("POST", format!("{of}/acks"), ack, "409 not-owned"),
        (
            "POST",
            format!("{of}/acks"),
            &large,
            "413 payload-too-large",
        ),
        (
            "PUT",
            format!("{of}/offsets"),
            &large,
            "413 payload-too-large",
        ),
    ] {
        let reply = gateway.ask(method, &path).body(JSON, body).send().await;
        let found = format!("{} {}", reply.status, reply.code());
        assert_eq!(
            found,
            code,
            "{method} {path} {}: {}",
            &body[..body.len().min(80)],
            reply.text()
        );
        assert_eq!(reply.headers.contains_key("allow"), reply.status == 405);
    }
    let refused = gateway.ask("GET", &records).send().await;
    assert_eq!(refused.all("allow"), ["POST, OPTIONS"]);
    for (kind, path) in [
        ("text/plain", "acks"),
        ("application/x-www-form-urlencoded", "acks"),
    ] {
        let request = gateway.ask("POST", &format!("{of}/{path}")).body(kind, ack);
        let reply = request.send().await;
        assert_eq!(
            (reply.status, reply.code()),
            (415, "unsupported-media-type".to_owned())
        );
    }
    for (query, accept) in [
        ("", "text/html"),
        ("", "application/x-ndjson"),
        ("?max=2", "application/octet-stream"),
    ] {
        let request = gateway.ask("POST", &format!("{records}{query}"));
        let reply = request.header("accept", accept).send().await;
        assert_eq!(
            (reply.status, reply.code()),
            (406, "not-acceptable".to_owned())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_consumes_is_protected() {
    let gateway = gateway();
    let (topic, group) = (new_topic("protected", 1), topic_name("protected"));
    shared().produce(&topic, Some(0), None, Some(b"x")).unwrap();
    let path = format!("/v1/groups/{group}/topics/{topic}");
    gateway.take(&format!("{path}/records"), "*/*").await;
    // By another process than the one that consumes.
    let other = start(Changes::default(), None);
    let set = other.ask("PUT", &format!("{path}/offsets"));
    let reply = set.body(JSON, r#"{"to":"earliest"}"#).send().await;
    assert_eq!(
        (reply.status, reply.code()),
        (409, "group-active".to_owned())
    );
    let set = gateway.ask("PUT", &format!("{path}/offsets"));
    let reply = set.body(JSON, r#"{"to":"earliest"}"#).send().await;
    assert_eq!(reply.status, 200);
    let again = gateway.take(&format!("{path}/records"), "*/*").await;
    assert_eq!(again.all("kafka-offset"), ["0"]);
    let ack = gateway.ask("POST", &format!("{path}/acks"));
    let reply = ack.body(JSON, r#"{"partition":0,"offset":9}"#).send().await;
    assert_eq!((reply.status, reply.code()), (400, "bad-offset".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_busy_or_ending_says_when_to_come_back() {
    let topic = new_topic("busy", 1);
    let narrow = start(
        Changes {
            dispatch: DispatchConfig {
                queued_requests: 1,
                max_groups: 1,
                long_polling: Duration::from_secs(10),
                ..Changes::default().dispatch
            },
            has_other: true,
            ..Changes::default()
        },
        None,
    );
    let group = topic_name("busy");
    let path = format!("/v1/groups/{group}/topics/{topic}/records");
    let first = narrow.ask("POST", &format!("{path}?wait=0")).send().await;
    assert_eq!(first.status, 204);
    let ask = || narrow.ask("POST", &path).send();
    let (a, b, c) = tokio::join!(ask(), ask(), ask());
    let mut statuses = [a.status, b.status, c.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [204, 204, 429]);
    let refused = [a, b, c]
        .into_iter()
        .find(|full| full.status == 429)
        .unwrap();
    assert_eq!(refused.code(), "too-many-requests");
    assert_eq!(refused.all("retry-after"), ["1"]);
    let another = path.replace(&group, &topic_name("another"));
    let refused = narrow.ask("POST", &another).send().await;
    assert_eq!(
        (refused.status, refused.code()),
        (429, "too-many-groups".to_owned())
    );
    assert!(!refused.all("retry-after").is_empty());
    let away = narrow.ask("GET", "/v1/clusters/other/topics").send().await;
    assert_eq!(
        (away.status, away.code()),
        (503, "kafka-unavailable".to_owned())
    );
    assert_eq!(away.all("retry-after"), ["5"]);
    assert!(away.json()["kafka_error"].is_i64());
    narrow.proxies.refuse_work();
    let ending = ask().await;
    assert_eq!(
        (ending.status, ending.code()),
        (503, "shutting-down".to_owned())
    );
    assert_eq!(ending.all("retry-after"), ["1"]);
    let disabled = start(
        Changes {
            is_consuming_disabled: true,
            ..Changes::default()
        },
        None,
    );
    let refused = disabled.ask("POST", &path).send().await;
    assert_eq!(
        (refused.status, refused.code()),
        (503, "consuming-disabled".to_owned())
    );
}
