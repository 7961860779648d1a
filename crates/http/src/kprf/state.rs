//! What all requests share.

use super::admission::Admission;
use super::dead_letters;
use super::engine::{Engine, KprfProducers, Topic};
use super::limiter::RateRule;
use super::metrics::{Build, Metrics};
use super::reply::ReplyShape;
use super::rules::{DeadLetterTopics, Rules};
use crate::page::{ClientQuery, Health, Observed};
use arc_swap::ArcSwap;
use barnabas_engine::{Durability, Journal};
use barnabas_metrics::{Error, Family, Format, Meter, Registry};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What is configured of the front end (contract, section 3).
#[derive(Debug, Clone)]
pub struct KprfOptions {
    /// The largest body.
    pub max_body_bytes: usize,
    /// Records under way, all requests together.
    pub max_messages: u64,
    /// Bytes of bodies and records under way, all requests together.
    pub max_buffered_bytes: u64,
    /// `message.max.bytes`: larger records are refused before they are copied.
    pub message_max_bytes: u64,
    /// Of requests that do not say otherwise.
    pub durability: Durability,
    /// Of requests that do not say otherwise.
    pub reply_shape: ReplyShape,
    /// kprf's statuses: 500 for every failure of a request that waits, 200 for
    /// every request that does not.
    pub is_strict: bool,
    /// Requests that take longer are logged.
    pub slow_request: Duration,
    /// Records per topic and minute.
    pub rules: Vec<RateRule>,
    /// Whether refused records count, too.
    pub counts_refused: bool,
    /// Records per client and minute; 0 is no limit.
    pub client_limit: u32,
    /// Clients that are counted each for itself; the others share one limit.
    pub max_clients: usize,
    /// Globs of the topics that may be used; none: all.
    pub allowed_topics: Vec<String>,
    /// Globs of the topics that may not be used, whatever is allowed.
    pub denied_topics: Vec<String>,
    /// Where records go that fail when nobody waits for them any more.
    pub dead_letters: DeadLetterTopics,
    /// Topics with series of their own.
    pub max_topics: usize,
    /// Whether librdkafka's statistics of partitions are shown.
    pub has_partitions: bool,
    /// Shown in the metrics.
    pub version: String,
    /// Shown in the metrics.
    pub commit: String,
}

impl Default for KprfOptions {
    /// As kprf, where it had a default.
    fn default() -> Self {
        Self {
            max_body_bytes: 64 << 20,
            max_messages: 100_000,
            max_buffered_bytes: 256 << 20,
            message_max_bytes: 1 << 20,
            durability: Durability::Memory,
            reply_shape: ReplyShape::Program,
            is_strict: false,
            slow_request: Duration::from_secs(1),
            rules: Vec::new(),
            counts_refused: false,
            client_limit: 0,
            max_clients: 10_000,
            allowed_topics: Vec::new(),
            denied_topics: Vec::new(),
            dead_letters: DeadLetterTopics::default(),
            max_topics: 500,
            has_partitions: false,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: "unknown".to_owned(),
        }
    }
}

/// kprf's front end before it has a listener. Clones are the same.
#[derive(Clone)]
pub struct Kprf {
    pub(super) state: Arc<State>,
}

pub(super) struct State {
    pub(super) options: KprfOptions,
    pub(super) engine: Arc<Engine>,
    pub(super) journal: Option<Journal>,
    pub(super) admission: Admission,
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    /// Requests are still answered, but further ones are to go elsewhere.
    is_ending: AtomicBool,
    is_stopping: AtomicBool,
    rules: ArcSwap<Rules>,
}

impl Kprf {
    /// On these producers, whose properties have
    /// [`KprfProducers::add_defaults`].
    ///
    /// # Errors
    /// Metrics that contradict each other.
    pub fn new(producers: KprfProducers, options: KprfOptions) -> Result<Self, Error> {
        let journal = producers.journal.clone();
        let engine = Arc::new(Engine::new(producers));
        let build = Build {
            version: &options.version,
            commit: &options.commit,
            max_topics: options.max_topics,
            has_partitions: options.has_partitions,
        };
        let source = Arc::clone(&engine);
        let metrics = Metrics::new(&build, move || source.statistics())?;
        let state = State {
            engine,
            journal,
            admission: Admission::new(options.max_messages, options.max_buffered_bytes),
            metrics,
            health: Health::default(),
            is_ending: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            rules: ArcSwap::from_pointee(Rules::new(&options)),
            options,
        };
        let state = Arc::new(state);
        if let Some(journal) = &state.journal {
            // The state holds the journal.
            let state = Arc::downgrade(&state);
            journal.hear_refused(move |refused| {
                if let Some(state) = state.upgrade() {
                    dead_letters::refused(&state, refused);
                }
            });
        }
        Ok(Self { state })
    }

    /// From the next request on these options count: rate limits, whose counts
    /// go on, topics, durability, the form of replies, dead letters, what is
    /// slow. All others stay as they were; so does the durability if it were the
    /// journal's and there is none.
    pub fn reload(&self, options: &KprfOptions) {
        let current = self.state.rules();
        let mut rules = current.reloaded(options);
        if rules.durability == Durability::Journal && self.state.journal.is_none() {
            rules.durability = current.durability;
        }
        self.state.rules.store(Arc::new(rules));
    }

    /// What counts the connections of its main port.
    pub(crate) fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.state.metrics.meter)
    }

    /// What its metrics port shows.
    pub(crate) fn observed(&self) -> Arc<dyn Observed> {
        Arc::<State>::clone(&self.state)
    }

    /// The metrics as they stand now, for those who push them elsewhere.
    pub fn families(&self) -> Vec<Family> {
        let metrics = &self.state.metrics;
        metrics.registry(&self.state.admission).families()
    }

    /// Where the process adds metrics of what it knows itself.
    pub fn registry(&self) -> &Registry {
        self.state.metrics.registry(&self.state.admission)
    }

    /// From now on the process is not ready: new connections are to go
    /// elsewhere.
    pub fn begin_to_stop(&self) {
        self.state.is_ending.store(true, Ordering::Relaxed);
    }

    /// From now on every record is refused, and the process is not ready: what
    /// comes over connections that are still open is to go elsewhere.
    pub fn refuse_work(&self) {
        self.begin_to_stop();
        self.state.is_stopping.store(true, Ordering::Relaxed);
    }
}

impl Observed for State {
    fn text(&self, format: Format) -> String {
        self.metrics.registry(&self.admission).text(format)
    }

    /// Of the client of those who do not wait unless the other one is asked
    /// for.
    fn statistics(&self, query: &ClientQuery) -> Option<Arc<str>> {
        let wants_waiting = query.client.as_deref() == Some("waiting");
        self.engine.statistics_of(wants_waiting)
    }

    fn is_stopping(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    fn is_reachable(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(self.engine.is_reachable())
    }

    fn health(&self) -> &Health {
        &self.health
    }
}

impl State {
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// What counts now. Whoever has it goes on with it whatever is reloaded.
    pub(super) fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// The topic of a name, and what is known of it.
    pub(super) fn topic(&self, name: &str) -> Arc<Topic> {
        self.engine.topic(name, &self.metrics)
    }
}
