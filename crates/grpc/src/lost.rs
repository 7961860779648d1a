//! Messages that failed after their client had been answered.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Between two lines of the log: a cluster that is down fails every message.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest name that a topic can have; a client may send a mebibyte.
const LONGEST_NAME: usize = 249;

/// Counts them for the log, which is the only one to hear of them.
#[derive(Default)]
pub(crate) struct Lost {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    unsaid: u64,
    said: Option<Instant>,
}

impl Lost {
    pub(crate) fn add(&self, topic: &str, reason: &str) {
        let count = {
            let mut state = self.state.lock();
            state.unsaid += 1;
            if state.said.is_some_and(|said| said.elapsed() < PAUSE) {
                return;
            }
            state.said = Some(Instant::now());
            std::mem::take(&mut state.unsaid)
        };
        let topic: String = topic.chars().take(LONGEST_NAME).collect();
        tracing::warn!(
            component = "grpc",
            topic,
            count,
            "Messages produced asynchronously were dropped, at last: {reason}"
        );
    }
}
