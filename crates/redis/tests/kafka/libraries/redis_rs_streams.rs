//! A stream program with redis-rs, which runs unchanged on Redis and on Barnabas (13.3).

use super::{PASSWORD, gateway_with_streams, redis_server};
use crate::support::PATIENCE;
use redis::streams::{StreamId, StreamReadOptions, StreamReadReply};
use redis::{Client, Commands, Connection, IntoConnectionInfo, ProtocolVersion, RedisResult};
use std::fmt::Write;
use std::time::Instant;

/// A connection for any of the program's commands.
fn pooled(port: u16, protocol: ProtocolVersion) -> Connection {
    let info = ("127.0.0.1".to_owned(), port)
        .into_connection_info()
        .unwrap();
    let settings = info
        .redis_settings()
        .clone()
        .set_password(PASSWORD)
        .set_protocol(protocol);
    let client = Client::open(info.set_redis_settings(settings)).unwrap();
    client.get_connection().unwrap()
}

/// A stream program that does not know what it talks to: what it prints.
fn read_orders(port: u16, protocol: ProtocolVersion, name: &str) -> String {
    let (key, group) = (format!("topics:{name}"), name);
    let mut said = String::new();
    // Two connections of a pool, used in turn.
    let mut pool = [pooled(port, protocol), pooled(port, protocol)];
    let created: String = pool[0].xgroup_create_mkstream(&key, group, "0").unwrap();
    writeln!(said, "created {created}").unwrap();
    let again: RedisResult<String> = pool[1].xgroup_create(&key, group, "$");
    writeln!(said, "error {}", again.unwrap_err().code().unwrap()).unwrap();
    for number in 0..6 {
        let value = number.to_string();
        let fields = [("value", value.as_str()), ("shop", "north")];
        let id: String = pool[number % 2].xadd(&key, "*", &fields).unwrap();
        assert!(id.contains('-'), "{id}");
    }
    let started = Instant::now();
    let read = |pool: &mut [Connection; 2], from: &str, wanted: usize| {
        let mut entries = Vec::new();
        for turn in [0, 1].into_iter().cycle() {
            let options = StreamReadOptions::default()
                .group(group, "worker")
                .count(wanted - entries.len())
                .block(1_000);
            let reply: Option<StreamReadReply> = pool[turn]
                .xread_options(&[&key], &[from], &options)
                .unwrap();
            entries.extend(
                reply
                    .into_iter()
                    .flat_map(|reply| reply.keys)
                    .flat_map(|stream| stream.ids),
            );
            if entries.len() >= wanted {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "{} entries", entries.len());
        }
        entries
    };
    let values = |entries: &[StreamId]| -> String {
        let values = entries
            .iter()
            .map(|entry| entry.get::<String>("value").unwrap());
        values.collect::<Vec<_>>().join(" ")
    };
    let got = read(&mut pool, ">", 4);
    writeln!(said, "got {}", values(&got)).unwrap();
    let acked: usize = pool[1]
        .xack(&key, group, &[&got[3].id, &got[0].id])
        .unwrap();
    writeln!(said, "acked {acked}").unwrap();
    // A crash: both connections go, the consumer does not.
    pool = [pooled(port, protocol), pooled(port, protocol)];
    let pending = read(&mut pool, "0", 2);
    writeln!(said, "pending {}", values(&pending)).unwrap();
    let rest = read(&mut pool, ">", 2);
    writeln!(said, "got {}", values(&rest)).unwrap();
    for entry in pending.iter().chain(&rest) {
        let acked: usize = pool[0].xack(&key, group, &[&entry.id]).unwrap();
        writeln!(said, "acked {acked}").unwrap();
    }
    let length: usize = pool[1].xlen(&key).unwrap();
    writeln!(said, "length {length}").unwrap();
    said
}

/// Acceptance 12, with redis-rs.
fn stream_of_orders(protocol: ProtocolVersion) {
    let name = barnabas_testkit::topic_name("redis-rs-orders");
    let gateway = gateway_with_streams();
    let on_barnabas = read_orders(gateway.address().port(), protocol, &name);
    let (_redis, port) = redis_server();
    // redis-server 7.0 speaks both, too.
    assert_eq!(on_barnabas, read_orders(port, protocol, &name));
    assert_eq!(
        on_barnabas,
        "created OK\nerror BUSYGROUP\ngot 0 1 2 3\nacked 2\npending 1 2\ngot 4 5\n\
         acked 1\nacked 1\nacked 1\nacked 1\nlength 6\n"
    );
}

#[test]
fn a_stream_program_runs_unchanged_on_redis_and_on_barnabas_resp2() {
    stream_of_orders(ProtocolVersion::RESP2);
}

#[test]
fn a_stream_program_runs_unchanged_on_redis_and_on_barnabas_resp3() {
    stream_of_orders(ProtocolVersion::RESP3);
}
