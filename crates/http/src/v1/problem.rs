//! Errors of the native API: problem details (RFC 9457) with stable codes.

use crate::reply::{self, Reply};
use crate::request_id::RequestId;
use barnabas_engine::{ConsumeError, Error, ErrorCode, JournalError, KafkaError};
use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use serde_json::json;

/// The content type of problems.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";
/// What stands before the code in a problem's type.
pub(crate) const TYPE_PREFIX: &str = "urn:barnabas:problem:";

/// What programs tell errors apart by. Codes stay; new ones may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidParameter,
    InvalidBody,
    BadOffset,
    Unauthenticated,
    Forbidden,
    NotFound,
    ClusterNotFound,
    TopicNotFound,
    PartitionNotFound,
    GroupNotFound,
    MethodNotAllowed,
    NotAcceptable,
    TopicExists,
    GroupActive,
    NotOwned,
    IdempotencyKeyInUse,
    PayloadTooLarge,
    UnsupportedMediaType,
    IdempotencyKeyReused,
    TooManyRequests,
    TooManyGroups,
    Overloaded,
    KafkaRefused,
    KafkaUnavailable,
    ConsumingDisabled,
    JournalFull,
    JournalUnavailable,
    IdempotencyKeysExhausted,
    ShuttingDown,
}

/// A code as it is written, its status and title.
type Row = (Code, &'static str, StatusCode, &'static str);

impl Code {
    /// Every code, by status.
    pub(crate) const ALL: &[Row] = &[
        (
            Self::InvalidParameter,
            "invalid-parameter",
            StatusCode::BAD_REQUEST,
            "A parameter is wrong",
        ),
        (
            Self::InvalidBody,
            "invalid-body",
            StatusCode::BAD_REQUEST,
            "The body is wrong",
        ),
        (
            Self::BadOffset,
            "bad-offset",
            StatusCode::BAD_REQUEST,
            "The partition has no such offset",
        ),
        (
            Self::Unauthenticated,
            "unauthenticated",
            StatusCode::UNAUTHORIZED,
            "A valid bearer token is required",
        ),
        (
            Self::Forbidden,
            "forbidden",
            StatusCode::FORBIDDEN,
            "The token does not allow this",
        ),
        (
            Self::NotFound,
            "not-found",
            StatusCode::NOT_FOUND,
            "There is no such resource",
        ),
        (
            Self::ClusterNotFound,
            "cluster-not-found",
            StatusCode::NOT_FOUND,
            "The cluster is not configured",
        ),
        (
            Self::TopicNotFound,
            "topic-not-found",
            StatusCode::NOT_FOUND,
            "The topic does not exist",
        ),
        (
            Self::PartitionNotFound,
            "partition-not-found",
            StatusCode::NOT_FOUND,
            "The topic has no such partition",
        ),
        (
            Self::GroupNotFound,
            "group-not-found",
            StatusCode::NOT_FOUND,
            "The group does not exist",
        ),
        (
            Self::MethodNotAllowed,
            "method-not-allowed",
            StatusCode::METHOD_NOT_ALLOWED,
            "The resource has no such method",
        ),
        (
            Self::NotAcceptable,
            "not-acceptable",
            StatusCode::NOT_ACCEPTABLE,
            "The reply has no form that is accepted",
        ),
        (
            Self::TopicExists,
            "topic-exists",
            StatusCode::CONFLICT,
            "The topic exists already",
        ),
        (
            Self::GroupActive,
            "group-active",
            StatusCode::CONFLICT,
            "The group is consuming",
        ),
        (
            Self::NotOwned,
            "not-owned",
            StatusCode::CONFLICT,
            "No replica has the partition",
        ),
        (
            Self::IdempotencyKeyInUse,
            "idempotency-key-in-use",
            StatusCode::CONFLICT,
            "The first request with this key is under way",
        ),
        (
            Self::PayloadTooLarge,
            "payload-too-large",
            StatusCode::PAYLOAD_TOO_LARGE,
            "The body is too large",
        ),
        (
            Self::UnsupportedMediaType,
            "unsupported-media-type",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "The body is of a type that is not read",
        ),
        (
            Self::IdempotencyKeyReused,
            "idempotency-key-reused",
            StatusCode::UNPROCESSABLE_ENTITY,
            "The key was used for another request",
        ),
        (
            Self::TooManyRequests,
            "too-many-requests",
            StatusCode::TOO_MANY_REQUESTS,
            "Too many requests wait for the topic",
        ),
        (
            Self::TooManyGroups,
            "too-many-groups",
            StatusCode::TOO_MANY_REQUESTS,
            "There are too many groups",
        ),
        (
            Self::Overloaded,
            "overloaded",
            StatusCode::TOO_MANY_REQUESTS,
            "The gateway has no room for more",
        ),
        (
            Self::KafkaRefused,
            "kafka-refused",
            StatusCode::BAD_GATEWAY,
            "Kafka has refused",
        ),
        (
            Self::KafkaUnavailable,
            "kafka-unavailable",
            StatusCode::SERVICE_UNAVAILABLE,
            "Kafka does not answer",
        ),
        (
            Self::ConsumingDisabled,
            "consuming-disabled",
            StatusCode::SERVICE_UNAVAILABLE,
            "Consuming is switched off",
        ),
        (
            Self::JournalFull,
            "journal-full",
            StatusCode::SERVICE_UNAVAILABLE,
            "The journal is full",
        ),
        (
            Self::JournalUnavailable,
            "journal-unavailable",
            StatusCode::SERVICE_UNAVAILABLE,
            "The journal cannot be written",
        ),
        (
            Self::IdempotencyKeysExhausted,
            "idempotency-keys-exhausted",
            StatusCode::SERVICE_UNAVAILABLE,
            "There are too many idempotency keys",
        ),
        (
            Self::ShuttingDown,
            "shutting-down",
            StatusCode::SERVICE_UNAVAILABLE,
            "The gateway is about to end",
        ),
    ];

    fn row(self) -> Row {
        let fallback = (self, "not-found", StatusCode::NOT_FOUND, "");
        let row = Self::ALL.iter().find(|(code, ..)| *code == self);
        row.copied().unwrap_or(fallback)
    }

    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        self.row().1
    }

    pub(crate) fn status(self) -> StatusCode {
        self.row().2
    }

    /// Seconds until it makes sense to ask again, where it does.
    fn retry_after(self) -> Option<HeaderValue> {
        let seconds = match self {
            // A place in the queue is free as soon as a request is served; of
            // several replicas another one goes on.
            Self::TooManyRequests
            | Self::Overloaded
            | Self::ShuttingDown
            | Self::IdempotencyKeyInUse => "1",
            Self::KafkaUnavailable => "5",
            // As long as a group without requests lives.
            Self::TooManyGroups => "15",
            _ => return None,
        };
        Some(HeaderValue::from_static(seconds))
    }
}

/// Why a request failed.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) detail: String,
    kafka_error: Option<i32>,
    /// Seconds, where they are known better than by the code.
    retry_after: Option<u64>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            kafka_error: None,
            retry_after: None,
        }
    }

    /// Known better than by the code.
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// As [`retry_after`](Self::retry_after) has set it.
    #[cfg(test)]
    pub(crate) fn seconds(&self) -> Option<u64> {
        self.retry_after
    }

    pub(crate) fn topic_not_found(topic: &str) -> Self {
        Self::new(Code::TopicNotFound, format!("there is no topic {topic:?}"))
    }

    /// The reply. It carries the request's id, which a page of logs is found
    /// by.
    pub(crate) fn into_reply(self, id: &RequestId) -> Reply {
        let (_, name, status, title) = self.code.row();
        let mut document = json!({
            "type": format!("{TYPE_PREFIX}{name}"),
            "title": title,
            "status": status.as_u16(),
            "code": name,
            "detail": self.detail,
            "request_id": id.as_str(),
        });
        if let (Some(number), Some(members)) = (self.kafka_error, document.as_object_mut()) {
            members.insert("kafka_error".to_owned(), number.into());
        }
        let mut reply = reply::compact(status, PROBLEM_JSON, &document);
        let seconds = self.retry_after.map(HeaderValue::from);
        if let Some(seconds) = seconds.or_else(|| self.code.retry_after()) {
            reply.headers_mut().insert(RETRY_AFTER, seconds);
        }
        reply
    }
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let kafka = match error {
            Error::Kafka { error } | Error::Consume { error, .. } => *error,
            Error::Closed => return Self::new(Code::ShuttingDown, "the gateway is about to end"),
            Error::Journal { error } => return Self::from(error),
            other => return Self::new(Code::KafkaRefused, other.to_string()),
        };
        Self {
            code: code_of(kafka),
            detail: error.to_string(),
            kafka_error: Some(kafka.number()),
            retry_after: None,
        }
    }
}

fn code_of(error: KafkaError) -> Code {
    use ErrorCode as E;
    const CODES: [(ErrorCode, Code); 14] = [
        (E::TopicAlreadyExists, Code::TopicExists),
        (E::UnknownMemberId, Code::GroupActive),
        (E::InvalidTopic, Code::InvalidParameter),
        (E::InvalidGroupId, Code::InvalidParameter),
        (E::InvalidPartitions, Code::InvalidBody),
        (E::InvalidReplicationFactor, Code::InvalidBody),
        (E::InvalidConfig, Code::InvalidBody),
        (E::PolicyViolation, Code::InvalidBody),
        (E::InvalidArgument, Code::InvalidBody),
        (E::OffsetMetadataTooLarge, Code::InvalidBody),
        (E::UnknownPartition, Code::PartitionNotFound),
        (E::MessageSizeTooLarge, Code::PayloadTooLarge),
        (E::MessageTimedOut, Code::KafkaUnavailable),
        (E::QueueFull, Code::Overloaded),
    ];
    if let Some((_, code)) = CODES.iter().find(|(code, _)| error.is(*code)) {
        return *code;
    }
    if error.is_unknown_topic() {
        return Code::TopicNotFound;
    }
    if error.is_transient() {
        return Code::KafkaUnavailable;
    }
    Code::KafkaRefused
}

impl From<&JournalError> for Problem {
    fn from(error: &JournalError) -> Self {
        let code = match error {
            JournalError::Full { .. } => Code::JournalFull,
            JournalError::TooLarge => Code::PayloadTooLarge,
            JournalError::Closed => Code::ShuttingDown,
            _ => Code::JournalUnavailable,
        };
        Self {
            retry_after: Some(error.retry_after().as_secs())
                .filter(|_| code.status() == StatusCode::SERVICE_UNAVAILABLE),
            ..Self::new(code, error.to_string())
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

/// [`ConsumeError::Timeout`] is no problem; its place is before this.
impl From<ConsumeError> for Problem {
    fn from(error: ConsumeError) -> Self {
        let code = match &error {
            ConsumeError::Engine(error) => return Self::from(error),
            ConsumeError::Timeout | ConsumeError::ShuttingDown => Code::ShuttingDown,
            ConsumeError::TooManyRequests => Code::TooManyRequests,
            ConsumeError::TooManyGroups => Code::TooManyGroups,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_documented() {
        let page = include_str!("../../../../docs/http-api.md");
        for (index, (code, name, status, title)) in Code::ALL.iter().enumerate() {
            assert_eq!(code.row().1, *name);
            assert!(!title.is_empty());
            assert!(Code::ALL.iter().skip(index + 1).all(|row| row.1 != *name));
            let row = format!("| {} | `{name}` |", status.as_u16());
            assert!(page.contains(&row), "docs/http-api.md has no {row}");
        }
        let rows = page.lines().filter(|line| {
            let mut cells = line.split('|').skip(1).map(str::trim);
            cells.next().is_some_and(|cell| cell.parse::<u16>().is_ok())
                && cells.next().is_some_and(|cell| cell.starts_with('`'))
        });
        assert_eq!(rows.count(), Code::ALL.len());
    }

    #[test]
    fn errors_of_kafka_have_codes() {
        let of = |code| {
            let problem = Problem::from(Error::from(KafkaError::from_code(code)));
            (problem.code, problem.kafka_error.is_some())
        };
        for (error, code) in [
            (ErrorCode::UnknownTopicOrPartition, Code::TopicNotFound),
            (ErrorCode::TopicAlreadyExists, Code::TopicExists),
            (ErrorCode::BrokerTransportFailure, Code::KafkaUnavailable),
            (ErrorCode::NotCoordinator, Code::KafkaUnavailable),
            (ErrorCode::InvalidReplicationFactor, Code::InvalidBody),
            (ErrorCode::TopicAuthorizationFailed, Code::KafkaRefused),
            (ErrorCode::TopicDeletionDisabled, Code::KafkaRefused),
        ] {
            assert_eq!(of(error), (code, true), "{error:?}");
        }
        assert_eq!(Problem::from(Error::Closed).code, Code::ShuttingDown);
    }
}
