//! Why something was not produced.
//!
//! Contract: `producer-engine.md`, section 1.

use crate::error::KafkaError;
use crate::journal::JournalError;
use std::fmt;
use std::sync::Arc;

/// Which record an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The topic as it was named.
    pub topic: Arc<str>,
    /// The partition, once it was picked.
    pub partition: Option<i32>,
    /// Which record of the payload.
    pub index: usize,
}

/// Why a record was not produced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// No room: more would be kept than is allowed. The first `accepted`
    /// records of the payload were taken.
    #[error("{at}: the queue is full, {refused} of {} messages were refused", accepted + refused)]
    Full {
        /// The first record without room.
        at: Place,
        /// Records of the payload that were taken.
        accepted: usize,
        /// Those that were not.
        refused: usize,
    },
    /// Larger than `message.max.bytes` allows.
    #[error("{at}: the message has {bytes} bytes, {limit} are allowed")]
    TooLarge {
        /// Which record.
        at: Place,
        /// What it has, with what surrounds it.
        bytes: u64,
        /// `message.max.bytes`.
        limit: u64,
    },
    /// No topic can have that name.
    #[error("{at}: invalid topic name")]
    InvalidTopic {
        /// Which record.
        at: Place,
    },
    /// The cluster has no such topic.
    #[error("{at}: unknown topic")]
    UnknownTopic {
        /// Which record.
        at: Place,
    },
    /// The topic has no such partition.
    #[error("{at}: unknown partition")]
    UnknownPartition {
        /// Which record.
        at: Place,
    },
    /// The topic's [`PartitionPicker`](super::PartitionPicker) says no.
    #[error("{at}: {reason}")]
    Blocked {
        /// Which record.
        at: Place,
        /// Its words.
        reason: String,
    },
    /// Kafka did not take it in time, and will not get it.
    #[error("{at}: not delivered in time")]
    Timeout {
        /// Which record.
        at: Place,
    },
    /// The time is over, and Kafka may have the message or may get it still.
    #[error("{at}: not confirmed in time, it may be in Kafka nevertheless")]
    PossiblyPersisted {
        /// Which record.
        at: Place,
    },
    /// The topic was down until the time was over; the message is not sent.
    #[error("{at}: Kafka is not reachable: {last}")]
    Downtime {
        /// Which record.
        at: Place,
        /// What was last heard of the cluster.
        last: Arc<str>,
    },
    /// Dropped from memory before Kafka could take it.
    #[error("{at}: dropped, {}", reason.name())]
    Dropped {
        /// Which record.
        at: Place,
        /// Why.
        reason: Dropped,
    },
    /// Not in the journal, and it will not be sent.
    #[error("{at}: {error}")]
    NotJournaled {
        /// The first record of those.
        at: Place,
        /// How many.
        refused: usize,
        /// Why.
        error: JournalError,
    },
    /// The outbox takes no more.
    #[error("{at}: shutting down")]
    ShuttingDown {
        /// Which record.
        at: Place,
    },
    /// What Kafka or its client says.
    #[error("{at}: {error}")]
    Broker {
        /// Which record.
        at: Place,
        /// Code and text.
        error: KafkaError,
    },
}

impl ProduceError {
    /// Which record it is about.
    pub fn place(&self) -> &Place {
        match self {
            Self::Full { at, .. }
            | Self::TooLarge { at, .. }
            | Self::InvalidTopic { at }
            | Self::UnknownTopic { at }
            | Self::UnknownPartition { at }
            | Self::Blocked { at, .. }
            | Self::Timeout { at }
            | Self::PossiblyPersisted { at }
            | Self::Downtime { at, .. }
            | Self::Dropped { at, .. }
            | Self::NotJournaled { at, .. }
            | Self::ShuttingDown { at }
            | Self::Broker { at, .. } => at,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition {
            Some(partition) => write!(f, "{} [{partition}]", self.topic),
            None => f.write_str(&self.topic),
        }
    }
}

/// Why an admitted message was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// The topic's bound, and the newest had to go.
    Newest,
    /// The topic's bound, and the oldest had to go.
    Oldest,
    /// It has waited longer than its topic allows.
    Expired,
    /// Its topic is not there.
    UnknownTopic,
    /// The topic's picker refused it.
    Blocked,
    /// Kafka will never take it.
    Refused,
}

impl Dropped {
    /// All reasons.
    pub const ALL: [Self; 6] = [
        Self::Newest,
        Self::Oldest,
        Self::Expired,
        Self::UnknownTopic,
        Self::Blocked,
        Self::Refused,
    ];

    /// As a label of `barnabas_dropped_messages_total`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Newest => "drop_newest",
            Self::Oldest => "drop_oldest",
            Self::Expired => "expired",
            Self::UnknownTopic => "unknown_topic",
            Self::Blocked => "blocked",
            Self::Refused => "refused",
        }
    }
}
