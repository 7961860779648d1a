//! Section 12: INFO, COMMAND, CONFIG and the fixed answers.

use crate::support::{Gateway, Value, bulk, shared};
use barnabas_redis::Config;
use std::collections::BTreeMap;

/// The fields of INFO by section.
fn info(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut sections = BTreeMap::new();
    for section in text.trim_end().split("\r\n\r\n") {
        let mut lines = section.split("\r\n");
        let name = lines.next().unwrap().strip_prefix("# ").unwrap();
        let fields = lines.map(|line| line.split_once(':').unwrap());
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        sections.insert(name.to_owned(), fields.collect());
    }
    sections
}

#[test]
fn info_tells_the_truth() {
    let gateway = Gateway::start(Config::default());
    let mut client = gateway.connect();
    let _other = {
        let mut other = gateway.connect();
        other.ask("PING", "+PONG\r\n");
        other
    };
    client.ask("RPUSHX topics:t x y", ":2\r\n");
    client.ask("DUMP 10000", ":0\r\n");
    let sections = info(client.call("INFO").text());
    let field = |section: &str, name: &str| sections[section][name].clone();
    assert_eq!(
        sections.keys().collect::<Vec<_>>(),
        [
            "Clients",
            "Cluster",
            "Kafka",
            "Persistence",
            "Replication",
            "Server",
            "Stats"
        ]
    );
    for (section, name, value) in [
        ("Server", "redis_version", "7.4.0"),
        ("Server", "redis_mode", "standalone"),
        ("Server", "barnabas_version", env!("CARGO_PKG_VERSION")),
        ("Server", "tcp_port", &gateway.address.port().to_string()),
        ("Clients", "connected_clients", "2"),
        ("Clients", "blocked_clients", "0"),
        ("Persistence", "loading", "0"),
        ("Stats", "total_connections_received", "2"),
        ("Replication", "role", "master"),
        ("Replication", "connected_slaves", "0"),
        ("Cluster", "cluster_enabled", "0"),
        ("Kafka", "consumers", "0"),
        ("Kafka", "messages_accepted", "2"),
        ("Kafka", "messages_delivered", "2"),
        ("Kafka", "messages_outstanding", "0"),
        ("Kafka", "delivery_errors", "0"),
    ] {
        assert_eq!(field(section, name), value, "{section} {name}");
    }
    assert!(field("Server", "uptime_in_seconds").parse::<u64>().unwrap() < 60);
}

#[test]
fn info_shows_the_sections_that_are_asked_for() {
    let mut client = shared().connect();
    client.ask("INFO persistence", &bulk("# Persistence\r\nloading:0\r\n"));
    client.ask(
        "info CLUSTER Persistence",
        &bulk("# Persistence\r\nloading:0\r\n\r\n# Cluster\r\ncluster_enabled:0\r\n"),
    );
    client.ask("INFO nothing", "$0\r\n\r\n");
    for all in ["INFO all", "INFO everything", "INFO default"] {
        assert_eq!(info(client.call(all).text()).len(), 7);
    }
    let mut client = shared().connect_resp3();
    client.ask(
        "INFO persistence",
        "=30\r\ntxt:# Persistence\r\nloading:0\r\n\r\n",
    );
    client.ask("INFO nothing", "=4\r\ntxt:\r\n");
}

#[test]
fn every_listed_command_is_served_and_documented() {
    let mut client = shared().connect();
    let listed = client.call("COMMAND LIST");
    let names: Vec<&str> = listed.elements().iter().map(Value::text).collect();
    let count = i64::try_from(names.len()).unwrap();
    assert_eq!(client.call("COMMAND COUNT"), Value::Integer(count));
    let described = client.call("COMMAND");
    let docs = shared().connect_resp3().call("COMMAND DOCS");
    let Value::Map(docs) = docs else {
        panic!("{docs:?}")
    };
    assert_eq!(docs.len(), names.len());
    for (index, name) in names.iter().enumerate() {
        let entry = described.elements()[index].elements();
        assert_eq!((entry.len(), entry[0].text()), (10, *name));
        assert_ne!(entry[1].integer(), 0);
        assert_eq!(docs[index].0.text(), *name);
        for field in ["summary", "since", "group"] {
            assert!(!docs[index].1.field(field).text().is_empty(), "{name}");
        }
        // Sent bare on a connection of its own, it is known.
        let mut client = shared().connect();
        let answer = client.call(&name.to_uppercase());
        if let Value::Error(text) = &answer {
            assert!(!text.contains("unknown command"), "{name}: {text}");
        }
        // Every subcommand too.
        for subcommand in entry[9].elements() {
            let words = subcommand.elements()[0].text().replace('|', " ");
            let mut client = shared().connect();
            let answer = client.call(&format!("{words} a b"));
            if let Value::Error(text) = &answer {
                assert!(!text.contains("unknown"), "{words}: {text}");
            }
        }
    }
}

#[test]
fn command_info_has_the_shape_of_redis() {
    let mut client = shared().connect();
    let get = "$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*3\r\n+@read\r\n\
               +@string\r\n+@fast\r\n*0\r\n*1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n\
               $12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n*2\r\n\
               $5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n\
               $4\r\nspec\r\n*6\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n\
               :0\r\n*0\r\n";
    client.ask(
        "COMMAND INFO GET nope",
        &format!("*2\r\n*10\r\n{get}*-1\r\n"),
    );
    let mut client = shared().connect_resp3();
    client.ask(
        "COMMAND INFO nope echo",
        "*2\r\n_\r\n*10\r\n$4\r\necho\r\n:2\r\n~4\r\n+noscript\r\n+loading\r\n+stale\r\n+fast\r\n\
         :0\r\n:0\r\n:0\r\n~2\r\n+@connection\r\n+@fast\r\n~0\r\n~0\r\n~0\r\n",
    );
    client.ask(
        "COMMAND DOCS nope ECHO",
        &format!(
            "%1\r\n$4\r\necho\r\n%3\r\n{}{}{}{}{}{}",
            bulk("summary"),
            bulk("Answers its argument"),
            bulk("since"),
            bulk("1.0.0"),
            bulk("group"),
            bulk("connection"),
        ),
    );
    client.ask("COMMAND DOCS nope", "%0\r\n");
}

#[test]
fn other_forms_of_command() {
    let mut client = shared().connect();
    for (command, reply) in [
        (
            "COMMAND COUNT x",
            "-ERR wrong number of arguments for 'command|count' command\r\n",
        ),
        (
            "COMMAND FOO",
            "-ERR unknown subcommand 'FOO'. Try COMMAND HELP.\r\n",
        ),
        ("COMMAND DOCS nope", "*0\r\n"),
        ("COMMAND LIST FILTERBY x y", "-ERR syntax error\r\n"),
        ("COMMAND LIST FILTERBY MODULE x", "*0\r\n"),
        (
            "COMMAND LIST FILTERBY PATTERN rpush",
            "*1\r\n$5\r\nrpush\r\n",
        ),
        ("COMMAND GETKEYS RPUSHX a b", "*1\r\n$1\r\na\r\n"),
        (
            "COMMAND GETKEYS nope a",
            "-ERR Invalid command specified\r\n",
        ),
        (
            "COMMAND GETKEYS",
            "-ERR wrong number of arguments for 'command|getkeys' command\r\n",
        ),
        (
            "COMMAND GETKEYS ping",
            "-ERR The command has no key arguments\r\n",
        ),
    ] {
        client.ask(command, reply);
    }
}

#[test]
fn config_shows_what_tools_ask_for() {
    let gateway = Gateway::start(Config {
        max_connections: 321,
        ..Config::default()
    });
    let mut client = gateway.connect();
    for (command, reply) in [
        ("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        (
            "config get APPENDONLY",
            "*2\r\n$10\r\nappendonly\r\n$2\r\nno\r\n",
        ),
        (
            "CONFIG GET databases",
            "*2\r\n$9\r\ndatabases\r\n$2\r\n16\r\n",
        ),
        ("CONFIG GET timeout", "*2\r\n$7\r\ntimeout\r\n$1\r\n0\r\n"),
        (
            "CONFIG GET max*",
            "*4\r\n$10\r\nmaxclients\r\n$3\r\n321\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n",
        ),
        (
            "CONFIG GET proto-max-bulk-len",
            "*2\r\n$18\r\nproto-max-bulk-len\r\n$8\r\n32768000\r\n",
        ),
        (
            "CONFIG GET slave-read-only replica-read-only",
            "*4\r\n$17\r\nreplica-read-only\r\n$2\r\nno\r\n$15\r\nslave-read-only\r\n$2\r\nno\r\n",
        ),
        ("CONFIG GET requirepass", "*0\r\n"),
        (
            "CONFIG GET",
            "-ERR wrong number of arguments for 'config|get' command\r\n",
        ),
        (
            "CONFIG SET maxmemory 1",
            "-ERR Unknown option or number of arguments for CONFIG SET - 'maxmemory'\r\n",
        ),
        (
            "CONFIG SET a",
            "-ERR wrong number of arguments for 'config|set' command\r\n",
        ),
        ("CONFIG RESETSTAT", "+OK\r\n"),
        (
            "CONFIG REWRITE",
            "-ERR unknown subcommand 'REWRITE'. Try CONFIG HELP.\r\n",
        ),
        (
            "CONFIG",
            "-ERR wrong number of arguments for 'config' command\r\n",
        ),
    ] {
        client.ask(command, reply);
    }
    let mut client = gateway.connect_resp3();
    client.ask("CONFIG GET save", "%1\r\n$4\r\nsave\r\n$0\r\n\r\n");
    client.ask("CONFIG GET nope", "%0\r\n");
}

#[test]
fn what_redis_has_and_we_have_not() {
    const NO_CLUSTER: &str = "-ERR This instance has cluster support disabled\r\n";
    for mut client in [shared().connect(), shared().connect_resp3()] {
        for (command, reply) in [
            ("ROLE", "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"),
            (
                "ROLE x",
                "-ERR wrong number of arguments for 'role' command\r\n",
            ),
            ("MODULE LIST", "*0\r\n"),
            (
                "MODULE LOAD x",
                "-ERR unknown subcommand 'LOAD'. Try MODULE HELP.\r\n",
            ),
            ("ACL WHOAMI", "$7\r\ndefault\r\n"),
            (
                "ACL CAT",
                "-ERR unknown subcommand 'CAT'. Try ACL HELP.\r\n",
            ),
            ("SLOWLOG GET", "*0\r\n"),
            ("SLOWLOG GET 10", "*0\r\n"),
            ("SLOWLOG LEN", ":0\r\n"),
            ("SLOWLOG RESET", "+OK\r\n"),
            ("LATENCY LATEST", "*0\r\n"),
            ("LATENCY RESET", ":0\r\n"),
            ("CLUSTER NODES", NO_CLUSTER),
            ("CLUSTER INFO", NO_CLUSTER),
            (
                "CLUSTER",
                "-ERR wrong number of arguments for 'cluster' command\r\n",
            ),
            ("READONLY", NO_CLUSTER),
            ("READWRITE", NO_CLUSTER),
        ] {
            client.ask(command, reply);
        }
        let help = client.call("CONFIG help");
        assert_eq!(help.elements().len(), 9);
    }
}
