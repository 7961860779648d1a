//! What `barnabas kafboy` has beside kafboy's API: a metrics port, tokens, and
//! a configuration that counts when its files change.

use crate::support::{address, binary, curl, eventually, file, run, stderr, stdout, text};
use barnabas_testkit::{Cluster, Gateway, shared, topic_name};
use std::path::Path;

/// On a free port of this machine.
const LISTEN: &str = "kafboy_http_listen: 127.0.0.1, kafboy_http_port: 0";

fn new_topic(partitions: i32) -> String {
    let topic = topic_name("kafboy");
    shared().create_topic(&topic, partitions).unwrap();
    topic
}

/// A gateway with a metrics port, and both addresses.
fn spawn(settings: &str) -> (Gateway, String, String, tempfile::TempDir) {
    let (folder, path) = file("kafboy.yaml", settings);
    let builder = Gateway::builder(binary()).args(["kafboy", "-c", text(&path)]);
    let gateway = builder.listeners(2).spawn().unwrap();
    let url = |index| format!("http://{}", address(&gateway, index));
    // The metrics port is there before anything is taken.
    let (metrics, own) = (url(0), url(1));
    (gateway, own, metrics, folder)
}

fn post(url: &str, body: &str) -> (u16, String) {
    curl(&["--data", body, url])
}

/// Waits until a series has this value.
fn wait_for(metrics: &str, series: &str, expected: f64) {
    eventually(&format!("{series} {expected}"), || {
        let page = curl(&[&format!("{metrics}/metrics")]).1;
        let mut values = page.lines().filter_map(|line| line.strip_prefix(series));
        let is_there = values.any(|value| value.trim().parse() == Ok(expected));
        is_there.then_some(())
    });
}

#[test]
fn the_metrics_port_shows_requests_topics_and_librdkafka() {
    let (first, second) = (new_topic(3), new_topic(1));
    let brokers = shared().bootstrap_servers();
    let (gateway, url, metrics, _folder) = spawn(&format!(
        "kafboy: {{{LISTEN}, kafboy_enable_safetyvalve: true}}\nekaf: {{ekaf_bootstrap_broker: \
         '{brokers}', down_after_ms: 600000, ekaf_per_partition_workers: 2, ekaf_buffer_ttl: 600000, \
         ekaf_max_buffer_size: 7}}\nmetrics: {{listen: '127.0.0.1:0', max_topics: 1, \
         statistics_interval_ms: 100}}\n"
    ));
    assert_eq!(post(&format!("{url}/sync/{first}"), "a=1&b=2").0, 200);
    let batch = format!("{url}/safe/batch/async/{first}");
    // They stay until there are seven, or until the end.
    assert_eq!(post(&batch, "k=1&k=2&k=3").0, 200);
    assert_eq!(post(&format!("{url}/sync/{second}"), "a=1").0, 200);
    let missing = topic_name("kafboy-missing");
    assert_eq!(post(&format!("{url}/async/{missing}"), "a=1").0, 200);
    assert_eq!(curl(&[&format!("{url}/nowhere")]).0, 404);

    let request = |route: &str, status: u16| {
        format!(
            "barnabas_requests_total{{front_end=\"kafboy\",request=\"{route}\",status=\"{status}\"}}"
        )
    };
    let of = |name: &str, topic: &str| format!("barnabas_{name}{{topic=\"{topic}\"}}");
    for (series, expected) in [
        (request("/sync/:topic", 200), 2.0),
        (request("/safe/batch/async/:topic", 200), 1.0),
        (request("other", 404), 1.0),
        (of("outbox_accepted_messages_total", &first), 5.0),
        (of("produced_messages_total", &first), 2.0),
        (of("outbox_batched_messages", &first), 3.0),
        (of("outbox_max_batch_messages", &first), 7.0),
        (of("outbox_workers", &first), 6.0),
        (of("outbox_dead_workers", &first), 0.0),
        (of("outbox_kept_messages", &first), 0.0),
        (of("produced_messages_total", "other"), 1.0),
        ("barnabas_outbox_messages".to_owned(), 3.0),
        ("barnabas_valve_waiting_requests".to_owned(), 0.0),
        (
            format!("barnabas_outbox_topic_state{{state=\"up\",topic=\"{first}\"}}"),
            1.0,
        ),
        (
            "barnabas_dropped_messages_total{reason=\"unknown_topic\",topic=\"other\"}".to_owned(),
            1.0,
        ),
        (
            "barnabas_librdkafka_txmsgs_total{client=\"waiting\",cluster=\"ekaf\"}".to_owned(),
            3.0,
        ),
    ] {
        wait_for(&metrics, &series, expected);
    }
    let page = curl(&[&format!("{metrics}/metrics")]).1;
    // Of librdkafka's statistics it may be another one that has its own.
    let own = page.lines().filter(|line| !line.contains("librdkafka"));
    for topic in [&second, &missing] {
        let label = format!("topic=\"{topic}\"");
        assert!(!own.clone().any(|line| line.contains(&label)), "{page}");
    }
    assert!(page.contains("barnabas_build_info{"), "{page}");
    assert_eq!(
        curl(&[&format!("{metrics}/health/live")]),
        (200, "alive".to_owned())
    );
    let ready = curl(&[&format!("{metrics}/health/ready")]);
    assert_eq!(ready, (200, "ready".to_owned()));
    for client in ["patient", "waiting"] {
        let (status, json) = curl(&[&format!("{metrics}/stats?client={client}")]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((status, &json["type"]), (200, &"producer".into()));
    }
    let (status, _) = gateway.terminate().unwrap();
    assert!(status.success());
    assert_eq!(shared().read_all(&first).unwrap().len(), 5);
}

#[test]
fn a_downtime_is_seen() {
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("t", 1).unwrap();
    let (_gateway, url, metrics, _folder) = spawn(&format!(
        "kafboy: {{{LISTEN}}}\nekaf: {{ekaf_bootstrap_broker: '{}', ekaf_max_downtime_buffer_size: \
         3, downtime_policy: drop_oldest}}\nmetrics: {{listen: '127.0.0.1:0'}}\n",
        kafka.bootstrap_servers()
    ));
    let path = format!("{url}/async/t");
    assert_eq!(post(&format!("{url}/sync/t"), "k=0").0, 200);
    kafka.broker(0).kill().unwrap();
    wait_for(
        &metrics,
        "barnabas_outbox_topic_state{state=\"down\",topic=\"t\"}",
        1.0,
    );
    for _ in 0..4 {
        assert_eq!(post(&path, "k=1").0, 200);
    }
    let of = |name: &str| format!("barnabas_{name}{{topic=\"t\"}}");
    wait_for(&metrics, &of("outbox_kept_messages"), 3.0);
    wait_for(&metrics, &of("outbox_saved_messages_total"), 4.0);
    wait_for(&metrics, &of("outbox_dead_workers"), 1.0);
    let dropped = "barnabas_dropped_messages_total{reason=\"drop_oldest\",topic=\"t\"}";
    wait_for(&metrics, dropped, 1.0);
    let ready = format!("{metrics}/health/ready");
    assert_eq!(curl(&[&ready]), (503, "no broker answers".to_owned()));
    kafka.broker(0).start().unwrap();
    wait_for(&metrics, &of("outbox_replayed_messages_total"), 3.0);
    wait_for(&metrics, &of("produced_messages_total"), 4.0);
    wait_for(&metrics, &of("outbox_kept_messages"), 0.0);
    let is_ready = || (curl(&[&ready]).0 == 200).then_some(());
    eventually("it is ready", is_ready);
}

#[test]
fn check_understands_the_new_keys() {
    let (folder, bad) = file("tokens.yaml", "a b: []\n");
    let (_one, path) = file(
        "kafboy.yaml",
        &format!(
            "ekaf: {{ekaf_bootstrap_broker: a}}\naccess: {{tokens: {{x: [{{actions: [eat]}}]}}, \
             tokens_file: '{}'}}\nmetrics: {{max_topics: many}}\nstatsd: {{prefix: x}}\notlp: \
             {{sample_ratio: 7}}\n",
            bad.display()
        ),
    );
    let output = run(&["kafboy", "--check", "-c", text(&path)]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    for expected in [
        "metrics.max_topics must be a whole number",
        "access.tokens: token 1, grant 1: actions: \"eat\"",
        "access.tokens_file: ",
        "statsd.prefix: needs statsd.address",
        "otlp.sample_ratio",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let env = folder.path().join(".env");
    let variables = "KAFBOY_EKAF__EKAF_BOOTSTRAP_BROKER=a:1\nKAFBOY_METRICS__LISTEN=127.0.0.1:0\n\
                     KAFBOY_ACCESS__TOKENS='{\"x\": [{\"actions\": [\"produce\"]}]}'\n";
    std::fs::write(&env, variables).unwrap();
    let output = run(&["kafboy", "--check", "--env-file", text(&env)]);
    assert_eq!(
        (stdout(&output).as_str(), stderr(&output).as_str()),
        ("nothing is wrong with the configuration\n", "")
    );
    let missing = run(&["kafboy", "--check", "--env-file", "/nonexistent"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).starts_with("/nonexistent: "));
}

fn post_as(url: &str, token: &str) -> (u16, String) {
    let header = format!("Authorization: Bearer {token}");
    curl(&["--header", &header, "--data", "k=1", url])
}

#[test]
fn files_that_change_count_and_what_cannot_is_named() {
    let topic = new_topic(1);
    let (folder, secret) = file("tokens.yaml", "one: [{actions: [produce]}]\n");
    let hook = folder.path().join("hook.lua");
    let answers = |text: &str| {
        let script = format!("function post() return {{error = '{text}'}} end");
        std::fs::write(&hook, script).unwrap();
    };
    let settings = |own: &str, ekaf: &str| {
        format!(
            "kafboy: {{kafboy_hook_timeout_ms: 20000{own}}}\nekaf: {{ekaf_bootstrap_broker: \
             '{}'{ekaf}}}\naccess: {{tokens_file: '{}'}}\n",
            shared().bootstrap_servers(),
            secret.display()
        )
    };
    let (_other, path) = file("kafboy.yaml", &settings("", ""));
    // Two of them in a file, of which the environment overrides one.
    let env = folder.path().join(".env");
    let variables = |level: &str| {
        let text = format!(
            "KAFBOY_LOG__LEVEL={level}\nKAFBOY_KAFBOY__KAFBOY_HTTP_PORT=1\n\
             KAFBOY_KAFBOY__KAFBOY_HTTP_LISTEN=127.0.0.1\n"
        );
        std::fs::write(&env, text).unwrap();
    };
    variables("info");
    let gateway = Gateway::builder(binary())
        .args(["kafboy", "-c", text(&path), "--env-file", text(&env)])
        .env("KAFBOY_KAFBOY__KAFBOY_HTTP_PORT", "0")
        .spawn()
        .unwrap();
    let url = format!("http://{}/sync/{topic}", address(&gateway, 0));
    let said = |line: &str| eventually(line, || gateway.stderr().contains(line).then_some(()));
    let well = (200, r#"[{"ok":true}]"#.to_owned());
    let required = r#"{"error":"a valid bearer token is required"}"#.to_owned();
    assert_eq!(post_as(&url, "one"), well);
    assert_eq!(post_as(&url, "two"), (401, required.clone()));
    assert_eq!(post(&url, "k=1"), (401, required.clone()));

    // A script that is no script: nothing at all is changed.
    let own = format!(
        ", kafboy_callback_edit_json: '{}', kafboy_strict: true",
        text(&hook)
    );
    let ekaf = ", ekaf_buffer_ttl: 7, acks: 1, ekaf_push_to_statsd_enabled: true";
    write(&hook, "function post(");
    write(&path, &settings(&own, ekaf));
    said("the configuration stays as it was: kafboy.kafboy_callback_edit_json: ");
    assert_eq!(post_as(&url, "one"), well);
    answers("first");
    // What a refused configuration names is not watched.
    write(&path, &settings(&format!("{own} "), ekaf));
    said("configuration reloaded: ekaf.ekaf_buffer_ttl, kafboy.kafboy_callback_edit_json");
    said(
        "needs a restart: ekaf.ekaf_push_to_statsd_enabled (nothing was pushed at the start), \
         ekaf.acks, kafboy.kafboy_strict",
    );
    assert_eq!(
        post_as(&url, "one"),
        (400, r#"{"error":"first"}"#.to_owned())
    );

    answers("other");
    said("configuration reloaded: kafboy.kafboy_callback_edit_json");
    assert_eq!(
        post_as(&url, "one"),
        (400, r#"{"error":"other"}"#.to_owned())
    );
    write(&secret, "two: [{actions: [produce]}]\n");
    said("configuration reloaded: access.tokens");
    assert_eq!(post_as(&url, "one"), (401, required));
    assert_eq!(post_as(&url, "two").0, 400);
    variables("debug");
    said("configuration reloaded: log.level");
    let (status, _) = gateway.terminate().unwrap();
    assert!(status.success());
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}
