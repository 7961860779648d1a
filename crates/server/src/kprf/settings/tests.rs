//! What a file means, and what it may not say.

use super::*;
use barnabas_engine::Durability;

fn read(text: &str) -> Result<Settings> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kprf.yaml");
    std::fs::write(&path, text).unwrap();
    load(Some(&path), std::iter::empty())
}

#[test]
fn defaults_are_those_of_the_contract() {
    let settings = read("kafka: {brokers: ['a:1', 'b:2']}").unwrap();
    for (name, expected) in [
        ("bootstrap.servers", "a:1,b:2"),
        ("message.max.bytes", "1048576"),
        ("linger.ms", "10"),
        ("retries", "3"),
        ("request.timeout.ms", "30000"),
        ("acks", "-1"),
        ("statistics.interval.ms", "5000"),
        ("message.timeout.ms", "2000"),
        ("queue.buffering.max.messages", "0"),
    ] {
        assert_eq!(settings.waiting.get(name), Some(expected), "{name}");
    }
    assert_eq!(settings.patient.get("message.timeout.ms"), Some("0"));
    assert_eq!(settings.patient.get("retries"), Some("2147483647"));
    let options = &settings.options;
    assert_eq!(options.max_messages, 100_000);
    assert_eq!(options.max_buffered_bytes, 256 << 20);
    assert_eq!(options.max_body_bytes, 64 << 20);
    assert_eq!(settings.listen, "0.0.0.0:4242");
    assert_eq!(settings.metrics_listen, "0.0.0.0:8088");
    assert_eq!(settings.output, Path::new(STDOUT));
    assert_eq!(settings.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(settings.warnings, [""; 0]);
}

#[test]
fn the_readmes_example_is_read_as_it_is() {
    let settings = read(
        "kafka:\n  brokers:\n    - '127.0.0.1:9092'\n  request_required_acks: 1\n  \
         queue_buffering_max_ms: 20\n  queue_buffering_max_kbytes: 2048 # 2 MiB\n\nhttp:\n  \
         port: 4242\n  metrics_port: 8088\n\noutput_file: \"/dev/stdout\"\n",
    )
    .unwrap();
    assert_eq!(settings.waiting.get("acks"), Some("1"));
    assert_eq!(settings.waiting.get("linger.ms"), Some("20"));
    assert_eq!(settings.options.max_buffered_bytes, 2 << 20);
    // What can never be admitted is too large.
    assert_eq!(settings.options.max_body_bytes, 2 << 20);
    assert_eq!(settings.warnings, [""; 0]);
}

#[test]
fn librdkafkas_own_properties_win_under_any_name() {
    let settings = read(
        "kafka: {brokers: [a], retries: 4, librdkafka: {queue.buffering.max.ms: 7, \
         request.required.acks: 1, message.max.bytes: 2000, queue.buffering.max.messages: 9, \
         queue.buffering.max.kbytes: 3, delivery.timeout.ms: 55, partitioner: murmur2}}",
    )
    .unwrap();
    for (name, expected) in [
        ("linger.ms", Some("7")),
        ("queue.buffering.max.ms", None),
        ("acks", Some("1")),
        ("retries", Some("4")),
        ("message.timeout.ms", Some("55")),
        ("partitioner", Some("murmur2")),
        ("queue.buffering.max.messages", Some("0")),
    ] {
        assert_eq!(settings.waiting.get(name), expected, "{name}");
    }
    assert_eq!(settings.patient.get("retries"), Some("4"));
    let options = &settings.options;
    let bounds = (options.max_messages, options.max_buffered_bytes);
    assert_eq!((bounds, options.message_max_bytes), ((9, 3_072), 2_000));
}

#[test]
fn credentials_count_where_sasl_is_chosen() {
    let inert = read("kafka: {brokers: [a], user: u, password: hunter2}").unwrap();
    assert_eq!(inert.waiting.get("sasl.password"), None);
    assert_eq!(inert.warnings.len(), 2);
    let used = read(
        "kafka: {brokers: [a], user: u, password: hunter2, librdkafka: {security.protocol: \
         SASL_PLAINTEXT, sasl.mechanism: PLAIN}}",
    )
    .unwrap();
    assert_eq!(used.waiting.get("sasl.password"), Some("hunter2"));
    assert_eq!(used.warnings, [""; 0]);
    assert!(!format!("{used:?}").contains("hunter2"));
}

#[test]
fn everything_that_is_wrong_is_said() {
    let problem = |text: &str| format!("{:#}", explained(read(text)).unwrap_err());
    for (text, expected) in [
        ("kafka: {}", "missing field 'brokers'"),
        (
            "ratelimit: {}",
            "missing field 'enabled'; missing field 'rules'",
        ),
        ("{}", "kafka.brokers is empty: there is nobody to send to"),
        (
            "kafka: {brokers: [a], message_max_bytes: 999}",
            "kafka.message_max_bytes must be a whole number from 1000 to 1000000000",
        ),
        (
            "kafka: {brokers: [a]}\nratelimit: {enabled: true, rules: [{topic_name: 1}]}",
            "ratelimit.rules[0] must be a topic_name and max_requests_per_minute from 0 to \
             4294967295",
        ),
        (
            "kafka: {brokers: [a]}\nhttp: {tls: {cert: c}}",
            "http.tls needs cert and key together",
        ),
        (
            "kafka: {brokers: [a], durability: journal}",
            "kafka.durability: journal needs journal.dir",
        ),
        (
            "kafka: {brokers: [a], dead_letter_topics: {t: 'a b'}}",
            "kafka.dead_letter_topics.t: \"a b\" can be no topic",
        ),
        (
            "kafka: {brokers: [a]}\naccess: {tokens: {a: [{actions: [eat]}]}}",
            "access.tokens: token 1, grant 1: actions: \"eat\" must be one of produce, \
             consume, describe, manage",
        ),
        (
            "kafka: {brokers: [a], librdkafka: {linger: 1}}",
            "no such configuration property: \"linger\"",
        ),
    ] {
        let expected = format!("failed to initialize config: {expected}");
        assert_eq!(problem(text), expected);
    }
    assert!(problem("kafka: [").contains("kprf.yaml: "));
}

#[test]
fn a_journal_has_its_place_below_the_directory() {
    let settings = read(
        "kafka: {brokers: [a], durability: journal}\njournal: {dir: /j, max_bytes: 4194304, \
         sync: os, on_full: wait}",
    )
    .unwrap();
    let journal = settings.journal.unwrap();
    assert_eq!(journal.directory, Path::new("/j/kafka"));
    assert_eq!(journal.max_bytes, 4 << 20);
    assert_eq!(journal.sync, barnabas_engine::SyncMode::Os);
    assert_eq!(settings.options.durability, Durability::Journal);
    let get = |name| settings.cluster.producer.get(name);
    assert_eq!(get("bootstrap.servers"), Some("a"));
    assert_eq!(get(PROPAGATION), Some("5000"));
    assert_eq!(settings.waiting.get(PROPAGATION), Some("900"));
}

#[test]
fn tokens_and_limits_of_clients_are_read() {
    let settings = read(
        "kafka: {brokers: [a]}\nratelimit: {enabled: true, rules: [], \
         max_requests_per_client_per_minute: 60}\naccess: {tokens: {hunter2: [{topics: \
         ['a*'], actions: [produce]}]}}",
    )
    .unwrap();
    assert_eq!(settings.options.client_limit, 60);
    assert!(!format!("{settings:?}").contains("hunter2"));
    let access = settings.tokens.access();
    let action = barnabas_engine::Action::Produce;
    assert!(access.is_allowed(Some("hunter2"), action, CLUSTER, "ab"));
    assert!(!access.is_allowed(Some("hunter2"), action, CLUSTER, "b"));
    let off = read(
        "kafka: {brokers: [a]}\nratelimit: {enabled: false, rules: [], \
         max_requests_per_client_per_minute: 60}",
    );
    assert_eq!(off.unwrap().options.client_limit, 0);
}

#[test]
fn dead_letters_are_by_topic() {
    let letters = "kafka: {brokers: [a], dead_letter_topics: {default: failed, x: ''}}";
    let letters = read(letters).unwrap().options.dead_letters;
    assert_eq!(letters.default.as_deref(), Some("failed"));
    assert_eq!(letters.topics["x"], "");
}

#[test]
fn rules_count_only_if_enabled() {
    let read = |enabled: &str| {
        let text = format!(
            "kafka: {{brokers: [a]}}\nratelimit: {{enabled: {enabled}, rules: [{{topic_name: \
             t, max_requests_per_minute: 42}}]}}"
        );
        read(&text).unwrap().options.rules
    };
    assert_eq!(read("false"), []);
    let [rule] = &read("true")[..] else {
        panic!("one rule")
    };
    assert_eq!(
        (rule.topic_name.as_str(), rule.max_requests_per_minute),
        ("t", 42)
    );
}

#[test]
fn the_example_has_every_key_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kprf.example.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let example = read(&text).unwrap();
    assert_eq!(example.warnings, [""; 0]);
    let bare = read("kafka: {brokers: ['127.0.0.1:9092']}").unwrap();
    assert_eq!(format!("{example:?}"), format!("{bare:?}"));
    // Those without a default are shown as a comment.
    for key in keys::SCHEMA.keys() {
        let name = key.path.rsplit('.').next().unwrap_or_default();
        let is_there = text.lines().any(|line| {
            let line = line.trim_start().trim_start_matches("# ").trim_start();
            line.starts_with(&format!("{name}:"))
        });
        assert!(is_there, "{}", key.path);
    }
}

#[test]
fn opentelemetrys_variables_count_wherever_they_come_from() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kprf.yaml");
    std::fs::write(&path, "kafka: {brokers: [a]}\n").unwrap();
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let variables = [
        variable("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
        variable("OTEL_TRACES_EXPORTER", "none"),
    ];
    let settings = load(Some(&path), variables.into_iter()).unwrap();
    assert!(settings.telemetry.sends_metrics());
    let none = load(Some(&path), std::iter::empty()).unwrap();
    assert!(!none.telemetry.sends_metrics());
}
