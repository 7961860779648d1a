//! Sending what is there without waiting for linger: librdkafka does so only while
//! somebody is inside its flush.

use super::Shared;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Default)]
pub(super) struct FlushState {
    pub(super) wanted_by: usize,
    pub(super) is_ending: bool,
}

/// As long as it lives, librdkafka sends without waiting for linger.
pub(crate) struct Flushing(Arc<Shared>);

impl Drop for Flushing {
    fn drop(&mut self) {
        self.0.flush.lock().wanted_by -= 1;
    }
}

impl Shared {
    /// While the guard lives, librdkafka sends without waiting for linger.
    pub(super) fn flushing(self: &Arc<Self>) -> Flushing {
        self.flush.lock().wanted_by += 1;
        self.flush_wanted.notify_one();
        Flushing(Arc::clone(self))
    }
}

/// librdkafka ignores linger only while somebody is inside its blocking
/// flush call, so a thread is, as long as anybody waits for deliveries.
pub(super) fn flush_while_wanted(shared: &Shared) {
    loop {
        {
            let mut state = shared.flush.lock();
            while state.wanted_by == 0 && !state.is_ending {
                shared.flush_wanted.wait(&mut state);
            }
            if state.is_ending {
                return;
            }
        }
        let before = Instant::now();
        shared.client.load().flush(Duration::from_millis(100));
        // An empty queue makes the call return at once, although waiting
        // records of unresolved topics may follow.
        if before.elapsed() < Duration::from_millis(1) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
