//! How soon there is room again, as `Retry-After` says it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What `Retry-After` says at most, in seconds.
const LONGEST: u64 = 30;

/// How fast messages have been leaving, second by second.
pub(crate) struct Pace {
    started: Instant,
    /// The second that was looked at last, how many had left by then, and how
    /// many left per second before it.
    second: AtomicU64,
    left: AtomicU64,
    rate: AtomicU64,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            second: AtomicU64::new(0),
            left: AtomicU64::new(0),
            rate: AtomicU64::new(0),
        }
    }

    /// So many have left up to now, since the beginning.
    pub(crate) fn look(&self, left: u64, now: Instant) {
        let second = now.saturating_duration_since(self.started).as_secs();
        let looked = self.second.load(Ordering::Relaxed);
        let is_first = second > looked
            && self
                .second
                .compare_exchange(looked, second, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        if is_first {
            let before = self.left.swap(left, Ordering::Relaxed);
            let rate = left.saturating_sub(before) / (second - looked);
            self.rate.store(rate, Ordering::Relaxed);
        }
    }

    /// The time that the `level` that is there takes at the present rate, in
    /// whole seconds from 1 to 30.
    pub(crate) fn seconds(&self, level: u64, left: u64, now: Instant) -> u64 {
        self.look(left, now);
        let current = left.saturating_sub(self.left.load(Ordering::Relaxed));
        match self.rate.load(Ordering::Relaxed).max(current) {
            0 => LONGEST,
            rate => level.div_ceil(rate).clamp(1, LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let pace = Pace::new();
        let at = |seconds| pace.started + Duration::from_secs(seconds);
        assert_eq!(pace.seconds(500, 0, at(0)), 30, "nothing leaves");
        assert_eq!(pace.seconds(500, 50, at(0)), 10, "it has just begun");
        // 100 in the first second.
        assert_eq!(pace.seconds(900, 100, at(1)), 9);
        assert_eq!(pace.seconds(800, 150, at(1)), 8, "this second is not over");
        assert_eq!(pace.seconds(800, 500, at(1)), 2, "but it is faster");
        // 400 in two seconds.
        assert_eq!(pace.seconds(500, 500, at(3)), 3);
        assert_eq!(pace.seconds(0, 500, at(3)), 1);
        assert_eq!(pace.seconds(9_999, 500, at(4)), 30, "it has stopped");
        assert_eq!(pace.seconds(9_999, 501, at(5)), 30);
    }
}
