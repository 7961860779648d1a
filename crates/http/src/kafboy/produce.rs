//! Messages of a request on their way to the outbox.
//!
//! Room is reserved for all of them before the first is handed over: a request
//! is taken whole or not at all. Only a topic's own bound of downtime, and
//! what is wrong with a message itself, can part them then.

use super::call::Call;
use super::carried::{self, Carried};
use super::hook::{HookAnswer, HookMessage, HookOutcome, HookRecord};
use super::reply::{self, Refusal};
use super::routes::Mode;
use super::state::State;
use crate::reply::Reply;
use barnabas_engine::{
    AllAnswers, Answers, Durability, Mode as OutboxMode, NewRecord, Permit, ProduceError, Sending,
    is_legal_topic_name,
};
use hyper::StatusCode;
use std::sync::Arc;

/// A request whose messages are with the outbox.
pub(super) enum HandedOver {
    /// Nobody waits for them.
    Done,
    /// Kafka's word is waited for.
    Waits {
        answers: AllAnswers,
        /// Each message has an entry in the reply.
        is_listed: bool,
        /// Ends with the wait.
        sending: Option<Box<Sending>>,
    },
}

/// What a hook's outcome has led to.
pub(super) enum Edited {
    Reply(Vec<u8>),
    HandedOver(HandedOver),
}

/// Hands over the messages of one request.
pub(super) async fn post<'r>(
    call: &Call<'_>,
    topic: &str,
    mode: Mode,
    records: Vec<NewRecord<'r>>,
) -> Result<HandedOver, Refusal> {
    let topics = std::iter::repeat_n(topic, records.len());
    let mut carried = Carried::begin(call.trace, topics);
    let submitted = {
        let headers = carried.headers();
        let mut records = records;
        for record in &mut records {
            headers.add_to(topic, &call.state.outbox, record);
        }
        let mut permit = reserve(call.state, &carried, records.iter())?;
        let how = (mode, call.waits(mode, topic));
        submit(call, &mut permit, &carried, (topic, how), &records).await?
    };
    Ok(submitted.with(carried.take(topic)))
}

/// Room for all of them.
fn reserve<'a>(
    state: &State,
    carried: &Carried<'_>,
    records: impl Iterator<Item = &'a NewRecord<'a>>,
) -> Result<Permit, Refusal> {
    let (mut count, mut bytes) = (0, 0);
    for record in records {
        count += 1;
        bytes += record.bytes() as u64;
    }
    if let Some(permit) = state.outbox.reserve(count, bytes) {
        return Ok(permit);
    }
    carried.found_no_room();
    if state.outbox.is_draining() || state.outbox.could_hold(count, bytes) {
        return Err(state.overload());
    }
    Err(Refusal::too_large())
}

/// Messages of one topic that the outbox has.
enum Taken {
    Done,
    Waits {
        answers: AllAnswers,
        is_listed: bool,
    },
}

impl Taken {
    fn with(self, sending: Option<Box<Sending>>) -> HandedOver {
        match self {
            Self::Done => HandedOver::Done,
            Self::Waits { answers, is_listed } => HandedOver::Waits {
                answers,
                is_listed,
                sending,
            },
        }
    }
}

async fn submit(
    call: &Call<'_>,
    permit: &mut Permit,
    carried: &Carried<'_>,
    (topic, (mode, waits)): (&str, (Mode, bool)),
    records: &[NewRecord<'_>],
) -> Result<Taken, Refusal> {
    let state = call.state;
    if !is_legal_topic_name(topic.as_bytes()) {
        return Err(Refusal::invalid());
    }
    let is_listed = mode == Mode::Sync;
    if records.is_empty() && !is_listed {
        // Nothing that would have to do with the topic.
        return Ok(Taken::Done);
    }
    let refused = |error: &ProduceError| {
        carried.failed(topic, error);
        Refusal::of(error, || call.drain_seconds())
    };
    let topic = state.outbox.topic(topic).map_err(|error| refused(&error))?;
    let outbox_mode = match mode {
        _ if waits => OutboxMode::Sync,
        Mode::Async | Mode::Sync => OutboxMode::Async,
        Mode::BatchAsync | Mode::BatchSync => OutboxMode::AsyncBatched,
    };
    let count = records.len();
    if waits {
        let (sink, answers) = Answers::new(count);
        let hearer = (Arc::clone(&sink) as _, 0);
        let admission = permit.produce(&topic, outbox_mode, records, Some(hearer));
        state.drain.admitted(admission.accepted, &state.outbox);
        sink.refuse(admission, count);
        return Ok(Taken::Waits { answers, is_listed });
    }
    let admission = match topic.durability() {
        // Answered once they are on disk.
        Durability::Journal => permit.produce_journaled(&topic, records).await,
        Durability::Memory | Durability::Kafka => {
            let admission = permit.produce(&topic, outbox_mode, records, None);
            state.drain.admitted(admission.accepted, &state.outbox);
            admission
        }
    };
    match admission.refused.first() {
        Some(error) => Err(refused(error)),
        None => Ok(Taken::Done),
    }
}

impl HandedOver {
    /// The reply, once everything is known that it says.
    pub(super) async fn reply(self, call: &Call<'_>) -> Result<Reply, Refusal> {
        let Self::Waits {
            answers,
            is_listed,
            sending,
        } = self
        else {
            return Ok(reply::well());
        };
        let drain_seconds = || call.drain_seconds();
        let Some(outcomes) = answers.all().await else {
            if let Some(sending) = &sending {
                sending.failed_as("closed", || "the outbox has ended".to_owned());
            }
            return Err(call.state.overload());
        };
        if let Some(sending) = &sending {
            carried::settled(sending, &outcomes);
        }
        if is_listed {
            let is_strict = call.state.options.is_strict;
            return reply::outcomes(&outcomes, is_strict, drain_seconds);
        }
        match outcomes.iter().find_map(|outcome| outcome.as_ref().err()) {
            Some(error) => Err(Refusal::of(error, drain_seconds)),
            None => Ok(reply::well()),
        }
    }
}

/// Does what a hook has asked for: its records first, then its answer.
pub(super) async fn edited(
    call: &Call<'_>,
    mode: Mode,
    posted_to: &str,
    outcome: HookOutcome,
) -> Result<Edited, Refusal> {
    let HookOutcome { answer, records } = outcome;
    let (own, produced) = match &answer {
        HookAnswer::Produce { topic, messages } => {
            (Some(named(topic.as_deref(), posted_to)), &messages[..])
        }
        _ => (None, &[][..]),
    };
    // All or nothing: a retry would produce the first ones again.
    for topic in records
        .iter()
        .map(|other| named(other.topic.as_deref(), posted_to))
        .chain(own)
    {
        if !is_legal_topic_name(topic.as_bytes()) {
            return Err(Refusal::invalid());
        }
        call.allow(Some(topic))?;
    }
    let topics = records
        .iter()
        .map(|other| named(other.topic.as_deref(), posted_to));
    let topics = topics.chain(produced.iter().filter_map(|_| own));
    let mut carried = Carried::begin(call.trace, topics);
    let submitted = {
        let headers = carried.headers();
        let with_headers = |topic: &str, message| {
            let mut record = record(message);
            headers.add_to(topic, &call.state.outbox, &mut record);
            record
        };
        let produced = produced.iter();
        let produced = produced.map(|message| with_headers(own.unwrap_or_default(), message));
        let produced: Vec<NewRecord<'_>> = produced.collect();
        let others = records.iter();
        let others = others
            .map(|other| with_headers(named(other.topic.as_deref(), posted_to), &other.message));
        let others: Vec<NewRecord<'_>> = others.collect();
        let mut permit = reserve(call.state, &carried, produced.iter().chain(&others))?;
        // Those that go one way go together: on disk, they share a write.
        let (mut left, mut new) = (&records[..], &others[..]);
        while let Some(first) = left.first() {
            let of = |one: &HookRecord| {
                let topic = named(one.topic.as_deref(), posted_to).to_owned();
                (topic, one.is_batched)
            };
            let way = of(first);
            let run = left.iter().take_while(|one| of(one) == way).count();
            let (topic, is_batched) = way;
            let mode = match is_batched {
                true => Mode::BatchAsync,
                false => Mode::Async,
            };
            let (now, rest) = new.split_at(run.min(new.len()));
            submit(call, &mut permit, &carried, (&topic, (mode, false)), now).await?;
            left = left.get(run..).unwrap_or_default();
            new = rest;
        }
        match own {
            Some(topic) => {
                let how = (mode, call.waits(mode, topic));
                submit(call, &mut permit, &carried, (topic, how), &produced).await?
            }
            None => Taken::Done,
        }
    };
    let bad = |text: &'static str| Err(Refusal::new(StatusCode::BAD_REQUEST, text));
    match answer {
        HookAnswer::Produce { .. } => {
            let sending = carried.take(own.unwrap_or_default());
            Ok(Edited::HandedOver(submitted.with(sending)))
        }
        HookAnswer::Reply(body) => Ok(Edited::Reply(body)),
        HookAnswer::Error(Some(text)) => Err(Refusal::new(StatusCode::BAD_REQUEST, text)),
        HookAnswer::Error(None) => bad("unknown"),
        HookAnswer::Empty => bad("empty"),
        HookAnswer::Unexpected => bad("unexp"),
    }
}

/// The topic of a message.
fn named<'a>(topic: Option<&'a str>, posted_to: &'a str) -> &'a str {
    topic.unwrap_or(posted_to)
}

fn record(message: &HookMessage) -> NewRecord<'_> {
    NewRecord {
        key: message.key.as_deref(),
        ..NewRecord::of(&message.value)
    }
}
