//! Flags, files and exit codes.

use crate::support::{binary, file, run, stderr, stdout, text};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

#[test]
fn the_version_names_librdkafkas_too() {
    let output = run(&["--version"]);
    assert!(output.status.success());
    assert!(
        stdout(&output).starts_with("barnabas 0.1.0 (librdkafka 2."),
        "{}",
        stdout(&output)
    );
    let output = run(&["rafka", "-v"]);
    assert!(
        stdout(&output).contains("librdkafka 2."),
        "{}",
        stdout(&output)
    );
}

#[test]
fn wrong_usage_ends_with_two() {
    for arguments in [
        &["--nonsense"][..],
        &[],
        &["serve", "--config"],
        &["rafka", "--port", "x"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!stderr(&output).is_empty());
    }
    let help = run(&["--help"]);
    assert!(help.status.success());
    assert!(stdout(&help).contains("Exit codes:"));
}

#[test]
fn a_file_that_cannot_be_used_ends_with_one_and_names_the_property() {
    let cases = [
        (r#"{"consumer": {"linger.msx": 1}}"#, "\"linger.msx\""),
        (r#"{"producer": {"acks": "many"}}"#, "\"acks\""),
        (r#"{"general": {"#, "EOF"),
        (r#"{"general": {"client.id": [1]}}"#, "\"client.id\""),
        (
            r#"{"producer": {"enable.idempotence": true, "acks": 1}}"#,
            "acks",
        ),
    ];
    for (json, expected) in cases {
        let (_folder, path) = file("librdkafka.json", json);
        let output = run(&["rafka", "-c", text(&path), "-p", "0"]);
        assert_eq!(output.status.code(), Some(1), "{json}: {}", stderr(&output));
        assert!(
            stderr(&output).contains(expected),
            "{json}: {}",
            stderr(&output)
        );
    }
    let output = run(&["rafka", "-c", "/nonexistent.json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nonexistent.json"));
    let output = run(&["serve", "--config", "/nonexistent.yaml"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn check_says_what_is_wrong_and_connects_to_nothing() {
    let good = r#"{"general": {"bootstrap.servers": "127.0.0.1:1", "go.delivery.reports": true},
                   "consumer": {"{topic}.auto.offset.reset": "earliest"}}"#;
    let (_folder, path) = file("librdkafka.json", good);
    let output = run(&["rafka", "-c", text(&path), "--check"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    let (_folder, path) = file(
        "barnabas.yaml",
        "clusters: {default: {properties: {bootstrap.servers: 'a:1'}}}\nredis: {replay: pair}\n",
    );
    let output = run(&["serve", "--config", text(&path), "--check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("redis.replay: no such key, did you mean redis.reply?"),
        "{}",
        stderr(&output)
    );

    let output = Command::new(binary())
        .args(["serve", "--check", "--config", text(&path)])
        .env("BARNABAS_REDIS__REPLY", "twice")
        .output()
        .unwrap();
    assert!(
        stderr(&output).contains("rafka, pair, full"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn check_finds_what_would_keep_the_server_from_starting() {
    for (text_of, expected) in [
        ("log: {level: 'nonsense=zzz=1'}", "log.level"),
        ("redis: {listen: [nonsense]}", "nonsense"),
        (
            "redis: {tls: {cert: /nonexistent.pem, key: /nonexistent.pem}}",
            "/nonexistent.pem",
        ),
    ] {
        let cluster = "clusters: {default: {properties: {bootstrap.servers: 'a:1'}}}\n";
        let (_folder, path) = file("barnabas.yaml", &format!("{cluster}{text_of}\n"));
        let output = Command::new(binary())
            .args(["serve", "--check", "--config", text(&path)])
            // What is no text is none of ours.
            .env("FOREIGN", std::ffi::OsStr::from_bytes(b"\xff"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{text_of}");
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

#[test]
fn the_name_rafka_takes_rafkas_flags() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("rafka");
    std::os::unix::fs::symlink(binary(), &link).unwrap();
    let output = Command::new(&link).arg("--help").output().unwrap();
    assert!(stdout(&output).contains("--config"), "{}", stdout(&output));
    assert!(!stdout(&output).contains("serve"));
    let (_folder, path) = file("kafka.json", "{}");
    let output = Command::new(&link)
        .args(["-k", text(&path), "-i", "2", "--check"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let log = stderr(&output);
    let line = log
        .lines()
        .find(|line| line.contains("auto.commit.interval.ms"))
        .unwrap_or_else(|| panic!("{log}"));
    // `[component] YYYY/MM/DD HH:MM:SS text`
    let shape: String = line
        .chars()
        .take("[server] 2026/11/21 06:01:15 ".len())
        .map(|char| if char.is_ascii_digit() { '0' } else { char })
        .collect();
    assert_eq!(shape, "[server] 0000/00/00 00:00:00 ");
}

#[test]
fn a_port_in_use_ends_with_one() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = run(&["dev", "--port", &port]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains(&format!("cannot listen on 127.0.0.1:{port}")),
        "{}",
        stderr(&output)
    );
}
