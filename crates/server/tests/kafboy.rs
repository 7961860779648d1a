//! `barnabas kafboy`: its file, flags, environment, scripts, start and end
//! (contract, `producer-http.md`, section 8).

use crate::support::{
    PATIENCE, address, binary, curl, eventually, file, repository, run, stderr, stdout, text,
};
use barnabas_testkit::{Gateway, Signal, shared, topic_name};
use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;

/// On a free port of this machine.
const LISTEN: &str = "kafboy_http_listen: 127.0.0.1, kafboy_http_port: 0";

fn new_topic(partitions: i32) -> String {
    let topic = topic_name("kafboy");
    shared().create_topic(&topic, partitions).unwrap();
    topic
}

/// With a file of this name, and where it listens.
fn spawn(
    name: &str,
    settings: &str,
    environment: &[(&str, &str)],
) -> (Gateway, String, tempfile::TempDir) {
    let (folder, path) = file(name, settings);
    let mut builder = Gateway::builder(binary()).args(["kafboy", "-c", text(&path)]);
    for (name, value) in environment {
        builder = builder.env(name, value);
    }
    let gateway = builder.spawn().unwrap();
    let url = format!("http://{}", address(&gateway, 0));
    (gateway, url, folder)
}

fn post(url: &str, body: &str) -> (u16, String) {
    curl(&["--data", body, url])
}

/// Keys and values of a topic by partition, once there are so many.
fn messages(topic: &str, count: usize) -> Vec<(i32, Option<String>, String)> {
    eventually(topic, || {
        let records = shared().read_all(topic).unwrap();
        let all = records.len() >= count;
        all.then(|| {
            let key = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
            let shown = records.iter().map(|record| {
                (
                    record.partition,
                    record.key.as_deref().map(key),
                    record.value_text(),
                )
            });
            shown.collect()
        })
    })
}

/// The scripts of the documentation, in order.
fn scripts() -> Vec<String> {
    let path = repository().join("docs/from-kafboy.md");
    let document = std::fs::read_to_string(path).unwrap();
    let blocks = document.split("```lua\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap().to_owned())
        .collect()
}

#[test]
fn what_cannot_be_used_is_said_in_one_line() {
    let (_one, empty) = file("kafboy.yaml", "kafboy: {}\n");
    let (_two, terms) = file("sys.config", "[{kafboy,\n [}].");
    let (_three, strategy) = file(
        "kafboy.yaml",
        "ekaf: {ekaf_bootstrap_broker: a, ekaf_max_buffer_size: many}\n",
    );
    let missing = "ekaf.ekaf_bootstrap_broker is missing: there is nobody to send to\n";
    for (arguments, expected) in [
        (&["kafboy", "-c", text(&empty)][..], missing.to_owned()),
        (&["kafboy"], missing.to_owned()),
        (
            &["kafboy", "--config=/nonexistent"],
            "configuration file \"/nonexistent\" not found\n".to_owned(),
        ),
        (
            &["kafboy", "-c", text(&terms)],
            format!("{}: line 2: expected a term, found '}}'\n", terms.display()),
        ),
        (
            &["kafboy", "--check", "-c", text(&strategy)],
            "ekaf.ekaf_max_buffer_size must be a whole number from 1 to 2147483647\n".to_owned(),
        ),
    ] {
        let output = run(arguments);
        assert_eq!(stderr(&output), expected, "{arguments:?}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(run(&["kafboy", "--nonsense"]).status.code(), Some(2));

    let (_four, good) = file(
        "sys.config",
        "[{ekaf, [{ekaf_bootstrap_broker, {\"a\", 1}}, {x, 1}]}].",
    );
    let output = run(&["kafboy", "--check", "-c", text(&good)]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "unknown key ekaf.x\n");
    assert_eq!(stdout(&output), "nothing is wrong with the configuration\n");
}

#[test]
fn a_port_that_is_taken_ends_with_one() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let settings = format!(
        "kafboy: {{kafboy_http_listen: 127.0.0.1, kafboy_http_port: {port}}}\nekaf: \
         {{ekaf_bootstrap_broker: 'a:1'}}\n"
    );
    let (_folder, path) = file("kafboy.yaml", &settings);
    let output = run(&["kafboy", "-c", text(&path)]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("cannot listen on 127.0.0.1:{port}: ");
    assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
}

#[test]
fn it_answers_to_kafboys_name() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("kafboy");
    std::os::unix::fs::symlink(binary(), &link).unwrap();
    let output = Command::new(&link).arg("--version").output().unwrap();
    let version = stdout(&output);
    assert!(
        version.starts_with("kafboy 0.1.0 (librdkafka 2."),
        "{version}"
    );
    assert_eq!(Command::new(&link).output().unwrap().status.code(), Some(2));
}

#[test]
fn the_end_sends_what_is_batched() {
    let topic = new_topic(1);
    let brokers = shared().bootstrap_servers();
    let settings = format!(
        "kafboy: {{{LISTEN}}}\nekaf: {{ekaf_bootstrap_broker: '{brokers}', ekaf_buffer_ttl: \
         600000, ekaf_max_buffer_size: 1000000}}\n"
    );
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let before = shared().read_all(&topic).unwrap().len();
        let (gateway, url, _folder) = spawn("kafboy.yaml", &settings, &[]);
        let batch = format!("{url}/batch/async/{topic}");
        for number in 0..20 {
            let reply = post(&batch, &format!("k={number}"));
            assert_eq!(reply, (200, r#"{"ok":1}"#.to_owned()));
        }
        gateway.signal(signal).unwrap();
        let status = gateway.wait(PATIENCE).unwrap();
        assert_eq!(status.code(), Some(0), "{}", gateway.stderr());
        let found = messages(&topic, before + 20);
        let values: Vec<&str> = found[before..]
            .iter()
            .map(|(_, _, value)| &**value)
            .collect();
        let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        assert_eq!(values, expected);
    }
}

#[test]
fn a_sys_config_with_the_documented_scripts_works() {
    let (hooked, picked) = (new_topic(1), new_topic(5));
    let [hook, picker] = &scripts()[..] else {
        panic!("two scripts")
    };
    let (_one, hook) = file("hook.lua", hook);
    let (_two, picker) = file("picker.lua", picker);
    let brokers = shared().bootstrap_servers();
    let (host, port) = brokers.split(',').next().unwrap().rsplit_once(':').unwrap();
    let statsd = UdpSocket::bind("127.0.0.1:0").unwrap();
    statsd.set_read_timeout(Some(PATIENCE)).unwrap();
    let terms = |own: &str| {
        format!(
            r#"%% kafboy's and ekaf's.
[{{kafboy, [{{kafboy_http_port, 0}}, {{kafboy_http_listen, "127.0.0.1"}},
           {{kafboy_hook_timeout_ms, 20000}}{own}]}},
 {{ekaf, [{{ekaf_bootstrap_broker, {{"{host}", {port}}}}},
         {{ekaf_buffer_ttl, [{{<<"{hooked}">>, 20}}, {{ekaf_buffer_ttl, 50}}]}},
         {{ekaf_push_to_statsd_enabled, [{{<<"{picked}">>, true}}]}},
         {{statsd, [{{address, "{}"}}, {{interval_ms, 10}}]}},
         {{ekaf_partition_strategy, [{{<<"{picked}">>, custom}}]}},
         {{ekaf_callback_custom_partition_picker, "{}"}}]}}]."#,
            statsd.local_addr().unwrap(),
            text(&picker)
        )
    };

    // The picker: keys as ekaf's own would have it (contract,
    // `producer-engine.md`, section 4).
    let (gateway, url, _folder) = spawn("sys.config", &terms(""), &[]);
    let batch = format!("{url}/batch/async/{picked}");
    let keys = "user1=a&user2=a&user3=a&hello=a&topic=a";
    // A picker is asked once the partitions are known.
    assert_eq!(post(&format!("{url}/sync/{picked}"), keys).0, 200);
    assert_eq!(post(&batch, keys).0, 200);
    let blocked = post(&format!("{url}/sync/{picked}"), "blocked=1");
    assert_eq!(blocked, (500, r#"[{"error":"blocked"}]"#.to_owned()));
    let found = messages(&picked, 10).into_iter();
    let places: BTreeMap<String, i32> = found
        .map(|(partition, key, _)| (key.unwrap(), partition))
        .collect();
    let expected = [
        ("user1", 4),
        ("user2", 0),
        ("user3", 2),
        ("hello", 3),
        ("topic", 1),
    ];
    let expected = expected.map(|(key, partition)| (key.to_owned(), partition));
    assert_eq!(places, BTreeMap::from(expected));
    let flushed = format!("ekaf.{picked}.ekaf_callback_flush.broker");
    eventually("a flush at statsd", || {
        let mut datagram = [0; 2_000];
        let length = statsd.recv(&mut datagram).unwrap();
        let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
        text.lines()
            .any(|line| line.starts_with(&flushed))
            .then_some(())
    });
    drop(gateway);

    let own = format!(r#", {{kafboy_callback_edit_json, "{}"}}"#, text(&hook));
    let (gateway, url, _folder) = spawn("sys.config", &terms(&own), &[]);
    let path = format!("{url}/async/{hooked}");
    let insufficient = format!(r#"{{"error":"{hooked}.insufficient"}}"#);
    assert_eq!(post(&path, ""), (400, insufficient.clone()));
    let line = format!("answered 400: {hooked}.insufficient");
    eventually("the hook's own line", || {
        gateway.stderr().contains(&line).then_some(())
    });
    assert_eq!(post(&path, "hello=V"), (200, r#"{"ok":1}"#.to_owned()));
    let reply = post(&path, "a=1&b=2");
    assert_eq!(reply, (200, r#"{"ok":"fast reply"}"#.to_owned()));
    let mut found: Vec<_> = messages(&hooked, 2)
        .into_iter()
        .map(|(_, key, value)| (key, value))
        .collect();
    found.sort();
    let expected = ["V", r#"{"extra":"true","a":"1","b":"2"}"#];
    assert_eq!(found, expected.map(|value| (None, value.to_owned())));
}

#[test]
fn a_hangup_reads_the_file_again() {
    let topic = new_topic(1);
    let brokers = shared().bootstrap_servers();
    let settings = |own: &str| {
        format!(
            "kafboy: {{{LISTEN}, kafboy_hook_timeout_ms: 20000{own}}}\nekaf: \
             {{ekaf_bootstrap_broker: '{brokers}'}}\n"
        )
    };
    let (gateway, url, folder) = spawn("kafboy.yaml", &settings(""), &[]);
    let path = format!("{url}/async/{topic}");
    assert_eq!(post(&path, "a=1").0, 200);
    let (file, hook) = (
        folder.path().join("kafboy.yaml"),
        folder.path().join("hook.lua"),
    );
    std::fs::write(&hook, "function post(topic) return {error = topic} end").unwrap();
    let own = format!(", kafboy_callback_edit_json: {}", text(&hook));
    std::fs::write(&file, settings(&own)).unwrap();
    gateway.signal(Signal::Hangup).unwrap();
    let refused = (400, format!(r#"{{"error":"{topic}"}}"#));
    eventually("the hook", || (post(&path, "a=1") == refused).then_some(()));

    std::fs::write(&file, settings(", kafboy_http_port: high")).unwrap();
    gateway.signal(Signal::Hangup).unwrap();
    let line = "the configuration stays as it was: ";
    eventually(line, || gateway.stderr().contains(line).then_some(()));
    assert_eq!(post(&path, "a=1"), refused);
}

#[test]
fn variables_are_enough() {
    let topic = new_topic(1);
    let mut builder = Gateway::builder(binary()).args(["kafboy"]);
    for (name, value) in [
        (
            "EKAF__EKAF_BOOTSTRAP_BROKER",
            &*shared().bootstrap_servers(),
        ),
        ("KAFBOY__KAFBOY_HTTP_LISTEN", "127.0.0.1"),
        ("KAFBOY__KAFBOY_HTTP_PORT", "0"),
        ("KAFBOY__KAFBOY_ROUTES_SYNC", "/1/:topic"),
    ] {
        builder = builder.env(format!("KAFBOY_{name}"), value);
    }
    let gateway = builder.spawn().unwrap();
    let url = format!("http://{}/1/{topic}", address(&gateway, 0));
    assert_eq!(post(&url, "a=1"), (200, r#"[{"ok":true}]"#.to_owned()));
    let (status, node) = curl(&[&format!("http://{}/disco", address(&gateway, 0))]);
    assert_eq!((status, node.starts_with("barnabas@")), (200, true));
}
