//! Section 6: what RPUSHX and DUMP refuse, and with which words.

use crate::support::{Gateway, Value, encode, shared};
use barnabas_redis::Config;

#[test]
fn arguments_of_rpushx_are_checked() {
    let mut client = shared().connect();
    let form = "-PROD First argument must be in the form of 'topics:<topic>' or \
                'topics:<topic>:<key>'\r\n";
    let long = format!("RPUSHX topics:{} x", "t".repeat(250));
    for (command, reply) in [
        ("RPUSHX", "-PROD RPUSHX accepts 2 arguments, got 0\r\n"),
        (
            "rpushx topics:t",
            "-PROD RPUSHX accepts 2 arguments, got 1\r\n",
        ),
        ("RPUSHX topics x", form),
        ("RPUSHX topics:t:k:z x", form),
        (
            "RPUSHX topics: x",
            "-PROD Local: Invalid argument or configuration\r\n",
        ),
        (
            "RPUSHX topics::k x",
            "-PROD Local: Invalid argument or configuration\r\n",
        ),
        ("RPUSHX topics:a/b x", "-PROD Broker: Invalid topic\r\n"),
        ("RPUSHX topics:ü x", "-PROD Broker: Invalid topic\r\n"),
        (&long, "-PROD Broker: Invalid topic\r\n"),
    ] {
        client.ask(command, reply);
    }
}

#[test]
fn messages_are_accepted_one_or_many_at_a_time() {
    let mut client = shared().connect();
    client.ask("rpushx foo:accepted x", ":1\r\n");
    client.ask("RPUSHX topics:accepted:key x y z", ":3\r\n");
    client.ask_words(&["RPUSHX", "topics:accepted:", ""], ":1\r\n");
    client.ask("RPUSH topics:accepted x y", ":2\r\n");
    client.ask(
        "RPUSH topics:accepted",
        "-PROD RPUSHX accepts 2 arguments, got 1\r\n",
    );
    for key in ["topics:a:b:c", "topics"] {
        client.ask(
            &format!("RPUSH {key} x"),
            "-PROD First argument must be in the form of 'topics:<topic>' or \
             'topics:<topic>:<key>'\r\n",
        );
    }
    client.ask(
        "RPUSH foo:accepted x",
        "-CONS You can only RPUSH to the 'acks' key\r\n",
    );
    client.ask("RPUSH", "-CONS You can only RPUSH to the 'acks' key\r\n");
    client.ask("DUMP 10000", ":0\r\n");
}

#[test]
fn a_pipeline_answers_each_message() {
    let mut client = shared().connect();
    let too_large = "x".repeat(1_100_000);
    let mut input = Vec::new();
    for value in ["a", "b", &too_large, "c"] {
        input.extend(encode(&["RPUSHX", "topics:pipeline", value]));
    }
    input.extend(encode(&["PING"]));
    input.extend(encode(&["RPUSHX", "topics:pipeline-2", "d"]));
    input.extend(encode(&["RPUSHX", "bad", "e"]));
    client.send(&input);
    client.expect(
        ":1\r\n:1\r\n-PROD Broker: Message size too large\r\n:1\r\n+PONG\r\n:1\r\n\
         -PROD First argument must be in the form of 'topics:<topic>' or 'topics:<topic>:<key>'\r\n",
    );
    client.ask("DUMP 10000", ":0\r\n");
}

#[test]
fn dump_checks_its_argument_once_something_was_produced() {
    let mut client = shared().connect();
    for command in ["DUMP", "DUMP x", "DUMP 1 2"] {
        client.ask(command, ":0\r\n");
    }
    client.ask("RPUSHX topics:dumped x", ":1\r\n");
    client.ask("DUMP", "-PROD DUMP accepts 1 argument, got 0\r\n");
    client.ask("DUMP 1 2", "-PROD DUMP accepts 1 argument, got 2\r\n");
    client.ask("DUMP x", "-PROD NaN\r\n");
    client.ask("DUMP 9223372036854775808", "-PROD NaN\r\n");
    client.ask("DUMP 10000", ":0\r\n");
    client.ask("DUMP -1", ":0\r\n");
    client.ask("DUMP 0", ":0\r\n");
}

#[test]
fn counters_count() {
    let gateway = Gateway::start(Config::default());
    let mut client = gateway.connect();
    client.ask("RPUSHX topics:t a b c", ":3\r\n");
    client.ask("DUMP 10000", ":0\r\n");
    let stats = client.call("HGETALL stats");
    for (name, count) in [
        ("producer.messages.accepted", "3"),
        ("producer.messages.delivered", "3"),
        ("producer.messages.outstanding", "0"),
        ("producer.delivery.errors", "0"),
    ] {
        assert_eq!(stats.field(name), &Value::Bulk(count.to_owned()), "{name}");
    }
}
