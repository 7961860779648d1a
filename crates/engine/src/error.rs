//! What can go wrong, as data: Kafka's own code and text are always kept.

use crate::journal::JournalError;
use rdkafka::types::RDKafkaRespErr;
use std::fmt;

pub use rdkafka::types::RDKafkaErrorCode as ErrorCode;

/// An error code of Kafka or librdkafka with librdkafka's standard text.
///
/// `Display` is that text, e.g. `Broker: Invalid topic` or
/// `Local: Queue full`; old clients compare it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KafkaError {
    code: i32,
}

impl KafkaError {
    /// From a raw `rd_kafka_resp_err_t`. Unknown numbers keep their value.
    pub(crate) const fn from_raw(code: i32) -> Self {
        Self { code }
    }

    /// From a known code.
    pub const fn from_code(code: ErrorCode) -> Self {
        Self { code: code as i32 }
    }

    /// The number of the code: negative for librdkafka's local errors,
    /// positive for the broker's (Kafka protocol guide, "Error codes").
    pub const fn number(self) -> i32 {
        self.code
    }

    /// Whether this is `code`.
    pub fn is(self, code: ErrorCode) -> bool {
        self == Self::from_code(code)
    }

    /// librdkafka's text for the code; an unknown number stays visible.
    pub fn text(self) -> String {
        crate::native::error_text(self.code)
    }

    /// Name and text, as the crate `rdkafka` shows a code: `UnknownPartition
    /// (Local: Unknown partition)`. A number that it does not know has no
    /// name: `Unknown (Err-…)`.
    pub fn name_and_text(self) -> String {
        match RDKafkaRespErr::try_from(self.code) {
            Ok(code) => ErrorCode::from(code).to_string(),
            Err(_) => format!("{:?} ({})", ErrorCode::Unknown, self.text()),
        }
    }

    /// Trouble that librdkafka overcomes by itself, so that a waiting reader
    /// should go on waiting: transport, name resolution, a coordinator that
    /// loads or moves, time-outs.
    pub fn is_transient(self) -> bool {
        const TRANSIENT: [ErrorCode; 12] = [
            ErrorCode::BrokerTransportFailure,
            ErrorCode::AllBrokersDown,
            ErrorCode::Resolve,
            ErrorCode::OperationTimedOut,
            ErrorCode::TimedOutQueue,
            ErrorCode::WaitingForCoordinator,
            ErrorCode::RequestTimedOut,
            ErrorCode::CoordinatorLoadInProgress,
            ErrorCode::CoordinatorNotAvailable,
            ErrorCode::NotCoordinator,
            ErrorCode::LeaderNotAvailable,
            ErrorCode::RebalanceInProgress,
        ];
        TRANSIENT.iter().any(|code| self.is(*code))
    }

    /// The topic does not exist, as librdkafka or the broker says it.
    pub fn is_unknown_topic(self) -> bool {
        self.is(ErrorCode::UnknownTopic)
            || self.is(ErrorCode::UnknownTopicOrPartition)
            || self.is(ErrorCode::UnknownPartition)
    }
}

impl fmt::Display for KafkaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl fmt::Debug for KafkaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.code, self.text())
    }
}

impl std::error::Error for KafkaError {}

/// An error of the engine.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// librdkafka knows no property of this name.
    #[error("no such configuration property: \"{name}\"{}", suggestion(.nearest))]
    UnknownProperty {
        /// The name as given.
        name: String,
        /// The known name that is most like it, if any is like it.
        nearest: Option<String>,
    },
    /// librdkafka refuses the value of a property.
    #[error("invalid value for configuration property \"{name}\": {reason}")]
    InvalidValue {
        /// The property.
        name: String,
        /// librdkafka's words.
        reason: String,
    },
    /// A client could not be created; librdkafka's words, which name the
    /// property when properties contradict each other.
    #[error("{reason}")]
    Client {
        /// librdkafka's words.
        reason: String,
    },
    /// A call failed with a Kafka error code.
    #[error("{error}")]
    Kafka {
        /// Code and standard text.
        error: KafkaError,
    },
    /// A consumer met an error that waiting does not cure.
    #[error("{text}")]
    Consume {
        /// The code.
        error: KafkaError,
        /// librdkafka's sentence with the names of what it is about.
        text: String,
        /// The client is of no use any more: no later call succeeds.
        is_fatal: bool,
    },
    /// The list of topics to subscribe to holds an empty name or is empty.
    #[error("empty topic name in the subscription")]
    EmptyTopicName,
    /// The consumer or the cluster is closed.
    #[error("closed")]
    Closed,
    /// The journal has not taken a record.
    #[error("{error}")]
    Journal {
        /// Why not.
        error: JournalError,
    },
}

fn suggestion(nearest: &Option<String>) -> String {
    match nearest {
        Some(name) => format!(", did you mean \"{name}\"?"),
        None => String::new(),
    }
}

impl From<JournalError> for Error {
    fn from(error: JournalError) -> Self {
        Self::Journal { error }
    }
}

impl From<KafkaError> for Error {
    fn from(error: KafkaError) -> Self {
        Self::Kafka { error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_names() {
        for (number, expected) in [
            (-190, "UnknownPartition (Local: Unknown partition)"),
            (10, "MessageSizeTooLarge (Broker: Message size too large)"),
            (-9_999, "Unknown (Err--9999?)"),
        ] {
            assert_eq!(KafkaError::from_raw(number).name_and_text(), expected);
        }
    }
}
