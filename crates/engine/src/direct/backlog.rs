//! What waits for room in librdkafka's queue, in the order in which it came.

use super::record::WaitingRecord;
use super::{Shared, hand_over};
use crate::error::{ErrorCode, KafkaError};
use crate::native::NativeTopic;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A call that was not taken whole.
pub(super) struct Waiting {
    pub(super) topic: Arc<NativeTopic>,
    pub(super) partition: i32,
    pub(super) ticket: usize,
    /// The index in the call of the first record that waits.
    pub(super) next: usize,
    pub(super) records: VecDeque<WaitingRecord>,
}

/// All of them.
#[derive(Default)]
pub(super) struct Backlog {
    calls: VecDeque<Waiting>,
}

/// Records taken from the front in one go.
const AT_ONCE: usize = 1_000;

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(super) fn push(&mut self, waiting: Waiting) {
        self.calls.push_back(waiting);
    }

    pub(super) fn clear(&mut self) {
        self.calls.clear();
    }

    /// Hands over what there is room for; what was refused for good is to be
    /// told when the backlog's lock is released, and waits until then.
    pub(super) fn pump(&mut self, shared: &Shared, refused: &mut Vec<Refused>) {
        while let Some(front) = self.calls.front_mut() {
            let records: Vec<_> = front
                .records
                .iter()
                .take(AT_ONCE)
                .map(WaitingRecord::borrowed)
                .collect();
            let (ticket, partition, first) = (front.ticket, front.partition, front.next);
            let refused_before = refused.len();
            let refuse = |index: usize, error| Refused {
                ticket,
                index: first + index,
                partition,
                error,
            };
            let mut done = hand_over::hand_over(
                shared,
                &front.topic,
                partition,
                &records,
                |index| super::tickets::opaque_of(ticket, first + index),
                |index, error| refused.push(refuse(index, error)),
            );
            if done < records.len() && shared.in_client.load(Ordering::Acquire) == 0 {
                // Nothing is there that could make room: it may have gone
                // meanwhile, or the record is larger than the queue.
                let one = records.get(done..=done).unwrap_or_default();
                let taken = hand_over::hand_over(
                    shared,
                    &front.topic,
                    partition,
                    one,
                    |_| super::tickets::opaque_of(ticket, first + done),
                    |_, error| refused.push(refuse(done, error)),
                );
                if taken == 0 && shared.in_client.load(Ordering::Acquire) == 0 {
                    let full = KafkaError::from_code(ErrorCode::QueueFull);
                    refused.push(refuse(done, full));
                    done += 1;
                } else {
                    done += taken;
                }
            }
            let is_stuck = done < records.len();
            let handed_over = done - (refused.len() - refused_before);
            front.records.drain(..done);
            front.next += done;
            shared
                .waiting
                .fetch_sub(handed_over as u64, Ordering::AcqRel);
            if front.records.is_empty() {
                self.calls.pop_front();
            }
            if is_stuck {
                return;
            }
        }
    }
}

/// A record of a call that will never be taken.
pub(super) struct Refused {
    ticket: usize,
    index: usize,
    partition: i32,
    error: KafkaError,
}

impl Shared {
    /// Hands over what waits, if there is room.
    pub(super) fn pump(&self) {
        let mut refused = Vec::new();
        {
            let mut backlog = self.backlog.lock();
            if backlog.is_empty() {
                return;
            }
            backlog.pump(self, &mut refused);
        }
        self.tell(refused);
    }

    pub(super) fn tell(&self, refused: Vec<Refused>) {
        for one in refused {
            self.tickets
                .refuse(one.ticket, one.index, one.partition, one.error);
            // Behind that, because who sees that nothing waits may close.
            self.waiting.fetch_sub(1, Ordering::AcqRel);
        }
    }
}
