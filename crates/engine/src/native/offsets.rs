//! Deleting what a group has committed (KIP-496), which `rdkafka` does not
//! offer.

use super::Partitions;
use super::event::Event;
use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use std::ffi::{CString, c_char, c_int};
use std::ptr::NonNull;
use std::time::Duration;

/// What Kafka and librdkafka say to an argument that cannot be meant.
const INVALID: i32 = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__INVALID_ARG as i32;

/// Deletes the offsets that a group has committed on partitions of a topic;
/// blocks up to `timeout`. The error is a librdkafka error number, of one of
/// the partitions if they differ.
pub(crate) fn delete_group_offsets<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    topic: &str,
    partitions: &[i32],
    timeout: Duration,
) -> Result<(), i32> {
    let group = CString::new(group).map_err(|_| INVALID)?;
    let mut list = Partitions::new();
    for partition in partitions {
        list.add(topic, *partition, None);
    }
    let milliseconds = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: the client outlives the call. Request, options and queue are
    // made and freed here; librdkafka copies the first two, and the event is
    // freed before the queue. The results are read while the event is alive.
    unsafe {
        let client = client.native_ptr();
        let request = sys::rd_kafka_DeleteConsumerGroupOffsets_new(
            group.as_ptr(),
            list.pointer.as_ptr().cast_const(),
        );
        let Some(request) = NonNull::new(request) else {
            return Err(INVALID);
        };
        let options = sys::rd_kafka_AdminOptions_new(
            client,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETECONSUMERGROUPOFFSETS,
        );
        let mut reason: [c_char; 64] = [0; 64];
        sys::rd_kafka_AdminOptions_set_request_timeout(
            options,
            milliseconds,
            reason.as_mut_ptr(),
            reason.len(),
        );
        let queue = sys::rd_kafka_queue_new(client);
        let mut requests = [request.as_ptr()];
        sys::rd_kafka_DeleteConsumerGroupOffsets(
            client,
            requests.as_mut_ptr(),
            requests.len(),
            options,
            queue,
        );
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_DeleteConsumerGroupOffsets_destroy(request.as_ptr());
        // librdkafka answers within the request's time in any case.
        let event = sys::rd_kafka_queue_poll(queue, milliseconds.saturating_add(1_000));
        let outcome = match NonNull::new(event) {
            Some(pointer) => outcome(&Event::new(pointer), pointer.as_ptr()),
            None => Err(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TIMED_OUT as i32),
        };
        sys::rd_kafka_queue_destroy(queue);
        outcome
    }
}

/// # Safety
/// `pointer` is that of `event`.
unsafe fn outcome(event: &Event, pointer: *mut sys::rd_kafka_event_t) -> Result<(), i32> {
    if event.error() != 0 {
        return Err(event.error());
    }
    // SAFETY: the result and its parts live as long as the event; one group
    // was asked for, so that one answer is there.
    unsafe {
        let result = sys::rd_kafka_event_DeleteConsumerGroupOffsets_result(pointer);
        if result.is_null() {
            return Err(INVALID);
        }
        let mut count = 0;
        let groups = sys::rd_kafka_DeleteConsumerGroupOffsets_result_groups(result, &raw mut count);
        if groups.is_null() || count == 0 {
            return Err(INVALID);
        }
        let group = *groups;
        let error = sys::rd_kafka_group_result_error(group);
        if !error.is_null() {
            return Err(sys::rd_kafka_error_code(error) as i32);
        }
        let partitions = Partitions::copy_of(sys::rd_kafka_group_result_partitions(group));
        match partitions.first_error() {
            Some(code) => Err(code),
            None => Ok(()),
        }
    }
}
