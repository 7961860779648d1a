//! The codec, for the fuzz targets: they feed it as connections do, piece by
//! piece. It is private otherwise, as nobody else has a use for it.

use crate::codec::{Frame, Limits, Parser};

/// What became of some bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decoded {
    /// The commands, each with its arguments.
    pub commands: Vec<Vec<Vec<u8>>>,
    /// The error with which the connection ends.
    pub error: Option<String>,
}

/// Decodes what comes in pieces, with the limits before or after a login. What
/// is used up goes from the buffer after each piece, as in a connection.
pub fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, is_logged_in: bool) -> Decoded {
    let limits = match is_logged_in {
        true => Limits::FULL,
        false => Limits::BEFORE_LOGIN,
    };
    let mut parser = Parser::default();
    let mut buffer = Vec::new();
    let mut decoded = Decoded::default();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let mut start = 0;
        loop {
            match parser.next(&buffer, start, limits) {
                Ok(Frame::Command { end }) => {
                    let arguments = (0..parser.count())
                        .map(|index| parser.argument(&buffer, index).unwrap_or(b"lost").to_vec());
                    decoded.commands.push(arguments.collect());
                    start = end;
                }
                Ok(Frame::Incomplete) => break,
                Err(error) => {
                    decoded.error = Some(error.to_string());
                    return decoded;
                }
            }
        }
        buffer.drain(..start);
        parser.rebase(start);
        if buffer.is_empty() {
            parser.rest();
        }
    }
    decoded
}
