//! What consumers do that belong to no group: they are told where to begin.
//!
//! librdkafka's simple consumer, because its other one needs a group, and asks
//! for that group's coordinator even if nothing is ever committed.

use super::{Client, MessageBox, NativeTopic, Queue};
use rdkafka::bindings as sys;

impl NativeTopic {
    /// Begins to fetch a partition from `offset`, which may be one of
    /// librdkafka's negative positions, into `target`. Answers an error
    /// number, 0 is none.
    pub(crate) fn start_fetching(&self, partition: i32, offset: i64, target: &Queue) -> i32 {
        // SAFETY: topic and queue are alive.
        unsafe {
            let failed = sys::rd_kafka_consume_start_queue(
                self.pointer.as_ptr(),
                partition,
                offset,
                target.pointer.as_ptr(),
            );
            match failed {
                0 => 0,
                _ => sys::rd_kafka_last_error() as i32,
            }
        }
    }

    /// Ends that, and waits until librdkafka's own thread has seen it, which
    /// asks no broker.
    pub(crate) fn stop_fetching(&self, partition: i32) {
        // SAFETY: alive; a partition that was not started is refused.
        unsafe { sys::rd_kafka_consume_stop(self.pointer.as_ptr(), partition) };
    }
}

impl Client {
    /// Makes log lines arrive on `target` as events, those that were written
    /// since the client began included. It must have `log.queue`.
    pub(crate) fn log_to(&self, target: &Queue) {
        // SAFETY: both are alive.
        unsafe { sys::rd_kafka_set_log_queue(self.pointer.as_ptr(), target.pointer.as_ptr()) };
    }
}

impl Queue {
    /// Takes up to `limit` messages that have already arrived, in one call;
    /// see `take_messages` for why only queues whose partitions are never
    /// paused may be asked in this way. Returns how many came.
    pub(crate) fn take_batch(&self, limit: usize, take: &mut Vec<MessageBox>) -> usize {
        // A message's owner is its pointer and nothing else.
        const _: () = assert!(size_of::<MessageBox>() == size_of::<*mut sys::rd_kafka_message_t>());
        take.reserve(limit);
        let room = take.spare_capacity_mut();
        let limit = limit.min(room.len());
        // SAFETY: the queue is alive; there is room for `limit` pointers.
        let count = unsafe {
            sys::rd_kafka_consume_batch_queue(
                self.pointer.as_ptr(),
                0,
                room.as_mut_ptr().cast(),
                limit,
            )
        };
        let count = usize::try_from(count).unwrap_or(0).min(limit);
        // SAFETY: librdkafka has written that many pointers, none of them
        // null, to messages that are ours now.
        unsafe { take.set_len(take.len() + count) };
        count
    }
}
