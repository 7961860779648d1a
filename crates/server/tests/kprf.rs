//! `barnabas kprf`: its file, flags, environment, log, start and end
//! (contract, `producer-http.md`, sections 3 to 5 and 7.2).

use crate::support::{PATIENCE, binary, file, run, stderr, stdout, text};
use barnabas_testkit::{Gateway, Signal, shared, topic_name};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The lines of a log.
fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect()
}

/// A member of the first line with this message, once there is one.
fn wait_for(read: impl Fn() -> String, message: &str) -> Value {
    let started = Instant::now();
    loop {
        let written = read();
        // The last line may be half written.
        let whole = written.rfind('\n').map_or("", |end| &written[..=end]);
        if let Some(line) = lines(whole).into_iter().find(|line| line["msg"] == message) {
            return line;
        }
        assert!(started.elapsed() < PATIENCE, "{message}: {written}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A gateway that listens on ports of its own choice, and the main one.
fn spawn(settings: &str, environment: &[(&str, &str)]) -> (Gateway, String, tempfile::TempDir) {
    let http = "http: {listen: 127.0.0.1, port: 0, metrics_port: 0}\n";
    let (folder, path) = file("kprf.yaml", &format!("{http}{settings}"));
    let mut builder = Gateway::builder(binary())
        .args(["kprf", "-c", text(&path)])
        .listeners(0);
    for (name, value) in environment {
        builder = builder.env(name, value);
    }
    let gateway = builder.spawn().unwrap();
    let line = wait_for(|| gateway.stdout(), "starting main http server");
    let url = format!("http://127.0.0.1:{}/push", line["port"]);
    (gateway, url, folder)
}

/// Status and body of one request, with curl.
fn push(url: &str, body: &Value) -> (String, String) {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--max-time",
            "20",
            "--write-out",
            "\n%{http_code}",
        ])
        .args(["--header", "Content-Type: application/json"])
        .args(["--data-binary", &body.to_string(), url])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.to_owned(), body.to_owned())
}

#[test]
fn what_cannot_be_used_is_said_in_one_line() {
    let (_folder, bad) = file("kprf.yaml", "kafka: {}\n");
    let (_other, bad_port) = file("kprf.yaml", "kafka: {brokers: [a]}\nhttp: {port: high}\n");
    let (_third, bad_log) = file(
        "kprf.yaml",
        "kafka: {brokers: [a]}\noutput_file: /nonexistent/log\n",
    );
    let (_fourth, no_journal) = file("kprf.yaml", "kafka: {brokers: [a], durability: journal}\n");
    for (arguments, expected) in [
        (
            &["kprf", "--config=/nonexistent"][..],
            "failed to initialize config: configuration file \"/nonexistent\" not found\n",
        ),
        (
            &["kprf", "-c", text(&bad)],
            "failed to initialize config: missing field 'brokers'\n",
        ),
        (
            &["kprf", "--check", "-c", text(&bad_port)],
            "failed to initialize config: http.port must be a whole number from 0 to 65535\n",
        ),
        (
            &["kprf", "-c", text(&bad_log)],
            "cannot open /nonexistent/log: No such file or directory (os error 2)\n",
        ),
        (
            &["kprf", "-c", text(&no_journal)],
            "failed to initialize config: kafka.durability: journal needs journal.dir\n",
        ),
        (
            &["kprf"],
            "failed to initialize config: kafka.brokers is empty: there is nobody to send to\n",
        ),
    ] {
        let output = run(arguments);
        assert_eq!(stderr(&output), expected, "{arguments:?}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let usage = run(&["kprf", "--nonsense"]);
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn check_only_says_what_is_wrong() {
    let (_folder, path) = file("kprf.yaml", "kafka: {brokers: [a], retris: 1}\nnew: 1\n");
    let output = run(&["kprf", "--check", "--config", text(&path)]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(
        stderr(&output),
        "unknown key kafka.retris, did you mean kafka.retries?\nunknown key new\n"
    );
    assert_eq!(stdout(&output), "nothing is wrong with the configuration\n");
}

#[test]
fn it_answers_to_kprfs_name() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("kprf");
    std::os::unix::fs::symlink(binary(), &link).unwrap();
    let output = Command::new(&link).arg("--version").output().unwrap();
    let version = stdout(&output);
    assert!(
        version.starts_with("kprf 0.1.0 (librdkafka 2."),
        "{version}"
    );
    let output = Command::new(&link).arg("-h").output().unwrap();
    assert!(stdout(&output).contains("--config"));
}

#[test]
fn a_port_that_is_taken_ends_with_one() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for keys in [
        format!("port: {port}, metrics_port: 0"),
        format!("port: 0, metrics_port: {port}"),
    ] {
        let settings = format!("kafka: {{brokers: [a]}}\nhttp: {{listen: 127.0.0.1, {keys}}}\n");
        let (_folder, path) = file("kprf.yaml", &settings);
        let output = run(&["kprf", "-c", text(&path)]);
        assert_eq!(output.status.code(), Some(1), "{keys}");
        let expected = format!("cannot listen on 127.0.0.1:{port}: ");
        assert!(
            stderr(&output).starts_with(&expected),
            "{}",
            stderr(&output)
        );
    }
}

#[test]
fn the_log_has_kprfs_lines_in_kprfs_order() {
    let topic = topic_name("kprf-log");
    shared().create_topic(&topic, 1).unwrap();
    let settings = format!(
        "kafka: {{brokers: [x], nonsense: 1}}\nratelimit: {{enabled: true, rules: [{{topic_name: \
         {topic}, max_requests_per_minute: 1}}]}}\n"
    );
    let brokers = shared().bootstrap_servers();
    let variables = [
        ("KPRF_KAFKA__BROKERS", brokers.as_str()),
        ("KPRF_HTTP__SLOW_REQUEST_MS", "0"),
        ("KPRF_TYPO", "x"),
    ];
    let (gateway, url, _folder) = spawn(&settings, &variables);
    let record = json!({"topic": topic, "data": "a"});
    let (status, body) = push(&url, &json!({"records": [record], "wait_for_send": true}));
    let well = r#"{"status":"ok","errors":[]}"#;
    assert_eq!((status.as_str(), body.as_str()), ("200", well));
    let (status, _) = push(&url, &json!({"records": [record, record, record]}));
    assert_eq!(status, "429");
    let bad = json!({"topic": "bad topic!", "data": "a"});
    let (status, _) = push(&url, &json!({"records": [bad], "wait_for_send": true}));
    assert_eq!(status, "500");
    // Three refusals within a second: the second line tells of the others.
    let folded = Instant::now();
    while !gateway.stdout().contains("\"repeated\":2") {
        assert!(folded.elapsed() < PATIENCE, "{}", gateway.stdout());
        std::thread::sleep(Duration::from_millis(20));
    }
    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{}", gateway.stderr());

    let log = lines(&gateway.stdout());
    let own: Vec<&Value> = log
        .iter()
        .filter(|line| line["component"].is_null())
        .collect();
    let messages: Vec<&str> = own
        .iter()
        .map(|line| line["msg"].as_str().unwrap())
        .collect();
    let place = |message: &str| {
        let place = messages.iter().position(|own| *own == message);
        place.unwrap_or_else(|| panic!("{message} is not in {messages:?}"))
    };
    let in_order = [
        "starting application",
        "unknown key kafka.nonsense",
        "unknown variable KPRF_TYPO",
        "starting metrics server",
        "starting main http server",
        "handle_push was too slow",
        "message was not sent due to ratelimit overflow",
        "got error when tried to send message",
        "got error when tried to push message in sync mode",
        "shutting down application",
        "shutting down http-server",
        "shutting down metrics server",
    ];
    let places = in_order.map(place);
    assert!(places.is_sorted(), "{messages:?}");
    let members = |message: &str| {
        let line = own[place(message)].as_object().unwrap();
        let names: Vec<&str> = line.keys().map(String::as_str).collect();
        assert_eq!(names[..4], ["msg", "level", "ts", "service"]);
        assert_eq!(line["service"], "kprf");
        let level = line["level"].as_str().unwrap().to_owned();
        (level, names[4..].join(" "))
    };
    for (message, level, extras) in [
        ("starting application", "INFO", "commit version"),
        ("starting metrics server", "INFO", "port"),
        ("starting main http server", "INFO", "port"),
        ("handle_push was too slow", "WARN", "passed request_id"),
        (
            "message was not sent due to ratelimit overflow",
            "WARN",
            "topic",
        ),
        (
            "got error when tried to send message",
            "ERRO",
            "topic error",
        ),
        (
            "got error when tried to push message in sync mode",
            "ERRO",
            "error",
        ),
        ("shutting down application", "INFO", ""),
    ] {
        assert_eq!(
            members(message),
            (level.to_owned(), extras.to_owned()),
            "{message}"
        );
    }
    assert_eq!(
        own[place("got error when tried to send message")]["error"],
        "Message production error: InvalidTopic (Broker: Invalid topic)"
    );
}

/// kprf answered 200 and sent none of them (contract, section 4).
#[test]
fn what_was_answered_before_the_end_is_in_kafka() {
    let topic = topic_name("kprf-end");
    shared().create_topic(&topic, 2).unwrap();
    let settings = format!(
        "kafka: {{brokers: ['{}'], queue_buffering_max_ms: 3000, message_timeout_ms: 10000}}\n",
        shared().bootstrap_servers()
    );
    let (gateway, url, _folder) = spawn(&settings, &[]);
    let records: Vec<Value> = (0..300)
        .map(|number| json!({"topic": topic, "data": number.to_string()}))
        .collect();
    let (status, _) = push(&url, &json!({ "records": records }));
    assert_eq!(status, "200");
    gateway.signal(Signal::Interrupt).unwrap();
    let status = gateway.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(0), "{}", gateway.stdout());
    let mut found: Vec<u32> = shared()
        .read_all(&topic)
        .unwrap()
        .iter()
        .map(|record| record.value_text().parse().unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(found, (0..300).collect::<Vec<u32>>());
}

#[test]
fn what_kafka_never_took_is_counted_and_a_second_signal_ends_at_once() {
    let settings = "kafka: {brokers: ['127.0.0.1:1']}\nshutdown_timeout_ms: 300\n";
    let (gateway, url, _folder) = spawn(settings, &[]);
    let record = json!({"topic": "t", "data": "a"});
    assert_eq!(push(&url, &json!({"records": [record, record]})).0, "200");
    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0));
    let left = wait_for(|| gateway.stdout(), "messages were not delivered");
    assert_eq!(left["messages"], 2);

    let settings = "kafka: {brokers: ['127.0.0.1:1']}\nshutdown_timeout_ms: 60000\n";
    let (gateway, url, _folder) = spawn(settings, &[]);
    assert_eq!(push(&url, &json!({"records": [record]})).0, "200");
    gateway.signal(Signal::Terminate).unwrap();
    wait_for(|| gateway.stdout(), "shutting down http-server");
    // The thread that waits for the second signal starts before.
    gateway.signal(Signal::Interrupt).unwrap();
    let status = gateway.wait(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(1), "{}", gateway.stdout());
}

#[test]
fn the_log_file_is_reopened_on_sighup() {
    let folder = tempfile::tempdir().unwrap();
    let (log, moved) = (folder.path().join("log"), folder.path().join("log.1"));
    let (_settings_folder, path) = file(
        "kprf.yaml",
        "kafka: {brokers: ['127.0.0.1:1']}\nhttp: {listen: 127.0.0.1, port: 0, metrics_port: 0}\n",
    );
    let gateway = Gateway::builder(binary())
        .args(["kprf", "-c", text(&path)])
        .env("KPRF_OUTPUT_FILE", &log)
        .listeners(0)
        .spawn()
        .unwrap();
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    wait_for(|| read(&log), "starting main http server");
    std::fs::rename(&log, &moved).unwrap();
    gateway.signal(Signal::Hangup).unwrap();
    let started = Instant::now();
    while !log.exists() {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(20));
    }
    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0));
    wait_for(|| read(&log), "shutting down metrics server");
    assert!(!read(&moved).contains("shutting down"));
}

#[test]
fn a_changed_file_counts_and_the_log_is_reopened() {
    let topic = topic_name("kprf-reload");
    shared().create_topic(&topic, 1).unwrap();
    let (folder, secret) = file("tokens.yaml", "one: [{actions: [produce]}]\n");
    let settings = |limit: u32, more: &str| {
        format!(
            "kafka: {{brokers: ['{}']}}\naccess: {{tokens_file: '{}'}}\nratelimit: {{enabled: \
             true, rules: [{{topic_name: {topic}, max_requests_per_minute: {limit}}}]}}\n{more}\n",
            shared().bootstrap_servers(),
            secret.display()
        )
    };
    let log = folder.path().join("log");
    let log_text = text(&log).to_owned();
    let (_other, path) = file("kprf.yaml", &settings(1, ""));
    let variables = [
        ("KPRF_HTTP__LISTEN", "127.0.0.1"),
        ("KPRF_HTTP__PORT", "0"),
        ("KPRF_HTTP__METRICS_PORT", "0"),
    ];
    // Two of them in a file, of which the environment overrides one.
    let env = folder.path().join(".env");
    std::fs::write(
        &env,
        format!("KPRF_OUTPUT_FILE='{log_text}'\nKPRF_HTTP__PORT=1\n"),
    )
    .unwrap();
    let mut builder = Gateway::builder(binary())
        .args(["kprf", "-c", text(&path), "--env-file", text(&env)])
        .listeners(0);
    for (name, value) in variables {
        builder = builder.env(name, value);
    }
    let gateway = builder.spawn().unwrap();
    let read = || std::fs::read_to_string(&log).unwrap_or_default();
    let line = wait_for(read, "starting main http server");
    let url = format!("http://127.0.0.1:{}/push", line["port"]);
    let push_as = |token: &str| {
        let record = json!({"records": [{"topic": topic, "data": "a"}]}).to_string();
        let output = Command::new("curl")
            .args(["--silent", "--max-time", "20", "--output", "/dev/null"])
            .args(["--write-out", "%{http_code}", "--data-binary", &record])
            .args(["--header", "Content-Type: application/json"])
            .args(["--header", &format!("Authorization: Bearer {token}"), &url])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        (&*push_as("one"), &*push_as("one"), &*push_as("two")),
        ("200", "429", "401")
    );

    let journal = "kafka.durability";
    let more = "http: {max_connections: 5, slow_request_ms: 2000}";
    let changed = settings(2, more).replace("kafka: {", "kafka: {durability: journal, ");
    // It has no directory: nothing at all is changed.
    std::fs::write(&path, &changed).unwrap();
    let refused =
        format!("the configuration stays as it was: {journal}: journal needs journal.dir");
    wait_for(read, &refused);
    assert_eq!(push_as("one"), "429");
    std::fs::write(&path, format!("{changed}journal: {{dir: /nonexistent}}\n")).unwrap();
    wait_for(
        read,
        "configuration reloaded: http.slow_request_ms, ratelimit.rules",
    );
    wait_for(
        read,
        "needs a restart: kafka.durability (there is no journal), http.max_connections, journal.dir",
    );
    // One more of the higher limit is left.
    assert_eq!((&*push_as("one"), &*push_as("one")), ("200", "429"));

    std::fs::write(&secret, "two: [{actions: [produce]}]\n").unwrap();
    wait_for(read, "configuration reloaded: access.tokens");
    assert_eq!((&*push_as("one"), &*push_as("two")), ("401", "429"));
    let moved = folder.path().join("log.1");
    std::fs::rename(&log, &moved).unwrap();
    gateway.signal(Signal::Hangup).unwrap();
    wait_for(read, "configuration reloaded: nothing has changed");
    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0));
}

/// How often the gateway is killed.
const KILLS: usize = 3;
/// Requests that are answered between two of them.
const BETWEEN: usize = 400;
const WRITERS: usize = 6;
/// Records of a request.
const RECORDS: usize = 10;

/// Pushes requests until the gateway has gone. A value is
/// `<writer>-<number>-<record>`; the key is the writer.
async fn write(url: String, topic: String, writer: usize, answered: Arc<Answered>) {
    let client = reqwest::Client::new();
    loop {
        let number = answered.next.fetch_add(1, Ordering::AcqRel);
        let records: Vec<Value> = (0..RECORDS)
            .map(|one| {
                let value = format!("{writer}-{number:06}-{one}");
                json!({"topic": topic, "data": value, "key": writer.to_string()})
            })
            .collect();
        let sent = client
            .post(&url)
            .header("content-type", "application/json")
            .body(json!({ "records": records }).to_string())
            .send();
        let Ok(reply) = sent.await else { return };
        assert_eq!(reply.status(), 200);
        // An answer that is cut off is none.
        if reply.text().await.is_err() {
            return;
        }
        answered.requests.lock().unwrap().push((writer, number));
    }
}

/// What was answered well.
#[derive(Default)]
struct Answered {
    requests: Mutex<Vec<(usize, usize)>>,
    next: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_again_and_again_the_journal_loses_nothing() {
    let topic = topic_name("kprf-kill");
    shared().create_topic(&topic, 3).unwrap();
    let journal = tempfile::tempdir().unwrap();
    let settings = format!(
        "kafka: {{brokers: ['{}'], durability: journal}}\njournal: {{dir: '{}'}}\n",
        shared().bootstrap_servers(),
        journal.path().display()
    );
    let answered = Arc::new(Answered::default());
    for kill in 1..=KILLS {
        let (gateway, url, _folder) = spawn(&settings, &[]);
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let (url, topic) = (url.clone(), topic.clone());
            writers.spawn(write(url, topic, writer, Arc::clone(&answered)));
        }
        let started = Instant::now();
        while answered.requests.lock().unwrap().len() < kill * BETWEEN {
            assert!(started.elapsed() < PATIENCE, "{}", gateway.stdout());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        gateway.signal(Signal::Kill).unwrap();
        gateway.wait(PATIENCE).unwrap();
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
    }
    // The last one only sends what is left.
    let (gateway, _, _folder) = spawn(&settings, &[]);
    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{}", gateway.stdout());
    let inspected = run(&[
        "journal",
        "inspect",
        "--json",
        "--dir",
        text(journal.path()),
    ]);
    let report: Value = serde_json::from_str(&stdout(&inspected)).unwrap();
    assert_eq!(report[0]["undelivered"], 0, "{report}");

    let mut found = BTreeSet::new();
    let mut by_writer: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let records = shared().read_all(&topic).unwrap();
    for record in &records {
        let value = record.value_text();
        if found.insert(value.clone()) {
            by_writer.entry(record.key_text()).or_default().push(value);
        }
    }
    let answered = answered.requests.lock().unwrap();
    let expected = answered
        .iter()
        .flat_map(|(writer, number)| (0..RECORDS).map(move |one| (writer, number, one)));
    let lost: Vec<String> = expected
        .map(|(writer, number, one)| format!("{writer}-{number:06}-{one}"))
        .filter(|value| !found.contains(value))
        .collect();
    assert!(lost.is_empty(), "answered and not in Kafka: {lost:?}");
    for values in by_writer.values() {
        assert!(values.is_sorted(), "the order of a key is not kept");
    }
    println!(
        "{KILLS} kills: {} records answered, {} in Kafka of which {} twice or more",
        answered.len() * RECORDS,
        records.len(),
        records.len() - found.len(),
    );
}

#[test]
fn the_journal_is_in_the_metrics() {
    let topic = topic_name("kprf-journal");
    shared().create_topic(&topic, 1).unwrap();
    let journal = tempfile::tempdir().unwrap();
    let settings = format!(
        "kafka: {{brokers: ['{}'], durability: journal}}\njournal: {{dir: '{}'}}\n",
        shared().bootstrap_servers(),
        journal.path().display()
    );
    let (gateway, url, _folder) = spawn(&settings, &[]);
    let port = &wait_for(|| gateway.stdout(), "starting metrics server")["port"];
    let body = json!({"records": [{"topic": topic, "data": "a"}]});
    let (status, said) = push(&url, &body);
    assert_eq!(status, "200", "{said}");
    let line = |name: &str| {
        let (status, page) = crate::support::curl(&[&format!("http://127.0.0.1:{port}/metrics")]);
        assert_eq!(status, 200);
        let series = format!("{name}{{cluster=\"kafka\"}} ");
        let mut lines = page.lines();
        let found = lines.find_map(|line| line.strip_prefix(&series));
        found
            .unwrap_or_else(|| panic!("{name} is not in\n{page}"))
            .to_owned()
    };
    assert_eq!(line("barnabas_journal_written_messages_total"), "1");
    assert_ne!(line("barnabas_journal_bytes"), "0");
    crate::support::eventually("Kafka has it", || {
        (line("barnabas_journal_waiting_messages") == "0").then_some(())
    });
}
