//! What a topic keeps while it is down: its bound, its policies, its replay.
//!
//! Contract: `producer-engine.md`, section 6.

use super::core::{After, Core, Inner, Reach};
use super::error::{Dropped, ProduceError};
use super::events::Happening;
use super::flights::Hearers;
use super::hand_over::FULL_PAUSE;
use super::journaled;
use super::payload::KeptRecord;
use super::settings::DowntimePolicy;
use super::strategy::{Entry, NotPicked};
use super::stream::{Held, Stream};
use crate::error::KafkaError;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Messages that are replayed before others get the topic's lock.
const AT_ONCE: usize = 1_000;

/// How much later than asked those hear who wait for a message that was handed
/// over late: the client looks for what is late each second.
const GRACE: Duration = Duration::from_millis(1_500);

/// Dropped messages are logged at most this often, per topic.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// The keeping of one call's messages.
pub(super) struct Keeper {
    /// The partition that they wait for, if it is that which cannot be reached.
    pub(super) slot: Option<usize>,
    is_downtime: bool,
    bound: Option<usize>,
    saved: usize,
    dropped: Vec<KeptRecord>,
}

impl Inner {
    pub(super) fn keeper(&self, entry: Option<Entry>) -> Keeper {
        let slot = entry.map(|entry| entry.slot);
        let slot = slot.filter(|slot| self.is_direct() && !self.is_available(*slot));
        // Otherwise it is the client's queue that is full.
        let is_downtime = self.reach != Reach::Open || self.replayed.is_some() || slot.is_some();
        Keeper {
            slot,
            is_downtime,
            bound: self.settings.max_downtime_messages.filter(|_| is_downtime),
            saved: 0,
            dropped: Vec::new(),
        }
    }

    /// Keeps a message, or drops one in its place. Returns how many there are;
    /// `None`: it has no room, and the caller is to be told.
    pub(super) fn keep(
        &mut self,
        core: &Core,
        kept: &mut Keeper,
        held: Held,
        after: &mut After,
    ) -> Option<usize> {
        while kept.bound.is_some_and(|bound| self.saved() >= bound) {
            let oldest = match self.settings.downtime_policy {
                DowntimePolicy::Reject => return None,
                DowntimePolicy::DropNewest => None,
                DowntimePolicy::DropOldest => self.pop_oldest(),
            };
            let Some(oldest) = oldest else {
                let record = self.drop_one(core, held, Dropped::Newest, after);
                kept.dropped.push(record);
                return Some(self.saved());
            };
            let record = self.drop_one(core, oldest, Dropped::Oldest, after);
            kept.dropped.push(record);
        }
        kept.saved += 1;
        let stream = kept.slot.and_then(|slot| self.streams.get_mut(slot));
        if let Some(stream) = stream {
            stream.push(held);
            Some(stream.len())
        } else {
            self.backlog.push_back(held);
            Some(self.backlog.len())
        }
    }

    /// Tells of what was kept.
    pub(super) fn close_keeper(&mut self, core: &Core, kept: Keeper, refused: usize) {
        let messages = kept.saved;
        if kept.is_downtime && messages > 0 {
            self.counts.saved += messages as u64;
            core.announce(self, kept.slot, || Happening::DowntimeSaved { messages });
        }
        if !kept.dropped.is_empty() || refused > 0 {
            core.announce(self, None, || Happening::MaxDowntimeBufferReached {
                dropped: kept.dropped,
                refused,
            });
        }
    }

    /// Messages that wait because nobody can be reached.
    fn saved(&self) -> usize {
        let streams = self.streams.iter().enumerate();
        let unreached = streams.filter(|(slot, _)| self.is_unreached(*slot));
        self.backlog.len() + unreached.map(|(_, stream)| stream.len()).sum::<usize>()
    }

    fn is_unreached(&self, slot: usize) -> bool {
        self.reach != Reach::Open || !self.is_available(slot)
    }

    fn pop_oldest(&mut self) -> Option<Held> {
        let backlog = self.backlog.front().map(|held| held.record.since);
        let streams = self.streams.iter().enumerate();
        let unreached = streams.filter(|(slot, _)| self.is_unreached(*slot));
        let fronts = unreached.filter_map(|(slot, stream)| Some((stream.since()?, slot)));
        match (fronts.min(), backlog) {
            (Some((since, slot)), backlog) if backlog.is_none_or(|other| since <= other) => {
                self.streams.get_mut(slot).and_then(Stream::pop_oldest)
            }
            _ => self.backlog.pop_front(),
        }
    }

    /// Makes room by the topic's policy; false if it has nothing to drop.
    pub(super) fn drop_for_room(&mut self, core: &Core, after: &mut After) -> bool {
        let is_down = self.reach != Reach::Open || self.replayed.is_some();
        if !is_down || self.settings.downtime_policy != DowntimePolicy::DropOldest {
            return false;
        }
        let Some(oldest) = self.pop_oldest() else {
            return false;
        };
        let dropped = vec![self.drop_one(core, oldest, Dropped::Oldest, after)];
        core.announce(self, None, || Happening::MaxDowntimeBufferReached {
            dropped,
            refused: 0,
        });
        true
    }

    /// Books a message as dropped.
    fn drop_one(
        &mut self,
        core: &Core,
        held: Held,
        reason: Dropped,
        after: &mut After,
    ) -> KeptRecord {
        let at = core.place(held.index, held.record.wanted);
        self.end_one(core, held, reason, after, || ProduceError::Dropped {
            at,
            reason,
        })
    }

    fn end_one(
        &mut self,
        core: &Core,
        held: Held,
        reason: Dropped,
        after: &mut After,
        error: impl FnOnce() -> ProduceError,
    ) -> KeptRecord {
        core.parts.budget.give_back(1, held.bytes());
        self.count_dropped(core, reason, 1);
        after.tell(held.hearer, || Err(error()));
        held.record
    }

    /// Counts dropped messages, and tells the log once a second.
    pub(super) fn count_dropped(&mut self, core: &Core, reason: Dropped, count: usize) {
        if let Some(dropped) = self.dropped.get_mut(reason as usize) {
            *dropped += count as u64;
        }
        self.unsaid += count as u64;
        if self.said.is_some_and(|said| said.elapsed() < LOG_INTERVAL) {
            return;
        }
        self.said = Some(Instant::now());
        let count = std::mem::take(&mut self.unsaid);
        tracing::warn!(
            component = "producer",
            topic = &*core.name,
            count,
            "messages were dropped, at last: {}",
            reason.name()
        );
    }

    /// The topic is not there, or not for us: nothing of it waits any longer.
    pub(super) fn give_up(&mut self, core: &Core, error: KafkaError, after: &mut After) {
        let mut records = Vec::new();
        let mut kept: Vec<Held> = std::mem::take(&mut self.backlog).into();
        for stream in &mut self.streams {
            kept.append(&mut stream.take());
        }
        for held in kept {
            let index = held.index;
            let error = || core.failed(error, index, None);
            records.push(self.end_one(core, held, Dropped::UnknownTopic, after, error));
        }
        for held in std::mem::take(&mut self.waiting) {
            core.parts.budget.give_back(1, held.bytes());
            after.tell(held.hearer, || Err(core.failed(error, held.index, None)));
        }
        if !records.is_empty() {
            let reason = Dropped::UnknownTopic;
            core.announce(self, None, || Happening::Dropped { reason, records });
        }
    }

    /// Lets go of what has waited for longer than it may.
    fn expire(&mut self, core: &Core, now: Instant, after: &mut After) {
        while let Some(held) = self.waiting.front()
            && held.record.since + self.sync_timeout <= now
        {
            let Some(held) = self.waiting.pop_front() else {
                break;
            };
            core.parts.budget.give_back(1, held.bytes());
            let at = core.place(held.index, held.record.wanted);
            let last = Arc::clone(&self.last_error);
            after.tell(held.hearer, || {
                Err(match held.is_doubtful {
                    true => ProduceError::PossiblyPersisted { at },
                    false => ProduceError::Downtime { at, last },
                })
            });
        }
        while let Some((deadline, group, since)) = self.late.front().copied()
            && deadline <= now
        {
            self.late.pop_front();
            self.stop_waiting(core, group, since, after);
        }
        let age = self.settings.max_message_age;
        if age.is_zero() {
            return;
        }
        let mut records = Vec::new();
        while self.oldest().is_some_and(|since| since + age <= now) {
            let Some(held) = self.pop_oldest() else {
                break;
            };
            records.push(self.drop_one(core, held, Dropped::Expired, after));
        }
        if !records.is_empty() {
            let reason = Dropped::Expired;
            core.announce(self, None, || Happening::Dropped { reason, records });
        }
    }

    /// Those who wait for a flight have waited long enough. Its messages began
    /// their time at the client late, so that they may still get to Kafka.
    fn stop_waiting(&mut self, core: &Core, group: usize, since: Instant, after: &mut After) {
        let Some(flight) = self.flights.get_mut(group) else {
            return;
        };
        if flight.since != since {
            return;
        }
        let partition = flight.partition();
        let hearers = std::mem::replace(&mut flight.hearers, Hearers::Nobody);
        if let Hearers::Each(hearers) = hearers {
            for (hearer, index) in hearers.into_iter().flatten() {
                let at = core.place(index, Some(partition));
                after.tell(Some(hearer), || Err(ProduceError::PossiblyPersisted { at }));
            }
        }
    }

    /// Since when the oldest of what is kept has been waiting.
    fn oldest(&self) -> Option<Instant> {
        let backlog = self.backlog.front().map(|held| held.record.since);
        let streams = self.streams.iter().enumerate();
        let unreached = streams.filter(|(slot, _)| self.is_unreached(*slot));
        let fronts = unreached.filter_map(|(_, stream)| stream.since());
        fronts.chain(backlog).min()
    }

    /// Hands those who wait to their client.
    fn send_waiting(&mut self, core: &Arc<Core>, after: &mut After) {
        let count = self.waiting.len();
        for _ in 0..count {
            let Some(held) = self.waiting.pop_front() else {
                return;
            };
            let record = &held.record;
            let picked = self.pick(&core.name, record.wanted, record.key(), record.value());
            match picked {
                Ok(entry) => {
                    let before = self.waiting.len();
                    let deadline = record.since + self.sync_timeout + GRACE;
                    let group = self.send_limited(core, entry.slot, vec![held], after);
                    if let Some(flight) = group.and_then(|group| self.flights.get(group)) {
                        let group = group.unwrap_or_default();
                        self.late.push_back((deadline, group, flight.since));
                    }
                    if self.waiting.len() > before {
                        return;
                    }
                }
                Err(NotPicked::NobodyThere) => {
                    self.waiting.push_front(held);
                    return;
                }
                Err(other) => {
                    core.parts.budget.give_back(1, held.bytes());
                    let error = core.not_picked(other, held.index);
                    after.tell(held.hearer, || Err(error));
                }
            }
        }
    }

    /// Picks for what is kept, in order, and hands it over.
    fn replay(&mut self, core: &Arc<Core>, after: &mut After) {
        let mut refused: Vec<KeptRecord> = Vec::new();
        let mut touched: Vec<usize> = Vec::new();
        for _ in 0..AT_ONCE {
            let Some(mut held) = self.backlog.pop_front() else {
                break;
            };
            if let Some(wanted) = held.record.wanted
                && !held.is_explicit
                && self.ring.slot_of(wanted).is_none()
            {
                // What was picked for a partition that is gone is picked anew.
                held.record.wanted = None;
            }
            let record = &held.record;
            match self.pick(&core.name, record.wanted, record.key(), record.value()) {
                Ok(entry) => {
                    held.lane = entry.lane;
                    if let Some(replayed) = &mut self.replayed {
                        *replayed += 1;
                    }
                    let Some(stream) = self.streams.get_mut(entry.slot) else {
                        break;
                    };
                    let is_full = stream.push(held) >= self.settings.max_batch_messages
                        || stream.bytes() >= self.settings.max_batch_bytes;
                    if is_full && self.is_available(entry.slot) {
                        if !self.flush_stream(core, entry.slot, after) {
                            self.is_stuck = true;
                            break;
                        }
                    } else if !touched.contains(&entry.slot) {
                        touched.push(entry.slot);
                    }
                }
                Err(NotPicked::NobodyThere) => {
                    self.backlog.push_front(held);
                    break;
                }
                Err(other) => {
                    let index = held.index;
                    let error = || core.not_picked(other, index);
                    refused.push(self.end_one(core, held, Dropped::Blocked, after, error));
                }
            }
        }
        for slot in touched {
            if self.is_available(slot) && !self.flush_stream(core, slot, after) {
                self.is_stuck = true;
            }
        }
        if !refused.is_empty() {
            let (reason, records) = (Dropped::Blocked, refused);
            core.announce(self, None, || Happening::Dropped { reason, records });
        }
    }

    /// Does what is due.
    fn work(&mut self, core: &Arc<Core>, now: Instant, after: &mut After) {
        self.expire(core, now, after);
        if self.reach != Reach::Open {
            return;
        }
        self.look_at_disk(core);
        self.send_waiting(core, after);
        let ttl = self.settings.batch_ttl;
        for slot in 0..self.streams.len() {
            let since = self.streams.get(slot).and_then(Stream::since);
            let is_due = since.is_some_and(|since| self.replayed.is_some() || since + ttl <= now);
            if is_due && self.is_available(slot) {
                self.flush_stream(core, slot, after);
            }
        }
        self.is_stuck = false;
        self.replay(core, after);
        if self.backlog.is_empty()
            && let Some(messages) = self.replayed.take()
        {
            if messages > 0 {
                self.counts.replayed += messages as u64;
                core.announce(self, None, || Happening::DowntimeReplayed { messages });
            }
            core.changed.notify_waiters();
        }
    }

    /// Lets the clock come for what is due next.
    pub(super) fn plan(&mut self, core: &Arc<Core>, now: Instant) {
        let mut due: Option<Instant> = None;
        let mut earlier = |at: Instant| due = Some(due.map_or(at, |due| due.min(at)));
        if let Some(held) = self.waiting.front() {
            earlier(held.record.since + self.sync_timeout);
        }
        if let Some((deadline, _, _)) = self.late.front() {
            earlier(*deadline);
        }
        let age = self.settings.max_message_age;
        if !age.is_zero()
            && let Some(since) = self.oldest()
        {
            earlier(since + age);
        }
        if self.reach == Reach::Open {
            if self.on_disk.is_some() {
                earlier(now + journaled::LOOK);
            }
            if !self.backlog.is_empty() && !self.is_stuck {
                // Only so many were replayed at once.
                earlier(now);
            } else if !self.backlog.is_empty() || !self.waiting.is_empty() {
                earlier(now + FULL_PAUSE);
            }
            for (slot, stream) in self.streams.iter().enumerate() {
                if let Some(since) = stream.since()
                    && self.is_available(slot)
                {
                    earlier(since + self.settings.batch_ttl);
                }
            }
        }
        if let Some(due) = due {
            self.come_at(core, due);
        }
    }

    /// Lets the clock come then, unless it comes earlier.
    pub(super) fn come_at(&mut self, core: &Arc<Core>, due: Instant) {
        if self.due.is_none_or(|planned| due < planned) {
            self.due = Some(due);
            core.parts.clock.visit(core, due);
        }
    }
}

impl Core {
    /// The clock has come.
    pub(super) fn tick(self: &Arc<Self>, now: Instant) {
        let mut after = After::default();
        {
            let mut inner = self.inner.lock();
            if inner.due.is_none_or(|due| due <= now) {
                inner.due = None;
            }
            inner.work(self, now, &mut after);
            inner.plan(self, now);
        }
        after.run();
    }

    /// Hands over all batches of partitions that can be reached.
    pub(super) fn flush_batches(self: &Arc<Self>) {
        let mut after = After::default();
        {
            let mut inner = self.inner.lock();
            for slot in 0..inner.streams.len() {
                if inner.reach == Reach::Open && inner.is_available(slot) {
                    inner.flush_stream(self, slot, &mut after);
                }
            }
        }
        after.run();
    }
}
