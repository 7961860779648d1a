//! Keeps the log readable while a cluster is away.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The same line is written again after this time.
const INTERVAL: Duration = Duration::from_secs(10);

/// More different lines than this within the interval are all written: their
/// number is what there is to say then.
const REMEMBERED: usize = 1000;

/// What has been written lately.
#[derive(Default)]
pub(crate) struct News {
    written: Mutex<HashMap<String, Instant>>,
}

impl News {
    /// Whether an error that librdkafka reports belongs into the log: it
    /// reports a broker's failure with many of the attempts to reach it, and
    /// "all brokers are down" with each.
    pub(crate) fn is_worth_a_line(&self, text: &str) -> bool {
        self.is_worth_a_line_at(text, Instant::now())
    }

    fn is_worth_a_line_at(&self, text: &str, now: Instant) -> bool {
        let key = what_happened(text);
        let mut written = self.written.lock();
        written.retain(|_, since| now.saturating_duration_since(*since) < INTERVAL);
        if written.contains_key(key) {
            return false;
        }
        if written.len() < REMEMBERED {
            written.insert(key.to_owned(), now);
        }
        true
    }
}

/// A failure without when it happened: librdkafka ends its sentence with
/// "(after 3ms in state CONNECT)", and sometimes with a count of others.
fn what_happened(text: &str) -> &str {
    text.split(" (after ").next().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_no_news_for_a_while() {
        let news = News::default();
        let start = Instant::now();
        let at =
            |text, seconds| news.is_worth_a_line_at(text, start + Duration::from_secs(seconds));
        assert!(at("1/1 brokers are down", 0));
        assert!(!at("1/1 brokers are down", 1));
        assert!(at("2/2 brokers are down", 1));
        assert!(!at("1/1 brokers are down", 9));
        assert!(at("1/1 brokers are down", 10));
    }

    #[test]
    fn a_failure_is_the_same_whenever_it_happens() {
        let news = News::default();
        let failure = |broker: u32, after: u32, more: &str| {
            let text = format!(
                "localhost:{broker}/1: Connect to ipv4#127.0.0.1:{broker} failed: Connection \
                 refused (after {after}ms in state CONNECT{more})"
            );
            news.is_worth_a_line(&text)
        };
        assert!(failure(9092, 0, ""));
        assert!(!failure(9092, 1, ""));
        assert!(!failure(9092, 0, ", 7 identical error(s) suppressed"));
        assert!(failure(9093, 0, ""), "another broker");
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let news = News::default();
        for number in 0..2 * REMEMBERED {
            assert!(news.is_worth_a_line(&number.to_string()));
        }
        assert_eq!(news.written.lock().len(), REMEMBERED);
    }
}
