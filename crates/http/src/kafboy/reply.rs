//! The words of kafboy's replies (contract, section 8).

use super::posted::Pair;
use crate::json;
use crate::reply::{self, Reply};
use crate::sender;
use barnabas_engine::{Denied, ErrorCode, JournalError, Outcome, ProduceError};
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER};
use std::borrow::Cow;

const JSON: &str = "application/json; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// A reply that says what is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) text: Cow<'static, str>,
    /// In so many seconds there may be room.
    pub(super) retry_after: Option<u64>,
    /// Whether the text is the body, and not what is wrong.
    is_list: bool,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            text: text.into(),
            retry_after: None,
            is_list: false,
        }
    }

    pub(super) fn overload(text: &'static str, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }

    pub(super) fn invalid() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid")
    }

    pub(super) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large")
    }

    pub(super) fn timeout() -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout")
    }

    /// Its token does not allow it.
    pub(super) fn denied(denied: Denied) -> Self {
        Self::new(sender::status(denied), denied.to_string())
    }

    /// Why a message was not taken, or has not come to Kafka.
    pub(super) fn of(error: &ProduceError, drain_seconds: impl Fn() -> u64) -> Self {
        let failed = |text| Self::new(StatusCode::INTERNAL_SERVER_ERROR, text);
        match error {
            ProduceError::Full { .. } | ProduceError::ShuttingDown { .. } => {
                Self::overload("overload", drain_seconds())
            }
            ProduceError::NotJournaled { error, .. } => {
                let seconds = error.retry_after().as_secs().max(1);
                let status = StatusCode::SERVICE_UNAVAILABLE;
                match error {
                    JournalError::Full { .. } => Self::overload("overload", seconds),
                    error => Self {
                        retry_after: Some(seconds),
                        ..Self::new(status, error.to_string())
                    },
                }
            }
            ProduceError::TooLarge { .. } => Self::too_large(),
            ProduceError::InvalidTopic { .. } => Self::invalid(),
            ProduceError::Timeout { .. } | ProduceError::Downtime { .. } => Self::timeout(),
            ProduceError::PossiblyPersisted { .. } => {
                let text = "timeout, but it may be in Kafka nevertheless";
                Self::new(StatusCode::GATEWAY_TIMEOUT, text)
            }
            ProduceError::UnknownTopic { .. } => failed("unknown topic".to_owned()),
            ProduceError::UnknownPartition { .. } => failed("unknown partition".to_owned()),
            ProduceError::Blocked { reason, .. } => failed(reason.clone()),
            ProduceError::Broker { error, .. } => failed(error.text()),
            other => failed(other.to_string()),
        }
    }

    pub(super) fn reply(&self) -> Reply {
        let mut body = Vec::with_capacity(self.text.len() + 16);
        if self.is_list {
            json::raw(&mut body, &self.text);
        } else {
            json::raw(&mut body, r#"{"error":"#);
            json::text(&mut body, &self.text);
            body.push(b'}');
        }
        let mut reply = reply::with_body(self.status, JSON, body);
        let headers = reply.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        match self.status {
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(ALLOW, HeaderValue::from_static("POST"));
            }
            StatusCode::UNAUTHORIZED => sender::ask_for_token(headers),
            _ => {}
        }
        reply
    }
}

/// All is well.
pub(super) fn well() -> Reply {
    reply::with_body(StatusCode::OK, JSON, Bytes::from_static(br#"{"ok":1}"#))
}

/// What the hook wants to be said.
pub(super) fn of_hook(body: Vec<u8>) -> Reply {
    reply::with_body(StatusCode::OK, JSON, body)
}

/// Who answers.
pub(super) fn node(name: &str) -> Reply {
    reply::with_body(StatusCode::OK, PLAIN, name.to_owned())
}

/// A form as JSON; what is not UTF-8 is replaced.
pub(super) fn echo(form: &[Pair<'_>]) -> Reply {
    if form.is_empty() {
        return reply::with_body(StatusCode::OK, JSON, Bytes::from_static(b"[]"));
    }
    let mut body = Vec::new();
    for (index, (name, value)) in form.iter().enumerate() {
        body.push(if index == 0 { b'{' } else { b',' });
        json::text(&mut body, &String::from_utf8_lossy(name));
        body.push(b':');
        match value {
            Some(value) => json::text(&mut body, &String::from_utf8_lossy(value)),
            None => json::raw(&mut body, "true"),
        }
    }
    body.push(b'}');
    reply::with_body(StatusCode::OK, JSON, body)
}

/// What has become of each message of a synchronous request.
///
/// # Errors
/// Not all of them are in Kafka.
pub(super) fn outcomes(
    outcomes: &[Outcome],
    is_strict: bool,
    drain_seconds: impl Fn() -> u64,
) -> Result<Reply, Refusal> {
    let refusal = |error: &ProduceError| Refusal::of(error, &drain_seconds);
    let mut refusals = outcomes.iter().map(|outcome| outcome.as_ref().err());
    let (status, retry_after) = match refusals.find_map(|error| error) {
        None => (StatusCode::OK, None),
        Some(_) if is_strict => (StatusCode::OK, None),
        Some(first) => {
            let first = refusal(first);
            let alike = |outcome: &Outcome| match outcome {
                Ok(_) => false,
                Err(error) => refusal(error).status == first.status,
            };
            let has_succeeded = outcomes.iter().any(Outcome::is_ok);
            let mut errors = outcomes.iter().filter(|outcome| outcome.is_err());
            let are_alike = errors.all(alike);
            match first.status {
                StatusCode::SERVICE_UNAVAILABLE if are_alike => (first.status, first.retry_after),
                StatusCode::GATEWAY_TIMEOUT if are_alike && !has_succeeded => {
                    // One of them may be in Kafka: then that is said.
                    let mut errors = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
                    let is_open = |error: &&ProduceError| {
                        matches!(error, ProduceError::PossiblyPersisted { .. })
                    };
                    return Err(errors.find(is_open).map_or(first, refusal));
                }
                _ => (StatusCode::INTERNAL_SERVER_ERROR, None),
            }
        }
    };
    let body = list(outcomes);
    if status == StatusCode::OK {
        return Ok(reply::with_body(status, JSON, body));
    }
    Err(Refusal {
        status,
        text: body.into(),
        retry_after,
        is_list: true,
    })
}

fn list(outcomes: &[Outcome]) -> String {
    let mut body = Vec::with_capacity(outcomes.len() * 12 + 2);
    body.push(b'[');
    for (index, outcome) in outcomes.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        match outcome {
            Ok(_) => json::raw(&mut body, r#"{"ok":true}"#),
            Err(error) => {
                json::raw(&mut body, r#"{"error":"#);
                match error {
                    ProduceError::Blocked { reason, .. } => json::text(&mut body, reason),
                    other => json::number(&mut body, number(other)),
                }
                body.push(b'}');
            }
        }
    }
    body.push(b']');
    // JSON of strings and numbers.
    String::from_utf8(body).unwrap_or_default()
}

/// Kafka's number of an error, or librdkafka's where Kafka has none.
fn number(error: &ProduceError) -> i32 {
    let code = match error {
        ProduceError::Broker { error, .. } => return error.number(),
        ProduceError::Full { .. } => ErrorCode::QueueFull,
        ProduceError::TooLarge { .. } => ErrorCode::MessageSizeTooLarge,
        ProduceError::InvalidTopic { .. } => ErrorCode::InvalidTopic,
        ProduceError::UnknownTopic { .. } => ErrorCode::UnknownTopicOrPartition,
        ProduceError::UnknownPartition { .. } => ErrorCode::UnknownPartition,
        ProduceError::Timeout { .. } => ErrorCode::MessageTimedOut,
        // The broker's own word for: perhaps.
        ProduceError::PossiblyPersisted { .. } => ErrorCode::RequestTimedOut,
        ProduceError::Downtime { .. } => ErrorCode::AllBrokersDown,
        ProduceError::ShuttingDown { .. } => ErrorCode::BrokerDestroy,
        _ => ErrorCode::Fail,
    };
    code as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use barnabas_engine::{Delivery, KafkaError, Place};

    fn at() -> Place {
        Place {
            topic: "t".into(),
            partition: None,
            index: 0,
        }
    }

    fn well() -> Outcome {
        Ok(Delivery {
            partition: 0,
            offset: 1,
            timestamp: None,
        })
    }

    #[test]
    fn entries_line_up_and_what_they_share_makes_the_status() {
        let broker = |code| {
            let error = KafkaError::from_code(code);
            Err(ProduceError::Broker { at: at(), error })
        };
        let timeout = || Err(ProduceError::Timeout { at: at() });
        let perhaps = || Err(ProduceError::PossiblyPersisted { at: at() });
        let full = || {
            Err(ProduceError::Full {
                at: at(),
                accepted: 0,
                refused: 1,
            })
        };
        let blocked = || {
            Err(ProduceError::Blocked {
                at: at(),
                reason: "say \"no\"".to_owned(),
            })
        };
        let last = Err(ProduceError::Downtime {
            at: at(),
            last: "gone".into(),
        });
        let cases: Vec<(Vec<Outcome>, u16, Option<u64>)> = vec![
            (vec![], 200, None),
            (vec![well(), well()], 200, None),
            (
                vec![well(), broker(ErrorCode::NotLeaderForPartition)],
                500,
                None,
            ),
            (vec![full(), full()], 503, Some(7)),
            (vec![full(), timeout()], 500, None),
            (vec![well(), full()], 503, Some(7)),
            (vec![timeout(), last], 504, None),
            (vec![timeout(), perhaps()], 504, None),
            (vec![well(), timeout()], 500, None),
            (vec![blocked()], 500, None),
        ];
        for (outcomes, status, retry_after) in &cases {
            let reply = super::outcomes(outcomes, false, || 7);
            let reply = reply.unwrap_or_else(|refusal| refusal.reply());
            let header = reply.headers().get(RETRY_AFTER);
            let header = header.map(|value| value.to_str().unwrap().parse().unwrap());
            assert_eq!((reply.status().as_u16(), header), (*status, *retry_after));
            let strict = super::outcomes(outcomes, true, || 7);
            assert_eq!(strict.unwrap().status(), 200);
        }
        let shown = |index: usize| list(&cases[index].0);
        assert_eq!(shown(0), "[]");
        assert_eq!(shown(2), r#"[{"ok":true},{"error":6}]"#);
        assert_eq!(shown(9), r#"[{"error":"say \"no\""}]"#);
    }
}
