use super::*;
use crate::kafboy::keys::SCHEMA;

/// Settings, problems, warnings.
fn read_as(name: &str, text: &str) -> (Ekaf, Vec<String>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let document = Document::read(&SCHEMA, Some(&path), std::iter::empty()).unwrap();
    let (mut problems, mut warnings) = (document.problems.clone(), document.warnings.clone());
    let ekaf = read(&document, &mut problems, &mut warnings);
    (ekaf, problems, warnings)
}

fn strategy(ekaf: &Ekaf, topic: &str) -> String {
    format!("{:?}", ekaf.settings.strategy.of(topic))
}

#[test]
fn the_contracts_example_is_read() {
    let (ekaf, problems, warnings) = read_as(
        "a.yaml",
        r#"ekaf:
  ekaf_bootstrap_broker: ["kafka1:9092", "kafka2:9092"]
  ekaf_partition_strategy: {orders: custom, clicks: sticky_round_robin, default: random}
  ekaf_max_buffer_size: {clicks: 10000, default: 100}
  ekaf_buffer_ttl: {clicks: 1000, default: 50}
  ekaf_max_downtime_buffer_size: {default: 1000000}
  durability: {clicks: journal, default: memory}
  ekaf_push_to_statsd_enabled: {orders: true}
"#,
    );
    assert_eq!((problems, warnings), (vec![], vec![]));
    assert_eq!(ekaf.brokers, "kafka1:9092,kafka2:9092");
    let strategies = ["orders", "clicks", "x"].map(|topic| strategy(&ekaf, topic));
    assert_eq!(strategies, ["custom", "sticky_round_robin", "random"]);
    let (clicks, other) = (ekaf.settings.of("clicks"), ekaf.settings.of("x"));
    assert_eq!(
        (clicks.max_batch_messages, other.max_batch_messages),
        (10_000, 100)
    );
    assert_eq!(clicks.batch_ttl, Duration::from_secs(1));
    assert_eq!(other.batch_ttl, Duration::from_millis(50));
    assert_eq!(other.max_downtime_messages, Some(1_000_000));
    assert_eq!(clicks.durability, Durability::Journal);
    assert!(ekaf.wants_journal() && other.durability == Durability::Memory);
    assert!(!*ekaf.waits.of("clicks"));
    assert!(ekaf.settings.of("orders").has_statsd && !other.has_statsd);
    assert_eq!(ekaf.statsd, Some(StatsdConfig::default()));
}

#[test]
fn what_does_not_hold_on_disk_is_named() {
    let (ekaf, problems, warnings) = read_as(
        "a.yaml",
        "ekaf:\n  durability: {a: journal, b: kafka}\n  downtime_policy: {a: drop_oldest, b: \
             drop_newest}\n  max_message_age_ms: 5\n  ekaf_callback_massage_buffer: {b: ndjson}\n",
    );
    assert_eq!(problems, [""; 0]);
    let expected = "ekaf.downtime_policy of a has no effect: its messages are in the journal";
    assert_eq!(warnings, [expected]);
    let waits = ["a", "b", "c"].map(|topic| *ekaf.waits.of(topic));
    assert_eq!(waits, [false, true, false]);
}

#[test]
fn what_is_not_there_has_the_contracts_default() {
    let (ekaf, problems, _) = read_as("a.yaml", "ekaf: {}\n");
    assert_eq!(problems, [""; 0]);
    let topic = ekaf.settings.of("t");
    assert_eq!(topic.lanes_per_partition, 1);
    assert_eq!(topic.max_batch_messages, 100);
    assert_eq!(topic.batch_ttl, Duration::from_secs(5));
    assert_eq!(topic.max_downtime_messages, None);
    assert_eq!(topic.sticky_picks, 1_000);
    assert_eq!(topic.compression, None);
    assert_eq!(ekaf.settings.sync_timeout, Duration::from_secs(5));
    assert_eq!(ekaf.settings.max_buffered_bytes, 256 << 20);
    let properties = &ekaf.settings.librdkafka;
    for (name, value) in [
        ("acks", "-1"),
        ("client.id", "ekaf"),
        ("request.timeout.ms", "30000"),
    ] {
        assert_eq!(properties.get(name), Some(value), "{name}");
    }
    assert!(ekaf.statsd.is_none() && ekaf.brokers.is_empty());
}

#[test]
fn ekafs_own_example_in_erlang_is_read() {
    let (ekaf, problems, warnings) = read_as(
        "sys.config",
        r#"[{ekaf,[
    {ekaf_bootstrap_broker, {"localhost", 9091} },
    {ekaf_bootstrap_topics, [ <<"topic">> ]},
    {ekaf_per_partition_workers,100},
    {ekaf_per_partition_workers_max, 10},
    {ekaf_max_buffer_size, [{<<"topic">>,10000},                % for specific topic
                            {ekaf_max_buffer_size,1000}]},      % for other topics
    {ekaf_partition_strategy, [
      {<<"heavy_job">>, strict_round_robin},
      {<<"user_actions">>, custom},
      {ekaf_partition_strategy,  random}
    ]},
    {<<"pull_for_changes_timeout">>, 5000},
    {ekaf_callback_flush, {mystats,callback_flush}},
    {ekaf_callback_massage_buffer, [{<<"big">>, {ekaf_callbacks, encode_messages_as_one_large_json}}]},
    {ekaf_callback_custom_partition_picker, {ekaf_callbacks, default_custom_partition_picker}}
  ]}].
"#,
    );
    assert_eq!(problems, [""; 0]);
    assert_eq!(
        warnings,
        [
            "ekaf.ekaf_per_partition_workers_max has no effect",
            "ekaf.ekaf_callback_flush has no effect: events are in the log, and go to statsd",
        ]
    );
    assert_eq!(ekaf.brokers, "localhost:9091");
    assert_eq!(ekaf.topics, ["topic"]);
    let strategies = ["heavy_job", "user_actions", "x"].map(|topic| strategy(&ekaf, topic));
    assert_eq!(strategies, ["strict_round_robin", "custom", "random"]);
    assert_eq!(ekaf.settings.of("topic").max_batch_messages, 10_000);
    assert_eq!(ekaf.settings.of("x").max_batch_messages, 1_000);
    assert_eq!(ekaf.settings.of("x").lanes_per_partition, 100);
    assert_eq!(ekaf.settings.metadata_refresh, Duration::from_secs(5));
    assert!(ekaf.settings.of("big").massage.is_some());
    assert!(ekaf.settings.of("x").massage.is_none());
}

#[test]
fn a_picker_is_a_script() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picker.lua");
    std::fs::write(&path, "function pick() return 0 end").unwrap();
    let shown = path.display();
    let (ekaf, problems, warnings) = read_as(
        "a.yaml",
        &format!(
            "ekaf:\n  ekaf_partition_strategy: {{a: custom, b: custom, c: random}}\n  \
                 ekaf_callback_custom_partition_picker: {{a: {shown}, c: {shown}}}\n"
        ),
    );
    assert_eq!(problems, [""; 0]);
    let strategies = ["a", "b", "c", "d"].map(|topic| strategy(&ekaf, topic));
    assert_eq!(
        strategies,
        ["custom (own picker)", "custom", "random", "random"]
    );
    let expected = "ekaf.ekaf_callback_custom_partition_picker of c has no effect without the \
                        strategy custom";
    assert_eq!(warnings, [expected]);
    let (ekaf, ..) = read_as(
        "a.yaml",
        &format!(
            "ekaf:\n  ekaf_partition_strategy: {{a: custom}}\n  \
                 ekaf_callback_custom_partition_picker: {shown}\n"
        ),
    );
    let strategies = ["a", "b"].map(|topic| strategy(&ekaf, topic));
    assert_eq!(strategies, ["custom (own picker)", "random"]);
}

#[test]
fn what_cannot_be_is_named() {
    for (text, expected) in [
        (
            "ekaf_partition_strategy: {t: ketama}",
            "ekaf.ekaf_partition_strategy of t must be one of random, strict_round_robin, \
                 sticky_round_robin, ordered_round_robin, custom, murmur2, crc32, fnv1a",
        ),
        (
            "ekaf_max_buffer_size: 0",
            "ekaf.ekaf_max_buffer_size must be a whole number from 1 to 2147483647",
        ),
        (
            "durability: {clicks: journal}, ekaf_callback_massage_buffer: ndjson",
            "ekaf.ekaf_callback_massage_buffer of clicks: a topic with durability journal has \
                 no batches to be made into one record",
        ),
        (
            "ekaf_callback_custom_partition_picker: [mine, pick]",
            "ekaf.ekaf_callback_custom_partition_picker: mine:pick is written in Erlang; here \
                 it is the path of a Lua script",
        ),
        (
            "ekaf_callback_custom_partition_picker: /nonexistent.lua",
            "ekaf.ekaf_callback_custom_partition_picker: cannot read /nonexistent.lua: No \
                 such file or directory (os error 2)",
        ),
        (
            "ekaf_callback_massage_buffer: {t: squeeze}",
            "ekaf.ekaf_callback_massage_buffer: squeeze is none of \
                 encode_messages_as_one_large_message, encode_messages_as_one_large_json, \
                 json_array_raw, ndjson",
        ),
    ] {
        let (_, problems, _) = read_as("a.yaml", &format!("ekaf: {{{text}}}\n"));
        assert_eq!(problems, [expected]);
    }
}
