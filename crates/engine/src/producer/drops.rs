//! Messages that were dropped though nobody was told: their clients did not
//! wait for Kafka's answer (contract, `consume-and-ack.md`, section 13, B23).

use super::{Delivery, DeliverySink, Undelivered};
use crate::error::{Error, ErrorCode, KafkaError};
use crate::wording::{HEADERS_UNSUPPORTED, sarama_text, sarama_text_of};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two lines of the log: a cluster that is down fails every message.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest name that a topic can have; a client may send a mebibyte.
const LONGEST_NAME: usize = 249;

/// Why a message was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// Its topic is not there.
    UnknownTopic,
    /// It is larger than allowed.
    TooLarge,
    /// It has headers, and the configured version of Kafka has none.
    HeadersUnsupported,
    /// Kafka did not take it in time.
    TimedOut,
    /// Something else.
    Other,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::UnknownTopic,
        Self::TooLarge,
        Self::HeadersUnsupported,
        Self::TimedOut,
        Self::Other,
    ];

    /// As a label: `unknown_topic`, `too_large`, …
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnknownTopic => "unknown_topic",
            Self::TooLarge => "too_large",
            Self::HeadersUnsupported => "headers_unsupported",
            Self::TimedOut => "timed_out",
            Self::Other => "other",
        }
    }

    fn of(error: KafkaError) -> Self {
        if error.is_unknown_topic() {
            Self::UnknownTopic
        } else if error.is(ErrorCode::MessageSizeTooLarge) {
            Self::TooLarge
        } else if error.is(ErrorCode::MessageTimedOut) || error.is(ErrorCode::RequestTimedOut) {
            Self::TimedOut
        } else {
            Self::Other
        }
    }
}

/// Counts them, and tells the log once a second. As the sink of what is
/// submitted it hears of what fails later.
pub struct Drops {
    component: &'static str,
    counts: [AtomicU64; DropReason::ALL.len()],
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    unsaid: u64,
    said: Option<Instant>,
}

impl Drops {
    /// `component` is whose messages they are, for the log.
    pub fn new(component: &'static str) -> Self {
        Self {
            component,
            counts: Default::default(),
            log: Mutex::default(),
        }
    }

    /// One was refused before it had left.
    pub fn refused(&self, topic: &str, error: &Error) {
        let reason = match error {
            Error::Kafka { error } => DropReason::of(*error),
            _ => DropReason::Other,
        };
        self.add(topic, reason, || sarama_text_of(error));
    }

    /// One has headers, and Kafka has none.
    pub fn with_headers(&self, topic: &str) {
        self.add(topic, DropReason::HeadersUnsupported, || {
            HEADERS_UNSUPPORTED.to_owned()
        });
    }

    /// How many there were since the start, by reason.
    pub fn counts(&self) -> impl Iterator<Item = (DropReason, u64)> {
        let counts = self.counts.iter();
        DropReason::ALL
            .into_iter()
            .zip(counts.map(|count| count.load(Ordering::Relaxed)))
    }

    fn add(&self, topic: &str, reason: DropReason, text: impl FnOnce() -> String) {
        if let Some(count) = self.counts.get(reason as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let count = {
            let mut log = self.log.lock();
            log.unsaid += 1;
            if log.said.is_some_and(|said| said.elapsed() < PAUSE) {
                return;
            }
            log.said = Some(Instant::now());
            std::mem::take(&mut log.unsaid)
        };
        let topic: String = topic.chars().take(LONGEST_NAME).collect();
        tracing::warn!(
            component = self.component,
            topic,
            count,
            "Messages produced asynchronously were dropped, at last: {}",
            text()
        );
    }
}

/// Of those that had left only the failures are worth a word.
impl DeliverySink for Drops {
    fn settled(&self, _: u64, _: u64, result: Result<Delivery, Undelivered<'_>>) {
        if let Err(Undelivered { topic, error, .. }) = result {
            self.add(topic, DropReason::of(error), || sarama_text(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::Record;

    #[test]
    fn drops_are_counted_by_reason() {
        let drops = Drops::new("test");
        let fail = |code| {
            let error = KafkaError::from_code(code);
            let undelivered = Undelivered {
                topic: "t",
                error,
                record: Record::default(),
                may_be_persisted: false,
            };
            drops.settled(0, 0, Err(undelivered));
        };
        fail(ErrorCode::UnknownTopic);
        fail(ErrorCode::MessageTimedOut);
        fail(ErrorCode::MessageTimedOut);
        fail(ErrorCode::NotEnoughReplicas);
        drops.with_headers("t");
        let error = KafkaError::from_code(ErrorCode::MessageSizeTooLarge);
        drops.refused("t", &error.into());
        let counts: Vec<_> = drops.counts().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 1, 1, 2, 1]);
    }
}
