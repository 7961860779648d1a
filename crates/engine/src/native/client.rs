//! A running librdkafka client and its queues.

use super::event::Event;
use super::{Conf, Kind, text};
use crate::strategies::Picker;
use parking_lot::Mutex;
use rdkafka::bindings as sys;
use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Hears what a client's own log says, in the place of the process's log.
/// Called on librdkafka's threads, also while the client is being made: it
/// may only note the line and wake somebody.
pub(crate) trait LogTarget: Send + Sync + 'static {
    /// A line: its syslog level, librdkafka's name for its kind, its text.
    fn line(&self, level: i32, facility: &str, text: &str);
}

/// What callbacks find of a client.
pub(super) struct Component {
    /// What the log calls it.
    pub(super) name: String,
    /// Who hears its log instead.
    pub(super) log: Option<Arc<dyn LogTarget>>,
    /// Brokers that slow it down, and until when.
    throttles: Mutex<Vec<(i32, Instant)>>,
}

/// Owns an `rd_kafka_t`. Dropping it blocks until librdkafka's threads have
/// ended; a consumer is closed before, see `consumer_close_begin`.
pub(crate) struct Client {
    pub(super) pointer: NonNull<sys::rd_kafka_t>,
    /// Boxed, so that librdkafka has a pointer to it that stays valid.
    component: Box<Component>,
    /// Whom librdkafka asks for partitions, one for each topic.
    pickers: Mutex<BTreeMap<usize, Arc<Picker>>>,
}

// SAFETY: librdkafka's client functions may be called from any thread.
unsafe impl Send for Client {}
// SAFETY: as above; librdkafka locks inside.
unsafe impl Sync for Client {}

impl Client {
    /// Creates the client; the error is librdkafka's sentence. The log
    /// calls it `component`.
    pub(crate) fn new(kind: Kind, conf: Conf, component: String) -> Result<Self, String> {
        Self::create(
            kind,
            conf,
            Component {
                name: component,
                log: None,
                throttles: Mutex::default(),
            },
        )
    }

    /// [`new`](Self::new), with a log of its own.
    pub(crate) fn with_log(
        kind: Kind,
        conf: Conf,
        component: String,
        log: Arc<dyn LogTarget>,
    ) -> Result<Self, String> {
        Self::create(
            kind,
            conf,
            Component {
                name: component,
                log: Some(log),
                throttles: Mutex::default(),
            },
        )
    }

    fn create(kind: Kind, conf: Conf, component: Component) -> Result<Self, String> {
        let component = Box::new(component);
        // SAFETY: the configuration is ours; see `component_of` for the use.
        unsafe {
            let opaque: *const Component = &raw const *component;
            sys::rd_kafka_conf_set_opaque(conf.pointer.as_ptr(), opaque.cast_mut().cast());
            if kind == Kind::Producer {
                sys::rd_kafka_conf_set_throttle_cb(conf.pointer.as_ptr(), Some(is_throttled));
            }
        }
        let native_kind = match kind {
            Kind::Producer => sys::rd_kafka_type_t::RD_KAFKA_PRODUCER,
            Kind::Consumer => sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
        };
        let mut reason: [c_char; 512] = [0; 512];
        // SAFETY: on success the configuration belongs to the client, on
        // failure it stays ours (rdkafka.h, `rd_kafka_new`).
        let pointer = unsafe {
            sys::rd_kafka_new(
                native_kind,
                conf.pointer.as_ptr(),
                reason.as_mut_ptr(),
                reason.len(),
            )
        };
        match NonNull::new(pointer) {
            Some(pointer) => {
                std::mem::forget(conf);
                Ok(Self {
                    pointer,
                    component,
                    pickers: Mutex::default(),
                })
            }
            None => Err(text(reason.as_ptr())),
        }
    }

    /// Holds a topic's picker until librdkafka's threads have ended.
    pub(super) fn keep(&self, picker: &Arc<Picker>) {
        let address = Arc::as_ptr(picker).addr();
        let mut pickers = self.pickers.lock();
        pickers.entry(address).or_insert_with(|| Arc::clone(picker));
    }

    /// What the log calls the client.
    pub(crate) fn component(&self) -> &str {
        &self.component.name
    }

    /// Brokers that answer nothing on the client's connection because of a
    /// quota, and until when: by their own word, which has come through the
    /// client's main queue.
    pub(crate) fn throttles(&self) -> Vec<(i32, Instant)> {
        let mut throttles = self.component.throttles.lock();
        let now = Instant::now();
        throttles.retain(|(_, until)| *until > now);
        throttles.clone()
    }

    /// The queue that carries the client's own events.
    pub(crate) fn main_queue(self: &Arc<Self>) -> Queue {
        // SAFETY: the client is alive; the queue is a new reference.
        self.queue(unsafe { sys::rd_kafka_queue_get_main(self.pointer.as_ptr()) })
    }

    /// A new, empty queue.
    pub(crate) fn new_queue(self: &Arc<Self>) -> Queue {
        // SAFETY: as above.
        self.queue(unsafe { sys::rd_kafka_queue_new(self.pointer.as_ptr()) })
    }

    pub(super) fn queue(self: &Arc<Self>, pointer: *mut sys::rd_kafka_queue_t) -> Queue {
        let Some(pointer) = NonNull::new(pointer) else {
            // The getters answer null only for a consumer queue of a client
            // that has no group; the engine's consumers all have one.
            std::process::abort()
        };
        Queue {
            pointer,
            waker: None,
            client: Arc::clone(self),
        }
    }

    /// Lets whoever polls the main queue look up.
    pub(crate) fn wake_poll(&self) {
        // SAFETY: the queue's reference is given back at once.
        unsafe {
            let queue = sys::rd_kafka_queue_get_main(self.pointer.as_ptr());
            sys::rd_kafka_queue_yield(queue);
            sys::rd_kafka_queue_destroy(queue);
        }
    }

    /// The fatal error of the client, if one was raised.
    pub(crate) fn fatal_error(&self) -> Option<(i32, String)> {
        let mut reason: [c_char; 512] = [0; 512];
        // SAFETY: the buffer's size is passed with it.
        let code = unsafe {
            sys::rd_kafka_fatal_error(self.pointer.as_ptr(), reason.as_mut_ptr(), reason.len())
        };
        match code as i32 {
            0 => None,
            number => Some((number, text(reason.as_ptr()))),
        }
    }
}

/// Whose client it is for the log.
///
/// # Safety
/// `client` is null or one that `Client::new` makes or has made, and not
/// destroyed: its component is dropped only after that.
pub(super) unsafe fn component_of<'a>(client: *const sys::rd_kafka_t) -> Option<&'a Component> {
    if client.is_null() {
        return None;
    }
    // SAFETY: by the caller.
    unsafe {
        let component: *const Component = sys::rd_kafka_opaque(client).cast_const().cast();
        component.as_ref()
    }
}

/// A broker has slowed the client down. Called by whoever polls its main queue.
unsafe extern "C" fn is_throttled(
    _client: *mut sys::rd_kafka_t,
    _name: *const c_char,
    broker: i32,
    milliseconds: c_int,
    opaque: *mut c_void,
) {
    let time = Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0));
    // SAFETY: `opaque` is the client's component, see `Client::new`; the queue
    // that is polled holds the client.
    let component = unsafe { &*opaque.cast_const().cast::<Component>() };
    let mut throttles = component.throttles.lock();
    throttles.retain(|(known, _)| *known != broker);
    if let Some(until) = Instant::now().checked_add(time) {
        throttles.push((broker, until));
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: owned, and no queue, topic or message of it is left: each
        // holds the client by `Arc`. A consumer was closed before, or is not
        // to be closed politely any more.
        unsafe {
            sys::rd_kafka_destroy_flags(
                self.pointer.as_ptr(),
                sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE,
            );
        }
    }
}

/// What a queue tells when it has become non-empty. Called on a librdkafka
/// thread with the queue locked: it may only note the fact and wake somebody.
pub(crate) trait WakeTarget: Send + Sync + 'static {
    fn queue_has_work(&self);
}

/// Keeps the wake target of a queue alive.
pub(crate) struct QueueWaker(
    #[allow(dead_code, reason = "owned by the C side")] Arc<dyn WakeTarget>,
);

/// A reference to a librdkafka queue.
pub(crate) struct Queue {
    pub(super) pointer: NonNull<sys::rd_kafka_queue_t>,
    waker: Option<Box<QueueWaker>>,
    client: Arc<Client>,
}

// SAFETY: librdkafka's queues lock inside.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// Calls `target` each time the queue turns from empty to non-empty.
    pub(crate) fn wake(&mut self, target: Arc<dyn WakeTarget>) {
        let waker = Box::new(QueueWaker(target));
        let opaque: *const QueueWaker = &raw const *waker;
        // SAFETY: the boxed waker is kept until the callback is taken away
        // again in `drop`.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(
                self.pointer.as_ptr(),
                Some(queue_has_work),
                opaque.cast_mut().cast(),
            );
        }
        self.waker = Some(waker);
    }

    /// What the log calls the client.
    pub(crate) fn component(&self) -> &str {
        self.client.component()
    }

    /// Where the log of a partition began and ended at the last fetch of the
    /// queue's client; asks nobody.
    pub(crate) fn known_log(&self, topic: &str, partition: i32) -> (Option<i64>, Option<i64>) {
        let start = self.client.known_start(topic, partition);
        (start, self.client.known_end(topic, partition))
    }

    /// The next event, waiting at most `timeout` for one.
    pub(crate) fn poll(&self, timeout: Duration) -> Option<Event> {
        let milliseconds = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the queue is alive; the event becomes ours.
        let event = unsafe { sys::rd_kafka_queue_poll(self.pointer.as_ptr(), milliseconds) };
        NonNull::new(event).map(Event::new)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the reference is ours. The callback is removed first;
        // removal takes the queue's lock, under which the callback runs, so
        // that nobody uses the waker after it.
        unsafe {
            if self.waker.is_some() {
                sys::rd_kafka_queue_cb_event_enable(
                    self.pointer.as_ptr(),
                    None,
                    std::ptr::null_mut(),
                );
            }
            sys::rd_kafka_queue_destroy(self.pointer.as_ptr());
        }
    }
}

unsafe extern "C" fn queue_has_work(_client: *mut sys::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: `opaque` is the waker that the queue keeps, see `Queue::wake`.
    let waker = unsafe { &*opaque.cast::<QueueWaker>() };
    waker.0.queue_has_work();
}
