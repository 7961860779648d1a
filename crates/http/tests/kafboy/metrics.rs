//! What its port counts.

use super::{Changes, full, start, topic};
use barnabas_http::{EditJson, HookFailure, HookOutcome, HookRequest, KafboyOptions, ValveOptions};
use barnabas_metrics::{Format, Registry};
use std::sync::Arc;

struct Broken;

impl EditJson for Broken {
    fn post(&self, _: &HookRequest) -> Result<HookOutcome, HookFailure> {
        Err(HookFailure::Crashed("at line 1".to_owned()))
    }

    fn error(&self, _: u16, _: &str) -> Result<(), HookFailure> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_route_whatever_their_topic() {
    let gateway = start(Changes {
        options: KafboyOptions {
            extra_sync: vec!["/1/:topic/".to_owned()],
            valve: Some(ValveOptions::default()),
            ..KafboyOptions::default()
        },
        ..Changes::default()
    });
    let registry = Registry::new();
    let meters = vec![Arc::clone(gateway.kafboy.meter())];
    registry.front_ends(meters).unwrap();
    for _ in 0..2 {
        let topic = topic();
        for path in ["async", "safe/batch/async", "1"] {
            let reply = gateway.form(&format!("/{path}/{topic}"), "a=1").await;
            assert_eq!(reply.status, 200, "{path}");
        }
    }
    assert_eq!(gateway.form("/async/a b", "a=1").await.status, 400);
    assert_eq!(gateway.form("/nowhere", "").await.status, 404);
    assert_eq!(gateway.form("/echo_post", "a=1").await.status, 200);
    let get = gateway.client.get(gateway.url("/async/t"));
    assert_eq!(full(get).await.status, 400);
    gateway.kafboy.reload(Some(Arc::new(Broken)), false.into());
    assert_eq!(gateway.form("/async/t", "a=1").await.status, 500);

    let text = registry.text(Format::Prometheus);
    let request = |route: &str, status: u16, count: u64| {
        format!(
            "barnabas_requests_total{{front_end=\"kafboy\",request=\"{route}\",status=\"{status}\"}} \
             {count}"
        )
    };
    let own: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("barnabas_requests_total"))
        .collect();
    let expected = [
        request("/1/:topic", 200, 2),
        request("/async/:topic", 200, 2),
        request("/async/:topic", 400, 2),
        request("/async/:topic", 500, 1),
        request("/echo_post", 200, 1),
        request("/safe/batch/async/:topic", 200, 2),
        request("other", 404, 1),
    ];
    let mut shown = own.clone();
    shown.sort_unstable();
    assert_eq!(shown, expected);
    for line in [
        "barnabas_request_duration_seconds_count{front_end=\"kafboy\",request=\"/1/:topic\"} 2",
        "barnabas_errors_total{front_end=\"kafboy\",kind=\"hook\"} 1",
    ] {
        assert!(text.lines().any(|own| own == line), "{line}: {text}");
    }
    let levels = gateway.kafboy.levels();
    assert_eq!((levels.body_bytes, levels.waiting), (0, 0));
    gateway.stop().await;
}
