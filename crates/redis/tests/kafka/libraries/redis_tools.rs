//! redis-cli and redis-benchmark.

use super::{Conversation, GATEWAY, PASSWORD, output, output_of, program};
use crate::support::{eventually, new_topic};
use barnabas_testkit::shared;
use std::process::Command;

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

/// Pipes lines into redis-cli, as a shell script would, and has it say what is a number.
fn piped(protocol: u8, lines: &str) -> String {
    let mut command = redis_cli(protocol);
    command.arg("--no-raw");
    let said = output_of(command, lines);
    // A line about this connection has its number and age.
    let about = |line: &str| {
        let fields: Vec<&str> = line
            .split(' ')
            .filter(|field| {
                ["name=", "db=", "resp="]
                    .iter()
                    .any(|name| field.starts_with(name))
            })
            .collect();
        fields.join(" ")
    };
    said.lines()
        .map(|line| match line.starts_with("id=") {
            true => about(line) + "\n",
            false => line.to_owned() + "\n",
        })
        .collect()
}

fn hold(protocol: u8) {
    let conversation = Conversation::new("redis-cli");
    let Conversation { name, topic } = &conversation;
    let mut ping = redis_cli(protocol);
    ping.arg("ping");
    assert_eq!(output(ping), "PONG\n");
    let mut push = redis_cli(protocol);
    push.args(["rpushx", &format!("topics:{topic}"), "one"]);
    assert_eq!(output(push), "1\n");
    let ok = if protocol == 3 { "OK" } else { "\"OK\"" };
    let message = |offset: u32, value: &str| {
        format!(
            "1) \"topic\"\n2) \"{topic}\"\n3) \"partition\"\n4) (integer) 0\n5) \"offset\"\n\
             6) (integer) {offset}\n7) \"value\"\n8) \"{value}\"\n"
        )
    };
    let said = piped(
        protocol,
        &format!(
            "CLIENT SETNAME {name}\nCLIENT INFO\nRPUSHX topics:{topic}:cust-9 café\n\
             RPUSHX topics:{topic} three four\nDUMP 30000\n\
             BLPOP topics:{topic} 30\nBLPOP topics:{topic} 30\nBLPOP topics:{topic} 30\n\
             RPUSH acks {topic}:0:0\nRPUSH acks {topic}:0:1 {topic}:0:2\n\
             BLPOP topics:{topic} 30\nBLPOP topics:{topic} 0.1\n\
             BLPOP nonsense 1\nRPUSHX topics:no/topic x\nPING\nCLIENT GETNAME\n"
        ),
    );
    let expected = [
        &format!("{ok}\nname={name} db=2 resp={protocol}\n"),
        "(integer) 1\n(integer) 2\n(integer) 0\n",
        &message(0, "one"),
        &message(1, "caf\\xc3\\xa9"),
        &message(2, "three"),
        "(integer) 1\n(integer) 2\n",
        &message(3, "four"),
        "(nil)\n(error) CONS Cannot parse topics from `nonsense`\n\
         (error) PROD Broker: Invalid topic\nPONG\n",
        // A new connection would have none.
        &format!("\"{name}\"\n"),
    ];
    assert_eq!(said, expected.concat());

    let pop = format!("BLPOP 'topics:{topic}:{{\"barnabas.reply\":\"pair\"}}' 30\n");
    let push = |value: &str| format!("RPUSHX topics:{topic} {value}\n");
    let said = piped(
        protocol,
        &[
            &format!("CLIENT SETNAME {name}\n"),
            &pop,
            &push("five"),
            &pop,
            &pop.replace(" 30", " 0.1"),
            &push("six"),
            &pop,
            "RPUSH acks last\n",
        ]
        .concat(),
    );
    let pair = |value: &str| format!("1) \"topics:{topic}\"\n2) \"{value}\"\n");
    let one = "(integer) 1\n";
    let expected = [
        &format!("{ok}\n"),
        &pair("four"),
        one,
        &pair("five"),
        "(nil)\n",
        one,
        &pair("six"),
        one,
    ];
    assert_eq!(said, expected.concat());
    conversation.check_kafka();
}

#[test]
fn redis_cli_resp2() {
    hold(2);
}

#[test]
fn redis_cli_resp3() {
    hold(3);
}

/// Messages of redis-benchmark, all of which are in Kafka: exactly as many as it says.
fn measure(protocol: u8) {
    const COUNT: i64 = 2000;
    let topic = new_topic("redis-benchmark", 3);
    let benchmark = |arguments: &[&str]| {
        let mut command = tool("redis-benchmark");
        // Without -e an error reply ends it silently; with it, in words.
        command.args(["-e", "--csv", "--dbnum", "2", "-c", "10"]);
        if protocol == 3 {
            command.arg("-3");
        }
        command.args(arguments);
        output(command)
    };
    let said = benchmark(&["-n", "1000", "-t", "ping"]);
    assert!(said.contains("\"PING_INLINE\"") && said.contains("\"PING_MBULK\""));
    let key = format!("topics:{topic}");
    let count = COUNT.to_string();
    let said = benchmark(&["-n", &count, "rpushx", &key, "x"]);
    assert!(said.contains("rpushx topics:"), "{said}");
    let stored = || shared().end_offsets(&topic).unwrap().values().sum::<i64>();
    eventually("all are in Kafka", || (stored() >= COUNT).then_some(()));
    assert_eq!(stored(), COUNT);
    // As many connections as fill their last pipelines alike.
    benchmark(&["-n", &count, "-P", "20", "rpushx", &key, "x"]);
    eventually("all are in Kafka", || (stored() >= 2 * COUNT).then_some(()));
    assert_eq!(stored(), 2 * COUNT);
}

#[test]
fn redis_benchmark_resp2() {
    measure(2);
}

#[test]
fn redis_benchmark_resp3() {
    measure(3);
}
