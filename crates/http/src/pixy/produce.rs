//! `POST /topics/<t>/messages` (contract, section 3.1).

use super::no_room;
use crate::body::ReadError;
use crate::parameters::{Parameters, refused};
use crate::reply::{self, Reply};
use crate::service::Call;
use barnabas_engine::{
    CLUSTER_UNREACHABLE, Delivery, DeliverySink, Drops, Error, ErrorCode, HEADERS_UNSUPPORTED,
    KafkaError, Record, sarama_text_of,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{CONTENT_LENGTH, HeaderMap, RETRY_AFTER, TRANSFER_ENCODING};
use hyper::{StatusCode, Version};
use std::sync::Arc;

/// What a body may have beyond the largest message.
const SURPLUS: usize = 64 << 10;
/// Headers that become headers of the record.
const HEADER_PREFIX: &str = "x-kafka-";

/// A header of a record: name and value.
pub(super) type RecordHeader = (String, Vec<u8>);

pub(super) async fn run(mut call: Call<'_>) -> Result<Reply, Box<Reply>> {
    let is_sync = call.parameters.has("sync");
    call.refuse_if_stopping()?;
    let kind = call.content_type();
    let is_form = call.is_form();
    if !is_form && !is_message(&kind) {
        return Err(refused(format!("unsupported content type {kind}")));
    }
    let sent = &call.head.headers;
    let headers = record_headers(sent)?;
    // Chunks, and HTTP/2, end by themselves.
    let is_framed = sent.contains_key(TRANSFER_ENCODING) || call.head.version == Version::HTTP_2;
    if !is_framed && !sent.contains_key(CONTENT_LENGTH) {
        return Err(refused("missing Content-Length header"));
    }
    let limit = call.proxy.options.max_message_bytes + SURPLUS;
    let limit = if is_form { limit * 3 } else { limit };
    let body = match call.body.read(limit).await {
        Ok(body) => body,
        Err(ReadError::TooLarge) => {
            return Ok(failed_or_dropped(&call, is_sync, &too_large()));
        }
        Err(ReadError::NoRoom) => return Err(no_room()),
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
    let timestamp = match form.number("timestamp", i64::MAX)? {
        None => call.parameters.number("timestamp", i64::MAX)?,
        timestamp => timestamp,
    };
    if !headers.is_empty() && !call.proxy.options.has_headers {
        if is_sync || call.proxy.options.strict_async {
            return Err(refused(HEADERS_UNSUPPORTED));
        }
        call.shared.drops.with_headers(call.topic);
        return Ok(accepted());
    }
    let mut headers: Vec<(&str, Option<&[u8]>)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), Some(value.as_slice())))
        .collect();
    let record = Record {
        key,
        value: Some(value),
    };
    let sending = call.trace.sending(call.topic);
    sending.add_where_it_fits(call.proxy, record, &mut headers);
    let proxies = &call.shared.proxies;
    if is_sync {
        // Others may be here because there is a journal.
        if !call.proxy.is_reachable() {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Err(Box::new(reply::error(status, CLUSTER_UNREACHABLE)));
        }
        let submitted = call
            .proxy
            .submit_at(proxies, call.topic, record, &headers, timestamp)
            .await;
        let delivered = match submitted {
            Ok(submitted) => submitted.delivered().await,
            Err(error) => Err(error),
        };
        return Ok(match delivered {
            Ok(place) => {
                sending.written(place);
                written(place)
            }
            Err(error) => {
                sending.failed(&error);
                failed(&error)
            }
        });
    }
    let sink: Arc<dyn DeliverySink> = Arc::<Drops>::clone(&call.shared.drops);
    let submitted = call
        .proxy
        .produce(proxies, call.topic, record, &headers, timestamp, &sink)
        .await;
    match submitted {
        Ok(()) => Ok(accepted()),
        Err(error) => {
            sending.failed(&error);
            Ok(failed_or_dropped(&call, false, &error))
        }
    }
}

/// The reply to an error of Kafka.
fn failed(error: &Error) -> Reply {
    let status = match error {
        Error::Kafka { error } if error.is_unknown_topic() => StatusCode::NOT_FOUND,
        Error::Closed | Error::Journal { .. } => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let mut reply = reply::error(status, sarama_text_of(error));
    if let Error::Journal { error } = error {
        let seconds = error.retry_after().as_secs();
        reply.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    reply
}

/// The reply to an error that is known at once.
fn failed_or_dropped(call: &Call<'_>, is_sync: bool, error: &Error) -> Reply {
    if is_sync || call.proxy.tells(call.topic, error) {
        return failed(error);
    }
    call.shared.drops.refused(call.topic, error);
    accepted()
}

fn accepted() -> Reply {
    reply::with_body(StatusCode::OK, reply::JSON, "{}")
}

fn written(place: Delivery) -> Reply {
    let (partition, offset) = (place.partition, place.offset);
    let body = format!("{{\n  \"partition\": {partition},\n  \"offset\": {offset}\n}}");
    reply::with_body(StatusCode::OK, reply::JSON, body)
}

fn too_large() -> Error {
    KafkaError::from_code(ErrorCode::MessageSizeTooLarge).into()
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
