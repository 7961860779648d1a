//! Section 11, row 1: each of these ended rafka's whole process. Here the
//! connection gets its answer, and nobody else notices.

use crate::support::{Client, Gateway, Value, shared, unique};
use barnabas_redis::Config;

/// Runs the fault while another connection works before, during and after.
fn beside_another(gateway: &Gateway, fault: impl FnOnce(&mut Client, &mut Client)) {
    let mut other = gateway.connect();
    other.ask("PING", "+PONG\r\n");
    let mut client = gateway.connect();
    fault(&mut client, &mut other);
    other.ask("PING", "+PONG\r\n");
    gateway.connect().ask("PING", "+PONG\r\n");
}

fn topic(gateway: &Gateway) -> String {
    let topic = unique("fault");
    gateway.kafka.create_topic(&topic, 1);
    topic
}

#[test]
fn blpop_with_timeout_zero_waits_for_a_message() {
    let gateway = shared();
    let topic = topic(gateway);
    let name = unique("g") + ":n";
    beside_another(gateway, |client, other| {
        client.ask(&format!("CLIENT SETNAME {name}"), "$2\r\nOK\r\n");
        client.send_words(&["BLPOP", &format!("topics:{topic}"), "0"]);
        other.ask(&format!("RPUSHX topics:{topic} x"), ":1\r\n");
        assert_eq!(client.value().field("value").text(), "x");
    });
}

#[test]
fn blpop_with_an_impossible_timeout_is_refused() {
    let gateway = shared();
    let topic = topic(gateway);
    let name = unique("g") + ":n";
    beside_another(gateway, |client, other| {
        client.ask(&format!("CLIENT SETNAME {name}"), "$2\r\nOK\r\n");
        for (timeout, text) in [
            ("-1", "ERR timeout is negative"),
            ("-0.5", "ERR timeout is negative"),
            ("9999999999", "ERR timeout is not a float or out of range"),
        ] {
            client.ask(
                &format!("BLPOP topics:{topic} {timeout}"),
                &format!("-{text}\r\n"),
            );
            other.ask("PING", "+PONG\r\n");
        }
    });
}

#[test]
fn empty_requests_are_skipped() {
    for input in ["*-1\r\n\r\n", "\n", "\r\n", "*-1\r\n"] {
        beside_another(shared(), |client, other| {
            client.send(input);
            other.ask("PING", "+PONG\r\n");
            client.ask("PING", "+PONG\r\n");
        });
    }
}

#[test]
fn a_name_with_a_bar_can_consume() {
    let gateway = shared();
    let topic = topic(gateway);
    let name = unique("a|b:c");
    beside_another(gateway, |client, _| {
        client.ask(&format!("CLIENT SETNAME {name}"), "$2\r\nOK\r\n");
        client.ask(&format!("BLPOP topics:{topic} 0.05"), "*-1\r\n");
    });
}

#[test]
fn a_watcher_that_was_named_may_leave() {
    let gateway = Gateway::start(Config::default());
    beside_another(&gateway, |client, other| {
        client.ask("MONITOR", "+OK\r\n");
        client.send_words(&["CLIENT", "SETNAME", "g:watcher"]);
        // The answer, then the line about itself.
        assert_eq!(client.value(), Value::Bulk("OK".to_owned()));
        assert!(
            client
                .value()
                .text()
                .ends_with(r#""CLIENT" "SETNAME" "g:watcher""#)
        );
        client.stream.shutdown(std::net::Shutdown::Both).unwrap();
        for _ in 0..10 {
            other.ask("PING", "+PONG\r\n");
        }
    });
}

/// What a client sets may concern its consumer, never the process: a signal
/// that ends it, code that is loaded into it.
#[test]
fn a_consumer_cannot_be_configured_to_harm_the_process() {
    let gateway = shared();
    let topic = topic(gateway);
    let name = unique("g") + ":n";
    beside_another(gateway, |client, other| {
        client.ask(&format!("CLIENT SETNAME {name}"), "$2\r\nOK\r\n");
        for (property, value) in [
            ("internal.termination.signal", "9"),
            ("{topic}.internal.termination.signal", "15"),
            ("plugin.library.paths", "libm.so.6"),
            ("ssl.engine.location", "libm.so.6"),
            ("test.mock.num.brokers", "3"),
        ] {
            let key = format!(r#"topics:{topic}:{{"{property}":"{value}"}}"#);
            client.send_words(&["BLPOP", &key, "0.1"]);
            let refused = client.value();
            let text = refused.text();
            assert!(
                text.starts_with("CONS Failed to register Consumer"),
                "{text}"
            );
            other.ask("PING", "+PONG\r\n");
        }
        client.ask(&format!("BLPOP topics:{topic} 0.05"), "*-1\r\n");
    });
}

#[test]
fn names_with_a_nul_name_nothing() {
    let gateway = shared();
    let topic = topic(gateway);
    let name = unique("g") + ":n";
    beside_another(gateway, |client, other| {
        client.ask(&format!("CLIENT SETNAME {name}"), "$2\r\nOK\r\n");
        client.send_words(&["BLPOP", &format!("topics:{topic},a\0b"), "0.1"]);
        let refused = client.value();
        let text = refused.text();
        assert!(
            text.starts_with("CONS Failed to register Consumer"),
            "{text}"
        );
        other.ask(&format!("RPUSHX topics:{topic} x"), ":1\r\n");
        client.send_words(&["BLPOP", &format!("topics:{topic}"), "60"]);
        assert_eq!(client.value().field("value").text(), "x");
        for position in [format!("{topic}\0c:0:0"), format!("{topic}:-1:0")] {
            client.ask_words(
                &["RPUSH", "acks", &position],
                "-CONS Local: Unknown partition\r\n",
            );
        }
    });
}

/// An error repeats what was sent, but not megabytes of it.
#[test]
fn error_texts_have_an_end() {
    beside_another(shared(), |client, _| {
        client.send_words(&[&"\x01".repeat(1_000_000)]);
        let refused = client.value();
        let text = refused.text();
        assert!(text.starts_with("ERR unknown command '\\x01"), "{text:.50}");
        assert!(
            text.len() < 300_000 && text.ends_with("..."),
            "{}",
            text.len()
        );
    });
}
