//! One owned partition: what has been fetched of it, what waits for its
//! acknowledgement, what is due again.

use super::question::Question;
use super::record::ConsumedRecord;
use super::{AckMode, Delivered, Holder};
use crate::acks::{AckPolicy, Acked, Due, Snapshot, Tracker};
use crate::error::{ErrorCode, KafkaError};
use crate::native::{MessageBox, Queue, TopicId, WakeTarget};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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
    /// It is to begin elsewhere: nothing is handed out until it does.
    Held,
    /// It moves away: nothing more is handed out, acknowledgements count.
    Leaving,
}

/// A message that has been delivered too often.
pub(super) struct Exhausted {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) record: Arc<ConsumedRecord>,
}

/// A message and who has it.
#[derive(Debug)]
pub(super) struct Delivery {
    record: Arc<ConsumedRecord>,
    /// Of this delivery; whoever speaks of an earlier one is not heard.
    number: u64,
    holder: Holder,
    /// Its request acknowledges it: it counts in `in_hand`.
    is_in_hand: bool,
    /// Its client has it.
    is_confirmed: bool,
    /// It was delivered too often, and somebody keeps it now.
    is_being_put_away: bool,
}

/// What a partition was before it was told to begin elsewhere.
struct Before {
    tracker: Tracker<Delivery>,
    end: i64,
    read: i64,
    in_hand: usize,
}

/// A number that no delivery of this process has had.
fn next_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// The messages are declared before the queue, whose client frees them.
pub(super) struct Partition {
    id: i32,
    /// Of which topic it was when it began.
    topic_id: Option<TopicId>,
    fetched: VecDeque<MessageBox>,
    queue: Queue,
    arrivals: Arc<Arrivals>,
    tracker: Tracker<Delivery>,
    phase: Phase,
    /// While the fetcher is on its way to where it is to begin.
    before: Option<Box<Before>>,
    /// Behind the last message that is known to exist.
    end: i64,
    /// Behind the last message that was read; at first where reading begins. An
    /// earlier one comes from another log.
    read: i64,
    /// What Kafka knows of that.
    end_question: Arc<Question>,
    /// Deliveries that their request acknowledges: they wait for nobody and
    /// do not count as pending.
    in_hand: usize,
    /// Handed out again since that was asked for last.
    again: u64,
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
        let tracker = Tracker::new(acked, policy);
        Self {
            id,
            topic_id: None,
            fetched: VecDeque::new(),
            queue,
            arrivals,
            phase: Phase::Owned,
            before: None,
            end,
            read: tracker.expected().min(end),
            tracker,
            end_question: Arc::default(),
            in_hand: 0,
            again: 0,
        }
    }

    pub(super) fn id(&self) -> i32 {
        self.id
    }

    /// It begins in that topic.
    pub(super) fn is_of(&mut self, topic: Option<TopicId>) {
        self.topic_id = topic;
    }

    pub(super) fn topic_id(&self) -> Option<TopicId> {
        self.topic_id
    }

    pub(super) fn tracker(&mut self) -> &mut Tracker<Delivery> {
        &mut self.tracker
    }

    /// What the next commit has to store of it, if anything.
    pub(super) fn unsaved(&self) -> Option<Snapshot> {
        self.tracker.unsaved()
    }

    pub(super) fn pending(&self) -> usize {
        self.tracker.pending()
    }

    /// How many messages were handed out again since this was asked last.
    pub(super) fn take_again(&mut self) -> u64 {
        std::mem::take(&mut self.again)
    }

    /// The first offset that is not acknowledged.
    pub(super) fn first_unacknowledged(&self) -> i64 {
        self.tracker.acked().committed()
    }

    /// What a holder has got and not acknowledged.
    pub(super) fn held_by(&self, holder: Holder) -> impl Iterator<Item = Delivered> {
        self.tracker
            .messages()
            .filter(move |(_, delivery)| delivery.holder == holder && !delivery.is_in_hand)
            .map(|(offset, delivery)| Delivered {
                partition: self.id,
                offset,
                number: delivery.number,
                record: Arc::clone(&delivery.record),
            })
    }

    /// Who has got a message and not acknowledged it.
    pub(super) fn holder_of(&self, offset: i64) -> Option<Holder> {
        Some(self.tracker.message(offset)?.holder)
    }

    /// What a holder has not acknowledged, or everybody, is due at once. What
    /// is still on its way to its client is not: it comes back by itself if
    /// it does not get there.
    pub(super) fn give_back(&mut self, holder: Option<Holder>, now: Instant) {
        let held = self.tracker.messages().filter(|(_, delivery)| {
            let is_meant = holder.is_none_or(|holder| delivery.holder == holder);
            is_meant && delivery.is_confirmed && !delivery.is_being_put_away
        });
        let held: Vec<i64> = held.map(|(offset, _)| offset).collect();
        for offset in held {
            self.tracker.postpone(offset, now);
            if let Some(delivery) = self.tracker.message_mut(offset) {
                delivery.holder = Holder::NOBODY;
            }
        }
    }

    /// When the last delivery is given up.
    pub(super) fn last_deadline(&self) -> Option<Instant> {
        self.tracker.last_deadline()
    }

    pub(super) fn leave(&mut self) {
        self.phase = Phase::Leaving;
        self.before = None;
        self.fetched.clear();
    }

    /// Hands out nothing until it goes on.
    pub(super) fn hold(&mut self) {
        if self.phase == Phase::Owned {
            self.phase = Phase::Held;
        }
    }

    /// As if it had not been held.
    pub(super) fn go_on(&mut self) {
        if self.phase == Phase::Held {
            self.phase = Phase::Owned;
        }
    }

    /// Kafka has stored that it begins elsewhere: from now on that is what
    /// counts, also for a commit that comes before the fetcher is there, or for
    /// the last one of a partition that moves away meanwhile.
    pub(super) fn begin_at(&mut self, acked: Acked, end: i64, policy: AckPolicy) {
        if self.phase == Phase::Owned {
            // It has gone and come back: it has begun as its new owner does.
            return;
        }
        let tracker = Tracker::new(acked, policy);
        let before = Before {
            end: std::mem::replace(&mut self.end, end),
            read: std::mem::replace(&mut self.read, tracker.expected().min(end)),
            tracker: std::mem::replace(&mut self.tracker, tracker),
            in_hand: std::mem::take(&mut self.in_hand),
        };
        self.before = self.is_held().then(|| Box::new(before));
    }

    /// The fetcher is where it was told to begin, and gives nothing more of
    /// what came before.
    pub(super) fn has_moved(&mut self) {
        if self.before.take().is_some() {
            self.fetched.clear();
            self.go_on();
        }
    }

    /// It goes on where it was. What Kafka has stored may be another position:
    /// its own is stored again.
    pub(super) fn has_not_moved(&mut self) {
        if let Some(before) = self.before.take() {
            let before = *before;
            self.tracker = before.tracker;
            self.end = before.end;
            self.read = before.read;
            self.in_hand = before.in_hand;
        }
        self.tracker.unsave();
        self.go_on();
    }

    pub(super) fn is_held(&self) -> bool {
        self.phase == Phase::Held
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.phase == Phase::Leaving
    }

    pub(super) fn end(&self) -> i64 {
        self.end
    }

    pub(super) fn end_question(&self) -> Arc<Question> {
        Arc::clone(&self.end_question)
    }

    pub(super) fn note_end(&mut self, end: i64) {
        self.end = self.end.max(end);
    }

    /// The message that is to be delivered next, registered as delivered.
    /// What has been delivered too often goes to `exhausted` instead.
    pub(super) fn take(
        &mut self,
        mode: AckMode,
        holder: Holder,
        now: Instant,
        exhausted: &mut Vec<Exhausted>,
    ) -> Option<Delivered> {
        if self.phase != Phase::Owned {
            return None;
        }
        let (offset, record) = match self.take_due(now, exhausted) {
            Some(again) => {
                self.again += 1;
                again
            }
            None => self.take_new()?,
        };
        let delivery = Delivery {
            record: Arc::clone(&record),
            number: next_number(),
            holder,
            is_in_hand: mode == AckMode::Auto,
            is_confirmed: false,
            is_being_put_away: false,
        };
        let number = delivery.number;
        self.in_hand += usize::from(delivery.is_in_hand);
        match self.tracker.redeliver(offset, now) {
            Some(before) => {
                self.in_hand -= usize::from(before.is_in_hand);
                *before = delivery;
            }
            None => self.tracker.deliver(offset, delivery, now),
        }
        Some(Delivered {
            partition: self.id,
            offset,
            number,
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
                    let delivery = self.tracker.message(offset)?;
                    return Some((offset, Arc::clone(&delivery.record)));
                }
                Due::Exhausted(offset) => {
                    self.tracker.postpone(offset, now + EXHAUSTED_PAUSE);
                    let delivery = self.tracker.message_mut(offset)?;
                    if !std::mem::replace(&mut delivery.is_being_put_away, true) {
                        exhausted.push(Exhausted {
                            partition: self.id,
                            offset,
                            record: Arc::clone(&delivery.record),
                        });
                    }
                }
            }
        }
    }

    fn take_new(&mut self) -> Option<(i64, Arc<ConsumedRecord>)> {
        if self.tracker.is_blocked(self.in_hand) {
            return None;
        }
        loop {
            let message = self.next_fetched()?;
            let offset = message.offset();
            match KafkaError::from_raw(message.error()) {
                error if error.number() == 0 => {
                    if offset < self.read {
                        self.look_back(message.topic(), offset);
                    }
                    self.read = self.read.max(offset + 1);
                    self.note_end(offset + 1);
                    if self.tracker.meet(offset) {
                        return Some((offset, Arc::new(ConsumedRecord::copy_of(&message))));
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

    /// Kafka gives an offset that it had passed: the topic was deleted and made
    /// again, or an unclean leader has less of it, and librdkafka has begun
    /// where the log does. The old log's acknowledgements say nothing about it.
    fn look_back(&mut self, topic: &str, offset: i64) {
        let (start, end) = self.queue.known_log(topic, self.id);
        let read = self.read;
        if start != Some(offset) && end.is_none_or(|end| read <= end) {
            return;
        }
        tracing::warn!(
            component = self.queue.component(),
            "{topic} [{}] has another log, read from {offset} on; the old one was read up to \
             {read}",
            self.id,
        );
        self.tracker.begin_again(offset);
        self.read = offset;
        self.in_hand = 0;
        self.end = offset;
    }

    /// Sees the end of the partition if it is next, also when nobody asks for
    /// messages: what is before it and is none shall be committed.
    pub(super) fn see_end(&mut self) {
        if self.phase != Phase::Owned {
            return;
        }
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

    /// What is known of a delivery, if it is still the last one of its
    /// message.
    fn current(&mut self, delivered: &Delivered) -> Option<&mut Delivery> {
        let found = self.tracker.message_mut(delivered.offset)?;
        (found.number == delivered.number).then_some(found)
    }

    /// Takes a delivery back that has reached nobody.
    pub(super) fn release(&mut self, delivered: &Delivered, now: Instant) {
        let Some(delivery) = self.current(delivered) else {
            return;
        };
        delivery.holder = Holder::NOBODY;
        let was_in_hand = std::mem::take(&mut delivery.is_in_hand);
        self.in_hand -= usize::from(was_in_hand);
        self.tracker.release(delivered.offset, now);
    }

    /// A delivery has reached its client. With [`AckMode::Auto`] that
    /// acknowledges it; true if it was not before.
    pub(super) fn confirm(&mut self, delivered: &Delivered, now: Instant) -> bool {
        let Some(delivery) = self.current(delivered) else {
            return false;
        };
        delivery.is_confirmed = true;
        if delivery.is_in_hand {
            return self.ack(delivered.offset);
        }
        self.tracker.reached(delivered.offset, now);
        false
    }

    /// Acknowledges a message; false if it was already.
    pub(super) fn ack(&mut self, offset: i64) -> bool {
        let (is_new, gone) = self.tracker.ack(offset);
        let was_in_hand = gone.is_some_and(|delivery| delivery.is_in_hand);
        self.in_hand -= usize::from(was_in_hand);
        is_new
    }

    /// Whoever was to keep a message that was delivered too often has it, or
    /// could not take it and is to be asked again then.
    pub(super) fn put_away(&mut self, offset: i64, again: Option<Instant>) {
        let Some(again) = again else {
            self.ack(offset);
            return;
        };
        if let Some(delivery) = self.tracker.message_mut(offset) {
            delivery.is_being_put_away = false;
        }
        self.tracker.postpone(offset, again);
    }
}
