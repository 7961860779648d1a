//! What tells a topic from an earlier one of its name.

use super::admin::{INVALID, ask};
use super::{Client, text};
use rdkafka::bindings as sys;
use std::collections::HashMap;
use std::ffi::CString;
use std::ptr::NonNull;
use std::time::Duration;

/// Kafka's id of a topic (KIP-516): one that is made again has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicId(i64, i64);

impl TopicId {
    /// Of the halves of a UUID, the more significant one first.
    pub(crate) fn new(high: i64, low: i64) -> Self {
        Self(high, low)
    }
}

impl Client {
    /// The ids of topics, by name; blocks up to `timeout`. What does not exist,
    /// and what has no id with an older broker, is left out. The error is
    /// librdkafka's number.
    pub(crate) fn topic_ids<'a>(
        &self,
        topics: impl IntoIterator<Item = &'a str>,
        timeout: Duration,
    ) -> Result<HashMap<String, TopicId>, i32> {
        let names: Result<Vec<CString>, _> = topics.into_iter().map(CString::new).collect();
        let names = names.map_err(|_| INVALID)?;
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
        let client = self.pointer.as_ptr();
        // SAFETY: the client and the names live through the call; librdkafka copies
        // the collection. The descriptions live as long as the event.
        unsafe {
            let collection =
                sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            let collection = NonNull::new(collection).ok_or(INVALID)?;
            let found = ask(
                client,
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
                timeout,
                |options, queue| {
                    sys::rd_kafka_DescribeTopics(client, collection.as_ptr(), options, queue);
                },
                |event| read(event),
            );
            sys::rd_kafka_TopicCollection_destroy(collection.as_ptr());
            found
        }
    }
}

/// # Safety
/// `event` is alive, and the answer to DescribeTopics.
unsafe fn read(event: *mut sys::rd_kafka_event_t) -> Result<HashMap<String, TopicId>, i32> {
    // SAFETY: by the caller; the result has as many descriptions as it says, and
    // they and their parts live as long as the event.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(INVALID);
        }
        let mut count = 0;
        let descriptions = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if descriptions.is_null() || count == 0 {
            return Ok(HashMap::new());
        }
        let descriptions = std::slice::from_raw_parts(descriptions, count);
        let ids = descriptions.iter().filter_map(|description| {
            let id = sys::rd_kafka_TopicDescription_topic_id(*description);
            let error = sys::rd_kafka_TopicDescription_error(*description);
            let is_found = error.is_null() || sys::rd_kafka_error_code(error) as i32 == 0;
            if id.is_null() || !is_found {
                return None;
            }
            let id = TopicId::new(
                sys::rd_kafka_Uuid_most_significant_bits(id),
                sys::rd_kafka_Uuid_least_significant_bits(id),
            );
            let name = text(sys::rd_kafka_TopicDescription_name(*description));
            // Zero is none.
            (id != TopicId::new(0, 0)).then_some((name, id))
        });
        Ok(ids.collect())
    }
}
