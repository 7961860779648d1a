//! The body of `POST /push` (contract, section 1): its members, and kprf's
//! words for what is wrong with it, which are those of `serde_json`.
//!
//! Texts are borrowed from the body unless they hold escapes.

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// More records than this are too many for one request: they take more memory
/// than their text.
const MOST_RECORDS: usize = 500_000;
/// How that is told from other errors.
const TOO_MANY: &str = "too many records";

/// A whole request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PushRequest<'a> {
    pub(super) records: Vec<PushRecord<'a>>,
    pub(super) waits: bool,
}

/// One record of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PushRecord<'a> {
    pub(super) topic: Cow<'a, str>,
    pub(super) data: Cow<'a, str>,
    pub(super) key: Option<Cow<'a, str>>,
    pub(super) partition: Option<i32>,
}

impl PushRecord<'_> {
    /// Bytes of key and value.
    pub(super) fn bytes(&self) -> u64 {
        (self.data.len() + self.key.as_ref().map_or(0, |key| key.len())) as u64
    }
}

/// Why a body is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ParseError {
    /// `serde_json`'s words.
    Invalid(String),
    TooMany,
}

/// Reads a body.
pub(super) fn parse(body: &[u8]) -> Result<PushRequest<'_>, ParseError> {
    match serde_json::from_slice::<Object<RequestMembers<'_>>>(body) {
        Ok(Object(members)) => Ok(PushRequest {
            records: members.records.0,
            waits: members.wait_for_send.unwrap_or(false),
        }),
        Err(error) => {
            let text = error.to_string();
            Err(match text.starts_with(TOO_MANY) {
                true => ParseError::TooMany,
                false => ParseError::Invalid(text),
            })
        }
    }
}

#[derive(serde::Deserialize)]
struct RequestMembers<'a> {
    #[serde(borrow)]
    records: Records<'a>,
    wait_for_send: Option<bool>,
}

#[derive(serde::Deserialize)]
struct RecordMembers<'a> {
    #[serde(borrow)]
    topic: Text<'a>,
    #[serde(borrow)]
    data: Text<'a>,
    #[serde(borrow)]
    key: Option<Text<'a>>,
    partition: Option<i32>,
}

/// Borrowed inside an `Option`, too, which `Cow` alone is not.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// What an object is called in errors.
trait Named {
    const NAME: &'static str;
}

impl Named for RequestMembers<'_> {
    const NAME: &'static str = "struct PushRequest";
}

impl Named for RecordMembers<'_> {
    const NAME: &'static str = "struct Record";
}

/// An object only: what `serde` derives takes arrays of the members, too.
struct Object<T>(T);

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + Named> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de> + Named> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::NAME)
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }
}

/// As many records as are allowed.
struct Records<'a>(Vec<PushRecord<'a>>);

struct RecordsVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Deserialize<'de> for Records<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RecordsVisitor(PhantomData))
    }
}

impl<'de: 'a, 'a> Visitor<'de> for RecordsVisitor<'a> {
    type Value = Records<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Records<'a>, A::Error> {
        let mut records = Vec::new();
        while let Some(Object(members)) = elements.next_element::<Object<RecordMembers<'a>>>()? {
            if records.len() == MOST_RECORDS {
                return Err(A::Error::custom(TOO_MANY));
            }
            let RecordMembers {
                topic: Text(topic),
                data: Text(data),
                key,
                partition,
            } = members;
            records.push(PushRecord {
                topic,
                data,
                key: key.map(|Text(key)| key),
                partition,
            });
        }
        Ok(Records(records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(body: &str) -> String {
        match parse(body.as_bytes()) {
            Err(ParseError::Invalid(text)) => text,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn members_are_read_and_borrowed() {
        let body = br#"{"more": [1, {}], "wait_for_send": true, "records": [
            {"topic": "a", "data": "b", "key": null, "partition": -1, "x": 1},
            {"topic": "c", "data": "d\u0000\n", "key": "", "partition": 7}]}"#;
        let request = parse(body).unwrap();
        assert!(request.waits);
        let [one, two] = &request.records[..] else {
            panic!("{request:?}")
        };
        assert!(matches!(one.data, Cow::Borrowed("b")));
        assert_eq!((&one.key, one.partition, one.bytes()), (&None, Some(-1), 1));
        assert_eq!(two.data, "d\0\n");
        assert!(matches!(two.key, Some(Cow::Borrowed(""))));
        assert_eq!(two.partition, Some(7));
        for body in [
            r#"{"records": []}"#,
            r#"{"records": [], "wait_for_send": null}"#,
        ] {
            let request = parse(body.as_bytes()).unwrap();
            assert_eq!((request.records.len(), request.waits), (0, false));
        }
    }

    #[test]
    fn what_is_wrong_is_said_as_kprf_said_it() {
        for (body, expected) in [
            ("{}", "missing field `records` at line 1 column 2"),
            ("", "EOF while parsing a value at line 1 column 0"),
            (
                r#"{"records": [{"topic": "t", "data": 1}]}"#,
                "invalid type: integer `1`, expected a string at line 1 column 37",
            ),
            (
                r#"{"records": [{"topic": "t", "data": null}]}"#,
                "invalid type: null, expected a string at line 1 column 40",
            ),
            (
                r#"{"records": [{"topic": "t"}]}"#,
                "missing field `data` at line 1 column 27",
            ),
            (
                r#"{"records": [], "records": []}"#,
                "duplicate field `records` at line 1 column 25",
            ),
            (
                r#"{"records": [], "wait_for_send": 1}"#,
                "invalid type: integer `1`, expected a boolean at line 1 column 34",
            ),
            (
                r#"{"records": [{"topic": "t", "data": "", "partition": 2147483648}]}"#,
                "invalid value: integer `2147483648`, expected i32 at line 1 column 63",
            ),
            (
                r#"{"records": {}}"#,
                "invalid type: map, expected a sequence at line 1 column 12",
            ),
            (
                r#"{"records": []} x"#,
                "trailing characters at line 1 column 17",
            ),
        ] {
            assert_eq!(problem(body), expected);
        }
    }

    #[test]
    fn arrays_in_the_place_of_objects_are_refused() {
        let text = problem(r#"[[["d", "t", null, null]], true]"#);
        assert_eq!(
            text,
            "invalid type: sequence, expected struct PushRequest at line 1 column 0"
        );
        let text = problem(r#"{"records": [["d", "t", null, null]]}"#);
        assert!(text.starts_with("invalid type: sequence, expected struct Record at line 1"));
    }

    #[test]
    fn there_is_a_limit() {
        let record = r#"{"topic":"","data":""}"#;
        let body = |count: usize| format!("{{\"records\":[{}]}}", vec![record; count].join(","));
        assert!(parse(body(MOST_RECORDS).as_bytes()).is_ok());
        let more = body(MOST_RECORDS + 1);
        assert_eq!(parse(more.as_bytes()), Err(ParseError::TooMany));
    }
}
