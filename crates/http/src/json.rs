//! JSON written straight into the buffer of a reply, for what is written per
//! message; everything else goes through `serde_json`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

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
