//! Replies in RESP2 and RESP3.

use std::fmt::Write as _;

/// The protocol version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// Longer error texts are cut.
const ERROR_BYTES: usize = 64 << 10;

/// Replies of one connection that are not written yet.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) protocol: Protocol,
    /// How many errors have been written.
    pub(crate) errors: u64,
}

impl Reply {
    /// `+text`; the text holds no line end.
    pub(crate) fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// `-text`. Control bytes of user input inside it are made visible, so
    /// that they cannot break the framing.
    pub(crate) fn error(&mut self, text: &str) {
        self.errors += 1;
        // User input may be as long as a bulk.
        let (text, rest) = text.split_at(text.floor_char_boundary(ERROR_BYTES));
        let mut line = escape_controls(text.as_bytes());
        if !rest.is_empty() {
            line.push_str("...");
        }
        self.line(b'-', line.as_bytes());
    }

    /// `:number`.
    pub(crate) fn integer(&mut self, number: i64) {
        // What nearly every produced message is answered with.
        if number == 1 {
            self.bytes.extend_from_slice(b":1\r\n");
        } else {
            self.number_line(b':', number);
        }
    }

    /// `:1` for each of `count` messages.
    pub(crate) fn ones(&mut self, count: usize) {
        const ONES: &[u8] = b":1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n";
        for _ in 0..count / 8 {
            self.bytes.extend_from_slice(ONES);
        }
        let rest = (count % 8) * 4;
        self.bytes
            .extend_from_slice(ONES.get(..rest).unwrap_or(&[]));
    }

    /// A bulk string.
    pub(crate) fn bulk(&mut self, bytes: &[u8]) {
        self.number_line(b'$', i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// A number as a bulk string.
    pub(crate) fn bulk_number(&mut self, number: i64) {
        let mut digits = Digits::default();
        let text = digits.of(number);
        self.bulk(text);
    }

    /// The id of a stream's entry, `<offset>-<partition>`, as a bulk string.
    pub(crate) fn entry_id(&mut self, offset: i64, partition: i32) {
        let (mut offset_digits, mut partition_digits) = (Digits::default(), Digits::default());
        let offset = offset_digits.of(offset);
        let partition = partition_digits.of(partition.into());
        let length = offset.len() + 1 + partition.len();
        self.number_line(b'$', i64::try_from(length).unwrap_or(i64::MAX));
        self.bytes.extend_from_slice(offset);
        self.bytes.push(b'-');
        self.bytes.extend_from_slice(partition);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// A bulk string, or null.
    pub(crate) fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// The null of bulk strings.
    pub(crate) fn null(&mut self) {
        let null: &[u8] = match self.protocol {
            Protocol::Resp2 => b"$-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        };
        self.bytes.extend_from_slice(null);
    }

    /// The null of arrays.
    pub(crate) fn null_array(&mut self) {
        let null: &[u8] = match self.protocol {
            Protocol::Resp2 => b"*-1\r\n",
            Protocol::Resp3 => b"_\r\n",
        };
        self.bytes.extend_from_slice(null);
    }

    /// The head of an array of `count` elements, which follow.
    pub(crate) fn array(&mut self, count: usize) {
        self.number_line(b'*', i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The head of a map of `count` pairs, which follow; flat in RESP2.
    pub(crate) fn map(&mut self, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX / 2);
        match self.protocol {
            Protocol::Resp2 => self.number_line(b'*', count * 2),
            Protocol::Resp3 => self.number_line(b'%', count),
        }
    }

    /// The head of a set of `count` elements (RESP3) or of an array (RESP2).
    pub(crate) fn set(&mut self, count: usize) {
        let kind = match self.protocol {
            Protocol::Resp2 => b'*',
            Protocol::Resp3 => b'~',
        };
        self.number_line(kind, i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The head of a push message (RESP3) or of an array (RESP2).
    pub(crate) fn push(&mut self, count: usize) {
        let kind = match self.protocol {
            Protocol::Resp2 => b'*',
            Protocol::Resp3 => b'>',
        };
        self.number_line(kind, i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Text for people: verbatim in RESP3, a bulk string in RESP2.
    pub(crate) fn verbatim(&mut self, text: &str) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(text.as_bytes()),
            Protocol::Resp3 => {
                self.number_line(b'=', i64::try_from(text.len() + 4).unwrap_or(i64::MAX));
                self.bytes.extend_from_slice(b"txt:");
                self.bytes.extend_from_slice(text.as_bytes());
                self.bytes.extend_from_slice(b"\r\n");
            }
        }
    }

    /// The OK of QUIT and CLIENT SETNAME: a bulk string in RESP2, as rafka
    /// sends it.
    pub(crate) fn bulk_ok(&mut self) {
        match self.protocol {
            Protocol::Resp2 => self.bulk(b"OK"),
            Protocol::Resp3 => self.simple("OK"),
        }
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(text);
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn number_line(&mut self, kind: u8, number: i64) {
        let mut digits = Digits::default();
        self.line(kind, digits.of(number));
    }
}

/// Room for the text of a number.
#[derive(Default)]
struct Digits([u8; 20]);

impl Digits {
    fn of(&mut self, number: i64) -> &[u8] {
        let mut at = self.0.len();
        let mut rest = number.unsigned_abs();
        let mut put = |byte: u8| {
            at -= 1;
            if let Some(place) = self.0.get_mut(at) {
                *place = byte;
            }
        };
        loop {
            put(b'0' + (rest % 10) as u8);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            put(b'-');
        }
        self.0.get(at..).unwrap_or(&[])
    }
}

/// Control bytes as `\xNN`; everything else as it is, invalid UTF-8 replaced.
pub(crate) fn escape_controls(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if !text.chars().any(|c| c.is_ascii_control()) {
        return text.into_owned();
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_ascii_control() {
            let _ = write!(escaped, "\\x{:02x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(protocol: Protocol, write: impl FnOnce(&mut Reply)) -> String {
        let mut reply = Reply {
            protocol,
            ..Reply::default()
        };
        write(&mut reply);
        String::from_utf8(reply.bytes).unwrap()
    }

    #[test]
    fn shapes_differ_by_protocol() {
        use Protocol::{Resp2, Resp3};
        assert_eq!(written(Resp2, Reply::null), "$-1\r\n");
        assert_eq!(written(Resp3, Reply::null), "_\r\n");
        assert_eq!(written(Resp2, Reply::null_array), "*-1\r\n");
        assert_eq!(written(Resp3, Reply::null_array), "_\r\n");
        assert_eq!(written(Resp2, |r| r.map(2)), "*4\r\n");
        assert_eq!(written(Resp3, |r| r.map(2)), "%2\r\n");
        assert_eq!(written(Resp2, |r| r.verbatim("ab")), "$2\r\nab\r\n");
        assert_eq!(written(Resp3, |r| r.verbatim("ab")), "=6\r\ntxt:ab\r\n");
        assert_eq!(written(Resp2, Reply::bulk_ok), "$2\r\nOK\r\n");
        assert_eq!(written(Resp3, Reply::bulk_ok), "+OK\r\n");
    }

    #[test]
    fn numbers_are_written_whole() {
        for number in [0, 1, -1, 9, 10, i64::MAX, i64::MIN] {
            assert_eq!(
                written(Protocol::Resp2, |r| r.integer(number)),
                format!(":{number}\r\n")
            );
        }
        assert_eq!(
            written(Protocol::Resp2, |r| r.bulk_number(i64::MIN)),
            "$20\r\n-9223372036854775808\r\n"
        );
        assert_eq!(
            written(Protocol::Resp3, |r| r.entry_id(i64::MAX, 10)),
            "$22\r\n9223372036854775807-10\r\n"
        );
        for count in [0, 1, 7, 8, 9, 128] {
            assert_eq!(
                written(Protocol::Resp2, |r| r.ones(count)),
                ":1\r\n".repeat(count)
            );
        }
    }

    #[test]
    fn user_input_cannot_break_an_error_line() {
        assert_eq!(
            written(Protocol::Resp2, |r| r.error("ERR a\r\n+b\x00ü")),
            "-ERR a\\x0d\\x0a+b\\x00ü\r\n"
        );
    }
}
