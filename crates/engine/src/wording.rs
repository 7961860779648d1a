//! Kafka-Pixy's wording of what goes wrong.
//!
//! Contract: `pixy-api.md`, section 5.

use crate::error::{Error, ErrorCode, KafkaError};

/// What the old system says while it ends.
pub const SHUTTING_DOWN: &str = "service is shutting down";

/// What it says of a cluster that no broker answers for.
pub const CLUSTER_UNREACHABLE: &str = "kafka: client has run out of available brokers to talk to \
     (Is your cluster reachable?)";

/// What it says where consuming is switched off.
pub const CONSUMING_DISABLED: &str = "service is disabled by configuration";

/// What the old system says when a client has too many requests waiting.
pub const TOO_MANY_REQUESTS: &str = "Too many requests. Consider increasing \
    `consumer.channel_buffer_size` \
    (https://github.com/mailgun/kafka-pixy/blob/master/default.yaml#L43)";

/// What it says to record headers on a version of Kafka that has none.
pub const HEADERS_UNSUPPORTED: &str = "headers are not supported with this version of Kafka. \
    Consider changing `kafka.version` \
    (https://github.com/mailgun/kafka-pixy/blob/master/default.yaml#L35)";

const UNKNOWN_TOPIC: &str = "kafka server: Request was for a topic or partition that does not \
     exist on this broker.";
const NO_LEADER: &str = "kafka server: In the middle of a leadership election, there is \
     currently no leader for this partition and hence it is unavailable for writes.";
const TIMED_OUT: &str =
    "kafka server: Request exceeded the user-specified time limit in the request.";
const TOO_LARGE: &str =
    "kafka server: Message was too large, server rejected it to avoid allocation error.";
const METADATA_TOO_LARGE: &str = "kafka server: Specified a string larger than the configured \
     maximum for offset metadata.";
const INVALID_TOPIC: &str =
    "kafka server: The request attempted to perform an operation on an invalid topic.";
const TOO_FEW_REPLICAS: &str = "kafka server: Messages are rejected since there are fewer \
     in-sync replicas than required.";
const EMPTY_GROUP: &str = "kafka server: The provided group id was empty.";
const UNKNOWN_MEMBER: &str =
    "kafka server: The provided member is not known in the current generation.";
const REBALANCE: &str =
    "kafka server: A rebalance for the group is in progress. Please re-join the group.";
const TOPIC_FORBIDDEN: &str = "kafka server: The client is not authorized to access this topic.";
const GROUP_FORBIDDEN: &str = "kafka server: The client is not authorized to access this group.";

/// Kafka's errors in the words of the old system's library (sarama); those
/// that it has no words for, in librdkafka's.
pub fn sarama_text(error: KafkaError) -> String {
    use ErrorCode as E;
    const TEXTS: [(ErrorCode, &str); 16] = [
        (E::UnknownTopicOrPartition, UNKNOWN_TOPIC),
        (E::UnknownTopic, UNKNOWN_TOPIC),
        (E::UnknownPartition, UNKNOWN_TOPIC),
        (E::LeaderNotAvailable, NO_LEADER),
        (E::RequestTimedOut, TIMED_OUT),
        (E::MessageTimedOut, TIMED_OUT),
        (E::MessageSizeTooLarge, TOO_LARGE),
        (E::OffsetMetadataTooLarge, METADATA_TOO_LARGE),
        (E::InvalidTopic, INVALID_TOPIC),
        (E::NotEnoughReplicas, TOO_FEW_REPLICAS),
        (E::InvalidGroupId, EMPTY_GROUP),
        (E::UnknownMemberId, UNKNOWN_MEMBER),
        (E::RebalanceInProgress, REBALANCE),
        (E::TopicAuthorizationFailed, TOPIC_FORBIDDEN),
        (E::GroupAuthorizationFailed, GROUP_FORBIDDEN),
        (E::AllBrokersDown, CLUSTER_UNREACHABLE),
    ];
    TEXTS
        .iter()
        .find(|(code, _)| error.is(*code))
        .map_or_else(|| format!("kafka: {error}"), |(_, text)| (*text).to_owned())
}

/// [`sarama_text`] of any error of the engine.
pub fn sarama_text_of(error: &Error) -> String {
    match error {
        Error::Kafka { error } | Error::Consume { error, .. } => sarama_text(*error),
        Error::Closed => SHUTTING_DOWN.to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafka_errors_have_the_texts_of_sarama() {
        let text = |code| sarama_text(KafkaError::from_code(code));
        assert_eq!(text(ErrorCode::UnknownTopic), UNKNOWN_TOPIC);
        assert_eq!(text(ErrorCode::LeaderNotAvailable), NO_LEADER);
        assert_eq!(
            text(ErrorCode::MessageTimedOut),
            text(ErrorCode::RequestTimedOut)
        );
        assert_eq!(text(ErrorCode::AllBrokersDown), CLUSTER_UNREACHABLE);
        assert_eq!(text(ErrorCode::QueueFull), "kafka: Local: Queue full");
    }
}
