//! Handing messages of a topic to its client: lists, batches, and records made
//! of batches.
//!
//! Contract: `producer-engine.md`, section 5.

use super::answers::{Hearer, Outcome, ProduceSink};
use super::core::{After, Core, Inner, Outlet, Reach};
use super::error::{Dropped, ProduceError};
use super::events::Happening;
use super::flights::{Flight, Hearers};
use super::massage::MassageBuffer;
use super::payload::NewRecord;
use super::stream::{Held, Sendable};
use crate::error::KafkaError;
use crate::producer::{Delivery, HandedOver, RECORD_OVERHEAD, Tag};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause after the client's queue was full: the reports that make room come
/// from another thread.
pub(super) const FULL_PAUSE: Duration = Duration::from_millis(5);

/// Between two questions about a topic that refuses messages.
const DOUBT_PAUSE: Duration = Duration::from_millis(500);

/// What the client has taken of a list.
pub(super) struct Passed {
    /// Up to there it is done with: taken or refused.
    pub(super) passed: usize,
    /// What it will never take, and why.
    pub(super) refused: Vec<(usize, KafkaError)>,
    /// Where the flight of the others is.
    group: usize,
    /// It stopped because it does not know the topic or partition.
    is_lost: bool,
    /// It stopped because it has failed for good.
    is_dead: bool,
}

/// Hands messages to a client, in order, up to the first that has no room.
///
/// Those of which nobody wants to know (group 0) have their numbers in their
/// tags, from `first` on.
fn hand_over<T: Sendable>(
    outlet: &Outlet,
    partition: i32,
    (group, first): (usize, u64),
    items: &[T],
) -> Passed {
    let mut done = Passed {
        passed: items.len(),
        refused: Vec::new(),
        group,
        is_lost: false,
        is_dead: false,
    };
    let tag = |index: usize| {
        let index = match group {
            0 => Inner::index_of(first + index as u64),
            _ => index,
        };
        Tag::new(outlet.number, group, index)
    };
    let mut stopped = None;
    let mut index = 0;
    while let Some(item) = items.get(index) {
        let plain = items.get(index..).unwrap_or_default();
        let plain = plain.iter().take_while(|item| item.is_plain()).count();
        let mut note = |at: usize, outcome: HandedOver| match outcome {
            HandedOver::Taken => {}
            HandedOver::Full | HandedOver::Dead => {
                stopped.get_or_insert((at, outcome));
            }
            HandedOver::Refused(error) if error.is_unknown_topic() => {
                stopped.get_or_insert((at, outcome));
            }
            HandedOver::Refused(error) => done.refused.push((at, error)),
        };
        let (producer, native) = (&outlet.producer, &outlet.native);
        let length = match plain {
            0 => {
                let record = (item.key(), item.value());
                let (headers, timestamp) = (item.headers(), item.timestamp());
                let tag = tag(index);
                let outcome =
                    producer.hand_over_whole(native, partition, record, &headers, timestamp, tag);
                note(index, outcome);
                1
            }
            1 => {
                let (key, value) = (item.key(), item.value());
                let outcome = producer.hand_over_plain(native, partition, key, value, tag(index));
                note(index, outcome);
                1
            }
            count => {
                let run = items.get(index..index + count).unwrap_or_default();
                let records = run.iter().enumerate();
                let records = records.map(|(at, item)| (item.key(), item.value(), tag(index + at)));
                producer.hand_over_batch(native, partition, records, |at, outcome| {
                    note(index + at, outcome);
                });
                count
            }
        };
        index += length;
        if let Some((at, why)) = stopped {
            done.passed = at;
            done.is_lost = matches!(why, HandedOver::Refused(_));
            done.is_dead = why == HandedOver::Dead;
            // Behind one that stops, others may have been refused: for them
            // it is as if they had not been tried.
            done.refused.retain(|(refused, _)| *refused < at);
            break;
        }
    }
    done
}

impl Inner {
    /// Hands a list to the partition's client; its room is that of its
    /// messages. `first` is the index of the first in its payload.
    pub(super) fn launch_new(
        &mut self,
        core: &Core,
        slot: usize,
        is_limited: bool,
        records: &[NewRecord<'_>],
        first: usize,
        hearer: Option<Hearer>,
    ) -> Passed {
        let needs_flight =
            is_limited || hearer.is_some() || !records.iter().all(NewRecord::is_plain);
        let done = self.launch(core, slot, is_limited, needs_flight, records);
        if let (Some(hearer), Some(flight)) = (hearer, self.flights.get_mut(done.group))
            && done.group != 0
        {
            flight.hearers = Hearers::Counted(hearer, first);
        }
        done
    }

    /// Hands messages to a client, and counts them. Lists that are longer
    /// than a flight can be stop there, as if the client were full.
    fn launch<T: Sendable>(
        &mut self,
        core: &Core,
        slot: usize,
        is_limited: bool,
        needs_flight: bool,
        items: &[T],
    ) -> Passed {
        let nothing = Passed {
            passed: 0,
            refused: Vec::new(),
            group: 0,
            is_lost: false,
            is_dead: false,
        };
        let partition = self.partition(slot);
        let outlets = core.outlets.load();
        let outlet = outlets.as_ref();
        let outlet = outlet.and_then(|outlets| outlets.of(partition, is_limited));
        let Some(outlet) = outlet.filter(|_| !self.is_renewing) else {
            return nothing;
        };
        let items = items.get(..Tag::INDICES).unwrap_or(items);
        let first = self.handed_over;
        if self.plain_in_flight == 0 {
            self.plain_since = first;
        }
        // Without a flight their numbers could not be told apart.
        let is_far = first + items.len() as u64 - self.plain_since > Tag::INDICES as u64;
        let mut group = 0;
        if needs_flight || is_far {
            if self.flights.len() >= Tag::GROUPS {
                return nothing;
            }
            let flight = Flight::new(partition, is_limited, first, Instant::now());
            group = self.flights.insert(flight);
        }
        let done = hand_over(outlet, partition, (group, first), items);
        self.handed_over += done.passed as u64;
        let count = done.passed - done.refused.len();
        if group == 0 {
            self.plain_in_flight += count;
        } else {
            if count == 0 {
                self.flights.remove(group);
            } else if let Some(flight) = self.flights.get_mut(group) {
                let taken = items.iter().take(done.passed).map(Sendable::bytes);
                let refused = done.refused.iter().filter_map(|(at, _)| items.get(*at));
                let refused: u64 = refused.map(Sendable::bytes).sum();
                flight.charge(count, taken.sum::<u64>() - refused);
            }
        }
        if count > 0 {
            self.in_flight += count;
            if !is_limited && let Some(stream) = self.streams.get_mut(slot) {
                if stream.in_flight == 0 {
                    stream.heard = Instant::now();
                }
                stream.in_flight += count;
            }
        }
        if !done.refused.is_empty() {
            self.doubt(core);
        }
        if done.is_dead {
            self.is_renewing = true;
            core.parts.monitor.wake();
        }
        if done.is_lost {
            // The cluster is asked what has become of it.
            self.lose(core);
        }
        Passed {
            group: if count == 0 { 0 } else { group },
            ..done
        }
    }

    /// Messages are given up: the cluster is asked about the topic. It may say
    /// the same, or the client has to hear that it is over.
    pub(super) fn doubt(&mut self, core: &Core) {
        if self
            .asked
            .is_none_or(|asked| asked.elapsed() >= DOUBT_PAUSE)
        {
            self.asked = None;
            core.parts.monitor.wake();
        }
    }

    /// The client says that topic or partition are not there.
    pub(super) fn lose(&mut self, core: &Core) {
        if self.reach == Reach::Open {
            self.reach = Reach::Starting;
            self.down_since = Instant::now();
        }
        core.parts.monitor.wake();
    }

    /// Hands over what is batched for a partition. What finds no room goes to
    /// the front of the backlog, and false is returned.
    pub(super) fn flush_stream(
        &mut self,
        core: &Arc<Core>,
        slot: usize,
        after: &mut After,
    ) -> bool {
        let Some(stream) = self.streams.get_mut(slot) else {
            return true;
        };
        let held = stream.take();
        if held.is_empty() {
            return true;
        }
        let partition = self.partition(slot);
        let mut held = self.massage(core, partition, held, after);
        let lanes = self.settings.lanes_per_partition as usize;
        let length = lanes.saturating_mul(self.settings.max_batch_messages as usize);
        let mut start = 0;
        while start < held.len() {
            let rest = held.get_mut(start..).unwrap_or_default();
            let batch_length = length.min(rest.len()).max(1);
            let batch = rest.get_mut(..batch_length).unwrap_or_default();
            let done = self.launch(core, slot, false, true, batch);
            self.settle_launch(core, partition, batch, &done, after);
            let messages = done.passed - done.refused.len();
            if messages > 0 {
                if let Some(flight) = self.flights.get_mut(done.group) {
                    flight.is_batch = true;
                }
                if let Some(stream) = self.streams.get_mut(slot) {
                    stream.unanswered += 1;
                }
                core.announce(self, Some(slot), || Happening::Flush { messages });
            }
            start += done.passed;
            if done.passed < batch_length {
                let left = held.split_off(start);
                if let Some(replayed) = &mut self.replayed {
                    *replayed = replayed.saturating_sub(left.len());
                }
                for mut one in left.into_iter().rev() {
                    one.record.wanted = Some(partition);
                    self.backlog.push_front(one);
                }
                self.come_at(core, Instant::now() + FULL_PAUSE);
                return false;
            }
        }
        true
    }

    /// Hands messages of those who wait to the client that has a limit; those
    /// that find no room wait on. Returns the flight of the others.
    pub(super) fn send_limited(
        &mut self,
        core: &Arc<Core>,
        slot: usize,
        held: Vec<Held>,
        after: &mut After,
    ) -> Option<usize> {
        let partition = self.partition(slot);
        let mut held = self.massage(core, partition, held, after);
        let done = self.launch(core, slot, true, true, &held);
        self.settle_launch(core, partition, &mut held, &done, after);
        let left = held.split_off(done.passed.min(held.len()));
        if !left.is_empty() {
            self.come_at(core, Instant::now() + FULL_PAUSE);
        }
        for one in left.into_iter().rev() {
            self.waiting.push_front(one);
        }
        (done.group != 0).then_some(done.group)
    }

    /// Moves those who want to hear of messages to their flight, and tells
    /// those of refused ones.
    fn settle_launch(
        &mut self,
        core: &Core,
        partition: i32,
        items: &mut [Held],
        done: &Passed,
        after: &mut After,
    ) {
        for (at, error) in &done.refused {
            let Some(held) = items.get_mut(*at) else {
                continue;
            };
            core.parts.budget.give_back(1, held.bytes());
            self.count_dropped(core, Dropped::Refused, 1);
            let index = held.index;
            after.tell(held.hearer.take(), || {
                Err(core.failed(*error, index, Some(partition)))
            });
        }
        let taken = items.get_mut(..done.passed).unwrap_or_default();
        if taken.iter().any(|held| held.hearer.is_some())
            && let Some(flight) = self.flights.get_mut(done.group)
            && done.group != 0
        {
            let hearers = taken.iter_mut();
            let hearers = hearers.map(|held| held.hearer.take().map(|who| (who, held.index)));
            flight.hearers = Hearers::Each(hearers.collect());
        }
    }

    /// Makes other records of a batch where the topic is configured so.
    fn massage(
        &mut self,
        core: &Core,
        partition: i32,
        mut held: Vec<Held>,
        after: &mut After,
    ) -> Vec<Held> {
        let Some(massage) = self.settings.massage.clone() else {
            return held;
        };
        // Leftovers of an earlier one come first.
        let made = held.iter().take_while(|held| held.is_massaged).count();
        let batch = held.split_off(made);
        self.massage_batch(core, &*massage, partition, batch, &mut held, after);
        held
    }

    fn massage_batch(
        &mut self,
        core: &Core,
        massage: &dyn MassageBuffer,
        partition: i32,
        mut batch: Vec<Held>,
        out: &mut Vec<Held>,
        after: &mut After,
    ) {
        let Some(since) = batch.first().map(|held| held.record.since) else {
            return;
        };
        let made = {
            let records: Vec<NewRecord<'_>> = batch.iter().map(plain_view).collect();
            let call = || massage.massage(&core.name, partition, &records);
            catch_unwind(AssertUnwindSafe(call))
        };
        let Ok(made) = made else {
            tracing::error!(
                component = "producer",
                topic = &*core.name,
                "the massage of a batch has panicked"
            );
            for held in &mut batch {
                held.is_massaged = true;
            }
            out.append(&mut batch);
            return;
        };
        let limit = core.parts.message_max_bytes();
        let largest = made.iter().map(|one| one.bytes() + RECORD_OVERHEAD).max();
        if largest.is_some_and(|bytes| bytes > limit) && batch.len() > 1 {
            let second = batch.split_off(batch.len() / 2);
            self.massage_batch(core, massage, partition, batch, out, after);
            self.massage_batch(core, massage, partition, second, out, after);
            return;
        }
        let refusal = match largest {
            None => Some("the massage left nothing of the batch".to_owned()),
            Some(bytes) if bytes > limit => Some(format!(
                "{bytes} bytes after the massage, {limit} are allowed"
            )),
            Some(_) => None,
        };
        let budget = &core.parts.budget;
        let bytes = batch.iter().map(Held::bytes).sum();
        if let Some(reason) = refusal {
            budget.give_back(batch.len(), bytes);
            self.count_dropped(core, Dropped::Refused, batch.len());
            for held in batch {
                let at = core.place(held.index, Some(partition));
                let reason = reason.clone();
                after.tell(held.hearer, || Err(ProduceError::Blocked { at, reason }));
            }
            return;
        }
        budget.take_anyway(made.len(), made.iter().map(super::Massaged::bytes).sum());
        budget.give_back(batch.len(), bytes);
        let hearers: Vec<Hearer> = batch.into_iter().filter_map(|held| held.hearer).collect();
        let joined = Joined::of(hearers, made.len());
        for (index, one) in made.into_iter().enumerate() {
            let record = NewRecord {
                key: one.key.as_deref(),
                value: one.value.as_deref(),
                ..NewRecord::default()
            };
            let hearer = joined
                .clone()
                .map(|joined| -> Hearer { (joined, index as u64) });
            let mut held = Held::new(&record, index, hearer, since);
            held.is_massaged = true;
            out.push(held);
        }
    }
}

fn plain_view(held: &Held) -> NewRecord<'_> {
    NewRecord {
        key: held.record.key(),
        value: held.record.value(),
        ..NewRecord::default()
    }
}

/// Those who hear of a batch once all that was made of it is settled.
struct Joined {
    state: Mutex<JoinedState>,
}

struct JoinedState {
    hearers: Vec<Hearer>,
    left: usize,
    error: Option<ProduceError>,
}

impl Joined {
    /// `None` if nobody wants to hear.
    fn of(hearers: Vec<Hearer>, left: usize) -> Option<Arc<dyn ProduceSink>> {
        if hearers.is_empty() {
            return None;
        }
        let error = None;
        let state = JoinedState {
            hearers,
            left,
            error,
        };
        Some(Arc::new(Self {
            state: Mutex::new(state),
        }))
    }
}

impl ProduceSink for Joined {
    fn settled(&self, _: u64, outcome: Outcome) {
        let (hearers, outcome): (Vec<Hearer>, Result<Delivery, ProduceError>) = {
            let mut state = self.state.lock();
            state.left = state.left.saturating_sub(1);
            let delivery = match outcome {
                Ok(delivery) => Some(delivery),
                Err(error) => {
                    state.error = Some(error);
                    None
                }
            };
            if state.left > 0 {
                return;
            }
            let hearers = std::mem::take(&mut state.hearers);
            match (state.error.take(), delivery) {
                (None, Some(delivery)) => (hearers, Ok(delivery)),
                (Some(error), _) => (hearers, Err(error)),
                (None, None) => return,
            }
        };
        for (sink, number) in hearers {
            sink.settled(number, outcome.clone());
        }
    }
}
