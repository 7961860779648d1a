//! `POST /v1/groups/{group}/topics/{topic}/records`: taking records.

use super::shown::{self, Values};
use super::{Code, Problem};
use crate::accept;
use crate::reply::{self, Reply};
use crate::service::Call;
use crate::trace;
use barnabas_engine::{AckMode, Consume, ConsumeError, Holder, TraceContext};
use hyper::StatusCode;
use std::time::{Duration, Instant};

/// No further record once a reply has so many bytes, unless the client says.
const MAX_BYTES: usize = 16 << 20;
const BYTES: &str = "application/octet-stream";
const NDJSON: &str = "application/x-ndjson";

pub(super) async fn consume(call: &Call<'_>) -> Result<Reply, Problem> {
    let max: Option<usize> = call.integer("max");
    let offers = match max {
        None => [BYTES, reply::JSON],
        Some(_) => [reply::JSON, NDJSON],
    };
    // Before anything is taken that could not be delivered.
    let Some(form) = accept::best(&call.head.headers, &offers) else {
        let text = match max {
            None => {
                "one record is application/octet-stream or application/json; a batch (max) is \
                     application/json or application/x-ndjson"
            }
            Some(_) => "a batch is application/json or application/x-ndjson",
        };
        return Err(Problem::new(Code::NotAcceptable, text));
    };
    let values = if call.is("values", "json") {
        Values::Json
    } else if call.is("values", "base64") {
        Values::Base64
    } else {
        Values::Text
    };
    let mode = match call.is("ack", "explicit") {
        true => AckMode::Explicit,
        false => AckMode::Auto,
    };
    if call.proxy.options.is_consuming_disabled {
        let text = "consuming is switched off in the configuration";
        return Err(Problem::new(Code::ConsumingDisabled, text));
    }
    call.refuse_work()?;
    let request = Consume {
        group: call.group,
        topic: call.topic,
        mode,
        max: max.unwrap_or(1),
        max_bytes: call.integer("max_bytes").unwrap_or(MAX_BYTES),
        wait: call.integer("wait").map(Duration::from_millis),
        holder: Holder::NOBODY,
    };
    let asked = Instant::now();
    let deliveries = match call.proxy.dispatcher.consume(&request).await {
        Ok(deliveries) => deliveries,
        Err(ConsumeError::Timeout) => return Ok(reply::empty(StatusCode::NO_CONTENT)),
        Err(error) => return Err(error.into()),
    };
    let records = deliveries.messages();
    call.trace.received(call.group, call.topic, asked, records);
    let context = match max {
        None => call.trace.of_received(records),
        Some(_) => TraceContext::default(),
    };
    if form == BYTES
        && let Some(record) = records.first()
    {
        let value = record.record.value.clone().unwrap_or_default();
        let headers = shown::headers(call.topic, record);
        let mut reply = reply::of(deliveries, BYTES, value);
        reply.headers_mut().extend(headers);
        return Ok(trace::bring_back(reply, &context));
    }
    let body = match (max, form) {
        (None, _) => shown::one(call.topic, records, values),
        (Some(_), NDJSON) => shown::lines(call.topic, records, values),
        (Some(_), _) => shown::array(call.topic, records, values),
    };
    Ok(trace::bring_back(
        reply::of(deliveries, form, body),
        &context,
    ))
}
