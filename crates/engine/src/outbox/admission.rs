//! Taking messages in: room, pick, and whether they are sent, batched or kept.

use super::answers::Hearer;
use super::core::{After, Core, Inner};
use super::error::ProduceError;
use super::payload::NewRecord;
use super::permit::Room;
use super::strategy::{Entry, NotPicked};
use super::stream::{Held, Stream};
use super::{Admission, Buffered, Mode};
use std::sync::Arc;
use std::time::Instant;

/// How many of the records are one pick: a run without keys, or one.
pub(super) fn run_length(records: &[NewRecord<'_>]) -> usize {
    let is_alone = |record: &&NewRecord<'_>| record.key.is_some() || record.partition.is_some();
    let run = records.iter().take_while(|record| !is_alone(record));
    run.count().max(1)
}

/// A call that produces, on its way through the records.
struct Call<'a, 'r> {
    records: &'a [NewRecord<'a>],
    mode: Mode,
    hearer: Option<Hearer>,
    room: &'a mut Room<'r>,
    placed: Option<&'a mut Vec<(usize, Buffered)>>,
    now: Instant,
    admission: Admission,
    after: After,
}

impl Call<'_, '_> {
    fn hearer_of(&self, index: usize) -> Option<Hearer> {
        let hearer = self.hearer.as_ref();
        hearer.map(|(sink, first)| (Arc::clone(sink), first + index as u64))
    }

    fn place(&mut self, index: usize, partition: Option<i32>, length: usize) {
        if let Some(placed) = &mut self.placed {
            placed.push((index, Buffered { partition, length }));
        }
    }
}

impl Core {
    /// Takes in records; see [`OutboxTopic::produce`].
    pub(super) fn produce<'a>(
        self: &Arc<Self>,
        records: &'a [NewRecord<'a>],
        mode: Mode,
        hearer: Option<Hearer>,
        room: &'a mut Room<'_>,
        placed: Option<&'a mut Vec<(usize, Buffered)>>,
    ) -> Admission {
        if records.is_empty() {
            return Admission::default();
        }
        if !room.is_open() {
            let at = self.place(0, None);
            return Admission {
                accepted: 0,
                refused: vec![ProduceError::ShuttingDown { at }],
            };
        }
        let mut call = Call {
            records,
            mode,
            hearer,
            room,
            placed,
            now: Instant::now(),
            admission: Admission::default(),
            after: After::default(),
        };
        {
            let mut inner = self.inner.lock();
            inner.admit(self, &mut call);
            inner.counts.accepted += call.admission.accepted as u64;
        }
        call.after.run();
        call.admission
    }
}

impl Inner {
    /// Why so many records are refused, while the cluster does not have the
    /// topic. It is asked again once that is long ago.
    pub(super) fn refuse_absent(
        &mut self,
        core: &Core,
        records: usize,
        now: Instant,
    ) -> Option<Vec<ProduceError>> {
        let absence = self.absence?;
        if now < absence.until {
            let refused = |index| core.failed(absence.error, index, None);
            return Some((0..records).map(refused).collect());
        }
        self.absence = None;
        core.parts.monitor.wake();
        None
    }

    fn admit(&mut self, core: &Arc<Core>, call: &mut Call<'_, '_>) {
        if let Some(refused) = self.refuse_absent(core, call.records.len(), call.now) {
            call.admission.refused = refused;
            return;
        }
        let mut index = 0;
        let mut rest = call.records;
        while let Some(first) = rest.first() {
            let length = run_length(rest);
            let (run, others) = rest.split_at(length);
            rest = others;
            let is_open = match call.mode {
                Mode::Sync => self.is_direct_for_waiting(),
                Mode::Async | Mode::AsyncBatched => self.is_direct(),
            };
            let entry = if is_open {
                match self.pick(&core.name, first.partition, first.key, first.value) {
                    Ok(entry) => Some(entry),
                    Err(NotPicked::NobodyThere) => None,
                    Err(other) => {
                        for at in index..index + length {
                            let error = core.not_picked(other.clone(), at);
                            call.admission.refused.push(error);
                        }
                        index += length;
                        continue;
                    }
                }
            } else {
                None
            };
            if !self.admit_run(core, call, run, index, entry) {
                return;
            }
            index += length;
        }
    }

    /// Takes in records that go to one entry; false when nothing more of the
    /// payload has room.
    fn admit_run(
        &mut self,
        core: &Arc<Core>,
        call: &mut Call<'_, '_>,
        run: &[NewRecord<'_>],
        first: usize,
        entry: Option<Entry>,
    ) -> bool {
        let limit = core.parts.message_max_bytes();
        let size =
            |record: &NewRecord<'_>| record.bytes() as u64 + crate::producer::RECORD_OVERHEAD;
        let mut index = first;
        let mut rest = run;
        while let Some(record) = rest.first() {
            if size(record) > limit {
                call.admission.refused.push(ProduceError::TooLarge {
                    at: core.place(index, None),
                    bytes: size(record),
                    limit,
                });
                index += 1;
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let fitting = rest.iter().take_while(|record| size(record) <= limit);
            let mut length = fitting.count();
            let all = rest.get(..length).unwrap_or_default();
            let bytes = all.iter().map(|record| record.bytes() as u64).sum();
            let is_full = !call.room.take(length, bytes);
            if is_full {
                length = 0;
                for record in all {
                    if !call.room.take(1, record.bytes() as u64) {
                        break;
                    }
                    length += 1;
                }
            }
            let (piece, others) = rest.split_at(length);
            if !piece.is_empty() && !self.put(core, call, piece, index, entry) {
                return false;
            }
            index += length;
            rest = others;
            if is_full && !self.make_room(core, call, index) {
                return false;
            }
        }
        true
    }

    /// Sends, batches or keeps records that have room; false when the topic's
    /// own bound refuses the rest of the payload.
    fn put(
        &mut self,
        core: &Arc<Core>,
        call: &mut Call<'_, '_>,
        piece: &[NewRecord<'_>],
        first: usize,
        entry: Option<Entry>,
    ) -> bool {
        match (call.mode, entry) {
            (Mode::Sync, entry) => {
                self.put_limited(core, call, piece, first, entry);
                true
            }
            (_, Some(entry)) if self.is_direct() && self.is_available(entry.slot) => {
                match call.mode {
                    Mode::Async if self.settings.massage.is_none() => {
                        self.put_direct(core, call, piece, first, entry)
                    }
                    _ => self.put_batched(core, call, piece, first, entry),
                }
            }
            (_, entry) => self.put_kept(core, call, piece, first, entry),
        }
    }

    fn put_direct(
        &mut self,
        core: &Arc<Core>,
        call: &mut Call<'_, '_>,
        piece: &[NewRecord<'_>],
        first: usize,
        entry: Entry,
    ) -> bool {
        // What is batched for the partition came earlier.
        let has_passed = self.streams.get(entry.slot).is_none_or(Stream::is_empty)
            || self.flush_stream(core, entry.slot, &mut call.after);
        if !has_passed {
            return self.put_kept(core, call, piece, first, Some(entry));
        }
        let passed = self.send_new(core, call, piece, first, entry.slot);
        let left = piece.get(passed..).unwrap_or_default();
        left.is_empty() || self.put_kept(core, call, left, first + passed, Some(entry))
    }

    /// Hands records to their client without keeping a copy; returns how many
    /// it is done with.
    fn send_new(
        &mut self,
        core: &Arc<Core>,
        call: &mut Call<'_, '_>,
        piece: &[NewRecord<'_>],
        first: usize,
        slot: usize,
    ) -> usize {
        let hearer = call.hearer_of(first);
        let is_limited = call.mode == Mode::Sync;
        let sent = self.launch_new(core, slot, is_limited, piece, first, hearer);
        for (at, error) in &sent.refused {
            let bytes = piece.get(*at).map_or(0, |record| record.bytes() as u64);
            core.parts.budget.give_back(1, bytes);
            let partition = Some(self.partition(slot));
            let error = core.failed(*error, first + at, partition);
            call.admission.refused.push(error);
        }
        call.admission.accepted += sent.passed - sent.refused.len();
        sent.passed
    }

    fn put_batched(
        &mut self,
        core: &Arc<Core>,
        call: &mut Call<'_, '_>,
        piece: &[NewRecord<'_>],
        first: usize,
        entry: Entry,
    ) -> bool {
        let max_messages = self.settings.max_batch_messages;
        let partition = Some(self.partition(entry.slot));
        for (at, record) in piece.iter().enumerate() {
            if !self.backlog.is_empty() {
                // The client's queue has become full.
                let left = piece.get(at..).unwrap_or_default();
                return self.put_kept(core, call, left, first + at, Some(entry));
            }
            let index = first + at;
            let mut held = Held::new(record, index, call.hearer_of(index), call.now);
            held.lane = entry.lane;
            let Some(stream) = self.streams.get_mut(entry.slot) else {
                return true;
            };
            let length = stream.push(held);
            let is_full = length >= max_messages || stream.bytes() >= self.settings.max_batch_bytes;
            call.admission.accepted += 1;
            call.place(index, partition, length as usize);
            if is_full {
                self.flush_stream(core, entry.slot, &mut call.after);
            }
        }
        if call.mode == Mode::Async || self.settings.batch_ttl.is_zero() {
            self.flush_stream(core, entry.slot, &mut call.after);
        } else if self
            .streams
            .get(entry.slot)
            .is_some_and(|at| !at.is_empty())
        {
            self.come_at(core, call.now + self.settings.batch_ttl);
        }
        if !self.backlog.is_empty() {
            self.come_at(core, call.now + super::hand_over::FULL_PAUSE);
        }
        true
    }

    fn put_limited(
        &mut self,
        core: &Arc<Core>,
        call: &mut Call<'_, '_>,
        piece: &[NewRecord<'_>],
        first: usize,
        entry: Option<Entry>,
    ) {
        // An earlier piece of the same run may have found the client full.
        let entry = entry.filter(|_| self.is_direct_for_waiting());
        let passed = match entry {
            Some(entry) if self.settings.massage.is_none() => {
                self.send_new(core, call, piece, first, entry.slot)
            }
            _ => 0,
        };
        let (first, left) = (first + passed, piece.get(passed..).unwrap_or_default());
        if left.is_empty() {
            return;
        }
        call.admission.accepted += left.len();
        let hold = |(at, record)| {
            let index = first + at;
            Held::new(record, index, call.hearer_of(index), call.now)
        };
        let held: Vec<Held> = left.iter().enumerate().map(hold).collect();
        match entry {
            Some(entry) if self.settings.massage.is_some() => {
                self.send_limited(core, entry.slot, held, &mut call.after);
            }
            _ => self.waiting.extend(held),
        }
        self.plan(core, call.now);
    }

    /// Keeps records for later: all of the topic, or of an entry whose
    /// partition cannot be reached.
    fn put_kept(
        &mut self,
        core: &Arc<Core>,
        call: &mut Call<'_, '_>,
        piece: &[NewRecord<'_>],
        first: usize,
        entry: Option<Entry>,
    ) -> bool {
        let mut kept = self.keeper(entry);
        let partition = kept.slot.map(|slot| self.partition(slot));
        for (at, record) in piece.iter().enumerate() {
            let index = first + at;
            let mut held = Held::new(record, index, call.hearer_of(index), call.now);
            if let Some(entry) = entry {
                held.lane = entry.lane;
                // What was picked stays picked.
                held.record.wanted = Some(self.partition(entry.slot));
            }
            let Some(length) = self.keep(core, &mut kept, held, &mut call.after) else {
                let left = piece.get(at..).unwrap_or_default();
                let bytes = left.iter().map(|record| record.bytes() as u64).sum();
                core.parts.budget.give_back(left.len(), bytes);
                let refused = call.records.len() - index;
                self.close_keeper(core, kept, refused);
                call.admission.refused.push(ProduceError::Full {
                    at: core.place(index, None),
                    accepted: call.admission.accepted,
                    refused,
                });
                return false;
            };
            call.admission.accepted += 1;
            call.place(index, partition, length);
        }
        self.close_keeper(core, kept, 0);
        self.plan(core, call.now);
        true
    }

    /// There is no room for the record of that index; true when it was dropped
    /// or there is room now, so that the next attempt may succeed.
    fn make_room(&mut self, core: &Arc<Core>, call: &mut Call<'_, '_>, index: usize) -> bool {
        let refused = call.records.len() - index;
        if call.mode != Mode::Sync && refused > 0 && self.drop_for_room(core, &mut call.after) {
            return true;
        }
        if refused > 0 {
            call.admission.refused.push(ProduceError::Full {
                at: core.place(index, None),
                accepted: call.admission.accepted,
                refused,
            });
        }
        false
    }
}
