//! What becomes of the records of one request.

use super::super::Problem;
use barnabas_engine::{Delivery, DeliverySink, Error, Undelivered};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Notify;

/// Failures that a reply names; further ones are counted.
const NAMED: usize = 1_000;

/// Hears of each record by its index.
pub(super) struct Outcomes {
    state: Mutex<State>,
    settled: Notify,
}

#[derive(Default)]
struct State {
    /// Handed over, and not heard of.
    outstanding: u64,
    written: u64,
    refused: u64,
    /// One of those that were refused may be in Kafka nevertheless.
    is_doubtful: bool,
    /// Where each is, if the reply says so.
    places: Option<Vec<Option<Delivery>>>,
    failures: Vec<(u64, Problem)>,
}

impl Outcomes {
    /// With places, the reply has one entry for each record.
    pub(super) fn new(has_places: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                places: has_places.then(Vec::new),
                ..State::default()
            }),
            settled: Notify::new(),
        })
    }

    /// One comes.
    pub(super) fn expect(&self) {
        self.state.lock().outstanding += 1;
    }

    /// It was not taken.
    pub(super) fn refuse(&self, index: u64, problem: Problem) {
        let mut state = self.state.lock();
        state.outstanding -= 1;
        state.fail(index, problem);
    }

    /// It is in the journal.
    pub(super) fn accept(&self) {
        self.state.lock().outstanding -= 1;
    }

    /// Resolves when all that were handed over are settled.
    pub(super) async fn all_settled(&self) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if self.state.lock().outstanding == 0 {
                return;
            }
            settled.await;
        }
    }

    /// Whether any was refused so far.
    pub(super) fn has_refused(&self) -> bool {
        self.state.lock().refused > 0
    }

    /// Whether any of `count` is, or may be, in Kafka or on its way there.
    pub(super) fn has_effect(&self, count: u64) -> bool {
        let state = self.state.lock();
        state.refused < count || state.is_doubtful
    }

    /// How many of `count` there are of each kind, and why some failed.
    pub(super) fn counts(&self, count: u64) -> Value {
        let mut state = self.state.lock();
        state.failures.sort_by_key(|(index, _)| *index);
        let errors: Vec<Value> = state
            .failures
            .iter()
            .map(|(index, problem)| {
                let mut shown = failure(problem);
                if let Some(members) = shown.as_object_mut() {
                    members.insert("line".to_owned(), (index + 1).into());
                }
                shown
            })
            .collect();
        json!({
            "records": count,
            "written": state.written,
            "accepted": count - state.refused - state.written,
            "refused": state.refused,
            "errors": errors,
        })
    }

    /// That of the only record.
    pub(super) fn only(&self) -> Result<Value, Problem> {
        let mut state = self.state.lock();
        if let Some((_, problem)) = state.failures.pop() {
            return Err(problem);
        }
        let place = state.places.as_ref().and_then(|places| *places.first()?);
        place.map(written).ok_or_else(|| Error::Closed.into())
    }

    /// A result for each of `count` records, in order.
    pub(super) fn each(&self, count: u64) -> Value {
        let state = self.state.lock();
        let place = |index: u64| {
            let places = state.places.as_ref()?;
            *places.get(usize::try_from(index).ok()?)?
        };
        let mut results: Vec<Value> = (0..count)
            .map(|index| place(index).map_or_else(|| json!({"result": "accepted"}), written))
            .collect();
        for (index, problem) in &state.failures {
            let found = usize::try_from(*index).ok();
            if let Some(result) = found.and_then(|index| results.get_mut(index)) {
                *result = failure(problem);
            }
        }
        results.into()
    }
}

impl State {
    fn fail(&mut self, index: u64, problem: Problem) {
        self.refused += 1;
        if self.places.is_some() || self.failures.len() < NAMED {
            self.failures.push((index, problem));
        }
    }
}

impl DeliverySink for Outcomes {
    fn settled(&self, number: u64, _: u64, result: Result<Delivery, Undelivered<'_>>) {
        let mut state = self.state.lock();
        state.outstanding -= 1;
        match result {
            Ok(delivery) => {
                state.written += 1;
                if let (Some(places), Ok(index)) = (&mut state.places, usize::try_from(number)) {
                    if places.len() <= index {
                        places.resize(index + 1, None);
                    }
                    if let Some(place) = places.get_mut(index) {
                        *place = Some(delivery);
                    }
                }
            }
            Err(undelivered) => {
                state.is_doubtful |= undelivered.may_be_persisted;
                let error = Error::from(undelivered.error);
                state.fail(number, Problem::from(&error));
            }
        }
        if state.outstanding == 0 {
            drop(state);
            self.settled.notify_waiters();
        }
    }
}

/// Where a record is.
fn written(place: Delivery) -> Value {
    json!({
        "result": "written",
        "partition": place.partition,
        "offset": place.offset,
        "timestamp": place.timestamp,
    })
}

fn failure(problem: &Problem) -> Value {
    json!({"result": "refused", "code": problem.code.name(), "detail": problem.detail})
}
