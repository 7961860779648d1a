//! Understands what comes back, as far as attacks want to know.

use std::collections::{BTreeMap, VecDeque};

/// Of an HTTP/2 connection (RFC 9113, section 6.9.2).
const INITIAL_WINDOW: u64 = 65_535;
/// A line is looked at so far.
const LINE: usize = 200;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    /// Lines of which the first, and all that are errors, count.
    Redis,
    /// Status lines.
    Http1,
    /// Frames.
    Http2,
}

/// Listens to one connection.
pub(super) struct Ear {
    speech: Speech,
    pending: Vec<u8>,
    /// Of a frame whose head has been read.
    skip: usize,
    answers: u64,
    /// Pings that wait for an answer.
    pings: VecDeque<[u8; 8]>,
    /// What the connection's window still takes.
    window: u64,
}

impl Ear {
    /// Lines, or frames that answer or end something.
    pub(super) fn answers(&self) -> u64 {
        self.answers
    }

    /// Whether the window takes a frame, and what stands before its message.
    /// Then it is counted.
    pub(super) fn takes(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64 + 5;
        let left = self.window.checked_sub(bytes);
        self.window = left.unwrap_or(self.window);
        left.is_some()
    }

    /// The next ping to be answered.
    pub(super) fn next_ping(&mut self) -> Option<[u8; 8]> {
        self.pings.pop_front()
    }

    pub(super) fn new(speech: Speech) -> Self {
        Self {
            speech,
            pending: Vec::new(),
            skip: 0,
            answers: 0,
            pings: VecDeque::new(),
            window: INITIAL_WINDOW,
        }
    }

    pub(super) fn hear(&mut self, bytes: &[u8], answers: &mut BTreeMap<String, u64>) {
        let note = |answer: String| *answers.entry(answer).or_default() += 1;
        match self.speech {
            Speech::Http2 => self.frames(bytes, note),
            Speech::Redis | Speech::Http1 => self.lines(bytes, note),
        }
    }

    fn lines(&mut self, mut bytes: &[u8], mut note: impl FnMut(String)) {
        let is_http = self.speech == Speech::Http1;
        while !(bytes.is_empty() || is_http && self.answers > 0) {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let (line, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            bytes = rest;
            let room = LINE.saturating_sub(self.pending.len());
            self.pending.extend(line.iter().take(room));
            if end.is_none() {
                return;
            }
            if self.answers == 0 || self.pending.first() == Some(&b'-') {
                note(String::from_utf8_lossy(&self.pending).trim_end().to_owned());
            }
            self.answers += 1;
            self.pending.clear();
        }
    }

    fn frames(&mut self, mut bytes: &[u8], mut note: impl FnMut(String)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            bytes = bytes.get(skipped..).unwrap_or_default();
            self.skip -= skipped;
            if bytes.is_empty() {
                return;
            }
            self.pending.push(*bytes.first().unwrap_or(&0));
            bytes = bytes.get(1..).unwrap_or_default();
            let &[a, b, c, kind, flags, s, t, u, v, ref payload @ ..] = &*self.pending else {
                continue;
            };
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            let is_whole = payload.len() >= length;
            let code = |at: usize| {
                let code = payload.get(at..at + 4)?;
                Some(u32::from_be_bytes(code.try_into().ok()?))
            };
            let said = match (kind, is_whole) {
                (0x3, true) => format!("RST_STREAM {}", code(0).unwrap_or_default()),
                (0x7, true) => format!("GOAWAY {}", code(4).unwrap_or_default()),
                (0x6, true) if flags & 1 == 0 => {
                    let ping = payload.first_chunk::<8>().copied();
                    self.pings.extend(ping);
                    "PING".to_owned()
                }
                (0x8, true) => {
                    if [s, t, u, v] == [0; 4] {
                        self.window += u64::from(code(0).unwrap_or_default());
                    }
                    String::new()
                }
                (0x3 | 0x6 | 0x7 | 0x8, false) => continue,
                (0x1, _) => "HEADERS".to_owned(),
                _ => String::new(),
            };
            if !said.is_empty() {
                self.answers += u64::from(kind != 0x6);
                note(said);
            }
            self.skip = length - payload.len();
            self.pending.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(speech: Speech, pieces: &[&[u8]]) -> Vec<(String, u64)> {
        let mut ear = Ear::new(speech);
        let mut answers = BTreeMap::new();
        for piece in pieces {
            ear.hear(piece, &mut answers);
        }
        answers.into_iter().collect()
    }

    fn said(text: &str, count: u64) -> (String, u64) {
        (text.to_owned(), count)
    }

    #[test]
    fn the_first_line_and_errors_are_heard() {
        assert_eq!(
            heard(Speech::Redis, &[b"+PONG\r\n+PO", b"NG\r\n-ERR no\r\n"]),
            [said("+PONG", 1), said("-ERR no", 1)]
        );
        assert_eq!(
            heard(
                Speech::Http1,
                &[b"HTTP/1.1 413 Pay", b"load\r\nA: b\r\n\r\n"]
            ),
            [said("HTTP/1.1 413 Payload", 1)]
        );
    }

    #[test]
    fn frames_are_heard_however_they_are_cut() {
        let wire: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x05\x01\x04\0\0\0\x01abcde\
            \0\0\x04\x03\0\0\0\0\x03\0\0\0\x08\0\0\x0a\x07\0\0\0\0\0\0\0\0\x01\0\0\0\x0bxx";
        let expected = [
            said("GOAWAY 11", 1),
            said("HEADERS", 1),
            said("RST_STREAM 8", 1),
        ];
        assert_eq!(heard(Speech::Http2, &[wire]), expected);
        let single: Vec<&[u8]> = wire.chunks(1).collect();
        assert_eq!(heard(Speech::Http2, &single), expected);
    }
}
