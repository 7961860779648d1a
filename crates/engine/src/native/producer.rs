//! Producing: topics, batches, delivery reports, metadata.

use super::{Client, text};
use rdkafka::bindings as sys;
use std::ffi::{CString, c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

/// A topic as one client knows it.
pub(crate) struct NativeTopic {
    pointer: NonNull<sys::rd_kafka_topic_t>,
    _client: Arc<Client>,
}

// SAFETY: librdkafka's topic objects lock inside.
unsafe impl Send for NativeTopic {}
// SAFETY: as above.
unsafe impl Sync for NativeTopic {}

impl NativeTopic {
    /// `None` when librdkafka refuses the name.
    pub(crate) fn new(client: &Arc<Client>, name: &str) -> Option<Self> {
        let name = CString::new(name).ok()?;
        // SAFETY: the client is alive; a null configuration means the
        // client's default.
        let pointer = unsafe {
            sys::rd_kafka_topic_new(client.pointer.as_ptr(), name.as_ptr(), std::ptr::null_mut())
        };
        Some(Self {
            pointer: NonNull::new(pointer)?,
            _client: Arc::clone(client),
        })
    }
}

impl Drop for NativeTopic {
    fn drop(&mut self) {
        // SAFETY: the reference is ours.
        unsafe { sys::rd_kafka_topic_destroy(self.pointer.as_ptr()) };
    }
}

/// What the payload pointer of a tombstone is: librdkafka reads null as "no
/// value", and any other pointer with length 0 as an empty one.
const VALUE_OF_TOMBSTONE: *mut c_void = std::ptr::null_mut();

/// `RD_KAFKA_PARTITION_UA`: the partitioner chooses.
const UNASSIGNED: i32 = -1;

/// Messages on their way into librdkafka in one call. Kept and reused, so
/// that producing allocates nothing here.
#[derive(Default)]
pub(crate) struct Batch {
    messages: Vec<sys::rd_kafka_message_t>,
}

impl Batch {
    /// Produces records of key, value and the opaque number that comes back
    /// with the delivery report, in order. librdkafka copies key and value.
    /// Afterwards `error(i)` tells what became of record `i`; returns how
    /// many were taken.
    pub(crate) fn produce<'a>(
        &mut self,
        topic: &NativeTopic,
        records: impl Iterator<Item = (Option<&'a [u8]>, Option<&'a [u8]>, usize)>,
    ) -> usize {
        self.messages.clear();
        self.messages
            .extend(records.map(|(key, value, opaque)| sys::rd_kafka_message_t {
                err: sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
                rkt: std::ptr::null_mut(),
                partition: UNASSIGNED,
                payload: value.map_or(VALUE_OF_TOMBSTONE, |value| value.as_ptr().cast_mut().cast()),
                len: value.map_or(0, <[u8]>::len),
                key: key.map_or(std::ptr::null_mut(), |key| key.as_ptr().cast_mut().cast()),
                key_len: key.map_or(0, <[u8]>::len),
                offset: 0,
                _private: std::ptr::without_provenance_mut(opaque),
            }));
        let count = c_int::try_from(self.messages.len()).unwrap_or(c_int::MAX);
        // SAFETY: the records outlive the call, and COPY makes librdkafka
        // keep its own copies.
        let taken = unsafe {
            sys::rd_kafka_produce_batch(
                topic.pointer.as_ptr(),
                UNASSIGNED,
                sys::RD_KAFKA_MSG_F_COPY,
                self.messages.as_mut_ptr(),
                count,
            )
        };
        usize::try_from(taken).unwrap_or(0)
    }

    /// The error number of record `index` of the last call; 0 is none.
    pub(crate) fn error(&self, index: usize) -> i32 {
        self.messages
            .get(index)
            .map_or(0, |message| message.err as i32)
    }
}

/// What became of one message.
pub(crate) struct DeliveryReport<'a> {
    message: &'a sys::rd_kafka_message_t,
}

impl<'a> DeliveryReport<'a> {
    pub(super) fn new(message: &'a sys::rd_kafka_message_t) -> Self {
        Self { message }
    }

    /// The number given when the message was produced.
    pub(crate) fn opaque(&self) -> usize {
        self.message._private.addr()
    }

    /// 0 when the broker has acknowledged it.
    pub(crate) fn error(&self) -> i32 {
        self.message.err as i32
    }

    /// Bytes of key and value.
    pub(crate) fn bytes(&self) -> u64 {
        self.message.len as u64 + self.message.key_len as u64
    }

    pub(crate) fn topic(&self) -> String {
        if self.message.rkt.is_null() {
            return String::new();
        }
        // SAFETY: the topic lives as long as the report.
        text(unsafe { sys::rd_kafka_topic_name(self.message.rkt) })
    }

    pub(crate) fn partition(&self) -> i32 {
        self.message.partition
    }

    pub(crate) fn offset(&self) -> i64 {
        self.message.offset
    }

    pub(crate) fn timestamp(&self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive; `kind` is written.
        let timestamp = unsafe { sys::rd_kafka_message_timestamp(self.message, &raw mut kind) };
        (timestamp >= 0).then_some(timestamp)
    }
}

/// One topic of a metadata answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicMetadata {
    pub(crate) name: String,
    pub(crate) error: i32,
    pub(crate) partitions: Vec<i32>,
}

/// Which topics a metadata request asks for.
pub(crate) enum TopicLookup<'a> {
    All,
    /// One topic; a broker that creates topics on use creates it.
    One(&'a NativeTopic),
    /// Every topic that there is a handle for, in the same way.
    Known,
}

impl Client {
    /// Asks a broker for metadata; blocks up to `timeout`. The error is a
    /// librdkafka error number.
    pub(crate) fn metadata(
        &self,
        lookup: &TopicLookup<'_>,
        timeout: Duration,
    ) -> Result<Vec<TopicMetadata>, i32> {
        let (all, only) = match lookup {
            TopicLookup::All => (1, std::ptr::null_mut()),
            TopicLookup::One(topic) => (0, topic.pointer.as_ptr()),
            TopicLookup::Known => (0, std::ptr::null_mut()),
        };
        let mut metadata: *const sys::rd_kafka_metadata = std::ptr::null();
        let milliseconds = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: on success `metadata` points to a tree that is ours until
        // it is destroyed below; nothing of it is kept.
        unsafe {
            let error = sys::rd_kafka_metadata(
                self.pointer.as_ptr(),
                all,
                only,
                &raw mut metadata,
                milliseconds,
            );
            if error as i32 != 0 {
                return Err(error as i32);
            }
            let Some(tree) = metadata.as_ref() else {
                return Ok(Vec::new());
            };
            let topics = slice(tree.topics, tree.topic_cnt)
                .iter()
                .map(|topic| TopicMetadata {
                    name: text(topic.topic),
                    error: topic.err as i32,
                    partitions: slice(topic.partitions, topic.partition_cnt)
                        .iter()
                        .map(|partition| partition.id)
                        .collect(),
                })
                .collect();
            sys::rd_kafka_metadata_destroy(metadata);
            Ok(topics)
        }
    }

    /// The partitions of a topic, without creating it; blocks up to
    /// `timeout`. One that does not exist has none. The error is a librdkafka
    /// error number.
    pub(crate) fn partitions_of(&self, topic: &str, timeout: Duration) -> Result<Vec<i32>, i32> {
        let topics = self.metadata(&TopicLookup::All, timeout)?;
        let found = topics.into_iter().find(|found| found.name == topic);
        Ok(found.map(|found| found.partitions).unwrap_or_default())
    }

    /// Sends what is queued without waiting for linger, and waits until all
    /// is delivered or `timeout` is over. Reports are polled elsewhere.
    pub(crate) fn flush(&self, timeout: Duration) {
        let milliseconds = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the client is alive.
        unsafe { sys::rd_kafka_flush(self.pointer.as_ptr(), milliseconds) };
    }

    /// Produces one message with all that a message can have. Returns the
    /// error number; 0 is none, and then `opaque` comes back in the report.
    #[allow(clippy::too_many_arguments, reason = "a record has that many parts")]
    pub(crate) fn produce_one(
        &self,
        topic: &NativeTopic,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<i64>,
        opaque: usize,
    ) -> i32 {
        use sys::rd_kafka_vtype_t as V;
        type Union = sys::rd_kafka_vu_s__bindgen_ty_1;
        let mem = |bytes: Option<&[u8]>| Union {
            mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
                ptr: bytes.map_or(VALUE_OF_TOMBSTONE, |bytes| bytes.as_ptr().cast_mut().cast()),
                size: bytes.map_or(0, <[u8]>::len),
            },
        };
        // SAFETY: headers are copied into a list that librdkafka takes over
        // when it accepts the message, and that is destroyed here otherwise.
        unsafe {
            let list = if headers.is_empty() {
                std::ptr::null_mut()
            } else {
                let list = sys::rd_kafka_headers_new(headers.len());
                for (name, value) in headers {
                    sys::rd_kafka_header_add(
                        list,
                        name.as_ptr().cast(),
                        isize::try_from(name.len()).unwrap_or(isize::MAX),
                        value.map_or(std::ptr::null(), |value| value.as_ptr().cast()),
                        value.map_or(0, |value| isize::try_from(value.len()).unwrap_or(0)),
                    );
                }
                list
            };
            let item = |vtype, u| sys::rd_kafka_vu_t { vtype, u };
            let mut parts = vec![
                item(
                    V::RD_KAFKA_VTYPE_RKT,
                    Union {
                        rkt: topic.pointer.as_ptr(),
                    },
                ),
                item(
                    V::RD_KAFKA_VTYPE_PARTITION,
                    Union {
                        i32_: partition.unwrap_or(UNASSIGNED),
                    },
                ),
                item(
                    V::RD_KAFKA_VTYPE_MSGFLAGS,
                    Union {
                        i: sys::RD_KAFKA_MSG_F_COPY,
                    },
                ),
                item(V::RD_KAFKA_VTYPE_VALUE, mem(value)),
                item(V::RD_KAFKA_VTYPE_KEY, mem(key)),
                item(
                    V::RD_KAFKA_VTYPE_OPAQUE,
                    Union {
                        ptr: std::ptr::without_provenance_mut(opaque),
                    },
                ),
            ];
            if let Some(timestamp) = timestamp {
                parts.push(item(V::RD_KAFKA_VTYPE_TIMESTAMP, Union { i64_: timestamp }));
            }
            if !list.is_null() {
                parts.push(item(V::RD_KAFKA_VTYPE_HEADERS, Union { headers: list }));
            }
            let error = sys::rd_kafka_produceva(self.pointer.as_ptr(), parts.as_ptr(), parts.len());
            if error.is_null() {
                return 0;
            }
            let code = sys::rd_kafka_error_code(error) as i32;
            sys::rd_kafka_error_destroy(error);
            if !list.is_null() {
                sys::rd_kafka_headers_destroy(list);
            }
            code
        }
    }
}

/// # Safety
/// `pointer` points to `count` elements that outlive `'a`, or `count` is 0.
unsafe fn slice<'a, T>(pointer: *const T, count: c_int) -> &'a [T] {
    match usize::try_from(count) {
        // SAFETY: by the caller.
        Ok(count) if count > 0 => unsafe { std::slice::from_raw_parts(pointer, count) },
        _ => &[],
    }
}
