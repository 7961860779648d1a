//! `GET /topics/<t>/messages` (contract, section 3.2; many at once: B4).

use crate::json;
use crate::parameters::refused;
use crate::reply::{self, Reply};
use crate::service::Call;
use crate::trace;
use barnabas_engine::{
    AckMode, CONSUMING_DISABLED, Consume, ConsumeError, Delivered, TOO_MANY_REQUESTS, TraceContext,
};
use bytes::Bytes;
use hyper::StatusCode;
use std::time::Instant;

/// Messages that one request may ask for.
const LARGEST_BATCH: i64 = 1_000;
/// No further message once a reply has so many bytes.
const LARGEST_REPLY: usize = 16 << 20;
/// What surrounds a message in a reply, and what surrounds a header.
const AROUND_MESSAGE: usize = 160;
const AROUND_HEADER: usize = 32;

/// What a message shows.
#[derive(Clone, Copy)]
struct Shown {
    /// Versions of Kafka below 0.11 have none.
    headers: bool,
    timestamp: bool,
}

pub(super) async fn run(call: Call<'_>) -> Result<Reply, Box<Reply>> {
    let group = call.parameters.group()?;
    let topic = call.topic;
    let earlier = call.parameters.position("ackPartition", "ackOffset");
    let max = match call.parameters.number("max", LARGEST_BATCH)? {
        Some(0) => return Err(refused("bad max: [0]")),
        max => max.and_then(|max| usize::try_from(max).ok()),
    };
    if call.proxy.options.is_consuming_disabled {
        return Ok(reply::error(
            StatusCode::SERVICE_UNAVAILABLE,
            CONSUMING_DISABLED,
        ));
    }
    call.refuse_if_stopping()?;
    let mode = if call.parameters.has("noAck") {
        AckMode::Explicit
    } else if let Some((partition, offset)) = earlier? {
        // Whatever becomes of it, it does not change the reply.
        let id = call.id.clone();
        let position = (partition, offset);
        call.proxy
            .ack_aside(&group, topic, position, move |group, topic, refused| {
                tracing::info!(
                    component = "http",
                    request_id = id.as_str(),
                    "the ack of {topic} [{partition}] offset {offset} by {group} is passed over: \
                     {refused}"
                );
            });
        AckMode::Explicit
    } else {
        AckMode::Auto
    };
    let request = Consume {
        max: max.unwrap_or(1),
        max_bytes: LARGEST_REPLY,
        ..Consume::one(&group, topic, mode)
    };
    let asked = Instant::now();
    let deliveries = match call.proxy.dispatcher.consume(&request).await {
        Ok(deliveries) => deliveries,
        Err(error) => return Ok(failed(&error)),
    };
    let shown = Shown {
        headers: call.proxy.options.has_headers,
        timestamp: call.parameters.has("timestamp"),
    };
    let messages = deliveries.messages();
    call.trace.received(&group, topic, asked, messages);
    let context = match max.is_none() && shown.headers {
        true => call.trace.of_received(messages),
        false => TraceContext::default(),
    };
    let body = write(messages, max.is_some(), shown);
    let reply = reply::of(deliveries, reply::JSON, body);
    Ok(trace::bring_back(reply, &context))
}

fn failed(error: &ConsumeError) -> Reply {
    let (status, text) = match error {
        ConsumeError::Timeout => (StatusCode::REQUEST_TIMEOUT, error.to_string()),
        ConsumeError::TooManyRequests => {
            (StatusCode::TOO_MANY_REQUESTS, TOO_MANY_REQUESTS.to_owned())
        }
        ConsumeError::TooManyGroups => (StatusCode::TOO_MANY_REQUESTS, error.to_string()),
        ConsumeError::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        ConsumeError::Engine(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            barnabas_engine::sarama_text_of(error),
        ),
    };
    reply::error(status, text)
}

/// The messages as JSON: an array, or the only one.
fn write(messages: &[Delivered], is_array: bool, shown: Shown) -> Bytes {
    let mut out = Vec::with_capacity(messages.iter().map(length).sum::<usize>() + 4);
    if is_array {
        out.push(b'[');
    }
    for (index, message) in messages.iter().enumerate() {
        if index > 0 {
            json::raw(&mut out, ",\n");
        }
        write_one(&mut out, message, shown);
    }
    if is_array {
        out.push(b']');
    }
    out.into()
}

/// At least as many bytes as a message takes, unless its headers' names have
/// escapes.
fn length(message: &Delivered) -> usize {
    let record = &message.record;
    let encoded = |part: &Option<Bytes>| part.as_ref().map_or(4, encoded);
    let headers = record.headers.iter();
    AROUND_MESSAGE
        + encoded(&record.key)
        + encoded(&record.value)
        + headers
            .map(|(name, value)| AROUND_HEADER + name.len() + encoded(value))
            .sum::<usize>()
}

fn encoded(part: &Bytes) -> usize {
    json::base64_length(part.len()) + 2
}

fn write_one(out: &mut Vec<u8>, message: &Delivered, shown: Shown) {
    let record = &message.record;
    json::raw(out, "{\n  \"key\": ");
    bytes(out, record.key.as_ref());
    json::raw(out, ",\n  \"value\": ");
    bytes(out, record.value.as_ref());
    json::raw(out, ",\n  \"partition\": ");
    json::number(out, message.partition);
    json::raw(out, ",\n  \"offset\": ");
    json::number(out, message.offset);
    json::raw(out, ",\n  \"headers\": [");
    if shown.headers {
        for (index, (name, value)) in record.headers.iter().enumerate() {
            json::raw(out, if index > 0 { ",\n    " } else { "\n    " });
            json::raw(out, "{\"key\": ");
            json::text(out, &String::from_utf8_lossy(name));
            json::raw(out, ", \"value\": ");
            json::base64(out, value.as_deref().unwrap_or_default());
            out.push(b'}');
        }
    }
    out.push(b']');
    if shown.timestamp {
        json::raw(out, ",\n  \"timestamp\": ");
        match record.timestamp {
            Some(timestamp) => json::number(out, timestamp),
            None => json::raw(out, "null"),
        }
    }
    json::raw(out, "\n}");
}

fn bytes(out: &mut Vec<u8>, part: Option<&Bytes>) {
    match part {
        Some(part) => json::base64(out, part),
        None => json::raw(out, "null"),
    }
}
