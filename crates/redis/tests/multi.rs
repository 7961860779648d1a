//! Section 12: MULTI and EXEC.

use crate::support::{Value, encode, shared, unique};

#[test]
fn commands_are_queued_and_executed() {
    let mut client = shared().connect();
    client.ask("MULTI", "+OK\r\n");
    for command in [
        "PING",
        "ECHO a",
        "RPUSHX topics:multi x y",
        "RPUSHX topics",
        "GET x",
        "CLIENT GETNAME",
    ] {
        client.ask(command, "+QUEUED\r\n");
    }
    let address = client.address();
    client.ask(
        "EXEC",
        &format!(
            "*6\r\n+PONG\r\n$1\r\na\r\n:2\r\n-PROD RPUSHX accepts 2 arguments, got 1\r\n$-1\r\n\
             ${}\r\n{address}\r\n",
            address.len()
        ),
    );
    client.ask("PING", "+PONG\r\n");
    client.ask("MULTI", "+OK\r\n");
    client.ask("EXEC", "*0\r\n");
    client.ask("EXEC", "-ERR EXEC without MULTI\r\n");
    client.ask("DISCARD", "-ERR DISCARD without MULTI\r\n");
    client.ask("MULTI", "+OK\r\n");
    client.ask("PING", "+QUEUED\r\n");
    client.ask("DISCARD", "+OK\r\n");
    client.ask("EXEC", "-ERR EXEC without MULTI\r\n");
}

/// redis-py wraps every pipeline so.
#[test]
fn a_whole_transaction_comes_in_one_write() {
    let mut client = shared().connect();
    let mut input = encode(&["MULTI"]);
    let mut expected = "+OK\r\n".to_owned();
    for _ in 0..100 {
        input.extend(encode(&["RPUSHX", "topics:multi", "x"]));
        expected.push_str("+QUEUED\r\n");
    }
    input.extend(encode(&["EXEC"]));
    expected.push_str("*100\r\n");
    expected.push_str(&":1\r\n".repeat(100));
    client.send(&input);
    client.expect(&expected);
}

#[test]
fn a_refused_command_spoils_the_transaction() {
    let abort = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    let mut client = shared().connect();
    for (command, reply) in [
        (
            "foo",
            "-ERR unknown command 'foo' (Command not supported: FOO)\r\n",
        ),
        (
            "GET",
            "-ERR wrong number of arguments for 'get' command\r\n",
        ),
        (
            "CONFIG GET",
            "-ERR wrong number of arguments for 'config|get' command\r\n",
        ),
        (
            "CLIENT FOO",
            "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\r\n",
        ),
        (
            "SUBSCRIBE a",
            "-ERR Command not allowed inside a transaction\r\n",
        ),
        (
            "MONITOR",
            "-ERR Command not allowed inside a transaction\r\n",
        ),
    ] {
        client.ask("MULTI", "+OK\r\n");
        client.ask("PING", "+QUEUED\r\n");
        client.ask(command, reply);
        client.ask("PING", "+QUEUED\r\n");
        client.ask("EXEC", abort);
        client.ask("PING", "+PONG\r\n");
    }
}

#[test]
fn some_commands_are_never_queued() {
    let mut client = shared().connect();
    client.ask("WATCH a b", "+OK\r\n");
    client.ask("UNWATCH", "+OK\r\n");
    client.ask(
        "WATCH",
        "-ERR wrong number of arguments for 'watch' command\r\n",
    );
    client.ask("MULTI", "+OK\r\n");
    client.ask("MULTI", "-ERR MULTI calls can not be nested\r\n");
    client.ask("WATCH a", "-ERR WATCH inside MULTI is not allowed\r\n");
    client.ask("UNWATCH", "+QUEUED\r\n");
    client.ask("EXEC", "*1\r\n+OK\r\n");
    client.ask("MULTI", "+OK\r\n");
    client.ask("RESET", "+RESET\r\n");
    client.ask("EXEC", "-ERR EXEC without MULTI\r\n");
    client.ask("MULTI", "+OK\r\n");
    client.ask("QUIT", "$2\r\nOK\r\n");
    client.expect_end();
}

#[test]
fn no_message_is_waited_for_inside() {
    let gateway = shared();
    let topic = unique("waitless");
    gateway.kafka.create_topic(&topic, 1);
    let mut client = gateway.connect();
    client.ask(
        &format!("CLIENT SETNAME {}", unique("g") + ":n"),
        "$2\r\nOK\r\n",
    );
    client.ask("MULTI", "+OK\r\n");
    client.ask(&format!("BLPOP topics:{topic} 0"), "+QUEUED\r\n");
    client.ask(&format!("BLPOP topics:{topic} 1000"), "+QUEUED\r\n");
    client.ask("DUMP 100000", "+QUEUED\r\n");
    client.ask("EXEC", "*3\r\n*-1\r\n*-1\r\n:0\r\n");
}

#[test]
fn deliveries_are_waited_for_inside() {
    let gateway = shared();
    let topic = unique("waited");
    gateway.kafka.create_topic(&topic, 1);
    let mut client = gateway.connect();
    client.ask("MULTI", "+OK\r\n");
    client.ask(&format!("RPUSHX topics:{topic} x"), "+QUEUED\r\n");
    client.ask("DUMP 30000", "+QUEUED\r\n");
    client.ask("EXEC", "*2\r\n:1\r\n:0\r\n");
}

#[test]
fn the_protocol_may_change_inside() {
    let mut client = shared().connect();
    client.ask("MULTI", "+OK\r\n");
    client.ask("GET x", "+QUEUED\r\n");
    client.ask("HELLO 3", "+QUEUED\r\n");
    client.ask("GET x", "+QUEUED\r\n");
    let answers = client.call("EXEC");
    let answers = answers.elements();
    assert_eq!(answers.len(), 3);
    assert_eq!(answers[1].field("proto"), &Value::Integer(3));
    client.ask("GET x", "_\r\n");
}

#[test]
fn a_transaction_is_limited() {
    let abort = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    let too_large = "-ERR Transaction is too large\r\n";
    let mut client = shared().connect();
    client.ask("MULTI", "+OK\r\n");
    for _ in 0..10 {
        client.send(encode(&["PING"]).repeat(1_000));
        client.expect(&"+QUEUED\r\n".repeat(1_000));
    }
    client.ask("PING", too_large);
    client.ask("EXEC", abort);
    // As many as allowed.
    client.ask("MULTI", "+OK\r\n");
    for _ in 0..10 {
        client.send(encode(&["PING"]).repeat(1_000));
        client.expect(&"+QUEUED\r\n".repeat(1_000));
    }
    client.send_words(&["EXEC"]);
    client.expect(&format!("*10000\r\n{}", "+PONG\r\n".repeat(10_000)));
    // Bytes.
    let large = "x".repeat(32_000_000);
    client.ask("MULTI", "+OK\r\n");
    client.ask(&format!("ECHO {large}"), "+QUEUED\r\n");
    client.ask(&format!("ECHO {large}"), "+QUEUED\r\n");
    client.ask(&format!("ECHO {large}"), too_large);
    client.ask("EXEC", abort);
}
