//! Who may send, and how much (section 9, last row), and that both can change
//! meanwhile.

use super::{PUSH, WELL, full, gateway, request, start_with_access};
use crate::support::{Full, new_topic};
use barnabas_engine::{Access, Action, Grant};
use barnabas_http::{KprfOptions, RateRule};
use serde_json::{Value, json};
use std::sync::Arc;

fn access(tokens: &[(&str, &[&str], Action)]) -> Access {
    Access::only(tokens.iter().map(|(token, topics, action)| {
        let grant = Grant {
            clusters: vec!["kafka".to_owned()],
            topics: topics.iter().map(ToString::to_string).collect(),
            actions: vec![*action],
        };
        ((*token).to_owned(), vec![grant])
    }))
}

async fn push_as(gateway: &super::Gateway, token: &str, body: Value) -> Full {
    let request = gateway.client.post(gateway.url(PUSH));
    let request = request.header("content-type", "application/json");
    let request = request.header("authorization", format!("Bearer {token}"));
    full(request.body(body.to_string())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_send_to_its_topics() {
    let (own, other) = (new_topic("kprf-token", 1), new_topic("kprf-token", 1));
    let access = Arc::new(access(&[
        ("ann", &[&own], Action::Produce),
        ("reader", &["*"], Action::Consume),
    ]));
    let gateway = start_with_access(KprfOptions::default(), Arc::clone(&access));
    let without = gateway.send(PUSH, request(&own, &["a"], false).to_string());
    let without = without.await;
    let required = "a valid bearer token is required";
    assert_eq!((without.status, &*without.text()), (401, required));
    assert_eq!(without.all("www-authenticate"), ["Bearer"]);
    let unknown = push_as(&gateway, "bob", request(&own, &["a"], false)).await;
    assert_eq!(unknown.status, 401);
    let reader = push_as(&gateway, "reader", request(&own, &["a"], false)).await;
    assert_eq!(
        (reader.status, &*reader.text()),
        (403, "the token does not allow this")
    );
    let both = json!({"records": [
        {"topic": own, "data": "good"},
        {"topic": other, "data": "bad"},
    ], "wait_for_send": true});
    let both = push_as(&gateway, "ann", both).await;
    let denied = "Message production error: TopicAuthorizationFailed (Broker: Topic authorization \
                  failed)";
    let expected = json!({"status": "err", "errors": [
        {"error": false, "message": null},
        {"error": true, "message": denied},
    ]});
    assert_eq!((both.status, both.json()), (500, expected));
    assert_eq!(super::records(&own, 1).await.len(), 1);
    // The metrics port has no tokens.
    assert_eq!(gateway.look("/health/live").await.status, 200);

    access.replace(&self::access(&[("bob", &["*"], Action::Produce)]));
    let ann = push_as(&gateway, "ann", request(&own, &["b"], true)).await;
    assert_eq!(ann.status, 401);
    let bob = push_as(&gateway, "bob", request(&other, &["b"], true)).await;
    assert_eq!(bob.text(), WELL);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_client_has_a_limit_of_its_own() {
    let (one, two) = (new_topic("kprf-client", 1), new_topic("kprf-client", 1));
    let tokens = access(&[
        ("ann", &["*"], Action::Produce),
        ("bob", &["*"], Action::Produce),
    ]);
    let options = KprfOptions {
        client_limit: 3,
        rules: vec![RateRule {
            topic_name: two.clone(),
            max_requests_per_minute: 1,
        }],
        ..KprfOptions::default()
    };
    let gateway = start_with_access(options.clone(), Arc::new(tokens));
    // What the topic's limit refuses is not counted of the client.
    let reply = push_as(&gateway, "ann", request(&two, &["a", "b"], true)).await;
    assert_eq!(reply.status, 429);
    assert_eq!(reply.json()["errors"][0]["error"], false);
    let reply = push_as(&gateway, "ann", request(&one, &["a", "b"], true)).await;
    assert_eq!(reply.text(), WELL);
    let reply = push_as(&gateway, "ann", request(&one, &["c"], true)).await;
    assert_eq!(
        (reply.status, &reply.json()["errors"][0]["message"]),
        (429, &json!("ratelimit"))
    );
    let wait: u64 = reply.all("retry-after")[0].parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let reply = push_as(&gateway, "bob", request(&one, &["d", "e", "f"], true)).await;
    assert_eq!(reply.text(), WELL);

    // A higher limit counts what there was before it.
    gateway.kprf.reload(&KprfOptions {
        client_limit: 4,
        rules: Vec::new(),
        denied_topics: vec![two.clone()],
        ..options
    });
    let reply = push_as(&gateway, "ann", request(&one, &["g", "h"], true)).await;
    assert_eq!(reply.status, 429);
    let entries = &reply.json()["errors"];
    assert_eq!(
        (&entries[0]["error"], &entries[1]["error"]),
        (&json!(false), &json!(true))
    );
    let reply = push_as(&gateway, "bob", request(&two, &["x"], true)).await;
    assert_eq!(reply.status, 500);
    assert!(reply.text().contains("TopicAuthorizationFailed"));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_a_client_is_its_address() {
    let topic = new_topic("kprf-client", 1);
    let gateway = gateway(KprfOptions {
        client_limit: 1,
        ..KprfOptions::default()
    });
    assert_eq!(gateway.push(request(&topic, &["a"], true)).await.body, WELL);
    let reply = push_as(&gateway, "whoever", request(&topic, &["b"], true)).await;
    assert_eq!(
        reply.status, 429,
        "a token that nobody asks for makes no client"
    );
    // From 127.0.0.2.
    let client = reqwest::Client::builder()
        .local_address(std::net::IpAddr::from([127, 0, 0, 2]))
        .build()
        .unwrap();
    let other = client.post(gateway.url(PUSH));
    let other = other.header("content-type", "application/json");
    let other = full(other.body(request(&topic, &["c"], true).to_string())).await;
    assert_eq!(other.text(), WELL);
    gateway.stop().await;
}
