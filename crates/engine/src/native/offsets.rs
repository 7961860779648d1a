//! Deleting what a group has committed (KIP-496).

use super::Partitions;
use super::admin::{INVALID, ask};
use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use std::ffi::CString;
use std::ptr::NonNull;
use std::time::Duration;

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
    // SAFETY: the client outlives the call. The request is made and freed here;
    // librdkafka copies it. The result is read while the event is alive.
    unsafe {
        let client = client.native_ptr();
        let request = sys::rd_kafka_DeleteConsumerGroupOffsets_new(
            group.as_ptr(),
            list.pointer.as_ptr().cast_const(),
        );
        let request = NonNull::new(request).ok_or(INVALID)?;
        let outcome = ask(
            client,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETECONSUMERGROUPOFFSETS,
            timeout,
            |options, queue| {
                let mut requests = [request.as_ptr()];
                sys::rd_kafka_DeleteConsumerGroupOffsets(
                    client,
                    requests.as_mut_ptr(),
                    requests.len(),
                    options,
                    queue,
                );
            },
            |event| outcome(event),
        );
        sys::rd_kafka_DeleteConsumerGroupOffsets_destroy(request.as_ptr());
        outcome
    }
}

/// # Safety
/// `event` is alive, and the answer to DeleteConsumerGroupOffsets.
unsafe fn outcome(event: *mut sys::rd_kafka_event_t) -> Result<(), i32> {
    // SAFETY: the result and its parts live as long as the event; one group
    // was asked for, so that one answer is there.
    unsafe {
        let result = sys::rd_kafka_event_DeleteConsumerGroupOffsets_result(event);
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
