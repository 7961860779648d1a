//! `SUBSCRIBE`, `PSUBSCRIBE`, `UNSUBSCRIBE`, `PUNSUBSCRIBE`: confirmed, but
//! nothing is ever published (contract, section 12).

use super::table::Definition;
use super::{Arguments, Context};
use crate::codec::Protocol;
use crate::session::Session;

/// Subscriptions of a connection, and the bytes of their names: an idle
/// connection must stay cheap.
const SUBSCRIPTIONS: usize = 1_024;
const SUBSCRIPTION_BYTES: usize = 65_536;

/// What is subscribed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Channel,
    Pattern,
}

/// Whether the connection may send only what concerns subscriptions: in
/// RESP3 messages are told apart from replies, in RESP2 they are not.
pub(super) fn restricts(context: &Context<'_>) -> bool {
    context.reply.protocol == Protocol::Resp2 && count(context.session) > 0
}

/// The error for other commands meanwhile.
pub(super) fn refusal(definition: &Definition) -> String {
    format!(
        "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET \
         are allowed in this context",
        definition.name
    )
}

pub(super) fn begin(context: &mut Context<'_>, kind: Kind, arguments: &Arguments<'_>) {
    let word = match kind {
        Kind::Channel => "subscribe",
        Kind::Pattern => "psubscribe",
    };
    for name in arguments.from(1) {
        let session = &mut *context.session;
        let (subscriptions, bytes) = (count(session), bytes(session));
        let names = match kind {
            Kind::Channel => &mut session.channels,
            Kind::Pattern => &mut session.patterns,
        };
        if !names.contains(name) {
            if subscriptions >= SUBSCRIPTIONS || bytes + name.len() > SUBSCRIPTION_BYTES {
                context.reply.error("ERR too many subscriptions");
                break;
            }
            names.insert(name.to_vec());
        }
        confirm(context, word, Some(name));
    }
    note(context.session);
}

/// Without arguments, all subscriptions of the kind end.
pub(super) fn end(context: &mut Context<'_>, kind: Kind, arguments: &Arguments<'_>) {
    let session = &mut *context.session;
    let (word, names) = match kind {
        Kind::Channel => ("unsubscribe", &mut session.channels),
        Kind::Pattern => ("punsubscribe", &mut session.patterns),
    };
    let ending: Vec<Vec<u8>> = if arguments.count() > 1 {
        arguments.from(1).map(<[u8]>::to_vec).collect()
    } else {
        names.iter().cloned().collect()
    };
    if ending.is_empty() {
        confirm(context, word, None);
    }
    for name in ending {
        match kind {
            Kind::Channel => context.session.channels.remove(&name),
            Kind::Pattern => context.session.patterns.remove(&name),
        };
        confirm(context, word, Some(&name));
    }
    note(context.session);
}

fn confirm(context: &mut Context<'_>, word: &str, name: Option<&[u8]>) {
    let count = i64::try_from(count(context.session)).unwrap_or(i64::MAX);
    context.reply.push(3);
    context.reply.bulk(word.as_bytes());
    context.reply.bulk_or_null(name);
    context.reply.integer(count);
}

fn count(session: &Session) -> usize {
    session.channels.len() + session.patterns.len()
}

fn bytes(session: &Session) -> usize {
    let names = session.channels.iter().chain(&session.patterns);
    names.map(Vec::len).sum()
}

fn note(session: &Session) {
    let mut about = session.entry.about.lock();
    about.channels = session.channels.len();
    about.patterns = session.patterns.len();
}
