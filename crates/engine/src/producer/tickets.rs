//! Those who wait for the fates of messages: one for a single message, or one
//! for many.

use super::delivery::count;
use super::renewal::reason_of;
use super::{Delivery, DeliverySink, Record, Shared, Undelivered};
use crate::error::{Error, KafkaError};
use crate::native::DeliveryReport;
use parking_lot::Mutex;
use slab::Slab;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Bits of an opaque number that tell a ticket's from others.
const KIND_BITS: u32 = 2;
const KIND: usize = 1;
const INDEX_BITS: u32 = 20;
/// How many messages a ticket can be for.
pub(super) const INDICES: usize = 1 << INDEX_BITS;
/// Deliveries are told in so many at a time at the most.
const TOLD_AT_ONCE: usize = 512;

/// Somebody who waits.
pub(super) enum Ticket {
    /// For one message.
    One(oneshot::Sender<Result<Delivery, Error>>),
    /// For messages with numbers from `first` on, of which `left` have no
    /// report yet.
    Sink {
        sink: Arc<dyn DeliverySink>,
        first: u64,
        left: usize,
    },
}

/// All of a producer.
#[derive(Default)]
pub(super) struct Tickets(Mutex<Slab<Ticket>>);

impl Tickets {
    pub(super) fn insert(&self, ticket: Ticket) -> usize {
        self.0.lock().insert(ticket)
    }

    /// So many of its messages need nobody any more.
    pub(super) fn forget(&self, number: usize, messages: usize) {
        let ended = {
            let mut tickets = self.0.lock();
            match tickets.get_mut(number) {
                Some(Ticket::Sink { left, .. }) if *left > messages => {
                    *left -= messages;
                    None
                }
                _ => tickets.try_remove(number),
            }
        };
        // Its end may be that of whoever waits, which must not come with the
        // lock held.
        drop(ended);
    }

    /// Takes out what ends with its next message.
    fn open(&self, number: usize) -> Opened {
        let mut tickets = self.0.lock();
        match tickets.get(number) {
            None => Opened::Nobody,
            Some(Ticket::Sink { sink, first, left }) if *left > 1 => {
                Opened::Sink(Arc::clone(sink), *first, true)
            }
            Some(_) => match tickets.remove(number) {
                Ticket::One(waiting) => Opened::One(waiting),
                Ticket::Sink { sink, first, .. } => Opened::Sink(sink, first, false),
            },
        }
    }
}

/// Who has the ticket of a report.
#[derive(Default)]
enum Opened {
    #[default]
    Nobody,
    One(oneshot::Sender<Result<Delivery, Error>>),
    /// The last field: the ticket is still there.
    Sink(Arc<dyn DeliverySink>, u64, bool),
}

/// The opaque number of a message: which one of which ticket. The index is
/// below [`INDICES`].
pub(super) const fn opaque(ticket: usize, index: usize) -> usize {
    (ticket << INDEX_BITS | index) << KIND_BITS | KIND
}

/// Ticket and index, if the number is that of a ticket's message.
pub(super) const fn parts(opaque: usize) -> Option<(usize, usize)> {
    if opaque & ((1 << KIND_BITS) - 1) != KIND {
        return None;
    }
    let number = opaque >> KIND_BITS;
    Some((number >> INDEX_BITS, number & (INDICES - 1)))
}

/// A record that Kafka has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its number as it was submitted.
    pub number: u64,
    /// Bytes of its key and value.
    pub bytes: u64,
    /// Where it is.
    pub delivery: Delivery,
}

/// Where the delivery thread collects neighbouring reports of one ticket, which
/// are told together.
#[derive(Default)]
pub(super) struct Answers {
    ticket: usize,
    holder: Opened,
    messages: usize,
    failed: u64,
    stored: Vec<Stored>,
}

impl Answers {
    pub(super) fn add(
        &mut self,
        shared: &Shared,
        (ticket, index): (usize, usize),
        report: &DeliveryReport<'_>,
    ) {
        if self.messages == 0 || self.ticket != ticket {
            self.tell(shared);
            self.ticket = ticket;
            self.holder = shared.tickets.open(ticket);
        }
        self.messages += 1;
        let result = match report.error() {
            0 => Ok(Delivery {
                partition: report.partition(),
                offset: report.offset(),
                timestamp: report.timestamp(),
            }),
            code => Err(reason_of(KafkaError::from_raw(code))),
        };
        self.failed += u64::from(result.is_err());
        match (&self.holder, result) {
            (Opened::Nobody, _) => {}
            (Opened::One(_), result) => {
                let holder = std::mem::take(&mut self.holder);
                self.tell(shared);
                if let Opened::One(waiting) = holder {
                    // The one who waited may have gone.
                    let _ = waiting.send(result.map_err(Error::from));
                }
            }
            (Opened::Sink(_, first, _), Ok(delivery)) => {
                self.stored.push(Stored {
                    number: first + index as u64,
                    bytes: report.bytes(),
                    delivery,
                });
                if self.stored.len() >= TOLD_AT_ONCE {
                    self.tell(shared);
                }
            }
            (Opened::Sink(sink, first, _), Err(error)) => {
                let (sink, number) = (Arc::clone(sink), first + index as u64);
                self.tell(shared);
                let undelivered = Undelivered {
                    topic: &report.topic(),
                    error,
                    record: Record {
                        key: report.key(),
                        value: report.value(),
                    },
                    may_be_persisted: report.may_be_persisted(),
                };
                sink.settled(number, report.bytes(), Err(undelivered));
            }
        }
    }

    /// Tells of what is collected: first to the producer's counters, so that
    /// whoever hears of a message finds it counted.
    pub(super) fn tell(&mut self, shared: &Shared) {
        let messages = std::mem::take(&mut self.messages);
        if messages == 0 {
            return;
        }
        let failed = std::mem::take(&mut self.failed);
        count(shared, messages as u64 - failed, failed);
        if let Opened::Sink(sink, _, is_there) = std::mem::take(&mut self.holder) {
            if is_there {
                shared.tickets.forget(self.ticket, messages);
            }
            if !self.stored.is_empty() {
                sink.stored(&self.stored);
                self.stored.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opaque_number_tells_ticket_and_index() {
        for ticket in [0, 1, 7, 1 << 40] {
            for index in [0, 1, INDICES - 1] {
                assert_eq!(parts(opaque(ticket, index)), Some((ticket, index)));
            }
        }
        assert_eq!(parts(super::super::opaque_of_slot(5)), None);
    }

    struct Nobody;

    impl DeliverySink for Nobody {
        fn settled(&self, _: u64, _: u64, _: Result<Delivery, Undelivered<'_>>) {}
    }

    #[test]
    fn a_ticket_is_there_until_its_last_message() {
        let tickets = Tickets::default();
        let many = tickets.insert(Ticket::Sink {
            sink: Arc::new(Nobody),
            first: 10,
            left: 5,
        });
        assert!(matches!(tickets.open(many), Opened::Sink(_, 10, true)));
        tickets.forget(many, 2);
        tickets.forget(many, 2);
        assert!(matches!(tickets.open(many), Opened::Sink(_, 10, false)));
        assert!(matches!(tickets.open(many), Opened::Nobody));
        let refused = tickets.insert(Ticket::Sink {
            sink: Arc::new(Nobody),
            first: 0,
            left: 2,
        });
        tickets.forget(refused, 2);
        assert!(matches!(tickets.open(refused), Opened::Nobody));
        let (waiting, _answer) = oneshot::channel();
        let one = tickets.insert(Ticket::One(waiting));
        assert!(matches!(tickets.open(one), Opened::One(_)));
        assert!(tickets.0.lock().is_empty());
    }
}
