//! Section 14: what clients send on connect.

use crate::handshake::with_passwords;
use crate::support::unique;

const UNKNOWN: &str = "-ERR unknown subcommand 'maint_notifications'. Try CLIENT HELP.\r\n";

/// Rows of section 14, with login, name and database; what real clients send
/// is in the tests against Kafka. Older ones (redis-rb 5, go-redis 6 and 8,
/// hiredis and what is built on it) send a part of these.
#[test]
fn clients_connect_with_password_name_and_database() {
    let gateway = with_passwords();
    let name = unique("g") + ":n";
    let named = format!("CLIENT SETNAME {name}");
    let hello_named = format!("HELLO 3 AUTH default secret SETNAME {name}");
    let connects: [(&str, Vec<(&str, &str)>); 12] = [
        (
            "redis-rb 4",
            vec![("auth secret", "+OK"), ("select 2", "+OK"), (&named, "$")],
        ),
        (
            "redis-rb 6",
            vec![
                ("HELLO 3 AUTH default secret", "%7"),
                ("SELECT 2", "+OK"),
                ("CLIENT SETINFO LIB-NAME redis-client", "+OK"),
                ("CLIENT SETINFO LIB-VER 0.26.1", "+OK"),
                (
                    "CLIENT SETINFO LIB-NAME redis-client(redis-rb_v6.0.0)",
                    "+OK",
                ),
                ("CLIENT SETINFO LIB-VER 0.26.1", "+OK"),
                (&named, "+OK"),
            ],
        ),
        (
            "redis-py 6",
            vec![
                ("AUTH default secret", "+OK"),
                (&named, "$"),
                ("CLIENT SETINFO LIB-NAME redis-py", "+OK"),
                ("CLIENT SETINFO LIB-VER 6.4.0", "+OK"),
                ("SELECT 2", "+OK"),
            ],
        ),
        (
            "redis-py 8",
            vec![
                ("HELLO 3 AUTH default secret", "%7"),
                (
                    "client maint_notifications ON moving-endpoint-type internal-ip",
                    UNKNOWN.trim_end(),
                ),
                (&named, "+OK"),
                ("CLIENT SETINFO LIB-NAME redis-py", "+OK"),
                ("SELECT 2", "+OK"),
            ],
        ),
        (
            "ioredis",
            vec![
                ("hello 3 AUTH default secret", "%7"),
                ("select 2", "+OK"),
                (&named, "+OK"),
                ("client SETINFO LIB-NAME ioredis", "+OK"),
                ("info", "="),
            ],
        ),
        (
            "node-redis 6",
            vec![
                (&hello_named, "%7"),
                ("SELECT 2", "+OK"),
                ("CLIENT SETINFO LIB-NAME node-redis", "+OK"),
                ("client maint_notifications ON", UNKNOWN.trim_end()),
            ],
        ),
        (
            "go-redis 9",
            vec![
                (&hello_named, "%7"),
                ("select 2", "+OK"),
                (&named, "+OK"),
                ("client maint_notifications on", UNKNOWN.trim_end()),
                ("client setinfo LIB-NAME go-redis(,go1.24)", "+OK"),
            ],
        ),
        (
            "Jedis",
            vec![
                ("AUTH default secret", "+OK"),
                ("HELLO 3", "%7"),
                (&named, "+OK"),
                ("CLIENT SETINFO LIB-NAME jedis", "+OK"),
                ("SELECT 2", "+OK"),
            ],
        ),
        (
            "Lettuce 7",
            vec![
                (&hello_named, "%7"),
                ("SELECT 2", "+OK"),
                ("CLIENT SETINFO lib-name Lettuce", "+OK"),
                ("client maint_notifications on", UNKNOWN.trim_end()),
            ],
        ),
        (
            "redis-cli",
            vec![
                ("AUTH secret", "+OK"),
                ("SELECT 2", "+OK"),
                ("HELLO 3", "%7"),
                ("COMMAND DOCS", "%"),
            ],
        ),
        (
            "redis-benchmark",
            vec![
                ("AUTH secret", "+OK"),
                ("CONFIG GET save", "*2"),
                ("CONFIG GET appendonly", "*2"),
            ],
        ),
        (
            "StackExchange.Redis",
            vec![
                ("AUTH secret", "+OK"),
                (&named, "$"),
                ("CLIENT SETINFO lib-name SE.Redis", "+OK"),
                ("CLIENT ID", ":"),
                ("CONFIG GET slave-read-only", "*2"),
                ("CONFIG GET timeout", "*2"),
                ("CONFIG GET databases", "*2"),
                ("INFO replication", "$"),
                ("INFO server", "$"),
                (
                    "CLUSTER NODES",
                    "-ERR This instance has cluster support disabled",
                ),
                ("GET __Booksleeve_TieBreak", "$-1"),
                ("ECHO 0123456789abcdef", "$16"),
                ("SUBSCRIBE __Booksleeve_MasterChanged", "*3"),
            ],
        ),
    ];
    for (library, commands) in connects {
        let mut client = gateway.connect();
        for (command, start) in commands {
            client.send_words(&command.split(' ').collect::<Vec<_>>());
            let head = client.peek_line();
            assert!(head.starts_with(start), "{library}: {command}: {head}");
            client.value();
        }
        client.send_words(&["QUIT"]);
        let farewell = client.value();
        assert_eq!(farewell.text(), "OK", "{library}");
        client.expect_end();
    }
}
