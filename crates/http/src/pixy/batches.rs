//! `POST /topics/<t>/batches`: many messages in one request (contract, B4).

use super::no_room;
use crate::body::ReadError;
use crate::json::Elements;
use crate::parameters::refused;
use crate::reply::{self, Reply};
use crate::service::Call;
use barnabas_engine::{HEADERS_UNSUPPORTED, Record, Sending, Submitted, sarama_text_of};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

/// The largest body.
const LARGEST_BODY: usize = 64 << 20;

/// A message; key, value and the headers' values in base64.
#[derive(Deserialize)]
struct Entry {
    key: Option<String>,
    value: Option<String>,
    #[serde(default)]
    headers: Vec<EntryHeader>,
    /// Milliseconds since 1970.
    timestamp: Option<i64>,
}

#[derive(Deserialize)]
struct EntryHeader {
    key: String,
    value: Option<String>,
}

pub(super) async fn run(mut call: Call<'_>) -> Result<Reply, Box<Reply>> {
    call.refuse_if_stopping()?;
    let body = match call.body.read(LARGEST_BODY).await {
        Ok(body) => body,
        Err(ReadError::TooLarge) => {
            return Ok(too_large());
        }
        Err(ReadError::NoRoom) => return Err(no_room()),
        Err(ReadError::Failed(cause)) => {
            return Err(refused(format!(
                "Failed to read the request: err=({cause})"
            )));
        }
    };
    let entries: Elements<Entry> = serde_json::from_slice(&body)
        .map_err(|error| refused(format!("Failed to parse the request: err=({error})")))?;
    let Elements::All(entries) = entries else {
        return Ok(too_large());
    };
    // All are under way before the first is waited for.
    let sending = call.trace.sending(call.topic);
    sending.count(entries.len());
    let mut submitted = Vec::with_capacity(entries.len());
    for entry in &entries {
        submitted.push(hand_over(&call, entry, &sending).await);
    }
    let mut results = Vec::with_capacity(submitted.len());
    for entry in submitted {
        let result = match entry {
            Ok(submitted) => submitted.delivered().await.map_err(|error| {
                sending.failed(&error);
                sarama_text_of(&error)
            }),
            Err(problem) => Err(problem),
        };
        results.push(match result {
            Ok(place) => json!({"partition": place.partition, "offset": place.offset}),
            Err(problem) => json!({"error": problem}),
        });
    }
    Ok(reply::json(StatusCode::OK, &Value::Array(results)))
}

fn too_large() -> Reply {
    reply::error(StatusCode::PAYLOAD_TOO_LARGE, "the batch is too large")
}

async fn hand_over(call: &Call<'_>, entry: &Entry, sending: &Sending) -> Result<Submitted, String> {
    let decode = |part: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => BASE64_STANDARD
            .decode(text)
            .map(Some)
            .map_err(|_| format!("Invalid base64 encoding for {part}")),
    };
    if let Some(bad @ ..0) = entry.timestamp {
        return Err(format!("bad timestamp: [{bad}]"));
    }
    let (key, value) = (decode("key", &entry.key)?, decode("value", &entry.value)?);
    let mut headers = Vec::with_capacity(entry.headers.len());
    for header in &entry.headers {
        let part = format!("header: {}", header.key);
        headers.push((header.key.as_str(), decode(&part, &header.value)?));
    }
    if !headers.is_empty() && !call.proxy.options.has_headers {
        return Err(HEADERS_UNSUPPORTED.to_owned());
    }
    let mut headers: Vec<(&str, Option<&[u8]>)> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_deref()))
        .collect();
    let record = Record {
        key: key.as_deref(),
        value: value.as_deref(),
    };
    sending.add_where_it_fits(call.proxy, record, &mut headers);
    call.proxy
        .submit_at(
            &call.shared.proxies,
            call.topic,
            record,
            &headers,
            entry.timestamp,
        )
        .await
        .map_err(|error| sarama_text_of(&error))
}
