//! How soon the outbox has room again.

use crate::pace::Pace;
use barnabas_engine::Outbox;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// How fast the outbox has been getting rid of messages: what has come and is
/// no longer there has left.
pub(super) struct Drain {
    admitted: AtomicU64,
    pace: Pace,
}

impl Drain {
    pub(super) fn new() -> Self {
        Self {
            admitted: AtomicU64::new(0),
            pace: Pace::new(),
        }
    }

    /// Messages were admitted.
    pub(super) fn admitted(&self, messages: usize, outbox: &Outbox) {
        self.admitted.fetch_add(messages as u64, Ordering::Relaxed);
        self.pace
            .look(self.left(outbox.info().messages), Instant::now());
    }

    /// The time that what is there takes at the present rate, in whole seconds
    /// from 1 to 30.
    pub(super) fn seconds(&self, outbox: &Outbox) -> u64 {
        let level = outbox.info().messages;
        self.pace.seconds(level, self.left(level), Instant::now())
    }

    fn left(&self, level: u64) -> u64 {
        let admitted = self.admitted.load(Ordering::Relaxed);
        admitted.saturating_sub(level)
    }
}
