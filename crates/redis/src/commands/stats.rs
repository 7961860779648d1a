//! `HGETALL stats`, `HGETALL stats:connection`, `DEL stats` (contract,
//! sections 7 and 11).

use super::{Arguments, Context};
use crate::session::Session;
use crate::statistics::Statistics;

pub(super) fn hgetall(context: &mut Context<'_>, arguments: &Arguments<'_>) {
    let key = arguments.get(1);
    let pairs: Vec<(&str, String)> = if key.eq_ignore_ascii_case(b"stats") {
        of_process(context.session)
    } else if key.eq_ignore_ascii_case(b"stats:connection") {
        of_connection(context.session)
    } else {
        wrong_key(context, key);
        return;
    };
    context.reply.map(pairs.len());
    for (name, value) in pairs {
        context.reply.bulk(name.as_bytes());
        context.reply.bulk(value.as_bytes());
    }
}

pub(super) fn del(context: &mut Context<'_>, arguments: &Arguments<'_>) {
    let key = arguments.get(1);
    if key.eq_ignore_ascii_case(b"stats") {
        reset(context.session);
        context.reply.integer(1);
    } else {
        wrong_key(context, key);
    }
}

/// Zeroes all counters.
pub(super) fn reset(session: &Session) {
    session.shared.producer.reset_statistics();
    session.shared.statistics.reset();
}

fn wrong_key(context: &mut Context<'_>, key: &[u8]) {
    let shown = String::from_utf8_lossy(key).to_uppercase();
    context
        .reply
        .error(&format!("ERR Expected key to be 'stats', got {shown}"));
}

fn of_process(session: &Session) -> Vec<(&'static str, String)> {
    let producer = session.shared.producer.statistics();
    let own = &session.shared.statistics;
    let get = Statistics::get;
    // The first three in this order: old clients know no others.
    [
        ("producer.unflushed.messages", producer.unflushed),
        ("producer.delivery.errors", producer.failed),
        ("producer.unknown.events", producer.unknown_events),
        ("producer.messages.accepted", producer.accepted),
        ("producer.messages.delivered", producer.delivered),
        ("producer.messages.outstanding", producer.outstanding),
        ("consumer.messages.delivered", get(&own.messages_consumed)),
        ("consumer.acks.stored", get(&own.acks_stored)),
        ("consumer.errors", get(&own.consumer_errors)),
        ("server.connections", get(&own.connections)),
        ("server.commands", get(&own.commands)),
        ("server.monitor.dropped", get(&own.monitor_dropped)),
    ]
    .into_iter()
    .map(|(name, value)| (name, value.to_string()))
    .collect()
}

fn of_connection(session: &Session) -> Vec<(&'static str, String)> {
    let report = session
        .caller
        .as_ref()
        .map(barnabas_engine::Caller::report)
        .unwrap_or_default();
    let last_error = report.last_error.map(|error| error.text());
    vec![
        ("accepted", report.accepted.to_string()),
        ("delivered", report.delivered.to_string()),
        ("failed", report.failed.to_string()),
        ("outstanding", report.outstanding.to_string()),
        ("last_error", last_error.unwrap_or_default()),
    ]
}
