//! The edit-JSON hook, written in Rust.

use super::{Changes, Gateway, WELL, messages, plain, says, start, topic};
use crate::support::PATIENCE;
use barnabas_engine::{OutboxSettings, PerTopic};
use barnabas_http::{
    EditJson, HookAnswer, HookFailure, HookMessage, HookOutcome, HookRecord, HookRequest,
    KafboyOptions,
};
use barnabas_testkit::topic_name;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// kafboy's own example, and more by the first pair's name.
#[derive(Default)]
struct Example {
    errors: Mutex<Vec<(u16, String)>>,
    blocker: Mutex<()>,
}

fn message(value: &str) -> HookMessage {
    HookMessage {
        key: None,
        value: value.into(),
    }
}

impl EditJson for Example {
    fn post(&self, request: &HookRequest) -> Result<HookOutcome, HookFailure> {
        let Some(first) = request.pairs.first() else {
            return Ok(HookOutcome {
                answer: HookAnswer::Error(Some(format!("{}.insufficient", request.topic))),
                records: Vec::new(),
            });
        };
        let value = first.value.clone().unwrap_or_default();
        let mut records = Vec::new();
        let answer = match &first.name[..] {
            b"hello" => HookAnswer::Produce {
                topic: None,
                messages: vec![HookMessage { key: None, value }],
            },
            b"elsewhere" => HookAnswer::Produce {
                topic: Some(String::from_utf8(value).unwrap()),
                messages: vec![message("1"), message("2")],
            },
            b"empty" => HookAnswer::Empty,
            b"unexpected" => HookAnswer::Unexpected,
            b"strange" => HookAnswer::Error(None),
            b"crash" => return Err(HookFailure::Crashed("at line 1".to_owned())),
            b"panic" => panic!("as a test wants it"),
            b"slow" => {
                drop(self.blocker.lock());
                HookAnswer::Empty
            }
            name => {
                let json = format!(
                    r#"{{"extra":"true","{}":"{}"}}"#,
                    String::from_utf8_lossy(name),
                    String::from_utf8_lossy(&value)
                );
                records.push(HookRecord {
                    topic: None,
                    message: message(&json),
                    is_batched: true,
                });
                HookAnswer::Reply(br#"{"ok":"fast reply"}"#.to_vec())
            }
        };
        Ok(HookOutcome { answer, records })
    }

    fn error(&self, status: u16, text: &str) -> Result<(), HookFailure> {
        self.errors.lock().unwrap().push((status, text.to_owned()));
        Ok(())
    }
}

/// Waits until the hook has heard of so many errors.
async fn told(hook: &Example, count: usize) {
    let started = Instant::now();
    while hook.errors.lock().unwrap().len() < count {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn with(hook: &Arc<Example>, hook_timeout: Duration) -> Gateway {
    start(Changes {
        hook: Some(Arc::<Example>::clone(hook)),
        settings: OutboxSettings {
            batch_ttl: Duration::from_millis(50).into(),
            ..OutboxSettings::default()
        },
        options: KafboyOptions {
            extra_async: vec!["/1/:topic".to_owned()],
            hook_timeout,
            ..KafboyOptions::default()
        },
        ..Changes::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hook_has_the_last_word() {
    let hook = Arc::new(Example::default());
    let gateway = with(&hook, PATIENCE);
    let (topic, other) = (topic(), topic());
    let path = format!("/async/{topic}");
    says(&gateway.form(&path, "hello=V&x=y").await, 200, WELL);
    let sync = format!("/sync/{topic}");
    let elsewhere = format!("elsewhere={other}");
    let reply = gateway.form(&sync, &elsewhere).await;
    says(&reply, 200, r#"[{"ok":true},{"ok":true}]"#);
    let reply = gateway.form(&format!("/1/{topic}"), "a=b").await;
    says(&reply, 200, r#"{"ok":"fast reply"}"#);
    let expected = [plain("V"), plain(r#"{"extra":"true","a":"b"}"#)];
    assert_eq!(messages(&topic, 2).await, expected);
    assert_eq!(messages(&other, 2).await, [plain("1"), plain("2")]);

    let missing = topic_name("kafboy-missing");
    let elsewhere_missing = format!("elsewhere={missing}");
    let mut errors = Vec::new();
    let reply = gateway.form(&sync, &elsewhere_missing).await;
    says(&reply, 500, r#"[{"error":3},{"error":3}]"#);
    errors.push((500, r#"[{"error":3},{"error":3}]"#.to_owned()));
    told(&hook, 1).await;
    for (path, body, status, text) in [
        (&*path, "", 400, format!("{topic}.insufficient")),
        (&path, "{}", 400, format!("{topic}.insufficient")),
        (&path, "empty=1", 400, "empty".to_owned()),
        (&path, "unexpected", 400, "unexp".to_owned()),
        (&path, "strange", 400, "unknown".to_owned()),
        (&path, "crash", 500, "the hook failed".to_owned()),
        (&path, "panic", 500, "the hook failed".to_owned()),
        (
            &path,
            "hello=%2",
            500,
            "invalid URL escape \\\"%2\\\"".to_owned(),
        ),
        ("/async/bad+topic", "hello=1", 400, "invalid".to_owned()),
        // The topic in the path counts only where it is used.
        ("/async/bad+topic", &elsewhere, 200, String::new()),
    ] {
        let reply = gateway.form(path, body).await;
        match status {
            200 => says(&reply, 200, WELL),
            _ => {
                says(&reply, status, &format!(r#"{{"error":"{text}"}}"#));
                errors.push((status, text.replace('\\', "")));
            }
        }
        // Each is told of before the next one.
        told(&hook, errors.len()).await;
    }
    assert_eq!(*hook.errors.lock().unwrap(), errors);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_takes_too_long_is_not_waited_for() {
    let hook = Arc::new(Example::default());
    let gateway = with(&hook, Duration::from_millis(500));
    let reply = {
        let _blocked = hook.blocker.lock().unwrap();
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(gateway.form("/async/t", "slow"))
        })
    };
    says(&reply, 504, r#"{"error":"timeout"}"#);
    // Its place is free again, as soon as there is a processor for it.
    let started = Instant::now();
    loop {
        let reply = gateway.form("/async/t", "empty").await;
        if reply.status == 400 {
            break says(&reply, 400, r#"{"error":"empty"}"#);
        }
        says(&reply, 504, r#"{"error":"timeout"}"#);
        assert!(started.elapsed() < PATIENCE);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_replaced_while_requests_come() {
    let gateway = with(&Arc::new(Example::default()), PATIENCE);
    let topic = topic();
    let path = format!("/async/{topic}");
    let reply = gateway.form(&path, "empty=1").await;
    says(&reply, 400, r#"{"error":"empty"}"#);
    gateway.kafboy.reload(None, PerTopic::all(true));
    says(&gateway.form(&path, "empty=1").await, 200, WELL);
    // It has waited for Kafka.
    assert_eq!(gateway.outbox.info().messages, 0);
    assert_eq!(messages(&topic, 1).await, [super::keyed("empty", "1")]);
    gateway.stop().await;
}
