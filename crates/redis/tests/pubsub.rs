//! Section 12: subscriptions are confirmed, and nothing is ever published.

use crate::support::{Value, shared};

fn confirmation(head: char, word: &str, channel: &str, count: u32) -> String {
    format!(
        "{head}3\r\n${}\r\n{word}\r\n${}\r\n{channel}\r\n:{count}\r\n",
        word.len(),
        channel.len()
    )
}

#[test]
fn subscriptions_are_confirmed_one_by_one() {
    for (mut client, head, null) in [
        (shared().connect(), '*', "$-1"),
        (shared().connect_resp3(), '>', "_"),
    ] {
        let reply =
            |word: &str, channel: &str, count: u32| confirmation(head, word, channel, count);
        client.ask(
            "SUBSCRIBE a b a",
            &[
                reply("subscribe", "a", 1),
                reply("subscribe", "b", 2),
                reply("subscribe", "a", 2),
            ]
            .concat(),
        );
        client.ask("psubscribe p*", &reply("psubscribe", "p*", 3));
        client.ask(
            "UNSUBSCRIBE x a",
            &[reply("unsubscribe", "x", 3), reply("unsubscribe", "a", 2)].concat(),
        );
        client.ask("UNSUBSCRIBE", &reply("unsubscribe", "b", 1));
        client.ask(
            "UNSUBSCRIBE",
            &format!("{head}3\r\n$11\r\nunsubscribe\r\n{null}\r\n:1\r\n"),
        );
        client.ask("PUNSUBSCRIBE", &reply("punsubscribe", "p*", 0));
        client.ask(
            "PUNSUBSCRIBE",
            &format!("{head}3\r\n$12\r\npunsubscribe\r\n{null}\r\n:0\r\n"),
        );
        client.ask("PUNSUBSCRIBE q", &reply("punsubscribe", "q", 0));
        client.ask(
            "SUBSCRIBE",
            "-ERR wrong number of arguments for 'subscribe' command\r\n",
        );
        client.ask("PING", "+PONG\r\n");
    }
}

#[test]
fn in_resp2_a_subscriber_may_do_little_else() {
    let mut client = shared().connect();
    client.ask("SUBSCRIBE a", &confirmation('*', "subscribe", "a", 1));
    client.ask("PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    client.ask("PING hi", "*2\r\n$4\r\npong\r\n$2\r\nhi\r\n");
    for command in [
        "GET x",
        "rpushx topics:t x",
        "MULTI",
        "CLIENT ID",
        "HELLO 3",
    ] {
        let name = command.split(' ').next().unwrap().to_lowercase();
        client.ask(
            command,
            &format!(
                "-ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / \
                 QUIT / RESET are allowed in this context\r\n"
            ),
        );
    }
    client.ask("UNSUBSCRIBE a", &confirmation('*', "unsubscribe", "a", 0));
    client.ask("GET x", "$-1\r\n");
    client.ask("SUBSCRIBE a", &confirmation('*', "subscribe", "a", 1));
    client.ask("RESET", "+RESET\r\n");
    client.ask("GET x", "$-1\r\n");
    client.ask("SUBSCRIBE a", &confirmation('*', "subscribe", "a", 1));
    client.ask("QUIT", "$2\r\nOK\r\n");
    client.expect_end();
}

#[test]
fn in_resp3_a_subscriber_may_do_everything() {
    let mut client = shared().connect_resp3();
    client.ask("SUBSCRIBE a", &confirmation('>', "subscribe", "a", 1));
    client.ask("PING", "+PONG\r\n");
    client.ask("GET x", "_\r\n");
    client.ask("rpushx topics:subscriber x", ":1\r\n");
}

#[test]
fn subscriptions_are_limited() {
    let mut client = shared().connect_resp3();
    let names: Vec<String> = (0..1_023).map(|number| number.to_string()).collect();
    client.ask_words(
        &[
            &["SUBSCRIBE"][..],
            &names.iter().map(String::as_str).collect::<Vec<_>>(),
        ]
        .concat(),
        &names
            .iter()
            .enumerate()
            .map(|(index, name)| confirmation('>', "subscribe", name, index as u32 + 1))
            .collect::<String>(),
    );
    client.ask(
        "SUBSCRIBE last",
        &confirmation('>', "subscribe", "last", 1_024),
    );
    client.ask("PSUBSCRIBE more", "-ERR too many subscriptions\r\n");
    let long = "x".repeat(65_537);
    let mut client = shared().connect();
    client.ask(
        &format!("SUBSCRIBE {long}"),
        "-ERR too many subscriptions\r\n",
    );
    assert_eq!(client.call("PING"), Value::Simple("PONG".to_owned()));
}
