//! One topic of a group: its partitions, which take turns, and the requests
//! that wait for a message of it.

use super::partition::{Exhausted, Partition};
use super::{AckMode, Consume, Delivered, Deliveries, Holder};
use crate::by_name::ByName;
use crate::consumer::Consumed;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// One topic of a group.
pub(super) struct TopicState {
    pub(super) name: Arc<str>,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) partitions: BTreeMap<i32, Partition>,
    /// The partition whose turn is next.
    turn: i32,
    pub(super) last_request: Instant,
    /// When it was first asked for, in milliseconds since 1970.
    pub(super) since: i64,
    /// Nobody wants it any more: it is left at once.
    pub(super) is_abandoned: bool,
    /// Handed out again and not counted yet.
    again: u64,
    /// What is counted, from the first message on: names of topics that do
    /// not exist come from outside, too.
    consumed: Option<Arc<Consumed>>,
}

/// A request that waits for a message.
pub(super) struct Waiting {
    pub(super) wanted: Wanted,
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Deliveries>,
}

/// What a request is for.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    max: usize,
    max_bytes: usize,
    pub(super) mode: AckMode,
    holder: Holder,
}

impl From<&Consume<'_>> for Wanted {
    fn from(request: &Consume<'_>) -> Self {
        Self {
            // A request for nothing would stand in the way of the others.
            max: request.max.max(1),
            max_bytes: request.max_bytes.max(1),
            mode: request.mode,
            holder: request.holder,
        }
    }
}

impl TopicState {
    /// `came` is when it was asked for: its group may have had to be started.
    pub(super) fn new(name: &Arc<str>, came: Instant) -> Self {
        Self {
            name: Arc::clone(name),
            waiting: VecDeque::new(),
            partitions: BTreeMap::new(),
            turn: 0,
            last_request: Instant::now(),
            since: in_milliseconds(came),
            is_abandoned: false,
            again: 0,
            consumed: None,
        }
    }

    /// Whether somebody waits for a message.
    pub(super) fn is_wanted(&mut self) -> bool {
        self.drop_gone();
        !self.waiting.is_empty()
    }

    pub(super) fn has_pending(&self) -> bool {
        self.partitions
            .values()
            .any(|partition| partition.pending() > 0)
    }

    /// Requests whose client has gone or whose time is over are no longer in
    /// anybody's way.
    pub(super) fn drop_gone(&mut self) {
        let now = Instant::now();
        self.waiting
            .retain(|waiting| !waiting.reply.is_closed() && waiting.deadline > now);
    }

    /// The next message; the partitions take turns, ascending.
    fn take(
        &mut self,
        wanted: Wanted,
        now: Instant,
        exhausted: &mut Vec<Exhausted>,
    ) -> Option<Delivered> {
        let turn = self.turn;
        for (id, partition) in self.partitions.range_mut(turn..) {
            if let Some(delivered) = partition.take(wanted.mode, wanted.holder, now, exhausted) {
                self.turn = id.wrapping_add(1);
                self.again += partition.take_again();
                return Some(delivered);
            }
        }
        for (id, partition) in self.partitions.range_mut(..turn) {
            if let Some(delivered) = partition.take(wanted.mode, wanted.holder, now, exhausted) {
                self.turn = id.wrapping_add(1);
                self.again += partition.take_again();
                return Some(delivered);
            }
        }
        None
    }

    /// As many messages as there are and a request wants.
    pub(super) fn gather(
        &mut self,
        wanted: Wanted,
        now: Instant,
        exhausted: &mut Vec<(Arc<str>, Exhausted)>,
        consumed: &ByName<Consumed>,
    ) -> Vec<Delivered> {
        let mut messages = Vec::new();
        let mut given_up = Vec::new();
        let mut bytes = 0;
        while messages.len() < wanted.max && bytes < wanted.max_bytes {
            let Some(delivered) = self.take(wanted, now, &mut given_up) else {
                break;
            };
            bytes = bytes.saturating_add(delivered.record.bytes());
            messages.push(delivered);
        }
        if !messages.is_empty() {
            let again = std::mem::take(&mut self.again);
            let own = self.consumed(consumed);
            Consumed::add(&own.messages, messages.len() as u64);
            Consumed::add(&own.bytes, bytes as u64);
            Consumed::add(&own.again, again);
        }
        let name = &self.name;
        exhausted.extend(given_up.into_iter().map(|entry| (Arc::clone(name), entry)));
        messages
    }

    /// What is counted of it, here and elsewhere.
    pub(super) fn consumed(&mut self, all: &ByName<Consumed>) -> &Consumed {
        self.consumed.get_or_insert_with(|| all.get(&self.name))
    }

    /// Takes back what has reached nobody.
    pub(super) fn release(&mut self, messages: &[Delivered], now: Instant) {
        for message in messages {
            if let Some(partition) = self.partitions.get_mut(&message.partition) {
                partition.release(message, now);
            }
        }
    }
}

/// Milliseconds since 1970.
fn in_milliseconds(then: Instant) -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let then = since.unwrap_or_default().saturating_sub(then.elapsed());
    i64::try_from(then.as_millis()).unwrap_or(0)
}
