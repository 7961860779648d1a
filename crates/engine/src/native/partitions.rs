//! A list of topic partitions with offsets.

use super::text;
use rdkafka::bindings as sys;
use std::ffi::CString;
use std::ptr::NonNull;

/// Owns an `rd_kafka_topic_partition_list_t`.
pub(crate) struct Partitions {
    pub(super) pointer: NonNull<sys::rd_kafka_topic_partition_list_t>,
}

// SAFETY: a plain list in memory, owned.
unsafe impl Send for Partitions {}

impl Partitions {
    pub(crate) fn new() -> Self {
        // SAFETY: no preconditions.
        Self::own(unsafe { sys::rd_kafka_topic_partition_list_new(8) })
    }

    fn own(pointer: *mut sys::rd_kafka_topic_partition_list_t) -> Self {
        let Some(pointer) = NonNull::new(pointer) else {
            // librdkafka asserts on out-of-memory instead of answering null.
            std::process::abort()
        };
        Self { pointer }
    }

    /// A copy of `list`; null reads as empty.
    ///
    /// # Safety
    /// `list` is null or a live list.
    pub(super) unsafe fn copy_of(list: *const sys::rd_kafka_topic_partition_list_t) -> Self {
        if list.is_null() {
            return Self::new();
        }
        // SAFETY: by the caller.
        Self::own(unsafe { sys::rd_kafka_topic_partition_list_copy(list) })
    }

    /// Adds a partition; the offset starts as "invalid". A topic name with a
    /// NUL byte names nothing and is left out.
    pub(crate) fn add(&mut self, topic: &str, partition: i32, offset: Option<i64>) {
        let element = self.add_element(topic, partition);
        if let (Some(element), Some(offset)) = (element, offset) {
            element.offset = offset;
        }
    }

    /// Adds a position to be committed with its metadata.
    pub(crate) fn add_with_metadata(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        metadata: &str,
    ) {
        let Some(element) = self.add_element(topic, partition) else {
            return;
        };
        element.offset = offset;
        if metadata.is_empty() {
            return;
        }
        // SAFETY: the metadata is copied into memory that librdkafka has
        // allocated and frees with the list.
        unsafe {
            let copy = sys::rd_kafka_mem_malloc(std::ptr::null_mut(), metadata.len());
            if !copy.is_null() {
                std::ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast(), metadata.len());
                element.metadata = copy;
                element.metadata_size = metadata.len();
            }
        }
    }

    fn add_element(
        &mut self,
        topic: &str,
        partition: i32,
    ) -> Option<&mut sys::rd_kafka_topic_partition_t> {
        let topic = CString::new(topic).ok()?;
        // SAFETY: the list is owned; the new element stays where it is until
        // the next call on the list, which the borrow of `self` forbids.
        unsafe {
            sys::rd_kafka_topic_partition_list_add(self.pointer.as_ptr(), topic.as_ptr(), partition)
                .as_mut()
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.elements().is_empty()
    }

    /// Everything that the elements say.
    pub(crate) fn positions(&self) -> impl Iterator<Item = StoredPosition> {
        self.elements().iter().map(|element| {
            let metadata = if element.metadata.is_null() {
                &[][..]
            } else {
                // SAFETY: librdkafka sets both together; the list is alive.
                unsafe {
                    std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size)
                }
            };
            StoredPosition {
                topic: text(element.topic),
                partition: element.partition,
                offset: element.offset,
                metadata: String::from_utf8_lossy(metadata).into_owned(),
                error: element.err as i32,
            }
        })
    }

    fn elements(&self) -> &[sys::rd_kafka_topic_partition_t] {
        // SAFETY: `elems` holds `cnt` elements while the list is unchanged,
        // which the borrow of `self` ensures.
        unsafe {
            let list = self.pointer.as_ref();
            let count = usize::try_from(list.cnt).unwrap_or(0);
            if count == 0 {
                return &[];
            }
            std::slice::from_raw_parts(list.elems, count)
        }
    }

    /// Topic and partition of each element.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (String, i32)> {
        self.elements()
            .iter()
            .map(|element| (text(element.topic), element.partition))
    }

    /// The first error among the elements, if any.
    pub(crate) fn first_error(&self) -> Option<i32> {
        self.elements()
            .iter()
            .map(|element| element.err as i32)
            .find(|code| *code != 0)
    }
}

/// One element of a list, as Kafka has answered it.
pub(crate) struct StoredPosition {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// Negative if there is none, see rdkafka.h, `RD_KAFKA_OFFSET_INVALID`.
    pub(crate) offset: i64,
    pub(crate) metadata: String,
    pub(crate) error: i32,
}

impl Drop for Partitions {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.pointer.as_ptr()) };
    }
}
