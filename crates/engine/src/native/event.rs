//! Events polled from a queue.

use super::partitions::Partitions;
use super::producer::DeliveryReport;
use super::text;
use rdkafka::bindings as sys;
use std::ptr::NonNull;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventKind {
    DeliveryReports,
    Messages,
    Error,
    Rebalance,
    OffsetCommit,
    Statistics,
    Log,
    Other,
}

/// Owns an event.
pub(crate) struct Event {
    pointer: NonNull<sys::rd_kafka_event_t>,
}

/// Delivery reports are taken from an event this many at a time.
const REPORTS_AT_ONCE: usize = 256;

impl Event {
    pub(super) fn new(pointer: NonNull<sys::rd_kafka_event_t>) -> Self {
        Self { pointer }
    }

    pub(crate) fn kind(&self) -> EventKind {
        // SAFETY: the event is alive.
        match unsafe { sys::rd_kafka_event_type(self.pointer.as_ptr()) } {
            sys::RD_KAFKA_EVENT_DR => EventKind::DeliveryReports,
            sys::RD_KAFKA_EVENT_FETCH => EventKind::Messages,
            sys::RD_KAFKA_EVENT_ERROR => EventKind::Error,
            sys::RD_KAFKA_EVENT_REBALANCE => EventKind::Rebalance,
            sys::RD_KAFKA_EVENT_OFFSET_COMMIT => EventKind::OffsetCommit,
            sys::RD_KAFKA_EVENT_STATS => EventKind::Statistics,
            sys::RD_KAFKA_EVENT_LOG => EventKind::Log,
            _ => EventKind::Other,
        }
    }

    /// The event's error number; 0 is none.
    pub(crate) fn error(&self) -> i32 {
        // SAFETY: as above.
        unsafe { sys::rd_kafka_event_error(self.pointer.as_ptr()) as i32 }
    }

    /// The event's error as a sentence.
    pub(crate) fn error_text(&self) -> String {
        // SAFETY: as above.
        text(unsafe { sys::rd_kafka_event_error_string(self.pointer.as_ptr()) })
    }

    /// Whether the error is fatal for the client.
    pub(crate) fn is_fatal(&self) -> bool {
        // SAFETY: as above.
        unsafe { sys::rd_kafka_event_error_is_fatal(self.pointer.as_ptr()) != 0 }
    }

    /// The JSON of a statistics event.
    pub(crate) fn statistics(&self) -> String {
        // SAFETY: as above; null for other events.
        text(unsafe { sys::rd_kafka_event_stats(self.pointer.as_ptr()) })
    }

    /// Level (syslog's), facility and line of a log event.
    pub(crate) fn log_line(&self) -> Option<(i32, String, String)> {
        let (mut facility, mut line) = (std::ptr::null(), std::ptr::null());
        let mut level = 0;
        // SAFETY: the strings live as long as the event and are copied.
        unsafe {
            let found = sys::rd_kafka_event_log(
                self.pointer.as_ptr(),
                &raw mut facility,
                &raw mut line,
                &raw mut level,
            );
            (found == 0).then(|| (level, text(facility), text(line)))
        }
    }

    /// The partitions of a rebalance or commit event, copied.
    pub(crate) fn partitions(&self) -> Partitions {
        // SAFETY: the list belongs to the event and is only read.
        unsafe {
            let list = sys::rd_kafka_event_topic_partition_list(self.pointer.as_ptr());
            Partitions::copy_of(list)
        }
    }

    /// Hands each delivery report of the event to `take`.
    pub(crate) fn each_delivery(&mut self, mut take: impl FnMut(DeliveryReport<'_>)) {
        let mut messages = [std::ptr::null::<sys::rd_kafka_message_t>(); REPORTS_AT_ONCE];
        loop {
            // SAFETY: the array has the size that is passed; the messages
            // stay alive as long as the event.
            let count = unsafe {
                sys::rd_kafka_event_message_array(
                    self.pointer.as_ptr(),
                    messages.as_mut_ptr(),
                    messages.len(),
                )
            };
            for message in messages.iter().take(count) {
                // SAFETY: see above.
                take(DeliveryReport::new(unsafe { &**message }));
            }
            if count < messages.len() {
                return;
            }
        }
    }

    /// Topic, partition and offset of the first message of a fetch event.
    pub(crate) fn first_position(&self) -> Option<(String, i32, i64)> {
        // SAFETY: the message belongs to the event and is only read here.
        unsafe {
            let message = sys::rd_kafka_event_message_next(self.pointer.as_ptr()).as_ref()?;
            let topic = text(sys::rd_kafka_topic_name(message.rkt));
            Some((topic, message.partition, message.offset))
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { sys::rd_kafka_event_destroy(self.pointer.as_ptr()) };
    }
}
