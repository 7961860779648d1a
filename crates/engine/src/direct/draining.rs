//! Sending what is outstanding without waiting for linger.
//!
//! librdkafka ignores linger only while somebody is inside its flush: a thread
//! is, for as long as anybody drains. It stays when nothing is outstanding,
//! because whoever drains may send on.

use super::{DirectProducer, Shared};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long one flush of librdkafka lasts.
const FLUSH: Duration = Duration::from_millis(100);
/// Pause between two that had nothing to wait for.
const PAUSE: Duration = Duration::from_millis(1);
/// How often something to flush is looked for while there is nothing. Senders
/// need not know of this thread.
const LOOK: Duration = Duration::from_millis(10);

/// Who drains.
#[derive(Default)]
pub(super) struct Drains {
    state: Mutex<State>,
    /// Told to the thread.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    guards: usize,
    is_flushing: bool,
    /// The last one, to be waited for when the producer ends.
    thread: Option<JoinHandle<()>>,
}

/// While it lives, what is outstanding is sent without waiting for linger.
pub struct Draining(Arc<Shared>);

impl Drop for Draining {
    fn drop(&mut self) {
        self.0.drains.state.lock().guards -= 1;
        self.0.drains.changed.notify_one();
    }
}

impl DirectProducer {
    /// Lets messages leave without waiting for linger while the guard lives;
    /// the observer hears whenever nothing is outstanding.
    ///
    /// # Errors
    /// There are no more threads to be had.
    pub fn drain(&self) -> std::io::Result<Draining> {
        let mut state = self.shared.drains.state.lock();
        if state.is_flushing {
            // Who begins to drain is told, also if that was so before.
            if self.shared.outstanding() == 0 {
                self.shared.observer.drained();
            }
        } else {
            let shared = Arc::clone(&self.shared);
            if let Some(ended) = state.thread.take() {
                let _ = ended.join();
            }
            let flush = std::thread::Builder::new().name("direct-flush".to_owned());
            state.thread = Some(flush.spawn(move || shared.flush_while_draining())?);
            state.is_flushing = true;
        }
        // Before the thread looks, which the lock keeps waiting.
        state.guards += 1;
        Ok(Draining(Arc::clone(&self.shared)))
    }
}

impl Shared {
    /// Whether somebody wants to hear that nothing is outstanding.
    pub(super) fn is_drained(&self) -> bool {
        self.drains.state.lock().guards > 0 && self.outstanding() == 0
    }

    /// Waits for the thread, which is inside a flush at most.
    pub(super) fn end_drains(&self) {
        self.drains.changed.notify_one();
        let thread = self.drains.state.lock().thread.take();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }

    fn flush_while_draining(&self) {
        let mut is_told = false;
        loop {
            {
                let mut state = self.drains.state.lock();
                if state.guards == 0 || self.is_ending.load(Ordering::Acquire) {
                    state.is_flushing = false;
                    return;
                }
                if is_told && self.outstanding() == 0 {
                    self.drains.changed.wait_for(&mut state, LOOK);
                    continue;
                }
            }
            is_told = self.outstanding() == 0;
            if is_told {
                // Perhaps nobody else has seen it: there was nothing from the
                // start, or the last ones were refused.
                self.observer.drained();
                continue;
            }
            let before = Instant::now();
            self.client.flush(FLUSH);
            // It returns at once while the last reports are being booked.
            if before.elapsed() < PAUSE {
                std::thread::sleep(PAUSE);
            }
        }
    }
}
