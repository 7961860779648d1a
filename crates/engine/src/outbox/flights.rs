//! Messages at the client, and what their reports mean.

use super::answers::{Hearer, Outcome};
use super::core::{After, Core, Inner, Reach};
use super::error::{Dropped, ProduceError};
use super::events::Happening;
use crate::error::{ErrorCode, KafkaError};
use crate::producer::{Delivery, Receiver, Report, Run};
use std::sync::Arc;
use std::time::Instant;

/// Messages that were handed over together and of which somebody wants to
/// know.
pub(super) struct Flight {
    partition: i32,
    /// At the client with a limit in time.
    pub(super) is_limited: bool,
    pub(super) is_batch: bool,
    pub(super) hearers: Hearers,
    /// When it was handed over; tells it from a later one in its place.
    pub(super) since: Instant,
    /// The number of its first message among all of the topic's.
    first: u64,
    messages: usize,
    /// Neither delivered nor given up.
    left: usize,
    failed: usize,
    error: Option<KafkaError>,
    bytes: u64,
}

/// Who hears of a flight's messages.
pub(super) enum Hearers {
    Nobody,
    /// One hears of all, by number; the first is that of its payload.
    Counted(Hearer, usize),
    /// Each message has its own, with its index in its payload.
    Each(Vec<Option<(Hearer, usize)>>),
}

impl Flight {
    pub(super) fn new(partition: i32, is_limited: bool, first: u64, now: Instant) -> Self {
        Self {
            partition,
            is_limited,
            is_batch: false,
            hearers: Hearers::Nobody,
            since: now,
            first,
            messages: 0,
            left: 0,
            failed: 0,
            error: None,
            bytes: 0,
        }
    }

    /// Stands for messages of which nobody wants to know.
    pub(super) fn nobodys(now: Instant) -> Self {
        Self::new(-1, false, 0, now)
    }

    /// Notes what was handed over.
    pub(super) fn charge(&mut self, messages: usize, bytes: u64) {
        self.messages = messages;
        self.left = messages;
        self.bytes = bytes;
    }

    /// A message is not of the flight any more. Returns its number among all of
    /// the topic's.
    pub(super) fn take_out(&mut self, index: usize, bytes: u64) -> u64 {
        self.messages = self.messages.saturating_sub(1);
        self.left = self.left.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        self.first + index as u64
    }

    /// Where it goes.
    pub(super) fn partition(&self) -> i32 {
        self.partition
    }

    pub(super) fn hearer(&mut self, index: usize) -> Option<(Hearer, usize)> {
        match &mut self.hearers {
            Hearers::Nobody => None,
            Hearers::Counted((sink, number), first) => {
                let hearer = (Arc::clone(sink), *number + index as u64);
                Some((hearer, *first + index))
            }
            Hearers::Each(all) => all.get_mut(index).and_then(Option::take),
        }
    }
}

/// Called by the delivery thread of each client.
impl Receiver for Core {
    fn settled(&self, run: &mut Run) {
        let mut after = After::default();
        {
            let mut inner = self.inner.lock();
            let inner = &mut *inner;
            inner.take_back(self, run);
            if run.messages == 0 && run.group == 0 {
                // All of it was given back.
            } else if run.group == 0 {
                inner.book(self, run, false);
                self.parts.budget.give_back(run.messages, run.bytes);
            } else {
                inner.settle_flight(self, run, &mut after);
            }
        }
        after.run();
    }
}

impl Inner {
    /// Counts messages that are not at the client any more.
    fn book(&mut self, core: &Core, run: &Run, is_limited: bool) {
        self.in_flight = self.in_flight.saturating_sub(run.messages);
        if run.group == 0 {
            self.plain_in_flight = self.plain_in_flight.saturating_sub(run.messages);
        }
        self.counts.delivered += run.messages.saturating_sub(run.failed) as u64;
        if run.failed > 0 && !is_limited {
            let reason = Dropped::Refused;
            self.count_dropped(core, reason, run.failed);
            let slot = self.ring.slot_of(run.partition);
            let records = Vec::new();
            core.announce(self, slot, || Happening::Dropped { reason, records });
            if run.error.is_some_and(KafkaError::is_unknown_topic) {
                self.lose(core);
            } else {
                self.doubt(core);
            }
        }
        if self.reach == Reach::Down && run.failed == 0 {
            // Kafka is back.
            self.asked = None;
            core.parts.monitor.wake();
        }
        if is_limited {
            return;
        }
        let Some(slot) = self.ring.slot_of(run.partition) else {
            return;
        };
        let Some(stream) = self.streams.get_mut(slot) else {
            return;
        };
        stream.in_flight = stream.in_flight.saturating_sub(run.messages);
        stream.heard = Instant::now();
        if stream.silent_under.take().is_some() {
            // It answers again; the monitor makes that known.
            core.parts.monitor.wake();
        }
    }

    fn settle_flight(&mut self, core: &Core, run: &Run, after: &mut After) {
        let Some(flight) = self.flights.get_mut(run.group) else {
            return;
        };
        let is_limited = flight.is_limited;
        flight.left = flight.left.saturating_sub(run.messages);
        flight.failed += run.failed;
        flight.error = run.error.or(flight.error);
        let is_over = flight.left == 0;
        for report in &run.reports {
            let Some(flight) = self.flights.get_mut(run.group) else {
                break;
            };
            if let Some((hearer, index)) = flight.hearer(report.index) {
                after.tell(Some(hearer), || {
                    self.outcome(core, run.partition, index, report)
                });
            }
        }
        if run.messages > 0 {
            self.book(core, run, is_limited);
        }
        if !is_over {
            return;
        }
        let flight = self.flights.remove(run.group);
        core.parts.budget.give_back(flight.messages, flight.bytes);
        if flight.is_batch {
            let slot = self.ring.slot_of(flight.partition);
            let mut unanswered = 0;
            if let Some(stream) = slot.and_then(|slot| self.streams.get_mut(slot)) {
                stream.unanswered = stream.unanswered.saturating_sub(1);
                unanswered = stream.unanswered;
            }
            if flight.messages == 0 {
                // Another client is to send all of it.
                return;
            }
            core.announce(self, slot, || Happening::FlushedReplied {
                messages: flight.messages,
                failed: flight.failed,
                error: flight.error,
                duration: flight.since.elapsed(),
                unanswered,
            });
        }
    }

    fn outcome(&self, core: &Core, partition: i32, index: usize, report: &Report) -> Outcome {
        let Some(error) = report.error else {
            return Ok(Delivery {
                partition,
                offset: report.offset,
                timestamp: report.timestamp,
            });
        };
        let at = core.place(index, Some(partition));
        let is_late = error.is(ErrorCode::MessageTimedOut);
        Err(if is_late && report.may_be_persisted {
            ProduceError::PossiblyPersisted { at }
        } else if is_late && self.reach != Reach::Open {
            let last = Arc::clone(&self.last_error);
            ProduceError::Downtime { at, last }
        } else if is_late {
            ProduceError::Timeout { at }
        } else {
            core.failed(error, index, Some(partition))
        })
    }
}
