//! One bound for bodies, queue and librdkafka together (contract, section 9).
//!
//! A body is charged while it is read; what becomes of it is charged until
//! Kafka has it. Records are admitted all together or not at all.

use crate::pace::Pace;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What a record takes beside key and value: its entry in librdkafka's queue,
/// the ticket of its report, and what the allocator adds.
pub(super) const OVERHEAD: u64 = 256;

/// Bodies may go beyond the bound by so much, so that a request that is
/// refused can be answered record by record.
const BODIES: u64 = 8 << 20;

/// How much is under way, and how much may be.
pub(super) struct Admission {
    max_messages: u64,
    max_bytes: u64,
    messages: AtomicU64,
    bytes: AtomicU64,
    /// Records that have left.
    left: AtomicU64,
    pace: Pace,
}

/// A share that is given back unless it has gone on to somebody else.
pub(super) struct Held<'a> {
    admission: &'a Admission,
    messages: u64,
    bytes: u64,
}

impl Admission {
    pub(super) fn new(max_messages: u64, max_bytes: u64) -> Self {
        Self {
            max_messages,
            max_bytes,
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            left: AtomicU64::new(0),
            pace: Pace::new(),
        }
    }

    /// Nothing yet.
    pub(super) fn hold(&self) -> Held<'_> {
        Held {
            admission: self,
            messages: 0,
            bytes: 0,
        }
    }

    /// Records have left, keys and values of `bytes` in all.
    pub(super) fn release(&self, records: u64, bytes: u64, now: Instant) {
        self.give_back(records, bytes + records * OVERHEAD);
        let left = self.left.fetch_add(records, Ordering::Relaxed);
        self.pace.look(left, now);
    }

    /// A record was not sent, key and value of `bytes`.
    pub(super) fn refuse(&self, bytes: u64) {
        self.give_back(1, bytes + OVERHEAD);
    }

    fn give_back(&self, messages: u64, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.messages.fetch_sub(messages, Ordering::AcqRel);
    }

    /// The time that what is under way takes at the present rate, in whole
    /// seconds from 1 to 30.
    pub(super) fn drain_seconds(&self) -> u64 {
        let messages = self.messages.load(Ordering::Relaxed);
        let left = self.left.load(Ordering::Relaxed);
        self.pace.seconds(messages, left, Instant::now())
    }

    /// Records and bytes under way.
    pub(super) fn level(&self) -> (u64, u64) {
        let messages = self.messages.load(Ordering::Relaxed);
        (messages, self.bytes.load(Ordering::Relaxed))
    }
}

/// Adds if the sum stays within the bound.
fn add(to: &AtomicU64, amount: u64, max: u64) -> bool {
    let added = to.fetch_update(Ordering::AcqRel, Ordering::Acquire, |level| {
        level.checked_add(amount).filter(|level| *level <= max)
    });
    added.is_ok()
}

impl Held<'_> {
    /// Room for more of a body.
    pub(super) fn grow(&mut self, bytes: u64) -> bool {
        let max = self.admission.max_bytes.saturating_add(BODIES);
        let has_grown = add(&self.admission.bytes, bytes, max);
        if has_grown {
            self.bytes += bytes;
        }
        has_grown
    }

    /// Turns what is held for a body into what `messages` records of `bytes`
    /// take. False: there is no such room; the share stays as it is.
    pub(super) fn turn_into(&mut self, messages: u64, bytes: u64) -> bool {
        let admission = self.admission;
        let wanted = bytes + messages * OVERHEAD;
        if !add(&admission.messages, messages, admission.max_messages) {
            return false;
        }
        let own = self.bytes;
        let changed = admission
            .bytes
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |level| {
                let level = level.checked_sub(own)?.checked_add(wanted)?;
                Some(level).filter(|level| *level <= admission.max_bytes)
            });
        if changed.is_err() {
            admission.messages.fetch_sub(messages, Ordering::AcqRel);
            return false;
        }
        self.messages += messages;
        self.bytes = wanted;
        true
    }

    /// All that it stands for goes on; [`Admission::release`] gives the shares
    /// back, [`Admission::refuse`] those of what does not go on after all.
    pub(super) fn pass_on(&mut self) {
        self.messages = 0;
        self.bytes = 0;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.admission.give_back(self.messages, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_admitted_together_or_not_at_all() {
        let admission = Admission::new(3, 10 * OVERHEAD);
        let mut first = admission.hold();
        assert!(first.grow(100));
        assert!(first.turn_into(2, 50));
        assert_eq!(admission.level(), (2, 50 + 2 * OVERHEAD));
        let mut second = admission.hold();
        assert!(second.grow(100));
        assert!(!second.turn_into(2, 50), "a fourth message");
        assert!(!second.turn_into(1, 8 * OVERHEAD), "too many bytes");
        assert!(second.turn_into(1, 50));
        first.pass_on();
        admission.refuse(30);
        drop((first, second));
        assert_eq!(admission.level(), (1, 20 + OVERHEAD));
        admission.release(1, 20, Instant::now());
        assert_eq!(admission.level(), (0, 0));
    }

    #[test]
    fn bodies_have_some_room_of_their_own() {
        let admission = Admission::new(1, 100);
        let mut body = admission.hold();
        assert!(body.grow(100 + BODIES));
        assert!(!body.grow(1));
        assert!(!body.turn_into(1, 100), "the bound of records is the bound");
        drop(body);
        assert_eq!(admission.level(), (0, 0));
    }
}
