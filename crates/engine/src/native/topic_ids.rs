//! What tells a topic from an earlier one of its name: librdkafka's call that only the
//! vendored one has.

use rdkafka::bindings as sys;
use std::ffi::c_int;

unsafe extern "C" {
    /// Lives as long as the metadata.
    fn rd_kafka_metadata_topic_id(
        metadata: *const sys::rd_kafka_metadata,
        topic_idx: c_int,
    ) -> *const sys::rd_kafka_Uuid_t;
}

/// Kafka's id of a topic (KIP-516): one that is made again has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicId(i64, i64);

impl TopicId {
    /// Of the halves of a UUID, the more significant one first.
    pub(crate) fn new(high: i64, low: i64) -> Option<Self> {
        // Brokers that have no ids say zero.
        (high != 0 || low != 0).then_some(Self(high, low))
    }

    /// # Safety
    /// `metadata` is alive, an answer of librdkafka's, and has this many topics.
    pub(super) unsafe fn of(metadata: *const sys::rd_kafka_metadata, index: usize) -> Option<Self> {
        let index = c_int::try_from(index).ok()?;
        // SAFETY: by the caller; the id lives as long as the metadata.
        unsafe {
            let id = rd_kafka_metadata_topic_id(metadata, index);
            Self::new(
                sys::rd_kafka_Uuid_most_significant_bits(id),
                sys::rd_kafka_Uuid_least_significant_bits(id),
            )
        }
    }
}
