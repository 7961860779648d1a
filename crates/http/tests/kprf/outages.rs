//! Kafka away.

use super::{WELL, request, start};
use crate::support::PATIENCE;
use barnabas_http::KprfOptions;
use barnabas_testkit::Cluster;
use std::time::{Duration, Instant};

/// `message.timeout.ms` of who waits.
const TIMEOUT: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_waits_once_and_who_does_not_loses_nothing() {
    let kafka = tokio::task::spawn_blocking(|| Cluster::builder().start().unwrap());
    let kafka = kafka.await.unwrap();
    kafka.create_topic("t", 1).unwrap();
    let own = [("message.timeout.ms", "2000")];
    let gateway = start(&kafka.bootstrap_servers(), KprfOptions::default(), &own);
    assert_eq!(
        gateway.push(request("t", &["before"], true)).await.body,
        WELL
    );
    assert_eq!(
        gateway.push(request("t", &["first"], false)).await.body,
        WELL
    );

    kafka.broker(0).kill().unwrap();
    let values: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    for value in &values {
        assert_eq!(gateway.push(request("t", &[value], false)).await.body, WELL);
    }
    let asked = Instant::now();
    let answer = gateway.push(request("t", &["x"; 50], true)).await;
    let waited = asked.elapsed();
    let text = "Message production error: MessageTimedOut (Local: Message timed out)";
    assert_eq!(answer.status, 500);
    assert_eq!(answer.body.matches(text).count(), 50, "{}", answer.body);
    // All at once, not one after the other.
    assert!(waited >= TIMEOUT, "{waited:?}");
    assert!(waited < TIMEOUT * 20, "{waited:?}");
    let timed_out = gateway.value("kafka_errors_count{error_code=\"-192\",topic=\"t\"}");
    assert_eq!(timed_out.await, Some(50.0));
    assert_eq!(gateway.look("/health/ready").await.status, 503);

    kafka.broker(0).start().unwrap();
    let started = Instant::now();
    loop {
        let records = kafka.read_all("t").unwrap();
        let found: Vec<String> = records.iter().map(|record| record.value_text()).collect();
        if found.len() >= 102 {
            assert_eq!(found[..2], ["before", "first"]);
            assert_eq!(found[2..], values, "in order, and nothing twice");
            break;
        }
        assert!(started.elapsed() < PATIENCE * 2, "{}", found.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    gateway.stop().await;
}
