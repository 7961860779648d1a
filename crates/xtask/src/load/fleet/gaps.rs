//! How long partitions deliver nothing.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A partition delivered something at a moment, at a member of the fleet.
struct Event {
    partition: i32,
    member: usize,
    at: Instant,
}

/// What was delivered when.
#[derive(Default)]
pub(super) struct Log(Mutex<Deliveries>);

#[derive(Default)]
struct Deliveries {
    events: Vec<Event>,
    /// Messages by member.
    counts: BTreeMap<usize, usize>,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Deliveries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Messages of these partitions have come now.
    pub(super) fn delivered(&self, member: usize, partitions: impl Iterator<Item = i32>) {
        let at = Instant::now();
        let mut log = self.lock();
        let mut seen = BTreeSet::new();
        for partition in partitions {
            *log.counts.entry(member).or_default() += 1;
            if seen.insert(partition) {
                log.events.push(Event {
                    partition,
                    member,
                    at,
                });
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.lock().counts.values().sum()
    }

    /// Messages of each member.
    pub(super) fn shares(&self) -> BTreeMap<usize, usize> {
        self.lock().counts.clone()
    }

    /// How many partitions have delivered since then.
    pub(super) fn partitions_since(&self, since: Instant) -> usize {
        let log = self.lock();
        let late = log.events.iter().rev().take_while(|one| one.at >= since);
        late.map(|one| one.partition).collect::<BTreeSet<_>>().len()
    }

    /// Where each partition delivered last.
    pub(super) fn owners(&self) -> BTreeMap<i32, usize> {
        let log = self.lock();
        let events = log.events.iter();
        events.map(|one| (one.partition, one.member)).collect()
    }

    /// The longest time of each partition between two deliveries, of which the
    /// second is after `since`; the time since its last one counts, too.
    fn longest(&self, since: Instant) -> BTreeMap<i32, Duration> {
        let log = self.lock();
        let mut last: BTreeMap<i32, Instant> = BTreeMap::new();
        let mut longest: BTreeMap<i32, Duration> = BTreeMap::new();
        let mut note = |partition, gap: Duration| {
            let longest = longest.entry(partition).or_default();
            *longest = gap.max(*longest);
        };
        for event in &log.events {
            let before = last.insert(event.partition, event.at);
            if let Some(before) = before.filter(|_| event.at >= since) {
                note(event.partition, event.at - before);
            }
        }
        for (partition, at) in last {
            note(partition, at.elapsed());
        }
        longest
    }
}

/// Gaps after several incidents.
#[derive(Default)]
pub(super) struct Gaps {
    incidents: usize,
    affected: Vec<Duration>,
    others: Vec<Duration>,
}

impl Gaps {
    /// Notes those after an incident; partitions that it concerns apart.
    pub(super) fn add(&mut self, log: &Log, since: Instant, is_affected: impl Fn(i32) -> bool) {
        self.incidents += 1;
        for (partition, gap) in log.longest(since) {
            if is_affected(partition) {
                self.affected.push(gap);
            } else {
                self.others.push(gap);
            }
        }
    }

    pub(super) fn affected(&self) -> String {
        self.tell(&self.affected)
    }

    pub(super) fn others(&self) -> String {
        self.tell(&self.others)
    }

    fn tell(&self, gaps: &[Duration]) -> String {
        let mut gaps = gaps.to_vec();
        gaps.sort_unstable();
        let at = |part: f64| {
            let place = (gaps.len() as f64 * part) as usize;
            let gap = gaps.get(place.min(gaps.len().saturating_sub(1)));
            gap.map_or(f64::NAN, Duration::as_secs_f64)
        };
        format!(
            "without a delivery for {:.2} s (p50), {:.2} s (p99); {} partitions in {} times",
            at(0.5),
            at(0.99),
            gaps.len(),
            self.incidents
        )
    }

    pub(super) fn to_json(&self) -> Value {
        let seconds = |gaps: &[Duration]| {
            let seconds = gaps.iter().map(Duration::as_secs_f64);
            seconds.collect::<Vec<_>>()
        };
        json!({"affected": seconds(&self.affected), "others": seconds(&self.others)})
    }
}

#[cfg(test)]
mod tests {
    use super::{Gaps, Log};
    use std::time::{Duration, Instant};

    #[test]
    fn a_gap_is_between_two_deliveries_of_one_partition() {
        let log = Log::default();
        log.delivered(0, [1, 1, 2].into_iter());
        let since = Instant::now();
        assert_eq!((log.count(), log.partitions_since(since)), (3, 0));
        std::thread::sleep(Duration::from_millis(20));
        log.delivered(1, [2].into_iter());
        assert_eq!(log.partitions_since(since), 1);
        assert_eq!(
            log.owners().into_iter().collect::<Vec<_>>(),
            [(1, 0), (2, 1)]
        );
        let mut gaps = Gaps::default();
        gaps.add(&log, since, |partition| partition == 2);
        // The other one has delivered nothing since.
        assert_eq!((gaps.affected.len(), gaps.others.len()), (1, 1));
        let all = gaps.affected.iter().chain(&gaps.others);
        assert!(all.into_iter().all(|gap| gap.as_millis() >= 20));
    }
}
