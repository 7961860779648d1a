//! The replies of `/push` (contract, section 1, "Reply shapes").

use crate::json;
use crate::reply::{self, JSON, Reply};
use barnabas_engine::{ErrorCode, JournalError, KafkaError};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};

/// Whose words a reply has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyShape {
    /// Those of the program.
    #[default]
    Program,
    /// Those of its README.
    Documented,
}

/// Why a record has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The rate limiter's: in so many seconds there is room for one more.
    RateLimit(u64),
    /// Kafka's, librdkafka's, or ours in their words.
    Kafka(KafkaError),
    /// The journal's, in librdkafka's words: in so many seconds it may take
    /// records again.
    Journal(KafkaError, u64),
}

impl Failure {
    pub(super) const FULL: Self = Self::Kafka(KafkaError::from_code(ErrorCode::QueueFull));
    pub(super) const STOPPING: Self = Self::Kafka(KafkaError::from_code(ErrorCode::BrokerDestroy));

    pub(super) fn text(self) -> String {
        match self {
            Self::RateLimit(_) => "ratelimit".to_owned(),
            Self::Kafka(error) | Self::Journal(error, _) => message_production(error),
        }
    }

    /// Its number, unless the rate limiter has none.
    pub(super) fn error(self) -> Option<KafkaError> {
        match self {
            Self::RateLimit(_) => None,
            Self::Kafka(error) | Self::Journal(error, _) => Some(error),
        }
    }

    /// What the journal says.
    pub(super) fn of_journal(error: &JournalError) -> Self {
        let code = match error {
            JournalError::Full { .. } => ErrorCode::QueueFull,
            JournalError::Closed => return Self::STOPPING,
            _ => ErrorCode::FileSystem,
        };
        let seconds = error.retry_after().as_secs();
        Self::Journal(KafkaError::from_code(code), seconds)
    }

    /// It passes when there is room again, or elsewhere.
    fn is_overload(self) -> bool {
        matches!(self, Self::Journal(..)) || self == Self::FULL || self == Self::STOPPING
    }
}

/// An error in the words of the crate `rdkafka`.
pub(super) fn message_production(error: KafkaError) -> String {
    format!("Message production error: {}", error.name_and_text())
}

/// The failures of a request: the index of each record, ascending, and why.
pub(super) type Failures = Vec<(usize, Failure)>;

/// All is well.
pub(super) fn well() -> Reply {
    let body = Bytes::from_static(br#"{"status":"ok","errors":[]}"#);
    reply::with_body(StatusCode::OK, JSON, body)
}

/// Some of `count` records have failed; `drain_seconds` is when there may be
/// room again.
pub(super) fn failed(
    shape: ReplyShape,
    is_strict: bool,
    count: usize,
    failures: &[(usize, Failure)],
    drain_seconds: impl Fn() -> u64,
) -> Reply {
    let (status, retry_after) = match is_strict {
        true => (StatusCode::INTERNAL_SERVER_ERROR, None),
        false => status(failures, drain_seconds),
    };
    let mut reply = reply::with_body(status, JSON, body(shape, count, failures));
    if let Some(seconds) = retry_after {
        let headers = reply.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    reply
}

/// The rule of the contract: what all failures have in common counts.
fn status(
    failures: &[(usize, Failure)],
    drain_seconds: impl Fn() -> u64,
) -> (StatusCode, Option<u64>) {
    let waits = failures.iter().map(|(_, failure)| match failure {
        Failure::RateLimit(seconds) => Some(*seconds),
        Failure::Kafka(_) | Failure::Journal(..) => None,
    });
    if let Some(longest) = waits.collect::<Option<Vec<u64>>>().as_deref() {
        if let Some(seconds) = longest.iter().max() {
            return (StatusCode::TOO_MANY_REQUESTS, Some(*seconds));
        }
        // The body found no room: nothing is known of its records.
        return (StatusCode::SERVICE_UNAVAILABLE, Some(drain_seconds()));
    }
    if !failures.iter().all(|(_, failure)| failure.is_overload()) {
        return (StatusCode::INTERNAL_SERVER_ERROR, None);
    }
    let of_journal = failures.iter().find_map(|(_, failure)| match failure {
        Failure::Journal(_, seconds) => Some(*seconds),
        _ => None,
    });
    let seconds = of_journal.unwrap_or_else(drain_seconds);
    (StatusCode::SERVICE_UNAVAILABLE, Some(seconds))
}

fn body(shape: ReplyShape, count: usize, failures: &[(usize, Failure)]) -> Vec<u8> {
    let (head, good): (&str, &str) = match shape {
        ReplyShape::Program => (
            r#"{"status":"err","errors":["#,
            r#"{"error":false,"message":null}"#,
        ),
        ReplyShape::Documented => (
            r#"{"status":"error","errors":["#,
            r#"{"status":"ok","error":""}"#,
        ),
    };
    let mut out = Vec::with_capacity(head.len() + count * 32 + failures.len() * 96);
    json::raw(&mut out, head);
    let mut failures = failures.iter().peekable();
    // Most failures of a request have one reason.
    let mut last: Option<(Failure, Vec<u8>)> = None;
    for index in 0..count {
        if index > 0 {
            out.push(b',');
        }
        let Some((_, failure)) = failures.next_if(|(own, _)| *own == index) else {
            json::raw(&mut out, good);
            continue;
        };
        let entry = match last.take() {
            Some((own, entry)) if own == *failure => entry,
            _ => entry(shape, *failure),
        };
        out.extend_from_slice(&entry);
        last = Some((*failure, entry));
    }
    json::raw(&mut out, "]}");
    out
}

fn entry(shape: ReplyShape, failure: Failure) -> Vec<u8> {
    let mut out = Vec::new();
    json::raw(
        &mut out,
        match shape {
            ReplyShape::Program => r#"{"error":true,"message":"#,
            ReplyShape::Documented => r#"{"status":"error","error":"#,
        },
    );
    json::text(&mut out, &failure.text());
    out.push(b'}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kafka(code: ErrorCode) -> Failure {
        Failure::Kafka(KafkaError::from_code(code))
    }

    #[test]
    fn both_shapes_line_up() {
        let failures = [(1, kafka(ErrorCode::UnknownPartition))];
        let text = |shape| String::from_utf8(body(shape, 3, &failures)).unwrap();
        assert_eq!(
            text(ReplyShape::Program),
            r#"{"status":"err","errors":[{"error":false,"message":null},{"error":true,"message":"Message production error: UnknownPartition (Local: Unknown partition)"},{"error":false,"message":null}]}"#
        );
        assert_eq!(
            text(ReplyShape::Documented),
            r#"{"status":"error","errors":[{"status":"ok","error":""},{"status":"error","error":"Message production error: UnknownPartition (Local: Unknown partition)"},{"status":"ok","error":""}]}"#
        );
        assert_eq!(
            body(ReplyShape::Program, 0, &[]),
            br#"{"status":"err","errors":[]}"#
        );
    }

    #[test]
    fn what_all_failures_have_in_common_makes_the_status() {
        let limited = |seconds| (0, Failure::RateLimit(seconds));
        let (full, stopping) = ((1, Failure::FULL), (2, Failure::STOPPING));
        let other = (3, kafka(ErrorCode::InvalidTopic));
        let retry_after = std::time::Duration::from_secs(4);
        let kept = (4, Failure::of_journal(&JournalError::Full { retry_after }));
        for (failures, code, retry_after) in [
            (vec![limited(3), limited(9)], 429, Some(9)),
            (vec![full, stopping], 503, Some(7)),
            (vec![kept], 503, Some(4)),
            (vec![kept, other], 500, None),
            (vec![], 503, Some(7)),
            (vec![limited(3), full], 500, None),
            (vec![full, other], 500, None),
            (vec![other], 500, None),
        ] {
            let found = status(&failures, || 7);
            assert_eq!((found.0.as_u16(), found.1), (code, retry_after));
            let strict = failed(ReplyShape::Program, true, 4, &failures, || 7);
            assert_eq!(strict.status(), 500);
            assert!(!strict.headers().contains_key(RETRY_AFTER));
        }
    }
}
