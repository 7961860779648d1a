//! Records that are sent in the place of a batch.
//!
//! Contract: `producer-engine.md`, section 5.

use super::payload::NewRecord;

/// Makes other records of a batch. One that panics leaves the batch as it is.
pub trait MassageBuffer: Send + Sync {
    /// The records to be sent in the place of these, which come oldest first.
    /// What does not fit `message.max.bytes` is asked for again with half of
    /// the batch.
    fn massage(&self, topic: &str, partition: i32, records: &[NewRecord<'_>]) -> Vec<Massaged>;
}

/// A record made of others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Massaged {
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
}

impl Massaged {
    fn of(value: Vec<u8>) -> Self {
        Self {
            key: None,
            value: Some(value),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        let length = |part: &Option<Vec<u8>>| part.as_ref().map_or(0, |part| part.len() as u64);
        length(&self.key) + length(&self.value)
    }
}

/// The built-in ones: each makes one record of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OneLarge {
    /// A list in Erlang's external term format; messages with keys are pairs.
    ExternalTerm,
    /// A JSON array of the values as strings; what is not UTF-8 is replaced.
    Json,
    /// A JSON array of the values as they are; one that is no JSON becomes a
    /// string.
    JsonArrayRaw,
    /// The values, a line each. Line ends within JSON values become spaces.
    Ndjson,
}

impl OneLarge {
    /// By the name in a configuration.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "encode_messages_as_one_large_message" => Self::ExternalTerm,
            "encode_messages_as_one_large_json" => Self::Json,
            "json_array_raw" => Self::JsonArrayRaw,
            "ndjson" => Self::Ndjson,
            _ => return None,
        })
    }
}

impl MassageBuffer for OneLarge {
    fn massage(&self, _: &str, _: i32, records: &[NewRecord<'_>]) -> Vec<Massaged> {
        let value = match self {
            Self::ExternalTerm => external_term(records),
            Self::Json => json_array(records, json_string),
            Self::JsonArrayRaw => json_array(records, raw_json),
            Self::Ndjson => ndjson(records),
        };
        vec![Massaged::of(value)]
    }
}

fn value_of<'a>(record: &NewRecord<'a>) -> &'a [u8] {
    record.value.unwrap_or_default()
}

fn external_term(records: &[NewRecord<'_>]) -> Vec<u8> {
    const VERSION: u8 = 131;
    const LIST: u8 = 108;
    const BINARY: u8 = 109;
    const SMALL_TUPLE: u8 = 104;
    const NIL: u8 = 106;
    let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let binary = |term: &mut Vec<u8>, bytes: &[u8]| {
        term.push(BINARY);
        term.extend_from_slice(&length(bytes.len()));
        term.extend_from_slice(bytes);
    };
    let mut term = vec![VERSION, LIST];
    term.extend_from_slice(&length(records.len()));
    for record in records {
        if let Some(key) = record.key {
            term.extend_from_slice(&[SMALL_TUPLE, 2]);
            binary(&mut term, key);
        }
        binary(&mut term, value_of(record));
    }
    term.push(NIL);
    term
}

fn json_array(records: &[NewRecord<'_>], write: fn(&mut Vec<u8>, &[u8])) -> Vec<u8> {
    let mut array = vec![b'['];
    for (index, record) in records.iter().enumerate() {
        if index > 0 {
            array.push(b',');
        }
        write(&mut array, value_of(record));
    }
    array.push(b']');
    array
}

fn json_string(json: &mut Vec<u8>, value: &[u8]) {
    let text = String::from_utf8_lossy(value);
    // Text into memory: nothing can fail.
    let _ = serde_json::to_writer(json, &text);
}

fn raw_json(json: &mut Vec<u8>, value: &[u8]) {
    if is_json(value) {
        json.extend_from_slice(value.trim_ascii());
    } else {
        json_string(json, value);
    }
}

fn is_json(value: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok()
}

fn ndjson(records: &[NewRecord<'_>]) -> Vec<u8> {
    let mut lines = Vec::new();
    for record in records {
        let value = value_of(record);
        if !value.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            lines.extend_from_slice(value);
        } else if is_json(value) {
            // JSON has line ends only between its tokens.
            let spaced = |byte: &u8| match byte {
                b'\n' | b'\r' => b' ',
                other => *other,
            };
            lines.extend(value.trim_ascii().iter().map(spaced));
        } else {
            json_string(&mut lines, value);
        }
        lines.push(b'\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn massage(kind: OneLarge, records: &[NewRecord<'_>]) -> Vec<u8> {
        let mut made = kind.massage("t", 0, records);
        assert_eq!(made.len(), 1);
        assert_eq!(made[0].key, None);
        made.remove(0).value.unwrap()
    }

    #[test]
    fn a_list_in_external_term_format() {
        let list = massage(OneLarge::ExternalTerm, &["a".into(), "b".into()]);
        let expected = [
            131, 108, 0, 0, 0, 2, 109, 0, 0, 0, 1, 97, 109, 0, 0, 0, 1, 98, 106,
        ];
        assert_eq!(list, expected);
        let pair = massage(OneLarge::ExternalTerm, &[("k", "v").into()]);
        let expected = [
            131, 108, 0, 0, 0, 1, 104, 2, 109, 0, 0, 0, 1, 107, 109, 0, 0, 0, 1, 118, 106,
        ];
        assert_eq!(pair, expected);
    }

    #[test]
    fn json_arrays_quote_or_embed() {
        let records = [r#"{"a":1}"#.into(), "no json".into()];
        let quoted = massage(OneLarge::Json, &records);
        assert_eq!(quoted, br#"["{\"a\":1}","no json"]"#);
        let raw = massage(OneLarge::JsonArrayRaw, &records);
        assert_eq!(raw, br#"[{"a":1},"no json"]"#);
        assert_eq!(massage(OneLarge::Json, &[]), b"[]");
    }

    #[test]
    fn a_line_is_a_record() {
        let lines = massage(OneLarge::Ndjson, &["{\n \"a\": 1 }\n".into(), "b".into()]);
        assert_eq!(lines, b"{  \"a\": 1 }\nb\n");
    }
}
