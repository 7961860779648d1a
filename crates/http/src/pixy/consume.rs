//! `GET /topics/<t>/messages` (contract, section 3.2).

use super::Call;
use crate::parameters::refused;
use crate::reply::{self, Reply};
use barnabas_engine::{
    AckMode, CONSUMING_DISABLED, Consume, ConsumeError, Delivered, TOO_MANY_REQUESTS,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

/// Messages that one request may ask for.
const LARGEST_BATCH: i64 = 1_000;

pub(super) async fn run(call: Call<'_>, topic: &str) -> Result<Reply, Box<Reply>> {
    let group = call.parameters.group()?;
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
        let acknowledged = call
            .proxy
            .dispatcher
            .ack(&group, topic, partition, offset)
            .await;
        if let Err(refused) = acknowledged {
            tracing::info!(
                component = "http",
                "the ack of {topic} [{partition}] offset {offset} by {group} is passed over: \
                 {refused}"
            );
        }
        AckMode::Explicit
    } else {
        AckMode::Auto
    };
    let request = Consume {
        group: &group,
        topic,
        mode,
        max: max.unwrap_or(1),
    };
    let deliveries = match call.proxy.dispatcher.consume(&request).await {
        Ok(deliveries) => deliveries,
        Err(error) => return Ok(failed(&error)),
    };
    let has_headers = call.proxy.options.has_headers;
    let shown: Vec<Value> = deliveries
        .messages()
        .iter()
        .map(|message| show(message, has_headers))
        .collect();
    Ok(match (max, shown.first()) {
        (None, Some(only)) => reply::json_of(deliveries, only),
        _ => reply::json_of(deliveries, &shown),
    })
}

fn failed(error: &ConsumeError) -> Reply {
    let (status, text) = match error {
        ConsumeError::Timeout => (StatusCode::REQUEST_TIMEOUT, error.to_string()),
        ConsumeError::TooManyRequests => {
            (StatusCode::TOO_MANY_REQUESTS, TOO_MANY_REQUESTS.to_owned())
        }
        ConsumeError::ShuttingDown => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        ConsumeError::Engine(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            barnabas_engine::sarama_text_of(error),
        ),
    };
    reply::error(status, text)
}

fn show(message: &Delivered, has_headers: bool) -> Value {
    let base64 = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| BASE64_STANDARD.encode(bytes));
    let record = &message.record;
    let headers: Vec<Value> = record
        .headers
        .iter()
        // Those below 0.11 have none.
        .filter(|_| has_headers)
        .map(|(name, value)| {
            let value = value.clone().unwrap_or_default();
            json!({"key": String::from_utf8_lossy(name), "value": BASE64_STANDARD.encode(value)})
        })
        .collect();
    json!({
        "key": base64(&record.key),
        "value": base64(&record.value),
        "partition": message.partition,
        "offset": message.offset,
        "headers": headers,
    })
}
