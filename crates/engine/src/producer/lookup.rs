//! The threads that ask the cluster: one for single topics, one for the list
//! of all, which must not wait behind topics that nobody answers for.

use super::topic::{State, Topic, WaitingRecord};
use super::{Shared, opaque_of_slot};
use crate::error::{ErrorCode, KafkaError};
use crate::native::{Batch, NativeTopic, TopicLookup, TopicMetadata};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often a topic that does not exist (yet) is asked for.
const ASK_INTERVAL: Duration = Duration::from_millis(50);
/// For how long: a broker that creates topics on use needs a moment. Counted
/// from its first answer.
const ASK_LIMIT: Duration = Duration::from_millis(300);
/// For how long when the broker says that the topic has no leader yet, which
/// means that it exists and is being set up.
const LEADER_LIMIT: Duration = Duration::from_secs(10);
/// Pause after no broker answered.
const UNREACHABLE_INTERVAL: Duration = Duration::from_millis(250);
/// How long one question may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// A question for all topics gets at least so long.
const SHORTEST_LIST: Duration = Duration::from_millis(10);
/// How long the list of all topics may take, for whoever asks.
const LIST_LIMIT: Duration = Duration::from_secs(2);
/// Pause after the shared queue was full: the reports that make room come
/// from another thread.
const FULL_INTERVAL: Duration = Duration::from_millis(10);
/// Records handed to librdkafka in one call.
const BATCH: usize = 1_000;

/// The names of all topics, or why they could not be had.
pub(super) type TopicNames = Result<Vec<String>, KafkaError>;

/// Who wants the names of all topics, and since when.
pub(super) struct ListRequest {
    pub(super) reply: oneshot::Sender<TopicNames>,
    pub(super) since: Instant,
}

/// A topic whose existence is being found out.
struct Search {
    topic: Arc<Topic>,
    /// Kept from one question to the next: librdkafka asks by itself, and for
    /// each topic alone, when it is made.
    native: Option<NativeTopic>,
    /// When the cluster answered for the first time: silence is not absence,
    /// and a broker that creates topics on use begins when it is asked.
    answered: Option<Instant>,
    next: Instant,
    /// The topic exists, and what waits for it is being handed over.
    is_found: bool,
}

/// Finds out whether topics exist and sends what waits for them; `None` ends
/// it.
pub(super) fn run(shared: &Arc<Shared>, requests: &Receiver<Option<Arc<Topic>>>) {
    let mut searches: Vec<Search> = Vec::new();
    loop {
        let next = searches.iter().map(|search| search.next).min();
        let mut request = match next {
            None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(next) => requests.recv_timeout(next.saturating_duration_since(Instant::now())),
        };
        loop {
            match request {
                Ok(Some(topic)) => {
                    let now = Instant::now();
                    searches.push(Search {
                        topic,
                        native: None,
                        answered: None,
                        next: now,
                        is_found: false,
                    });
                }
                Ok(None) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => break,
            }
            request = requests.try_recv().map_err(|_| RecvTimeoutError::Timeout);
        }
        let now = Instant::now();
        let (found, mut unknown): (Vec<Search>, Vec<Search>) = searches
            .extract_if(.., |search| search.next <= now)
            .partition(|search| search.is_found);
        for mut search in found {
            if go_on_handing_over(shared, &mut search) {
                searches.push(search);
            }
        }
        let answers = ask(shared, &mut unknown);
        for (mut search, answer) in unknown.into_iter().zip(answers) {
            if digest(shared, &mut search, answer) {
                searches.push(search);
            }
        }
    }
}

/// Answers all who ask at the same time with one request; `None` ends it.
pub(super) fn list_topics(shared: &Shared, requests: &Receiver<Option<ListRequest>>) {
    let mut waiting: Vec<ListRequest> = Vec::new();
    let mut is_ending = false;
    while !is_ending {
        if waiting.is_empty() {
            match requests.recv() {
                Ok(Some(request)) => waiting.push(request),
                Ok(None) | Err(_) => return,
            }
        }
        while let Ok(request) = requests.try_recv() {
            match request {
                Some(request) => waiting.push(request),
                None => is_ending = true,
            }
        }
        // Who has waited longest says how long the cluster gets.
        let longest = waiting.iter().map(|request| request.since.elapsed()).max();
        let limit = LIST_LIMIT.saturating_sub(longest.unwrap_or_default());
        let names = list(shared, limit.max(SHORTEST_LIST));
        let is_answer = names.is_ok();
        let (done, rest): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|request| is_answer || is_ending || request.since.elapsed() >= LIST_LIMIT);
        for request in done {
            let _ = request.reply.send(names.clone());
        }
        waiting = rest;
        if !is_answer && !waiting.is_empty() {
            // Some errors come at once.
            std::thread::sleep(ASK_INTERVAL);
        }
    }
}

fn list(shared: &Shared, limit: Duration) -> TopicNames {
    let client = shared.client.load_full();
    let topics = client
        .metadata(&TopicLookup::All, limit)
        .map_err(KafkaError::from_raw)?;
    let mut names: Vec<String> = topics.into_iter().map(|topic| topic.name).collect();
    names.sort_unstable();
    Ok(names)
}

/// What the cluster says of a topic.
enum Answer {
    Exists,
    Absent(KafkaError),
    BeingCreated,
    Unreachable,
}

/// Acts on an answer; false when the search is over.
fn digest(shared: &Shared, search: &mut Search, answer: Answer) -> bool {
    let elapsed = search.answered.get_or_insert_with(Instant::now).elapsed();
    let next = match answer {
        Answer::Exists => {
            if let Some(native) = search.native.take() {
                search.topic.adopt(native);
            }
            // One of a client before may be there.
            search.topic.follow(shared);
            search.is_found = true;
            return go_on_handing_over(shared, search);
        }
        Answer::Absent(reason) => {
            // Only an unknown topic can appear by itself.
            if !reason.is_unknown_topic() || elapsed + ASK_INTERVAL > ASK_LIMIT {
                give_up(shared, &search.topic, reason);
                return false;
            }
            ASK_INTERVAL
        }
        Answer::BeingCreated => {
            if elapsed > LEADER_LIMIT {
                let reason = KafkaError::from_code(ErrorCode::LeaderNotAvailable);
                give_up(shared, &search.topic, reason);
                return false;
            }
            ASK_INTERVAL
        }
        Answer::Unreachable => {
            // What waits goes on waiting.
            drop_expired(shared, &search.topic);
            search.answered = None;
            UNREACHABLE_INTERVAL
        }
    };
    search.next = Instant::now() + next;
    true
}

/// Asks for all topics in one request, so that many of them, or brokers that
/// are silent, make nobody wait for the others; answers are in order.
fn ask(shared: &Shared, searches: &mut [Search]) -> Vec<Answer> {
    let client = shared.client.load_full();
    for search in &mut *searches {
        search.topic.waiting().asked = Some(Instant::now());
        // Of the client before this one.
        search.native.take_if(|native| !native.is_of(&client));
        if search.native.is_none() {
            search.native = shared.native_topic(search.topic.name());
        }
    }
    let mut valid = searches.iter().filter_map(|search| search.native.as_ref());
    let topics = match (valid.next(), valid.next()) {
        (None, _) => Ok(Vec::new()),
        (Some(only), None) => only
            .client()
            .metadata(&TopicLookup::One(only), ANSWER_LIMIT),
        _ => client.metadata(&TopicLookup::Known, ANSWER_LIMIT),
    };
    let topics: Option<HashMap<&str, &TopicMetadata>> = topics.as_ref().ok().map(|topics| {
        let by_name = topics.iter().map(|topic| (topic.name.as_str(), topic));
        by_name.collect()
    });
    let answer = |search: &Search| match (&search.native, &topics) {
        (None, _) => Answer::Absent(KafkaError::from_code(ErrorCode::InvalidTopic)),
        (Some(_), None) => Answer::Unreachable,
        (Some(_), Some(topics)) => judge(topics.get(search.topic.name()).copied()),
    };
    searches.iter().map(answer).collect()
}

fn judge(found: Option<&TopicMetadata>) -> Answer {
    let Some(found) = found else {
        return Answer::Absent(KafkaError::from_code(ErrorCode::UnknownTopic));
    };
    let error = KafkaError::from_raw(found.error);
    if found.error == 0 && !found.partitions.is_empty() {
        Answer::Exists
    } else if found.error == 0 || error.is(ErrorCode::LeaderNotAvailable) {
        Answer::BeingCreated
    } else if error.is_unknown_topic() {
        // Old clients know the local wording.
        Answer::Absent(KafkaError::from_code(ErrorCode::UnknownTopic))
    } else {
        Answer::Absent(error)
    }
}

/// False when everything has been handed over.
fn go_on_handing_over(shared: &Shared, search: &mut Search) -> bool {
    let is_done = hand_over_waiting(shared, &search.topic);
    search.next = Instant::now() + FULL_INTERVAL;
    !is_done
}

/// The topic exists: sends what waits, in order, then opens the direct way.
/// False if the shared queue became full before that; other topics get their
/// turn.
fn hand_over_waiting(shared: &Shared, topic: &Topic) -> bool {
    let mut batch = Batch::default();
    loop {
        let mut records = {
            let mut waiting = topic.waiting();
            if waiting.records.is_empty() {
                waiting.lookup_is_running = false;
                waiting.reason = None;
                topic.set_state(&mut waiting, State::Known);
                return true;
            }
            // Not under the lock: callers add behind meanwhile.
            std::mem::take(&mut waiting.records)
        };
        let mut sent = 0;
        for chunk in records.chunks(BATCH) {
            let taken = send_chunk(shared, topic, &mut batch, chunk);
            sent += taken;
            if taken < chunk.len() {
                break;
            }
        }
        if sent < records.len() {
            records.drain(..sent);
            topic.waiting().records.splice(0..0, records);
            return false;
        }
    }
}

/// Hands records over until one finds no room; says how many are settled.
fn send_chunk(shared: &Shared, topic: &Topic, batch: &mut Batch, chunk: &[WaitingRecord]) -> usize {
    let Some(native) = topic.native() else {
        return 0;
    };
    batch.produce(
        &native,
        chunk.iter().map(|record| {
            (
                record.key.as_deref(),
                record.value.as_deref(),
                opaque_of_slot(record.slot),
            )
        }),
    );
    let full = KafkaError::from_code(ErrorCode::QueueFull);
    for (index, record) in chunk.iter().enumerate() {
        match KafkaError::from_raw(batch.error(index)) {
            error if error.number() == 0 => {}
            error if error == full => return index,
            // None was taken; what waits goes to the next client.
            error if error.is(ErrorCode::Fatal) && shared.is_dead(&native) => {
                topic.follow(shared);
                return index;
            }
            error => fail(shared, std::slice::from_ref(record), error),
        }
    }
    chunk.len()
}

/// The topic does not exist: what waits has failed.
fn give_up(shared: &Shared, topic: &Topic, reason: KafkaError) {
    let records = {
        let mut waiting = topic.waiting();
        waiting.lookup_is_running = false;
        waiting.reason = Some(reason);
        topic.set_state(&mut waiting, State::Missing);
        std::mem::take(&mut waiting.records)
    };
    if !records.is_empty() {
        tracing::error!(
            component = "producer",
            "{} messages to {} were not delivered: {reason}",
            records.len(),
            topic.name()
        );
    }
    fail(shared, &records, reason);
}

/// Fails what has waited longer than `message.timeout.ms` for a broker.
fn drop_expired(shared: &Shared, topic: &Topic) {
    if shared.message_timeout.is_zero() {
        return;
    }
    let expired: Vec<WaitingRecord> = {
        let mut waiting = topic.waiting();
        let count = waiting
            .records
            .iter()
            .take_while(|record| record.accepted.elapsed() > shared.message_timeout)
            .count();
        waiting.records.drain(..count).collect()
    };
    fail(
        shared,
        &expired,
        KafkaError::from_code(ErrorCode::MessageTimedOut),
    );
}

fn fail(shared: &Shared, records: &[WaitingRecord], reason: KafkaError) {
    if records.is_empty() {
        return;
    }
    // First, so that whoever sees its messages settled finds them counted.
    shared
        .counters
        .failed
        .fetch_add(records.len() as u64, Ordering::AcqRel);
    let accounts = shared.accounts.read();
    for record in records {
        if let Some(account) = accounts.get(record.slot) {
            account.settle(1, record.bytes(), 1, Some(reason));
        }
    }
    if shared.somebody_wants_room.swap(false, Ordering::AcqRel) {
        shared.progress.notify_waiters();
    }
}
