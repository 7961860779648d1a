//! What a child process writes, kept in memory as it comes.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::{Context, Result};

/// One output stream of a child. Read by a thread of its own, so that the child never blocks on a
/// full pipe.
#[derive(Clone, Debug, Default)]
pub(crate) struct Captured {
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    text: String,
    ended: bool,
}

impl Captured {
    pub(crate) fn read(stream: Option<impl Read + Send + 'static>) -> Result<Self> {
        let captured = Self::default();
        let Some(stream) = stream else {
            captured.state.0.lock().ended = true;
            return Ok(captured);
        };
        let writer = captured.clone();
        thread::Builder::new()
            .name("testkit-capture".to_owned())
            .spawn(move || writer.fill(BufReader::new(stream)))
            .context(|| "start a thread".to_owned())?;
        Ok(captured)
    }

    fn fill(&self, mut stream: impl BufRead) {
        let (state, changed) = &*self.state;
        let mut line = Vec::new();
        // An error means that the other end is gone, as the end of the stream does.
        while matches!(stream.read_until(b'\n', &mut line), Ok(1..)) {
            state.lock().text.push_str(&String::from_utf8_lossy(&line));
            changed.notify_all();
            line.clear();
        }
        state.lock().ended = true;
        changed.notify_all();
    }

    pub(crate) fn text(&self) -> String {
        self.state.0.lock().text.clone()
    }

    /// Whether the child has closed the stream, normally by ending.
    pub(crate) fn has_ended(&self) -> bool {
        self.state.0.lock().ended
    }

    /// Waits until `find` finds something in the text; `None` at the timeout or the stream's end.
    pub(crate) fn wait<T>(&self, timeout: Duration, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (state, changed) = &*self.state;
        let deadline = Instant::now() + timeout;
        let mut state = state.lock();
        loop {
            if let Some(found) = find(&state.text) {
                return Some(found);
            }
            if state.ended || changed.wait_until(&mut state, deadline).timed_out() {
                return find(&state.text);
            }
        }
    }

    pub(crate) fn wait_for_end(&self, timeout: Duration) {
        self.wait(timeout, |_| None::<()>);
    }
}
