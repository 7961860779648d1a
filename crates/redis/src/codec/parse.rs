//! Requests: RESP arrays of bulk strings, and inline commands.
//!
//! The parser works on a growing buffer and remembers how far it got, so
//! that a command that comes in many pieces is read once. It tells "need
//! more" from "malformed", and judges every size from its header, before
//! anything is stored.

use super::Limits;
use std::ops::Range;

/// The longest number line that is looked at: sign, digits, and some slack.
/// Anything longer is no length that could be allowed.
const NUMBER_LINE_LIMIT: usize = 32;

/// What the buffer holds next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A command; its arguments are in [`Parser::arguments`], and the buffer
    /// is used up to this position.
    Command {
        /// Where the next frame begins.
        end: usize,
    },
    /// More bytes are needed.
    Incomplete,
}

/// Why a connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseError {
    #[error("ERR Protocol error: invalid multibulk length (Expect Number)")]
    CountIsNoNumber,
    #[error("ERR Protocol error: invalid multibulk length (TooManyArg)")]
    TooManyArguments,
    #[error("ERR Protocol error: expected '$', got '{0}' (Expect TypeChar)")]
    NotABulk(String),
    #[error("ERR Protocol error: expected CRLF (Expect Newline)")]
    NoLineEnd,
    #[error("ERR Protocol error: invalid bulk length (Invalid bulk size)")]
    BulkLength,
    #[error("ERR Protocol error: too big inline request (LineTooLong)")]
    LineTooLong,
    #[error("ERR Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// Another protocol on this port; closed without a word.
    #[error("cross-protocol request")]
    CrossProtocol,
}

/// A resumable parser. Positions are into the buffer that `next` is given;
/// the caller keeps the bytes from the start of the frame on in place until
/// the frame is complete, and calls [`Parser::rebase`] after moving them.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    arguments: Vec<Range<usize>>,
    /// Unquoted inline arguments, when quoting changed them.
    unquoted: Vec<u8>,
    is_unquoted: bool,
    position: usize,
    missing: usize,
    bytes: usize,
    is_inside: bool,
    /// Where the frame begins that was looked for last.
    start: usize,
}

impl Parser {
    /// The arguments of the command that `next` found, as slices of `buffer`.
    pub(crate) fn argument<'a>(&'a self, buffer: &'a [u8], index: usize) -> Option<&'a [u8]> {
        let range = self.arguments.get(index)?.clone();
        if self.is_unquoted {
            self.unquoted.get(range)
        } else {
            buffer.get(range)
        }
    }

    /// How many arguments the command has, its name included.
    pub(crate) fn count(&self) -> usize {
        self.arguments.len()
    }

    /// The place of an argument in the buffer; `None` for inline commands,
    /// whose arguments may not be there as they are.
    pub(crate) fn range(&self, index: usize) -> Option<Range<usize>> {
        if self.is_unquoted {
            return None;
        }
        self.arguments.get(index).cloned()
    }

    /// Gives memory back before the client is waited for: a command may have
    /// had many arguments. Nothing of a command may have been seen.
    pub(crate) fn rest(&mut self) {
        const KEPT: usize = 64;
        if self.arguments.capacity() > KEPT {
            self.arguments = Vec::new();
        }
        if self.unquoted.capacity() > KEPT {
            self.unquoted = Vec::new();
        }
    }

    /// Where the frame begins that [`next`](Self::next) has looked for: behind
    /// empty lines, of which nothing has to be kept.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// The first `count` bytes of the buffer are gone.
    pub(crate) fn rebase(&mut self, count: usize) {
        if self.is_inside {
            self.position = self.position.saturating_sub(count);
            for range in &mut self.arguments {
                range.start = range.start.saturating_sub(count);
                range.end = range.end.saturating_sub(count);
            }
        }
    }

    /// The frame that begins at `start`, or goes on from where the last call
    /// stopped. Empty lines and empty arrays are skipped.
    pub(crate) fn next(
        &mut self,
        buffer: &[u8],
        start: usize,
        limits: Limits,
    ) -> Result<Frame, ParseError> {
        self.start = start;
        loop {
            if !self.is_inside {
                match self.begin(buffer, self.start, limits)? {
                    Begin::Array => {}
                    Begin::Command { end } => return Ok(Frame::Command { end }),
                    Begin::Nothing { end } => {
                        self.start = end;
                        continue;
                    }
                    Begin::Incomplete => return Ok(Frame::Incomplete),
                }
            }
            return self.bulks(buffer, limits);
        }
    }

    fn begin(&mut self, buffer: &[u8], start: usize, limits: Limits) -> Result<Begin, ParseError> {
        let Some(rest) = buffer.get(start..) else {
            return Ok(Begin::Incomplete);
        };
        match rest.first() {
            None => return Ok(Begin::Incomplete),
            Some(b'*') => {}
            Some(_) => return self.inline(rest, start, limits),
        }
        let Some((line, length)) = number_line(rest.get(1..).unwrap_or(&[]))
            .map_err(|problem| problem.unwrap_or(ParseError::CountIsNoNumber))?
        else {
            return Ok(Begin::Incomplete);
        };
        let count = parse_number(line).ok_or(ParseError::CountIsNoNumber)?;
        let end = start + 1 + length;
        if count == 0 || count == -1 {
            return Ok(Begin::Nothing { end });
        }
        match usize::try_from(count) {
            Ok(count) if count <= limits.arguments => self.missing = count,
            _ => return Err(ParseError::TooManyArguments),
        }
        self.arguments.clear();
        self.is_unquoted = false;
        self.bytes = 0;
        self.position = end;
        self.is_inside = true;
        Ok(Begin::Array)
    }

    fn bulks(&mut self, buffer: &[u8], limits: Limits) -> Result<Frame, ParseError> {
        while self.missing > 0 {
            let rest = buffer.get(self.position..).unwrap_or(&[]);
            match rest.first() {
                None => return Ok(Frame::Incomplete),
                Some(b'$') => {}
                Some(other) => return Err(ParseError::NotABulk(printable(*other))),
            }
            let Some((line, header)) = number_line(rest.get(1..).unwrap_or(&[]))
                .map_err(|problem| problem.unwrap_or(ParseError::BulkLength))?
            else {
                return Ok(Frame::Incomplete);
            };
            let length = parse_number(line)
                .and_then(|length| usize::try_from(length).ok())
                .filter(|length| *length <= limits.bulk_bytes)
                .filter(|length| self.bytes.saturating_add(*length) <= limits.command_bytes)
                .ok_or(ParseError::BulkLength)?;
            let from = self.position + 1 + header;
            let to = from + length;
            match (buffer.get(to), buffer.get(to + 1)) {
                (Some(b'\r'), Some(b'\n')) => {}
                (Some(b'\r') | None, None) => return Ok(Frame::Incomplete),
                _ => return Err(ParseError::NoLineEnd),
            }
            self.arguments.push(from..to);
            self.bytes += length;
            self.position = to + 2;
            self.missing -= 1;
        }
        self.is_inside = false;
        Ok(Frame::Command { end: self.position })
    }

    fn inline(&mut self, rest: &[u8], start: usize, limits: Limits) -> Result<Begin, ParseError> {
        let window = rest
            .get(..limits.inline_bytes.saturating_add(2))
            .unwrap_or(rest);
        let Some(length) = window.iter().position(|byte| *byte == b'\n') else {
            // The line's end may have come by half.
            let seen = rest.strip_suffix(b"\r").unwrap_or(rest);
            return if seen.len() > limits.inline_bytes {
                Err(ParseError::LineTooLong)
            } else {
                Ok(Begin::Incomplete)
            };
        };
        let line = rest.get(..length).unwrap_or(&[]);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > limits.inline_bytes {
            return Err(ParseError::LineTooLong);
        }
        self.arguments.clear();
        self.unquoted.clear();
        self.is_unquoted = true;
        split_quoted(line, &mut self.unquoted, &mut self.arguments)?;
        let end = start + length + 1;
        let Some(name) = self.argument(&[], 0) else {
            return Ok(Begin::Nothing { end });
        };
        if name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:") {
            return Err(ParseError::CrossProtocol);
        }
        if self.arguments.len() > limits.arguments {
            return Err(ParseError::TooManyArguments);
        }
        Ok(Begin::Command { end })
    }
}

enum Begin {
    Array,
    Command { end: usize },
    Nothing { end: usize },
    Incomplete,
}

/// The digits before CRLF and the length of the whole line. `Ok(None)`: more
/// is needed. `Err(None)`: not a number; `Err(Some)`: a broken line end.
fn number_line(rest: &[u8]) -> Result<Option<(&[u8], usize)>, Option<ParseError>> {
    let window = rest.get(..NUMBER_LINE_LIMIT).unwrap_or(rest);
    let Some(length) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        if rest.len() >= NUMBER_LINE_LIMIT {
            return Err(None);
        }
        return Ok(None);
    };
    let line = window.get(..length).unwrap_or(&[]);
    match (rest.get(length), rest.get(length + 1)) {
        (Some(b'\r'), Some(b'\n')) => Ok(Some((line, length + 2))),
        (Some(b'\r'), None) => Ok(None),
        _ => Err(Some(ParseError::NoLineEnd)),
    }
}

/// A decimal number of up to 18 digits, as Redis reads lengths.
fn parse_number(line: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match line.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, line),
    };
    if digits.is_empty() {
        return None;
    }
    let mut number: i64 = 0;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        // Beyond every limit is far enough.
        number = number
            .saturating_mul(10)
            .saturating_add(i64::from(digit - b'0'));
    }
    Some(if is_negative { -number } else { number })
}

fn printable(byte: u8) -> String {
    if byte.is_ascii_graphic() || byte == b' ' {
        char::from(byte).to_string()
    } else {
        format!("\\x{byte:02x}")
    }
}

/// Splits an inline command with Redis's quoting: `"…"` with escapes, `'…'`
/// with only `\'`; a closing quote must be followed by a blank or the end.
fn split_quoted(
    line: &[u8],
    output: &mut Vec<u8>,
    arguments: &mut Vec<Range<usize>>,
) -> Result<(), ParseError> {
    let mut bytes = line.iter().copied().peekable();
    loop {
        while bytes.next_if(u8::is_ascii_whitespace).is_some() {}
        if bytes.peek().is_none() {
            return Ok(());
        }
        let from = output.len();
        while let Some(byte) = bytes.next_if(|byte| !byte.is_ascii_whitespace()) {
            match byte {
                b'"' | b'\'' => {
                    quoted(byte, &mut bytes, output)?;
                    if bytes.peek().is_some_and(|next| !next.is_ascii_whitespace()) {
                        return Err(ParseError::UnbalancedQuotes);
                    }
                }
                other => output.push(other),
            }
        }
        arguments.push(from..output.len());
    }
}

fn quoted(
    quote: u8,
    bytes: &mut std::iter::Peekable<impl Iterator<Item = u8> + Clone>,
    output: &mut Vec<u8>,
) -> Result<(), ParseError> {
    loop {
        match bytes.next() {
            None => return Err(ParseError::UnbalancedQuotes),
            Some(byte) if byte == quote => return Ok(()),
            Some(b'\\') if quote == b'"' => output.push(escaped(bytes)?),
            Some(b'\\') => match bytes.next_if_eq(&b'\'') {
                Some(byte) => output.push(byte),
                None => output.push(b'\\'),
            },
            Some(byte) => output.push(byte),
        }
    }
}

fn escaped(
    bytes: &mut std::iter::Peekable<impl Iterator<Item = u8> + Clone>,
) -> Result<u8, ParseError> {
    let byte = bytes.next().ok_or(ParseError::UnbalancedQuotes)?;
    Ok(match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        b'x' => {
            let hex = |byte: u8| char::from(byte).to_digit(16);
            let mut ahead = bytes.clone();
            match (ahead.next().and_then(hex), ahead.next().and_then(hex)) {
                (Some(high), Some(low)) => {
                    bytes.next();
                    bytes.next();
                    u8::try_from(high * 16 + low).unwrap_or(0)
                }
                _ => b'x',
            }
        }
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits::FULL;

    fn parse_all(input: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, ParseError> {
        let mut parser = Parser::default();
        let mut commands = Vec::new();
        let mut start = 0;
        while let Frame::Command { end } = parser.next(input, start, LIMITS)? {
            commands.push(arguments(&parser, input));
            start = end;
        }
        Ok(commands)
    }

    fn arguments(parser: &Parser, buffer: &[u8]) -> Vec<Vec<u8>> {
        (0..parser.count())
            .map(|index| parser.argument(buffer, index).unwrap().to_vec())
            .collect()
    }

    fn texts(input: &[u8]) -> Vec<Vec<String>> {
        parse_all(input)
            .unwrap()
            .into_iter()
            .map(|command| {
                command
                    .into_iter()
                    .map(|argument| String::from_utf8_lossy(&argument).into_owned())
                    .collect()
            })
            .collect()
    }

    #[test]
    fn nothing_is_kept_of_empty_lines() {
        let mut parser = Parser::default();
        for (input, kept) in [
            (&b"\r\n\n*0\r\n"[..], &b""[..]),
            (b"\r\n\r\nPI", b"PI"),
            (b"*0\r\n*-1\r\n*1\r\n$4\r\nPI", b"*1\r\n$4\r\nPI"),
        ] {
            assert_eq!(parser.next(input, 0, LIMITS), Ok(Frame::Incomplete));
            assert_eq!(input.get(parser.start()..), Some(kept));
        }
        // It goes on where it stopped once the rest is at the front.
        parser.rebase(9);
        let rest = b"*1\r\n$4\r\nPING\r\n";
        let end = rest.len();
        assert_eq!(parser.next(rest, 0, LIMITS), Ok(Frame::Command { end }));
        assert_eq!(arguments(&parser, rest), [b"PING"]);
    }

    #[test]
    fn arrays_and_inline_commands_mix() {
        assert_eq!(
            texts(b"*1\r\n$4\r\nPING\r\nPING\r\n  ping  hello\n*2\r\n$4\r\nECHO\r\n$0\r\n\r\n"),
            vec![
                vec!["PING"],
                vec!["PING"],
                vec!["ping", "hello"],
                vec!["ECHO", ""],
            ]
        );
    }

    #[test]
    fn nothing_is_skipped_silently_except_nothing() {
        assert_eq!(texts(b"\r\n*0\r\n\n*-1\r\nPING\r\n"), vec![vec!["PING"]]);
    }

    #[test]
    fn quoting_is_that_of_redis() {
        assert_eq!(
            texts(b"set \"a b\\x41\\n\\\"\" 'c\\'d\\n' \"\"\r\n"),
            vec![vec!["set", "a bA\n\"", "c'd\\n", ""]]
        );
        for bad in [&b"a \"b\r\n"[..], b"a 'b\r\n", b"a \"b\"c\r\n"] {
            assert_eq!(parse_all(bad), Err(ParseError::UnbalancedQuotes));
        }
    }

    #[test]
    fn every_broken_frame_has_its_text() {
        let cases: [(&[u8], &str); 17] = [
            (
                b"*x\r\n",
                "ERR Protocol error: invalid multibulk length (Expect Number)",
            ),
            (
                b"*\r\n",
                "ERR Protocol error: invalid multibulk length (Expect Number)",
            ),
            (
                b"*-2\r\n",
                "ERR Protocol error: invalid multibulk length (TooManyArg)",
            ),
            (
                b"*1025\r\n",
                "ERR Protocol error: invalid multibulk length (TooManyArg)",
            ),
            (
                b"*99999999999\r\n",
                "ERR Protocol error: invalid multibulk length (TooManyArg)",
            ),
            (
                b"*1\n",
                "ERR Protocol error: expected CRLF (Expect Newline)",
            ),
            (
                b"*1\rx",
                "ERR Protocol error: expected CRLF (Expect Newline)",
            ),
            (
                b"*1\r\nPING\r\n",
                "ERR Protocol error: expected '$', got 'P' (Expect TypeChar)",
            ),
            (
                b"*1\r\n*1\r\n",
                "ERR Protocol error: expected '$', got '*' (Expect TypeChar)",
            ),
            (
                b"*1\r\n\x01",
                "ERR Protocol error: expected '$', got '\\x01' (Expect TypeChar)",
            ),
            (
                b"*1\r\n$x\r\n",
                "ERR Protocol error: invalid bulk length (Invalid bulk size)",
            ),
            (
                b"*1\r\n$-1\r\n",
                "ERR Protocol error: invalid bulk length (Invalid bulk size)",
            ),
            (
                b"*1\r\n$32768001\r\n",
                "ERR Protocol error: invalid bulk length (Invalid bulk size)",
            ),
            (
                b"*1\r\n$4\nPING\r\n",
                "ERR Protocol error: expected CRLF (Expect Newline)",
            ),
            (
                b"*1\r\n$4\r\nPINGxx",
                "ERR Protocol error: expected CRLF (Expect Newline)",
            ),
            (
                b"*1\r\n$4\r\nPING\rx",
                "ERR Protocol error: expected CRLF (Expect Newline)",
            ),
            (
                b"a \"\r\n",
                "ERR Protocol error: unbalanced quotes in request",
            ),
        ];
        for (input, text) in cases {
            assert_eq!(
                parse_all(input).unwrap_err().to_string(),
                text,
                "{}",
                String::from_utf8_lossy(input)
            );
        }
        for input in [&b"POST / HTTP/1.1\r\n"[..], b"Host: a\r\n", b"host: a\n"] {
            assert_eq!(parse_all(input), Err(ParseError::CrossProtocol));
        }
    }

    #[test]
    fn lengths_are_judged_from_the_header() {
        // An endless header is refused without waiting for its end.
        let endless = [b"*1\r\n$".to_vec(), vec![b'1'; 64]].concat();
        assert_eq!(parse_all(&endless), Err(ParseError::BulkLength));
        let endless = [b"*".to_vec(), vec![b'1'; 64]].concat();
        assert_eq!(parse_all(&endless), Err(ParseError::CountIsNoNumber));
        assert_eq!(parse_all(b"*1\r\n$32768000\r\n"), Ok(vec![]));
        // All bulks of one command together.
        let mut input = b"*3\r\n".to_vec();
        for _ in 0..2 {
            input.extend_from_slice(b"$32768000\r\n");
            input.resize(input.len() + 32_768_000, b'x');
            input.extend_from_slice(b"\r\n");
        }
        assert_eq!(parse_all(&input), Ok(vec![]));
        input.extend_from_slice(b"$2000000\r\n");
        assert_eq!(parse_all(&input), Err(ParseError::BulkLength));
    }

    #[test]
    fn a_long_inline_line_is_refused() {
        let longest = [vec![b'a'; 65_536], b"\r\n".to_vec()].concat();
        assert_eq!(parse_all(&longest).unwrap().len(), 1);
        assert_eq!(parse_all(&vec![b'a'; 65_537]), Err(ParseError::LineTooLong));
        let longer = [vec![b'a'; 65_537], b"\n".to_vec()].concat();
        assert_eq!(parse_all(&longer), Err(ParseError::LineTooLong));
    }

    #[test]
    fn before_login_the_limits_are_small() {
        let mut parser = Parser::default();
        let limits = Limits::BEFORE_LOGIN;
        assert_eq!(
            parser.next(b"*11\r\n", 0, limits),
            Err(ParseError::TooManyArguments)
        );
        assert_eq!(
            Parser::default().next(b"*1\r\n$16385\r\n", 0, limits),
            Err(ParseError::BulkLength)
        );
    }

    fn encode(command: &[Vec<u8>]) -> Vec<u8> {
        let mut wire = format!("*{}\r\n", command.len()).into_bytes();
        for argument in command {
            wire.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            wire.extend_from_slice(argument);
            wire.extend_from_slice(b"\r\n");
        }
        wire
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_parsed_in_any_pieces(
            commands in prop::collection::vec(
                prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6), 1..6),
            cuts in prop::collection::vec(1usize..30, 1..20),
        ) {
            let wire: Vec<u8> = commands.iter().flat_map(|command| encode(command)).collect();
            let mut parser = Parser::default();
            let mut buffer: Vec<u8> = Vec::new();
            let mut seen = Vec::new();
            let mut rest = wire.as_slice();
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let take = (*cuts.next().unwrap()).min(rest.len());
                buffer.extend_from_slice(&rest[..take]);
                rest = &rest[take..];
                let mut start = 0;
                while let Frame::Command { end } = parser.next(&buffer, start, LIMITS).unwrap() {
                    seen.push(arguments(&parser, &buffer));
                    start = end;
                }
                // As a connection does it: used bytes go, the rest moves up.
                buffer.drain(..start);
                parser.rebase(start);
            }
            prop_assert_eq!(seen, commands);
        }

        #[test]
        fn garbage_never_panics(input in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_all(&input);
        }

        #[test]
        fn garbage_of_the_alphabet_never_panics(input in "[*$0-9\r\n\"'x\\\\ -]{0,80}") {
            let _ = parse_all(input.as_bytes());
        }
    }
}
