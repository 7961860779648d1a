//! The Kafka clusters behind the front end.

use barnabas_engine::{Dispatcher, Producer};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Mutex, MutexGuard};

/// One Kafka cluster as the front ends see it.
pub struct Proxy {
    /// Produces.
    pub producer: Producer,
    /// Consumes and acknowledges.
    pub dispatcher: Dispatcher,
    /// `consumer.disabled`.
    pub is_consuming_disabled: bool,
    /// Records may have headers: `kafka.version` is 0.11 or later, or absent.
    pub has_headers: bool,
}

/// The clusters by name.
pub struct Proxies {
    default: String,
    by_name: BTreeMap<String, Proxy>,
    /// Who looks for room in a full producer's queue.
    rooms: BTreeMap<String, Mutex<()>>,
    is_stopping: AtomicBool,
}

impl Proxies {
    /// `default` is what requests mean that name no cluster.
    pub fn new(default: String, by_name: BTreeMap<String, Proxy>) -> Self {
        let rooms = by_name.keys().map(|name| (name.clone(), Mutex::default()));
        Self {
            rooms: rooms.collect(),
            default,
            by_name,
            is_stopping: AtomicBool::new(false),
        }
    }

    /// The cluster of that name; the default one for an empty name.
    pub fn get(&self, name: &str) -> Option<&Proxy> {
        self.by_name.get(self.resolved(name))
    }

    /// Waits for one's turn to look for room in the producer's queue.
    pub(crate) async fn room(&self, name: &str) -> Option<MutexGuard<'_, ()>> {
        Some(self.rooms.get(self.resolved(name))?.lock().await)
    }

    fn resolved<'a>(&'a self, name: &'a str) -> &'a str {
        if name.is_empty() { &self.default } else { name }
    }

    /// From now on producing and consuming are refused, while all else goes
    /// on: step 1 of the contract's shutdown (`consume-and-ack.md`, section
    /// 8). Those who wait for messages are [`Dispatcher::stop`]'s.
    pub fn refuse_work(&self) {
        self.is_stopping.store(true, Ordering::Release);
    }

    /// Whether [`refuse_work`](Self::refuse_work) was called.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }
}
