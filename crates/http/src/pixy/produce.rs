//! `POST /topics/<t>/messages` (contract, section 3.1).

use super::Call;
use crate::parameters::{Parameters, refused};
use crate::reply::{self, Reply};
use barnabas_engine::{Error, ErrorCode, HEADERS_UNSUPPORTED, KafkaError, Record, sarama_text_of};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HeaderMap};
use hyper::{StatusCode, Version};
use serde_json::json;

/// What a body may have beyond the largest message.
const SURPLUS: usize = 64 << 10;
/// Headers that become headers of the record.
const HEADER_PREFIX: &str = "x-kafka-";

/// A header of a record: name and value.
pub(super) type RecordHeader = (String, Vec<u8>);

pub(super) async fn run(mut call: Call<'_>, topic: &str) -> Result<Reply, Box<Reply>> {
    let is_sync = call.parameters.has("sync");
    call.refuse_if_stopping()?;
    let kind = call.content_type().into_owned();
    let is_form = call.is_form();
    if !is_form && !is_message(&kind) {
        return Err(refused(format!("unsupported content type {kind}")));
    }
    let headers = record_headers(call.request.headers())?;
    let has_length = call.request.headers().contains_key(CONTENT_LENGTH);
    // Chunks, and HTTP/2, end by themselves.
    let is_framed = call.request.headers().contains_key("transfer-encoding")
        || call.request.version() == Version::HTTP_2;
    if !has_length && !is_framed {
        return Err(refused("missing Content-Length header"));
    }
    let limit = call.proxy.options.max_message_bytes + SURPLUS;
    let limit = if is_form { limit * 3 } else { limit };
    let body = match read(call.request.body_mut(), limit).await {
        Ok(body) => body,
        Err(ReadError::TooLarge) => return Ok(too_large(is_sync)),
        Err(ReadError::Failed(cause)) => {
            return Err(refused(format!("failed to read message: {cause}")));
        }
    };
    let mut form = Parameters::default();
    let value = if is_form {
        form.add(&body).map_err(refused)?;
        match form.first("msg") {
            Some(message) if !message.is_empty() => message,
            _ => return Err(refused("empty message")),
        }
    } else {
        &body[..]
    };
    let is_sync = is_sync || form.has("sync");
    let key = form.first("key").or_else(|| call.parameters.first("key"));
    let headers: Vec<(&str, Option<&[u8]>)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), Some(value.as_slice())))
        .collect();
    if !headers.is_empty() && !call.proxy.options.has_headers {
        return match is_sync {
            true => Err(refused(HEADERS_UNSUPPORTED)),
            false => Ok(dropped(topic, HEADERS_UNSUPPORTED)),
        };
    }
    let record = Record {
        key,
        value: Some(value),
    };
    let proxies = &call.shared.proxies;
    match call.proxy.submit(proxies, topic, record, &headers).await {
        Ok(submitted) if is_sync => match submitted.delivered().await {
            Ok(place) => Ok(reply::json(
                StatusCode::OK,
                &json!({"partition": place.partition, "offset": place.offset}),
            )),
            Err(error) => Ok(failed(&error)),
        },
        Ok(_) => Ok(accepted()),
        Err(error) if is_sync => Ok(failed(&error)),
        Err(error) => Ok(dropped(topic, &error.to_string())),
    }
}

/// The reply to an error of Kafka.
pub(super) fn failed(error: &Error) -> Reply {
    let status = match error {
        Error::Kafka { error } if error.is_unknown_topic() => StatusCode::NOT_FOUND,
        Error::Closed => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    reply::error(status, sarama_text_of(error))
}

fn accepted() -> Reply {
    reply::json(StatusCode::OK, &json!({}))
}

/// Whoever does not wait is told nothing; the log is.
fn dropped(topic: &str, reason: &str) -> Reply {
    tracing::error!(
        component = "http",
        "a message to {topic} is dropped: {reason}"
    );
    accepted()
}

fn too_large(is_sync: bool) -> Reply {
    let error = Error::from(KafkaError::from_code(ErrorCode::MessageSizeTooLarge));
    match is_sync {
        true => failed(&error),
        false => dropped("a topic", &error.to_string()),
    }
}

/// `text/plain` and JSON of any kind; the body is not looked into.
fn is_message(kind: &str) -> bool {
    let name = kind.split(';').next().unwrap_or_default().trim_end();
    let json = kind.strip_prefix("application/").map(|rest| {
        let rest = rest.split(';').next().unwrap_or_default();
        rest == "json" || rest.ends_with("+json")
    });
    name == "text/plain" || json == Some(true)
}

pub(super) enum ReadError {
    TooLarge,
    Failed(String),
}

/// Reads a body; stops at the limit.
pub(super) async fn read(body: &mut Incoming, limit: usize) -> Result<Bytes, ReadError> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ReadError::TooLarge),
        Err(error) => Err(ReadError::Failed(error.to_string())),
    }
}

fn record_headers(headers: &HeaderMap) -> Result<Vec<RecordHeader>, Box<Reply>> {
    let mut found = Vec::new();
    for (name, value) in headers {
        let Some(own) = name.as_str().strip_prefix(HEADER_PREFIX) else {
            continue;
        };
        let own = canonical(own);
        let value = BASE64_STANDARD
            .decode(value.as_bytes())
            .map_err(|_| refused(format!("Invalid base64 encoding for header: X-Kafka-{own}")))?;
        found.push((own, value));
    }
    Ok(found)
}

/// The name as Go writes it: each word begins with a capital.
fn canonical(name: &str) -> String {
    let mut canonical = String::with_capacity(name.len());
    let mut starts = true;
    for char in name.chars() {
        canonical.push(if starts {
            char.to_ascii_uppercase()
        } else {
            char.to_ascii_lowercase()
        });
        starts = char == '-';
    }
    canonical
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_of_messages() {
        for good in [
            "text/plain",
            "text/plain; charset=utf-8",
            "application/json",
            "application/json; charset=utf-8",
            "application/vnd.api+json",
        ] {
            assert!(is_message(good), "{good}");
        }
        for bad in ["", "text/html", "application/jsonx", "json", "text/plainx"] {
            assert!(!is_message(bad), "{bad}");
        }
    }

    #[test]
    fn header_names_are_written_as_go_does() {
        assert_eq!(canonical("trace-ID"), "Trace-Id");
        assert_eq!(canonical("a--b1c"), "A--B1c");
    }
}
