//! Records as a client writes them: a value with `Kafka-*` headers, or an
//! object with the fields that consumed records have.

use super::super::{Code, Problem, integer};
use crate::parameters::Parameters;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::HeaderMap;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Name and value of a record's header.
type Header<'a> = (Cow<'a, str>, Option<Cow<'a, [u8]>>);

/// What a record is besides its value.
#[derive(Default)]
pub(super) struct About<'a> {
    pub(super) key: Option<Cow<'a, [u8]>>,
    pub(super) headers: Vec<Header<'a>>,
    pub(super) partition: Option<i32>,
    pub(super) timestamp: Option<i64>,
}

/// A record to be produced.
pub(super) struct Incoming<'a> {
    /// `None` is a tombstone.
    pub(super) value: Option<Cow<'a, [u8]>>,
    pub(super) about: About<'a>,
}

impl<'a> About<'a> {
    /// As the query and the `Kafka-*` headers say.
    pub(super) fn of(sent: &'a HeaderMap, parameters: &'a Parameters<'_>) -> Result<Self, Problem> {
        let text = |name: &'static str| match sent.get(name).map(|value| value.to_str()) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value)),
            Some(Err(_)) => Err(wrong_header(name, "is no text")),
        };
        // Said twice, it would be unclear what counts.
        let once = |parameter: &str, name: &'static str| {
            if parameters.has(parameter) && sent.contains_key(name) {
                let detail = format!("{parameter:?} is given as a parameter and as {name}");
                return Err(Problem::new(Code::InvalidParameter, detail));
            }
            Ok(())
        };
        once("key", KEY)?;
        once("partition", PARTITION)?;
        once("timestamp", TIMESTAMP)?;
        let key = match parameters.first("key") {
            Some(key) => Some(Cow::Borrowed(key)),
            None => text(KEY)?.map(unescaped),
        };
        let partition = match integer(parameters, "partition") {
            None => text(PARTITION)?
                .map(|value| number(PARTITION, value, i64::from(i32::MAX)))
                .transpose()?
                .and_then(|partition| i32::try_from(partition).ok()),
            partition => partition,
        };
        let timestamp = match integer(parameters, "timestamp") {
            None => text(TIMESTAMP)?
                .map(|value| number(TIMESTAMP, value, i64::MAX))
                .transpose()?,
            timestamp => timestamp,
        };
        let mut headers = Vec::new();
        for value in sent.get_all(HEADER) {
            let value = value
                .to_str()
                .map_err(|_| wrong_header(HEADER, "is no text"))?;
            let (name, value) = match value.split_once('=') {
                Some((name, value)) => (name, Some(unescaped(value))),
                None => (value, None),
            };
            let name = percent_decode_str(name)
                .decode_utf8()
                .map_err(|_| wrong_header(HEADER, "has a name that is no UTF-8"))?;
            check_name(&name)?;
            headers.push((name, value));
        }
        Ok(Self {
            key,
            headers,
            partition,
            timestamp,
        })
    }
}

pub(super) const TOMBSTONE: &str = "kafka-tombstone";
const KEY: &str = "kafka-key";
const HEADER: &str = "kafka-header";
const PARTITION: &str = "kafka-partition";
const TIMESTAMP: &str = "kafka-timestamp";

fn wrong_header(name: &str, problem: &str) -> Problem {
    Problem::new(
        Code::InvalidParameter,
        format!("the header {name} {problem}"),
    )
}

fn unescaped(value: &str) -> Cow<'_, [u8]> {
    percent_decode_str(value).into()
}

fn number(name: &str, value: &str, most: i64) -> Result<i64, Problem> {
    let read = value.parse().ok();
    read.filter(|number| (0..=most).contains(number))
        .ok_or_else(|| wrong_header(name, &format!("must be a number from 0 to {most}")))
}

/// Kafka's headers are named by strings that librdkafka ends with a NUL.
fn check_name(name: &str) -> Result<(), Problem> {
    if name.contains('\0') {
        let text = "the name of a header has a NUL in it";
        return Err(Problem::new(Code::InvalidBody, text));
    }
    Ok(())
}

/// How a field of an object is meant.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Text,
    Base64,
    Json,
}

/// A record as an object; what it does not name is ignored, so that consumed
/// records can be sent on as they came.
#[derive(Deserialize)]
struct Written<'a> {
    key: Option<String>,
    key_encoding: Option<Encoding>,
    #[serde(borrow)]
    value: &'a RawValue,
    value_encoding: Option<Encoding>,
    #[serde(default)]
    headers: Vec<WrittenHeader>,
    partition: Option<i32>,
    timestamp: Option<i64>,
}

#[derive(Deserialize)]
struct WrittenHeader {
    name: String,
    name_encoding: Option<Encoding>,
    value: Option<String>,
    value_encoding: Option<Encoding>,
}

impl<'a> Incoming<'a> {
    /// Reads an object; what it does not say is as for all of the request.
    pub(super) fn read(text: &'a [u8], all: &'a About<'_>) -> Result<Self, Problem> {
        let written: Written<'a> = serde_json::from_slice(text).map_err(invalid)?;
        if written.partition.is_some_and(|partition| partition < 0) {
            let text = "the partition must not be negative; without one, the key decides";
            return Err(Problem::new(Code::InvalidBody, text));
        }
        if written.timestamp.is_some_and(|timestamp| timestamp < 0) {
            let text = "the timestamp must not be negative";
            return Err(Problem::new(Code::InvalidBody, text));
        }
        let key = match written.key {
            Some(key) => Some(decoded("key", key, written.key_encoding)?),
            None => all.key.as_deref().map(Cow::Borrowed),
        };
        let mut headers = Vec::new();
        for header in written.headers {
            let name = decoded("name", header.name, header.name_encoding)?;
            let name = String::from_utf8(name.into_owned()).map_err(|_| {
                let text = "the name of a header is no UTF-8";
                Problem::new(Code::InvalidBody, text)
            })?;
            check_name(&name)?;
            let value = header.value;
            let value = value.map(|value| decoded("value", value, header.value_encoding));
            headers.push((Cow::Owned(name), value.transpose()?));
        }
        if headers.is_empty() {
            headers = all.headers().collect();
        }
        Ok(Self {
            value: value(written.value, written.value_encoding)?,
            about: About {
                key,
                headers,
                partition: written.partition.or(all.partition),
                timestamp: written.timestamp.or(all.timestamp),
            },
        })
    }

    /// A value as it is.
    pub(super) fn of_value(value: &'a [u8], all: &'a About<'_>) -> Self {
        Self {
            value: Some(Cow::Borrowed(value)),
            about: About {
                key: all.key.as_deref().map(Cow::Borrowed),
                headers: all.headers().collect(),
                partition: all.partition,
                timestamp: all.timestamp,
            },
        }
    }
}

impl About<'_> {
    fn headers(&self) -> impl Iterator<Item = Header<'_>> {
        self.headers.iter().map(|(name, value)| {
            let value = value.as_deref().map(Cow::Borrowed);
            (Cow::Borrowed(&**name), value)
        })
    }
}

fn value<'a>(
    raw: &'a RawValue,
    encoding: Option<Encoding>,
) -> Result<Option<Cow<'a, [u8]>>, Problem> {
    let text = raw.get();
    match (text.as_bytes().first(), encoding) {
        (Some(b'n'), None | Some(Encoding::Text | Encoding::Base64)) => Ok(None),
        (Some(b'"'), None | Some(Encoding::Text | Encoding::Base64)) => {
            let text: String = serde_json::from_str(text).map_err(invalid)?;
            decoded("value", text, encoding).map(Some)
        }
        (_, Some(Encoding::Text | Encoding::Base64)) => {
            let text = "a value that is no string has the encoding json, or none";
            Err(Problem::new(Code::InvalidBody, text))
        }
        _ => Ok(Some(Cow::Borrowed(text.as_bytes()))),
    }
}

fn decoded(
    field: &str,
    text: String,
    encoding: Option<Encoding>,
) -> Result<Cow<'static, [u8]>, Problem> {
    if encoding != Some(Encoding::Base64) {
        return Ok(Cow::Owned(text.into_bytes()));
    }
    let bytes = BASE64_STANDARD.decode(text.as_bytes());
    bytes.map(Cow::Owned).map_err(|error| {
        let text = format!("the {field} is no base64: {error}");
        Problem::new(Code::InvalidBody, text)
    })
}

pub(super) fn invalid(error: serde_json::Error) -> Problem {
    Problem::new(Code::InvalidBody, error.to_string())
}
