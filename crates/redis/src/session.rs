//! What a connection has said and owns.

use crate::commands::{Adds, Transaction};
use crate::config::ReplyForm;
use crate::registry::{Entry, Watched};
use crate::server::Shared;
use crate::statistics::Statistics;
use barnabas_engine::{Caller, CallerLimits, Consumer, Position, Topic};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// How long QUIT and RESET wait for the consumer to leave its group.
const CLOSE_WAIT: Duration = Duration::from_millis(500);

/// What others see of a session's state, as CLIENT LIST shows it.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    pub(crate) is_watching: AtomicBool,
    pub(crate) is_blocked: AtomicBool,
}

/// A consumer's name: `<group>:<name>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) whole: String,
    colon: usize,
}

impl Name {
    /// `None` without a colon.
    pub(crate) fn new(whole: &str) -> Option<Self> {
        Some(Self {
            whole: whole.to_owned(),
            colon: whole.find(':')?,
        })
    }

    /// The group: what is before the first colon.
    pub(crate) fn group(&self) -> &str {
        self.whole.get(..self.colon).unwrap_or("")
    }

    /// The consumer: what is after it.
    pub(crate) fn consumer(&self) -> &str {
        self.whole.get(self.colon + 1..).unwrap_or("")
    }
}

/// The one consumer of a connection.
pub(crate) struct ActiveConsumer {
    pub(crate) consumer: Consumer,
    /// The list it was created with, in its order, joined by commas.
    pub(crate) topics: String,
    pub(crate) reply: ReplyForm,
    /// The position behind the message delivered last.
    pub(crate) last: Option<Position>,
    /// Whether `last` is to be acknowledged by the next BLPOP.
    pub(crate) acknowledges_last: bool,
}

/// The state of one connection. Dropping it frees everything: the name at
/// once, the consumer in the background.
pub(crate) struct Session {
    pub(crate) shared: Arc<Shared>,
    pub(crate) entry: Arc<Entry>,
    pub(crate) name: Option<Name>,
    pub(crate) is_logged_in: bool,
    pub(crate) consumer: Option<ActiveConsumer>,
    pub(crate) caller: Option<Caller>,
    /// The sequence behind the last message in the journal; 0 is none.
    pub(crate) journaled: u64,
    /// The topic produced to last; nearly always that of the next message.
    pub(crate) topic: Option<Arc<Topic>>,
    /// The XADDs that are not answered yet.
    pub(crate) adds: Adds,
    pub(crate) transaction: Option<Transaction>,
    pub(crate) channels: BTreeSet<Vec<u8>>,
    pub(crate) patterns: BTreeSet<Vec<u8>>,
    /// The lines to show, once the connection has sent MONITOR.
    pub(crate) watched: Option<Watched>,
    /// When the wait for room ends that has begun, for all that was read at
    /// once.
    pub(crate) room_deadline: Option<tokio::time::Instant>,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, entry: Arc<Entry>) -> Self {
        let is_logged_in = !shared.config.requires_login();
        Self {
            shared,
            entry,
            name: None,
            is_logged_in,
            consumer: None,
            caller: None,
            journaled: 0,
            topic: None,
            adds: Adds::default(),
            transaction: None,
            channels: BTreeSet::new(),
            patterns: BTreeSet::new(),
            watched: None,
            room_deadline: None,
        }
    }

    /// `<id>` of the contract: the name, or the peer's address.
    pub(crate) fn id(&self) -> &str {
        self.name
            .as_ref()
            .map_or(self.entry.peer.as_str(), |name| name.whole.as_str())
    }

    /// This connection's account with the shared producer; made on first use.
    pub(crate) fn caller(&mut self) -> &mut Caller {
        self.caller
            .get_or_insert_with(|| self.shared.producer.caller(CallerLimits::default()))
    }

    /// Gives the name back.
    pub(crate) fn release_name(&mut self) {
        if let Some(name) = self.name.take() {
            self.shared.registry.release(&name.whole, self.entry.id);
            self.entry.about.lock().name = None;
        }
    }

    /// Closes the consumer: stored offsets are committed and the group is
    /// left. Waits a little for that; the rest goes on in the background.
    pub(crate) async fn close_consumer(&mut self) {
        if let Some(closing) = self.begin_closing_consumer() {
            let _ = tokio::time::timeout(CLOSE_WAIT, closing).await;
        }
    }

    /// Starts closing in the background, tracked so that a stopping server
    /// waits for it.
    fn begin_closing_consumer(&mut self) -> Option<impl Future<Output = ()> + use<>> {
        let active = self.consumer.take()?;
        self.entry.about.lock().topics.clear();
        let shared = Arc::clone(&self.shared);
        let (told, done) = tokio::sync::oneshot::channel::<()>();
        let closing = active.consumer.close();
        self.shared.background.spawn(async move {
            let has_left = closing.done().await;
            shared.consumer_is_closed(has_left);
            let _ = told.send(());
        });
        Some(async move {
            let _ = done.await;
        })
    }

    /// Notes that the connection has a consumer now.
    pub(crate) fn adopt_consumer(&mut self, active: ActiveConsumer) {
        self.entry.about.lock().topics.clone_from(&active.topics);
        Statistics::add(&self.shared.statistics.consumers, 1);
        self.consumer = Some(active);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.release_name();
        let _ = self.begin_closing_consumer();
        self.shared.registry.leave(self.entry.id);
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn a_name_is_cut_at_the_first_colon() {
        let name = Name::new("billing:w:1").unwrap();
        assert_eq!((name.group(), name.consumer()), ("billing", "w:1"));
        let empty = Name::new(":").unwrap();
        assert_eq!((empty.group(), empty.consumer()), ("", ""));
        assert!(Name::new("billing").is_none());
    }
}
