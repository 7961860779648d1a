//! `barnabas dev`: what it says to type next works, and nothing that a cluster in memory cannot do
//! hangs.

use crate::support::{
    address, binary, curl, eventually, grpcurl, grpcurl_folder, repository, stderr, stdout,
};
use barnabas_testkit::{Gateway, tools};
use std::env;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn start() -> Gateway {
    let gateway = Gateway::builder(binary()).args(["dev", "--port", "0"]);
    gateway.listeners(3).spawn().unwrap()
}

/// What it says to type that begins with a program.
fn lines(gateway: &Gateway, program: &str) -> Vec<String> {
    let said = eventually("the last line", || {
        Some(gateway.stdout()).filter(|said| said.contains("Ctrl-C ends."))
    });
    let lines = said.lines().map(str::trim);
    lines
        .filter(|line| line.starts_with(program))
        .map(str::to_owned)
        .collect()
}

fn sh(line: &str) -> String {
    let folders = env::var_os("PATH").unwrap();
    let all = [grpcurl_folder()]
        .into_iter()
        .chain(env::split_paths(&folders));
    let output = Command::new("/bin/sh")
        .args(["-c", line])
        .env("PATH", env::join_paths(all).unwrap())
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{line}: {}", stderr(&output));
    stdout(&output)
}

#[test]
fn what_it_says_to_type_next_works() {
    let gateway = start();

    tools::ensure_program("curl", "curl").unwrap();
    let curls = lines(&gateway, "curl ");
    assert_eq!(curls.len(), 2, "{curls:?}");
    let produced = sh(&curls[0]);
    assert!(produced.contains("\"offset\": 0"), "{produced}");
    let consumed = sh(&curls[1]);
    // "hello there"
    assert!(consumed.contains("\"aGVsbG8gdGhlcmU=\""), "{consumed}");

    let grpcurls = lines(&gateway, "grpcurl ");
    assert_eq!(grpcurls.len(), 2, "{grpcurls:?}");
    let produced = sh(&grpcurls[0]);
    assert!(produced.contains('{'), "{produced}");
    let consumed = sh(&grpcurls[1]);
    assert!(consumed.contains("\"aGVsbG8=\""), "{consumed}");

    let cli = tools::ensure_program("redis-cli", "redis-tools").unwrap();
    let typed = ["RPUSHX ", "CLIENT ", "BLPOP ", "RPUSH "].map(|command| {
        let found = lines(&gateway, command);
        assert_eq!(found.len(), 1, "{found:?}");
        format!("{}\n", found[0])
    });
    let redis = &lines(&gateway, "redis-cli ")[0];
    let mut child = Command::new(cli)
        .args(redis.split_whitespace().skip(1))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(typed.concat().as_bytes()).unwrap();
    drop(input);
    let got = stdout(&child.wait_with_output().unwrap());
    assert!(got.contains("hello there\n"), "{got}");

    let (status, _) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(0), "{}", gateway.stderr());
}

/// librdkafka waits ten seconds for a broker that describes configurations, and its mock never
/// lists groups.
#[test]
fn nothing_hangs_and_groups_are_those_of_the_process() {
    let gateway = start();
    let (http, grpc) = (address(&gateway, 1), address(&gateway, 2));
    let at = |path: &str| format!("http://{http}{path}");
    let message = at("/topics/t/messages?sync&key=k");
    let text = ["-H", "Content-Type: text/plain", "-d", "x", &message];
    assert_eq!(curl(&text).0, 200);
    let (status, body) = curl(&[&at("/topics/t/messages?group=g")]);
    assert_eq!(status, 200, "{body}");

    // Built before anything is timed.
    grpcurl_folder();
    let quickly = |asked: Instant, what: &str| {
        assert!(asked.elapsed() < Duration::from_secs(10), "{what}");
    };
    let offsets = r#"[{"partition": 0, "offset": 0}]"#;
    let to_other = at("/topics/t/offsets?group=other");
    for (arguments, expected, part) in [
        (vec![at("/topics")], 200, "\"t\""),
        (
            vec![at("/topics?withPartitions&withConfig")],
            200,
            "\"config\": {}",
        ),
        (vec![at("/topics/t?withPartitions")], 200, "\"leader\": 1"),
        (vec![at("/topics/none")], 404, "Unknown topic"),
        (vec![at("/topics/t/consumers")], 200, "\"g\""),
        (vec![at("/topics/t/consumers?group=g")], 200, "0,"),
        (
            vec![at("/topics/t/consumers?group=no")],
            400,
            "unknown consumer group no",
        ),
        (vec![at("/topics/t/offsets?group=g")], 200, "\"count\": 1"),
        (
            vec![at("/topics/none/offsets?group=g")],
            404,
            "Unknown topic",
        ),
        (
            vec!["-d".to_owned(), offsets.to_owned(), to_other],
            200,
            "{}",
        ),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let asked = Instant::now();
        let (status, body) = curl(&arguments);
        quickly(asked, &format!("{arguments:?}"));
        assert_eq!(status, expected, "{arguments:?}: {body}");
        assert!(body.contains(part), "{arguments:?}: {body}");
    }
    for (method, request, part) in [
        ("ListTopics", r#"{"with_partitions": true}"#, "\"t\""),
        ("GetTopicMetadata", r#"{"topic": "t"}"#, "\"version\": 1"),
        ("ListConsumers", r#"{"topic": "t"}"#, "\"g\""),
        (
            "GetOffsets",
            r#"{"topic": "t", "group": "g"}"#,
            "\"offsets\"",
        ),
    ] {
        let asked = Instant::now();
        let reply = grpcurl(&grpc, method, request).unwrap();
        quickly(asked, method);
        assert!(reply.contains(part), "{method}: {reply}");
    }
}
