//! Producing: topics, batches, delivery reports, metadata.

use super::TopicId;
use super::batching::Told;
use super::metadata::slice;
use super::{Client, text};
use rdkafka::bindings as sys;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A topic as one client knows it.
pub(crate) struct NativeTopic {
    pub(super) pointer: NonNull<sys::rd_kafka_topic_t>,
    client: Arc<Client>,
    /// How many messages were handed over to it.
    taken: Arc<AtomicU64>,
    /// When its batches leave, unless that is the client's.
    pub(super) batching: Option<Told>,
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
        Self::of(pointer, client)
    }

    /// What librdkafka has made; `None` for nothing.
    pub(super) fn of(pointer: *mut sys::rd_kafka_topic_t, client: &Arc<Client>) -> Option<Self> {
        Some(Self {
            pointer: NonNull::new(pointer)?,
            client: Arc::clone(client),
            taken: Arc::default(),
            batching: None,
        })
    }

    /// With these properties in the place of the client's, in their order. The
    /// first who names a topic decides; later ones have no effect on it. The
    /// error is librdkafka's sentence.
    pub(crate) fn with_properties(
        client: &Arc<Client>,
        name: &str,
        properties: &[(String, String)],
    ) -> Result<Self, String> {
        let name = CString::new(name).map_err(|_| "holds a NUL byte".to_owned())?;
        // SAFETY: the client is alive; the configuration is a copy of the
        // client's default that belongs to the topic if one is made, and is
        // destroyed here otherwise; the text buffer's size is passed with it.
        unsafe {
            let conf = sys::rd_kafka_default_topic_conf_dup(client.pointer.as_ptr());
            let mut reason: [c_char; 512] = [0; 512];
            for (property, value) in properties {
                let refused = match (
                    CString::new(property.as_str()),
                    CString::new(value.as_str()),
                ) {
                    (Ok(property), Ok(value)) => {
                        let set = sys::rd_kafka_topic_conf_set(
                            conf,
                            property.as_ptr(),
                            value.as_ptr(),
                            reason.as_mut_ptr(),
                            reason.len(),
                        );
                        (set != sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK)
                            .then(|| text(reason.as_ptr()))
                    }
                    _ => Some("holds a NUL byte".to_owned()),
                };
                if let Some(refused) = refused {
                    sys::rd_kafka_topic_conf_destroy(conf);
                    return Err(refused);
                }
            }
            let pointer = sys::rd_kafka_topic_new(client.pointer.as_ptr(), name.as_ptr(), conf);
            Self::of(pointer, client).ok_or_else(|| {
                let code = sys::rd_kafka_last_error() as i32;
                sys::rd_kafka_topic_conf_destroy(conf);
                super::error_text(code)
            })
        }
    }

    /// Counts what is handed over to it there.
    pub(crate) fn counting(mut self, taken: Arc<AtomicU64>) -> Self {
        self.taken = taken;
        self
    }

    /// Whether it belongs to that client.
    pub(crate) fn is_of(&self, client: &Arc<Client>) -> bool {
        Arc::ptr_eq(&self.client, client)
    }

    /// The client that it belongs to.
    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    fn count(&self, messages: usize) {
        self.taken.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// Produces one message with all that a message can have. Returns the
    /// error number; 0 is none, and then `opaque` comes back in the report.
    #[allow(clippy::too_many_arguments, reason = "a record has that many parts")]
    pub(crate) fn produce_one(
        &self,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<i64>,
        opaque: usize,
    ) -> i32 {
        use sys::rd_kafka_vtype_t as V;
        type Union = sys::rd_kafka_vu_s__bindgen_ty_1;
        self.follow_batching();
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
            let none = || {
                item(
                    V::RD_KAFKA_VTYPE_END,
                    Union {
                        ptr: std::ptr::null_mut(),
                    },
                )
            };
            let mut parts = [
                item(
                    V::RD_KAFKA_VTYPE_RKT,
                    Union {
                        rkt: self.pointer.as_ptr(),
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
                timestamp.map_or_else(none, |timestamp| {
                    item(V::RD_KAFKA_VTYPE_TIMESTAMP, Union { i64_: timestamp })
                }),
                if list.is_null() {
                    none()
                } else {
                    item(V::RD_KAFKA_VTYPE_HEADERS, Union { headers: list })
                },
            ];
            if timestamp.is_none() {
                // The first end ends the list.
                parts.swap(6, 7);
            }
            let count =
                parts.len() - usize::from(timestamp.is_none()) - usize::from(list.is_null());
            let error =
                sys::rd_kafka_produceva(self.client.pointer.as_ptr(), parts.as_ptr(), count);
            if error.is_null() {
                self.count(1);
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

    /// Produces one message to a partition, without headers; nothing is
    /// allocated here. Returns the error number; 0 is none, and then `opaque`
    /// comes back in the report.
    pub(crate) fn produce(
        &self,
        partition: i32,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        opaque: usize,
    ) -> i32 {
        self.follow_batching();
        // SAFETY: the topic is alive, and COPY makes librdkafka keep its own
        // copies of key and value.
        unsafe {
            let failed = sys::rd_kafka_produce(
                self.pointer.as_ptr(),
                partition,
                sys::RD_KAFKA_MSG_F_COPY,
                value.map_or(VALUE_OF_TOMBSTONE, |value| value.as_ptr().cast_mut().cast()),
                value.map_or(0, <[u8]>::len),
                key.map_or(std::ptr::null(), |key| key.as_ptr().cast()),
                key.map_or(0, <[u8]>::len),
                std::ptr::without_provenance_mut(opaque),
            );
            if failed == 0 {
                self.count(1);
                return 0;
            }
            sys::rd_kafka_last_error() as i32
        }
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
        self.produce_to(topic, UNASSIGNED, records)
    }

    /// [`produce`](Self::produce) to one partition.
    pub(crate) fn produce_to<'a>(
        &mut self,
        topic: &NativeTopic,
        partition: i32,
        records: impl Iterator<Item = (Option<&'a [u8]>, Option<&'a [u8]>, usize)>,
    ) -> usize {
        topic.follow_batching();
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
                partition,
                sys::RD_KAFKA_MSG_F_COPY,
                self.messages.as_mut_ptr(),
                count,
            )
        };
        let taken = usize::try_from(taken).unwrap_or(0);
        topic.count(taken);
        taken
    }

    /// The error number of the last record of the last call; 0 is none.
    pub(crate) fn last_error(&self) -> i32 {
        self.messages.last().map_or(0, |message| message.err as i32)
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
        match self.message.err {
            // What is put into a partition while it ends has this error
            // (`rd_kafka_toppar_destroy_final`). It cannot mean the client: the
            // queue that the report is from holds it.
            sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__DESTROY => {
                sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION as i32
            }
            error => error as i32,
        }
    }

    /// Bytes of key and value.
    pub(crate) fn bytes(&self) -> u64 {
        self.message.len as u64 + self.message.key_len as u64
    }

    pub(crate) fn topic(&self) -> String {
        self.topic_name().to_owned()
    }

    /// Empty for what is no text: Kafka's names are ASCII.
    pub(crate) fn topic_name(&self) -> &'a str {
        if self.message.rkt.is_null() {
            return "";
        }
        // SAFETY: the topic lives as long as the report.
        let name = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.message.rkt)) };
        name.to_str().unwrap_or("")
    }

    pub(crate) fn partition(&self) -> i32 {
        self.message.partition
    }

    pub(crate) fn offset(&self) -> i64 {
        self.message.offset
    }

    /// Its key, if it has one.
    pub(crate) fn key(&self) -> Option<&'a [u8]> {
        let key = NonNull::new(self.message.key.cast::<u8>())?;
        // SAFETY: the key lives as long as the report.
        Some(unsafe { std::slice::from_raw_parts(key.as_ptr(), self.message.key_len) })
    }

    /// Its value; a tombstone has none.
    pub(crate) fn value(&self) -> Option<&'a [u8]> {
        let value = NonNull::new(self.message.payload.cast::<u8>())?;
        // SAFETY: the payload lives as long as the report.
        Some(unsafe { std::slice::from_raw_parts(value.as_ptr(), self.message.len) })
    }

    /// Whether a message that was given up may be in Kafka nevertheless.
    pub(crate) fn may_be_persisted(&self) -> bool {
        // SAFETY: the message is alive.
        let status = unsafe { sys::rd_kafka_message_status(self.message) };
        status != sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
    }

    /// Its headers, in order.
    pub(crate) fn headers(&self) -> Vec<(String, Option<Vec<u8>>)> {
        let mut found = Vec::new();
        let mut headers = std::ptr::null_mut();
        // SAFETY: the message is alive; `headers` is written.
        let error = unsafe { sys::rd_kafka_message_headers(self.message, &raw mut headers) };
        if error as i32 != 0 {
            return found;
        }
        loop {
            let mut name = std::ptr::null();
            let mut value: *const c_void = std::ptr::null();
            let mut size = 0;
            // SAFETY: the headers live as long as the message; name, value and
            // size are written together.
            unsafe {
                let error = sys::rd_kafka_header_get_all(
                    headers,
                    found.len(),
                    &raw mut name,
                    &raw mut value,
                    &raw mut size,
                );
                if error as i32 != 0 {
                    return found;
                }
                let value = NonNull::new(value.cast_mut().cast::<u8>());
                let value = value.map(|value| std::slice::from_raw_parts(value.as_ptr(), size));
                found.push((text(name), value.map(<[u8]>::to_vec)));
            }
        }
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
    /// None if the broker does not say.
    pub(crate) id: Option<TopicId>,
    pub(crate) error: i32,
    pub(crate) partitions: Vec<i32>,
    /// Which broker leads each of them; -1: none does.
    pub(crate) leaders: Vec<i32>,
    /// Those of them that nobody can be asked about now.
    pub(crate) without_leader: Vec<i32>,
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
    /// Gives up all messages that are queued or on their way: their reports
    /// come, in no order.
    pub(crate) fn give_up_messages(&self) {
        let all = sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT;
        // SAFETY: the client is alive, and a producer; the answer can only be
        // that it is none.
        unsafe { sys::rd_kafka_purge(self.pointer.as_ptr(), all) };
    }

    /// Messages whose reports have not been taken.
    pub(crate) fn undelivered(&self) -> usize {
        // SAFETY: the client is alive.
        let count = unsafe { sys::rd_kafka_outq_len(self.pointer.as_ptr()) };
        usize::try_from(count).unwrap_or(0)
    }

    /// As if it had failed for good.
    #[cfg(test)]
    pub(crate) fn fail_for_good(&self) {
        let code = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        // SAFETY: the client is alive; the text is copied.
        unsafe { sys::rd_kafka_test_fatal_error(self.pointer.as_ptr(), code, c"a test".as_ptr()) };
    }

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
                .enumerate()
                .map(|(index, topic)| TopicMetadata {
                    name: text(topic.topic),
                    id: TopicId::of(metadata, index),
                    error: topic.err as i32,
                    partitions: slice(topic.partitions, topic.partition_cnt)
                        .iter()
                        .map(|partition| partition.id)
                        .collect(),
                    leaders: slice(topic.partitions, topic.partition_cnt)
                        .iter()
                        .map(|partition| partition.leader)
                        .collect(),
                    without_leader: slice(topic.partitions, topic.partition_cnt)
                        .iter()
                        .filter(|partition| partition.leader < 0)
                        .map(|partition| partition.id)
                        .collect(),
                })
                .collect();
            sys::rd_kafka_metadata_destroy(metadata);
            Ok(topics)
        }
    }

    /// Asks the leader of a partition for its newest offset, to see whether it
    /// answers; blocks up to `timeout`. The error is a librdkafka error number.
    pub(crate) fn ask_leader(
        &self,
        topic: &str,
        partition: i32,
        timeout: Duration,
    ) -> Result<(), i32> {
        let Ok(topic) = CString::new(topic) else {
            return Err(sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__INVALID_ARG as i32);
        };
        let milliseconds = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        let (mut low, mut high) = (0_i64, 0_i64);
        // SAFETY: the client is alive, both numbers are written at most.
        let error = unsafe {
            sys::rd_kafka_query_watermark_offsets(
                self.pointer.as_ptr(),
                topic.as_ptr(),
                partition,
                &raw mut low,
                &raw mut high,
                milliseconds,
            )
        };
        match error as i32 {
            0 => Ok(()),
            code => Err(code),
        }
    }

    /// Sends what is queued without waiting for linger, and waits until all
    /// is delivered or `timeout` is over. Reports are polled elsewhere.
    pub(crate) fn flush(&self, timeout: Duration) {
        let milliseconds = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the client is alive.
        unsafe { sys::rd_kafka_flush(self.pointer.as_ptr(), milliseconds) };
    }
}
