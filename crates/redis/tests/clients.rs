//! Section 12: CLIENT and its subcommands.

use crate::support::{Client, Gateway, encode, eventually, shared, unique};
use barnabas_redis::Config;
use std::io::Write;
use std::time::{Duration, Instant};

fn field<'a>(line: &'a str, name: &str) -> &'a str {
    line.split(' ')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("no {name} in {line}"))
}

fn info(client: &mut Client) -> String {
    client.call("CLIENT INFO").text().trim_end().to_owned()
}

#[test]
fn info_describes_the_connection() {
    let gateway = shared();
    let connected = Instant::now();
    let mut client = gateway.connect();
    let id = client.call("CLIENT ID").integer();
    let line = info(&mut client);
    // In seconds; the machine may have stood still for some.
    let age: u64 = field(&line, "age").parse().unwrap();
    let idle: u64 = field(&line, "idle").parse().unwrap();
    assert!(idle <= age, "{line}");
    assert!(age <= connected.elapsed().as_secs(), "{line}");
    assert_eq!(
        line,
        format!(
            "id={id} addr={} name= age={age} idle={idle} flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 \
             qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 \
             events=r cmd=client|info user=default redir=-1 resp=2 lib-name= lib-ver= topics=",
            client.address()
        )
    );
    let name = unique("g:n");
    client.ask(&format!("CLIENT SETNAME {name}"), "$2\r\nOK\r\n");
    client.ask("SELECT 2", "+OK\r\n");
    client.ask(
        "CLIENT SETINFO LIB-NAME redis-client(redis-rb_v6.0.0)",
        "+OK\r\n",
    );
    client.ask("client setinfo lib-ver 0.26.1", "+OK\r\n");
    let line = info(&mut client);
    assert_eq!(field(&line, "name"), name);
    assert_eq!(field(&line, "db"), "2");
    assert_eq!(field(&line, "lib-name"), "redis-client(redis-rb_v6.0.0)");
    assert_eq!(field(&line, "lib-ver"), "0.26.1");
    // Verbatim in RESP3.
    let mut client = shared().connect_resp3();
    client.send_words(&["CLIENT", "INFO"]);
    assert!(client.peek_line().starts_with('='));
    assert_eq!(field(client.value().text(), "resp"), "3");
}

#[test]
fn list_shows_what_everybody_does() {
    let gateway = Gateway::start(Config::default());
    gateway.kafka.create_topic("listed", 1);
    let mut consumer = gateway.connect();
    consumer.ask("CLIENT SETNAME my:consumer", "$2\r\nOK\r\n");
    consumer.send_words(&["BLPOP", "topics:listed", "60"]);
    let mut subscriber = gateway.connect();
    subscriber.ask(
        "PSUBSCRIBE a*",
        "*3\r\n$10\r\npsubscribe\r\n$2\r\na*\r\n:1\r\n",
    );
    let mut queuing = gateway.connect();
    queuing.ask("MULTI", "+OK\r\n");
    queuing.ask("PING", "+QUEUED\r\n");
    let mut watcher = gateway.connect();
    watcher.ask("MONITOR", "+OK\r\n");
    let mut client = gateway.connect();
    let mut lines = Vec::new();
    eventually("the consumer waits", || {
        let text = client.call("CLIENT LIST").text().to_owned();
        lines = text.lines().map(str::to_owned).collect();
        field(&lines[0], "flags") == "b"
    });
    assert_eq!(lines.len(), 5);
    let column = |name: &str| -> Vec<&str> { lines.iter().map(|line| field(line, name)).collect() };
    assert_eq!(column("id"), ["1", "2", "3", "4", "5"]);
    assert_eq!(column("name"), ["my:consumer", "", "", "", ""]);
    assert_eq!(column("topics"), ["listed", "", "", "", ""]);
    assert_eq!(column("flags"), ["b", "P", "x", "O", "N"]);
    assert_eq!(column("psub"), ["0", "1", "0", "0", "0"]);
    assert_eq!(column("multi"), ["-1", "-1", "1", "-1", "-1"]);
    assert_eq!(
        column("cmd"),
        ["blpop", "psubscribe", "multi", "monitor", "client|list"]
    );
    let ids = |client: &mut Client, command: &str| -> Vec<String> {
        let text = client.call(command).text().to_owned();
        text.lines()
            .map(|line| field(line, "id").to_owned())
            .collect()
    };
    assert_eq!(ids(&mut client, "CLIENT LIST TYPE pubsub"), ["2"]);
    assert_eq!(
        ids(&mut client, "CLIENT LIST type NORMAL"),
        ["1", "3", "4", "5"]
    );
    assert_eq!(ids(&mut client, "CLIENT LIST ID 4 1 77"), ["1", "4"]);
    client.ask("CLIENT LIST TYPE replica", "$0\r\n\r\n");
    client.ask("CLIENT LIST TYPE foo", "-ERR Unknown client type 'foo'\r\n");
    client.ask("CLIENT LIST ID x", "-ERR Invalid client ID\r\n");
    client.ask("CLIENT LIST FOO", "-ERR syntax error\r\n");
}

#[test]
fn kill_ends_others() {
    let gateway = Gateway::start(Config::default());
    let mut client = gateway.connect();
    let mut victim = gateway.connect();
    victim.ask("PING", "+PONG\r\n");
    let address = victim.address();
    client.ask(&format!("CLIENT KILL {address}"), "+OK\r\n");
    victim.expect_end();
    eventually("it is gone", || {
        client.call(&format!("CLIENT KILL {address}")).text() == "ERR No such client"
    });
    let mut victim = gateway.connect();
    let id = victim.call("CLIENT ID").integer();
    client.ask(&format!("CLIENT KILL ID {id}"), ":1\r\n");
    victim.expect_end();
    let mut victim = gateway.connect();
    victim.ask("CLIENT SETNAME g:victim", "$2\r\nOK\r\n");
    let address = victim.address();
    gateway.kafka.create_topic("killed", 1);
    victim.send_words(&["BLPOP", "topics:killed", "0"]);
    eventually("it waits", || {
        client
            .call("INFO clients")
            .text()
            .contains("blocked_clients:1")
    });
    client.ask(&format!("CLIENT KILL ADDR {address} SKIPME yes"), ":1\r\n");
    victim.expect("*-1\r\n");
    victim.expect_end();
    client.ask("CLIENT SETNAME g:victim", "$2\r\nOK\r\n");
    for (command, text) in [
        (
            "CLIENT KILL",
            "ERR wrong number of arguments for 'client|kill' command",
        ),
        ("CLIENT KILL nobody", "ERR No such client"),
        ("CLIENT KILL ID 0", "ERR client-id should be greater than 0"),
        ("CLIENT KILL ID 1 ADDR", "ERR syntax error"),
        ("CLIENT KILL TYPE foo", "ERR Unknown client type 'foo'"),
        ("CLIENT KILL USER foo", "ERR No such user 'foo'"),
    ] {
        client.ask(command, &format!("-{text}\r\n"));
    }
    client.ask("CLIENT KILL ID 99999", ":0\r\n");
}

#[test]
fn a_client_that_does_not_read_can_be_killed() {
    let gateway = Gateway::start(Config::default());
    let mut victim = gateway.connect();
    victim.ask("CLIENT SETNAME g:victim", "$2\r\nOK\r\n");
    let id = victim.call("CLIENT ID").integer();
    // More replies than the sockets hold, none of them read.
    let echo = encode(&["ECHO", &"x".repeat(1_000_000)]);
    victim
        .stream
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    while victim.stream.write_all(&echo).is_ok() {}
    let mut client = gateway.connect();
    let from = Instant::now();
    client.ask(&format!("CLIENT KILL ID {id}"), ":1\r\n");
    eventually("its name is free", || {
        client.call("CLIENT SETNAME g:victim").text() == "OK"
    });
    assert!(
        from.elapsed() < Duration::from_secs(10),
        "{:?}",
        from.elapsed()
    );
}

#[test]
fn who_kills_themselves_is_answered_first() {
    let mut client = shared().connect();
    let id = client.call("CLIENT ID").integer();
    client.ask(&format!("CLIENT KILL ID {id}"), ":0\r\n");
    client.ask(&format!("CLIENT KILL ID {id} SKIPME no"), ":1\r\n");
    client.expect_end();
    let mut client = shared().connect();
    client.ask(&format!("CLIENT KILL {}", client.address()), "+OK\r\n");
    client.expect_end();
}

#[test]
fn switches_without_effect_are_accepted() {
    let mut client = shared().connect();
    for (command, reply) in [
        ("CLIENT NO-EVICT on", "+OK"),
        ("CLIENT NO-EVICT x", "-ERR syntax error"),
        ("CLIENT NO-TOUCH OFF", "+OK"),
        ("CLIENT REPLY ON", "+OK"),
        ("CLIENT REPLY OFF", "-ERR syntax error"),
        ("CLIENT UNPAUSE", "+OK"),
        ("CLIENT SETINFO FOO x", "-ERR Unrecognized option 'FOO'"),
        (
            "CLIENT SETINFO LIB-NAME",
            "-ERR wrong number of arguments for 'client|setinfo' command",
        ),
        (
            "CLIENT REPLY",
            "-ERR wrong number of arguments for 'client|reply' command",
        ),
    ] {
        client.ask(command, &format!("{reply}\r\n"));
    }
    client.ask_words(
        &["CLIENT", "SETINFO", "LIB-NAME", "a b"],
        "-ERR lib-name cannot contain spaces, newlines or special characters.\r\n",
    );
    let help = client.call("CLIENT HELP");
    assert_eq!(
        help.elements()[0].text(),
        "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    );
}
