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
    /// Where the argument ends that has come in part; 0 if that is not known.
    wanted: usize,
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

    /// How long the buffer will be at least when the command is complete that has come
    /// in part; 0 if nothing says so yet.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted
    }

    /// The first `count` bytes of the buffer are gone.
    pub(crate) fn rebase(&mut self, count: usize) {
        self.wanted = self.wanted.saturating_sub(count);
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
        self.wanted = 0;
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
                (Some(b'\r') | None, None) => {
                    self.wanted = to + 2;
                    return Ok(Frame::Incomplete);
                }
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
mod tests;
