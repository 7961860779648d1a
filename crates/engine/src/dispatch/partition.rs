//! One owned partition: what has been fetched of it, what waits for its
//! acknowledgement, what is due again.

use super::Delivered;
use super::record::ConsumedRecord;
use crate::acks::{AckPolicy, Acked, Due, Snapshot, Tracker};
use crate::error::{ErrorCode, KafkaError};
use crate::native::{MessageBox, Queue, WakeTarget};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Messages taken from librdkafka in one call.
const TAKEN_AT_ONCE: usize = 64;
/// How long a message that has been delivered too often rests while it is put
/// away.
const EXHAUSTED_PAUSE: Duration = Duration::from_secs(60);

/// Notes that messages have arrived, and wakes the group's driver.
pub(super) struct Arrivals {
    has_some: AtomicBool,
    driver: Arc<Notify>,
}

impl Arrivals {
    pub(super) fn new(driver: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            has_some: AtomicBool::new(true),
            driver,
        })
    }
}

impl WakeTarget for Arrivals {
    fn queue_has_work(&self) {
        self.has_some.store(true, Ordering::Release);
        self.driver.notify_one();
    }
}

/// Whether a partition delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Owned,
    /// It moves away: nothing more is handed out, acknowledgements count.
    Leaving,
}

/// A message that has been delivered too often.
pub(super) struct Exhausted {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) record: Arc<ConsumedRecord>,
}

/// The messages are declared before the queue, whose client frees them.
pub(super) struct Partition {
    id: i32,
    fetched: VecDeque<MessageBox>,
    queue: Queue,
    arrivals: Arc<Arrivals>,
    tracker: Tracker<Arc<ConsumedRecord>>,
    phase: Phase,
    /// Behind the last message that is known to exist.
    end: i64,
    /// Deliveries that their request acknowledges: they wait for nobody and
    /// do not count as pending.
    in_hand: usize,
}

impl Partition {
    pub(super) fn new(
        id: i32,
        queue: Queue,
        arrivals: Arc<Arrivals>,
        acked: Acked,
        end: i64,
        policy: AckPolicy,
    ) -> Self {
        Self {
            id,
            fetched: VecDeque::new(),
            queue,
            arrivals,
            tracker: Tracker::new(acked, policy),
            phase: Phase::Owned,
            end,
            in_hand: 0,
        }
    }

    pub(super) fn id(&self) -> i32 {
        self.id
    }

    pub(super) fn tracker(&mut self) -> &mut Tracker<Arc<ConsumedRecord>> {
        &mut self.tracker
    }

    /// What the next commit has to store of it, if anything.
    pub(super) fn unsaved(&self) -> Option<Snapshot> {
        self.tracker.unsaved()
    }

    pub(super) fn has_pending(&self) -> bool {
        self.tracker.pending() > 0
    }

    /// When the last delivery is given up.
    pub(super) fn last_deadline(&self) -> Option<Instant> {
        self.tracker.last_deadline()
    }

    pub(super) fn leave(&mut self) {
        self.phase = Phase::Leaving;
        self.fetched.clear();
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.phase == Phase::Leaving
    }

    pub(super) fn end(&self) -> i64 {
        self.end
    }

    pub(super) fn note_end(&mut self, end: i64) {
        self.end = self.end.max(end);
    }

    /// The message that is to be delivered next, registered as delivered.
    /// What has been delivered too often goes to `exhausted` instead.
    pub(super) fn take(
        &mut self,
        is_auto: bool,
        now: Instant,
        exhausted: &mut Vec<Exhausted>,
    ) -> Option<Delivered> {
        if self.phase == Phase::Leaving {
            return None;
        }
        let (offset, record) = self
            .take_due(now, exhausted)
            .or_else(|| self.take_new(now))?;
        if is_auto {
            self.in_hand += 1;
        }
        Some(Delivered {
            partition: self.id,
            offset,
            record,
        })
    }

    fn take_due(
        &mut self,
        now: Instant,
        exhausted: &mut Vec<Exhausted>,
    ) -> Option<(i64, Arc<ConsumedRecord>)> {
        loop {
            match self.tracker.due(now)? {
                Due::Again(offset) => {
                    let record = Arc::clone(self.tracker.redeliver(offset, now)?);
                    return Some((offset, record));
                }
                Due::Exhausted(offset) => {
                    let record = Arc::clone(self.tracker.message(offset)?);
                    self.tracker.postpone(offset, now + EXHAUSTED_PAUSE);
                    exhausted.push(Exhausted {
                        partition: self.id,
                        offset,
                        record,
                    });
                }
            }
        }
    }

    fn take_new(&mut self, now: Instant) -> Option<(i64, Arc<ConsumedRecord>)> {
        if self.tracker.is_blocked(self.in_hand) {
            return None;
        }
        loop {
            let message = self.next_fetched()?;
            let offset = message.offset();
            match KafkaError::from_raw(message.error()) {
                error if error.number() == 0 => {
                    self.note_end(offset + 1);
                    if self.tracker.meet(offset) {
                        let record = Arc::new(ConsumedRecord::copy_of(&message));
                        self.tracker.deliver(offset, Arc::clone(&record), now);
                        return Some((offset, record));
                    }
                }
                // Nothing is between the last message and the end: the
                // markers of transactions are not waited for.
                error if error.is(ErrorCode::PartitionEOF) => {
                    self.note_end(offset);
                    self.tracker.pass(offset);
                }
                _ => tracing::warn!(
                    component = self.queue.component(),
                    "{} [{}]: {}",
                    message.topic(),
                    self.id,
                    message.error_text()
                ),
            }
        }
    }

    /// Sees the end of the partition if it is next, also when nobody asks for
    /// messages: what is before it and is none shall be committed.
    pub(super) fn see_end(&mut self) {
        while let Some(message) = self.next_fetched() {
            if !KafkaError::from_raw(message.error()).is(ErrorCode::PartitionEOF) {
                self.fetched.push_front(message);
                return;
            }
            self.note_end(message.offset());
            self.tracker.pass(message.offset());
        }
    }

    fn next_fetched(&mut self) -> Option<MessageBox> {
        if self.fetched.is_empty() && self.arrivals.has_some.swap(false, Ordering::AcqRel) {
            let taken = self.queue.take_messages(TAKEN_AT_ONCE, &mut self.fetched);
            if taken > 0 {
                self.arrivals.has_some.store(true, Ordering::Release);
            }
        }
        self.fetched.pop_front()
    }

    /// Takes a delivery back that has reached nobody.
    pub(super) fn release(&mut self, offset: i64, is_auto: bool, now: Instant) {
        if is_auto {
            self.in_hand = self.in_hand.saturating_sub(1);
        }
        self.tracker.release(offset, now);
    }

    /// A request has acknowledged what it got.
    pub(super) fn settle(&mut self, offset: i64) {
        self.in_hand = self.in_hand.saturating_sub(1);
        self.tracker.ack(offset);
    }
}
