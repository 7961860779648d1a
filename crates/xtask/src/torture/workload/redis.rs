//! Redis clients, by redis-rs: `RPUSHX` into the journal, `XADD`, and a
//! group's consumers with `XREADGROUP` and `XACK`.

use super::{BACKOFF, BATCH, PAUSE, REQUEST_LIMIT, SIP, Shared, Writer};
use crate::torture::ledger::{Durability, Place};
use anyhow::{Context as _, Result};
use redis::{Connection, ConnectionLike as _, TlsCertificates, Value as Reply};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Instant;

/// The names of producers' threads begin so.
pub(super) const PRODUCER: &str = "redis-producer";
const GROUP: &str = "redis";
const CONSUMERS: usize = 2;

/// Starts them.
pub(super) fn all(shared: &Arc<Shared>) -> Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    for (name, durability) in [
        ("redis-rpushx", Durability::Journal),
        ("redis-xadd", Durability::Kafka),
    ] {
        let writer = Writer::new(name, durability, shared);
        let thread = Builder::new().name(format!("{PRODUCER} {name}"));
        threads.push(thread.spawn(move || produce(writer, durability))?);
    }
    shared.ledger.group(GROUP);
    for number in 0..CONSUMERS {
        let shared = Arc::clone(shared);
        let thread = Builder::new().name(format!("redis-consumer-{number}"));
        threads.push(thread.spawn(move || consume(&shared, number))?);
    }
    Ok(threads)
}

fn connect(address: &str, roots: &str) -> Result<Connection> {
    let trusted = TlsCertificates {
        client_tls: None,
        root_cert: Some(roots.as_bytes().to_vec()),
    };
    let client = redis::Client::build_with_tls(format!("rediss://{address}/"), trusted)?;
    let connection = client.get_connection_with_timeout(REQUEST_LIMIT)?;
    connection.set_read_timeout(Some(REQUEST_LIMIT))?;
    connection.set_write_timeout(Some(REQUEST_LIMIT))?;
    Ok(connection)
}

/// Pipelines of one key's messages, one after the other.
fn produce(mut writer: Writer, durability: Durability) {
    let shared = Arc::clone(&writer.shared);
    let mut open: Option<(usize, Connection)> = None;
    while shared.is_producing() {
        let Some((gateway, mut connection)) = open.take().or_else(|| {
            let (gateway, address) = shared.next()?;
            Some((gateway, connect(&address.redis, &shared.roots).ok()?))
        }) else {
            std::thread::sleep(BACKOFF);
            continue;
        };
        let batch = writer.batch(BATCH);
        let topic = &shared.topic;
        let mut pipeline = redis::pipe();
        for value in &batch {
            match durability {
                Durability::Journal => pipeline
                    .cmd("RPUSHX")
                    .arg(format!("topics:{topic}:{}", value.key))
                    .arg(value.text()),
                Durability::Kafka => pipeline.cmd("XADD").arg(format!("topics:{topic}")).arg(&[
                    "*",
                    "value",
                    &value.text(),
                    "key",
                    &value.key,
                ]),
            };
        }
        let asked = Instant::now();
        let wire = pipeline.get_packed_pipeline();
        match connection.req_packed_commands(&wire, 0, batch.len()) {
            Ok(replies) => {
                for (value, reply) in batch.into_iter().zip(replies) {
                    match reply {
                        Reply::ServerError(error) => writer.refused(&error.to_string()),
                        _ => writer.accepted(value, gateway, asked),
                    }
                }
                open = Some((gateway, connection));
                std::thread::sleep(PAUSE);
            }
            Err(_) => {
                writer.unknown(batch.len());
                std::thread::sleep(BACKOFF);
            }
        }
    }
}

/// One consumer of the group, which goes on elsewhere when its gateway goes.
fn consume(shared: &Shared, number: usize) {
    while shared.is_consuming() {
        let connected = shared
            .next()
            .context("no gateway")
            .and_then(|(_, address)| connect(&address.redis, &shared.roots));
        let Ok(connection) = connected else {
            std::thread::sleep(BACKOFF);
            continue;
        };
        if read(shared, number, connection).is_err() {
            // A reply may have been on its way.
            shared.ledger.lost(GROUP);
            std::thread::sleep(BACKOFF);
        }
    }
}

fn read(shared: &Shared, number: usize, mut connection: Connection) -> Result<()> {
    let stream = format!("topics:{}", shared.topic);
    let consumer = format!("worker-{number}");
    let reader = shared.new_reader();
    while shared.is_consuming() {
        let asked = Instant::now();
        let reply: Option<redis::streams::StreamReadReply> = redis::cmd("XREADGROUP")
            .arg(&["GROUP", GROUP, &consumer, "COUNT", "50", "BLOCK", "500"])
            .arg(&["STREAMS", &stream, ">"])
            .query(&mut connection)?;
        let entries = reply.into_iter().flat_map(|reply| reply.keys);
        let entries: Vec<_> = entries.flat_map(|key| key.ids).collect();
        let mut acks = Vec::new();
        for entry in entries {
            let place = place(&entry).context("an entry that nobody has sent")?;
            if shared.take(GROUP, &place, reader, asked) {
                acks.push((entry.id, place));
            }
        }
        let mut pipeline = redis::pipe();
        for (id, _) in &acks {
            pipeline.cmd("XACK").arg(&[&stream, GROUP, id]);
        }
        if !acks.is_empty() {
            let wire = pipeline.get_packed_pipeline();
            let replies = connection.req_packed_commands(&wire, 0, acks.len());
            if replies.is_err() {
                for (_, place) in &acks {
                    shared.ledger.hoped(GROUP, place);
                }
            }
            for ((_, place), reply) in acks.iter().zip(replies?) {
                // Else it is not taken, or was before.
                if matches!(reply, Reply::Int(1)) {
                    shared.ledger.acked(GROUP, place);
                }
            }
        }
        std::thread::sleep(SIP);
    }
    Ok(())
}

fn place(entry: &redis::streams::StreamId) -> Option<Place> {
    let (offset, partition) = entry.id.split_once('-')?;
    Some(Place {
        partition: partition.parse().ok()?,
        offset: offset.parse().ok()?,
        value: entry.get("value")?,
    })
}
