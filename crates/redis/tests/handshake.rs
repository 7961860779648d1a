//! Section 12: HELLO, AUTH, SELECT, ECHO, TIME, RESET.

use crate::support::{Client, Gateway, Value, bulk, shared, unique};
use barnabas_redis::{Config, Secret};
use std::time::{SystemTime, UNIX_EPOCH};

const WRONGPASS: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
const NOAUTH: &str = "-NOAUTH Authentication required.\r\n";

pub(crate) fn with_passwords() -> Gateway {
    let mut config = Config {
        password: Some(Secret::new("secret".to_owned())),
        ..Config::default()
    };
    let app = Secret::new("other".to_owned());
    config.users.insert("app".to_owned(), app);
    Gateway::start(config)
}

fn hello(client: &mut Client, head: &str, version: u8) -> String {
    let id = client.call("CLIENT ID").integer();
    format!(
        "{head}$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.4.0\r\n\
         $5\r\nproto\r\n:{version}\r\n$2\r\nid\r\n:{id}\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n\
         $4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
    )
}

#[test]
fn hello_answers_in_the_protocol_it_chooses() {
    let mut client = shared().connect();
    let resp2 = hello(&mut client, "*14\r\n", 2);
    let resp3 = hello(&mut client, "%7\r\n", 3);
    client.ask("HELLO", &resp2);
    client.ask("HELLO 3", &resp3);
    client.ask("hello", &resp3);
    client.ask("HELLO 2", &resp2);
}

#[test]
fn a_refused_hello_changes_nothing() {
    let holder_name = unique("g") + ":n";
    let mut holder = shared().connect();
    holder.ask(&format!("CLIENT SETNAME {holder_name}"), "$2\r\nOK\r\n");
    let mut client = shared().connect();
    let address = bulk(&client.address());
    let taken = format!("HELLO 3 SETNAME {holder_name}");
    for (command, text) in [
        ("HELLO 4", "NOPROTO unsupported protocol version"),
        ("HELLO 1 FOO", "NOPROTO unsupported protocol version"),
        (
            "HELLO x",
            "ERR Protocol version is not an integer or out of range",
        ),
        ("HELLO 3 FOO", "ERR Syntax error in HELLO option 'FOO'"),
        ("HELLO 3 AUTH a", "ERR Syntax error in HELLO option 'AUTH'"),
        (
            "HELLO 3 SETNAME",
            "ERR Syntax error in HELLO option 'SETNAME'",
        ),
        (
            "HELLO 3 AUTH nobody x SETNAME a:b",
            "WRONGPASS invalid username-password pair or user is disabled.",
        ),
        ("HELLO 3 SETNAME nocolon", "CONS Cannot parse group.id"),
        (
            taken.as_str(),
            &format!("CONS id {holder_name} is already taken"),
        ),
    ] {
        client.ask(command, &format!("-{text}\r\n"));
        // Still RESP2, still anonymous.
        client.ask("CLIENT GETNAME", &address);
        client.ask("GET x", "$-1\r\n");
    }
}

#[test]
fn hello_names_the_connection() {
    let name = unique("g") + ":n";
    let mut client = shared().connect_resp3();
    let answer = client.call(&format!("HELLO 3 AUTH default any SETNAME {name}"));
    assert_eq!(answer.field("proto"), &Value::Integer(3));
    client.ask("CLIENT GETNAME", &bulk(&name));
    // go-redis names itself twice.
    client.ask(&format!("CLIENT SETNAME {name}"), "+OK\r\n");
}

#[test]
fn without_passwords_auth_says_so() {
    let mut client = shared().connect();
    client.ask(
        "AUTH x",
        "-ERR AUTH <password> called without any password configured for the default user. Are \
         you sure your configuration is correct?\r\n",
    );
    client.ask("AUTH default x", "+OK\r\n");
    client.ask("AUTH other x", WRONGPASS);
    client.ask("AUTH a b c", "-ERR syntax error\r\n");
    client.ask(
        "AUTH",
        "-ERR wrong number of arguments for 'auth' command\r\n",
    );
    client.ask("ACL WHOAMI", "$7\r\ndefault\r\n");
}

#[test]
fn before_login_only_four_commands_work() {
    let gateway = with_passwords();
    let mut client = gateway.connect();
    for command in [
        "PING",
        "FOO",
        "RPUSHX topics:t x",
        "CLIENT ID",
        "SELECT 0",
        "MULTI",
    ] {
        client.ask(command, NOAUTH);
    }
    let login_first = "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO \
         <proto> AUTH <user> <pass> option can be used to authenticate the client and select the \
         RESP protocol version at the same time\r\n";
    client.ask("HELLO", login_first);
    client.ask("HELLO 3", login_first);
    client.ask("HELLO 3 SETNAME a:b", login_first);
    client.ask("RESET", "+RESET\r\n");
    client.ask("QUIT", "$2\r\nOK\r\n");
    client.expect_end();
}

#[test]
fn passwords_are_checked() {
    let gateway = with_passwords();
    let mut client = gateway.connect();
    for wrong in [
        "AUTH wrong",
        "AUTH default other",
        "AUTH app secret",
        "AUTH nobody other",
    ] {
        client.ask(wrong, WRONGPASS);
        client.ask("PING", NOAUTH);
    }
    client.ask("AUTH secret", "+OK\r\n");
    client.ask("PING", "+PONG\r\n");
    // A failed login leaves the one that is there.
    client.ask("AUTH wrong", WRONGPASS);
    client.ask("PING", "+PONG\r\n");
    client.ask("AUTH app other", "+OK\r\n");
    client.ask("ACL WHOAMI", "$3\r\napp\r\n");
    client.ask("RESET", "+RESET\r\n");
    client.ask("PING", NOAUTH);
    client.ask("HELLO 3 AUTH default wrong", WRONGPASS);
    client.ask("PING", NOAUTH);
    let answer = client.call("HELLO 3 AUTH default secret");
    assert_eq!(answer.field("proto"), &Value::Integer(3));
    client.ask("GET x", "_\r\n");
}

#[test]
fn a_hello_whose_name_is_refused_does_not_log_in() {
    let gateway = with_passwords();
    let mut client = gateway.connect();
    client.ask(
        "HELLO 3 AUTH default secret SETNAME nocolon",
        "-CONS Cannot parse group.id\r\n",
    );
    client.ask("PING", NOAUTH);
}

#[test]
fn before_login_frames_are_small() {
    let gateway = with_passwords();
    let mut client = gateway.connect();
    client.send("*11\r\n");
    client.expect("-ERR Protocol error: invalid multibulk length (TooManyArg)\r\n");
    client.expect_end();
    let mut client = gateway.connect();
    client.send("*2\r\n$4\r\nAUTH\r\n$16385\r\n");
    client.expect("-ERR Protocol error: invalid bulk length (Invalid bulk size)\r\n");
    client.expect_end();
    // The limit falls with the login, within one pipeline.
    let mut client = gateway.connect();
    let long = "x".repeat(20_000);
    client.send(format!(
        "AUTH secret\r\n*2\r\n$4\r\nECHO\r\n$20000\r\n{long}\r\n"
    ));
    client.expect(&format!("+OK\r\n$20000\r\n{long}\r\n"));
}

#[test]
fn select_echo_and_time() {
    let mut client = shared().connect();
    for (command, reply) in [
        ("SELECT 0", "+OK\r\n"),
        ("SELECT 15", "+OK\r\n"),
        ("SELECT 16", "-ERR DB index is out of range\r\n"),
        ("SELECT -1", "-ERR DB index is out of range\r\n"),
        (
            "SELECT x",
            "-ERR value is not an integer or out of range\r\n",
        ),
        (
            "SELECT",
            "-ERR wrong number of arguments for 'select' command\r\n",
        ),
        ("ECHO hello", "$5\r\nhello\r\n"),
        (
            "ECHO",
            "-ERR wrong number of arguments for 'echo' command\r\n",
        ),
        (
            "TIME x",
            "-ERR wrong number of arguments for 'time' command\r\n",
        ),
    ] {
        client.ask(command, reply);
    }
    let time = client.call("TIME");
    let seconds: u64 = time.elements()[0].text().parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(now.as_secs().abs_diff(seconds) <= 1);
    assert!(time.elements()[1].text().parse::<u32>().unwrap() < 1_000_000);
}

#[test]
fn reset_makes_the_connection_new() {
    let gateway = shared();
    let mut client = gateway.connect_resp3();
    let name = unique("g") + ":n";
    client.ask(&format!("CLIENT SETNAME {name}"), "+OK\r\n");
    client.ask("SUBSCRIBE c", ">3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
    client.ask("SELECT 3", "+OK\r\n");
    client.ask("MULTI", "+OK\r\n");
    client.ask("PING", "+QUEUED\r\n");
    client.ask("RESET", "+RESET\r\n");
    client.ask("EXEC", "-ERR EXEC without MULTI\r\n");
    client.ask("GET x", "$-1\r\n");
    let address = bulk(&client.address());
    client.ask("CLIENT GETNAME", &address);
    let info = client.call("CLIENT INFO").text().to_owned();
    for field in [
        " db=0 ",
        " sub=0 ",
        " multi=-1 ",
        " flags=N ",
        " resp=2 ",
        " name= ",
    ] {
        assert!(info.contains(field), "{field} in {info}");
    }
    // The name is free.
    let mut other = gateway.connect();
    other.ask(&format!("CLIENT SETNAME {name}"), "$2\r\nOK\r\n");
}

#[test]
fn reset_closes_the_consumer() {
    let gateway = shared();
    let topic = unique("reset");
    gateway.kafka.create_topic(&topic, 1);
    let mut client = gateway.connect();
    let name = unique("g") + ":n";
    client.ask(&format!("CLIENT SETNAME {name}"), "$2\r\nOK\r\n");
    client.ask(&format!("BLPOP topics:{topic} 0.01"), "*-1\r\n");
    client.ask("RESET", "+RESET\r\n");
    let address = client.address();
    client.ask(
        "RPUSH acks t:0:0",
        &format!("-CONS No consumer registered for Client {address}\r\n"),
    );
    // Another list of topics is no contradiction any more.
    client.ask(&format!("CLIENT SETNAME {name}"), "$2\r\nOK\r\n");
    client.ask(&format!("BLPOP topics:{topic},{topic}-b 0.01"), "*-1\r\n");
}
