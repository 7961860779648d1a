//! Section 10: rafka-rb on the wire, and the reply forms of 13.1.

use crate::support::{Client, Gateway, bulk, shared, unique};
use barnabas_redis::{Config, ReplyForm};
use barnabas_testkit::Quickest;
use std::time::{Duration, Instant};

fn message(topic: &str, offset: u32, value: &str) -> String {
    format!(
        "*8\r\n$5\r\ntopic\r\n{}$9\r\npartition\r\n:0\r\n$6\r\noffset\r\n:{offset}\r\n$5\r\nvalue\r\n{}",
        bulk(topic),
        bulk(value)
    )
}

/// A topic of one partition with these messages.
fn filled(gateway: &Gateway, word: &str, values: &[&str]) -> String {
    let topic = unique(word);
    gateway.kafka.create_topic(&topic, 1);
    let mut producer = gateway.connect();
    for value in values {
        producer.ask_words(&["rpushx", &format!("topics:{topic}"), value], ":1\r\n");
    }
    producer.ask("dump 20000", ":0\r\n");
    topic
}

fn named(gateway: &Gateway) -> (Client, String) {
    // A group of its own: members of one group would wait for each other.
    let name = format!("{}:w-1", unique("billing"));
    let mut client = gateway.connect();
    client.ask(&format!("client setname {name}"), "$2\r\nOK\r\n");
    (client, name)
}

#[test]
fn the_transcript_of_rafka_rb() {
    let gateway = shared();
    let mut producer = gateway.connect();
    producer.ask("ping", "+PONG\r\n");
    let topic = filled(gateway, "orders", &["paid 17", "café", ""]);
    let (mut consumer, name) = named(gateway);
    let mut second = gateway.connect();
    second.ask(
        &format!("client setname {name}"),
        &format!("-CONS id {name} is already taken\r\n"),
    );
    let blpop = format!("blpop topics:{topic} 60");
    consumer.ask(&blpop, &message(&topic, 0, "paid 17"));
    consumer.ask(&format!("rpush acks {topic}:0:0"), ":1\r\n");
    consumer.ask(&blpop, &message(&topic, 1, "café"));
    consumer.ask(&blpop, &message(&topic, 2, ""));
    consumer.ask(&format!("rpush acks {topic}:0:1 {topic}:0:2"), ":2\r\n");
    consumer.ask("quit", "$2\r\nOK\r\n");
    consumer.expect_end();
    // The next of the group starts behind the last ack.
    producer.ask(&format!("rpushx topics:{topic} next"), ":1\r\n");
    second.ask(&format!("client setname {name}"), "$2\r\nOK\r\n");
    second.ask(&blpop, &message(&topic, 3, "next"));
    second.ask(&format!("blpop topics:{topic} 0.3"), "*-1\r\n");
}

#[test]
fn arguments_of_blpop_are_checked_in_order() {
    let gateway = shared();
    let topic = filled(gateway, "checked", &[]);
    let mut client = gateway.connect();
    for (command, reply) in [
        ("BLPOP foo -1", "-ERR timeout is negative\r\n"),
        (
            "BLPOP foo 2147483648",
            "-ERR timeout is not a float or out of range\r\n",
        ),
        ("BLPOP foo 1", "-CONS Cannot parse topics from `foo`\r\n"),
        (
            "BLPOP Topics:a 1",
            "-CONS Cannot parse topics from `Topics:a`\r\n",
        ),
        ("BLPOP", "-CONS Cannot parse topics from ``\r\n"),
        (
            "BLPOP topics:a 1",
            "-CONS Connection not ready. Identify yourself using `CLIENT SETNAME` first\r\n",
        ),
    ] {
        client.ask(command, reply);
    }
    let refused = client.call("BLPOP topics:a:{ 1");
    assert!(
        refused
            .text()
            .starts_with("CONS Error parsing configuration from '{'; "),
        "{refused:?}"
    );
    let (mut client, name) = named(gateway);
    for (key, reason) in [
        ("topics:", ""),
        ("topics:a,,b", ""),
        (r#"topics:a:{"no.such.property":1}"#, "no.such.property"),
        (r#"topics:a:{"barnabas.x":1}"#, "barnabas.x"),
    ] {
        let refused = client.call(&format!("BLPOP {key} 1"));
        let list = key.split(':').nth(1).unwrap();
        let start =
            format!("CONS Failed to register Consumer '{name}|{list}' for Client '{name}': ");
        let text = refused.text();
        assert!(text.starts_with(&start) && text.contains(reason), "{text}");
    }
    client.ask(&format!("BLPOP topics:{topic} 0.01"), "*-1\r\n");
    client.ask(
        "BLPOP topics:other 0.01",
        &format!(
            "-CONS Client '{name}' has Consumer '{name}|{topic}' registered (new consID: \
             '{name}|other')\r\n"
        ),
    );
}

#[test]
fn timeouts_are_seconds_with_decimals() {
    let gateway = shared();
    let topic = filled(gateway, "timed", &[]);
    let (mut client, _) = named(gateway);
    for (timeout, milliseconds) in [("0.05", 50), ("0.3", 300), ("1", 1_000), ("1.0", 1_000)] {
        let least = Duration::from_millis(milliseconds);
        // The bound of the contract is 50 ms; this machine may be busy.
        let mut quickest = Quickest::of(5, least + Duration::from_millis(500));
        while quickest.is_missing() {
            let from = Instant::now();
            client.ask(&format!("BLPOP topics:{topic} {timeout}"), "*-1\r\n");
            let elapsed = from.elapsed();
            assert!(elapsed >= least, "{timeout}: {elapsed:?}");
            quickest.took(elapsed);
        }
    }
    let mut client = gateway.connect_resp3();
    let name = format!("{}:n", unique("g"));
    client.ask(&format!("CLIENT SETNAME {name}"), "+OK\r\n");
    client.ask(&format!("BLPOP topics:{topic} 0.01"), "_\r\n");
}

#[test]
fn acks_are_checked_in_order() {
    let gateway = shared();
    let topic = filled(gateway, "acked", &["a"]);
    let (mut client, name) = named(gateway);
    for (command, reply) in [
        (
            "RPUSH foo a",
            "-CONS You can only RPUSH to the 'acks' key\r\n".to_owned(),
        ),
        ("RPUSH acks", "-CONS Cannot parse ack: ''\r\n".to_owned()),
        (
            "RPUSH acks t:0",
            "-CONS Cannot parse ack: 't:0'\r\n".to_owned(),
        ),
        (
            "RPUSH acks t:0:1 x",
            "-CONS Cannot parse ack: 'x'\r\n".to_owned(),
        ),
        (
            "RPUSH acks last",
            "-CONS Cannot parse ack: 'last'\r\n".to_owned(),
        ),
        (
            "RPUSH acks t:0:1",
            format!("-CONS No consumer registered for Client {name}\r\n"),
        ),
    ] {
        client.ask(command, &reply);
    }
    client.ask(
        &format!("BLPOP topics:{topic} 20"),
        &message(&topic, 0, "a"),
    );
    for (ack, reply) in [
        ("0:-2", "-CONS offset cannot be negative, got -1\r\n"),
        (
            "0:9223372036854775807",
            "-CONS offset cannot be negative, got -9223372036854775808\r\n",
        ),
        ("0:-1", ":1\r\n"),
        ("0:0", ":1\r\n"),
        ("7:0", "-CONS Local: Unknown partition\r\n"),
    ] {
        client.ask(&format!("RPUSH ACKS {topic}:{ack}"), reply);
    }
    client.ask("RPUSH acks nope:0:0", "-CONS Local: Unknown partition\r\n");
    client.ask("RPUSH acks last", ":1\r\n");
}

#[test]
fn a_pair_is_what_redis_answers() {
    let gateway = Gateway::start(Config {
        reply: ReplyForm::Pair,
        ..Config::default()
    });
    let topic = filled(&gateway, "pairs", &["one", "two"]);
    let (mut client, _) = named(&gateway);
    let key = bulk(&format!("topics:{topic}"));
    for value in ["one", "two"] {
        client.ask(
            &format!("BLPOP topics:{topic} 20"),
            &format!("*2\r\n{key}{}", bulk(value)),
        );
    }
}

#[test]
fn the_full_form_has_key_timestamp_and_headers() {
    let gateway = shared();
    let topic = filled(gateway, "full", &[]);
    let mut producer = gateway.connect();
    producer.ask(&format!("RPUSHX topics:{topic}:key value"), ":1\r\n");
    producer.ask("DUMP 20000", ":0\r\n");
    let (mut client, _) = named(gateway);
    let reply = client.call(&format!(
        r#"BLPOP topics:{topic}:{{"barnabas.reply":"full"}} 20"#
    ));
    assert_eq!(reply.elements().len(), 14);
    assert_eq!(reply.field("key").text(), "key");
    assert!(reply.field("timestamp").integer() > 0);
    assert!(reply.field("headers").elements().is_empty());
}

#[test]
fn a_stopping_server_says_so_to_consumers() {
    let gateway = Gateway::start(Config::default());
    let topic = filled(&gateway, "stopping", &[]);
    let (mut waiting, _) = named(&gateway);
    let mut plain = gateway.connect();
    plain.ask("PING", "+PONG\r\n");
    waiting.send_words(&["BLPOP", &format!("topics:{topic}"), "0"]);
    crate::support::eventually("the client waits", || {
        plain
            .call("INFO clients")
            .text()
            .contains("blocked_clients:1")
    });
    let drained = gateway.drain();
    waiting.expect("-CONS Server shutdown\r\n");
    waiting.expect_end();
    plain.expect_end();
    assert_eq!((drained.consumers_left, drained.connections_cut), (0, 0));
}
