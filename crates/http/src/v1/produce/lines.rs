//! The lines of a body of any length; of the body no more is kept than the
//! line that is being read.

use super::super::{Code, Problem};
use crate::body::{Pieces, ReadError};
use bytes::{Buf as _, Bytes};

/// Reads lines. Blank ones are no lines.
pub(super) struct Lines<'a, 'b> {
    /// `None`: the body is there.
    pieces: Option<Pieces<'a, 'b>>,
    longest: usize,
    piece: Bytes,
    /// What has come of a line that is in several pieces.
    line: Vec<u8>,
    /// The line is longer than that; its rest is thrown away.
    is_too_long: bool,
}

impl<'a, 'b> Lines<'a, 'b> {
    pub(super) fn new(pieces: Pieces<'a, 'b>, longest: usize) -> Self {
        Self {
            pieces: Some(pieces),
            ..Self::of(Bytes::new(), longest)
        }
    }

    /// Those of a body that is there.
    pub(super) fn of(body: Bytes, longest: usize) -> Self {
        Self {
            pieces: None,
            longest,
            piece: body,
            line: Vec::new(),
            is_too_long: false,
        }
    }

    pub(super) fn too_long(&self) -> Problem {
        let text = format!("a line here has at most {} bytes", self.longest);
        Problem::new(Code::PayloadTooLarge, text)
    }

    /// The next line, without its end; `None` after the last one. After
    /// [`ReadError::TooLarge`] it goes on with the line behind that one.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        // The line before is done with.
        if self.line.is_empty() {
            self.give_back();
        }
        if let Some(pieces) = &mut self.pieces {
            pieces.restart();
        }
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.piece) {
                let part = self.piece.split_to(end);
                self.piece.advance(1);
                if let Some(line) = self.complete(part)? {
                    return Ok(Some(line));
                }
                self.give_back();
                continue;
            }
            let part = std::mem::take(&mut self.piece);
            self.keep(&part)?;
            let next = match &mut self.pieces {
                Some(pieces) => pieces.next().await?,
                None => None,
            };
            match next {
                Some(piece) => self.piece = piece,
                // The last line need not have an end.
                None => return self.complete(Bytes::new()),
            }
        }
    }

    fn keep(&mut self, part: &[u8]) -> Result<(), ReadError> {
        if self.line.len() + part.len() > self.longest {
            self.is_too_long = true;
            self.line.clear();
            self.give_back();
        }
        if !self.is_too_long {
            if let Some(pieces) = &mut self.pieces
                && !pieces.grow(part.len())
            {
                return Err(ReadError::NoRoom);
            }
            self.line.extend_from_slice(part);
        }
        Ok(())
    }

    /// What was kept is gone.
    fn give_back(&mut self) {
        if let Some(pieces) = &mut self.pieces {
            pieces.shrink();
        }
    }

    /// Reads on for a while, so that the client sees the reply.
    pub(super) async fn discard(&mut self) {
        if let Some(pieces) = &mut self.pieces {
            pieces.discard().await;
        }
    }

    /// A line with its last part. Most are whole in their piece, and are not
    /// copied.
    fn complete(&mut self, part: Bytes) -> Result<Option<Bytes>, ReadError> {
        let is_whole = self.line.is_empty() && !self.is_too_long && part.len() <= self.longest;
        let mut line = if is_whole {
            part
        } else {
            self.keep(&part)?;
            if std::mem::take(&mut self.is_too_long) {
                return Err(ReadError::TooLarge);
            }
            // Its room goes back with the next one: until then it is there.
            std::mem::take(&mut self.line).into()
        };
        // Lines may end as on Windows.
        if line.ends_with(b"\r") {
            line.truncate(line.len() - 1);
        }
        Ok(Some(line).filter(|line| !line.trim_ascii().is_empty()))
    }
}
