//! Keeps the log readable while a cluster is away.

use crate::error::{ErrorCode, KafkaError};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The same line is written again after this time.
const INTERVAL: Duration = Duration::from_secs(10);

/// What has been written lately.
#[derive(Default)]
pub(crate) struct News {
    written: Mutex<HashMap<String, Instant>>,
}

impl News {
    /// Whether an error that librdkafka reports belongs into the log:
    /// librdkafka writes about connections itself, and repeats "all brokers
    /// are down" with every attempt.
    pub(crate) fn is_worth_a_line(&self, error: KafkaError, text: &str) -> bool {
        if error.is(ErrorCode::BrokerTransportFailure) || error.is(ErrorCode::Resolve) {
            return false;
        }
        let mut written = self.written.lock();
        written.retain(|_, since| since.elapsed() < INTERVAL);
        if written.contains_key(text) {
            return false;
        }
        written.insert(text.to_owned(), Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_and_connections_are_no_news() {
        let news = News::default();
        let down = KafkaError::from_code(ErrorCode::AllBrokersDown);
        assert!(news.is_worth_a_line(down, "1/1 brokers are down"));
        assert!(!news.is_worth_a_line(down, "1/1 brokers are down"));
        assert!(news.is_worth_a_line(down, "2/2 brokers are down"));
        assert!(!news.is_worth_a_line(down, "1/1 brokers are down"));
        let refused = KafkaError::from_code(ErrorCode::BrokerTransportFailure);
        assert!(!news.is_worth_a_line(refused, "refused"));
    }
}
