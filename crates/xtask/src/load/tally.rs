//! What clients have seen, by front end.

use crate::clients::{Answer, FRONT_ENDS};
use barnabas_testkit::hostile::FrontEnd;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What one front end's clients have seen.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    /// Of each message that was taken, until it was said so, in microseconds.
    pub(super) taken: Vec<u32>,
    /// Those that found no room, by the words.
    pub(super) refused: BTreeMap<&'static str, u64>,
    /// Those that had no client free to send them.
    pub(super) pushed_back: u64,
    /// Messages that were consumed.
    pub(super) received: u64,
    /// Of each of those that were made since the last time, its age in microseconds.
    pub(super) consumed: Vec<u32>,
    pub(super) failed: u64,
    /// What the last failure was.
    pub(super) failure: String,
}

impl Seen {
    pub(super) fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }
}

/// All of it.
#[derive(Debug)]
pub(super) struct Tally {
    seen: [Mutex<Seen>; FRONT_ENDS.len()],
    /// When it was taken last.
    since: Mutex<Instant>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            seen: Default::default(),
            since: Mutex::new(Instant::now()),
        }
    }
}

impl Tally {
    fn of(&self, front_end: FrontEnd) -> MutexGuard<'_, Seen> {
        let [redis, http, grpc] = &self.seen;
        let seen = match front_end {
            FrontEnd::Redis => redis,
            FrontEnd::Http => http,
            FrontEnd::Grpc => grpc,
        };
        seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message, and what became of it.
    pub(super) fn answered(
        &self,
        front_end: FrontEnd,
        answer: anyhow::Result<Answer>,
        took: Duration,
    ) {
        let mut seen = self.of(front_end);
        match answer {
            Ok(Answer::Taken) => seen.taken.push(micros(took)),
            Ok(Answer::Refused(why)) => *seen.refused.entry(why).or_default() += 1,
            Err(error) => {
                seen.failed += 1;
                seen.failure = format!("{error:#}");
            }
        }
    }

    pub(super) fn pushed_back(&self, front_end: FrontEnd, count: u64) {
        self.of(front_end).pushed_back += count;
    }

    pub(super) fn consumed(&self, front_end: FrontEnd, ages: &[Duration]) {
        let window = self.since().elapsed();
        let young = ages.iter().filter(|age| **age <= window);
        let mut seen = self.of(front_end);
        seen.received += ages.len() as u64;
        seen.consumed.extend(young.map(|age| micros(*age)));
    }

    pub(super) fn failed(&self, front_end: FrontEnd, error: &anyhow::Error) {
        let mut seen = self.of(front_end);
        seen.failed += 1;
        seen.failure = format!("{error:#}");
    }

    fn since(&self) -> MutexGuard<'_, Instant> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen since the last time, by front end.
    pub(super) fn take(&self) -> Vec<(FrontEnd, Seen)> {
        *self.since() = Instant::now();
        FRONT_ENDS
            .into_iter()
            .map(|front_end| (front_end, std::mem::take(&mut *self.of(front_end))))
            .collect()
    }

    /// Whether each has produced.
    pub(super) fn all_produce(&self) -> bool {
        FRONT_ENDS
            .into_iter()
            .all(|front_end| !self.of(front_end).taken.is_empty())
    }

    /// Whether each has produced and consumed.
    pub(super) fn all_work(&self) -> bool {
        let consumes = |front_end| !self.of(front_end).consumed.is_empty();
        self.all_produce() && FRONT_ENDS.into_iter().all(consumes)
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// Milliseconds that so much of all stays below.
pub(super) fn percentile(values: &mut [u32], part: f64) -> f64 {
    values.sort_unstable();
    let place = (values.len() as f64 * part) as usize;
    let value = values.get(place.min(values.len().saturating_sub(1)));
    value.map_or(f64::NAN, |micros| f64::from(*micros) / 1e3)
}

/// `p50 / p99 / p999` in milliseconds.
pub(super) fn percentiles(values: &mut [u32]) -> String {
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|part| percentile(values, part));
    format!("{p50:.1} / {p99:.1} / {p999:.1} ms")
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn a_percentile_is_what_so_much_stays_below() {
        let mut values: Vec<u32> = (0..1_000).rev().map(|value| value * 1_000).collect();
        let all = [0.0, 0.5, 0.99, 0.999, 1.0].map(|part| percentile(&mut values, part));
        assert_eq!(all, [0.0, 500.0, 990.0, 999.0, 999.0]);
        assert!(percentile(&mut [], 0.5).is_nan());
    }
}
