//! Who may send (section 9, last row).

use super::{Changes, FORM, Gateway, WELL, full, messages, plain, says, start, topic};
use crate::support::Full;
use barnabas_engine::{Access, Action, Grant};
use barnabas_http::{
    EditJson, HookAnswer, HookFailure, HookMessage, HookOutcome, HookRecord, HookRequest,
};
use std::sync::Arc;

const REQUIRED: &str = r#"{"error":"a valid bearer token is required"}"#;
const FORBIDDEN: &str = r#"{"error":"the token does not allow this"}"#;

fn access(tokens: &[(&str, &[&str], Action)]) -> Access {
    Access::only(tokens.iter().map(|(token, topics, action)| {
        let grant = Grant {
            clusters: vec!["ekaf".to_owned()],
            topics: topics.iter().map(ToString::to_string).collect(),
            actions: vec![*action],
        };
        ((*token).to_owned(), vec![grant])
    }))
}

async fn post_as(gateway: &Gateway, token: &str, path: &str, body: &str) -> Full {
    let request = gateway.client.post(gateway.url(path));
    let request = request.header("content-type", FORM);
    let request = request.header("authorization", format!("Bearer {token}"));
    full(request.body(body.to_owned())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_send_to_its_topics() {
    let (own, other) = (topic(), topic());
    let access = Arc::new(access(&[
        ("ann", &[&own], Action::Produce),
        ("reader", &["*"], Action::Consume),
    ]));
    let gateway = start(Changes {
        access: Arc::clone(&access),
        ..Changes::default()
    });
    for mode in ["async", "batch/async", "sync", "batch/sync", "safe/async"] {
        let path = format!("/{mode}/{own}");
        let without = gateway.form(&path, "k=no").await;
        says(&without, 401, REQUIRED);
        assert_eq!(without.all("www-authenticate"), ["Bearer"]);
        says(
            &post_as(&gateway, "bob", &path, "k=no").await,
            401,
            REQUIRED,
        );
        let reader = post_as(&gateway, "reader", &path, "k=no").await;
        says(&reader, 403, FORBIDDEN);
        assert!(reader.all("www-authenticate").is_empty());
        let elsewhere = format!("/{mode}/{other}");
        let elsewhere = post_as(&gateway, "ann", &elsewhere, "k=no").await;
        says(&elsewhere, 403, FORBIDDEN);
        assert_eq!(post_as(&gateway, "ann", &path, "k=yes").await.status, 200);
    }
    // Nothing of Kafka is in these.
    assert_eq!(gateway.form("/echo_post", "a=1").await.status, 200);
    let node = full(gateway.client.get(gateway.url("/disco"))).await;
    assert_eq!(node.status, 200);

    access.replace(&self::access(&[("bob", &["*"], Action::Produce)]));
    let path = format!("/sync/{other}");
    says(
        &post_as(&gateway, "ann", &path, "k=no").await,
        401,
        REQUIRED,
    );
    let bob = post_as(&gateway, "bob", &path, "k=bob").await;
    says(&bob, 200, r#"[{"ok":true}]"#);
    let found = messages(&own, 5).await;
    assert!(found.iter().all(|(_, value)| value == "yes"), "{found:?}");
    assert_eq!(messages(&other, 1).await.len(), 1);
    gateway.stop().await;
}

/// Sends everything to the topic that the first pair names, and a record more
/// to the second one's.
pub(super) struct Elsewhere;

impl EditJson for Elsewhere {
    fn post(&self, request: &HookRequest) -> Result<HookOutcome, HookFailure> {
        let [to, more @ ..] = &request.pairs[..] else {
            return Ok(HookOutcome {
                answer: HookAnswer::Reply(b"{}".to_vec()),
                records: Vec::new(),
            });
        };
        let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let message = |value: &Option<Vec<u8>>| HookMessage {
            key: None,
            value: value.clone().unwrap_or_default(),
        };
        let record = |pair: &barnabas_http::HookPair| HookRecord {
            topic: Some(name(&pair.name)),
            message: message(&pair.value),
            is_batched: false,
        };
        Ok(HookOutcome {
            answer: HookAnswer::Produce {
                topic: Some(name(&to.name)),
                messages: vec![message(&to.value)],
            },
            records: more.iter().map(record).collect(),
        })
    }

    fn error(&self, _: u16, _: &str) -> Result<(), HookFailure> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_hook_the_topics_count_that_it_sends_to() {
    let (own, other) = (topic(), topic());
    let gateway = start(Changes {
        access: Arc::new(access(&[("ann", &[&own], Action::Produce)])),
        hook: Some(Arc::new(Elsewhere)),
        ..Changes::default()
    });
    let path = "/sync/no topic at all".replace(' ', "%20");
    says(&gateway.form(&path, "").await, 401, REQUIRED);
    let send = async |body: String| post_as(&gateway, "ann", &path, &body).await;
    says(&send(String::new()).await, 200, "{}");
    says(&send(format!("{other}=no")).await, 403, FORBIDDEN);
    // All or nothing.
    says(&send(format!("{own}=no&{other}=no")).await, 403, FORBIDDEN);
    let well = send(format!("{own}=1&{own}=2")).await;
    says(&well, 200, r#"[{"ok":true}]"#);
    let mut found = messages(&own, 2).await;
    found.sort();
    assert_eq!(found, [plain("1"), plain("2")]);
    assert!(messages(&other, 0).await.is_empty());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_everybody_may() {
    let own = topic();
    let gateway = start(Changes::default());
    let path = format!("/async/{own}");
    says(&post_as(&gateway, "whoever", &path, "k=1").await, 200, WELL);
    gateway.stop().await;
}
