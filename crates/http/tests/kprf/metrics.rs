//! Every name of sections 6.1 and 6.2, scraped.

use super::{full, gateway, request, statistics};
use crate::support::{PATIENCE, new_topic};
use barnabas_http::{KprfOptions, RateRule};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Instant;

/// Names, types and labels as in the contract.
const NAMES: &[(&str, &str, &[&str])] = &[
    ("http_requests_duration", "histogram", &["code", "method"]),
    ("kafka_internal_queue_size", "gauge", &["topic"]),
    ("kafka_sent_messages", "counter", &["topic"]),
    ("kafka_message_send_duration", "histogram", &["topic"]),
    ("kafka_errors_count", "counter", &["error_code", "topic"]),
    ("ratelimit_messages_count", "counter", &["topic"]),
    ("kprf_app_metadata", "gauge", &["commit_hash", "version"]),
    ("kafka_producer_reply_queue_size", "gauge", &[]),
    ("kafka_producer_current_messages_in_queue", "gauge", &[]),
    (
        "kafka_producer_current_messages_in_queue_bytes",
        "gauge",
        &[],
    ),
    ("kafka_producer_total_requests_count", "counter", &[]),
    ("kafka_producer_total_bytes_sent", "counter", &[]),
    ("kafka_producer_total_responses_received", "counter", &[]),
    ("kafka_producer_total_bytes_received", "counter", &[]),
    ("kafka_producer_total_messages_sent", "counter", &[]),
    ("kafka_producer_total_messages_bytes_sent", "counter", &[]),
    ("kafka_producer_metadata_cache_topics_count", "gauge", &[]),
    ("kafka_producer_broker_state", "gauge", &["broker"]),
    ("kafka_producer_broker_state_age", "gauge", &["broker"]),
    ("kafka_producer_broker_outbuf_count", "gauge", &["broker"]),
    (
        "kafka_producer_broker_outbuf_msg_count",
        "gauge",
        &["broker"],
    ),
    ("kafka_producer_broker_waitresp_count", "gauge", &["broker"]),
    (
        "kafka_producer_broker_waitresp_msg_count",
        "gauge",
        &["broker"],
    ),
    (
        "kafka_producer_broker_requests_sent",
        "counter",
        &["broker"],
    ),
    (
        "kafka_producer_broker_requests_sent_bytes",
        "counter",
        &["broker"],
    ),
    (
        "kafka_producer_broker_transmission_errors",
        "counter",
        &["broker"],
    ),
    (
        "kafka_producer_broker_request_retries",
        "counter",
        &["broker"],
    ),
    ("kafka_producer_request_timeouts", "counter", &["broker"]),
    (
        "kafka_producer_broker_responses_count",
        "counter",
        &["broker"],
    ),
    (
        "kafka_producer_broker_bytes_received",
        "counter",
        &["broker"],
    ),
    ("kafka_producer_broker_errors_count", "counter", &["broker"]),
    ("kafka_producer_topic_metadata_age", "gauge", &["topic"]),
    ("kafka_producer_topic_batchsize_avg", "gauge", &["topic"]),
    ("kafka_producer_topic_batchcount_avg", "gauge", &["topic"]),
    ("barnabas_http_requests_total", "counter", &["code"]),
    (
        "barnabas_http_request_duration_seconds",
        "histogram",
        &["code", "method"],
    ),
    ("barnabas_produce_duration_seconds", "histogram", &["topic"]),
    (
        "barnabas_build_info",
        "gauge",
        &["commit", "librdkafka", "version"],
    ),
    ("barnabas_connections", "gauge", &["front_end"]),
    ("barnabas_connections_total", "counter", &["front_end"]),
    ("barnabas_received_bytes_total", "counter", &["front_end"]),
    ("barnabas_sent_bytes_total", "counter", &["front_end"]),
    ("barnabas_admitted_messages", "gauge", &[]),
    ("barnabas_admitted_bytes", "gauge", &[]),
];

/// Types by name, and the names of the labels that each has.
fn families(text: &str) -> (BTreeMap<String, String>, BTreeMap<String, Vec<String>>) {
    let (mut types, mut labels) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            types.insert(name.to_owned(), kind.to_owned());
        } else if !line.starts_with('#') {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, inner) = match series.split_once('{') {
                Some((name, inner)) => (name, inner.trim_end_matches('}')),
                None => (series, ""),
            };
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            let of_histogram =
                base.filter(|base| types.get(*base).is_some_and(|kind| kind == "histogram"));
            let name = of_histogram.unwrap_or(name);
            let names = inner.split("\",").filter_map(|pair| pair.split_once("=\""));
            let mut names: Vec<String> = names
                .map(|(label, _)| label.to_owned())
                .filter(|label| label != "le")
                .collect();
            names.sort_unstable();
            labels.insert(name.to_owned(), names);
        }
    }
    (types, labels)
}

/// These metrics are in the text, and no others.
pub(super) fn assert_shown(text: &str, all: &[(String, &str, Vec<&str>)]) {
    let (types, labels) = families(text);
    for (name, kind, expected) in all {
        assert_eq!(types.get(name).map(String::as_str), Some(*kind), "{name}");
        assert_eq!(labels[name], *expected, "{name}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
    }
    for name in types.keys() {
        let is_known = all.iter().any(|(known, ..)| known == name);
        assert!(is_known, "{name} is not in the list");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_of_the_contract_is_there() {
    let topic = new_topic("kprf-metrics", 1);
    let gateway = gateway(KprfOptions {
        rules: vec![RateRule {
            topic_name: "limited".to_owned(),
            max_requests_per_minute: 1,
        }],
        ..KprfOptions::default()
    });
    let bare = gateway.look("/metrics").await.text();
    assert!(
        !bare.contains("kafka_sent_messages"),
        "with its first sample"
    );
    assert_eq!(
        gateway.push(request(&topic, &["a"; 11], true)).await.status,
        200
    );
    assert_eq!(
        gateway.push(request(&topic, &["a"; 4], false)).await.status,
        200
    );
    assert_eq!(
        gateway
            .push(request("bad topic!", &["a"], true))
            .await
            .status,
        500
    );
    gateway.push(request("limited", &["a"; 2], false)).await;
    assert_eq!(gateway.send("/push", "{").await.status, 400);
    // librdkafka's come by themselves; a counter is what it says, however
    // often it says it.
    // It counts each attempt.
    let sent = "kafka_producer_total_messages_sent";
    let started = Instant::now();
    let all = loop {
        match gateway.value(sent).await {
            Some(all) if all >= 15.0 => break all,
            other => assert!(started.elapsed() < PATIENCE, "{other:?}"),
        }
    };
    let started = Instant::now();
    while gateway.look("/stats").await.json()["ts"].as_i64() == gateway.ts().await {
        assert!(started.elapsed() < PATIENCE);
    }
    assert_eq!(gateway.value(sent).await, Some(all));

    let reply = gateway.look("/metrics").await;
    assert_eq!(
        reply.all("content-type"),
        ["text/plain; version=0.0.4; charset=utf-8"]
    );
    let text = reply.text();
    let own = NAMES
        .iter()
        .map(|(name, kind, labels)| ((*name).to_owned(), *kind, labels.to_vec()));
    let all: Vec<_> = own.chain(statistics::rest(false)).collect();
    assert_shown(&text, &all);
    assert_documented(&text);
    for (series, expected) in [
        (format!("kafka_sent_messages{{topic=\"{topic}\"}}"), 15.0),
        (
            format!("kafka_internal_queue_size{{topic=\"{topic}\"}}"),
            0.0,
        ),
        (
            format!("kafka_message_send_duration_count{{topic=\"{topic}\"}}"),
            15.0,
        ),
        (
            "kafka_errors_count{error_code=\"17\",topic=\"other\"}".to_owned(),
            1.0,
        ),
        (
            "ratelimit_messages_count{topic=\"limited\"}".to_owned(),
            1.0,
        ),
        (
            "http_requests_duration_count{code=\"200\",method=\"push/sync\"}".to_owned(),
            1.0,
        ),
        (
            "http_requests_duration_count{code=\"200\",method=\"push/async\"}".to_owned(),
            1.0,
        ),
        (
            "http_requests_duration_count{code=\"429\",method=\"push/async\"}".to_owned(),
            1.0,
        ),
        (
            "http_requests_duration_count{code=\"500\",method=\"push/sync\"}".to_owned(),
            1.0,
        ),
        ("barnabas_http_requests_total{code=\"400\"}".to_owned(), 1.0),
        ("barnabas_http_requests_total{code=\"200\"}".to_owned(), 2.0),
    ] {
        assert_eq!(gateway.value(&series).await, Some(expected), "{series}");
    }
    let up = text.lines().any(|line| {
        line.starts_with("kafka_producer_broker_state{broker=\"127.0.0.1:") && line.ends_with(" 6")
    });
    assert!(up, "{text}");
    for bound in ["5", "10", "20", "40", "80", "+Inf"] {
        let bucket = format!("le=\"{bound}\"}}");
        let buckets = "http_requests_duration_bucket{code=\"200\",method=\"push/sync\",";
        assert!(text.contains(&format!("{buckets}{bucket}")), "{bound}");
    }
    gateway.stop().await;
}

impl super::Gateway {
    async fn ts(&self) -> Option<i64> {
        self.look("/stats").await.json()["ts"].as_i64()
    }
}

/// The tables of kprf's port in docs/metrics.md are those of [`NAMES`], and
/// say what the port says.
fn assert_documented(text: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (_, own) = document.split_once("\n## kprf").unwrap();
    let rows: Vec<&str> = own.lines().filter(|line| line.starts_with("| `")).collect();
    let expected = NAMES.iter().map(|(name, kind, labels)| {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let start = format!("# HELP {name} ");
        let mut helps = text.lines().filter_map(|line| line.strip_prefix(&start));
        let (labels, help) = (labels.join(", "), helps.next().unwrap());
        format!("| `{name}` | {kind} | {labels} | {help} |")
    });
    let expected: Vec<String> = expected.collect();
    assert!(
        rows == expected,
        "the table should be\n{}",
        expected.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn open_metrics_comes_to_those_who_ask() {
    let topic = new_topic("kprf-open", 1);
    let gateway = gateway(KprfOptions::default());
    gateway.push(request(&topic, &["a"], true)).await;
    let url = format!("http://{}/metrics", gateway.metrics);
    // Any method, and Prometheus' own header.
    let asked = gateway.client.post(url).header(
        "accept",
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
    );
    let reply = full(asked).await;
    assert_eq!(
        reply.all("content-type"),
        ["application/openmetrics-text; version=1.0.0; charset=utf-8"]
    );
    let text = reply.text();
    assert!(text.ends_with("# EOF\n"));
    // Under kprf's name, which OpenMetrics allows to no counter.
    let line = format!("kafka_sent_messages{{topic=\"{topic}\"}} 1");
    assert!(text.lines().any(|own| own == line), "{text}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_beyond_the_limit_share_their_series() {
    let gateway = gateway(KprfOptions {
        max_topics: 2,
        ..KprfOptions::default()
    });
    let topics: Vec<String> = (0..4).map(|_| new_topic("kprf-many", 1)).collect();
    for topic in &topics {
        gateway.push(request(topic, &["a"], true)).await;
    }
    for (topic, expected) in [
        (topics[0].as_str(), Some(1.0)),
        (&topics[1], Some(1.0)),
        (&topics[2], None),
        ("other", Some(2.0)),
    ] {
        let series = format!("kafka_sent_messages{{topic=\"{topic}\"}}");
        assert_eq!(gateway.value(&series).await, expected);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_port_tells_of_health_and_raw_statistics() {
    let here = gateway(KprfOptions::default());
    // It waits two seconds for Kafka.
    let started = Instant::now();
    let ready = loop {
        let reply = here.look("/health/ready").await;
        if reply.status == 200 || started.elapsed() > PATIENCE {
            break reply;
        }
    };
    assert_eq!((ready.status, ready.text().as_str()), (200, "ready"));
    assert_eq!(here.look("/health/live").await.status, 200);
    for path in ["/", "/push", "/metrics/"] {
        let reply = here.look(path).await;
        assert_eq!((reply.status, reply.body.len()), (404, 0), "{path}");
    }
    let started = Instant::now();
    let mut names = Vec::new();
    for path in ["/stats", "/stats?client=waiting"] {
        while here.look(path).await.status == 404 {
            assert!(started.elapsed() < PATIENCE);
        }
        names.push(here.look(path).await.json()["name"].clone());
    }
    assert!(names.iter().all(Value::is_string), "{names:?}");
    assert_ne!(names[0], names[1]);
    here.stop().await;

    // Nobody listens there.
    let nowhere = super::start("127.0.0.1:1", KprfOptions::default(), &[]);
    assert_eq!(nowhere.look("/health/ready").await.status, 503);
    assert_eq!(nowhere.look("/health/live").await.status, 200);
    nowhere.stop().await;
}
