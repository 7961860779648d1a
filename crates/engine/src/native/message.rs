//! A consumed message.

use rdkafka::bindings as sys;
use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Whose time a record's timestamp is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampKind {
    /// The producer's.
    Create,
    /// The broker's, when it wrote the record.
    Append,
}

/// Owns a fetched message, and is nothing but its pointer (`take_batch`). It must not outlive its consumer; `Message` is
/// what users see of it, and ties it down.
#[repr(transparent)]
pub(crate) struct MessageBox {
    pointer: NonNull<sys::rd_kafka_message_t>,
}

// SAFETY: a fetched message is owned by whoever took it from the queue.
unsafe impl Send for MessageBox {}

impl MessageBox {
    pub(super) fn new(pointer: *mut sys::rd_kafka_message_t) -> Option<Self> {
        NonNull::new(pointer).map(|pointer| Self { pointer })
    }

    fn raw(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: owned and alive.
        unsafe { self.pointer.as_ref() }
    }

    /// A partition-level error that came instead of a message; 0 is none.
    pub(crate) fn error(&self) -> i32 {
        self.raw().err as i32
    }

    /// librdkafka's sentence about `error`.
    pub(crate) fn error_text(&self) -> String {
        // SAFETY: alive; the string lives as long as the message.
        super::text(unsafe { sys::rd_kafka_message_errstr(self.pointer.as_ptr()) })
    }

    pub(crate) fn topic(&self) -> &str {
        // SAFETY: the topic lives as long as the message; the name is ASCII
        // by Kafka's rules and anything else reads as unnamed.
        unsafe {
            let topic = self.raw().rkt;
            if topic.is_null() {
                return "";
            }
            CStr::from_ptr(sys::rd_kafka_topic_name(topic))
                .to_str()
                .unwrap_or("")
        }
    }

    pub(crate) fn partition(&self) -> i32 {
        self.raw().partition
    }

    pub(crate) fn offset(&self) -> i64 {
        self.raw().offset
    }

    pub(crate) fn key(&self) -> Option<&[u8]> {
        // SAFETY: key and its length belong together.
        unsafe { bytes(self.raw().key, self.raw().key_len) }
    }

    pub(crate) fn value(&self) -> Option<&[u8]> {
        // SAFETY: payload and its length belong together.
        unsafe { bytes(self.raw().payload, self.raw().len) }
    }

    pub(crate) fn timestamp(&self) -> Option<i64> {
        self.timestamp_and_kind().map(|(timestamp, _)| timestamp)
    }

    pub(crate) fn timestamp_and_kind(&self) -> Option<(i64, TimestampKind)> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: alive; `kind` is written.
        let timestamp =
            unsafe { sys::rd_kafka_message_timestamp(self.pointer.as_ptr(), &raw mut kind) };
        let kind = match kind {
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => {
                TimestampKind::Append
            }
            _ => TimestampKind::Create,
        };
        (timestamp >= 0).then_some((timestamp, kind))
    }

    pub(crate) fn header(&self, index: usize) -> Option<(&[u8], Option<&[u8]>)> {
        let mut headers: *mut sys::rd_kafka_headers_t = std::ptr::null_mut();
        let mut name: *const c_char = std::ptr::null();
        let mut value: *const c_void = std::ptr::null();
        let mut size: usize = 0;
        // SAFETY: the headers and what they point to live as long as the
        // message.
        unsafe {
            let found = sys::rd_kafka_message_headers(self.pointer.as_ptr(), &raw mut headers);
            if found as i32 != 0 {
                return None;
            }
            let found = sys::rd_kafka_header_get_all(
                headers,
                index,
                &raw mut name,
                &raw mut value,
                &raw mut size,
            );
            if found as i32 != 0 {
                return None;
            }
            Some((CStr::from_ptr(name).to_bytes(), bytes(value, size)))
        }
    }
}

impl Drop for MessageBox {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { sys::rd_kafka_message_destroy(self.pointer.as_ptr()) };
    }
}

/// # Safety
/// `pointer` is null or points to `length` bytes that live as long as `'a`.
unsafe fn bytes<'a>(pointer: *const c_void, length: usize) -> Option<&'a [u8]> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: by the caller.
    Some(unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), length) })
}

/// A message taken from a [`Consumer`](crate::Consumer). Its bytes are
/// librdkafka's own buffer, not a copy, so it borrows the consumer.
pub struct Message<'a> {
    inner: MessageBox,
    _consumer: PhantomData<&'a ()>,
}

impl Message<'_> {
    pub(crate) fn new(inner: MessageBox) -> Self {
        Self {
            inner,
            _consumer: PhantomData,
        }
    }

    /// The topic it came from.
    pub fn topic(&self) -> &str {
        self.inner.topic()
    }

    /// The partition it came from.
    pub fn partition(&self) -> i32 {
        self.inner.partition()
    }

    /// Its offset in the partition.
    pub fn offset(&self) -> i64 {
        self.inner.offset()
    }

    /// The key; `None` when the record has none.
    pub fn key(&self) -> Option<&[u8]> {
        self.inner.key()
    }

    /// The value; `None` is a tombstone.
    pub fn value(&self) -> Option<&[u8]> {
        self.inner.value()
    }

    /// Milliseconds since 1970, UTC; `None` on message format 0.
    pub fn timestamp(&self) -> Option<i64> {
        self.inner.timestamp()
    }

    /// [`timestamp`](Self::timestamp), and whose time that is.
    pub fn timestamp_and_kind(&self) -> Option<(i64, TimestampKind)> {
        self.inner.timestamp_and_kind()
    }

    /// The headers in the order they were written: name, and value or null.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        (0..).map_while(|index| self.inner.header(index))
    }
}
