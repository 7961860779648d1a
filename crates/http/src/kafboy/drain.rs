//! How soon the outbox has room again.

use barnabas_engine::Outbox;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What `Retry-After` says at most, in seconds.
const LONGEST: u64 = 30;

/// How fast the outbox has been getting rid of messages, second by second:
/// what has come and is no longer there has left.
pub(super) struct Drain {
    started: Instant,
    admitted: AtomicU64,
    /// The second that was looked at last, what had left by then, and what
    /// left per second before it.
    second: AtomicU64,
    left: AtomicU64,
    rate: AtomicU64,
}

impl Drain {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            admitted: AtomicU64::new(0),
            second: AtomicU64::new(0),
            left: AtomicU64::new(0),
            rate: AtomicU64::new(0),
        }
    }

    /// Messages were admitted.
    pub(super) fn admitted(&self, messages: usize, outbox: &Outbox) {
        self.admitted.fetch_add(messages as u64, Ordering::Relaxed);
        self.look(self.started.elapsed().as_secs(), outbox.info().messages);
    }

    fn look(&self, second: u64, level: u64) {
        let looked = self.second.load(Ordering::Relaxed);
        let is_first = second > looked
            && self
                .second
                .compare_exchange(looked, second, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        if is_first {
            let admitted = self.admitted.load(Ordering::Relaxed);
            let left = admitted.saturating_sub(level);
            let before = self.left.swap(left, Ordering::Relaxed);
            let rate = left.saturating_sub(before) / (second - looked);
            self.rate.store(rate, Ordering::Relaxed);
        }
    }

    /// The time that what is there takes at the present rate, in whole seconds
    /// from 1 to 30.
    pub(super) fn seconds(&self, outbox: &Outbox) -> u64 {
        let level = outbox.info().messages;
        self.look(self.started.elapsed().as_secs(), level);
        seconds(level, self.rate.load(Ordering::Relaxed))
    }
}

fn seconds(level: u64, rate: u64) -> u64 {
    let seconds = level.checked_div(rate).map(|whole| whole + 1);
    seconds.unwrap_or(LONGEST).clamp(1, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let drain = Drain::new();
        drain.admitted.store(1_000, Ordering::Relaxed);
        drain.look(1, 900);
        assert_eq!(drain.rate.load(Ordering::Relaxed), 100);
        drain.look(1, 0);
        assert_eq!(drain.rate.load(Ordering::Relaxed), 100, "once a second");
        drain.look(3, 500);
        assert_eq!(drain.rate.load(Ordering::Relaxed), 200);
        for (level, rate, expected) in [(500, 200, 3), (0, 200, 1), (500, 0, 30), (9_999, 1, 30)] {
            assert_eq!(seconds(level, rate), expected);
        }
    }
}
