//! What the feeder's producer reports, and what follows from it.

use super::Shared;
use crate::error::{ErrorCode, KafkaError};
use crate::producer::{Delivery, DeliverySink, Undelivered};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The producer's half: what it reports to.
pub(super) struct Reports {
    shared: Arc<Shared>,
    /// Somebody else knows which topics and partitions there are.
    is_placed: bool,
    pub(super) outstanding: AtomicU64,
    /// A report came that a retry may cure.
    pub(super) has_failed: AtomicBool,
    pub(super) is_fatal: AtomicBool,
    /// The feeder waits until so few are outstanding.
    pub(super) awaited: AtomicU64,
    pub(super) refused: Mutex<Vec<(u64, KafkaError)>>,
    /// There are such, or something has failed.
    pub(super) has_news: AtomicBool,
}

impl Reports {
    pub(super) fn new(shared: &Arc<Shared>, is_placed: bool) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            is_placed,
            outstanding: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            is_fatal: AtomicBool::new(false),
            awaited: AtomicU64::new(NOTHING),
            refused: Mutex::default(),
            has_news: AtomicBool::new(false),
        })
    }

    /// Whether sending it again would fail again. A record whose partition is
    /// gone may be for another one.
    fn is_final(&self, error: KafkaError) -> bool {
        is_permanent(error) && !(self.is_placed && error.is_unknown_topic())
    }

    pub(super) fn refuse(&self, sequence: u64, error: KafkaError) {
        self.refused.lock().push((sequence, error));
        self.has_news.store(true, Ordering::Release);
    }

    pub(super) fn fail(&self, is_fatal: bool) {
        if is_fatal {
            self.is_fatal.store(true, Ordering::Release);
        }
        self.has_failed.store(true, Ordering::Release);
        self.has_news.store(true, Ordering::Release);
    }
}

/// Nobody waits.
pub(super) const NOTHING: u64 = u64::MAX;

impl DeliverySink for Reports {
    fn settled(&self, sequence: u64, _: u64, result: Result<Delivery, Undelivered<'_>>) {
        let is_news = match result {
            Ok(_) => {
                let counters = &self.shared.counters;
                counters.delivered.fetch_add(1, Ordering::Relaxed);
                if sequence < self.shared.own {
                    counters.replayed.fetch_add(1, Ordering::Relaxed);
                }
                self.shared.is_delivered(sequence);
                false
            }
            Err(Undelivered { error, .. }) if self.is_final(error) => {
                self.refuse(sequence, error);
                true
            }
            Err(Undelivered { error, .. }) => {
                self.fail(error.is(ErrorCode::Fatal));
                true
            }
        };
        let left = self.outstanding.fetch_sub(1, Ordering::AcqRel) - 1;
        let awaited = self.awaited.load(Ordering::Acquire);
        if is_news || (awaited != NOTHING && left <= awaited) {
            self.awaited.store(NOTHING, Ordering::Release);
            self.shared.wake_feeder();
        }
    }
}

/// Sending again would fail again.
pub(crate) fn is_permanent(error: KafkaError) -> bool {
    const PERMANENT: [ErrorCode; 12] = [
        ErrorCode::MessageSizeTooLarge,
        ErrorCode::InvalidMessageSize,
        ErrorCode::MessageBatchTooLarge,
        ErrorCode::TopicAuthorizationFailed,
        ErrorCode::InvalidTopic,
        ErrorCode::InvalidRecord,
        ErrorCode::InvalidTimestamp,
        ErrorCode::UnsupportedForMessageFormat,
        ErrorCode::UnsupportedCompressionType,
        ErrorCode::PolicyViolation,
        ErrorCode::InvalidArgument,
        ErrorCode::NotImplemented,
    ];
    error.is_unknown_topic() || PERMANENT.iter().any(|code| error.is(*code))
}

/// Brokers say this of a batch because of one record in it.
pub(super) fn is_of_a_batch(error: KafkaError) -> bool {
    !error.is_unknown_topic() && !error.is(ErrorCode::TopicAuthorizationFailed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_not_given_up() {
        for code in [
            ErrorCode::MessageTimedOut,
            ErrorCode::BrokerTransportFailure,
            ErrorCode::NotEnoughReplicas,
            ErrorCode::PurgeQueue,
            ErrorCode::Fatal,
            ErrorCode::ClusterAuthorizationFailed,
        ] {
            assert!(!is_permanent(KafkaError::from_code(code)), "{code:?}");
        }
        for code in [
            ErrorCode::UnknownTopic,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::MessageSizeTooLarge,
            ErrorCode::TopicAuthorizationFailed,
        ] {
            assert!(is_permanent(KafkaError::from_code(code)), "{code:?}");
        }
    }
}
