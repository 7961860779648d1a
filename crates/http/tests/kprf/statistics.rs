//! The rest of librdkafka's statistics: contract, section 6.3.

use super::{gateway, request};
use crate::support::{PATIENCE, new_topic};
use barnabas_http::KprfOptions;
use std::time::Instant;

/// Fields by where they stand: an `int` of librdkafka's documents ends in
/// `_total`, the others are gauges.
const CLIENT: &[&str] = &[
    "age_microseconds_total",
    "msg_max_total",
    "msg_size_max_bytes_total",
    "rxmsgs_total",
    "rxmsg_bytes_total",
    "simple_cnt",
    "eos_idemp_stateage_milliseconds",
    "eos_txn_stateage_milliseconds",
    "eos_producer_id",
    "eos_producer_epoch",
    "eos_epoch_cnt_total",
];
const BROKER: &[&str] = &[
    "txidle_microseconds_total",
    "rxidle_microseconds_total",
    "rxcorriderrs_total",
    "rxpartial_total",
    "zbuf_grow_total",
    "buf_grow_total",
    "wakeups_total",
    "connects_total",
    "disconnects_total",
];
const BROKER_WINDOWS: &[&str] = &[
    "int_latency_microseconds",
    "outbuf_latency_microseconds",
    "rtt_microseconds",
    "throttle_milliseconds",
];
const TOPIC: &[&str] = &["age_milliseconds"];
const TOPIC_WINDOWS: &[&str] = &["batchsize_bytes", "batchcnt"];
const PARTITION: &[&str] = &[
    "leader_total",
    "leader_epoch_total",
    "desired",
    "unknown",
    "msgq_cnt",
    "msgq_bytes",
    "xmit_msgq_cnt",
    "xmit_msgq_bytes",
    "txmsgs_total",
    "txbytes_total",
    "msgs_total",
    "msgs_inflight",
    "next_ack_seq",
    "next_err_seq",
    "acked_msgid_total",
];
const PARTS: &[&str] = &["min", "max", "avg", "sum", "cnt", "stddev", "outofrange"];

/// Name, type and labels of each metric.
pub(super) fn rest(has_partitions: bool) -> Vec<(String, &'static str, Vec<&'static str>)> {
    let mut all = Vec::new();
    let mut add = |of: &str, fields: &[&str], labels: &[&'static str]| {
        for field in fields {
            let kind = match field.ends_with("_total") {
                true => "counter",
                false => "gauge",
            };
            let name = format!("barnabas_librdkafka_{of}{field}");
            all.push((name, kind, labels.to_vec()));
        }
    };
    add("", CLIENT, &["client"]);
    add(
        "",
        &["eos_idemp_state", "eos_txn_state"],
        &["client", "state"],
    );
    add("broker_", BROKER, &["broker"]);
    add("broker_", &["req_total"], &["broker", "request"]);
    add("topic_", TOPIC, &["topic"]);
    if has_partitions {
        add("partition_", PARTITION, &["partition", "topic"]);
    }
    for (of, windows, label) in [
        ("broker_", BROKER_WINDOWS, "broker"),
        ("topic_", TOPIC_WINDOWS, "topic"),
    ] {
        for window in windows {
            for part in PARTS {
                add(of, &[&format!("{window}_{part}")], &[label]);
            }
            let mut labels = [label, "quantile"];
            labels.sort_unstable();
            add(of, &[window], &labels);
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_the_statistics_is_there() {
    let topic = new_topic("kprf-statistics", 2);
    let gateway = gateway(KprfOptions {
        has_partitions: true,
        ..KprfOptions::default()
    });
    let request = request(&topic, &["a"; 7], true);
    assert_eq!(gateway.push(request).await.status, 200);
    let prefix = "barnabas_librdkafka_";
    let partition = |number: u8| {
        format!("{prefix}partition_txmsgs_total{{partition=\"{number}\",topic=\"{topic}\"}}")
    };
    let started = Instant::now();
    loop {
        let sent = [
            gateway.value(&partition(0)).await,
            gateway.value(&partition(1)).await,
        ];
        if sent.iter().flatten().sum::<f64>() >= 7.0 {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{sent:?}");
    }
    let text = gateway.look("/metrics").await.text();
    let statistics: String = text
        .lines()
        .filter(|line| line.contains(prefix))
        .map(|line| format!("{line}\n"))
        .collect();
    super::metrics::assert_shown(&statistics, &rest(true));

    // Two clients, each with a state that names itself, and an id from Kafka.
    for client in ["patient", "waiting"] {
        let started = Instant::now();
        let state = format!("{prefix}eos_idemp_state{{client=\"{client}\",state=\"Assigned\"}}");
        while gateway.value(&state).await != Some(1.0) {
            assert!(started.elapsed() < PATIENCE, "{client}");
        }
        let id = format!("{prefix}eos_producer_id{{client=\"{client}\"}}");
        assert!(gateway.value(&id).await.is_some_and(|id| id >= 0.0));
    }
    let is_there = |start: &str, end: &str| {
        let mut lines = text.lines();
        lines.any(|line| line.starts_with(start) && line.contains(end))
    };
    let broker = format!("{prefix}broker_req_total{{broker=\"127.0.0.1:");
    assert!(is_there(&broker, "request=\"Produce\"} "), "{text}");
    assert!(!is_there(&broker, "request=\"Fetch\""), "{text}");
    for quantile in ["0.5", "0.75", "0.9", "0.95", "0.99", "0.9999"] {
        let rtt = format!("{prefix}broker_rtt_microseconds{{broker=");
        let quantile = format!("quantile=\"{quantile}\"}} ");
        assert!(is_there(&rtt, &quantile), "{quantile}");
    }
    gateway.stop().await;
}
