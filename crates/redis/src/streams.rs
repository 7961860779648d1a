//! Consumers of streams (contract, 13.3): who they are, what they hold, when
//! they end.
//!
//! They are known by group, name and topics, not by connection, and share
//! the process's consumer groups with its other front ends. What they hold is
//! kept by the engine, each message once; here is only who they are.

use crate::registry::{NameTaken, Registry};
use crate::server::Shared;
use barnabas_engine::{Held, Holder, Proxy};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Entries that a consumer may have unacknowledged; then it gets nothing new.
pub(crate) const MOST_ENTRIES: usize = 10_000;
/// The bytes of keys, values and headers that they may have.
const MOST_BYTES: usize = 64 << 20;
/// Consumers at the same time: whoever may consume names them.
const MOST_CONSUMERS: usize = 10_000;
/// Bytes of what they are called and of the topics that they read.
const MOST_KEY_BYTES: usize = 8 << 20;
/// Bytes of a group's or a consumer's name.
const LONGEST_NAME: usize = 1_024;
/// How often idle consumers are looked for, at most.
const SHORTEST_TICK: Duration = Duration::from_millis(10);
/// How often idle consumers are looked for, at least.
const LONGEST_TICK: Duration = Duration::from_secs(1);

/// The consumers of streams of this process.
pub(crate) struct Streams {
    /// The cluster whose topics are the streams.
    proxy: Arc<Proxy>,
    /// Without requests for so long, a consumer ends.
    idle_limit: Duration,
    consumers: Mutex<Consumers>,
}

#[derive(Default)]
struct Consumers {
    /// By [`key`].
    by_key: HashMap<String, Arc<StreamConsumer>>,
    by_holder: HashMap<Holder, Arc<StreamConsumer>>,
    /// The bytes of all keys.
    key_bytes: usize,
}

/// One of them.
pub(crate) struct StreamConsumer {
    pub(crate) group: String,
    name: String,
    topics: Vec<String>,
    /// To whom the engine says its messages belong.
    pub(crate) holder: Holder,
    key: String,
    touched: Mutex<Instant>,
    /// Requests that wait for messages.
    waiting: AtomicUsize,
    has_ended: AtomicBool,
    /// Not less than what it holds: what it held when that was looked at, and
    /// what it has got since.
    bound: Mutex<Held>,
}

/// Why there is no such consumer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("ERR Client names cannot contain spaces, newlines or special characters.")]
    Control,
    #[error("ERR Names of groups and consumers may have up to {LONGEST_NAME} bytes")]
    TooLong,
    #[error("CONS Broker: Invalid group.id")]
    NoGroup,
    #[error("CONS id {0} is already taken")]
    NameTaken(String),
    #[error("CONS too many consumers of streams")]
    TooMany,
}

/// What identifies a consumer, in one string: no part holds a NUL.
fn key(group: &str, name: &str, topics: &[String]) -> String {
    let length = topics.iter().map(|topic| topic.len() + 1).sum::<usize>();
    let mut key = String::with_capacity(group.len() + name.len() + length + 1);
    key.push_str(group);
    key.push('\0');
    key.push_str(name);
    for topic in topics {
        key.push('\0');
        key.push_str(topic);
    }
    key
}

/// What would make the name of a group or a consumer unusable.
pub(crate) fn check_names(group: &str, name: &str) -> Result<(), Refusal> {
    if [group, name]
        .iter()
        .any(|text| text.bytes().any(|byte| byte.is_ascii_control()))
    {
        return Err(Refusal::Control);
    }
    if group.len().max(name.len()) > LONGEST_NAME {
        return Err(Refusal::TooLong);
    }
    if group.is_empty() {
        return Err(Refusal::NoGroup);
    }
    Ok(())
}

impl StreamConsumer {
    /// `<group>:<name>`, as connections are named.
    fn id(&self) -> String {
        format!("{}:{}", self.group, self.name)
    }

    pub(crate) fn touch(&self) {
        *self.touched.lock() = Instant::now();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    fn reads(&self, group: &str, topic: &str) -> bool {
        self.group == group && self.topics.iter().any(|own| own == topic)
    }

    fn is_idle(&self, limit: Duration) -> bool {
        self.waiting.load(Ordering::Acquire) == 0 && self.touched.lock().elapsed() >= limit
    }

    /// While the guard lives, the consumer is not idle.
    pub(crate) fn waiting(self: &Arc<Self>) -> Waiting {
        self.touch();
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Waiting(Arc::clone(self))
    }

    /// How much more it may get now, if it wants up to `messages` with up to
    /// `bytes`. The engine is asked only when the limit may be near.
    pub(crate) fn room(&self, proxy: &Proxy, messages: usize, bytes: usize) -> Held {
        let mut bound = self.bound.lock();
        if bound.messages + messages > MOST_ENTRIES || bound.bytes + bytes > MOST_BYTES {
            *bound = proxy.dispatcher.held_by(&self.group, self.holder);
        }
        Held {
            messages: messages.min(MOST_ENTRIES.saturating_sub(bound.messages)),
            bytes: bytes.min(MOST_BYTES.saturating_sub(bound.bytes)),
        }
    }

    /// Notes what it has got.
    pub(crate) fn note(&self, messages: usize, bytes: usize) {
        let mut bound = self.bound.lock();
        bound.messages = bound.messages.saturating_add(messages);
        bound.bytes = bound.bytes.saturating_add(bytes);
    }
}

/// A request of a consumer that is under way.
pub(crate) struct Waiting(Arc<StreamConsumer>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.touch();
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Streams {
    pub(crate) fn new(proxy: Arc<Proxy>, idle_limit: Duration) -> Self {
        Self {
            proxy,
            idle_limit,
            consumers: Mutex::default(),
        }
    }

    /// The cluster whose topics are the streams.
    pub(crate) fn proxy(&self) -> &Arc<Proxy> {
        &self.proxy
    }

    /// The consumer of that group, name and topics; made on first use by the
    /// connection `connection`.
    pub(crate) fn consumer(
        &self,
        registry: &Registry,
        connection: u64,
        group: &str,
        name: &str,
        topics: &[String],
    ) -> Result<(Arc<StreamConsumer>, bool), Refusal> {
        let key = key(group, name, topics);
        let mut consumers = self.consumers.lock();
        if let Some(found) = consumers.by_key.get(&key) {
            return Ok((Arc::clone(found), false));
        }
        check_names(group, name)?;
        if consumers.by_key.len() >= MOST_CONSUMERS
            || consumers.key_bytes + key.len() > MOST_KEY_BYTES
        {
            return Err(Refusal::TooMany);
        }
        let consumer = Arc::new(StreamConsumer {
            group: group.to_owned(),
            name: name.to_owned(),
            topics: topics.to_vec(),
            holder: Holder::unique(),
            key: key.clone(),
            touched: Mutex::new(Instant::now()),
            waiting: AtomicUsize::new(0),
            has_ended: AtomicBool::new(false),
            bound: Mutex::default(),
        });
        let id = consumer.id();
        registry
            .claim_for_stream(&id, connection)
            .map_err(|NameTaken| Refusal::NameTaken(id))?;
        consumers.key_bytes += key.len();
        consumers
            .by_holder
            .insert(consumer.holder, Arc::clone(&consumer));
        consumers.by_key.insert(key, Arc::clone(&consumer));
        tracing::debug!(
            component = format!("consumer-{}", consumer.id()),
            "begins to read {}",
            topics.join(",")
        );
        Ok((consumer, true))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.consumers.lock().by_key.len()
    }

    /// Those of a group that read a topic.
    pub(crate) fn readers(&self, group: &str, topic: &str) -> Vec<Arc<StreamConsumer>> {
        self.filtered(|consumer| consumer.reads(group, topic))
    }

    /// Those of one name that read a topic, whatever else they read.
    pub(crate) fn named(&self, group: &str, name: &str, topic: &str) -> Vec<Arc<StreamConsumer>> {
        self.filtered(|consumer| consumer.name == name && consumer.reads(group, topic))
    }

    fn filtered(&self, wanted: impl Fn(&StreamConsumer) -> bool) -> Vec<Arc<StreamConsumer>> {
        let consumers = self.consumers.lock();
        let all = consumers.by_key.values();
        all.filter(|consumer| wanted(consumer)).cloned().collect()
    }

    /// Notes that messages of these holders are being acknowledged.
    pub(crate) fn touch(&self, holders: &[Holder]) {
        let consumers = self.consumers.lock();
        for holder in holders {
            if let Some(consumer) = consumers.by_holder.get(holder) {
                consumer.touch();
            }
        }
    }

    /// Ends consumers: their names are free, and what they hold is delivered
    /// to others.
    pub(crate) fn end(&self, registry: &Registry, ending: &[Arc<StreamConsumer>]) {
        for consumer in ending {
            {
                let mut consumers = self.consumers.lock();
                if consumers.by_holder.remove(&consumer.holder).is_none() {
                    continue;
                }
                consumers.by_key.remove(&consumer.key);
                consumers.key_bytes -= consumer.key.len();
            }
            consumer.has_ended.store(true, Ordering::Release);
            registry.release_from_stream(&consumer.id());
            let dispatcher = &self.proxy.dispatcher;
            dispatcher.give_back(&consumer.group, consumer.holder);
            tracing::debug!(component = format!("consumer-{}", consumer.id()), "ends");
        }
    }

    /// Ends those that nobody has used for long enough.
    fn end_idle(&self, registry: &Registry) {
        let idle = self.filtered(|consumer| consumer.is_idle(self.idle_limit));
        self.end(registry, &idle);
    }

    /// Ends all; the server stops.
    pub(crate) fn end_all(&self, registry: &Registry) {
        self.end(registry, &self.filtered(|_| true));
    }

    /// Whether any of them holds a message.
    pub(crate) fn hold_something(&self) -> bool {
        self.filtered(|_| true).iter().any(|consumer| {
            let held = self
                .proxy
                .dispatcher
                .held_by(&consumer.group, consumer.holder);
            held.messages > 0
        })
    }

    /// Looks for idle consumers as long as the server lives.
    pub(crate) async fn watch(shared: Weak<Shared>, idle_limit: Duration) {
        let tick = (idle_limit / 4).clamp(SHORTEST_TICK, LONGEST_TICK);
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let Some(shared) = shared.upgrade() else {
                return;
            };
            if let Some(streams) = &shared.streams {
                streams.end_idle(&shared.registry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_connections() {
        assert_eq!(check_names("g", ""), Ok(()));
        assert_eq!(check_names("gr oup", "ü:x"), Ok(()));
        assert_eq!(check_names("", "c"), Err(Refusal::NoGroup));
        assert_eq!(check_names("g\0", "c"), Err(Refusal::Control));
        assert_eq!(check_names("g", "a\nb"), Err(Refusal::Control));
        let long = "x".repeat(LONGEST_NAME + 1);
        assert_eq!(check_names("g", &long), Err(Refusal::TooLong));
    }

    #[test]
    fn keys_tell_consumers_apart() {
        let list = |text: &str| -> Vec<String> { text.split(',').map(str::to_owned).collect() };
        let keys = [
            key("g", "c", &list("a")),
            key("g", "c", &list("a,b")),
            key("g", "c", &list("b,a")),
            key("g", "ca", &list("b")),
            key("gc", "a", &list("b")),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[index + 1..].contains(key), "{key:?}");
        }
    }
}
