//! Hearing what becomes of messages.

use super::error::ProduceError;
use crate::producer::Delivery;
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What became of one record.
pub type Outcome = Result<Delivery, ProduceError>;

/// Hears what becomes of records, without a future for each.
pub trait ProduceSink: Send + Sync + 'static {
    /// Kafka's answer to the record of that number, or why it was given up.
    /// Called exactly once for each record that was admitted with this sink,
    /// by a thread that serves all: it must not wait for anything.
    fn settled(&self, number: u64, outcome: Outcome);
}

/// Who hears of a record: the sink, and the record's number there. A list is
/// counted from that number on.
pub type Hearer = (Arc<dyn ProduceSink>, u64);

/// A sink for a fixed number of records, numbered from 0.
pub struct Answers {
    state: Mutex<State>,
}

struct State {
    outcomes: Vec<Option<Outcome>>,
    missing: usize,
    done: Option<oneshot::Sender<Vec<Option<Outcome>>>>,
}

/// All of them, once the last is known.
pub struct AllAnswers(oneshot::Receiver<Vec<Option<Outcome>>>);

impl Answers {
    /// For `count` records. Dropping the second half withdraws nothing.
    pub fn new(count: usize) -> (Arc<Self>, AllAnswers) {
        let (done, all) = oneshot::channel();
        let mut state = State {
            outcomes: std::iter::repeat_with(|| None).take(count).collect(),
            missing: count,
            done: Some(done),
        };
        state.tell_if_complete();
        let answers = Self {
            state: Mutex::new(state),
        };
        (Arc::new(answers), AllAnswers(all))
    }
}

impl State {
    fn tell_if_complete(&mut self) {
        if self.missing == 0
            && let Some(done) = self.done.take()
        {
            let _ = done.send(std::mem::take(&mut self.outcomes));
        }
    }
}

impl ProduceSink for Answers {
    fn settled(&self, number: u64, outcome: Outcome) {
        let mut state = self.state.lock();
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        if let Some(slot @ None) = state.outcomes.get_mut(index) {
            *slot = Some(outcome);
            state.missing -= 1;
            state.tell_if_complete();
        }
    }
}

impl AllAnswers {
    /// One outcome per record, in order. `None` for all if the outbox has
    /// ended meanwhile.
    pub async fn all(self) -> Option<Vec<Outcome>> {
        self.0.await.ok()?.into_iter().collect()
    }
}
