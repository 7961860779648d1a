//! Errors inside replies of `barnabas.v1`.

use crate::v1;
use barnabas_engine::{
    AckError, Error, ErrorCode, HEADERS_UNSUPPORTED, KafkaError, SHUTTING_DOWN, sarama_text_of,
};

fn plain(code: v1::ErrorCode, text: impl Into<String>) -> v1::Error {
    v1::Error {
        code: code.into(),
        text: text.into(),
        kafka_code: None,
    }
}

pub(crate) fn headers_unsupported() -> v1::Error {
    plain(v1::ErrorCode::HeadersUnsupported, HEADERS_UNSUPPORTED)
}

pub(crate) fn shutting_down() -> v1::Error {
    plain(v1::ErrorCode::ShuttingDown, SHUTTING_DOWN)
}

pub(crate) fn forbidden(text: String) -> v1::Error {
    plain(v1::ErrorCode::Forbidden, text)
}

/// Why a record was not written.
pub(crate) fn of_producing(error: &Error) -> v1::Error {
    let kafka = match error {
        Error::Kafka { error } => *error,
        Error::Closed => return shutting_down(),
        other => return plain(v1::ErrorCode::Kafka, sarama_text_of(other)),
    };
    v1::Error {
        code: code_of(kafka).into(),
        text: sarama_text_of(error),
        kafka_code: Some(kafka.number()),
    }
}

fn code_of(error: KafkaError) -> v1::ErrorCode {
    if error.is_unknown_topic() {
        v1::ErrorCode::UnknownTopicOrPartition
    } else if error.is(ErrorCode::MessageSizeTooLarge) {
        v1::ErrorCode::MessageTooLarge
    } else if error.is(ErrorCode::MessageTimedOut) || error.is(ErrorCode::RequestTimedOut) {
        v1::ErrorCode::TimedOut
    } else {
        v1::ErrorCode::Kafka
    }
}

/// Why an acknowledgement was not taken.
pub(crate) fn of_acknowledging(error: &AckError) -> v1::Error {
    match error {
        AckError::NotOwned { .. } => plain(v1::ErrorCode::NotOwned, error.to_string()),
        AckError::BadOffset(_) => plain(v1::ErrorCode::BadOffset, error.to_string()),
    }
}
