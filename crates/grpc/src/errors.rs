//! Status codes and texts (contract, sections 4 and 5).

use barnabas_engine::{AckError, ConsumeError, Error, ErrorCode, KafkaError};
use tonic::Status;

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
const NO_BROKERS: &str = "kafka: client has run out of available brokers to talk to (Is your \
     cluster reachable?)";

const TOO_MANY_REQUESTS: &str = "Too many requests. Consider increasing \
     `consumer.channel_buffer_size` \
     (https://github.com/mailgun/kafka-pixy/blob/master/default.yaml#L43)";
const HEADERS_UNSUPPORTED: &str = "headers are not supported with this version of Kafka. \
     Consider changing `kafka.version` \
     (https://github.com/mailgun/kafka-pixy/blob/master/default.yaml#L35)";
const SHUTTING_DOWN: &str = "service is shutting down";
const DISABLED: &str = "service is disabled by configuration";
const NO_GROUP: &str = "one consumer group is expected, but 0 provided";

/// A Kafka error as sarama, the old system's library, words it.
pub fn kafka_text(error: KafkaError) -> String {
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
        (E::AllBrokersDown, NO_BROKERS),
    ];
    TEXTS
        .iter()
        .find(|(code, _)| error.is(*code))
        .map_or_else(|| format!("kafka: {error}"), |(_, text)| (*text).to_owned())
}

/// [`kafka_text`], if it is Kafka's error.
pub(crate) fn engine_text(error: &Error) -> String {
    match error {
        Error::Kafka { error } | Error::Consume { error, .. } => kafka_text(*error),
        Error::Closed => SHUTTING_DOWN.to_owned(),
        other => other.to_string(),
    }
}

pub(crate) fn unknown_cluster(name: &str) -> Status {
    Status::invalid_argument(format!("proxy `{name}` does not exist"))
}

pub(crate) fn empty_group() -> Status {
    Status::invalid_argument(NO_GROUP)
}

pub(crate) fn headers_unsupported() -> Status {
    Status::invalid_argument(HEADERS_UNSUPPORTED)
}

pub(crate) fn shutting_down() -> Status {
    Status::unavailable(SHUTTING_DOWN)
}

pub(crate) fn consuming_disabled() -> Status {
    Status::unavailable(DISABLED)
}

/// Why a message was not written.
pub(crate) fn of_producing(error: &Error) -> Status {
    let text = engine_text(error);
    match error {
        Error::Kafka { error } if error.is_unknown_topic() => Status::invalid_argument(text),
        Error::Closed => Status::unavailable(text),
        _ => Status::internal(text),
    }
}

/// Why there is no message.
pub(crate) fn of_consuming(error: &ConsumeError) -> Status {
    match error {
        ConsumeError::Timeout => Status::not_found(error.to_string()),
        ConsumeError::TooManyRequests => Status::resource_exhausted(TOO_MANY_REQUESTS),
        ConsumeError::ShuttingDown => shutting_down(),
        ConsumeError::Engine(error) => Status::internal(engine_text(error)),
    }
}

/// Why an acknowledgement was not taken.
pub(crate) fn of_acknowledging(error: &AckError) -> Status {
    match error {
        AckError::NotOwned { .. } => Status::internal(error.to_string()),
        AckError::BadOffset(offset) => bad_ack("offset", *offset),
    }
}

/// The numbers of an acknowledgement must not be negative (B21).
pub(crate) fn check_ack(partition: i32, offset: i64) -> Result<(), Status> {
    if partition < 0 {
        return Err(bad_ack("partition", partition.into()));
    }
    if offset < 0 {
        return Err(bad_ack("offset", offset));
    }
    Ok(())
}

fn bad_ack(what: &str, number: i64) -> Status {
    Status::invalid_argument(format!("invalid ack: bad {what}: {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kafka_errors_have_the_texts_of_sarama() {
        let text = |code| kafka_text(KafkaError::from_code(code));
        assert_eq!(
            text(ErrorCode::UnknownTopic),
            "kafka server: Request was for a topic or partition that does not exist on this \
             broker."
        );
        assert_eq!(
            text(ErrorCode::LeaderNotAvailable),
            "kafka server: In the middle of a leadership election, there is currently no leader \
             for this partition and hence it is unavailable for writes."
        );
        assert_eq!(
            text(ErrorCode::MessageTimedOut),
            text(ErrorCode::RequestTimedOut)
        );
        assert_eq!(
            text(ErrorCode::AllBrokersDown),
            "kafka: client has run out of available brokers to talk to (Is your cluster \
             reachable?)"
        );
        assert_eq!(text(ErrorCode::QueueFull), "kafka: Local: Queue full");
        assert_eq!(
            text(ErrorCode::NotController),
            format!(
                "kafka: {}",
                KafkaError::from_code(ErrorCode::NotController).text()
            )
        );
    }

    #[test]
    fn only_an_unknown_topic_is_the_clients_fault() {
        let code = |code| of_producing(&KafkaError::from_code(code).into()).code();
        assert_eq!(code(ErrorCode::UnknownTopic), tonic::Code::InvalidArgument);
        assert_eq!(code(ErrorCode::MessageSizeTooLarge), tonic::Code::Internal);
        assert_eq!(
            of_producing(&Error::Closed).code(),
            tonic::Code::Unavailable
        );
    }
}
