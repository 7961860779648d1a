//! `CLIENT LIST [TYPE type | ID id …]` and `CLIENT INFO`: one line per
//! connection (contract, section 12).

use super::Arguments;
use crate::registry::{Entry, order};
use crate::session::Session;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What Redis 7 says of a connection's buffers. Ours belong to the threads, but
/// clients (redis-py 5) insist on the fields.
const MEMORY: &str = "qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 \
                      tot-mem=0 events=r";

/// What Redis calls the type of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Subscriber,
    /// Masters and replicas: there are none.
    Replication,
}

impl Kind {
    pub(super) fn parse(word: &[u8]) -> Result<Self, String> {
        match word.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(Self::Normal),
            b"pubsub" => Ok(Self::Subscriber),
            b"master" | b"replica" | b"slave" => Ok(Self::Replication),
            _ => Err(format!(
                "ERR Unknown client type '{}'",
                String::from_utf8_lossy(word)
            )),
        }
    }

    pub(super) fn of(entry: &Entry) -> Self {
        let about = entry.about.lock();
        if about.channels + about.patterns > 0 {
            Self::Subscriber
        } else {
            Self::Normal
        }
    }
}

/// The lines of the connections that are asked for.
pub(super) fn list(session: &Session, arguments: &Arguments<'_>) -> Result<String, String> {
    let mut entries = session.shared.registry.entries();
    match arguments.count() {
        0..=2 => {}
        4 if arguments.is(2, "type") => {
            let kind = Kind::parse(arguments.get(3))?;
            entries.retain(|entry| Kind::of(entry) == kind);
        }
        count if count >= 4 && arguments.is(2, "id") => {
            let ids: Vec<u64> = arguments
                .from(3)
                .map(parse_id)
                .collect::<Option<_>>()
                .ok_or("ERR Invalid client ID")?;
            entries.retain(|entry| ids.contains(&entry.id));
        }
        _ => return Err("ERR syntax error".to_owned()),
    }
    Ok(entries.iter().map(|entry| describe(entry)).collect())
}

/// A connection's number; they begin at 1.
pub(super) fn parse_id(word: &[u8]) -> Option<u64> {
    let id = std::str::from_utf8(word).ok()?.parse().ok()?;
    (id > 0).then_some(id)
}

/// One line, its end included.
pub(super) fn describe(entry: &Entry) -> String {
    let age = entry.since.elapsed();
    let active = Duration::from_millis(entry.active_ms.load(Ordering::Relaxed));
    let idle = age.saturating_sub(active);
    let about = entry.about.lock();
    let is_set = |flag: &std::sync::atomic::AtomicBool| flag.load(Ordering::Relaxed);
    let mut flags = String::new();
    for (letter, is_on) in [
        ('O', is_set(&entry.flags.is_watching)),
        ('P', about.channels + about.patterns > 0),
        ('x', about.queued.is_some()),
        ('b', is_set(&entry.flags.is_blocked)),
        ('A', entry.orders() & (order::KILL | order::CLOSE) != 0),
    ] {
        if is_on {
            flags.push(letter);
        }
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let mut line = format!("id={} addr={} name=", entry.id, entry.peer);
    push_word(&mut line, about.name.as_deref().unwrap_or(""));
    let queued = about
        .queued
        .map_or(-1, |count| i64::try_from(count).unwrap_or(i64::MAX));
    let _ = write!(
        line,
        " age={} idle={} flags={flags} db={} sub={} psub={} ssub=0 multi={queued} {MEMORY} cmd={}",
        age.as_secs(),
        idle.as_secs(),
        about.database,
        about.channels,
        about.patterns,
        if about.command.is_empty() {
            "NULL"
        } else {
            about.command
        },
    );
    if !about.subcommand.is_empty() {
        line.push('|');
        line.push_str(about.subcommand);
    }
    line.push_str(" user=");
    push_word(&mut line, &about.user);
    let version = if is_set(&entry.is_resp3) { 3 } else { 2 };
    let _ = write!(
        line,
        " redir=-1 resp={version} lib-name={} lib-ver={} topics=",
        about.library_name, about.library_version
    );
    push_word(&mut line, &about.topics);
    line.push('\n');
    line
}

/// Clients split these lines at blanks, and names may hold some.
fn push_word(line: &mut String, word: &str) {
    for c in word.chars() {
        if c.is_whitespace() || c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(line, "\\x{byte:02x}");
            }
        } else {
            line.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    #[test]
    fn a_line_has_one_word_per_field() {
        let registry = Registry::default();
        let entry = registry.enter("10.0.0.1:5000".to_owned(), 0);
        assert_eq!(
            describe(&entry),
            "id=1 addr=10.0.0.1:5000 name= age=0 idle=0 flags=N db=0 sub=0 psub=0 ssub=0 \
             multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 \
             tot-mem=0 events=r cmd=NULL user=default redir=-1 resp=2 lib-name= lib-ver= topics=\n"
        );
        {
            let mut about = entry.about.lock();
            about.name = Some("my group:w 1".to_owned());
            about.command = "client";
            about.subcommand = "list";
            about.library_name = "redis-py".to_owned();
            about.library_version = "5.0".to_owned();
            about.topics = "a,b".to_owned();
            about.database = 2;
            about.channels = 3;
            about.queued = Some(4);
        }
        entry.is_resp3.store(true, Ordering::Relaxed);
        entry.flags.is_watching.store(true, Ordering::Relaxed);
        entry.flags.is_blocked.store(true, Ordering::Relaxed);
        entry.give_order(order::KILL);
        assert_eq!(
            describe(&entry),
            "id=1 addr=10.0.0.1:5000 name=my\\x20group:w\\x201 age=0 idle=0 flags=OPxbA db=2 \
             sub=3 psub=0 ssub=0 multi=4 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 \
             rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd=client|list user=default \
             redir=-1 resp=3 lib-name=redis-py lib-ver=5.0 topics=a,b\n"
        );
    }
}
