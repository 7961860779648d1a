//! What is known of messages whose results somebody wants.

use crate::error::KafkaError;
use crate::native::DeliveryReport;
use parking_lot::Mutex;
use slab::Slab;

/// What became of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectOutcome {
    /// Why it was given up, or that it was not.
    pub error: Option<KafkaError>,
    /// The partition; -1 if none was found for it.
    pub partition: i32,
    /// The offset; negative if Kafka has not told.
    pub offset: i64,
    /// Milliseconds since 1970; `None` if Kafka has not told.
    pub timestamp: Option<i64>,
}

/// Takes the outcomes of all messages of one call, in their order. Called by
/// the producer's thread, or by who submits or closes: it must not wait.
pub type OutcomeSink = Box<dyn FnOnce(Vec<DirectOutcome>) + Send>;

struct Ticket {
    outcomes: Vec<Option<DirectOutcome>>,
    left: usize,
    sink: OutcomeSink,
}

/// All calls whose results are out.
#[derive(Default)]
pub(super) struct Tickets {
    slots: Mutex<Slab<Ticket>>,
}

/// Opaque numbers of messages that belong to a call have the highest bit, 31
/// bits of the call and 32 of the message in it; those of others are 0.
const IS_TICKET: usize = 1 << (usize::BITS - 1);
const INDEX_BITS: u32 = usize::BITS / 2;

/// The opaque number of a message.
pub(super) const fn opaque_of(ticket: usize, index: usize) -> usize {
    IS_TICKET | ticket << INDEX_BITS | index
}

const fn parts_of(opaque: usize) -> (usize, usize) {
    (
        (opaque & !IS_TICKET) >> INDEX_BITS,
        opaque & ((1 << INDEX_BITS) - 1),
    )
}

impl Tickets {
    /// The number of a new call with so many messages.
    pub(super) fn open(&self, messages: usize, sink: OutcomeSink) -> usize {
        self.slots.lock().insert(Ticket {
            outcomes: vec![None; messages],
            left: messages,
            sink,
        })
    }

    /// Books a delivery report; its opaque number is not 0.
    pub(super) fn report(&self, opaque: usize, report: &DeliveryReport<'_>) {
        let (ticket, index) = parts_of(opaque);
        let outcome = DirectOutcome {
            error: match report.error() {
                0 => None,
                code => Some(KafkaError::from_raw(code)),
            },
            partition: report.partition(),
            offset: report.offset(),
            timestamp: report.timestamp(),
        };
        self.settle(ticket, index, outcome);
    }

    /// A message was not taken.
    pub(super) fn refuse(&self, ticket: usize, index: usize, partition: i32, error: KafkaError) {
        let outcome = DirectOutcome {
            error: Some(error),
            partition,
            offset: -1,
            timestamp: None,
        };
        self.settle(ticket, index, outcome);
    }

    fn settle(&self, number: usize, index: usize, outcome: DirectOutcome) {
        let mut slots = self.slots.lock();
        let Some(ticket) = slots.get_mut(number) else {
            return;
        };
        let Some(slot) = ticket.outcomes.get_mut(index) else {
            return;
        };
        if slot.replace(outcome).is_none() {
            ticket.left -= 1;
        }
        if ticket.left == 0 {
            let ticket = slots.remove(number);
            drop(slots);
            ticket.end(outcome);
        }
    }

    /// Whatever has no outcome yet gets this one.
    pub(super) fn end_all(&self, error: KafkaError) {
        let tickets = std::mem::take(&mut *self.slots.lock());
        for (_, ticket) in tickets {
            ticket.end(DirectOutcome {
                error: Some(error),
                partition: -1,
                offset: -1,
                timestamp: None,
            });
        }
    }
}

impl Ticket {
    fn end(self, default: DirectOutcome) {
        let outcomes = self.outcomes.into_iter();
        (self.sink)(outcomes.map(|outcome| outcome.unwrap_or(default)).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorCode;
    use std::sync::mpsc;

    #[test]
    fn an_opaque_number_is_what_it_was_made_of_and_never_zero() {
        for parts in [(0, 0), (1, 2), ((1 << 31) - 1, (1 << 32) - 1)] {
            let opaque = opaque_of(parts.0, parts.1);
            assert_ne!(opaque, 0);
            assert_eq!(parts_of(opaque), parts);
        }
    }

    #[test]
    fn a_sink_hears_once_when_the_last_message_has_ended() {
        let tickets = Tickets::default();
        let (sender, outcomes) = mpsc::channel();
        let ticket = tickets.open(2, Box::new(move |all| sender.send(all).unwrap()));
        let error = KafkaError::from_code(ErrorCode::QueueFull);
        tickets.refuse(ticket, 1, 7, error);
        tickets.refuse(ticket, 1, 7, error);
        assert!(outcomes.try_recv().is_err());
        tickets.end_all(KafkaError::from_code(ErrorCode::BrokerDestroy));
        let all = outcomes.try_recv().unwrap();
        assert_eq!(all[1].error, Some(error));
        assert!(all[0].error.unwrap().is(ErrorCode::BrokerDestroy));
        assert!(outcomes.recv().is_err());
    }
}
