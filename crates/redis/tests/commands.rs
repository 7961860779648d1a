//! Section 3: the commands that rafka has, their errors included.

use crate::support::{Gateway, Value, bulk, encode, shared};
use barnabas_redis::Config;

#[test]
fn ping_echoes_a_message() {
    let mut client = shared().connect();
    client.ask("PING", "+PONG\r\n");
    client.ask("ping hello", "$5\r\nhello\r\n");
    client.ask_words(&["PING", ""], "$0\r\n\r\n");
    client.ask(
        "PING a b",
        "-ERR wrong number of arguments for 'ping' command\r\n",
    );
}

#[test]
fn quit_answers_and_drops_what_follows() {
    let mut client = shared().connect();
    client.send([encode(&["QUIT", "now"]), encode(&["PING"])].concat());
    client.expect("$2\r\nOK\r\n");
    client.expect_end();
    let mut client = shared().connect_resp3();
    client.ask("quit", "+OK\r\n");
    client.expect_end();
}

#[test]
fn unknown_commands_are_named() {
    let mut client = shared().connect();
    client.ask(
        "Foo bar",
        "-ERR unknown command 'Foo' (Command not supported: FOO)\r\n",
    );
    client.ask_words(
        &["a\r\nb"],
        "-ERR unknown command 'a\\x0d\\x0ab' (Command not supported: A\\x0d\\x0aB)\r\n",
    );
    client.ask_words(
        &[""],
        "-ERR unknown command '' (Command not supported: )\r\n",
    );
    for (command, shown) in [
        ("CLIENT", ""),
        ("CLIENT Foo", "Foo"),
        ("CLIENT TRACKING ON", "TRACKING"),
        ("CLIENT GETREDIR", "GETREDIR"),
        ("CLIENT PAUSE 10", "PAUSE"),
    ] {
        client.ask(
            command,
            &format!("-ERR unknown subcommand '{shown}'. Try CLIENT HELP.\r\n"),
        );
    }
}

#[test]
fn statistics_begin_with_what_rafka_has() {
    let gateway = Gateway::start(Config::default());
    let mut client = gateway.connect();
    client.send_words(&["HGETALL", "stats"]);
    client.expect(&format!(
        "*24\r\n{}$1\r\n0\r\n{}$1\r\n0\r\n{}$1\r\n0\r\n",
        bulk("producer.unflushed.messages"),
        bulk("producer.delivery.errors"),
        bulk("producer.unknown.events"),
    ));
    let rest: Vec<Value> = (0..18).map(|_| client.value()).collect();
    let names: Vec<&str> = rest.chunks(2).map(|pair| pair[0].text()).collect();
    assert_eq!(
        names,
        [
            "producer.messages.accepted",
            "producer.messages.delivered",
            "producer.messages.outstanding",
            "consumer.messages.delivered",
            "consumer.acks.stored",
            "consumer.errors",
            "server.connections",
            "server.commands",
            "server.monitor.dropped",
        ]
    );
    for pair in rest.chunks(2) {
        assert!(pair[1].text().parse::<u64>().is_ok(), "{pair:?}");
    }
    let mut client = gateway.connect_resp3();
    client.send_words(&["hgetall", "STATS", "ignored"]);
    client.expect("%12\r\n$27\r\nproducer.unflushed.messages\r\n");
}

#[test]
fn del_zeroes_the_counters() {
    let gateway = Gateway::start(Config::default());
    let mut client = gateway.connect();
    client.ask("RPUSHX topics:t a", ":1\r\n");
    client.ask("DUMP 10000", ":0\r\n");
    let accepted = |value: &Value| value.field("producer.messages.accepted").text().to_owned();
    assert_eq!(accepted(&client.call("HGETALL stats")), "1");
    client.ask("DEL stats other", ":1\r\n");
    let stats = client.call("HGETALL stats");
    assert_eq!(accepted(&stats), "0");
    assert_eq!(stats.field("server.connections").text(), "1");
    client.ask("RPUSHX topics:t a", ":1\r\n");
    client.ask("CONFIG RESETSTAT", "+OK\r\n");
    assert_eq!(accepted(&client.call("HGETALL stats")), "0");
}

#[test]
fn other_keys_have_no_statistics() {
    let mut client = shared().connect();
    for command in ["HGETALL", "DEL"] {
        client.ask(
            &format!("{command} foo"),
            "-ERR Expected key to be 'stats', got FOO\r\n",
        );
        client.ask(command, "-ERR Expected key to be 'stats', got \r\n");
    }
}

#[test]
fn a_connection_sees_its_own_account() {
    let mut client = shared().connect();
    client.ask(
        "HGETALL stats:connection",
        &format!(
            "*10\r\n{}{}{}{}{}{}{}{}{}{}",
            bulk("accepted"),
            bulk("0"),
            bulk("delivered"),
            bulk("0"),
            bulk("failed"),
            bulk("0"),
            bulk("outstanding"),
            bulk("0"),
            bulk("last_error"),
            bulk(""),
        ),
    );
    client.ask("RPUSHX topics:account a b", ":2\r\n");
    client.ask("DUMP 10000", ":0\r\n");
    let account = client.call("HGETALL stats:connection");
    assert_eq!(account.field("accepted").text(), "2");
    assert_eq!(account.field("delivered").text(), "2");
}

#[test]
fn keys_lists_topics() {
    let gateway = Gateway::start(Config::default());
    let mut client = gateway.connect();
    client.ask("KEYS topics:", "*0\r\n");
    for topic in ["orders", "audit", "offers"] {
        gateway.kafka.create_topic(topic, 1);
    }
    let (audit, offers, orders) = (
        bulk("topics:audit"),
        bulk("topics:offers"),
        bulk("topics:orders"),
    );
    let all = format!("*3\r\n{audit}{offers}{orders}");
    client.ask("KEYS topics:", &all);
    client.ask("keys * ignored", &all);
    client.ask("KEYS topics:o*", &format!("*2\r\n{offers}{orders}"));
    client.ask("KEYS topics:x*", "*0\r\n");
    client.ask(
        "KEYS foo",
        "-ERR Expected argument to be 'topics:', got foo\r\n",
    );
    client.ask("KEYS", "-ERR Expected argument to be 'topics:', got \r\n");
    // This word is case-sensitive.
    client.ask(
        "KEYS Topics:",
        "-ERR Expected argument to be 'topics:', got Topics:\r\n",
    );
}
