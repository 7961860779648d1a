//! Questions of librdkafka's admin API that `rdkafka` does not offer.

use super::event::Event;
use rdkafka::bindings as sys;
use std::ffi::{c_char, c_int};
use std::ptr::NonNull;
use std::time::Duration;

/// What Kafka and librdkafka say to an argument that cannot be meant.
pub(super) const INVALID: i32 = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__INVALID_ARG as i32;

/// Asks, and blocks up to `timeout` for the answer. The error is librdkafka's
/// number.
///
/// # Safety
/// `client` is alive, `send` asks what `operation` names, with the options and
/// the queue that it gets, and `read` takes the event for its answer.
pub(super) unsafe fn ask<T>(
    client: *mut sys::rd_kafka_t,
    operation: sys::rd_kafka_admin_op_t,
    timeout: Duration,
    send: impl FnOnce(*mut sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
    read: impl FnOnce(*mut sys::rd_kafka_event_t) -> Result<T, i32>,
) -> Result<T, i32> {
    let milliseconds = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    let mut reason: [c_char; 64] = [0; 64];
    // SAFETY: the client is alive, by the caller. Options and queue are made and
    // freed here; librdkafka copies the options. The event is read while it is
    // alive, and freed before the queue.
    unsafe {
        let options = sys::rd_kafka_AdminOptions_new(client, operation);
        sys::rd_kafka_AdminOptions_set_request_timeout(
            options,
            milliseconds,
            reason.as_mut_ptr(),
            reason.len(),
        );
        let queue = sys::rd_kafka_queue_new(client);
        send(options, queue);
        sys::rd_kafka_AdminOptions_destroy(options);
        // librdkafka answers within the request's time in any case.
        let event = sys::rd_kafka_queue_poll(queue, milliseconds.saturating_add(1_000));
        let outcome = match NonNull::new(event) {
            Some(pointer) => {
                let event = Event::new(pointer);
                match event.error() {
                    0 => read(pointer.as_ptr()),
                    code => Err(code),
                }
            }
            None => Err(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__TIMED_OUT as i32),
        };
        sys::rd_kafka_queue_destroy(queue);
        outcome
    }
}
