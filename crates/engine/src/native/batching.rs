//! Linger and size of batches for one topic: librdkafka's call that only the
//! vendored one has.

use super::NativeTopic;
use crate::batching::Batching;
use rdkafka::bindings as sys;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// librdkafka's bounds of `linger.ms` and `batch.num.messages`.
const LONGEST_LINGER: Duration = Duration::from_secs(900);
const MOST_MESSAGES: u32 = 1_000_000;

unsafe extern "C" {
    /// Below 0, or below 1, is as the client has it.
    fn rd_kafka_topic_set_batching(
        topic: *mut sys::rd_kafka_topic_t,
        linger_us: i64,
        batch_num_messages: i32,
    );
}

/// What a handle has told librdkafka last.
pub(super) struct Told {
    batching: Batching,
    version: AtomicU64,
}

impl NativeTopic {
    /// Goes by what is said of its batches, now and before each message.
    pub(crate) fn batched_by(mut self, batching: &Batching) -> Self {
        self.batching = Some(Told {
            batching: batching.clone(),
            version: AtomicU64::new(0),
        });
        self.tell_batching();
        self
    }

    /// Tells librdkafka if something else is said by now.
    pub(super) fn follow_batching(&self) {
        if let Some(told) = &self.batching
            && told.version.load(Ordering::Relaxed) != told.batching.version()
        {
            self.tell_batching();
        }
    }

    #[cold]
    fn tell_batching(&self) {
        let Some(told) = &self.batching else { return };
        // SAFETY: the topic is alive; its name ends with a NUL and lives as long.
        let name = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.pointer.as_ptr())) };
        // Topics' names are ASCII.
        let name = name.to_str().unwrap_or_default();
        loop {
            let version = told.batching.version();
            let own = told.batching.of(name);
            let linger_us = own.linger.map_or(-1, |linger| {
                let linger = linger.min(LONGEST_LINGER).as_micros();
                i64::try_from(linger).unwrap_or(-1)
            });
            let messages = own.messages.map_or(0, |messages| {
                let messages = messages.clamp(1, MOST_MESSAGES);
                i32::try_from(messages).unwrap_or(0)
            });
            // SAFETY: the handle is from `rd_kafka_topic_new`; the numbers are
            // within librdkafka's bounds, so that adding a time does not overflow.
            unsafe {
                rd_kafka_topic_set_batching(self.pointer.as_ptr(), linger_us, messages);
            }
            told.version.store(version, Ordering::Relaxed);
            // Another handle of the topic may have told of newer ones before
            // these older ones.
            if told.batching.version() == version {
                return;
            }
        }
    }
}
