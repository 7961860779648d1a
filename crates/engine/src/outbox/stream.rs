//! The ordered messages of one partition that are not at the client yet.

use super::answers::Hearer;
use super::payload::{Header, KeptRecord, NewRecord};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Instant;

/// A message that was admitted and is kept.
pub(super) struct Held {
    pub(super) record: KeptRecord,
    pub(super) hearer: Option<Hearer>,
    pub(super) lane: u32,
    /// Which record of its payload it was.
    pub(super) index: usize,
    /// Made of others already.
    pub(super) is_massaged: bool,
    /// It was handed over before, and may be in Kafka.
    pub(super) is_doubtful: bool,
    /// Its number among all of the topic's, if it came back from a client.
    pub(super) number: Option<u64>,
    /// The caller has named its partition.
    pub(super) is_explicit: bool,
}

impl Held {
    pub(super) fn new(
        record: &NewRecord<'_>,
        index: usize,
        hearer: Option<Hearer>,
        now: Instant,
    ) -> Self {
        Self {
            record: KeptRecord::new(record, now),
            hearer,
            lane: 0,
            index,
            is_massaged: false,
            is_doubtful: false,
            number: None,
            is_explicit: record.partition.is_some(),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.record.bytes() as u64
    }
}

/// What can be handed to the client.
pub(super) trait Sendable {
    fn key(&self) -> Option<&[u8]>;
    fn value(&self) -> Option<&[u8]>;
    fn headers(&self) -> Cow<'_, [Header<'_>]>;
    fn timestamp(&self) -> Option<i64>;
    /// Neither headers nor a timestamp.
    fn is_plain(&self) -> bool;
    fn bytes(&self) -> u64;
}

impl Sendable for NewRecord<'_> {
    fn key(&self) -> Option<&[u8]> {
        self.key
    }

    fn value(&self) -> Option<&[u8]> {
        self.value
    }

    fn headers(&self) -> Cow<'_, [Header<'_>]> {
        Cow::Borrowed(self.headers)
    }

    fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }

    fn is_plain(&self) -> bool {
        Self::is_plain(self)
    }

    fn bytes(&self) -> u64 {
        Self::bytes(self) as u64
    }
}

impl Sendable for Held {
    fn key(&self) -> Option<&[u8]> {
        self.record.key()
    }

    fn value(&self) -> Option<&[u8]> {
        self.record.value()
    }

    fn headers(&self) -> Cow<'_, [Header<'_>]> {
        Cow::Owned(self.record.headers())
    }

    fn timestamp(&self) -> Option<i64> {
        self.record.timestamp()
    }

    fn is_plain(&self) -> bool {
        self.record.is_plain()
    }

    fn bytes(&self) -> u64 {
        Self::bytes(self)
    }
}

/// One partition of a topic: its batch, which all its lanes fill in order, and
/// what is known of its messages at the client.
pub(super) struct Stream {
    items: VecDeque<Held>,
    bytes: usize,
    /// How many of the items each lane has brought.
    lanes: Vec<u32>,
    /// Messages at the client that has no limit in time.
    pub(super) in_flight: usize,
    /// When something of the partition was last heard; while nothing is in
    /// flight it does not matter.
    pub(super) heard: Instant,
    /// Batches that Kafka has not answered for.
    pub(super) unanswered: usize,
    /// It did not answer in time, while this broker led it.
    pub(super) silent_under: Option<i32>,
}

impl Stream {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            items: VecDeque::new(),
            bytes: 0,
            lanes: Vec::new(),
            in_flight: 0,
            heard: now,
            unanswered: 0,
            silent_under: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When its oldest message came.
    pub(super) fn since(&self) -> Option<Instant> {
        self.items.front().map(|held| held.record.since)
    }

    /// Returns how many its lane has then.
    pub(super) fn push(&mut self, held: Held) -> u32 {
        let lane = held.lane as usize;
        if self.lanes.len() <= lane {
            self.lanes.resize(lane + 1, 0);
        }
        self.bytes += held.record.plain_bytes();
        self.items.push_back(held);
        match self.lanes.get_mut(lane) {
            Some(count) => {
                *count += 1;
                *count
            }
            None => 0,
        }
    }

    pub(super) fn pop_oldest(&mut self) -> Option<Held> {
        let held = self.items.pop_front()?;
        self.bytes -= held.record.plain_bytes();
        if let Some(count) = self.lanes.get_mut(held.lane as usize) {
            *count -= 1;
        }
        Some(held)
    }

    /// All of it, oldest first.
    pub(super) fn take(&mut self) -> Vec<Held> {
        self.bytes = 0;
        self.lanes.clear();
        std::mem::take(&mut self.items).into()
    }
}
