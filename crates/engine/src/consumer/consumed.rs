//! What has been consumed of each topic, by members of groups and by groups
//! for short requests alike. Counted once per batch.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counters of one topic.
#[derive(Default)]
pub(crate) struct Consumed {
    pub(crate) messages: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) again: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

/// What has been consumed of a topic since the cluster was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumedStatistics {
    /// Messages that were handed out, those that were handed out again
    /// included.
    pub messages: u64,
    /// Bytes of their keys, values and headers; of members of groups without
    /// the headers.
    pub bytes: u64,
    /// Messages that were handed out again: nobody had acknowledged them.
    pub again: u64,
    /// Acknowledgements that were taken.
    pub acked: u64,
    /// Messages that were delivered too often and are safe elsewhere.
    pub dead_letters: u64,
    /// Messages that were delivered too often and were dropped.
    pub dropped: u64,
}

impl Consumed {
    /// Counts several at once.
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        if count > 0 {
            counter.fetch_add(count, Ordering::Relaxed);
        }
    }

    pub(crate) fn read(&self) -> ConsumedStatistics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ConsumedStatistics {
            messages: get(&self.messages),
            bytes: get(&self.bytes),
            again: get(&self.again),
            acked: get(&self.acked),
            dead_letters: get(&self.dead_letters),
            dropped: get(&self.dropped),
        }
    }
}
