//! redis-cli and redis-benchmark.

use super::{Conversation, GATEWAY, PASSWORD, output, program};
use crate::support::{eventually, new_topic};
use barnabas_testkit::shared;
use std::io::Write;
use std::process::{Command, Stdio};

fn tool(name: &str) -> Command {
    let address = GATEWAY.address();
    let mut command = program(name, "redis-tools");
    command
        .args(["-h", &address.ip().to_string()])
        .args(["-p", &address.port().to_string()])
        .args(["-a", PASSWORD]);
    command
}

fn redis_cli(protocol: u8) -> Command {
    let mut command = tool("redis-cli");
    command.args(["--no-auth-warning", "-n", "2"]);
    if protocol == 3 {
        command.arg("-3");
    }
    command
}

/// Pipes lines into redis-cli, as a shell script would.
fn piped(protocol: u8, lines: &str) -> String {
    let mut child = redis_cli(protocol)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(lines.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn hold(protocol: u8) {
    let Conversation { name, topic } = &Conversation::new("redis-cli");
    let mut ping = redis_cli(protocol);
    ping.arg("ping");
    assert_eq!(output(ping), "PONG\n");
    let mut push = redis_cli(protocol);
    push.args(["rpushx", &format!("topics:{topic}"), "one"]);
    assert_eq!(output(push), "1\n");
    let said = piped(
        protocol,
        &format!(
            "CLIENT SETNAME {name}\n\
             RPUSHX topics:{topic} café\n\
             RPUSHX topics:{topic}:cust-9 three\n\
             DUMP 30000\n\
             BLPOP topics:{topic} 30\n\
             RPUSH acks {topic}:0:0\n\
             BLPOP topics:{topic} 30\n\
             RPUSH acks last\n\
             BLPOP nonsense 1\n\
             PING\n"
        ),
    );
    let message = |offset: u32, value: &str| {
        format!("topic\n{topic}\npartition\n0\noffset\n{offset}\nvalue\n{value}\n")
    };
    let expected = [
        "OK\n1\n1\n0\n",
        &message(0, "one"),
        "1\n",
        &message(1, "café"),
        "1\nCONS Cannot parse topics from `nonsense`\n\nPONG\n",
    ];
    assert_eq!(said, expected.concat());
    let pair = format!("BLPOP 'topics:{topic}:{{\"barnabas.reply\":\"pair\"}}' 30\n");
    let said = piped(
        protocol,
        &format!("CLIENT SETNAME pair-{name}\n{}", pair.repeat(3)),
    );
    let expected = ["one", "café", "three"].map(|value| format!("topics:{topic}\n{value}\n"));
    assert_eq!(said, format!("OK\n{}", expected.concat()));
    Conversation {
        name: name.clone(),
        topic: topic.clone(),
    }
    .check_kafka();
}

#[test]
fn redis_cli_resp2() {
    hold(2);
}

#[test]
fn redis_cli_resp3() {
    hold(3);
}

#[test]
fn redis_benchmark_finds_all_its_messages() {
    let topic = new_topic("redis-benchmark", 3);
    let mut ping = tool("redis-benchmark");
    ping.args(["-n", "1000", "-c", "10", "--csv", "-t", "ping"]);
    let said = output(ping);
    assert!(said.contains("PING_INLINE") && said.contains("PING_MBULK"));
    let mut push = tool("redis-benchmark");
    // Without -e an error reply ends it silently; with it, in words.
    push.args(["-e", "-n", "5000", "-c", "10", "-P", "16", "--csv"])
        .args(["rpushx", &format!("topics:{topic}"), "x"]);
    let said = output(push);
    assert!(said.contains("rpushx topics:"), "{said}");
    eventually("all are in Kafka", || {
        let found: i64 = shared().end_offsets(&topic).unwrap().values().sum();
        // It fills its last pipelines.
        (5000..5000 + 10 * 16).contains(&found).then_some(())
    });
}
