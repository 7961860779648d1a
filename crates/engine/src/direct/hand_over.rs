//! The way into librdkafka.

use super::backlog::Waiting;
use super::record::DirectRecord;
use super::tickets::{OutcomeSink, opaque_of};
use super::{DirectProducer, Refusal, Shared};
use crate::error::{ErrorCode, KafkaError};
use crate::native::{Batch, NativeTopic};
use std::cell::RefCell;
use std::sync::atomic::Ordering;

/// Records of one call to librdkafka.
const AT_ONCE: usize = 4_096;

thread_local! {
    /// Kept for the next call.
    static BATCH: RefCell<Batch> = RefCell::default();
}

impl DirectProducer {
    /// Produces values without keys to a partition, or with -1 where the
    /// partitioner wants them; says how many were taken. What finds the queue
    /// full is dropped, and everything behind it; what is too large or has no
    /// partition is dropped alone. Nothing is allocated per value.
    ///
    /// # Errors
    /// The topic's properties are refused.
    pub fn send_values<'a>(
        &self,
        topic: &str,
        partition: i32,
        values: impl Iterator<Item = Option<&'a [u8]>>,
    ) -> Result<usize, Refusal> {
        let topic = self.shared.topic(topic)?;
        let full = ErrorCode::QueueFull as i32;
        let mut values = values.peekable();
        let mut taken = 0;
        while values.peek().is_some() {
            // Before they are there: a report may come sooner than the call
            // returns.
            self.shared
                .in_client
                .fetch_add(AT_ONCE as u64, Ordering::AcqRel);
            let records = values.by_ref().take(AT_ONCE);
            let (accepted, last) = BATCH.with_borrow_mut(|batch| {
                let accepted =
                    batch.produce_to(&topic, partition, records.map(|value| (None, value, 0)));
                (accepted, batch.last_error())
            });
            self.shared
                .in_client
                .fetch_sub((AT_ONCE - accepted) as u64, Ordering::AcqRel);
            taken += accepted;
            // Behind the first that finds no room none is taken.
            if last == full {
                break;
            }
        }
        Ok(taken)
    }

    /// Produces records as [`send_values`](Self::send_values) does; what is
    /// not taken is told with its index.
    ///
    /// # Errors
    /// As there.
    pub fn send(
        &self,
        topic: &str,
        partition: i32,
        records: &[DirectRecord<'_>],
        mut refused: impl FnMut(usize, KafkaError),
    ) -> Result<usize, Refusal> {
        let topic = self.shared.topic(topic)?;
        let mut lost = 0;
        let done = hand_over(
            &self.shared,
            &topic,
            partition,
            records,
            |_| 0,
            |index, error| {
                lost += 1;
                refused(index, error);
            },
        );
        for index in done..records.len() {
            refused(index, KafkaError::from_code(ErrorCode::QueueFull));
        }
        Ok(done - lost)
    }

    /// Produces records in order and behind everything submitted before,
    /// waiting for room as long as it takes; the sink hears what became of
    /// each of them, in the order of the records. What waits is copied.
    ///
    /// # Errors
    /// As [`send_values`](Self::send_values); the sink is not called then.
    pub fn submit(
        &self,
        topic: &str,
        partition: i32,
        records: &[DirectRecord<'_>],
        sink: OutcomeSink,
    ) -> Result<(), Refusal> {
        let topic = self.shared.topic(topic)?;
        if records.is_empty() {
            sink(Vec::new());
            return Ok(());
        }
        let shared = &self.shared;
        let ticket = shared.tickets.open(records.len(), sink);
        let mut refused = Vec::new();
        {
            let mut backlog = shared.backlog.lock();
            let done = if backlog.is_empty() {
                hand_over(
                    shared,
                    &topic,
                    partition,
                    records,
                    |index| opaque_of(ticket, index),
                    |index, error| refused.push((index, error)),
                )
            } else {
                0
            };
            let rest = records.get(done..).unwrap_or_default();
            if !rest.is_empty() {
                shared
                    .waiting
                    .fetch_add(rest.len() as u64, Ordering::AcqRel);
                backlog.push(Waiting {
                    topic,
                    partition,
                    ticket,
                    next: done,
                    records: rest.iter().map(DirectRecord::to_waiting).collect(),
                });
            }
        }
        for (index, error) in refused {
            shared.tickets.refuse(ticket, index, partition, error);
        }
        // The queue may have become empty since: then no report would come.
        if shared.in_client.load(Ordering::Acquire) == 0 {
            shared.pump();
        }
        Ok(())
    }
}

/// Hands records over until one finds no room: says how many are dealt with,
/// those included that `refused` has heard of.
pub(super) fn hand_over(
    shared: &Shared,
    topic: &NativeTopic,
    partition: i32,
    records: &[DirectRecord<'_>],
    opaque: impl Fn(usize) -> usize,
    mut refused: impl FnMut(usize, KafkaError),
) -> usize {
    let mut done = 0;
    while let Some(rest) = records.get(done..)
        && let Some(first) = rest.first()
    {
        let plain = rest.iter().take(AT_ONCE);
        let count = plain.take_while(|record| record.is_plain()).count();
        let full = if count == 0 {
            one(shared, topic, partition, first, opaque(done), |error| {
                refused(done, error);
            })
        } else {
            let run = rest.get(..count).unwrap_or_default();
            batch(shared, topic, partition, run, done, &opaque, &mut refused)
        };
        match full {
            None => done += count.max(1),
            Some(index) => return done + index,
        }
    }
    done
}

/// Hands over records of key and value; the index of the first that found no
/// room.
fn batch(
    shared: &Shared,
    topic: &NativeTopic,
    partition: i32,
    records: &[DirectRecord<'_>],
    first: usize,
    opaque: &impl Fn(usize) -> usize,
    refused: &mut impl FnMut(usize, KafkaError),
) -> Option<usize> {
    let count = records.len() as u64;
    shared.in_client.fetch_add(count, Ordering::AcqRel);
    let numbered = records.iter().enumerate();
    let numbered =
        numbered.map(|(index, record)| (record.key, record.value, opaque(first + index)));
    BATCH.with_borrow_mut(|batch| {
        let accepted = batch.produce_to(topic, partition, numbered);
        let lost = count - accepted as u64;
        shared.in_client.fetch_sub(lost, Ordering::AcqRel);
        if lost == 0 {
            return None;
        }
        let full = ErrorCode::QueueFull as i32;
        for index in 0..records.len() {
            match batch.error(index) {
                0 => {}
                code if code == full => return Some(index),
                code => refused(first + index, KafkaError::from_raw(code)),
            }
        }
        None
    })
}

/// Hands over a record with all that it has; `Some(0)`: there is no room.
fn one(
    shared: &Shared,
    topic: &NativeTopic,
    partition: i32,
    record: &DirectRecord<'_>,
    opaque: usize,
    refused: impl FnOnce(KafkaError),
) -> Option<usize> {
    shared.in_client.fetch_add(1, Ordering::AcqRel);
    let code = topic.produce_one(
        Some(partition),
        record.key,
        record.value,
        &record.headers,
        record.timestamp,
        opaque,
    );
    if code == 0 {
        return None;
    }
    shared.in_client.fetch_sub(1, Ordering::AcqRel);
    let error = KafkaError::from_raw(code);
    if error.is(ErrorCode::QueueFull) {
        return Some(0);
    }
    refused(error);
    None
}
