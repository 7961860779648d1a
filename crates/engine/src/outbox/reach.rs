//! A topic comes and goes: what the monitor tells it.
//!
//! Contract: `producer-engine.md`, sections 6 and 8.

use super::core::{Absence, After, Core, Inner, Reach};
use super::events::Happening;
use super::monitor::{Leaders, Limits, Need};
use super::strategy::PartitionView;
use super::stream::Stream;
use crate::error::KafkaError;
use crate::journal::is_permanent;
use crate::native::{TopicLookup, TopicMetadata};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a topic is asked for that is not there yet.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

impl Core {
    /// Whether the cluster is to be asked about the topic, and why.
    pub(super) fn need(&self, limits: &Limits, has_trouble: bool, now: Instant) -> Option<Need> {
        let inner = self.inner.lock();
        if inner.absence.is_some() {
            return None;
        }
        let is_over = |pause: Duration| {
            inner
                .asked
                .is_none_or(|asked| now.saturating_duration_since(asked) >= pause)
        };
        match inner.reach {
            Reach::Starting => {
                let pause = if inner.is_answered {
                    ASK_INTERVAL
                } else {
                    limits.retry
                };
                is_over(pause).then_some(Need::Due)
            }
            Reach::Down => is_over(limits.retry).then_some(Need::Due),
            Reach::Open => {
                let pause = limits.question() / 2;
                if has_trouble {
                    Some(Need::Trouble)
                } else if (inner.silence(now) >= limits.question() || inner.silent_since.is_some())
                    && is_over(pause)
                {
                    Some(Need::Silence)
                } else {
                    let is_degraded = inner.ring.available() < inner.streams.len();
                    let pause = if is_degraded {
                        limits.retry
                    } else {
                        limits.refresh
                    };
                    is_over(pause).then_some(Need::Due)
                }
            }
        }
    }

    /// Brokers that are silent because of a quota are not missed until then.
    pub(super) fn excuse(&self, throttles: &[(i32, Instant)]) {
        if throttles.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        for (view, stream) in inner.ring.partitions().iter().zip(&mut inner.streams) {
            let until = throttles
                .iter()
                .find(|(leader, _)| view.leader == Some(*leader));
            if let Some((_, until)) = until {
                stream.heard = stream.heard.max(*until);
            }
        }
    }

    /// Nobody has answered; true when the topic goes down by that.
    pub(super) fn unreached(
        self: &Arc<Self>,
        reason: &Arc<str>,
        is_silence: bool,
        limits: &Limits,
        asked: Instant,
    ) -> bool {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        inner.asked = Some(asked);
        inner.is_answered = false;
        inner.absent_since = None;
        inner.last_error = Arc::clone(reason);
        if inner.reach != Reach::Open {
            let reason = Arc::clone(reason);
            self.announce(inner, None, || Happening::WorkerStillDown { reason });
            return false;
        }
        let now = Instant::now();
        // The question may have gone to the one broker that is silent: where
        // there are more, the next one goes elsewhere.
        let is_first = inner.silent_since.is_none();
        let since = *inner.silent_since.get_or_insert(asked);
        let silence = inner.silence(now).max(now - since);
        let may_go_elsewhere = is_first && inner.ring.has_many_leaders();
        let is_over = !is_silence || silence >= limits.down_after && !may_go_elsewhere;
        if is_over {
            inner.go_down(self, reason, now);
        }
        is_over
    }

    /// What was last known of its partitions.
    pub(super) fn known(&self) -> Option<TopicMetadata> {
        let inner = self.inner.lock();
        let partitions = inner.ring.partitions();
        let without = partitions.iter().filter(|view| view.leader.is_none());
        let leaders = partitions.iter().map(|view| view.leader.unwrap_or(-1));
        (!partitions.is_empty()).then(|| TopicMetadata {
            name: self.name.to_string(),
            id: None,
            error: 0,
            partitions: partitions.iter().map(|view| view.id).collect(),
            leaders: leaders.collect(),
            without_leader: without.map(|view| view.id).collect(),
        })
    }

    /// The topic exists, but not quite.
    pub(super) fn is_being_made(&self, asked: Instant) {
        let mut inner = self.inner.lock();
        inner.asked = Some(asked);
        inner.is_answered = true;
        inner.absent_since = None;
    }

    /// The cluster does not have it, or will not let us use it.
    pub(super) fn missing(self: &Arc<Self>, error: KafkaError, limits: &Limits, asked: Instant) {
        let mut after = After::default();
        {
            let mut inner = self.inner.lock();
            let inner = &mut *inner;
            inner.asked = Some(asked);
            inner.is_answered = true;
            if inner.reach == Reach::Open {
                inner.down_since = Instant::now();
            }
            inner.reach = Reach::Starting;
            let now = Instant::now();
            let since = *inner.absent_since.get_or_insert(now);
            // An unknown topic can appear by itself, and one for which there are
            // too few brokers be made once they have come.
            let is_final = is_permanent(error) && !error.is_unknown_topic();
            if is_final || now - since >= limits.grace {
                inner.absent_since = None;
                inner.last_error = error.text().into();
                inner.absence = Some(Absence {
                    error,
                    until: now + limits.memory,
                });
                inner.give_up(self, error, &mut after);
                self.changed.notify_waiters();
            }
        }
        after.run();
    }

    /// Partitions whose leaders are to be asked whether they are there.
    pub(super) fn doubtful(&self, topic: &TopicMetadata, limits: &Limits) -> Vec<(i32, i32)> {
        let inner = self.inner.lock();
        let now = Instant::now();
        let is_doubtful = |(partition, leader): &(i32, i32)| {
            *leader >= 0
                && (inner.reach != Reach::Open
                    || inner.ring.slot_of(*partition).is_some_and(|slot| {
                        !inner.is_available(slot)
                            || inner
                                .streams
                                .get(slot)
                                .is_some_and(|stream| stream.silence(now) >= limits.down_after / 2)
                    }))
        };
        pairs(topic).filter(is_doubtful).collect()
    }

    /// Lets the other clients know of partitions before messages for them
    /// come.
    pub(super) fn tell_clients(&self, topic: &TopicMetadata, limit: Duration) {
        {
            let inner = self.inner.lock();
            if inner.reach == Reach::Open && inner.streams.len() == topic.partitions.len() {
                return;
            }
        }
        let outlets = self.outlets.load_full();
        for outlet in outlets.iter().flat_map(|outlets| outlets.iter().skip(1)) {
            // If it fails it learns of them by itself, later.
            let _ = outlet
                .producer
                .ask(&TopicLookup::One(&outlet.native), limit);
        }
    }

    /// The topic's partitions and who leads them. Returns whether it was up
    /// before, and whether it is now.
    pub(super) fn found(
        self: &Arc<Self>,
        topic: &TopicMetadata,
        leaders: &Leaders,
        reason: &Arc<str>,
        limits: &Limits,
    ) -> (bool, bool) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let now = Instant::now();
        inner.asked = Some(now);
        inner.is_answered = true;
        inner.absent_since = None;
        inner.silent_since = None;
        let before: Vec<PartitionView> = inner.ring.partitions().to_vec();
        let was_open = inner.reach == Reach::Open;
        inner.rebuild(topic, leaders, limits, now);
        let up = |view: &PartitionView| {
            let known = before.binary_search_by_key(&view.id, |known| known.id);
            let known = known.ok().and_then(|at| before.get(at));
            was_open && known.is_some_and(|known| known.is_available)
        };
        let views: Vec<PartitionView> = inner.ring.partitions().to_vec();
        let changed: Vec<(usize, bool)> = views
            .iter()
            .enumerate()
            .filter(|(_, view)| view.is_available != up(view))
            .map(|(slot, view)| (slot, view.is_available))
            .collect();
        if inner.ring.available() == 0 {
            inner.last_error = Arc::clone(reason);
            if was_open {
                // Told before they are all marked as gone.
                let reason = Arc::clone(reason);
                inner.end_reach(self, &reason, now);
            } else {
                inner.reach = Reach::Down;
                let reason = Arc::clone(reason);
                self.announce(inner, None, || Happening::WorkerStillDown { reason });
            }
        }
        for (slot, _) in changed.iter().filter(|(_, is_up)| !is_up) {
            let reason = Arc::clone(reason);
            self.announce(inner, Some(*slot), || Happening::WorkerDown { reason });
        }
        if inner.ring.available() > 0 {
            let ups = changed.iter().filter(|(_, is_up)| *is_up);
            inner.come_up(self, ups.map(|(slot, _)| *slot).collect(), leaders, now);
        }
        self.changed.notify_waiters();
        (was_open, inner.reach == Reach::Open)
    }
}

impl Stream {
    /// For how long its messages have been without an answer.
    fn silence(&self, now: Instant) -> Duration {
        if self.in_flight == 0 {
            return Duration::ZERO;
        }
        now.saturating_duration_since(self.heard)
    }
}

impl Inner {
    /// The longest silence of a partition that counts as up.
    fn silence(&self, now: Instant) -> Duration {
        let streams = self.streams.iter().enumerate();
        let up = streams.filter(|(slot, _)| self.is_available(*slot));
        up.map(|(_, stream)| stream.silence(now))
            .max()
            .unwrap_or_default()
    }

    /// Takes over what the cluster says. Partitions that are gone hand what
    /// they hold back to the picker.
    fn rebuild(&mut self, topic: &TopicMetadata, leaders: &Leaders, limits: &Limits, now: Instant) {
        let mut known: Vec<(i32, i32)> = pairs(topic).collect();
        known.sort_unstable();
        let mut old: Vec<(i32, Stream)> = {
            let ids = self.ring.partitions().iter().map(|view| view.id);
            ids.zip(std::mem::take(&mut self.streams)).collect()
        };
        let was_open = self.reach == Reach::Open;
        let mut views = Vec::with_capacity(known.len());
        for (id, leader) in known {
            let at = old.iter().position(|(known, _)| *known == id);
            let mut stream = at.map_or_else(|| Stream::new(now), |at| old.swap_remove(at).1);
            let silence = stream.silence(now);
            let is_silent = match leaders.get(&leader) {
                // One that was up so far has its time.
                Some(None) => {
                    !was_open || stream.silent_under.is_some() || silence >= limits.down_after
                }
                Some(Some(_)) => {
                    stream.heard = now;
                    false
                }
                None => stream.silent_under == Some(leader),
            };
            stream.silent_under = is_silent.then_some(leader);
            views.push(PartitionView {
                id,
                leader: (leader >= 0).then_some(leader),
                is_available: leader >= 0 && !is_silent,
            });
            self.streams.push(stream);
        }
        old.sort_by_key(|(id, _)| *id);
        for (_, mut stream) in old.into_iter().rev() {
            for held in stream.take().into_iter().rev() {
                self.backlog.push_front(held);
            }
        }
        self.ring.rebuild(views, self.settings.lanes_per_partition);
    }

    /// Partitions have become available.
    fn come_up(&mut self, core: &Arc<Core>, slots: Vec<usize>, leaders: &Leaders, now: Instant) {
        if self.reach != Reach::Open {
            let down = now - self.down_since;
            core.announce(self, None, || Happening::TimeDown(down));
        }
        let mut connected = Vec::new();
        for slot in &slots {
            let view = self.ring.partitions().get(*slot);
            let leader = view.and_then(|view| view.leader).unwrap_or(-1);
            if let Some(Some(took)) = leaders.get(&leader)
                && !connected.contains(&leader)
            {
                connected.push(leader);
                core.announce(self, Some(*slot), || Happening::TimeToConnect(*took));
            }
        }
        let lanes = self.ring.lanes();
        for slot in &slots {
            core.announce(self, Some(*slot), || Happening::WorkerUp { lanes });
        }
        // What was kept for them.
        let kept = slots.iter().filter_map(|slot| self.streams.get(*slot));
        let kept: usize = kept.map(Stream::len).sum();
        if kept > 0 || self.reach != Reach::Open && !self.backlog.is_empty() {
            *self.replayed.get_or_insert(0) += kept;
        }
        self.reach = Reach::Open;
        self.come_at(core, now);
    }

    /// Nobody answers any more.
    fn go_down(&mut self, core: &Arc<Core>, reason: &Arc<str>, now: Instant) {
        for slot in 0..self.streams.len() {
            if self.is_available(slot) {
                let reason = Arc::clone(reason);
                core.announce(self, Some(slot), || Happening::WorkerDown { reason });
                self.ring.set_available(slot, false);
            }
        }
        self.end_reach(core, reason, now);
    }

    fn end_reach(&mut self, core: &Arc<Core>, reason: &Arc<str>, now: Instant) {
        self.last_error = Arc::clone(reason);
        self.reach = Reach::Down;
        self.down_since = now;
        self.replayed = None;
        self.silent_since = None;
        let messages: usize = self.streams.iter().map(Stream::len).sum();
        if messages > 0 {
            self.counts.saved += messages as u64;
            core.announce(self, None, || Happening::DowntimeSaved { messages });
        }
        core.changed.notify_waiters();
    }
}

/// Each partition with its leader.
fn pairs(topic: &TopicMetadata) -> impl Iterator<Item = (i32, i32)> + '_ {
    let leaders = topic.leaders.iter().copied();
    topic.partitions.iter().copied().zip(leaders)
}
