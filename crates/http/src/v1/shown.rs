//! Records as a client sees them: as JSON, or as bytes with headers.
//!
//! Nothing a record can hold makes it unreadable: what is no text is in
//! base64, and marked so field by field.

use crate::json;
use barnabas_engine::{ConsumedRecord, Delivered};
use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde::de::IgnoredAny;

const KAFKA_TOPIC: HeaderName = HeaderName::from_static("kafka-topic");
const KAFKA_PARTITION: HeaderName = HeaderName::from_static("kafka-partition");
const KAFKA_OFFSET: HeaderName = HeaderName::from_static("kafka-offset");
const KAFKA_TIMESTAMP: HeaderName = HeaderName::from_static("kafka-timestamp");
const KAFKA_KEY: HeaderName = HeaderName::from_static("kafka-key");
const KAFKA_HEADER: HeaderName = HeaderName::from_static("kafka-header");
const KAFKA_TOMBSTONE: HeaderName = HeaderName::from_static("kafka-tombstone");
const KAFKA_OMITTED: HeaderName = HeaderName::from_static("kafka-omitted");

/// All but RFC 3986's unreserved characters: what is left stands for itself
/// in any header.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What clients and proxies take of headers without complaint is 8 to 16 KiB
/// altogether: more than this of a key, or of a record's headers, is left
/// out.
const LARGEST_HEADERS: usize = 4 << 10;

/// What surrounds a record's fields in JSON, and a header's.
const AROUND_RECORD: usize = 200;
const AROUND_HEADER: usize = 60;

/// How values are shown in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    /// As strings where they are UTF-8.
    Text,
    /// As they are where they are JSON, else as text.
    Json,
    /// In base64, and keys and headers with them.
    Base64,
}

/// The first record.
pub(super) fn one(topic: &str, records: &[Delivered], values: Values) -> Bytes {
    let mut out = room(topic, records);
    if let Some(record) = records.first() {
        write(&mut out, topic, record, values);
    }
    out.into()
}

/// All records as an array.
pub(super) fn array(topic: &str, records: &[Delivered], values: Values) -> Bytes {
    let mut out = room(topic, records);
    out.push(b'[');
    for (index, record) in records.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(&mut out, topic, record, values);
    }
    out.push(b']');
    out.into()
}

/// All records, one in each line.
pub(super) fn lines(topic: &str, records: &[Delivered], values: Values) -> Bytes {
    let mut out = room(topic, records);
    for record in records {
        write(&mut out, topic, record, values);
        out.push(b'\n');
    }
    out.into()
}

fn room(topic: &str, records: &[Delivered]) -> Vec<u8> {
    let length = |record: &Delivered| {
        AROUND_RECORD
            + topic.len()
            + record.record.headers.len() * AROUND_HEADER
            + json::base64_length(record.record.bytes())
    };
    Vec::with_capacity(records.iter().map(length).sum::<usize>() + 2)
}

fn write(out: &mut Vec<u8>, topic: &str, delivered: &Delivered, values: Values) {
    let record: &ConsumedRecord = &delivered.record;
    json::raw(out, "{\"topic\":");
    json::text(out, topic);
    json::raw(out, ",\"partition\":");
    json::number(out, delivered.partition);
    json::raw(out, ",\"offset\":");
    json::number(out, delivered.offset);
    json::raw(out, ",\"timestamp\":");
    match record.timestamp {
        Some(timestamp) => json::number(out, timestamp),
        None => json::raw(out, "null"),
    }
    // Only values are worth looking into.
    let others = match values {
        Values::Json => Values::Text,
        own => own,
    };
    field(out, ",", "key", record.key.as_deref(), others);
    field(out, ",", "value", record.value.as_deref(), values);
    json::raw(out, ",\"headers\":[");
    for (index, (name, value)) in record.headers.iter().enumerate() {
        json::raw(out, if index > 0 { "," } else { "" });
        // A name is text unless it cannot be.
        field(out, "{", "name", Some(name), Values::Text);
        field(out, ",", "value", value.as_deref(), others);
        out.push(b'}');
    }
    json::raw(out, "]}");
}

/// A field; if it is no text, another one behind it says what it is.
fn field(
    out: &mut Vec<u8>,
    before: &str,
    name: &'static str,
    value: Option<&[u8]>,
    values: Values,
) {
    json::raw(out, before);
    out.push(b'"');
    json::raw(out, name);
    json::raw(out, "\":");
    let Some(value) = value else {
        return json::raw(out, "null");
    };
    let encoding = match std::str::from_utf8(value) {
        Ok(_) if values == Values::Json && is_json(value) => {
            // A line must not end within a record. Outside of strings, where
            // JSON has no line ends, they are blanks.
            let blank = |byte: &u8| match byte {
                b'\n' | b'\r' => b' ',
                byte => *byte,
            };
            out.extend(value.iter().map(blank));
            "json"
        }
        Ok(text) if values != Values::Base64 => return json::text(out, text),
        _ => {
            json::base64(out, value);
            "base64"
        }
    };
    json::raw(out, ",\"");
    json::raw(out, name);
    json::raw(out, "_encoding\":\"");
    json::raw(out, encoding);
    out.push(b'"');
}

fn is_json(value: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(value).is_ok()
}

/// What describes a record whose value is sent as it is.
pub(super) fn headers(topic: &str, delivered: &Delivered) -> HeaderMap {
    let record: &ConsumedRecord = &delivered.record;
    let mut headers = HeaderMap::with_capacity(16);
    let mut put = |name: HeaderName, value: &str| {
        // What is escaped, and numbers, are allowed in headers.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.append(name, value);
        }
    };
    let mut digits = itoa::Buffer::new();
    put(KAFKA_TOPIC, topic);
    put(KAFKA_PARTITION, digits.format(delivered.partition));
    put(KAFKA_OFFSET, digits.format(delivered.offset));
    if let Some(timestamp) = record.timestamp {
        put(KAFKA_TIMESTAMP, digits.format(timestamp));
    }
    if record.value.is_none() {
        put(KAFKA_TOMBSTONE, "true");
    }
    let escaped = |bytes: &[u8]| percent_encode(bytes, ESCAPED).to_string();
    let key = record.key.as_deref().map(escaped);
    let lines: Vec<String> = record
        .headers
        .iter()
        .map(|(name, value)| match value {
            Some(value) => format!("{}={}", escaped(name), escaped(value)),
            None => escaped(name),
        })
        .collect();
    let is_key_omitted = key.as_ref().is_some_and(|key| key.len() > LARGEST_HEADERS);
    let length = |line: &String| KAFKA_HEADER.as_str().len() + line.len();
    let are_headers_omitted = lines.iter().map(length).sum::<usize>() > LARGEST_HEADERS;
    if let Some(key) = key.filter(|_| !is_key_omitted) {
        put(KAFKA_KEY, &key);
    }
    if !are_headers_omitted {
        for line in &lines {
            put(KAFKA_HEADER.clone(), line);
        }
    }
    match (is_key_omitted, are_headers_omitted) {
        (true, true) => put(KAFKA_OMITTED, "key, headers"),
        (true, false) => put(KAFKA_OMITTED, "key"),
        (false, true) => put(KAFKA_OMITTED, "headers"),
        (false, false) => {}
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn delivered(record: ConsumedRecord) -> Delivered {
        Delivered {
            partition: 3,
            offset: 5_000_000_000,
            number: 1,
            record: Arc::new(record),
        }
    }

    fn bytes(bytes: &'static [u8]) -> Option<Bytes> {
        Some(Bytes::from_static(bytes))
    }

    fn odd() -> Delivered {
        delivered(ConsumedRecord {
            key: bytes(b"\xff\0"),
            value: bytes(b"{\"a\":\n [1, \"\\u00e9\"]}\r\n"),
            headers: vec![
                (Bytes::from_static(b"plain"), bytes(b"a b=c%")),
                (Bytes::from_static(b"\xfe"), bytes(b"\x80")),
                (Bytes::from_static(b""), None),
            ],
            timestamp: Some(1_700_000_000_123),
        })
    }

    fn shown(record: &Delivered, values: Values) -> Value {
        let records = std::slice::from_ref(record);
        let one: Value = serde_json::from_slice(&one("t", records, values)).unwrap();
        let array: Value = serde_json::from_slice(&array("t", records, values)).unwrap();
        let lines = lines("t", records, values);
        assert_eq!(array, json!([one]));
        assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert!(lines.ends_with(b"}\n"));
        let line: Value = serde_json::from_slice(&lines).unwrap();
        assert_eq!(line, one);
        one
    }

    #[test]
    fn every_field_is_shown_and_marked() {
        let headers = json!([
            {"name": "plain", "value": "a b=c%"},
            {"name": "/g==", "name_encoding": "base64", "value": "gA==", "value_encoding": "base64"},
            {"name": "", "value": null},
        ]);
        let expected = json!({
            "topic": "t", "partition": 3, "offset": 5_000_000_000_i64,
            "timestamp": 1_700_000_000_123_i64,
            "key": "/wA=", "key_encoding": "base64",
            "value": "{\"a\":\n [1, \"\\u00e9\"]}\r\n",
            "headers": headers,
        });
        assert_eq!(shown(&odd(), Values::Text), expected);
        let as_json = shown(&odd(), Values::Json);
        assert_eq!(as_json["value"], json!({"a": [1, "é"]}));
        assert_eq!(as_json["value_encoding"], "json");
        assert_eq!(as_json["headers"], headers);
        let base64 = shown(&odd(), Values::Base64);
        assert_eq!(base64["value_encoding"], "base64");
        assert_eq!(base64["headers"][0]["value"], "YSBiPWMl");
    }

    #[test]
    fn what_is_missing_is_null() {
        let empty = delivered(ConsumedRecord {
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
        });
        for values in [Values::Text, Values::Json, Values::Base64] {
            let expected = json!({
                "topic": "t", "partition": 3, "offset": 5_000_000_000_i64,
                "timestamp": null, "key": null, "value": null, "headers": [],
            });
            assert_eq!(shown(&empty, values), expected);
        }
        let no_json = delivered(ConsumedRecord {
            key: bytes(b""),
            value: bytes(b"{\"a\":"),
            headers: Vec::new(),
            timestamp: None,
        });
        let value = shown(&no_json, Values::Json);
        assert_eq!(
            (&value["key"], &value["value"]),
            (&json!(""), &json!("{\"a\":"))
        );
        assert_eq!(value.get("value_encoding"), None);
    }

    #[test]
    fn headers_describe_a_record() {
        let shown = headers("t", &odd());
        let text = |name: &str| {
            let all = shown.get_all(name).iter();
            all.map(|value| value.to_str().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(text("kafka-partition"), ["3"]);
        assert_eq!(text("kafka-offset"), ["5000000000"]);
        assert_eq!(text("kafka-timestamp"), ["1700000000123"]);
        assert_eq!(text("kafka-key"), ["%FF%00"]);
        assert_eq!(text("kafka-header"), ["plain=a%20b%3Dc%25", "%FE=%80", ""]);
        assert!(text("kafka-tombstone").is_empty());
        assert!(text("kafka-omitted").is_empty());
        let large = delivered(ConsumedRecord {
            key: Some(vec![b'x'; LARGEST_HEADERS + 1].into()),
            value: None,
            headers: vec![(Bytes::from_static(b"h"), Some(vec![b' '; 2_000].into()))],
            timestamp: None,
        });
        let shown = headers("t", &large);
        assert_eq!(shown["kafka-omitted"], "key, headers");
        assert_eq!(shown["kafka-tombstone"], "true");
        assert!(!shown.contains_key("kafka-key"));
        // More than a map of headers holds, and each of them nothing.
        let many = delivered(ConsumedRecord {
            key: None,
            value: None,
            headers: vec![(Bytes::new(), None); 40_000],
            timestamp: None,
        });
        assert_eq!(headers("t", &many)["kafka-omitted"], "headers");
    }
}
