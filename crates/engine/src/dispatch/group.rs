//! A group: every way in which messages go out and acknowledgements come back.

use super::partition::{Exhausted, Partition};
use super::topic::{TopicState, Waiting, Wanted};
use super::{AckError, AckMode, Consume, Delivered, Deliveries, DispatchConfig, Held, Holder};
use crate::admin::NewGroupOffset;
use crate::by_name::ByName;
use crate::consumer::Consumed;
use crate::error::Error;
use crate::native::Client;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinError;

/// Topics of a group at the same time: names of such as do not exist come
/// from outside, too.
const MAX_TOPICS: usize = 1_000;
/// How long the question for a partition's end may take.
const END_LIMIT: Duration = Duration::from_secs(2);

/// A group that this process is a member of, or is about to be.
pub(super) struct Group {
    name: String,
    config: DispatchConfig,
    state: Mutex<State>,
    /// Wakes the driver.
    pub(super) driver: Arc<Notify>,
    pub(super) client: Mutex<Option<Arc<Client>>>,
    /// What librdkafka has said about the client last.
    pub(super) said: Mutex<Option<Arc<str>>>,
    pub(super) consumed: Arc<ByName<Consumed>>,
    ended: watch::Sender<bool>,
    is_stopping: AtomicBool,
    is_hurried: AtomicBool,
    this: Weak<Group>,
}

/// What the group's mutex guards.
#[derive(Default)]
pub(super) struct State {
    pub(super) topics: HashMap<Arc<str>, TopicState>,
    /// Delivered too often, to be put away by the driver.
    pub(super) exhausted: Vec<(Arc<str>, Exhausted)>,
    /// Positions that somebody wants set.
    pub(super) settings: VecDeque<Setting>,
    /// A topic has come, or what is known of one.
    pub(super) has_changed: bool,
    /// No request is taken any more.
    pub(super) has_ended: bool,
}

impl State {
    fn partition(&mut self, topic: &str, partition: i32) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.partitions.get_mut(&partition)
    }
}

/// Positions of a topic that somebody wants set.
pub(super) struct Setting {
    pub(super) topic: String,
    pub(super) positions: Vec<NewGroupOffset>,
    reply: oneshot::Sender<Result<bool, Error>>,
}

impl Setting {
    pub(super) fn answer(self, result: Result<bool, Error>) {
        // Whoever asked may have gone.
        let _ = self.reply.send(result);
    }

    pub(super) fn partitions(&self) -> Vec<(String, i32)> {
        let positions = self.positions.iter();
        positions
            .map(|new| (self.topic.clone(), new.partition))
            .collect()
    }
}

/// What becomes of a request at once.
pub(super) enum Asked {
    Served(Deliveries),
    Waits(oneshot::Receiver<Deliveries>),
    TooMany,
    Ended,
}

impl Group {
    pub(super) fn new(
        name: &str,
        config: DispatchConfig,
        client: Arc<Client>,
        consumed: Arc<ByName<Consumed>>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            name: name.to_owned(),
            config,
            state: Mutex::default(),
            driver: Arc::default(),
            client: Mutex::new(Some(client)),
            said: Mutex::default(),
            consumed,
            ended: watch::channel(false).0,
            is_stopping: AtomicBool::new(false),
            is_hurried: AtomicBool::new(false),
            this: Weak::clone(this),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn config(&self) -> &DispatchConfig {
        &self.config
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state().has_ended
    }

    /// Takes a request up that `came` earlier: serves it at once or queues it.
    pub(super) fn ask(&self, request: &Consume<'_>, came: Instant, deadline: Instant) -> Asked {
        let now = Instant::now();
        let mut state = self.state();
        if state.has_ended {
            return Asked::Ended;
        }
        if !state.topics.contains_key(request.topic) {
            if state.topics.len() >= MAX_TOPICS {
                return Asked::TooMany;
            }
            let name = Arc::from(request.topic);
            let topic = TopicState::new(&name, came);
            state.topics.insert(name, topic);
            // To subscribe to it.
            state.has_changed = true;
            self.driver.notify_one();
        }
        let State {
            topics, exhausted, ..
        } = &mut *state;
        let Some(topic) = topics.get_mut(request.topic) else {
            return Asked::Ended;
        };
        topic.last_request = now;
        topic.is_abandoned = false;
        topic.drop_gone();
        if topic.waiting.is_empty() {
            let messages = self.gather(topic, request.into(), now, exhausted);
            if !messages.is_empty() {
                let deliveries = self.deliveries(&topic.name, request.mode, messages);
                return deliveries.map_or(Asked::Ended, Asked::Served);
            }
        } else if topic.waiting.len() > self.config.queued_requests {
            return Asked::TooMany;
        }
        let (reply, served) = oneshot::channel();
        topic.waiting.push_back(Waiting {
            wanted: request.into(),
            deadline,
            reply,
        });
        Asked::Waits(served)
    }

    /// As many messages of a topic as there are and a request wants.
    fn gather(
        &self,
        topic: &mut TopicState,
        wanted: Wanted,
        now: Instant,
        exhausted: &mut Vec<(Arc<str>, Exhausted)>,
    ) -> Vec<Delivered> {
        let before = exhausted.len();
        let messages = topic.gather(wanted, now, exhausted, &self.consumed);
        if exhausted.len() > before {
            self.driver.notify_one();
        }
        messages
    }

    fn deliveries(
        &self,
        topic: &Arc<str>,
        mode: AckMode,
        messages: Vec<Delivered>,
    ) -> Option<Deliveries> {
        Some(Deliveries {
            group: self.this.upgrade()?,
            topic: Arc::clone(topic),
            mode,
            messages,
            is_settled: false,
        })
    }

    /// Hands out what there is to those who wait for it.
    pub(super) fn serve(&self, state: &mut State, topic: &str) {
        let State {
            topics, exhausted, ..
        } = state;
        let Some(topic) = topics.get_mut(topic) else {
            return;
        };
        let now = Instant::now();
        topic.drop_gone();
        while let Some(waiting) = topic.waiting.front() {
            let wanted = waiting.wanted;
            let messages = self.gather(topic, wanted, now, exhausted);
            if messages.is_empty() {
                return;
            }
            let Some(waiting) = topic.waiting.pop_front() else {
                return;
            };
            let Some(deliveries) = self.deliveries(&topic.name, wanted.mode, messages) else {
                return;
            };
            // It has just gone: the messages are there for the next one.
            if let Err(mut refused) = waiting.reply.send(deliveries) {
                refused.is_settled = true;
                topic.release(&refused.messages, now);
            }
        }
    }

    /// Whoever waits for a topic, of all of them.
    pub(super) fn serve_all(&self, state: &mut State) {
        let wanted: Vec<Arc<str>> = state
            .topics
            .iter()
            .filter(|(_, topic)| !topic.waiting.is_empty())
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in wanted {
            self.serve(state, &name);
        }
    }

    /// Takes back what has reached nobody.
    pub(super) fn release(&self, topic: &str, messages: &[Delivered]) {
        let mut state = self.state();
        if let Some(found) = state.topics.get_mut(topic) {
            found.release(messages, Instant::now());
        }
        self.serve(&mut state, topic);
    }

    /// What a request got has reached its client.
    pub(super) fn confirm(&self, topic: &str, mode: AckMode, messages: &[Delivered]) {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(found) = state.topics.get_mut(topic) {
            let mut acked = 0;
            for message in messages {
                if let Some(partition) = found.partitions.get_mut(&message.partition) {
                    acked += u64::from(partition.confirm(message, now));
                }
            }
            Consumed::add(&found.consumed(&self.consumed).acked, acked);
        }
        if mode == AckMode::Auto {
            self.after_acks(&mut state, topic);
        }
    }

    /// Acknowledges messages, by partition and offset.
    pub(super) async fn ack(
        &self,
        topic: &str,
        positions: &[(i32, i64)],
    ) -> Vec<Result<bool, AckError>> {
        let (mut results, unknown) = self.ack_known(topic, positions);
        // Somebody else may have delivered them, further than is known here.
        let mut asked = BTreeSet::new();
        for index in unknown {
            let Some((partition, offset)) = positions.get(index).copied() else {
                continue;
            };
            if asked.insert(partition) {
                self.ask_for_end(topic, partition).await;
            }
            let (again, _) = self.ack_known(topic, &[(partition, offset)]);
            if let (Some(result), Some(again)) = (results.get_mut(index), again.into_iter().next())
            {
                *result = again;
            }
        }
        results
    }

    /// Acknowledges one message if it is known whether it exists.
    pub(super) fn ack_at_once(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Option<Result<bool, AckError>> {
        let (results, unknown) = self.ack_known(topic, &[(partition, offset)]);
        match unknown.is_empty() {
            true => results.into_iter().next(),
            false => None,
        }
    }

    /// Acknowledges what is known to exist; beside the results the indices of
    /// what may exist or not.
    fn ack_known(
        &self,
        topic: &str,
        positions: &[(i32, i64)],
    ) -> (Vec<Result<bool, AckError>>, Vec<usize>) {
        let mut unknown = Vec::new();
        let mut state = self.state();
        let mut found = state.topics.get_mut(topic);
        let results = positions.iter().enumerate().map(|(index, (id, offset))| {
            if *offset < 0 {
                return Err(AckError::BadOffset(*offset));
            }
            let partition = found
                .as_mut()
                .and_then(|topic| topic.partitions.get_mut(id));
            let Some(partition) = partition else {
                return Err(AckError::not_owned(&self.name, topic, *id));
            };
            if *offset >= partition.end() {
                unknown.push(index);
                return Err(AckError::BadOffset(*offset));
            }
            Ok(partition.ack(*offset))
        });
        let results: Vec<Result<bool, AckError>> = results.collect();
        let acked = results.iter().filter(|result| matches!(result, Ok(true)));
        let acked = acked.count() as u64;
        if let Some(found) = found.filter(|_| acked > 0) {
            Consumed::add(&found.consumed(&self.consumed).acked, acked);
        }
        self.after_acks(&mut state, topic);
        (results, unknown)
    }

    /// Acknowledgements make room, and may be what a leaving partition
    /// waits for.
    fn after_acks(&self, state: &mut State, topic: &str) {
        let Some(found) = state.topics.get_mut(topic) else {
            return;
        };
        if found.partitions.values().any(Partition::is_leaving) {
            self.driver.notify_one();
        }
        if !found.waiting.is_empty() {
            self.serve(state, topic);
        }
    }

    /// Asks Kafka where a partition ends, and notes it.
    async fn ask_for_end(&self, topic: &str, partition: i32) {
        let question = {
            let mut state = self.state();
            let found = state.partition(topic, partition);
            found.map(|found| found.end_question())
        };
        let Some(question) = question else {
            return;
        };
        let asking = async {
            let Some(client) = self.client.lock().clone() else {
                return;
            };
            let name = topic.to_owned();
            let asked = ask(client, move |client| {
                client.query_watermarks(&name, partition, END_LIMIT)
            });
            if let Ok(Ok((_, end))) = asked.await
                && let Some(found) = self.state().partition(topic, partition)
            {
                found.note_end(end);
            }
        };
        question.ask(asking).await;
    }

    /// What a holder has got of a topic and not acknowledged.
    pub(super) fn held(&self, topic: &str, holder: Holder) -> Vec<Delivered> {
        let state = self.state();
        let partitions = state
            .topics
            .get(topic)
            .map(|topic| topic.partitions.values());
        partitions
            .into_iter()
            .flatten()
            .flat_map(|partition| partition.held_by(holder))
            .collect()
    }

    /// Who holds any of these messages.
    pub(super) fn holders(&self, topic: &str, positions: &[(i32, i64)]) -> Vec<Holder> {
        let state = self.state();
        let mut holders = Vec::new();
        let Some(topic) = state.topics.get(topic) else {
            return holders;
        };
        for (id, offset) in positions {
            let partition = topic.partitions.get(id);
            if let Some(holder) = partition.and_then(|found| found.holder_of(*offset))
                && !holders.contains(&holder)
            {
                holders.push(holder);
            }
        }
        holders
    }

    /// The topic is left at the next look unless somebody asks for it.
    pub(super) fn abandon(&self, topic: &str) {
        let mut state = self.state();
        if let Some(found) = state.topics.get_mut(topic) {
            found.is_abandoned = true;
            let now = Instant::now();
            for partition in found.partitions.values_mut() {
                partition.give_back(None, now);
            }
            state.has_changed = true;
            self.driver.notify_one();
        }
    }

    /// How much a holder has got of all topics and not acknowledged.
    pub(super) fn held_by(&self, holder: Holder) -> Held {
        let state = self.state();
        let partitions = state
            .topics
            .values()
            .flat_map(|topic| topic.partitions.values());
        let mut held = Held::default();
        for delivered in partitions.flat_map(|partition| partition.held_by(holder)) {
            held.messages += 1;
            held.bytes += delivered.record.bytes();
        }
        held
    }

    /// How many deliveries of a topic wait for their acknowledgement.
    pub(super) fn pending(&self, topic: &str) -> usize {
        let state = self.state();
        state.topics.get(topic).map_or(0, |topic| {
            topic.partitions.values().map(Partition::pending).sum()
        })
    }

    /// What a holder has not acknowledged is due at once.
    pub(super) fn give_back(&self, holder: Holder) {
        let now = Instant::now();
        let mut state = self.state();
        for topic in state.topics.values_mut() {
            for partition in topic.partitions.values_mut() {
                partition.give_back(Some(holder), now);
            }
        }
        self.serve_all(&mut state);
    }

    /// Sets positions of partitions that are owned here; false if they are
    /// not, and nothing has changed.
    pub(super) async fn set_offsets(
        &self,
        topic: &str,
        positions: &[NewGroupOffset],
    ) -> Result<bool, Error> {
        let (reply, answer) = oneshot::channel();
        {
            let mut state = self.state();
            if state.has_ended {
                return Ok(false);
            }
            state.settings.push_back(Setting {
                topic: topic.to_owned(),
                positions: positions.to_vec(),
                reply,
            });
        }
        self.driver.notify_one();
        // Else the group has ended meanwhile.
        answer.await.unwrap_or(Ok(false))
    }

    /// No request is taken any more; what is pending may be acknowledged.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.driver.notify_one();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Nothing is waited for any more.
    pub(super) fn hurry(&self) {
        self.is_hurried.store(true, Ordering::Release);
        self.driver.notify_one();
    }

    pub(super) fn is_hurried(&self) -> bool {
        self.is_hurried.load(Ordering::Acquire)
    }

    /// Lets go of the client; it has left its group.
    pub(super) fn end(&self) -> Option<Arc<Client>> {
        let client = self.client.lock().take();
        self.ended.send_replace(true);
        client
    }

    /// Waits until the group has been left.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        // The sender lives as long as the group.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

/// A group that has not been left, as its runtime has ended.
impl Drop for Group {
    fn drop(&mut self) {
        if let Some(client) = self.client.get_mut().take() {
            let topics = std::mem::take(&mut self.state.get_mut().topics);
            free(move || drop((topics, client)));
        }
    }
}

/// Asks a client what blocks, on a thread for that. If everybody else has let
/// go of it meanwhile it is [freed](free) elsewhere: a runtime that ends waits
/// for such threads.
pub(super) async fn ask<T: Send + 'static>(
    client: Arc<Client>,
    question: impl FnOnce(&Client) -> T + Send + 'static,
) -> Result<T, JoinError> {
    let asking = move || {
        let answer = question(&client);
        if let Some(client) = Arc::into_inner(client) {
            free(move || drop(client));
        }
        answer
    };
    tokio::task::spawn_blocking(asking).await
}

/// Frees a client on a thread of its own: librdkafka may take for ever if it
/// is freed in the middle of a rebalance that nobody answers any more.
pub(super) fn free(drop_all: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().name("group-free".to_owned());
    if let Err(error) = thread.spawn(drop_all) {
        tracing::error!(component = "engine", "cannot free a client: {error}");
    }
}
