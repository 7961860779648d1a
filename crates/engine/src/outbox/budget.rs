//! How much is admitted and not yet in Kafka: two counters that all topics
//! share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;

/// What a message takes beside key, value and headers: its entry in
/// librdkafka's queue and what the allocator adds.
pub const OVERHEAD: u64 = 256;

/// Sums of so much do not overflow.
const UNBOUNDED: u64 = u64::MAX / 1_000_000;

pub(super) struct Budget {
    messages: AtomicU64,
    bytes: AtomicU64,
    /// Of the messages those that permits have not used yet.
    reserved: AtomicU64,
    max_messages: AtomicU64,
    max_bytes: AtomicU64,
    is_closed: AtomicBool,
    emptied: Notify,
}

impl Budget {
    pub(super) fn new(max_messages: u64, max_bytes: u64) -> Self {
        Self {
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            max_messages: AtomicU64::new(max_messages.min(UNBOUNDED)),
            max_bytes: AtomicU64::new(max_bytes.min(UNBOUNDED)),
            is_closed: AtomicBool::new(false),
            emptied: Notify::new(),
        }
    }

    pub(super) fn set_bounds(&self, max_messages: u64, max_bytes: u64) {
        self.max_messages
            .store(max_messages.min(UNBOUNDED), Ordering::Relaxed);
        self.max_bytes
            .store(max_bytes.min(UNBOUNDED), Ordering::Relaxed);
    }

    /// Admits nothing from now on.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Whether there would be room if nothing else were there.
    pub(super) fn could_hold(&self, messages: usize, bytes: u64) -> bool {
        let (messages, bytes) = with_overhead(messages, bytes);
        messages <= self.max_messages.load(Ordering::Relaxed)
            && bytes <= self.max_bytes.load(Ordering::Relaxed)
    }

    /// Room for so many messages of so many bytes together, or none.
    pub(super) fn take(&self, messages: usize, bytes: u64) -> bool {
        let (messages, bytes) = with_overhead(messages, bytes);
        let max_messages = self.max_messages.load(Ordering::Relaxed);
        let max_bytes = self.max_bytes.load(Ordering::Relaxed);
        if messages > max_messages || bytes > max_bytes {
            // Not added even for a moment: it might overflow.
            return false;
        }
        let all = self.messages.fetch_add(messages, Ordering::AcqRel) + messages;
        if all <= max_messages {
            let all = self.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
            if all <= max_bytes {
                return true;
            }
            self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        }
        self.give_back_messages(messages);
        false
    }

    /// Room in the place of other room that is given back.
    pub(super) fn take_anyway(&self, messages: usize, bytes: u64) {
        let (messages, bytes) = with_overhead(messages, bytes);
        self.messages.fetch_add(messages, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(super) fn give_back(&self, messages: usize, bytes: u64) {
        let (messages, bytes) = with_overhead(messages, bytes);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.give_back_messages(messages);
    }

    fn give_back_messages(&self, messages: u64) {
        if self.messages.fetch_sub(messages, Ordering::AcqRel) == messages {
            self.emptied.notify_waiters();
        }
    }

    /// Notes that of what was taken so much is not used yet.
    pub(super) fn reserve(&self, messages: usize) {
        self.reserved.fetch_add(messages as u64, Ordering::AcqRel);
    }

    /// Notes that so much of it is used, or given back.
    pub(super) fn unreserve(&self, messages: usize) {
        self.reserved.fetch_sub(messages as u64, Ordering::AcqRel);
        self.emptied.notify_waiters();
    }

    /// Admitted messages.
    pub(super) fn messages(&self) -> u64 {
        let reserved = self.reserved.load(Ordering::Acquire);
        let all = self.messages.load(Ordering::Acquire);
        all.saturating_sub(reserved)
    }

    /// What they take, with what is reserved.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Resolves when there may be nothing left.
    pub(super) fn emptied(&self) -> impl Future<Output = ()> + '_ {
        self.emptied.notified()
    }
}

fn with_overhead(messages: usize, bytes: u64) -> (u64, u64) {
    let messages = messages as u64;
    (
        messages,
        bytes.saturating_add(messages.saturating_mul(OVERHEAD)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold() {
        let budget = Budget::new(3, 3 * OVERHEAD + 100);
        assert!(budget.take(2, 60));
        assert!(!budget.take(2, 0), "messages");
        assert!(!budget.take(usize::MAX, u64::MAX), "nobody has so much");
        assert!(budget.could_hold(3, 100));
        assert!(!budget.could_hold(3, 101));
        assert!(!budget.could_hold(4, 0));
        assert!(!budget.take(1, 41), "bytes");
        assert!(budget.take(1, 40));
        assert_eq!(budget.messages(), 3);
        budget.give_back(3, 100);
        assert_eq!((budget.messages(), budget.bytes()), (0, 0));
    }
}
