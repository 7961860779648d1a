//! What a member of a group says besides messages, to somebody who wants to
//! hear it.

use super::Member;
use crate::error::KafkaError;
use crate::native::{LogTarget, Partitions};
use std::sync::Arc;

/// Hears a member of a group. Called on librdkafka's threads and on the one
/// that serves all members, also while the member is being made: it may only
/// note what it is told and wake somebody.
pub trait ConsumerObserver: Send + Sync + 'static {
    /// A line of the client's log, which does not go to the process's log
    /// then: syslog's level, facility, text.
    fn log(&self, level: i32, facility: &str, line: &str) {
        let _ = (level, facility, line);
    }

    /// An error of the client that waiting may cure; the others are what
    /// reading ends with ([`Consumer::next`](crate::Consumer::next)).
    fn error(&self, error: KafkaError, reason: &str) {
        let _ = (error, reason);
    }

    /// librdkafka's statistics as JSON, every `statistics.interval.ms`.
    fn statistics(&self, json: &str) {
        let _ = json;
    }

    /// Partitions that it reads from now on.
    fn assigned(&self, partitions: &[(String, i32)]) {
        let _ = partitions;
    }

    /// Partitions of which nothing is delivered from now on. Lost ones belong
    /// to others already: what was stored for them is not committed.
    fn revoked(&self, partitions: &[(String, i32)], are_lost: bool) {
        let _ = (partitions, are_lost);
    }
}

/// The observer as a client's log.
pub(super) struct Log(pub(super) Arc<dyn ConsumerObserver>);

impl LogTarget for Log {
    fn line(&self, level: i32, facility: &str, text: &str) {
        self.0.log(level, facility, text);
    }
}

impl Member {
    pub(super) fn tell_statistics(&self, json: &str) {
        if let Some(observer) = &self.observer {
            observer.statistics(json);
        }
    }

    pub(super) fn tell_error(&self, error: KafkaError, reason: &str) {
        if let Some(observer) = &self.observer {
            observer.error(error, reason);
        }
    }

    pub(super) fn tell_assigned(&self, partitions: &Partitions) {
        if let Some(observer) = &self.observer {
            observer.assigned(&partitions.iter().collect::<Vec<_>>());
        }
    }

    pub(super) fn tell_revoked(&self, partitions: &Partitions, are_lost: bool) {
        if let Some(observer) = &self.observer {
            observer.revoked(&partitions.iter().collect::<Vec<_>>(), are_lost);
        }
    }
}
