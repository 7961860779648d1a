//! Messages that come back, and clients that have failed for good.
//!
//! A topic that is gone may be made again within its grace. Messages that its
//! client gives up by then come back, and wait with all others.
//!
//! A producer with idempotence that has lost its place (KIP-360) takes nothing
//! any more, and sends nothing of what it has. Its messages come back with their
//! reports, in no order; they have the numbers under which they were handed
//! over. Once all are there they stand before all others again, and a new client
//! gets them. One that was on its way may be in Kafka twice then.

use super::clients::Clients;
use super::core::{After, Core, Inner, Outlet};
use super::payload::NewRecord;
use super::stream::{Held, Stream};
use super::{Header, Shared};
use crate::error::Error;
use crate::producer::{Producer, Renewal, Returned, Run, Tag};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the reports of a client that has failed are waited for at a time:
/// the monitor has other things to do. It stays in its place until all have
/// come, or messages would be lost with it.
const LONGEST: Duration = Duration::from_secs(10);
/// Between two looks whether they are there.
const LOOK: Duration = Duration::from_millis(2);
/// After which of them messages are given up once more: one may have been on its
/// way between two queues.
const LOOKS: u32 = 50;

/// A message that came back.
pub(super) struct Back {
    is_limited: bool,
    held: Held,
}

impl Shared {
    /// Replaces clients that have failed for good. Called by the monitor's
    /// thread.
    pub(super) fn renew(&self) {
        let clients = self.parts.clients.read().clone();
        for (place, client) in clients.iter().enumerate() {
            let Some(reason) = client.fatal_error() else {
                continue;
            };
            tracing::error!(
                component = "producer",
                "a client has failed for good, a new one goes on: {reason}"
            );
            if let Err(error) = self.renew_one(place, client) {
                tracing::error!(component = "producer", "no new client: {error}");
            }
        }
        let clients = self.parts.clients.read().clone();
        let is_dead = |client: &Producer| client.fatal_error().is_some();
        if !clients.iter().any(is_dead) {
            for core in self.cores() {
                core.finish_renewal();
            }
        }
    }

    fn renew_one(&self, place: usize, dead: &Producer) -> Result<(), Error> {
        let parts = &self.parts;
        for core in self.cores() {
            core.inner.lock().is_renewing = true;
        }
        let own = if place < parts.connections {
            &parts.own.patient
        } else {
            &parts.own.limited
        };
        let producer = if place == 0 || place == parts.connections {
            parts.cluster.renewed_producer(own, dead)?
        } else {
            // The cluster knows one client of a configuration; these are more.
            let config = parts.cluster.config();
            config.start_producer(&config.producer_properties(own), Renewal::Others)?
        };
        if !take_back_all(dead) {
            let reason = format!("{} messages have not come back yet", dead.outstanding());
            return Err(Error::Client { reason });
        }
        producer.add_alarm(&parts.alarm());
        // Topics that are made meanwhile wait.
        let topics = self.topics.write();
        if let Some(client) = parts.clients.write().get_mut(place) {
            *client = producer.clone();
        }
        for core in topics.values() {
            core.go_over(place, &producer);
        }
        parts.renewed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// Waits until all messages have come back; false if that takes too long.
fn take_back_all(dead: &Producer) -> bool {
    let begun = Instant::now();
    let mut look = 0_u32;
    while dead.outstanding() > 0 {
        if begun.elapsed() >= LONGEST {
            return false;
        }
        if look.is_multiple_of(LOOKS) {
            dead.give_up_messages();
        }
        look += 1;
        std::thread::sleep(LOOK);
    }
    true
}

impl Core {
    /// Hands over to another client from now on.
    fn go_over(self: &Arc<Self>, place: usize, producer: &Producer) {
        let Some(outlet) = self.outlet_at(producer) else {
            return;
        };
        // Under the lock nobody is handing over.
        let inner = self.inner.lock();
        let Some(mut outlets) = self.outlets.load_full().map(|all| Clients::clone(&all)) else {
            return;
        };
        if let Some(known) = outlets.get_mut(place) {
            let old: Arc<Outlet> = std::mem::replace(known, Arc::new(outlet));
            self.outlets.store(Some(Arc::new(outlets)));
            drop(inner);
            old.producer.forget_receiver(old.number);
        }
    }

    /// What has come back goes on before everything else; of a topic that was
    /// given up meanwhile, it is given up, too.
    fn finish_renewal(self: &Arc<Self>) {
        let mut after = After::default();
        {
            let mut inner = self.inner.lock();
            let inner = &mut *inner;
            if !inner.is_renewing {
                return;
            }
            inner.is_renewing = false;
            let (limited, others): (Vec<Back>, Vec<Back>) = std::mem::take(&mut inner.back)
                .into_iter()
                .partition(|back| back.is_limited);
            put_first(&mut inner.waiting, limited);
            if !others.is_empty() {
                inner.empty_streams();
            }
            put_first(&mut inner.backlog, others);
            let now = Instant::now();
            if inner.refuse_absent(self, 0, now).is_some()
                && let Some(absence) = inner.absence
            {
                inner.give_up(self, absence.error, &mut after);
            }
            inner.plan(self, now);
        }
        after.run();
    }
}

impl Inner {
    /// Puts what is batched before the backlog, behind what is there with
    /// numbers: that has come back, too.
    fn empty_streams(&mut self) {
        let mut numbered = Vec::new();
        while let Some(held) = self.backlog.pop_front_if(|held| held.number.is_some()) {
            numbered.push(held);
        }
        for slot in (0..self.streams.len()).rev() {
            let partition = self.partition(slot);
            let batch = self.streams.get_mut(slot).map(Stream::take);
            let batch = batch.unwrap_or_default();
            if self.is_available(slot)
                && let Some(replayed) = &mut self.replayed
            {
                // They are counted again.
                *replayed = replayed.saturating_sub(batch.len());
            }
            for mut held in batch.into_iter().rev() {
                // What was picked stays picked.
                held.record.wanted = Some(partition);
                if held.number.is_some() {
                    numbered.push(held);
                } else {
                    self.backlog.push_front(held);
                }
            }
        }
        // They are sorted with the others that have come back.
        for held in numbered {
            self.backlog.push_front(held);
        }
    }

    /// What stands in the tag of a message of which nobody wants to know. It
    /// tells the number of one that is among the [`Tag::INDICES`] from
    /// `plain_since` on.
    pub(super) fn index_of(number: u64) -> usize {
        usize::try_from(number % Tag::INDICES as u64).unwrap_or(0)
    }

    /// The number of the message at the client with that index.
    fn number_of(&self, index: usize) -> u64 {
        let all = Tag::INDICES as u64;
        let since = self.plain_since;
        since + (index as u64 + all - since % all) % all
    }

    /// Keeps the messages of a run that came back.
    pub(super) fn take_back(&mut self, core: &Core, run: &mut Run) {
        if run.returned.is_empty() {
            return;
        }
        for returned in std::mem::take(&mut run.returned) {
            let back = if run.group == 0 {
                let mut held = hold(&returned, Instant::now());
                held.number = Some(self.number_of(returned.index));
                self.plain_in_flight = self.plain_in_flight.saturating_sub(1);
                Some(Back {
                    is_limited: false,
                    held,
                })
            } else {
                self.take_from_flight(run.group, &returned)
            };
            let Some(mut back) = back else { continue };
            back.held.record.wanted = Some(run.partition);
            back.held.is_massaged = self.settings.massage.is_some();
            back.held.is_doubtful = returned.may_be_persisted;
            self.in_flight = self.in_flight.saturating_sub(1);
            let slot = self.ring.slot_of(run.partition);
            let stream = slot.and_then(|slot| self.streams.get_mut(slot));
            if let Some(stream) = stream.filter(|_| !back.is_limited) {
                stream.in_flight = stream.in_flight.saturating_sub(1);
            }
            self.back.push(back);
            if returned.error.is_unknown_topic() {
                self.lose(core);
            }
        }
        self.is_renewing = true;
        core.parts.monitor.wake();
    }

    /// Takes a message, and whoever wants to know of it, out of a flight.
    fn take_from_flight(&mut self, group: usize, returned: &Returned) -> Option<Back> {
        let flight = self.flights.get_mut(group)?;
        let mut held = hold(returned, flight.since);
        if let Some((hearer, index)) = flight.hearer(returned.index) {
            held.hearer = Some(hearer);
            held.index = index;
        }
        held.number = Some(flight.take_out(returned.index, held.bytes()));
        Some(Back {
            is_limited: flight.is_limited,
            held,
        })
    }
}

/// Puts what came back before all others, among what came back before.
fn put_first(kept: &mut VecDeque<Held>, back: Vec<Back>) {
    let mut first: Vec<Held> = back.into_iter().map(|back| back.held).collect();
    if first.is_empty() {
        return;
    }
    while let Some(held) = kept.pop_front_if(|held| held.number.is_some()) {
        first.push(held);
    }
    first.sort_by_key(|held| held.number);
    for held in first.into_iter().rev() {
        kept.push_front(held);
    }
}

fn hold(returned: &Returned, since: Instant) -> Held {
    let headers: Vec<Header<'_>> = returned
        .headers
        .iter()
        .map(|(name, value)| (&**name, value.as_deref()))
        .collect();
    let record = NewRecord {
        key: returned.key.as_deref(),
        value: returned.value.as_deref(),
        headers: &headers,
        timestamp: returned.timestamp,
        partition: None,
    };
    Held::new(&record, 0, None, since)
}

#[cfg(test)]
mod tests;
