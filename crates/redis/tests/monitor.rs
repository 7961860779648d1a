//! Section 7: MONITOR.

use crate::support::{Gateway, Value, encode, unique};
use barnabas_redis::{Config, Secret};

/// Splits a line into its time, the issuer and the rest.
#[track_caller]
fn parts(line: &Value) -> (String, String) {
    let Value::Simple(line) = line else {
        panic!("{line:?} is no simple string");
    };
    let (time, rest) = line.split_once(" [0 ").unwrap();
    let (seconds, micros) = time.split_once('.').unwrap();
    assert!(seconds.parse::<u64>().unwrap() > 1_600_000_000, "{line}");
    assert!(micros.len() == 6 && micros.parse::<u32>().is_ok(), "{line}");
    let (issuer, command) = rest.split_once("] ").unwrap();
    (issuer.to_owned(), command.to_owned())
}

#[test]
fn every_command_of_everybody_is_shown_escaped() {
    let gateway = Gateway::start(Config::default());
    for mut watcher in [gateway.connect(), gateway.connect_resp3()] {
        watcher.ask("MONITOR", "+OK\r\n");
        let mut client = gateway.connect();
        let address = client.address();
        let long = "x".repeat(1_025);
        let name = unique("g:n");
        client.ask_words(&["ping", "a\"\r\n\\é"], "$7\r\na\"\r\n\\é\r\n");
        client.ask_words(&["ECHO", &long], &format!("$1025\r\n{long}\r\n"));
        client.ask(
            "NoSuch",
            "-ERR unknown command 'NoSuch' (Command not supported: NOSUCH)\r\n",
        );
        client.ask(&format!("CLIENT SETNAME {name}"), "$2\r\nOK\r\n");
        client.send(
            [
                encode(&["RPUSHX", "topics:t", "1"]),
                encode(&["RPUSHX", "topics:t", "2"]),
            ]
            .concat(),
        );
        client.expect(":1\r\n:1\r\n");
        for (issuer, command) in [
            (&address, r#""ping" "a\"\r\n\\\xc3\xa9""#),
            (&address, &format!("\"ECHO\" \"{}...\"", "x".repeat(1_024))),
            (&address, r#""NoSuch""#),
            (&address, &format!(r#""CLIENT" "SETNAME" "{name}""#)),
            (&name, r#""RPUSHX" "topics:t" "1""#),
            (&name, r#""RPUSHX" "topics:t" "2""#),
        ] {
            let shown = parts(&watcher.value());
            assert_eq!(shown, (issuer.clone(), command.to_owned()));
        }
        gateway.connect().ask("MONITOR", "+OK\r\n");
        assert_eq!(parts(&watcher.value()).1, "\"MONITOR\"");
        // Its own commands too, after their replies; but not MONITOR.
        watcher.ask("MONITOR", "+OK\r\n");
        watcher.ask("PING", "+PONG\r\n");
        assert_eq!(parts(&watcher.value()).1, "\"PING\"");
        watcher.ask(
            "MONITOR x",
            "-ERR command 'monitor' does not accept any extra arguments\r\n",
        );
        watcher.ask("RESET", "+RESET\r\n");
        watcher.ask("PING", "+PONG\r\n");
        client.ask("PING", "+PONG\r\n");
        watcher.ask("PING", "+PONG\r\n");
    }
}

#[test]
fn passwords_are_not_shown() {
    let gateway = Gateway::start(Config {
        password: Some(Secret::new("secret".to_owned())),
        ..Config::default()
    });
    let mut watcher = gateway.connect();
    watcher.ask("AUTH secret", "+OK\r\n");
    watcher.ask("MONITOR", "+OK\r\n");
    let mut client = gateway.connect();
    client.call("auth secret");
    client.call("AUTH default wrong");
    client.call("HELLO 2 AUTH default secret");
    for expected in [
        r#""auth" "(redacted)""#,
        r#""AUTH" "(redacted)" "(redacted)""#,
        r#""HELLO" "2" "AUTH" "(redacted)" "(redacted)""#,
    ] {
        assert_eq!(parts(&watcher.value()).1, expected);
    }
}

#[test]
fn a_watcher_that_does_not_read_loses_lines_and_hinders_nobody() {
    let gateway = Gateway::start(Config::default());
    let mut watcher = gateway.connect();
    watcher.ask("MONITOR", "+OK\r\n");
    let mut client = gateway.connect();
    let echo = "x".repeat(1_000);
    let batch = encode(&["ECHO", &echo]).repeat(1_000);
    let answer = format!("$1000\r\n{echo}\r\n").repeat(1_000);
    let dropped = |client: &mut crate::support::Client| {
        let stats = client.call("HGETALL stats");
        stats
            .field("server.monitor.dropped")
            .text()
            .parse::<u64>()
            .unwrap()
    };
    crate::support::eventually("lines are dropped", || {
        client.send(&batch);
        client.expect(&answer);
        dropped(&mut client) > 0
    });
    // What it does read is whole.
    for _ in 0..1_000 {
        assert!(!parts(&watcher.value()).1.is_empty());
    }
}
