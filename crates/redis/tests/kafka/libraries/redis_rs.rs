//! redis-rs.

use super::{Conversation, GATEWAY, PASSWORD};
use redis::{Client, Commands, Connection, ConnectionLike, IntoConnectionInfo, ProtocolVersion};
use std::fmt::Write;

fn connect(name: &str, protocol: ProtocolVersion) -> Connection {
    let address = GATEWAY.address();
    let info = (address.ip().to_string(), address.port())
        .into_connection_info()
        .unwrap();
    let settings = info
        .redis_settings()
        .clone()
        .set_password(PASSWORD)
        .set_db(2)
        .set_protocol(protocol);
    let client = Client::open(info.set_redis_settings(settings)).unwrap();
    let mut connection = client.get_connection().unwrap();
    assert!(connection.is_open());
    // It has no option for a name.
    let named: String = redis::cmd("CLIENT")
        .arg("SETNAME")
        .arg(name)
        .query(&mut connection)
        .unwrap();
    assert_eq!(named, "OK");
    connection
}

fn hold(protocol: ProtocolVersion) {
    let conversation = Conversation::new("redis-rs");
    let key = format!("topics:{}", conversation.topic);
    let mut said = String::new();

    let mut client = connect(&conversation.name, protocol);
    let ping = |client: &mut Connection| -> String { redis::cmd("PING").query(client).unwrap() };
    writeln!(said, "ping {}", ping(&mut client)).unwrap();
    let mut push = |key: &str, value: &str| -> u64 { client.rpush_exists(key, value).unwrap() };
    let produced = (
        push(&key, "one"),
        push(&key, "café"),
        push(&format!("{key}:cust-9"), "three"),
    );
    writeln!(
        said,
        "produced {} {} {}",
        produced.0, produced.1, produced.2
    )
    .unwrap();
    let outstanding: u64 = redis::cmd("DUMP").arg(30_000).query(&mut client).unwrap();
    writeln!(said, "outstanding {outstanding}").unwrap();
    let mut positions = Vec::new();
    for _ in 0..2 {
        type Message = (String, String, String, i32, String, i64, String, String);
        let message: Message = redis::cmd("BLPOP")
            .arg(&key)
            .arg(30)
            .query(&mut client)
            .unwrap();
        let (_, topic, _, partition, _, offset, _, value) = message;
        writeln!(said, "message {topic} {partition} {offset} {value}").unwrap();
        positions.push(format!("{topic}:{partition}:{offset}"));
    }
    let acked: Vec<u64> = positions
        .iter()
        .map(|position| client.rpush("acks", position).unwrap())
        .collect();
    writeln!(said, "acked {} {}", acked[0], acked[1]).unwrap();
    let refused = client.blpop::<_, (String, String)>("nonsense", 1.0);
    let error = refused.unwrap_err();
    writeln!(
        said,
        "error {} {}",
        error.code().unwrap(),
        error.detail().unwrap()
    )
    .unwrap();
    writeln!(said, "ping {}", ping(&mut client)).unwrap();
    drop(client);

    let mut client = connect(&format!("pair-{}", conversation.name), protocol);
    for _ in 0..3 {
        let pair: (String, String) = client
            .blpop(format!(r#"{key}:{{"barnabas.reply":"pair"}}"#), 30.0)
            .unwrap();
        writeln!(said, "pair {} {}", pair.0, pair.1).unwrap();
    }
    drop(client);
    assert_eq!(said, conversation.transcript());
    conversation.check_kafka();
}

#[test]
fn redis_rs_resp2() {
    hold(ProtocolVersion::RESP2);
}

#[test]
fn redis_rs_resp3() {
    hold(ProtocolVersion::RESP3);
}
