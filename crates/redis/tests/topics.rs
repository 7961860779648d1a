//! Section 12: topics as keys.

use crate::support::{Gateway, bulk};
use barnabas_redis::Config;

#[test]
fn topics_are_keys() {
    let gateway = Gateway::start(Config::default());
    let mut client = gateway.connect();
    client.ask("DBSIZE", ":0\r\n");
    client.ask("SCAN 0", "*2\r\n$1\r\n0\r\n*0\r\n");
    gateway.kafka.create_topic("orders", 4);
    gateway.kafka.create_topic("audit", 1);
    client.ask("DBSIZE", ":2\r\n");
    let (audit, orders) = (bulk("topics:audit"), bulk("topics:orders"));
    let both = format!("*2\r\n$1\r\n0\r\n*2\r\n{audit}{orders}");
    let nothing = "*2\r\n$1\r\n0\r\n*0\r\n";
    for (command, reply) in [
        ("SCAN 0", both.as_str()),
        ("scan 0 count 1 type stream", &both),
        (
            "SCAN 0 MATCH topics:o*",
            &format!("*2\r\n$1\r\n0\r\n*1\r\n{orders}"),
        ),
        ("SCAN 0 TYPE list", nothing),
        ("SCAN 5", nothing),
        ("SCAN x", "-ERR invalid cursor\r\n"),
        ("SCAN 0 MATCH", "-ERR syntax error\r\n"),
        ("SCAN 0 COUNT 0", "-ERR syntax error\r\n"),
        (
            "SCAN 0 COUNT x",
            "-ERR value is not an integer or out of range\r\n",
        ),
        (
            "SCAN",
            "-ERR wrong number of arguments for 'scan' command\r\n",
        ),
        (
            "EXISTS topics:orders topics:nope topics:orders orders",
            ":2\r\n",
        ),
        ("TYPE topics:orders", "+stream\r\n"),
        ("TYPE orders", "+none\r\n"),
        ("TTL topics:orders", ":-1\r\n"),
        ("TTL topics:nope", ":-2\r\n"),
        ("PTTL topics:orders", ":-1\r\n"),
        ("PTTL x", ":-2\r\n"),
        ("GET topics:orders", "$-1\r\n"),
        (
            "GET",
            "-ERR wrong number of arguments for 'get' command\r\n",
        ),
        ("LLEN topics:nope", ":0\r\n"),
        ("LLEN orders", ":0\r\n"),
        ("LLEN topics:orders", ":0\r\n"),
    ] {
        client.ask(command, reply);
    }
    // Asking created nothing.
    client.ask("DBSIZE", ":2\r\n");
    let mut client = gateway.connect_resp3();
    client.ask("SCAN 0", &both);
    client.ask("GET x", "_\r\n");
}

#[test]
fn llen_sums_over_partitions() {
    let gateway = Gateway::start(Config::default());
    gateway.kafka.create_topic("orders", 4);
    let mut client = gateway.connect();
    for key in ["k", "k1", "kk", "user-42", "another"] {
        client.ask(&format!("RPUSHX topics:orders:{key} x y"), ":2\r\n");
    }
    client.ask("DUMP 10000", ":0\r\n");
    client.ask("LLEN topics:orders", ":10\r\n");
}

#[test]
fn questions_of_many_connections_are_all_answered() {
    let gateway = Gateway::start(Config::default());
    gateway.kafka.create_topic("orders", 4);
    let mut clients: Vec<_> = (0..20).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        client.send_words(&["LLEN", "topics:orders"]);
    }
    for client in &mut clients {
        client.expect(":0\r\n");
    }
}
