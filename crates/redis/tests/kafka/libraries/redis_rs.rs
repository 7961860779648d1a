//! redis-rs.

use super::{Conversation, GATEWAY, PASSWORD};
use redis::{Client, Connection, IntoConnectionInfo, ProtocolVersion, RedisResult, TypedCommands};
use std::fmt::{Debug, Write};

/// A connection, and what everybody says about a new one.
fn connect(said: &mut String, name: &str, protocol: ProtocolVersion) -> Connection {
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
    // It has no option for a name.
    connection.client_setname(name).unwrap();
    let line: String = redis::cmd("CLIENT")
        .arg("INFO")
        .query(&mut connection)
        .unwrap();
    let about = ["name=", "db=", "resp="].map(|field| {
        line.split_whitespace()
            .find_map(|part| part.strip_prefix(field))
            .unwrap()
    });
    writeln!(said, "connected {}", about.join(" ")).unwrap();
    connection
}

/// Two numbers are numbers, by their types.
type Message = (String, String, String, i32, String, i64, String, String);

fn consume_and_ack(said: &mut String, client: &mut Connection, key: &str) {
    let mut positions = Vec::new();
    for _ in 0..4 {
        let message: Message = redis::cmd("BLPOP").arg(key).arg(30).query(client).unwrap();
        let (_, topic, _, partition, _, offset, _, value) = message;
        writeln!(said, "message {topic} {partition} {offset} {value}").unwrap();
        positions.push(format!("{topic}:{partition}:{offset}"));
    }
    let acked: Vec<String> = positions[..3]
        .iter()
        .map(|position| client.rpush("acks", position).unwrap().to_string())
        .collect();
    writeln!(said, "acked {}", acked.join(" ")).unwrap();
}

fn note_refusal<T: Debug>(said: &mut String, result: RedisResult<T>) {
    let error = result.unwrap_err();
    writeln!(
        said,
        "error {} {}",
        error.code().unwrap(),
        error.detail().unwrap()
    )
    .unwrap();
}

fn hold(protocol: ProtocolVersion, number: u8) {
    let conversation = Conversation::new("redis-rs");
    let key = format!("topics:{}", conversation.topic);
    let mut said = String::new();

    let mut client = connect(&mut said, &conversation.name, protocol);
    let connection = client.client_id().unwrap();
    writeln!(said, "ping {}", client.ping().unwrap()).unwrap();
    let produced = [
        client.rpush_exists(&key, "one"),
        client.rpush_exists(format!("{key}:cust-9"), "café"),
        client.rpush_exists(&key, &["three", "four"]),
    ]
    .map(|accepted| accepted.unwrap().to_string());
    writeln!(said, "produced {}", produced.join(" ")).unwrap();
    let outstanding: u64 = redis::cmd("DUMP").arg(30_000).query(&mut client).unwrap();
    writeln!(said, "outstanding {outstanding}").unwrap();
    let stats = client.hgetall("stats:connection").unwrap();
    writeln!(said, "accepted {}", stats["accepted"]).unwrap();
    consume_and_ack(&mut said, &mut client, &key);
    let nothing: Option<Message> = redis::cmd("BLPOP")
        .arg(&key)
        .arg(0.1)
        .query(&mut client)
        .unwrap();
    assert_eq!(nothing, None);
    writeln!(said, "nothing").unwrap();
    note_refusal(&mut said, client.blpop("nonsense", 1.0));
    note_refusal(&mut said, client.rpush_exists("topics:no/topic", "x"));
    writeln!(said, "ping {}", client.ping().unwrap()).unwrap();
    assert_eq!(client.client_id().unwrap(), connection);
    writeln!(said, "same connection").unwrap();
    let _: () = redis::cmd("QUIT").query(&mut client).unwrap();
    drop(client);

    let mut client = connect(&mut said, &conversation.name, protocol);
    let pairs = format!(r#"{key}:{{"barnabas.reply":"pair"}}"#);
    let note_pair = |said: &mut String, client: &mut Connection| {
        let pair = client.blpop(&pairs, 30.0).unwrap().unwrap();
        writeln!(said, "pair {}", pair.join(" ")).unwrap();
    };
    let note_produced = |said: &mut String, client: &mut Connection, value: &str| {
        let accepted = client.rpush_exists(&key, value).unwrap();
        writeln!(said, "produced {accepted}").unwrap();
    };
    note_pair(&mut said, &mut client);
    note_produced(&mut said, &mut client, "five");
    note_pair(&mut said, &mut client);
    assert_eq!(client.blpop(&pairs, 0.1).unwrap(), None);
    writeln!(said, "nothing").unwrap();
    note_produced(&mut said, &mut client, "six");
    note_pair(&mut said, &mut client);
    writeln!(said, "acked {}", client.rpush("acks", "last").unwrap()).unwrap();
    drop(client);

    assert_eq!(said, conversation.transcript(number));
    conversation.check_kafka();
}

#[test]
fn redis_rs_resp2() {
    hold(ProtocolVersion::RESP2, 2);
}

#[test]
fn redis_rs_resp3() {
    hold(ProtocolVersion::RESP3, 3);
}
