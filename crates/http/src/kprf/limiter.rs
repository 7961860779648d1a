//! The rate limiter (contract, section 2): records per topic within any 60
//! seconds, counted by whole seconds. A lock per rule.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The window in seconds, and the number of slots.
const WINDOW: u64 = 60;

/// So many records of a topic per minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateRule {
    /// Matched as it is; an empty one is no rule.
    pub topic_name: String,
    /// 0 is no limit.
    pub max_requests_per_minute: u32,
}

/// All rules.
#[derive(Default)]
pub(super) struct Limiter {
    rules: HashMap<Box<str>, Rule>,
    counts_refused: bool,
}

struct Rule {
    limit: u64,
    /// Shared by the rules that follow each other when they are reloaded.
    window: Arc<Window>,
}

/// What the last 60 seconds have seen.
#[derive(Default)]
pub(super) struct Window(Mutex<Slots>);

struct Slots([Slot; WINDOW as usize]);

/// What one second has seen.
#[derive(Clone, Copy, Default)]
struct Slot {
    second: u64,
    count: u64,
}

/// The second since 1970.
pub(super) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The millisecond since 1970.
pub(super) fn now_milliseconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

impl Limiter {
    /// Of two rules for one topic the later counts. With `counts_refused`
    /// refusals count, too, as in kprf.
    pub(super) fn new(rules: &[RateRule], counts_refused: bool) -> Self {
        Self::default().reloaded(rules, counts_refused)
    }

    /// Others in the place of these; what is counted of a topic stays counted.
    pub(super) fn reloaded(&self, rules: &[RateRule], counts_refused: bool) -> Self {
        let mut by_topic = HashMap::new();
        for rule in rules.iter().filter(|rule| !rule.topic_name.is_empty()) {
            let before = self.rules.get(rule.topic_name.as_str());
            let made = Rule {
                limit: u64::from(rule.max_requests_per_minute),
                window: before
                    .map(|rule| Arc::clone(&rule.window))
                    .unwrap_or_default(),
            };
            by_topic.insert(rule.topic_name.as_str().into(), made);
        }
        by_topic.retain(|_, rule| rule.limit > 0);
        Self {
            rules: by_topic,
            counts_refused,
        }
    }

    /// Whether there is nothing to ask.
    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Counts one record of the topic at second `now`.
    ///
    /// # Errors
    /// It is one too many; in so many seconds, 1 to 60, there is room for one.
    pub(super) fn check(&self, topic: &str, now: u64) -> Result<(), u64> {
        match self.rules.get(topic) {
            Some(rule) => rule.window.check(rule.limit, self.counts_refused, now),
            None => Ok(()),
        }
    }

    /// Takes back one that was counted at second `then` and not accepted after
    /// all.
    pub(super) fn take_back(&self, topic: &str, then: u64) {
        if self.counts_refused {
            return;
        }
        if let Some(rule) = self.rules.get(topic) {
            rule.window.take_back(then);
        }
    }
}

impl Default for Slots {
    fn default() -> Self {
        Self([Slot::default(); WINDOW as usize])
    }
}

impl Window {
    /// Counts one at second `now`.
    ///
    /// # Errors
    /// As [`Limiter::check`].
    pub(super) fn check(&self, limit: u64, counts_refused: bool, now: u64) -> Result<(), u64> {
        let slots = &mut self.0.lock().0;
        if counts_refused {
            add(slots, now);
        }
        let counted = u64::from(counts_refused);
        let sum: u64 = live(slots, now).map(|slot| slot.count).sum();
        if sum - counted < limit {
            if !counts_refused {
                add(slots, now);
            }
            return Ok(());
        }
        Err(room_in(slots, now, sum + 1 - limit))
    }

    /// As [`Limiter::take_back`].
    pub(super) fn take_back(&self, then: u64) {
        let slots = &mut self.0.lock().0;
        if let Some(slot) = slots.iter_mut().find(|slot| slot.second == then) {
            slot.count = slot.count.saturating_sub(1);
        }
    }

    /// Whether nothing is counted any more.
    pub(super) fn is_idle(&self, now: u64) -> bool {
        live(&self.0.lock().0, now).all(|slot| slot.count == 0)
    }
}

fn add(slots: &mut [Slot], now: u64) {
    let index = usize::try_from(now % WINDOW).unwrap_or_default();
    if let Some(slot) = slots.get_mut(index) {
        if slot.second != now {
            *slot = Slot {
                second: now,
                count: 0,
            };
        }
        slot.count += 1;
    }
}

/// The slots of the last 60 seconds.
fn live(slots: &[Slot], now: u64) -> impl Iterator<Item = &Slot> {
    slots.iter().filter(move |slot| slot.second + WINDOW > now)
}

/// The seconds until `wanted` of the counted ones have left the window.
fn room_in(slots: &[Slot], now: u64, wanted: u64) -> u64 {
    let mut live: Vec<&Slot> = live(slots, now).filter(|slot| slot.count > 0).collect();
    live.sort_unstable_by_key(|slot| slot.second);
    let mut left = wanted;
    for slot in live {
        left = left.saturating_sub(slot.count);
        if left == 0 {
            return (slot.second + WINDOW).saturating_sub(now).clamp(1, WINDOW);
        }
    }
    WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(rules: &[(&str, u32)], counts_refused: bool) -> Limiter {
        let rules: Vec<RateRule> = rules
            .iter()
            .map(|(topic, limit)| RateRule {
                topic_name: (*topic).to_owned(),
                max_requests_per_minute: *limit,
            })
            .collect();
        Limiter::new(&rules, counts_refused)
    }

    /// Seconds since 1970 do not begin at a multiple of the window.
    const START: u64 = 1_700_000_017;

    #[test]
    fn the_window_slides_by_whole_seconds() {
        let limiter = limiter(&[("t", 3)], false);
        for second in [0, 0, 30] {
            assert_eq!(limiter.check("t", START + second), Ok(()));
        }
        assert_eq!(limiter.check("t", START + 30), Err(30));
        assert_eq!(limiter.check("t", START + 59), Err(1));
        assert_eq!(limiter.check("t", START + 60), Ok(()));
        assert_eq!(limiter.check("t", START + 60), Ok(()));
        assert_eq!(limiter.check("t", START + 60), Err(30));
    }

    #[test]
    fn refusals_extend_the_ban_only_if_told() {
        let kind = limiter(&[("t", 1)], false);
        let strict = limiter(&[("t", 1)], true);
        // The refusal itself has to leave the window, too, if it counts.
        for (limiter, seconds) in [(&kind, 10), (&strict, 60)] {
            assert_eq!(limiter.check("t", START), Ok(()));
            assert_eq!(limiter.check("t", START + 50), Err(seconds));
        }
        assert_eq!(kind.check("t", START + 60), Ok(()));
        // The refusal of second 50 counts, and so does this one.
        assert_eq!(strict.check("t", START + 60), Err(60));
        assert_eq!(strict.check("t", START + 120), Ok(()));
    }

    #[test]
    fn no_rule_is_no_limit_and_the_later_of_two_counts() {
        let limiter = limiter(
            &[("a", 1), ("a", 2), ("b", 1), ("b", 0), ("", 1), ("Case", 1)],
            false,
        );
        let passed = |topic: &str| {
            (0..5)
                .filter(|_| limiter.check(topic, START).is_ok())
                .count()
        };
        let topics = ["a", "b", "", "Case", "case", "c"];
        assert_eq!(topics.map(passed), [2, 5, 5, 1, 5, 5]);
    }

    #[test]
    fn what_is_taken_back_may_come_again() {
        let limiter = limiter(&[("t", 1)], false);
        assert_eq!(limiter.check("t", START), Ok(()));
        limiter.take_back("t", START);
        assert_eq!(limiter.check("t", START + 1), Ok(()));
        assert_eq!(limiter.check("t", START + 1), Err(60));
    }

    #[test]
    fn a_reload_forgets_nothing() {
        let before = limiter(&[("a", 2), ("b", 1)], false);
        for _ in 0..2 {
            assert_eq!(before.check("a", START), Ok(()));
        }
        assert_eq!(before.check("b", START), Ok(()));
        let rule = |limit| RateRule {
            topic_name: "a".to_owned(),
            max_requests_per_minute: limit,
        };
        let after = before.reloaded(&[rule(3)], false);
        assert_eq!(after.check("a", START), Ok(()));
        assert_eq!(after.check("a", START), Err(60));
        assert_eq!(after.check("b", START), Ok(()), "it has no rule any more");
        // A lower one counts what has passed before it.
        assert_eq!(after.reloaded(&[rule(1)], false).check("a", START), Err(60));
    }

    #[test]
    fn a_clock_that_goes_back_lets_nobody_through() {
        let limiter = limiter(&[("t", 1)], false);
        assert_eq!(limiter.check("t", START), Ok(()));
        assert_eq!(limiter.check("t", START - 5), Err(60));
    }
}
