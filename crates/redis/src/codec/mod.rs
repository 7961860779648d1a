//! The wire format: requests in, replies out. No I/O here.

mod parse;
mod reply;

pub(crate) use parse::{Frame, ParseError, Parser};
pub(crate) use reply::{Protocol, Reply, escape_controls};

/// Sizes beyond which a request is refused (contract, section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Arguments of a command, its name included.
    pub(crate) arguments: usize,
    /// Bytes of one bulk string.
    pub(crate) bulk_bytes: usize,
    /// Bytes of all bulk strings of one command.
    pub(crate) command_bytes: usize,
    /// Bytes of an inline command without its line end.
    pub(crate) inline_bytes: usize,
}

impl Limits {
    /// For clients that are logged in.
    pub(crate) const FULL: Self = Self {
        arguments: 1_024,
        bulk_bytes: 32_768_000,
        command_bytes: 67_108_864,
        inline_bytes: 65_536,
    };

    /// Before a login that is required.
    pub(crate) const BEFORE_LOGIN: Self = Self {
        arguments: 10,
        bulk_bytes: 16_384,
        command_bytes: 16_384,
        inline_bytes: 16_384,
    };
}
