//! `INFO [section …]` (contract, section 12).

use super::{Arguments, Context, hello};
use crate::session::Session;
use crate::statistics::Statistics;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

/// Words that ask for everything.
const ALL: [&[u8]; 3] = [b"default", b"all", b"everything"];

type Fields = Vec<(&'static str, String)>;
type Section = (&'static str, fn(&Session) -> Fields);

const SECTIONS: [Section; 7] = [
    ("Server", server),
    ("Clients", clients),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("Cluster", cluster),
    ("Kafka", kafka),
];

pub(super) fn run(context: &mut Context<'_>, arguments: &Arguments<'_>) {
    let mut text = String::new();
    for (name, fields) in SECTIONS {
        let is_asked_for = |word: &[u8]| {
            word.eq_ignore_ascii_case(name.as_bytes())
                || ALL.iter().any(|all| word.eq_ignore_ascii_case(all))
        };
        if arguments.count() > 1 && !arguments.from(1).any(is_asked_for) {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let _ = write!(text, "# {name}\r\n");
        for (field, value) in fields(context.session) {
            let _ = write!(text, "{field}:{value}\r\n");
        }
    }
    context.reply.verbatim(&text);
}

fn fixed(text: &str) -> String {
    text.to_owned()
}

fn server(session: &Session) -> Fields {
    let uptime = session.shared.started.elapsed().as_secs();
    vec![
        ("redis_version", fixed(hello::REDIS_VERSION)),
        ("redis_mode", fixed("standalone")),
        ("barnabas_version", fixed(env!("CARGO_PKG_VERSION"))),
        ("librdkafka_version", barnabas_engine::librdkafka_version()),
        ("os", fixed(std::env::consts::OS)),
        ("arch_bits", usize::BITS.to_string()),
        ("process_id", std::process::id().to_string()),
        ("tcp_port", session.shared.port.to_string()),
        ("uptime_in_seconds", uptime.to_string()),
        ("uptime_in_days", (uptime / 86_400).to_string()),
    ]
}

fn clients(session: &Session) -> Fields {
    let shared = &session.shared;
    let entries = shared.registry.entries();
    let blocked = entries
        .iter()
        .filter(|entry| entry.flags.is_blocked.load(Ordering::Relaxed))
        .count();
    let subscribers = entries
        .iter()
        .filter(|entry| {
            let about = entry.about.lock();
            about.channels + about.patterns > 0
        })
        .count();
    let connected = Statistics::get(&shared.statistics.connections);
    vec![
        ("connected_clients", connected.to_string()),
        ("maxclients", shared.config.max_connections.to_string()),
        ("blocked_clients", blocked.to_string()),
        ("pubsub_clients", subscribers.to_string()),
    ]
}

/// ioredis waits for `loading:0`.
fn persistence(_: &Session) -> Fields {
    vec![("loading", fixed("0"))]
}

fn stats(session: &Session) -> Fields {
    let statistics = &session.shared.statistics;
    vec![
        (
            "total_connections_received",
            Statistics::get(&statistics.connections_total).to_string(),
        ),
        (
            "total_commands_processed",
            Statistics::get(&statistics.commands).to_string(),
        ),
    ]
}

fn replication(_: &Session) -> Fields {
    vec![("role", fixed("master")), ("connected_slaves", fixed("0"))]
}

fn cluster(_: &Session) -> Fields {
    vec![("cluster_enabled", fixed("0"))]
}

fn kafka(session: &Session) -> Fields {
    let producer = session.shared.producer.statistics();
    let own = &session.shared.statistics;
    let get = |counter| Statistics::get(counter).to_string();
    let streams = session.shared.streams.as_ref();
    let stream_consumers = streams.map_or(0, crate::streams::Streams::count);
    vec![
        ("consumers", get(&own.consumers)),
        ("stream_consumers", stream_consumers.to_string()),
        ("messages_consumed", get(&own.messages_consumed)),
        ("acks_stored", get(&own.acks_stored)),
        ("consumer_errors", get(&own.consumer_errors)),
        ("messages_accepted", producer.accepted.to_string()),
        ("messages_delivered", producer.delivered.to_string()),
        ("messages_outstanding", producer.outstanding.to_string()),
        ("delivery_errors", producer.failed.to_string()),
    ]
}
