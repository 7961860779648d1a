//! The thread that comes to topics when something is due: batches, limits in
//! time, replays.

use super::core::Core;
use parking_lot::{Condvar, Mutex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// When to come to which topic. A topic asks once for the next thing that is
/// due, not for each message.
#[derive(Default)]
pub(super) struct Clock {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    visits: BTreeMap<(Instant, u64), Arc<Core>>,
    count: u64,
    is_ending: bool,
}

impl Clock {
    pub(super) fn visit(&self, core: &Arc<Core>, due: Instant) {
        let mut state = self.state.lock();
        if state.is_ending {
            return;
        }
        state.count += 1;
        let key = (due, state.count);
        state.visits.insert(key, Arc::clone(core));
        if state.visits.first_key_value().map(|(first, _)| *first) == Some(key) {
            self.changed.notify_one();
        }
    }

    pub(super) fn end(&self) {
        let mut state = self.state.lock();
        state.is_ending = true;
        let visits = std::mem::take(&mut state.visits);
        self.changed.notify_one();
        drop(state);
        drop(visits);
    }

    pub(super) fn run(&self) {
        while let Some(core) = self.next() {
            core.tick(Instant::now());
        }
    }

    fn next(&self) -> Option<Arc<Core>> {
        let mut state = self.state.lock();
        loop {
            if state.is_ending {
                return None;
            }
            let first = state.visits.first_key_value().map(|((due, _), _)| *due);
            match first {
                None => self.changed.wait(&mut state),
                Some(due) if due > Instant::now() => {
                    self.changed.wait_until(&mut state, due);
                }
                Some(_) => return state.visits.pop_first().map(|(_, core)| core),
            }
        }
    }
}
