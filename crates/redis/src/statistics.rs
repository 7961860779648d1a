//! Counters of this front end; the producer keeps its own.

use std::sync::atomic::{AtomicU64, Ordering};

/// Zeroed by `DEL stats`, except the number of connections.
#[derive(Debug, Default)]
pub(crate) struct Statistics {
    pub(crate) messages_consumed: AtomicU64,
    pub(crate) acks_stored: AtomicU64,
    pub(crate) consumer_errors: AtomicU64,
    pub(crate) connections: AtomicU64,
    pub(crate) connections_total: AtomicU64,
    /// Consumers that have not left their group, those given up included.
    pub(crate) consumers: AtomicU64,
    /// Consumers that ended without leaving their group.
    pub(crate) consumers_given_up: AtomicU64,
    pub(crate) commands: AtomicU64,
    pub(crate) monitor_dropped: AtomicU64,
}

impl Statistics {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    pub(crate) fn reset(&self) {
        for counter in [
            &self.messages_consumed,
            &self.acks_stored,
            &self.consumer_errors,
            &self.commands,
            &self.connections_total,
            &self.monitor_dropped,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}
