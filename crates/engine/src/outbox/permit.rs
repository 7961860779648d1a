//! Room that was taken before the messages are there.

use super::answers::Hearer;
use super::payload::Payload;
use super::topic::OutboxTopic;
use super::{Admission, Mode, Parts};
use std::sync::Arc;

/// Room for some messages. They are admitted whatever others do meanwhile,
/// also while the outbox is drained; only a topic's own bound of downtime can
/// refuse them. What is not used goes back when it is dropped.
pub struct Permit {
    parts: Arc<Parts>,
    messages: usize,
    bytes: u64,
}

impl Permit {
    pub(super) fn new(parts: &Arc<Parts>, messages: usize, bytes: u64) -> Option<Self> {
        if parts.budget.is_closed() || !parts.budget.take(messages, bytes) {
            return None;
        }
        parts.budget.reserve(messages);
        Some(Self {
            parts: Arc::clone(parts),
            messages,
            bytes,
        })
    }

    /// Produces in this room; what exceeds it needs room of its own. `hearer`
    /// hears of each record that is accepted, by the number that is given with
    /// it plus its index in the payload.
    pub fn produce<'a>(
        &mut self,
        topic: &OutboxTopic,
        mode: Mode,
        payload: impl Into<Payload<'a>>,
        hearer: Option<Hearer>,
    ) -> Admission {
        let payload = payload.into();
        topic.produce_in(payload.records(), mode, hearer, &mut Room::Reserved(self))
    }

    /// Messages that it has room for still.
    pub fn messages(&self) -> usize {
        self.messages
    }

    fn take(&mut self, messages: usize, bytes: u64) -> bool {
        let of_own = messages.min(self.messages);
        let bytes_of_own = bytes.min(self.bytes);
        let (more, more_bytes) = (messages - of_own, bytes - bytes_of_own);
        if (more > 0 || more_bytes > 0) && !self.parts.budget.take(more, more_bytes) {
            return false;
        }
        self.messages -= of_own;
        self.bytes -= bytes_of_own;
        self.parts.budget.unreserve(of_own);
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.parts.budget.give_back(self.messages, self.bytes);
        self.parts.budget.unreserve(self.messages);
    }
}

/// Where the room for messages comes from.
pub(super) enum Room<'a> {
    /// From what all share.
    Shared(&'a Parts),
    Reserved(&'a mut Permit),
}

impl Room<'_> {
    pub(super) fn take(&mut self, messages: usize, bytes: u64) -> bool {
        match self {
            Self::Shared(parts) => parts.budget.take(messages, bytes),
            Self::Reserved(permit) => permit.take(messages, bytes),
        }
    }

    /// Whether anything may be admitted at all.
    pub(super) fn is_open(&self) -> bool {
        match self {
            Self::Shared(parts) => !parts.budget.is_closed(),
            Self::Reserved(_) => true,
        }
    }
}
