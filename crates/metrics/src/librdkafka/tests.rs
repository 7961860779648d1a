//! Tests without librdkafka: what it would have written.

use super::*;
use crate::{Format, Registry};

const KPRF: StatisticsOptions = StatisticsOptions {
    names: StatisticsNames::Kprf,
    max_topics: 10,
    has_partitions: false,
};

type Texts = Arc<Mutex<Vec<ClientStatistics>>>;

fn client(client: &str, json: &str) -> ClientStatistics {
    ClientStatistics {
        cluster: "main".into(),
        client: client.into(),
        json: json.into(),
    }
}

/// A registry that shows what stands in the list.
fn registry(options: StatisticsOptions) -> (Registry, Texts) {
    let (registry, texts) = (Registry::new(), Texts::default());
    let source = Arc::clone(&texts);
    let statistics = LibrdkafkaStatistics::new(options, move || source.lock().clone());
    registry.librdkafka(statistics.unwrap()).unwrap();
    (registry, texts)
}

fn text_of(options: StatisticsOptions, jsons: &[&str]) -> String {
    let (registry, texts) = registry(options);
    *texts.lock() = jsons.iter().map(|json| client("c", json)).collect();
    registry.text(Format::Prometheus)
}

fn assert_lines(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|own| own == *line), "{line}: {text}");
    }
}

#[test]
fn counters_are_what_the_clients_say_and_levels_are_gauges() {
    let one = r#"{"name": "1", "tx": 11, "msg_cnt": 2, "metadata_cache_cnt": 3, "unknown": {},
        "brokers": {"a:1/1": {"state": "UP", "stateage": 5, "tx": 7, "source": "learned"},
                    ":0/internal": {"state": "UP", "source": "internal"}},
        "topics": {"t": {"metadata_age": 9, "batchsize": {"avg": 100}}}}"#;
    let two = r#"{"name": "2", "tx": 1, "metadata_cache_cnt": 1, "brokers": {"a:1/1": {"tx": 1}}}"#;
    let text = text_of(KPRF, &[one, two]);
    assert_lines(
        &text,
        &[
            "# TYPE kafka_producer_total_requests_count counter",
            "kafka_producer_total_requests_count 12",
            "# TYPE kafka_producer_current_messages_in_queue gauge",
            "kafka_producer_current_messages_in_queue 2",
            "kafka_producer_metadata_cache_topics_count 3",
            "kafka_producer_broker_state{broker=\"a:1/1\"} 6",
            "kafka_producer_broker_requests_sent{broker=\"a:1/1\"} 8",
            "kafka_producer_topic_batchsize_avg{topic=\"t\"} 100",
        ],
    );
    assert!(!text.contains("internal"), "{text}");
}

#[test]
fn the_rest_has_the_names_of_the_json() {
    let json = r#"{"name": "1", "age": 7, "rxmsg_bytes": 8, "simple_cnt": 0,
        "brokers": {"a:1/1": {"txidle": 9, "connects": 2, "req": {"Produce": 4, "Fetch": 0},
            "rtt": {"min": 1, "sum": 10, "cnt": 4, "p99_99": 6, "outofrange": 1},
            "throttle": {"max": 3}}},
        "topics": {"t": {"age": 5, "batchsize": {"max": 100}, "batchcnt": {"p50": 2},
            "partitions": {"0": {"leader": 1, "desired": true, "txmsgs": 3},
                           "-1": {"txmsgs": 1}}}},
        "eos": {"idemp_state": "Assigned", "txn_state": "Init", "idemp_stateage": 4,
            "producer_id": 13, "epoch_cnt": 1}}"#;
    let expected = [
        "# TYPE barnabas_librdkafka_age_microseconds_total counter",
        "barnabas_librdkafka_age_microseconds_total{client=\"c\"} 7",
        "barnabas_librdkafka_rxmsg_bytes_total{client=\"c\"} 8",
        "# TYPE barnabas_librdkafka_simple_cnt gauge",
        "barnabas_librdkafka_broker_txidle_microseconds_total{broker=\"a:1/1\"} 9",
        "barnabas_librdkafka_broker_connects_total{broker=\"a:1/1\"} 2",
        "barnabas_librdkafka_broker_req_total{broker=\"a:1/1\",request=\"Produce\"} 4",
        "# TYPE barnabas_librdkafka_broker_rtt_microseconds gauge",
        "barnabas_librdkafka_broker_rtt_microseconds{broker=\"a:1/1\",quantile=\"0.9999\"} 6",
        "barnabas_librdkafka_broker_rtt_microseconds_min{broker=\"a:1/1\"} 1",
        "barnabas_librdkafka_broker_rtt_microseconds_sum{broker=\"a:1/1\"} 10",
        "barnabas_librdkafka_broker_rtt_microseconds_cnt{broker=\"a:1/1\"} 4",
        "barnabas_librdkafka_broker_rtt_microseconds_outofrange{broker=\"a:1/1\"} 1",
        "barnabas_librdkafka_broker_throttle_milliseconds_max{broker=\"a:1/1\"} 3",
        "barnabas_librdkafka_topic_age_milliseconds{topic=\"t\"} 5",
        "barnabas_librdkafka_topic_batchsize_bytes_max{topic=\"t\"} 100",
        "barnabas_librdkafka_topic_batchcnt{quantile=\"0.5\",topic=\"t\"} 2",
        "barnabas_librdkafka_eos_idemp_state{client=\"c\",state=\"Assigned\"} 1",
        "barnabas_librdkafka_eos_txn_state{client=\"c\",state=\"Init\"} 1",
        "barnabas_librdkafka_eos_idemp_stateage_milliseconds{client=\"c\"} 4",
        "barnabas_librdkafka_eos_producer_id{client=\"c\"} 13",
        "barnabas_librdkafka_eos_epoch_cnt_total{client=\"c\"} 1",
    ];
    let text = text_of(KPRF, &[json]);
    assert_lines(&text, &expected);
    assert!(!text.contains("_partition_"), "{text}");
    assert!(!text.contains("request=\"Fetch\""), "{text}");

    let with_partitions = StatisticsOptions {
        has_partitions: true,
        ..KPRF
    };
    let text = text_of(with_partitions, &[json]);
    assert_lines(&text, &expected);
    assert_lines(
        &text,
        &[
            "barnabas_librdkafka_partition_leader_total{partition=\"0\",topic=\"t\"} 1",
            "barnabas_librdkafka_partition_desired{partition=\"0\",topic=\"t\"} 1",
            "barnabas_librdkafka_partition_unknown{partition=\"0\",topic=\"t\"} 0",
            "barnabas_librdkafka_partition_txmsgs_total{partition=\"0\",topic=\"t\"} 3",
        ],
    );
    assert!(!text.contains("partition=\"-1\""), "{text}");
}

#[test]
fn the_gateway_shows_all_by_cluster_and_client() {
    let options = StatisticsOptions {
        names: StatisticsNames::Own,
        has_partitions: true,
        ..KPRF
    };
    let json = r#"{"name": "1", "tx": 3, "cgrp": {"state": "up", "assignment_size": 2},
        "brokers": {"a:1/1": {"state": "UP"}},
        "topics": {"t": {"partitions": {"0": {"consumer_lag": 4}}}}}"#;
    let text = text_of(options, &[json]);
    let labels = "client=\"c\",cluster=\"main\"";
    for line in [
        format!("barnabas_librdkafka_tx_total{{{labels}}} 3"),
        format!("barnabas_librdkafka_cgrp_state{{{labels},state=\"up\"}} 1"),
        format!("barnabas_librdkafka_cgrp_assignment_size{{{labels}}} 2"),
        format!("barnabas_librdkafka_broker_state{{broker=\"a:1/1\",{labels}}} 6"),
        format!(
            "barnabas_librdkafka_partition_consumer_lag{{{labels},partition=\"0\",topic=\"t\"}} 4"
        ),
    ] {
        assert_lines(&text, &[&line]);
    }
    assert!(!text.contains("kafka_producer_"), "{text}");
}

#[test]
fn topics_beyond_the_limit_share_a_series() {
    let json = r#"{"topics": {
        "a": {"metadata_age": 1, "partitions": {"0": {"msgs": 1}}},
        "b": {"metadata_age": 2, "partitions": {"0": {"msgs": 1}}},
        "c": {"metadata_age": 3}}}"#;
    let options = StatisticsOptions {
        max_topics: 1,
        has_partitions: true,
        ..KPRF
    };
    let text = text_of(options, &[json]);
    let starting = |name: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line[name.len()..].to_owned()).collect()
    };
    assert_eq!(
        starting("kafka_producer_topic_metadata_age"),
        ["{topic=\"a\"} 1", "{topic=\"other\"} 3"]
    );
    // Of different topics' partitions there is no sum that says anything.
    assert_eq!(
        starting("barnabas_librdkafka_partition_msgs_total"),
        ["{partition=\"0\",topic=\"a\"} 1"]
    );
}

#[test]
fn counters_survive_a_client_and_its_brokers_do_not() {
    let (registry, texts) = registry(KPRF);
    let lines = || registry.text(Format::Prometheus);
    let first = r#"{"name": "1", "tx": 10, "msg_cnt": 4, "age": 100, "eos": {"epoch_cnt": 1},
        "brokers": {"a:1/1": {"tx": 6}, "b:1/2": {"tx": 4}}}"#;
    *texts.lock() = vec![client("c", first)];
    lines();
    let second = r#"{"name": "2", "tx": 3, "msg_cnt": 1, "age": 5, "eos": {"epoch_cnt": 1},
        "brokers": {"a:1/1": {"tx": 3}}}"#;
    *texts.lock() = vec![client("c", second)];
    // However often it is asked.
    for _ in 0..2 {
        let text = lines();
        assert_lines(
            &text,
            &[
                "kafka_producer_total_requests_count 13",
                "kafka_producer_current_messages_in_queue 1",
                "barnabas_librdkafka_age_microseconds_total{client=\"c\"} 5",
                "barnabas_librdkafka_eos_epoch_cnt_total{client=\"c\"} 2",
                "kafka_producer_broker_requests_sent{broker=\"a:1/1\"} 9",
            ],
        );
        assert!(!text.contains("b:1/2"), "{text}");
    }
    // The broker is back.
    let third = r#"{"name": "2", "tx": 5, "brokers": {"b:1/2": {"tx": 1}}}"#;
    *texts.lock() = vec![client("c", third)];
    assert_lines(
        &lines(),
        &[
            "kafka_producer_total_requests_count 15",
            "kafka_producer_broker_requests_sent{broker=\"b:1/2\"} 5",
        ],
    );
}

#[test]
fn what_is_no_json_shows_nothing() {
    assert_eq!(text_of(KPRF, &["{", "7"]), "");
    assert_eq!(text_of(KPRF, &[]), "");
}
