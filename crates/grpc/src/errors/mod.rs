//! Status codes and texts (contract, sections 4 and 5).

pub(crate) mod v1;

use barnabas_engine::{
    AckError, CONSUMING_DISABLED, ConsumeError, Denied, Error, ErrorCode, HEADERS_UNSUPPORTED,
    JournalError, KafkaError, SHUTTING_DOWN, TOO_MANY_REQUESTS, UnknownProxy, sarama_text,
    sarama_text_of,
};
use tonic::Status;

const NO_GROUP: &str = "one consumer group is expected, but 0 provided";

pub(crate) fn unknown_cluster(unknown: UnknownProxy) -> Status {
    Status::invalid_argument(unknown.to_string())
}

/// Why a request may not be made (B6).
pub(crate) fn denied(denied: Denied) -> Status {
    match denied {
        Denied::Unauthenticated => Status::unauthenticated(denied.to_string()),
        Denied::Forbidden => Status::permission_denied(denied.to_string()),
    }
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
    Status::unavailable(CONSUMING_DISABLED)
}

/// Why a message was not written.
pub(crate) fn of_producing(error: &Error) -> Status {
    let text = sarama_text_of(error);
    match error {
        Error::Kafka { error } if error.is_unknown_topic() => Status::invalid_argument(text),
        Error::Journal {
            error: JournalError::Full { .. },
        } => Status::resource_exhausted(text),
        Error::Closed | Error::Journal { .. } => Status::unavailable(text),
        _ => Status::internal(text),
    }
}

/// Why there is no message.
pub(crate) fn of_consuming(error: &ConsumeError) -> Status {
    match error {
        ConsumeError::Timeout => Status::not_found(error.to_string()),
        ConsumeError::TooManyGroups => Status::resource_exhausted(error.to_string()),
        ConsumeError::TooManyRequests => Status::resource_exhausted(TOO_MANY_REQUESTS),
        ConsumeError::ShuttingDown => shutting_down(),
        ConsumeError::Engine(error) => Status::internal(sarama_text_of(error)),
    }
}

/// Why an acknowledgement was not taken.
pub(crate) fn of_acknowledging(error: &AckError) -> Status {
    match error {
        AckError::NotOwned { .. } => Status::internal(error.to_string()),
        AckError::BadOffset(offset) => bad_ack("offset", *offset),
    }
}

/// Why topics, groups or offsets could not be told.
pub(crate) fn of_administration(error: &Error) -> Status {
    Status::internal(sarama_text_of(error))
}

/// The topic of a request does not exist.
pub(crate) fn unknown_topic(what_failed: &str) -> Status {
    let text = sarama_text(KafkaError::from_code(ErrorCode::UnknownTopicOrPartition));
    Status::not_found(format!("{what_failed}{text}"))
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
