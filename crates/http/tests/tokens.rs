//! Bearer tokens (contract, `consume-and-ack.md`, section 13, B6).

use crate::support::{Changes, Full, Gateway, new_topic, start};
use barnabas_engine::{Access, Action, Grant};
use barnabas_http::Options;
use barnabas_testkit::{shared, topic_name};
use serde_json::json;
use std::sync::Arc;

const JSON: &str = "application/json";

/// A token for producing to and consuming `own`, one for describing
/// everything, one for managing topics that begin with `own`.
fn guarded(own: &str) -> Gateway {
    let grant = |clusters: &str, topics: &str, actions: &[Action]| {
        vec![Grant {
            clusters: vec![clusters.to_owned()],
            topics: vec![topics.to_owned()],
            actions: actions.to_vec(),
        }]
    };
    let access = Access::only([
        (
            "worker".to_owned(),
            grant(
                "main",
                own,
                &[Action::Produce, Action::Consume, Action::Describe],
            ),
        ),
        ("viewer".to_owned(), grant("*", "*", &[Action::Describe])),
        (
            "keeper".to_owned(),
            grant("main", &format!("{own}*"), &[Action::Manage]),
        ),
    ]);
    start(
        Changes {
            options: Options {
                access: Arc::new(access),
                cors_origins: vec!["https://shop.example".to_owned()],
                ..Options::default()
            },
            has_other: true,
            ..Changes::default()
        },
        None,
    )
}

async fn ask(gateway: &Gateway, token: &str, method: &str, path: &str, body: &str) -> Full {
    let mut ask = gateway.ask(method, path).body(JSON, body);
    if !token.is_empty() {
        ask = ask.header("authorization", &format!("Bearer {token}"));
    }
    ask.header("content-length", &body.len().to_string())
        .send()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_allow_actions_on_topics_of_clusters() {
    let (own, foreign) = (new_topic("tokens", 1), new_topic("foreign", 1));
    let gateway = guarded(&own);
    shared().produce(&own, Some(0), None, Some(b"x")).unwrap();
    let group = topic_name("tokens");
    let of = |topic: &str| format!("/v1/groups/{group}/topics/{topic}");
    let offsets = format!("/topics/{own}/offsets?group={group}");
    let cases = [
        (
            "POST",
            format!("/topics/{own}/messages?sync"),
            "1",
            [401, 200, 403, 403],
        ),
        (
            "POST",
            format!("/topics/{foreign}/messages"),
            "1",
            [401, 403, 403, 403],
        ),
        (
            "POST",
            format!("/topics/{own}/batches"),
            "[]",
            [401, 200, 403, 403],
        ),
        ("GET", offsets.clone(), "", [401, 200, 200, 403]),
        ("POST", offsets, "[]", [401, 403, 403, 200]),
        (
            "GET",
            format!("/topics/{own}/consumers"),
            "",
            [401, 200, 200, 403],
        ),
        (
            "GET",
            format!("/topics/{foreign}"),
            "",
            [401, 403, 200, 403],
        ),
        ("GET", "/topics".to_owned(), "", [401, 200, 200, 403]),
        (
            "GET",
            format!("/topics/{own}/messages?group={group}"),
            "",
            [401, 0, 403, 403],
        ),
        (
            "POST",
            format!("/topics/{own}/acks?group={group}&partition=0&offset=0"),
            "",
            [401, 0, 403, 403],
        ),
        (
            "POST",
            format!("{}/records?wait=0", of(&own)),
            "",
            [401, 0, 403, 403],
        ),
        (
            "POST",
            format!("{}/records?wait=0", of(&foreign)),
            "",
            [401, 403, 403, 403],
        ),
        (
            "POST",
            format!("{}/acks", of(&own)),
            "[]",
            [401, 200, 403, 403],
        ),
        (
            "GET",
            format!("{}/offsets", of(&own)),
            "",
            [401, 200, 200, 403],
        ),
        (
            "PUT",
            format!("{}/offsets", of(&own)),
            r#"{"offsets":[]}"#,
            [401, 403, 403, 200],
        ),
        ("GET", "/v1/topics".to_owned(), "", [401, 200, 200, 403]),
        (
            "POST",
            "/v1/topics".to_owned(),
            r#"{"name":"elsewhere"}"#,
            [401, 403, 403, 403],
        ),
        (
            "DELETE",
            format!("/v1/topics/{foreign}"),
            "",
            [401, 403, 403, 403],
        ),
        ("GET", "/v1/groups".to_owned(), "", [401, 200, 200, 403]),
        ("GET", "/v1/clusters".to_owned(), "", [401, 200, 200, 200]),
        (
            "GET",
            "/v1/clusters/other".to_owned(),
            "",
            [401, 404, 200, 404],
        ),
        (
            "GET",
            "/clusters/other/topics".to_owned(),
            "",
            [401, 403, 0, 403],
        ),
        (
            "GET",
            "/clusters/nowhere/topics".to_owned(),
            "",
            [401, 403, 400, 403],
        ),
        ("GET", "/_ping".to_owned(), "", [200; 4]),
        ("GET", "/v1/openapi.json".to_owned(), "", [200; 4]),
    ];
    for (method, path, body, statuses) in &cases {
        for (token, status) in ["", "worker", "viewer", "keeper"].into_iter().zip(statuses) {
            // 0 is what other tests look at; it takes time.
            if *status == 0 {
                continue;
            }
            let reply = ask(&gateway, token, method, path, body).await;
            assert_eq!(
                reply.status,
                *status,
                "{token} {method} {path}: {}",
                reply.text()
            );
            if *status == 401 {
                assert_eq!(reply.all("www-authenticate"), ["Bearer"]);
            }
            match (path.starts_with("/v1"), status) {
                (true, 401) => assert_eq!(reply.code(), "unauthenticated"),
                (true, 403) => assert_eq!(reply.code(), "forbidden"),
                (false, 401) => {
                    assert_eq!(
                        reply.json(),
                        json!({"error": "a valid bearer token is required"})
                    );
                }
                (false, 403) => {
                    assert_eq!(
                        reply.json(),
                        json!({"error": "the token does not allow this"})
                    );
                }
                _ => {}
            }
        }
    }
    let unknown = ask(&gateway, "worke", "GET", "/topics", "").await;
    assert_eq!(unknown.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_what_the_token_may_see() {
    let (own, foreign) = (new_topic("seen", 1), new_topic("unseen", 1));
    let gateway = guarded(&own);
    let names = async |token: &str| ask(&gateway, token, "GET", "/topics", "").await.json();
    assert_eq!(names("worker").await, json!([own]));
    let all = names("viewer").await;
    assert!(all.as_array().unwrap().contains(&json!(foreign)));
    let described = ask(&gateway, "worker", "GET", "/topics?withPartitions", "").await;
    assert_eq!(described.json().as_object().unwrap().len(), 1);
    let native = ask(&gateway, "worker", "GET", "/v1/topics", "").await;
    assert_eq!(native.json()["topics"].as_array().unwrap().len(), 1);
    let clusters = ask(&gateway, "worker", "GET", "/v1/clusters", "").await;
    let main = json!({"name": "main", "default": true});
    assert_eq!(clusters.json(), json!({"clusters": [main]}));
    // Groups show their topics to those who may know of them.
    let group = topic_name("seen");
    shared().produce(&own, Some(0), None, Some(b"x")).unwrap();
    let path = format!("/v1/groups/{group}/topics/{own}/records?wait=20000");
    let taken = ask(&gateway, "worker", "POST", &path, "").await;
    assert_eq!(taken.status, 200, "{}", taken.text());
    for (token, is_seen) in [("worker", true), ("viewer", true)] {
        let groups = ask(&gateway, token, "GET", "/v1/groups", "").await.json();
        let groups = groups["groups"].as_array().unwrap();
        assert_eq!(groups.iter().any(|found| found["name"] == group), is_seen);
        if token == "worker" {
            assert_eq!(groups.len(), 1);
        }
    }
    let one = ask(
        &gateway,
        "worker",
        "GET",
        &format!("/v1/groups/{group}"),
        "",
    )
    .await;
    assert_eq!(one.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn preflights_need_no_token_and_scripts_see_what_they_need() {
    let gateway = guarded("any");
    let preflight = async |path: &str, origin: &str| {
        gateway
            .ask("OPTIONS", path)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization, x-kafka-a")
            .send()
            .await
    };
    for (path, methods) in [
        ("/_ping", "GET"),
        ("/topics/t/messages", "POST, GET"),
        ("/clusters/main/topics/t/acks", "POST"),
        ("/v1/groups/g/topics/t/records", "POST, OPTIONS"),
        ("/v1/topics", "GET, POST, HEAD, OPTIONS"),
    ] {
        let allowed = preflight(path, "https://shop.example").await;
        assert_eq!((allowed.status, allowed.body.len()), (204, 0), "{path}");
        assert_eq!(allowed.all("access-control-allow-methods"), [methods]);
        let headers = allowed.all("access-control-allow-headers");
        assert_eq!(headers, ["authorization, x-kafka-a"]);
        assert_eq!(
            allowed.all("access-control-allow-origin"),
            ["https://shop.example"]
        );
        assert_eq!(allowed.all("vary"), ["Origin"]);
        let foreign = preflight(path, "https://evil.example").await;
        assert!(
            foreign.all("access-control-allow-origin").is_empty(),
            "{path}"
        );
        assert!(
            foreign.all("access-control-allow-methods").is_empty(),
            "{path}"
        );
    }
    assert_eq!(
        preflight("/nowhere", "https://shop.example").await.status,
        404
    );
    let refused = gateway
        .ask("GET", "/v1/topics")
        .header("origin", "https://shop.example");
    let refused = refused.send().await;
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.all("access-control-allow-origin"),
        ["https://shop.example"]
    );
    let exposed = refused.all("access-control-expose-headers").concat();
    for header in ["Kafka-Key", "Kafka-Header", "X-Request-Id", "Retry-After"] {
        assert!(exposed.contains(header), "{exposed}");
    }
    let open = start(
        Changes {
            options: Options {
                cors_origins: vec!["*".to_owned()],
                ..Options::default()
            },
            ..Changes::default()
        },
        None,
    );
    let any = open
        .ask("GET", "/_ping")
        .header("origin", "null")
        .send()
        .await;
    assert_eq!(any.all("access-control-allow-origin"), ["*"]);
    // Without origins the old system's answer is unchanged.
    let closed = start(Changes::default(), None);
    let asked = closed
        .ask("OPTIONS", "/topics/t/messages")
        .header("origin", "https://a");
    let asked = asked
        .header("access-control-request-method", "POST")
        .send()
        .await;
    assert_eq!(
        (asked.status, asked.all("access-control-allow-origin").len()),
        (405, 0)
    );
}
