//! What only consumers do: subscribing, assignments, offsets, closing.

use super::partitions::Partitions;
use super::{Client, MessageBox, Queue, text};
use rdkafka::bindings as sys;
use std::ffi::{CStr, CString, c_int};
use std::sync::Arc;
use std::time::Duration;

/// How a group hands partitions over (KIP-429).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RebalanceProtocol {
    Eager,
    Cooperative,
}

impl Client {
    /// Redirects all of the client's events to its group queue, which is
    /// returned.
    pub(crate) fn consumer_queue(self: &Arc<Self>) -> Queue {
        // SAFETY: the client is a consumer with a group.
        unsafe {
            sys::rd_kafka_poll_set_consumer(self.pointer.as_ptr());
            self.queue(sys::rd_kafka_queue_get_consumer(self.pointer.as_ptr()))
        }
    }

    /// Makes the messages of a partition arrive on `target`. librdkafka
    /// keeps an application's redirection until the partition's fetcher
    /// stops, so it is set before each assignment.
    pub(crate) fn redirect_partition(&self, topic: &str, partition: i32, target: &Queue) {
        let Ok(topic) = CString::new(topic) else {
            return;
        };
        // SAFETY: both queues are alive; the partition's is released again.
        unsafe {
            let queue =
                sys::rd_kafka_queue_get_partition(self.pointer.as_ptr(), topic.as_ptr(), partition);
            if !queue.is_null() {
                sys::rd_kafka_queue_forward(queue, target.pointer.as_ptr());
                sys::rd_kafka_queue_destroy(queue);
            }
        }
    }

    /// Joins the group for these topics; answers an error number, 0 is none.
    pub(crate) fn subscribe(&self, topics: &Partitions) -> i32 {
        // SAFETY: the list is copied by librdkafka.
        unsafe { sys::rd_kafka_subscribe(self.pointer.as_ptr(), topics.pointer.as_ptr()) as i32 }
    }

    /// Leaves the group, keeping the client.
    pub(crate) fn unsubscribe(&self) {
        // SAFETY: the client is alive.
        unsafe { sys::rd_kafka_unsubscribe(self.pointer.as_ptr()) };
    }

    pub(crate) fn rebalance_protocol(&self) -> RebalanceProtocol {
        // SAFETY: answers a static string, or null before the first join.
        let name = text(unsafe { sys::rd_kafka_rebalance_protocol(self.pointer.as_ptr()) });
        if name == "COOPERATIVE" {
            RebalanceProtocol::Cooperative
        } else {
            RebalanceProtocol::Eager
        }
    }

    /// Whether the partitions being revoked are lost: another member may own
    /// them already, so that their offsets must not be committed.
    pub(crate) fn assignment_is_lost(&self) -> bool {
        // SAFETY: the client is alive.
        unsafe { sys::rd_kafka_assignment_lost(self.pointer.as_ptr()) != 0 }
    }

    /// Takes on partitions; the error is librdkafka's sentence.
    pub(crate) fn assign(
        &self,
        protocol: RebalanceProtocol,
        partitions: &Partitions,
    ) -> Result<(), String> {
        // SAFETY: the list is copied by librdkafka.
        unsafe {
            match protocol {
                RebalanceProtocol::Cooperative => take_error(sys::rd_kafka_incremental_assign(
                    self.pointer.as_ptr(),
                    partitions.pointer.as_ptr(),
                )),
                RebalanceProtocol::Eager => code_to_result(sys::rd_kafka_assign(
                    self.pointer.as_ptr(),
                    partitions.pointer.as_ptr(),
                ) as i32),
            }
        }
    }

    /// Gives partitions up; eager members give up all.
    pub(crate) fn unassign(
        &self,
        protocol: RebalanceProtocol,
        partitions: &Partitions,
    ) -> Result<(), String> {
        // SAFETY: as above.
        unsafe {
            match protocol {
                RebalanceProtocol::Cooperative => take_error(sys::rd_kafka_incremental_unassign(
                    self.pointer.as_ptr(),
                    partitions.pointer.as_ptr(),
                )),
                RebalanceProtocol::Eager => code_to_result(sys::rd_kafka_assign(
                    self.pointer.as_ptr(),
                    std::ptr::null(),
                ) as i32),
            }
        }
    }

    /// Stores the positions for the next commit. The error is the first one
    /// among the partitions, else that of the call; 0 is none.
    pub(crate) fn store_offsets(&self, positions: &mut Partitions) -> i32 {
        // SAFETY: the list is owned; librdkafka writes each element's error.
        let error = unsafe {
            sys::rd_kafka_offsets_store(self.pointer.as_ptr(), positions.pointer.as_ptr()) as i32
        };
        if error == 0 {
            // A partly successful call is a success for librdkafka.
            return positions.first_error().unwrap_or(0);
        }
        positions.first_error().unwrap_or(error)
    }

    /// Stores one position of a partition that is probably not assigned, of a
    /// topic that the client knows; answers an error number, 0 is none. Tells
    /// a partition that the topic does not have from one that somebody else
    /// has, and notes nothing: the call for lists would go on looking for
    /// each unknown partition.
    pub(crate) fn store_offset(&self, topic: &str, partition: i32, offset: i64) -> i32 {
        let Ok(topic) = CString::new(topic) else {
            return sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION as i32;
        };
        // SAFETY: the handle is released again.
        unsafe {
            let handle = sys::rd_kafka_topic_new(
                self.pointer.as_ptr(),
                topic.as_ptr(),
                std::ptr::null_mut(),
            );
            if handle.is_null() {
                return sys::rd_kafka_last_error() as i32;
            }
            // This call takes the offset of the message before.
            let error = sys::rd_kafka_offset_store(handle, partition, offset - 1);
            sys::rd_kafka_topic_destroy(handle);
            error as i32
        }
    }

    /// Sends a commit of exactly these positions, or of what is stored and not
    /// committed for the partitions held; the result comes as an event on
    /// `events`. Answers an error number, 0 is none.
    pub(crate) fn commit_to(&self, positions: Option<&Partitions>, events: &Queue) -> i32 {
        let positions = positions.map_or(std::ptr::null(), |list| list.pointer.as_ptr());
        // SAFETY: the list is copied by librdkafka; no callback means an event.
        unsafe {
            sys::rd_kafka_commit_queue(
                self.pointer.as_ptr(),
                positions,
                events.pointer.as_ptr(),
                None,
                std::ptr::null_mut(),
            ) as i32
        }
    }

    /// Writes into the list what the group has committed; blocks up to
    /// `timeout`. The error is a librdkafka error number.
    pub(crate) fn committed(&self, list: &mut Partitions, timeout: Duration) -> Result<(), i32> {
        // SAFETY: the list is owned and not shared during the call.
        let error = unsafe {
            sys::rd_kafka_committed(
                self.pointer.as_ptr(),
                list.pointer.as_ptr(),
                milliseconds(timeout),
            ) as i32
        };
        match (error, list.first_error()) {
            (0, None) => Ok(()),
            (0, Some(error)) | (error, _) => Err(error),
        }
    }

    /// Asks the partitions' leaders for offsets, all at once (Kafka's
    /// ListOffsets): `list` has times in place of offsets, -2 for the oldest
    /// message, -1 for the end, and gets the offsets; negative where no
    /// message is that young. Blocks. The error is librdkafka's number.
    pub(crate) fn list_offsets(&self, list: &mut Partitions, timeout: Duration) -> Result<(), i32> {
        // SAFETY: the list is owned and lives through the call.
        let error = unsafe {
            sys::rd_kafka_offsets_for_times(
                self.pointer.as_ptr(),
                list.pointer.as_ptr(),
                milliseconds(timeout),
            ) as i32
        };
        match list.first_error().unwrap_or(error) {
            0 => Ok(()),
            error => Err(error),
        }
    }

    /// The first offset kept and the next one to be written; blocks. The
    /// error is librdkafka's number.
    pub(crate) fn query_watermarks(
        &self,
        topic: &str,
        partition: i32,
        timeout: Duration,
    ) -> Result<(i64, i64), i32> {
        let unknown = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION as i32;
        let topic = CString::new(topic).map_err(|_| unknown)?;
        let (mut oldest, mut end) = (0, 0);
        // SAFETY: both numbers are written before the call returns 0.
        let error = unsafe {
            sys::rd_kafka_query_watermark_offsets(
                self.pointer.as_ptr(),
                topic.as_ptr(),
                partition,
                &raw mut oldest,
                &raw mut end,
                milliseconds(timeout),
            ) as i32
        };
        match error {
            0 => Ok((oldest, end)),
            error => Err(error),
        }
    }

    /// The end of a partition as the brokers said with the last fetch; asks
    /// nobody. `None` before that.
    pub(crate) fn known_end(&self, topic: &str, partition: i32) -> Option<i64> {
        let (_, end) = self.known_watermarks(topic, partition)?;
        (end >= 0).then_some(end)
    }

    /// Where the log of a partition began at the last fetch, in the same way.
    pub(crate) fn known_start(&self, topic: &str, partition: i32) -> Option<i64> {
        let (start, _) = self.known_watermarks(topic, partition)?;
        (start >= 0).then_some(start)
    }

    /// Negative numbers stand for what is not known.
    fn known_watermarks(&self, topic: &str, partition: i32) -> Option<(i64, i64)> {
        let topic = CString::new(topic).ok()?;
        let (mut oldest, mut end) = (-1, -1);
        // SAFETY: both numbers are written before the call returns 0.
        let error = unsafe {
            sys::rd_kafka_get_watermark_offsets(
                self.pointer.as_ptr(),
                topic.as_ptr(),
                partition,
                &raw mut oldest,
                &raw mut end,
            ) as i32
        };
        (error == 0).then_some((oldest, end))
    }

    /// Lets partitions that stay deliver while others move away. librdkafka
    /// pauses every partition for the time of a rebalance, which lasts here
    /// until what moves away has been acknowledged, and offers no call that
    /// lifts that. Whatever is not paused is left as it is.
    pub(crate) fn go_on_fetching(&self, list: &Partitions) {
        /// `RD_KAFKA_TOPPAR_F_LIB_PAUSE`: the pauses that are librdkafka's own.
        const BY_THE_LIBRARY: c_int = 0x20;
        unsafe extern "C" {
            // Not in its public header, but in the library that is linked
            // here; a test notices if a new version changes it.
            fn rd_kafka_toppars_pause_resume(
                client: *mut sys::rd_kafka_t,
                pause: u8,
                is_asynchronous: c_int,
                whose: c_int,
                partitions: *mut sys::rd_kafka_topic_partition_list_t,
            ) -> sys::rd_kafka_resp_err_t;
        }
        // SAFETY: both are alive; librdkafka reads the list, writes each
        // element's error into it and keeps nothing of it. It may be called
        // by any thread.
        unsafe {
            rd_kafka_toppars_pause_resume(
                self.pointer.as_ptr(),
                0,
                1,
                BY_THE_LIBRARY,
                list.pointer.as_ptr(),
            );
        }
    }

    /// Moves the fetchers of assigned partitions to the offsets in the list
    /// and waits for that; blocks up to `timeout`.
    pub(crate) fn seek_all(&self, list: &Partitions, timeout: Duration) -> Result<(), String> {
        // SAFETY: the list is owned and lives through the call.
        unsafe {
            take_error(sys::rd_kafka_seek_partitions(
                self.pointer.as_ptr(),
                list.pointer.as_ptr(),
                milliseconds(timeout),
            ))?;
        }
        match list.first_error() {
            None => Ok(()),
            Some(code) => Err(crate::error::KafkaError::from_raw(code).to_string()),
        }
    }

    /// Moves the fetcher of an assigned partition; does not wait for it.
    pub(crate) fn seek(&self, topic: &str, partition: i32, offset: i64) {
        let mut position = Partitions::new();
        position.add(topic, partition, Some(offset));
        // SAFETY: the list is owned; a time-out of 0 does not wait.
        unsafe {
            let error =
                sys::rd_kafka_seek_partitions(self.pointer.as_ptr(), position.pointer.as_ptr(), 0);
            let _ = take_error(error);
        }
    }

    /// Begins to commit and leave; what happens comes as events on `events`,
    /// which must be polled until `consumer_is_closed`.
    pub(crate) fn consumer_close_begin(&self, events: &Queue) -> Result<(), String> {
        // SAFETY: both are alive.
        unsafe {
            take_error(sys::rd_kafka_consumer_close_queue(
                self.pointer.as_ptr(),
                events.pointer.as_ptr(),
            ))
        }
    }

    pub(crate) fn consumer_is_closed(&self) -> bool {
        // SAFETY: alive.
        unsafe { sys::rd_kafka_consumer_closed(self.pointer.as_ptr()) != 0 }
    }
}

impl Queue {
    /// Takes up to `limit` messages that have already arrived.
    ///
    /// One by one: librdkafka's call for many (`rd_kafka_consume_batch_queue`)
    /// also counts the end of a partition as a message. It would go on one
    /// offset too far after the next rebalance, which pauses every partition
    /// for a moment, and leave out what has come there.
    pub(crate) fn take_messages(&self, limit: usize, take: &mut impl Extend<MessageBox>) -> usize {
        let mut count = 0;
        take.extend(std::iter::from_fn(|| {
            if count == limit {
                return None;
            }
            // SAFETY: the queue is alive; the message becomes ours.
            let message = unsafe { sys::rd_kafka_consume_queue(self.pointer.as_ptr(), 0) };
            let message = MessageBox::new(message)?;
            count += 1;
            Some(message)
        }));
        count
    }
}

fn milliseconds(timeout: Duration) -> c_int {
    c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX)
}

/// # Safety
/// `error` is null or an error object that becomes ours.
unsafe fn take_error(error: *mut sys::rd_kafka_error_t) -> Result<(), String> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: by the caller.
    unsafe {
        let reason = CStr::from_ptr(sys::rd_kafka_error_string(error))
            .to_string_lossy()
            .into_owned();
        sys::rd_kafka_error_destroy(error);
        Err(reason)
    }
}

fn code_to_result(code: i32) -> Result<(), String> {
    match code {
        0 => Ok(()),
        code => Err(super::error_text(code)),
    }
}
