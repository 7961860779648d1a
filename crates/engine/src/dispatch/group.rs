//! The topics of a group, the requests that wait for them, and every way in
//! which messages go out and acknowledgements come back.

use super::partition::{Exhausted, Partition};
use super::{AckError, AckMode, Consume, Delivered, Deliveries, DispatchConfig};
use crate::native::Client;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot, watch};

/// How long the question for a partition's end may take.
const END_LIMIT: Duration = Duration::from_secs(2);

/// A group that this process is a member of, or is about to be.
pub(super) struct Group {
    name: String,
    config: DispatchConfig,
    state: Mutex<State>,
    /// Wakes the driver.
    pub(super) driver: Arc<Notify>,
    client: Mutex<Option<Arc<Client>>>,
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
    /// A topic has come, or what is known of one.
    pub(super) has_changed: bool,
    /// No request is taken any more.
    pub(super) has_ended: bool,
}

/// One topic of a group.
pub(super) struct TopicState {
    name: Arc<str>,
    waiting: VecDeque<Waiting>,
    pub(super) partitions: BTreeMap<i32, Partition>,
    /// The partition whose turn is next.
    turn: i32,
    pub(super) last_request: Instant,
}

struct Waiting {
    max: usize,
    mode: AckMode,
    deadline: Instant,
    reply: oneshot::Sender<Deliveries>,
}

/// What becomes of a request at once.
pub(super) enum Asked {
    Served(Deliveries),
    Waits(oneshot::Receiver<Deliveries>),
    TooMany,
    Ended,
}

impl TopicState {
    pub(super) fn new(name: &Arc<str>) -> Self {
        Self {
            name: Arc::clone(name),
            waiting: VecDeque::new(),
            partitions: BTreeMap::new(),
            turn: 0,
            last_request: Instant::now(),
        }
    }

    /// Whether somebody waits for a message.
    pub(super) fn is_wanted(&mut self) -> bool {
        self.drop_gone();
        !self.waiting.is_empty()
    }

    pub(super) fn has_pending(&self) -> bool {
        self.partitions.values().any(Partition::has_pending)
    }

    /// Requests whose client has gone or whose time is over are no longer in
    /// anybody's way.
    fn drop_gone(&mut self) {
        let now = Instant::now();
        self.waiting
            .retain(|waiting| !waiting.reply.is_closed() && waiting.deadline > now);
    }

    /// The next message; the partitions take turns, ascending.
    fn take(
        &mut self,
        is_auto: bool,
        now: Instant,
        exhausted: &mut Vec<Exhausted>,
    ) -> Option<Delivered> {
        let turn = self.turn;
        for (id, partition) in self.partitions.range_mut(turn..) {
            if let Some(delivered) = partition.take(is_auto, now, exhausted) {
                self.turn = id.wrapping_add(1);
                return Some(delivered);
            }
        }
        for (id, partition) in self.partitions.range_mut(..turn) {
            if let Some(delivered) = partition.take(is_auto, now, exhausted) {
                self.turn = id.wrapping_add(1);
                return Some(delivered);
            }
        }
        None
    }
}

impl Group {
    pub(super) fn new(name: &str, config: DispatchConfig, client: Arc<Client>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            name: name.to_owned(),
            config,
            state: Mutex::default(),
            driver: Arc::default(),
            client: Mutex::new(Some(client)),
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

    /// Takes a request up: serves it at once or queues it.
    pub(super) fn ask(&self, request: &Consume<'_>, deadline: Instant) -> Asked {
        let now = Instant::now();
        let mut state = self.state();
        if state.has_ended {
            return Asked::Ended;
        }
        if !state.topics.contains_key(request.topic) {
            let name = Arc::from(request.topic);
            let topic = TopicState::new(&name);
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
        topic.drop_gone();
        if topic.waiting.is_empty() {
            let messages = self.gather(topic, request.max, request.mode, now, exhausted);
            if !messages.is_empty() {
                let deliveries = self.deliveries(&topic.name, request.mode, messages);
                return deliveries.map_or(Asked::Ended, Asked::Served);
            }
        } else if topic.waiting.len() > self.config.queued_requests {
            return Asked::TooMany;
        }
        let (reply, served) = oneshot::channel();
        topic.waiting.push_back(Waiting {
            max: request.max,
            mode: request.mode,
            deadline,
            reply,
        });
        Asked::Waits(served)
    }

    /// Up to `max` messages of a topic.
    fn gather(
        &self,
        topic: &mut TopicState,
        max: usize,
        mode: AckMode,
        now: Instant,
        exhausted: &mut Vec<(Arc<str>, Exhausted)>,
    ) -> Vec<Delivered> {
        let mut messages = Vec::new();
        let mut given_up = Vec::new();
        while messages.len() < max {
            match topic.take(mode == AckMode::Auto, now, &mut given_up) {
                Some(delivered) => messages.push(delivered),
                None => break,
            }
        }
        if !given_up.is_empty() {
            let name = &topic.name;
            exhausted.extend(given_up.into_iter().map(|entry| (Arc::clone(name), entry)));
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
            let (max, mode) = (waiting.max, waiting.mode);
            let messages = self.gather(topic, max, mode, now, exhausted);
            if messages.is_empty() {
                return;
            }
            let Some(waiting) = topic.waiting.pop_front() else {
                return;
            };
            let Some(deliveries) = self.deliveries(&topic.name, mode, messages) else {
                return;
            };
            // It has just gone: the messages are there for the next one.
            if let Err(mut refused) = waiting.reply.send(deliveries) {
                refused.is_settled = true;
                release_in(topic, mode, &refused.messages, now);
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
    pub(super) fn release(&self, topic: &str, mode: AckMode, messages: &[Delivered]) {
        let mut state = self.state();
        if let Some(found) = state.topics.get_mut(topic) {
            release_in(found, mode, messages, Instant::now());
        }
        self.serve(&mut state, topic);
    }

    /// Acknowledges what a request got that does so itself.
    pub(super) fn settle(&self, topic: &str, messages: &[Delivered]) {
        let mut state = self.state();
        if let Some(found) = state.topics.get_mut(topic) {
            for message in messages {
                if let Some(partition) = found.partitions.get_mut(&message.partition) {
                    partition.settle(message.offset);
                }
            }
        }
        self.after_acks(&mut state, topic);
    }

    /// Acknowledges one message.
    pub(super) async fn ack(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<(), AckError> {
        let not_owned = || AckError::NotOwned {
            group: self.name.clone(),
            topic: topic.to_owned(),
            partition,
        };
        let bad_offset = Err(AckError::BadOffset(offset));
        if offset < 0 {
            return bad_offset;
        }
        if !self
            .ack_below_end(topic, partition, offset)
            .ok_or_else(not_owned)?
        {
            // Somebody else may have delivered it, further than is known here.
            let end = self.ask_for_end(topic, partition).await;
            if end.is_none_or(|end| offset >= end) {
                return bad_offset;
            }
            self.ack_below_end(topic, partition, offset)
                .ok_or_else(not_owned)?;
        }
        Ok(())
    }

    /// `None` if the partition is not owned, false if the message is not
    /// known to exist.
    fn ack_below_end(&self, topic: &str, partition: i32, offset: i64) -> Option<bool> {
        let mut state = self.state();
        let found = state
            .topics
            .get_mut(topic)?
            .partitions
            .get_mut(&partition)?;
        if offset >= found.end() {
            return Some(false);
        }
        found.tracker().ack(offset);
        self.after_acks(&mut state, topic);
        Some(true)
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

    async fn ask_for_end(&self, topic: &str, partition: i32) -> Option<i64> {
        let client = self.client.lock().clone()?;
        let name = topic.to_owned();
        let asked = tokio::task::spawn_blocking(move || {
            client.query_watermarks(&name, partition, END_LIMIT)
        });
        let (_, end) = asked.await.ok()?.ok()?;
        let mut state = self.state();
        let found = state
            .topics
            .get_mut(topic)?
            .partitions
            .get_mut(&partition)?;
        found.note_end(end);
        Some(end)
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

fn release_in(topic: &mut TopicState, mode: AckMode, messages: &[Delivered], now: Instant) {
    for message in messages {
        if let Some(partition) = topic.partitions.get_mut(&message.partition) {
            partition.release(message.offset, mode == AckMode::Auto, now);
        }
    }
}
