//! The trace of a request in the headers of its records (`docs/tracing.md`).

use super::{PUSH, full, gateway, records, request};
use crate::support::new_topic;
use barnabas_http::KprfOptions;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

#[tokio::test(flavor = "multi_thread")]
async fn all_records_of_a_request_carry_its_trace() {
    // Room for the records and for what they carry, but not for twice that.
    let gateway = gateway(KprfOptions {
        max_buffered_bytes: 4_096,
        ..KprfOptions::default()
    });
    let topic = new_topic("kprf-trace", 1);
    let send = async |values: &[&str], parent: &str, baggage: &str| {
        let posted = gateway.client.post(gateway.url(PUSH));
        let posted = posted.header("content-type", "application/json");
        let posted = posted.header("traceparent", parent);
        let posted = posted
            .header("tracestate", "a=1")
            .header("baggage", baggage);
        let body = request(&topic, values, true).to_string();
        full(posted.body(body)).await.status
    };
    // Again and again: the room is given back, whatever was carried.
    for _ in 0..30 {
        assert_eq!(send(&["1", "2"], PARENT, "b=2").await, 200);
    }
    assert_eq!(send(&["3"], "malformed", "").await, 200);
    // What is carried counts.
    let large = format!("b={}", "x".repeat(1_000));
    assert_eq!(send(&["4"; 3], PARENT, &large).await, 200);
    assert_eq!(send(&["5"; 4], PARENT, &large).await, 503);
    let found = records(&topic, 64).await;
    assert_eq!(found.len(), 64);
    let carried = |index: usize| {
        let headers = found[index].headers.iter();
        let text = |value: &Option<Vec<u8>>| String::from_utf8(value.clone().unwrap()).unwrap();
        headers
            .map(|(name, value)| format!("{name}={}", text(value)))
            .collect::<Vec<_>>()
    };
    let expected = [
        format!("traceparent={PARENT}"),
        "tracestate=a=1".to_owned(),
        "baggage=b=2".to_owned(),
    ];
    for index in 0..60 {
        assert_eq!(carried(index), expected);
    }
    assert!(carried(60).is_empty());
    assert_eq!(carried(61)[2], format!("baggage={large}"));
    gateway.stop().await;
}
