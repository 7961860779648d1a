//! Section 11: how many connections there may be.

use crate::support::{Gateway, eventually};
use barnabas_redis::Config;

#[test]
fn one_connection_too_many_is_told_so() {
    let gateway = Gateway::start(Config {
        max_connections: 2,
        ..Config::default()
    });
    let mut first = gateway.connect();
    first.ask("PING", "+PONG\r\n");
    let mut second = gateway.connect();
    second.ask("PING", "+PONG\r\n");
    let mut third = gateway.connect();
    third.expect("-ERR max number of clients reached\r\n");
    third.expect_end();
    second.ask("QUIT", "$2\r\nOK\r\n");
    second.expect_end();
    eventually("the place is free", || {
        first
            .call("INFO clients")
            .text()
            .contains("connected_clients:1")
    });
    let mut fourth = gateway.connect();
    fourth.ask("PING", "+PONG\r\n");
}

#[test]
fn connections_that_come_one_by_one_never_count_twice() {
    let gateway = Gateway::start(Config {
        max_connections: 1,
        ..Config::default()
    });
    for _ in 0..100 {
        let mut client = gateway.connect();
        client.ask("PING", "+PONG\r\n");
        client.ask("QUIT", "$2\r\nOK\r\n");
        client.expect_end();
    }
}
