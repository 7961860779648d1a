//! Bounds on time that hold on a machine that others use as well.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// An upper bound that one of a few runs has to keep. What is too slow by itself is so every time,
/// a machine that is busy only now and then:
///
/// ```
/// # use std::time::{Duration, Instant};
/// let mut quickest = barnabas_testkit::Quickest::of(5, Duration::from_secs(1));
/// while quickest.is_missing() {
///     let started = Instant::now();
///     // What is measured.
///     quickest.took(started.elapsed());
/// }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Quickest {
    runs: usize,
    bound: Duration,
    took: Vec<Duration>,
}

impl Quickest {
    /// One of up to `runs` has to take less than `bound`.
    pub fn of(runs: usize, bound: Duration) -> Self {
        Self {
            runs,
            bound,
            took: Vec::new(),
        }
    }

    /// Whether another run is needed, as none has kept the bound so far.
    ///
    /// # Panics
    /// All runs were too slow; says how long each took.
    #[track_caller]
    pub fn is_missing(&self) -> bool {
        let is_missing = !self.took.iter().any(|took| *took < self.bound);
        assert!(
            !is_missing || self.took.len() < self.runs,
            "none of {} runs took less than {:?}: {:?}",
            self.runs,
            self.bound,
            self.took
        );
        is_missing
    }

    /// How long a run took; also one that was made for another bound.
    pub fn took(&mut self, time: Duration) {
        self.took.push(time);
    }
}

/// How late a thread is that only sleeps: for as long, nothing else may have run either. For bounds
/// on what takes too long to be done again ([`Quickest`]).
#[derive(Debug)]
#[must_use]
pub struct Stalls(Arc<Mutex<Lateness>>);

#[derive(Debug)]
struct Lateness {
    total: Duration,
    longest: Duration,
    asleep_since: Instant,
}

impl Lateness {
    fn of_this_step(&self) -> Duration {
        self.asleep_since.elapsed().saturating_sub(STEP)
    }
}

const STEP: Duration = Duration::from_millis(10);

impl Stalls {
    /// Begins to watch, until this value is dropped.
    pub fn watch() -> Self {
        let lateness = Arc::new(Mutex::new(Lateness {
            total: Duration::ZERO,
            longest: Duration::ZERO,
            asleep_since: Instant::now(),
        }));
        let watched = Arc::downgrade(&lateness);
        thread::spawn(move || sleep(&watched));
        Self(lateness)
    }

    /// All of it since the beginning.
    pub fn total(&self) -> Duration {
        let lateness = self.0.lock();
        // It may not have been woken yet either.
        lateness.total + lateness.of_this_step()
    }

    /// The longest one since the beginning.
    pub fn longest(&self) -> Duration {
        let lateness = self.0.lock();
        lateness.longest.max(lateness.of_this_step())
    }
}

fn sleep(watched: &Weak<Mutex<Lateness>>) {
    loop {
        thread::sleep(STEP);
        let Some(lateness) = watched.upgrade() else {
            return;
        };
        let mut lateness = lateness.lock();
        let late = lateness.of_this_step();
        lateness.total += late;
        lateness.longest = lateness.longest.max(late);
        lateness.asleep_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(1);

    #[test]
    fn one_run_below_the_bound_is_enough() {
        let mut quickest = Quickest::of(3, BOUND);
        for time in [BOUND, 2 * BOUND, BOUND / 2] {
            assert!(quickest.is_missing());
            quickest.took(time);
        }
        assert!(!quickest.is_missing());
        quickest.took(BOUND);
        assert!(!quickest.is_missing(), "it was kept before");
    }

    #[test]
    #[should_panic(expected = "none of 2 runs took less than 1s: [1s, 2s]")]
    fn runs_that_are_all_too_slow_are_told() {
        let mut quickest = Quickest::of(2, BOUND);
        quickest.took(BOUND);
        quickest.took(2 * BOUND);
        quickest.is_missing();
    }

    #[test]
    fn a_thread_that_is_held_up_is_late() {
        let stalls = Stalls::watch();
        let held_up = stalls.0.lock();
        thread::sleep(20 * STEP);
        drop(held_up);
        assert!(stalls.total() >= 10 * STEP, "{stalls:?}");
    }
}
