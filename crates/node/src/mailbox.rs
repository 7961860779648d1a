//! What waits for JavaScript.
//!
//! librdkafka's threads and the engine's put things in; JavaScript is woken
//! once, however much comes, and takes everything at once. Nothing here grows
//! without bounds while JavaScript is busy: log lines and errors beyond
//! [`KEPT`] are counted instead, statistics are replaced by newer ones,
//! deliveries are added up.

use napi::bindgen_prelude::Function;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Lines, and errors, that wait at most.
pub(crate) const KEPT: usize = 1_000;

/// A function without arguments that any thread may have called.
type Wake = ThreadsafeFunction<(), (), (), napi::Status, false>;

/// What has gathered, of a kind, and the wake-up.
pub(crate) struct Mailbox<T> {
    gathered: Mutex<T>,
    is_woken: AtomicBool,
    /// Keeps the event loop alive until it is gone.
    wake: Mutex<Option<Wake>>,
}

impl<T: Default + 'static> Mailbox<T> {
    /// An empty one; `wake` is called on the event loop when there is
    /// something to take.
    pub(crate) fn new(wake: &Function<'_, (), ()>) -> napi::Result<Self> {
        let wake = wake
            .build_threadsafe_function::<()>()
            .callee_handled::<false>()
            .build()?;
        Ok(Self {
            gathered: Mutex::default(),
            is_woken: AtomicBool::new(false),
            wake: Mutex::new(Some(wake)),
        })
    }

    /// Puts something in.
    pub(crate) fn put(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.gathered.lock());
        if !self.is_woken.swap(true, Ordering::AcqRel)
            && let Some(wake) = &*self.wake.lock()
        {
            wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    /// Takes everything.
    pub(crate) fn take(&self) -> T {
        self.is_woken.store(false, Ordering::Release);
        std::mem::take(&mut self.gathered.lock())
    }

    /// Nobody is woken any more, and nothing keeps the event loop alive.
    pub(crate) fn close(&self) {
        // Dropped without the lock: it may wait for Node.
        let _wake = self.wake.lock().take();
    }
}
