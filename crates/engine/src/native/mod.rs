//! The only place that talks to librdkafka's C API.
//!
//! Everything `unsafe` of the engine is in this folder: each type owns one C
//! object, frees it once, and offers a safe call for each use the engine
//! makes of it. The `rdkafka` crate's own consumer and producer are not used
//! because they hand over one message at a time and keep rebalances behind
//! fetched messages; its bindings, error codes, mock cluster and admin client
//! are.
#![allow(
    unsafe_code,
    reason = "the boundary to librdkafka; each block argues its safety"
)]

mod batching;
mod client;
mod conf;
mod consumer;
mod event;
mod message;
mod metadata;
mod offsets;
mod partitioner;
mod partitions;
mod producer;
mod simple;
mod topic_ids;

pub(crate) use client::{Client, LogTarget, Queue, WakeTarget};
pub(crate) use conf::{Conf, Kind, known_properties};
pub(crate) use consumer::RebalanceProtocol;
pub(crate) use event::{Event, EventKind};
pub use message::Message;
pub(crate) use message::MessageBox;
pub use message::TimestampKind;
pub use metadata::{BrokerAddress, ClusterView, PartitionPlace, TopicPlaces};
pub(crate) use offsets::delete_group_offsets;
pub(crate) use partitioner::{Builtin, KeyHash, Readiness, TopicPartitions, hashed_partition};
pub(crate) use partitions::Partitions;
pub(crate) use producer::{Batch, DeliveryReport, NativeTopic, TopicLookup, TopicMetadata};
pub(crate) use topic_ids::TopicId;

use std::ffi::{CStr, c_char};

/// Copies a C string; null reads as empty.
fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return String::new();
    }
    // SAFETY: librdkafka's strings are NUL-terminated and live at least as
    // long as the call that handed them out.
    unsafe { CStr::from_ptr(pointer) }
        .to_string_lossy()
        .into_owned()
}

/// The version of the librdkafka that is linked in, e.g. `2.12.1`.
pub fn librdkafka_version() -> String {
    // SAFETY: no arguments; returns a static string.
    text(unsafe { rdkafka::bindings::rd_kafka_version_str() })
}

/// librdkafka's text for an error number.
pub(crate) fn error_text(code: i32) -> String {
    // SAFETY: `rd_kafka_err2str` takes any value of the C enum and answers
    // `Err-<n>?` for those it does not know; the value is passed as the
    // integer that it is in C.
    let describe: unsafe extern "C" fn(i32) -> *const c_char = unsafe {
        std::mem::transmute::<
            unsafe extern "C" fn(rdkafka::types::RDKafkaRespErr) -> *const c_char,
            unsafe extern "C" fn(i32) -> *const c_char,
        >(rdkafka::bindings::rd_kafka_err2str)
    };
    // SAFETY: see above; the result is a static or thread-local string.
    text(unsafe { describe(code) })
}
