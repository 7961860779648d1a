//! JSON written straight into the buffer of a reply, for what is written per
//! message; everything else goes through `serde_json`. Arrays of requests, as
//! far as they are bounded.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// Elements of one request: each takes more memory than its text, and a result
/// in the reply.
pub(crate) const MOST_ELEMENTS: usize = 100_000;

/// An array in a request.
pub(crate) enum Elements<T> {
    All(Vec<T>),
    /// More than [`MOST_ELEMENTS`].
    TooMany,
}

struct ElementsVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Elements<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ElementsVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ElementsVisitor<T> {
    type Value = Elements<T>;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Elements<T>, A::Error> {
        let mut found = Vec::new();
        while found.len() < MOST_ELEMENTS {
            match array.next_element()? {
                Some(element) => found.push(element),
                None => return Ok(Elements::All(found)),
            }
        }
        let mut is_all = true;
        // The rest only has to be JSON.
        while array.next_element::<IgnoredAny>()?.is_some() {
            is_all = false;
        }
        Ok(match is_all {
            true => Elements::All(found),
            false => Elements::TooMany,
        })
    }
}

/// Appends text that is JSON already.
pub(crate) fn raw(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    raw(out, itoa::Buffer::new().format(number));
}

/// A string.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    // Writing a string into memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// A string of base64.
pub(crate) fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let from = out.len();
    out.resize(from + base64_length(bytes.len()), 0);
    if let Some(room) = out.get_mut(from..) {
        // The room is as large as what is written.
        let _ = BASE64_STANDARD.encode_slice(bytes, room);
    }
    out.push(b'"');
}

/// How long bytes are in base64.
pub(crate) const fn base64_length(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_are_bounded() {
        let body = |count: usize| format!("[{}]", vec!["1"; count].join(","));
        let read = |body: &str| serde_json::from_str::<Elements<u8>>(body);
        for count in [0, 1, MOST_ELEMENTS] {
            let Elements::All(all) = read(&body(count)).unwrap() else {
                panic!("{count}");
            };
            assert_eq!(all.len(), count);
        }
        let more = body(MOST_ELEMENTS + 1);
        assert!(matches!(read(&more), Ok(Elements::TooMany)));
        assert!(read(more.trim_end_matches(']')).is_err());
        assert!(read("{}").is_err());
    }

    #[test]
    fn what_is_written_is_json() {
        let mut out = Vec::new();
        raw(&mut out, "[");
        number(&mut out, i64::MIN);
        raw(&mut out, ",");
        text(&mut out, "a\"\u{1}é");
        for bytes in [&b""[..], b"a", b"ab", b"abc", &[0xff; 100]] {
            raw(&mut out, ",");
            base64(&mut out, bytes);
        }
        raw(&mut out, "]");
        let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let long = BASE64_STANDARD.encode([0xff; 100]);
        let expected = serde_json::json!([i64::MIN, "a\"\u{1}é", "", "YQ==", "YWI=", "YWJj", long]);
        assert_eq!(read, expected);
    }
}
