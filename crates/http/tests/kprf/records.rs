//! What reaches Kafka: keys, partitions, order, and that nobody can take back
//! what was admitted.

use super::{PUSH, WELL, gateway, records, request};
use crate::support::new_topic;
use barnabas_http::KprfOptions;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write as _;

/// librdkafka's `consistent_random`: CRC-32 of the key modulo the partitions.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_values_and_partitions_arrive_as_they_were_sent() {
    let gateway = gateway(KprfOptions::default());
    let topic = new_topic("kprf-contents", 3);
    let answer = gateway
        .push(
            json!({"wait_for_send": true, "extra": {"a": 1}, "records": [
                {"topic": topic, "data": "", "partition": 0, "more": []},
                {"topic": topic, "data": "é\n\"\u{0}", "key": "", "partition": 1},
                {"topic": topic, "data": "{\"a\": 1}", "key": null, "partition": 2},
                {"topic": topic, "data": "k", "key": "key-1", "partition": null},
                {"topic": topic, "data": "k", "key": "key-2", "partition": -1},
            ]}),
        )
        .await;
    assert_eq!((answer.status, answer.body.as_str()), (200, WELL));
    let records = records(&topic, 5).await;
    let found = |key: Option<&str>, value: &str| {
        let key = key.map(|key| key.as_bytes().to_vec());
        let value = Some(value.as_bytes().to_vec());
        let mut matching = records
            .iter()
            .filter(|record| record.key == key && record.value == value);
        matching.next().map(|record| record.partition)
    };
    assert_eq!(found(None, ""), Some(0));
    assert_eq!(found(Some(""), "é\n\"\u{0}"), Some(1));
    assert_eq!(found(None, "{\"a\": 1}"), Some(2));
    for key in ["key-1", "key-2"] {
        let expected = (crc32(key.as_bytes()) % 3).cast_signed();
        assert_eq!(found(Some(key), "k"), Some(expected), "{key}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_keep_their_order_over_requests_of_a_connection() {
    let gateway = gateway(KprfOptions::default());
    let topics = [new_topic("kprf-order", 1), new_topic("kprf-order", 1)];
    let mut next = 0;
    for _ in 0..50 {
        let records: Vec<_> = (0..20)
            .map(|index| json!({"topic": topics[index % 2], "data": (next + index).to_string()}))
            .collect();
        next += 20;
        let answer = gateway.push(json!({ "records": records })).await;
        assert_eq!(answer.status, 200);
    }
    for (parity, topic) in topics.iter().enumerate() {
        let values: Vec<String> = records(topic, 500)
            .await
            .iter()
            .map(|record| record.value_text())
            .collect();
        let expected: Vec<String> = (0..1_000)
            .filter(|number| number % 2 == parity)
            .map(|number| number.to_string())
            .collect();
        assert_eq!(values, expected);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_takes_nothing_back() {
    // Long enough for the client to be gone before anything is sent.
    let brokers = barnabas_testkit::shared().bootstrap_servers();
    let gateway = super::start(&brokers, KprfOptions::default(), &[("linger.ms", "10000")]);
    let topic = new_topic("kprf-hang-up", 4);
    let values: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let texts: Vec<&str> = values.iter().map(String::as_str).collect();
    let body = request(&topic, &texts, true).to_string();
    let mut client = std::net::TcpStream::connect(gateway.address).unwrap();
    write!(
        client,
        "POST {PUSH} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    // Handed over, and waiting for Kafka.
    let series = format!("kafka_internal_queue_size{{topic=\"{topic}\"}}");
    let started = std::time::Instant::now();
    while gateway.value(&series).await != Some(200.0) {
        assert!(started.elapsed() < crate::support::PATIENCE);
    }
    drop(client);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for record in records(&topic, 200).await {
        *counts.entry(record.value_text()).or_default() += 1;
    }
    assert_eq!(counts.len(), 200);
    assert!(counts.values().all(|count| *count == 1));
    gateway.stop().await;
}
