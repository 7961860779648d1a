//! A body as messages (contract, section 8, "Bodies").

use super::reply::Refusal;
use crate::json::{Elements, MOST_ELEMENTS};
use crate::parameters::decode;
use barnabas_engine::NewRecord;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde_json::value::RawValue;
use std::borrow::Cow;

type Part<'a> = Cow<'a, [u8]>;
/// A name and its value; a word without `=` has none.
pub(super) type Pair<'a> = (Part<'a>, Option<Part<'a>>);

/// What a body is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// A form, or nothing is said: what it looks like counts.
    Form,
    /// A message a line.
    Lines,
    /// Anything else is one message.
    Raw,
}

impl Content {
    pub(super) fn of(header: Option<&HeaderValue>) -> Self {
        let kind = header.map_or(&b""[..], HeaderValue::as_bytes);
        let end = kind.iter().position(|byte| *byte == b';');
        let kind = kind.get(..end.unwrap_or(kind.len())).unwrap_or_default();
        let is = |name: &str| kind.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
        if is("") || is("application/x-www-form-urlencoded") {
            Self::Form
        } else if is("application/x-ndjson") {
            Self::Lines
        } else {
            Self::Raw
        }
    }
}

/// The messages of a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Posted<'a> {
    /// Without keys.
    Values(Vec<&'a [u8]>),
    /// Keys and values.
    Pairs(Vec<(Part<'a>, Part<'a>)>),
}

impl<'a> Posted<'a> {
    /// Reads a body; `is_split`: an array is a message per element.
    pub(super) fn read(content: Content, is_split: bool, body: &'a [u8]) -> Result<Self, Refusal> {
        if body.is_empty() {
            return Ok(Self::Values(Vec::new()));
        }
        if is_split {
            return elements(body);
        }
        let one = || Ok(Self::Values(vec![body]));
        match content {
            Content::Raw => one(),
            Content::Lines => lines(body),
            Content::Form if is_document(body) || words(body).any(|word| !is_pair(word)) => one(),
            Content::Form => {
                let pairs = form(body)?.into_iter();
                let pairs = pairs.filter_map(|(name, value)| Some((name, value?)));
                Ok(Self::Pairs(pairs.collect()))
            }
        }
    }

    /// As the outbox takes them.
    pub(super) fn records(&self) -> Vec<NewRecord<'_>> {
        match self {
            Self::Values(values) => values.iter().map(|value| NewRecord::of(value)).collect(),
            Self::Pairs(pairs) => pairs
                .iter()
                .map(|(key, value)| NewRecord::keyed(key, value))
                .collect(),
        }
    }
}

/// Whether it begins as JSON does.
pub(super) fn is_document(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
}

/// What stands between the ampersands.
fn words(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| *byte == b'&')
        .filter(|word| !word.is_empty())
}

fn is_pair(word: &[u8]) -> bool {
    word.contains(&b'=')
}

/// A form as it is, decoded.
///
/// # Errors
/// An escape that is none, and more words than may be.
pub(super) fn form(body: &[u8]) -> Result<Vec<Pair<'_>>, Refusal> {
    let mut pairs = Vec::new();
    for word in words(body) {
        if pairs.len() == MOST_ELEMENTS {
            return Err(Refusal::too_large());
        }
        let mut parts = word.splitn(2, |byte| *byte == b'=');
        let mut part = || parts.next().map(|part| decode(part, true)).transpose();
        let malformed = |text| Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text);
        let name = part().map_err(malformed)?.unwrap_or_default();
        pairs.push((name, part().map_err(malformed)?));
    }
    Ok(pairs)
}

fn lines(body: &[u8]) -> Result<Posted<'_>, Refusal> {
    let lines = body.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let lines = lines.filter(|line| !line.trim_ascii().is_empty());
    let values: Vec<&[u8]> = lines.take(MOST_ELEMENTS + 1).collect();
    match values.len() {
        0..=MOST_ELEMENTS => Ok(Posted::Values(values)),
        _ => Err(Refusal::too_large()),
    }
}

fn elements(body: &[u8]) -> Result<Posted<'_>, Refusal> {
    let elements: Elements<&RawValue> = serde_json::from_slice(body).map_err(|error| {
        let text = format!("split=array needs a JSON array: {error}");
        Refusal::new(StatusCode::BAD_REQUEST, text)
    })?;
    match elements {
        Elements::All(all) => {
            let texts = all.into_iter().map(|element| element.get().as_bytes());
            Ok(Posted::Values(texts.collect()))
        }
        Elements::TooMany => Err(Refusal::too_large()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(kind: &'static str) -> Content {
        Content::of(Some(&HeaderValue::from_static(kind)))
    }

    fn read(content: Content, is_split: bool, body: &str) -> Vec<(Option<String>, String)> {
        let posted = Posted::read(content, is_split, body.as_bytes()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let records = posted.records();
        let shown = |record: &NewRecord<'_>| (record.key.map(text), text(record.value.unwrap()));
        records.iter().map(shown).collect()
    }

    fn values(values: &[&str]) -> Vec<(Option<String>, String)> {
        let value = |value: &&str| (None, (*value).to_owned());
        values.iter().map(value).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(Option<String>, String)> {
        let pair = |(key, value): &(&str, &str)| (Some((*key).to_owned()), (*value).to_owned());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_type_says_what_it_is() {
        assert_eq!(Content::of(None), Content::Form);
        let form = "Application/X-WWW-form-urlencoded ; charset=utf-8";
        assert_eq!(content(form), Content::Form);
        assert_eq!(content("application/x-ndjson"), Content::Lines);
        for raw in [
            "application/json; charset=utf-8",
            "text/plain",
            "application/octet-stream",
            "application/avro",
        ] {
            assert_eq!(content(raw), Content::Raw);
        }
    }

    #[test]
    fn a_form_is_pairs_unless_it_looks_like_something_else() {
        let form = |body| read(Content::Form, false, body);
        assert_eq!(form("hello=a"), pairs(&[("hello", "a")]));
        assert_eq!(
            form("a=1&&b+c=%26&=x&d=e=f"),
            pairs(&[("a", "1"), ("b c", "&"), ("", "x"), ("d", "e=f")])
        );
        for raw in [
            r#"{"a=": 1}"#,
            "\n [1]",
            "word",
            "a=1&word",
            "50% of it",
            "{}",
        ] {
            assert_eq!(form(raw), values(&[raw]));
        }
        assert_eq!(form(""), []);
        assert_eq!(form("&&"), []);
        let refusal = Posted::read(Content::Form, false, b"a=%zz").unwrap_err();
        assert_eq!(refusal.status, 500);
    }

    #[test]
    fn lines_and_elements() {
        let body = "{\"a\": 1}\r\n\n2\n";
        assert_eq!(
            read(Content::Lines, false, body),
            values(&["{\"a\": 1}", "2"])
        );
        assert_eq!(read(Content::Raw, false, body), values(&[body]));
        let array = r#" [1, {"a": [2]}, "x"]"#;
        for content in [Content::Form, Content::Raw] {
            let elements = values(&["1", r#"{"a": [2]}"#, "\"x\""]);
            assert_eq!(read(content, true, array), elements);
        }
        let refusal = Posted::read(Content::Raw, true, b"{}").unwrap_err();
        assert_eq!(refusal.status, 400);
        assert!(refusal.text.starts_with("split=array needs"));
    }

    #[test]
    fn there_is_a_limit() {
        for (content, is_split, one, end) in [
            (Content::Form, false, "a=&", ""),
            (Content::Lines, false, "1\n", ""),
            (Content::Raw, true, "1,", "1]"),
        ] {
            let begin = if is_split { "[" } else { "" };
            let body = |count: usize| format!("{begin}{}{end}", one.repeat(count));
            let most = MOST_ELEMENTS - usize::from(is_split);
            assert!(Posted::read(content, is_split, body(most).as_bytes()).is_ok());
            let more = body(most + 1);
            let refused = Posted::read(content, is_split, more.as_bytes());
            assert_eq!(refused.unwrap_err().status, 413, "{content:?}");
        }
    }
}
