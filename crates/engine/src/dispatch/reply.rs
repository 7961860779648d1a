//! Replies that confirm their messages.

use super::Deliveries;
use bytes::{Buf, Bytes};

/// Bytes of a reply. The messages in it are confirmed when the last byte has
/// been taken, which is when it has been given to the connection; when it is
/// dropped before, they go to somebody else
/// ([`Deliveries::confirm`]).
#[derive(Default)]
pub struct ReplyBytes {
    bytes: Bytes,
    deliveries: Option<Deliveries>,
}

impl ReplyBytes {
    /// A reply with messages in it.
    pub fn of(deliveries: Deliveries, bytes: Bytes) -> Self {
        Self {
            bytes,
            deliveries: Some(deliveries),
        }
    }
}

impl From<Bytes> for ReplyBytes {
    fn from(bytes: Bytes) -> Self {
        Self {
            bytes,
            deliveries: None,
        }
    }
}

impl Buf for ReplyBytes {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if !self.bytes.has_remaining()
            && let Some(deliveries) = self.deliveries.take()
        {
            deliveries.confirm();
        }
    }
}
