//! What connections know of each other: who is there, which names are taken,
//! who watches.

use crate::codec::escape_controls;
use crate::session::Flags;
use crate::statistics::Statistics;
use crate::stream::is_hung_up;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc};

/// Lines may be long: beyond so many bytes they are dropped, too.
const WATCHER_BYTES: usize = 4 << 20;
/// Lines that wait for a watcher; more are dropped and counted.
const WATCHER_LINES: usize = 1_000;
/// Bytes of one argument that a watcher sees.
const WATCHED_ARGUMENT: usize = 1_024;

/// What a connection is asked to do.
pub(crate) mod order {
    /// End at once.
    pub(crate) const KILL: u8 = 1;
    /// The server stops: consumers end after their reply.
    pub(crate) const STOP_CONSUMING: u8 = 2;
    /// The server stops: everybody ends after the running command.
    pub(crate) const CLOSE: u8 = 4;
}

/// What others may see of a connection, and how they reach it.
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) peer: String,
    pub(crate) since: Instant,
    descriptor: RawFd,
    orders: AtomicU8,
    ordered: Notify,
    pub(crate) about: Mutex<About>,
    pub(crate) flags: Flags,
    /// Milliseconds after `since` of the last command.
    pub(crate) active_ms: AtomicU64,
    pub(crate) is_resp3: AtomicBool,
}

/// The slowly changing part.
#[derive(Debug, Clone)]
pub(crate) struct About {
    pub(crate) name: Option<String>,
    pub(crate) user: String,
    /// The command executed last, and its subcommand.
    pub(crate) command: &'static str,
    pub(crate) subcommand: &'static str,
    pub(crate) library_name: String,
    pub(crate) library_version: String,
    pub(crate) topics: String,
    pub(crate) database: u8,
    /// Subscriptions.
    pub(crate) channels: usize,
    pub(crate) patterns: usize,
    /// Commands that wait for EXEC.
    pub(crate) queued: Option<usize>,
}

impl Default for About {
    fn default() -> Self {
        Self {
            name: None,
            user: "default".to_owned(),
            command: "",
            subcommand: "",
            library_name: String::new(),
            library_version: String::new(),
            topics: String::new(),
            database: 0,
            channels: 0,
            patterns: 0,
            queued: None,
        }
    }
}

impl Entry {
    pub(crate) fn orders(&self) -> u8 {
        self.orders.load(Ordering::Acquire)
    }

    pub(crate) fn give_order(&self, order: u8) {
        self.orders.fetch_or(order, Ordering::AcqRel);
        self.ordered.notify_waiters();
    }

    /// Resolves when one of `wanted` has been ordered.
    pub(crate) async fn ordered(&self, wanted: u8) {
        loop {
            let ordered = self.ordered.notified();
            tokio::pin!(ordered);
            ordered.as_mut().enable();
            if self.orders() & wanted != 0 {
                return;
            }
            ordered.await;
        }
    }

    pub(crate) fn touch(&self) {
        let active = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active_ms.store(active, Ordering::Relaxed);
    }
}

/// Somebody who sent MONITOR.
struct Watcher {
    lines: mpsc::Sender<String>,
    /// Bytes of the lines that wait.
    bytes: Arc<AtomicUsize>,
}

/// The lines that a watcher has to show.
pub(crate) struct Watched {
    lines: mpsc::Receiver<String>,
    bytes: Arc<AtomicUsize>,
}

impl Watched {
    /// The next line; `None` when there will be none.
    pub(crate) async fn recv(&mut self) -> Option<String> {
        let line = self.lines.recv().await;
        self.taken(line.as_deref());
        line
    }

    /// The next line that has arrived.
    pub(crate) fn try_recv(&mut self) -> Option<String> {
        let line = self.lines.try_recv().ok();
        self.taken(line.as_deref());
        line
    }

    fn taken(&self, line: Option<&str>) {
        let bytes = line.map_or(0, str::len);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// All connections of the process.
#[derive(Default)]
pub(crate) struct Registry {
    entries: Mutex<BTreeMap<u64, Arc<Entry>>>,
    names: Mutex<HashMap<String, Holders>>,
    watchers: Mutex<HashMap<u64, Watcher>>,
    watcher_count: AtomicUsize,
    last_id: AtomicU64,
    /// Orders that hold for every connection, also for those to come.
    standing_orders: AtomicU8,
}

/// Who has a name: a connection, or consumers of streams. Both only where the
/// connection that has the name has made the consumers.
#[derive(Default)]
struct Holders {
    connection: Option<u64>,
    streams: usize,
    /// A connection with the name has made these consumers: it may take the
    /// name again when it comes back.
    is_shared: bool,
}

/// Why a name cannot be had.
#[derive(Debug)]
pub(crate) struct NameTaken;

impl Registry {
    pub(crate) fn enter(&self, peer: String, descriptor: RawFd) -> Arc<Entry> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let entry = Arc::new(Entry {
            id,
            peer,
            since: Instant::now(),
            descriptor,
            orders: AtomicU8::new(self.standing_orders.load(Ordering::Acquire)),
            ordered: Notify::new(),
            about: Mutex::default(),
            flags: Flags::default(),
            active_ms: AtomicU64::new(0),
            is_resp3: AtomicBool::new(false),
        });
        self.entries.lock().insert(id, Arc::clone(&entry));
        // An order given between the two lines above.
        entry.orders.fetch_or(
            self.standing_orders.load(Ordering::Acquire),
            Ordering::AcqRel,
        );
        entry
    }

    /// Must be called while the connection's socket is still open: others
    /// may look at the descriptor of every entry they find.
    pub(crate) fn leave(&self, id: u64) {
        self.unwatch(id);
        self.entries.lock().remove(&id);
    }

    /// All connections, by id.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.entries.lock().values().cloned().collect()
    }

    /// Orders something of all connections, now and to come.
    pub(crate) fn order_all(&self, order: u8) {
        self.standing_orders.fetch_or(order, Ordering::AcqRel);
        for entry in self.entries() {
            entry.give_order(order);
        }
    }

    /// Takes a name for a connection, also from a holder that has hung up and
    /// has not noticed yet.
    pub(crate) fn claim(&self, name: &str, id: u64) -> Result<(), NameTaken> {
        let mut names = self.names.lock();
        if let Some(holders) = names.get_mut(name) {
            let is_others = match holders.connection {
                Some(holder) => holder != id && !self.is_hung_up(holder),
                None => holders.streams > 0 && !holders.is_shared,
            };
            if is_others {
                return Err(NameTaken);
            }
            holders.connection = Some(id);
        } else {
            let holders = Holders {
                connection: Some(id),
                ..Holders::default()
            };
            names.insert(name.to_owned(), holders);
        }
        Ok(())
    }

    /// Takes a name for a consumer of streams that a connection makes. Several
    /// consumers may have one name, for different topics.
    pub(crate) fn claim_for_stream(&self, name: &str, id: u64) -> Result<(), NameTaken> {
        let mut names = self.names.lock();
        let holders = names.entry(name.to_owned()).or_default();
        match holders.connection {
            Some(holder) if holder == id => holders.is_shared = true,
            Some(holder) if holders.streams == 0 && !self.is_hung_up(holder) => {
                return Err(NameTaken);
            }
            _ => {}
        }
        holders.streams += 1;
        Ok(())
    }

    /// Gives a name back that a consumer of streams has had.
    pub(crate) fn release_from_stream(&self, name: &str) {
        let mut names = self.names.lock();
        let Some(holders) = names.get_mut(name) else {
            return;
        };
        holders.streams = holders.streams.saturating_sub(1);
        if holders.streams == 0 {
            holders.is_shared = false;
            if holders.connection.is_none() {
                names.remove(name);
            }
        }
    }

    fn is_hung_up(&self, id: u64) -> bool {
        // The lock keeps the entry, and the entry keeps the socket open.
        match self.entries.lock().get(&id) {
            Some(entry) => is_hung_up(entry.descriptor),
            None => true,
        }
    }

    /// Gives a name back.
    pub(crate) fn release(&self, name: &str, id: u64) {
        let mut names = self.names.lock();
        if let Some(holders) = names.get_mut(name)
            && holders.connection == Some(id)
        {
            holders.connection = None;
            if holders.streams == 0 {
                names.remove(name);
            }
        }
    }

    /// Makes a connection a watcher.
    pub(crate) fn watch(&self, id: u64) -> Watched {
        let (lines, receiver) = mpsc::channel(WATCHER_LINES);
        let bytes = Arc::new(AtomicUsize::new(0));
        let watched = Watched {
            lines: receiver,
            bytes: Arc::clone(&bytes),
        };
        let mut watchers = self.watchers.lock();
        watchers.insert(id, Watcher { lines, bytes });
        self.watcher_count.store(watchers.len(), Ordering::Release);
        watched
    }

    pub(crate) fn unwatch(&self, id: u64) {
        let mut watchers = self.watchers.lock();
        watchers.remove(&id);
        self.watcher_count.store(watchers.len(), Ordering::Release);
    }

    pub(crate) fn has_watchers(&self) -> bool {
        self.watcher_count.load(Ordering::Acquire) > 0
    }

    /// Shows a command to all watchers.
    pub(crate) fn show<'a>(
        &self,
        issuer: &str,
        hidden_from: Option<u64>,
        arguments: impl Iterator<Item = &'a [u8]>,
        statistics: &Statistics,
    ) {
        let line = watched_line(issuer, arguments);
        for (id, watcher) in self.watchers.lock().iter() {
            if hidden_from == Some(*id) {
                continue;
            }
            // Before the line can be taken.
            let waiting = watcher.bytes.fetch_add(line.len(), Ordering::Relaxed);
            let has_room = waiting < WATCHER_BYTES;
            if !has_room || watcher.lines.try_send(line.clone()).is_err() {
                watcher.bytes.fetch_sub(line.len(), Ordering::Relaxed);
                Statistics::add(&statistics.monitor_dropped, 1);
            }
        }
    }
}

/// One MONITOR line without its `+` and line end.
fn watched_line<'a>(issuer: &str, arguments: impl Iterator<Item = &'a [u8]>) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut line = format!(
        "{}.{:06} [0 {}]",
        now.as_secs(),
        now.subsec_micros(),
        escape_controls(issuer.as_bytes())
    );
    let mut hides = Hides::new();
    for argument in arguments {
        line.push_str(" \"");
        if hides.hides(argument) {
            line.push_str("(redacted)");
        } else {
            escape_argument(&mut line, argument);
        }
        line.push('"');
    }
    line
}

/// Which arguments are passwords: all of AUTH, the two after HELLO's AUTH.
struct Hides {
    command: Vec<u8>,
    index: usize,
    after_auth: usize,
}

impl Hides {
    fn new() -> Self {
        Self {
            command: Vec::new(),
            index: 0,
            after_auth: 0,
        }
    }

    fn hides(&mut self, argument: &[u8]) -> bool {
        let index = self.index;
        self.index += 1;
        if index == 0 {
            self.command = argument.to_ascii_uppercase();
            return false;
        }
        if self.command == b"AUTH" {
            return true;
        }
        if self.command == b"HELLO" {
            if self.after_auth > 0 {
                self.after_auth -= 1;
                return true;
            }
            if argument.eq_ignore_ascii_case(b"auth") {
                self.after_auth = 2;
            }
        }
        false
    }
}

/// Redis's escaping of arguments in MONITOR.
fn escape_argument(line: &mut String, argument: &[u8]) {
    use std::fmt::Write as _;
    let shown = argument.get(..WATCHED_ARGUMENT).unwrap_or(argument);
    for byte in shown {
        match byte {
            b'\\' => line.push_str("\\\\"),
            b'"' => line.push_str("\\\""),
            b'\n' => line.push_str("\\n"),
            b'\r' => line.push_str("\\r"),
            b'\t' => line.push_str("\\t"),
            0x07 => line.push_str("\\a"),
            0x08 => line.push_str("\\b"),
            0x20..=0x7e => line.push(char::from(*byte)),
            other => {
                let _ = write!(line, "\\x{other:02x}");
            }
        }
    }
    if argument.len() > WATCHED_ARGUMENT {
        line.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(arguments: &[&[u8]]) -> String {
        let line = watched_line("g:n", arguments.iter().copied());
        line.split_once("] ").unwrap().1.to_owned()
    }

    #[test]
    fn arguments_are_escaped_and_cut() {
        assert_eq!(
            shown(&[b"PING", b"a\"b\\\r\n\x00\xff"]),
            "\"PING\" \"a\\\"b\\\\\\r\\n\\x00\\xff\""
        );
        let long = vec![b'x'; 1_025];
        assert_eq!(
            shown(&[b"ECHO", &long]),
            format!("\"ECHO\" \"{}...\"", "x".repeat(1_024))
        );
    }

    #[test]
    fn passwords_are_never_shown() {
        assert_eq!(
            shown(&[b"auth", b"u", b"p"]),
            "\"auth\" \"(redacted)\" \"(redacted)\""
        );
        assert_eq!(
            shown(&[b"HELLO", b"3", b"AUTH", b"u", b"p", b"SETNAME", b"n"]),
            "\"HELLO\" \"3\" \"AUTH\" \"(redacted)\" \"(redacted)\" \"SETNAME\" \"n\""
        );
    }

    #[test]
    fn a_name_is_held_once() {
        let registry = Registry::default();
        let (one, two) = (
            registry.enter("a".to_owned(), 0),
            registry.enter("b".to_owned(), 0),
        );
        assert!(registry.claim("g:n", one.id).is_ok());
        assert!(registry.claim("g:n", one.id).is_ok());
        assert!(registry.claim("g:n", two.id).is_err());
        registry.release("g:n", two.id);
        assert!(registry.claim("g:n", two.id).is_err());
        registry.release("g:n", one.id);
        assert!(registry.claim("g:n", two.id).is_ok());
    }

    #[test]
    fn consumers_of_streams_have_names_too() {
        let registry = Registry::default();
        // Descriptors of sockets that are nobody's to hang up.
        let (one, two) = (
            registry.enter("a".to_owned(), -1),
            registry.enter("b".to_owned(), -1),
        );
        // A stream's name is nobody else's, until its last consumer ends.
        assert!(registry.claim_for_stream("g:n", one.id).is_ok());
        assert!(registry.claim_for_stream("g:n", two.id).is_ok());
        assert!(registry.claim("g:n", one.id).is_err());
        registry.release_from_stream("g:n");
        assert!(registry.claim("g:n", one.id).is_err());
        registry.release_from_stream("g:n");
        assert!(registry.claim("g:n", one.id).is_ok());
        // A connection's name is only its own consumers'.
        assert!(registry.claim_for_stream("g:n", two.id).is_err());
        assert!(registry.claim_for_stream("g:n", one.id).is_ok());
        assert!(registry.claim_for_stream("g:n", two.id).is_ok());
        // It comes back and finds them.
        registry.release("g:n", one.id);
        assert!(registry.claim("g:n", two.id).is_ok());
        registry.release("g:n", two.id);
        registry.release_from_stream("g:n");
        registry.release_from_stream("g:n");
        assert!(registry.names.lock().is_empty());
    }
}
