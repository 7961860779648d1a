//! What all requests share.

use super::drain::Drain;
use super::hook::{EditJson, Hook};
use super::reply::Refusal;
use super::routes::{InvalidRoute, Routes};
use super::valve::{Valve, ValveOptions};
use crate::meter::kafboy_meter;
use barnabas_engine::{Outbox, PerTopic, Room};
use barnabas_metrics::Meter;
use parking_lot::RwLock;
use std::sync::Arc;
use std::time::Duration;

/// What is configured of the front end (contract, section 8).
#[derive(Debug, Clone)]
pub struct KafboyOptions {
    /// Where asynchronous requests come; the other routes follow from it.
    pub async_url: String,
    /// Where synchronous requests come, likewise.
    pub sync_url: String,
    /// More paths that produce into batches.
    pub extra_async_batch: Vec<String>,
    /// More asynchronous paths.
    pub extra_async: Vec<String>,
    /// More synchronous paths.
    pub extra_sync: Vec<String>,
    /// The largest body.
    pub max_body_bytes: usize,
    /// All bodies together that are being read or waited with.
    pub max_bodies_bytes: u64,
    /// How long the hook may take, waiting for its turn included.
    pub hook_timeout: Duration,
    /// Statuses of kafboy: 200 for every synchronous reply.
    pub is_strict: bool,
    /// The valve before `/safe`; `None`: those routes are as the others.
    pub valve: Option<ValveOptions>,
    /// Topics whose asynchronous requests wait for Kafka, too (durability
    /// `kafka`).
    pub waits: PerTopic<bool>,
    /// What `/disco` says.
    pub node: String,
}

impl Default for KafboyOptions {
    /// As kafboy, where it had a default.
    fn default() -> Self {
        Self {
            async_url: "/async/:topic/".to_owned(),
            sync_url: "/sync/:topic/".to_owned(),
            extra_async_batch: Vec::new(),
            extra_async: Vec::new(),
            extra_sync: Vec::new(),
            max_body_bytes: 1 << 20,
            max_bodies_bytes: 256 << 20,
            hook_timeout: Duration::from_millis(500),
            is_strict: false,
            valve: None,
            waits: false.into(),
            node: "barnabas@localhost".to_owned(),
        }
    }
}

impl KafboyOptions {
    /// Whether all paths can be routes.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(&self) -> Result<(), InvalidRoute> {
        Routes::new(self).map(drop)
    }
}

/// kafboy's front end before it has a listener. Clones are the same.
#[derive(Clone)]
pub struct Kafboy {
    pub(super) state: Arc<State>,
}

pub(super) struct State {
    pub(super) options: KafboyOptions,
    pub(super) outbox: Outbox,
    pub(super) routes: Routes,
    changeable: RwLock<Arc<Changeable>>,
    pub(super) valve: Option<Valve>,
    pub(super) bodies: Arc<Room>,
    pub(super) drain: Drain,
    /// Of its port.
    pub(super) meter: Arc<Meter>,
}

/// What may change while requests come; each has it as it was at its begin.
pub(super) struct Changeable {
    pub(super) hook: Option<Hook>,
    pub(super) waits: PerTopic<bool>,
}

impl Changeable {
    fn new(
        hook: Option<Arc<dyn EditJson>>,
        waits: PerTopic<bool>,
        timeout: Duration,
        meter: &Arc<Meter>,
    ) -> Arc<Self> {
        let hook = hook.map(|hook| Hook::new(hook, timeout, meter));
        Arc::new(Self { hook, waits })
    }
}

impl Kafboy {
    /// On this outbox; `hook` edits what is posted.
    ///
    /// # Errors
    /// A path that can be no route.
    pub fn new(
        outbox: Outbox,
        hook: Option<Arc<dyn EditJson>>,
        options: KafboyOptions,
    ) -> Result<Self, InvalidRoute> {
        let routes = Routes::new(&options)?;
        let meter = kafboy_meter(routes.patterns());
        let waits = options.waits.clone();
        let changeable = Changeable::new(hook, waits, options.hook_timeout, &meter);
        let state = State {
            routes,
            changeable: RwLock::new(changeable),
            meter,
            valve: options.valve.map(Valve::new),
            bodies: Arc::new(Room::new(options.max_bodies_bytes)),
            drain: Drain::new(),
            outbox,
            options,
        };
        Ok(Self {
            state: Arc::new(state),
        })
    }

    /// Replaces the hook, and which topics wait
    /// ([`waits`](KafboyOptions::waits)), for requests from now on.
    pub fn reload(&self, hook: Option<Arc<dyn EditJson>>, waits: PerTopic<bool>) {
        let state = &self.state;
        let changed = Changeable::new(hook, waits, state.options.hook_timeout, &state.meter);
        *state.changeable.write() = changed;
    }

    /// What counts its requests and connections.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.state.meter
    }

    /// What requests hold at the moment.
    pub fn levels(&self) -> KafboyLevels {
        let (waiting, running) = self.state.valve.as_ref().map_or((0, 0), Valve::levels);
        KafboyLevels {
            body_bytes: self.state.bodies.bytes(),
            waiting,
            running,
        }
    }

    /// What it produces on: levels and counters of its topics, for metrics.
    pub fn outbox(&self) -> &Outbox {
        &self.state.outbox
    }
}

/// What requests hold, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KafboyLevels {
    /// Bytes of bodies that are being read or waited with.
    pub body_bytes: u64,
    /// Requests that wait before the valve.
    pub waiting: usize,
    /// Requests that are behind it.
    pub running: usize,
}

impl State {
    pub(super) fn changeable(&self) -> Arc<Changeable> {
        Arc::clone(&self.changeable.read())
    }

    /// There is no room.
    pub(super) fn overload(&self) -> Refusal {
        self.overload_as("overload")
    }

    /// The same in other words.
    pub(super) fn overload_as(&self, text: &'static str) -> Refusal {
        Refusal::overload(text, self.drain.seconds(&self.outbox))
    }
}
