//! Routes, methods, statuses and bodies of replies.

use super::{Changes, FORM, WELL, full, gateway, keyed, messages, plain, says, start, topic};
use barnabas_engine::{OutboxSettings, PartitionPicker, PerTopic, Pick, Strategy, TopicView};
use barnabas_http::KafboyOptions;
use barnabas_testkit::topic_name;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn every_route_produces_and_is_answered_byte_for_byte() {
    let gateway = start(Changes {
        options: KafboyOptions {
            extra_async_batch: vec!["/1/foo/:topic".to_owned()],
            extra_sync: vec!["/1/sync/:topic".to_owned()],
            ..KafboyOptions::default()
        },
        ..Changes::default()
    });
    let topic = topic();
    let mut expected = Vec::new();
    let routes = [
        ("/async", WELL),
        ("/batch/async", WELL),
        ("/sync", r#"[{"ok":true}]"#),
        ("/batch/sync", WELL),
        ("/safe/async", WELL),
        ("/safe/batch/async", WELL),
        ("/safe/sync", r#"[{"ok":true}]"#),
        ("/safe/batch/sync", WELL),
        ("/1/foo", WELL),
        ("/1/sync", r#"[{"ok":true}]"#),
    ];
    for (route, reply) in routes {
        for end in ["", "/"] {
            let path = format!("{route}/{topic}{end}");
            let answer = gateway.form(&path, &format!("hello={route}")).await;
            says(&answer, 200, reply);
            expected.push(keyed("hello", route));
        }
    }
    let mut found = messages(&topic, expected.len()).await;
    found.sort();
    expected.sort();
    assert_eq!(found, expected);

    // Nothing posted, nothing produced.
    says(
        &gateway.form(&format!("/async/{topic}"), "").await,
        200,
        WELL,
    );
    says(
        &gateway.form(&format!("/sync/{topic}"), "").await,
        200,
        "[]",
    );
    let batch = format!("/batch/sync/{topic}");
    says(&gateway.form(&batch, "").await, 200, WELL);
    assert_eq!(messages(&topic, 1).await.len(), expected.len());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_reply_has_an_entry_for_each_message() {
    let gateway = gateway();
    let topic = topic();
    let path = format!("/sync/{topic}");
    let reply = gateway.form(&path, "a=1&b=2&a=3").await;
    says(&reply, 200, r#"[{"ok":true},{"ok":true},{"ok":true}]"#);
    let expected = [keyed("a", "1"), keyed("b", "2"), keyed("a", "3")];
    assert_eq!(messages(&topic, 3).await, expected);

    let missing = topic_name("kafboy-missing");
    let reply = gateway.form(&format!("/sync/{missing}"), "a=1&b=2").await;
    says(&reply, 500, r#"[{"error":3},{"error":3}]"#);
    // Remembered: those who do not wait are told, too.
    let reply = gateway.form(&format!("/async/{missing}"), "a=1").await;
    says(&reply, 500, r#"{"error":"unknown topic"}"#);
    gateway.stop().await;

    let strict = start(Changes {
        options: KafboyOptions {
            is_strict: true,
            ..KafboyOptions::default()
        },
        ..Changes::default()
    });
    let reply = strict.form(&format!("/sync/{missing}"), "a=1").await;
    says(&reply, 200, r#"[{"error":3}]"#);
    strict.stop().await;
}

/// Refuses keys that begin with `b`.
struct Choosy;

impl PartitionPicker for Choosy {
    fn pick(&self, _: &TopicView<'_>, key: Option<&[u8]>, _: Option<&[u8]>) -> Pick {
        match key {
            Some([b'b', ..]) => Pick::Refused("blocked".to_owned()),
            _ => Pick::Undecided,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_line_up_with_their_messages() {
    let topic = topic();
    let custom = Strategy::Custom(Arc::new(Choosy));
    let gateway = start(Changes {
        settings: OutboxSettings {
            strategy: PerTopic::all(Strategy::default()).with(&*topic, custom),
            ..OutboxSettings::default()
        },
        ..Changes::default()
    });
    let large = "x".repeat(1_000_000);
    let body = format!("a=1&b=2&c={large}&d=4");
    let reply = gateway.form(&format!("/sync/{topic}"), &body).await;
    let expected = r#"[{"ok":true},{"error":"blocked"},{"error":10},{"ok":true}]"#;
    says(&reply, 500, expected);
    assert_eq!(
        messages(&topic, 2).await,
        [keyed("a", "1"), keyed("d", "4")]
    );
    let path = format!("/async/{topic}");
    let reply = gateway.form(&path, "b=2").await;
    says(&reply, 500, r#"{"error":"blocked"}"#);
    let reply = gateway.form(&path, &format!("c={large}")).await;
    says(&reply, 413, r#"{"error":"too_large"}"#);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_such_request_is_said() {
    let gateway = start(Changes {
        options: KafboyOptions {
            max_body_bytes: 100,
            node: "barnabas@here".to_owned(),
            ..KafboyOptions::default()
        },
        ..Changes::default()
    });
    let get = gateway.client.get(gateway.url("/async/t"));
    says(&full(get).await, 400, r#"{"error":"POST exp"}"#);
    for method in ["PUT", "DELETE", "OPTIONS", "PATCH"] {
        for path in ["/async/t", "/echo_post"] {
            let method: reqwest::Method = method.parse().unwrap();
            let asked = gateway.client.request(method, gateway.url(path));
            let reply = full(asked).await;
            says(&reply, 405, r#"{"error":"POST exp"}"#);
            assert_eq!(reply.all("allow"), ["POST"]);
        }
    }
    for path in ["/", "/async", "/async/t/x", "/nothing", "/metrics"] {
        let reply = gateway.form(path, "a=1").await;
        assert_eq!((reply.status, reply.body.len()), (404, 0), "{path}");
    }
    let long = "x".repeat(250);
    for topic in ["bad+topic", "a%2Fb", "%zz", "", &long] {
        for route in ["async", "sync", "batch/async"] {
            let reply = gateway.form(&format!("/{route}/{topic}/"), "a=1").await;
            says(&reply, 400, r#"{"error":"invalid"}"#);
        }
    }
    let body = format!("a={}", "x".repeat(99));
    says(
        &gateway.form("/async/t", &body).await,
        413,
        r#"{"error":"too_large"}"#,
    );
    let reply = gateway.form("/async/t", "a=%zz").await;
    says(&reply, 500, r#"{"error":"invalid URL escape \"%zz\""}"#);

    for path in ["/disco", "/disco/"] {
        let reply = full(gateway.client.get(gateway.url(path))).await;
        assert_eq!((reply.status, &*reply.text()), (200, "barnabas@here"));
        assert_eq!(reply.all("content-type"), ["text/plain; charset=utf-8"]);
    }
    for path in ["/disco", "/echo_post", "/echo_post/"] {
        let reply = gateway.form(path, "a=1&b&c%22=%26").await;
        says(&reply, 200, r#"{"a":"1","b":true,"c\"":"&"}"#);
        says(&gateway.form(path, "").await, 200, "[]");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_gets_what_the_readme_promises() {
    let gateway = gateway();
    let topic = topic();
    let url = gateway.url(&format!("/sync/{topic}"));
    let output = tokio::task::spawn_blocking(move || {
        Command::new("curl")
            .args(["--silent", "--max-time", "20", "--data"])
            .args([r#"{"click": 1}"#, &url])
            .output()
            .unwrap()
    });
    let output = output.await.unwrap();
    assert_eq!(output.stdout, br#"[{"ok":true}]"#);
    // curl says that it is a form.
    assert_eq!(messages(&topic, 1).await, [plain(r#"{"click": 1}"#)]);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_may_have_its_asynchronous_requests_wait() {
    let (patient, missing) = (topic(), topic_name("kafboy-missing"));
    let gateway = start(Changes {
        options: KafboyOptions {
            waits: PerTopic::all(false)
                .with(&*patient, true)
                .with(&*missing, true),
            ..KafboyOptions::default()
        },
        settings: OutboxSettings {
            // A message that was only batched would come much later.
            batch_ttl: Duration::from_secs(600).into(),
            ..OutboxSettings::default()
        },
        ..Changes::default()
    });
    for route in ["async", "batch/async", "batch/sync"] {
        let path = format!("/{route}/{patient}");
        says(&gateway.post(&path, FORM, "a=1").await, 200, WELL);
    }
    assert_eq!(messages(&patient, 3).await.len(), 3);
    let reply = gateway.form(&format!("/async/{missing}"), "a=1").await;
    says(&reply, 500, r#"{"error":"unknown topic"}"#);
    gateway.stop().await;
}
