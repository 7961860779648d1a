//! The feeder: reads what is on disk, in order, and hands it to a producer
//! that never gives up.
//!
//! What fails for good (no such topic, too large, not allowed) is kept aside
//! and counts as done. After any other failure everything that is not
//! delivered is sent again, in order, once no report is out any more; after a
//! fatal one (KIP-360) by a new producer. A broker that finds a record too large
//! or invalid refuses the whole batch it is in; those records are sent again
//! one by one, so that only the one that is meant is kept aside.

mod refused;
mod send;

use super::place::{Placed, Placer};
use super::record::Journaled;
use super::recovery::Segment;
use super::reports::{NOTHING, Reports, is_of_a_batch, is_permanent};
use super::segment::{self, Item, Reader};
use super::{Folded, Shared};
use crate::cluster::ClusterConfig;
use crate::error::{Error, ErrorCode, KafkaError};
use crate::producer::{DeliverySink, Destination, Producer};
use send::{is_of_unknown, start, submit};
use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How far it reads ahead of a record that is not delivered.
const WINDOW: u64 = 1_000_000;
/// More that are missing in a row are noted only when all before them are done.
const MOST_MISSING: u64 = 1 << 16;
/// How often what is no longer needed of the places is dropped.
const HOUSEKEEPING: u64 = 1_024;
/// The feeder looks by itself so often, whatever it waits for.
const LOOK: Duration = Duration::from_millis(500);
/// Pause before what has failed is sent again; doubled up to the second.
const RETRY: Duration = Duration::from_millis(100);
const MOST_RETRY: Duration = Duration::from_secs(5);
/// Pause before somebody is asked again who does not know where a record goes.
const PLACE_PAUSE: Duration = Duration::from_millis(20);

/// What is to be done next.
enum Step {
    /// The next record.
    Next,
    /// Nothing, until something comes.
    Idle,
    /// Nothing, until reports have come.
    Full,
    /// Nothing, until all of them have.
    Alone,
    /// Nothing, until it is known where the record goes.
    Unplaced,
}

pub(super) struct Feeder {
    shared: Arc<Shared>,
    config: ClusterConfig,
    producer: Producer,
    reports: Arc<Reports>,
    /// The same.
    sink: Arc<dyn DeliverySink>,
    segment: Option<(Segment, Reader)>,
    /// The sequence that is to be sent next.
    next: u64,
    /// Below it some are delivered already.
    known_below: u64,
    /// Where the records begin that are on their way, and the first one's
    /// sequence.
    places: VecDeque<u64>,
    first_place: u64,
    /// Records that are no longer there: more than can be noted one by one, since
    /// the name of a file may say anything.
    gap: Option<Range<u64>>,
    /// Records that were refused together with others, and are sent alone.
    alone: BTreeSet<u64>,
    /// One of them is on its way.
    is_alone: bool,
    /// Who knows partitions.
    placer: Option<Arc<dyn Placer>>,
    /// The topic of the last record.
    destination: Option<(String, Arc<Destination>)>,
    retry: Duration,
    /// What was delivered at the last pause.
    delivered_before: u64,
    log: Folded,
}

impl Feeder {
    pub(super) fn new(
        shared: Arc<Shared>,
        config: &ClusterConfig,
        placer: Option<Arc<dyn Placer>>,
    ) -> Result<Self, Error> {
        let (first, known_below) = {
            let delivered = shared.delivered.lock();
            (delivered.prefix(), delivered.end())
        };
        let reports = Reports::new(&shared, placer.is_some());
        Ok(Self {
            producer: start(config)?,
            config: config.clone(),
            sink: Arc::<Reports>::clone(&reports),
            reports,
            shared,
            segment: None,
            next: first,
            known_below,
            places: VecDeque::new(),
            first_place: first,
            gap: None,
            alone: BTreeSet::new(),
            is_alone: false,
            placer,
            destination: None,
            retry: RETRY,
            delivered_before: 0,
            log: Folded::default(),
        })
    }

    /// The thread. What is on its way when the journal closes is sent again
    /// next time unless its report comes before that.
    pub(super) fn run(mut self) {
        while !self.shared.is_closing() {
            let step = self.look_at_reports().and_then(|()| self.step());
            match step {
                Ok(Step::Next) => {}
                // Of a producer that has failed for good no reports may come.
                Ok(_) if self.producer.fatal_error().is_some() => self.reports.fail(true),
                Ok(Step::Idle) => {
                    self.shared.feeder_sleeps(LOOK);
                }
                Ok(Step::Full) if self.reports.outstanding.load(Ordering::Acquire) == 0 => {
                    self.pause();
                }
                Ok(Step::Full) => self.wait_for_reports(3, 4),
                Ok(Step::Alone) => self.wait_for_reports(0, 1),
                Ok(Step::Unplaced) => {
                    self.shared.feeder_sleeps(PLACE_PAUSE);
                }
                Err(error) => {
                    self.log.error(|| format!("cannot read: {error}"));
                    self.reports.fail(false);
                }
            }
        }
    }

    /// Sleeps until so much of what is outstanding is no longer.
    fn wait_for_reports(&self, part: u64, of: u64) {
        let reports = &self.reports;
        let outstanding = reports.outstanding.load(Ordering::Acquire);
        let goal = outstanding * part / of;
        reports.awaited.store(goal, Ordering::SeqCst);
        let is_awaited = || reports.outstanding.load(Ordering::SeqCst) > goal;
        // Nothing more comes that could fill a batch.
        let mut leaving = (goal == 0).then(|| self.producer.flushing());
        if is_awaited() {
            self.shared.feeder_sleeps(LOOK);
        }
        if leaving.is_none() && is_awaited() {
            // Of a topic whose batches may wait for long.
            leaving = Some(self.producer.flushing());
            self.shared.feeder_sleeps(LOOK);
        }
        drop(leaving);
        reports.awaited.store(NOTHING, Ordering::Release);
    }

    fn pause(&mut self) {
        let delivered = self.shared.counters.delivered.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.delivered_before, delivered) != delivered {
            self.retry = RETRY;
        }
        let deadline = std::time::Instant::now() + self.retry;
        self.retry = (self.retry * 2).min(MOST_RETRY);
        while let Some(left) = deadline.checked_duration_since(std::time::Instant::now())
            && !self.shared.feeder_sleeps(left)
        {}
    }

    /// Does what the reports ask for.
    fn look_at_reports(&mut self) -> io::Result<()> {
        if !self.reports.has_news.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let mut refused = std::mem::take(&mut *self.reports.refused.lock());
        refused.retain(|(sequence, error)| {
            let is_meant = !is_of_a_batch(*error) || self.alone.contains(sequence);
            if !is_meant {
                self.alone.insert(*sequence);
                self.reports.fail(false);
            }
            is_meant
        });
        if !refused.is_empty()
            && let Err(error) = self.keep_aside(&mut refused)
        {
            // The rest is not done before it is kept.
            self.reports.refused.lock().extend(refused);
            self.reports.has_news.store(true, Ordering::Release);
            self.log
                .error(|| format!("what Kafka refuses cannot be kept: {error}"));
            self.pause();
        }
        if !self.reports.has_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.is_alone = false;
        if self.reports.is_fatal.load(Ordering::Acquire) {
            self.replace_producer();
        }
        while self.reports.outstanding.load(Ordering::Acquire) > 0 {
            if self.producer.fatal_error().is_some() {
                self.reports.fail(true);
                return Ok(());
            }
            if self.shared.is_closing() {
                return Ok(());
            }
            self.wait_for_reports(0, 1);
        }
        self.reports.has_failed.store(false, Ordering::Release);
        self.log
            .error(|| "Kafka has not taken everything; the rest is sent again".to_owned());
        self.pause();
        self.go_back();
        Ok(())
    }

    /// What a producer has that is no longer usable is nobody's; the reports
    /// of the next one are told apart from its own.
    fn replace_producer(&mut self) {
        let reason = self.producer.fatal_error().unwrap_or_default();
        self.log
            .error(|| format!("the producer has failed for good; a new one goes on: {reason}"));
        match start(&self.config) {
            Ok(producer) => {
                self.producer = producer;
                let counters = &self.shared.counters;
                counters.producers_failed.fetch_add(1, Ordering::Relaxed);
                let refused = std::mem::take(&mut *self.reports.refused.lock());
                self.reports = Reports::new(&self.shared, self.placer.is_some());
                *self.reports.refused.lock() = refused;
                self.reports.fail(false);
                self.sink = Arc::<Reports>::clone(&self.reports);
                self.destination = None;
            }
            Err(error) => {
                self.log.error(|| format!("no new producer: {error}"));
                self.pause();
            }
        }
    }

    /// Begins again with the first record that is not delivered.
    fn go_back(&mut self) {
        let (prefix, end) = {
            let delivered = self.shared.delivered.lock();
            (delivered.prefix(), delivered.end())
        };
        // Those that wait to be kept aside are not sent again.
        let refused = self.reports.refused.lock();
        let refused = refused.iter().map(|(sequence, _)| sequence + 1).max();
        self.known_below = end.max(refused.unwrap_or(0));
        self.next = prefix;
        self.segment = None;
        self.gap = None;
        self.places.clear();
        self.first_place = prefix;
    }

    fn step(&mut self) -> io::Result<Step> {
        let synced = self.shared.synced.load(Ordering::Acquire);
        if self.next >= synced {
            return Ok(Step::Idle);
        }
        if self.next.is_multiple_of(HOUSEKEEPING) && !self.forget_places() {
            return Ok(Step::Full);
        }
        if let Some(gap) = self.gap.take() {
            if self.shared.delivered.lock().prefix() < gap.start {
                self.gap = Some(gap);
                return Ok(Step::Full);
            }
            self.places.clear();
            self.first_place = gap.end;
            self.pass(gap);
        }
        let outstanding = self.reports.outstanding.load(Ordering::Acquire);
        if self.is_alone && outstanding > 0 {
            return Ok(Step::Alone);
        }
        self.is_alone = false;
        let (segment, reader) = match &mut self.segment {
            Some(found) => found,
            none => match find(&self.shared, self.next)? {
                Some(found) => none.insert(found),
                None => {
                    // Whatever it held is gone with its file.
                    let gone = self.next..self.shared.first_after(self.next).min(synced);
                    self.lose(gone);
                    return Ok(Step::Next);
                }
            },
        };
        match reader.next(&segment.file, segment.length, segment.end)? {
            Item::Record {
                sequence,
                offset,
                record,
            } => {
                if sequence < self.next {
                    return Ok(Step::Next);
                }
                let is_alone = !self.alone.is_empty() && self.alone.contains(&sequence);
                if is_alone && outstanding > 0 {
                    reader.go_back_to(sequence, offset);
                    return Ok(Step::Alone);
                }
                self.is_alone = is_alone;
                let sent = if sequence < self.known_below
                    && (self.shared.delivered.lock().contains(sequence)
                        || self
                            .reports
                            .refused
                            .lock()
                            .iter()
                            .any(|one| one.0 == sequence))
                {
                    Ok(())
                } else {
                    let placed = match &self.placer {
                        Some(placer) => placer.place(&record),
                        None => Placed::At(record.partition),
                    };
                    match placed {
                        Placed::Later => {
                            reader.go_back_to(sequence, offset);
                            return Ok(Step::Unplaced);
                        }
                        Placed::Never(error) => {
                            self.refuse(sequence, error);
                            Ok(())
                        }
                        Placed::At(partition) => {
                            let is_replayed = sequence < self.shared.own;
                            let is_marked = is_replayed && self.shared.options.mark_replayed;
                            let outstanding = &self.reports.outstanding;
                            outstanding.fetch_add(1, Ordering::AcqRel);
                            let submitted = submit(
                                (&self.producer, self.placer.as_deref()),
                                &mut self.destination,
                                Journaled {
                                    partition,
                                    ..record
                                },
                                is_marked,
                                (&self.sink, sequence),
                            );
                            if submitted.is_err() {
                                outstanding.fetch_sub(1, Ordering::AcqRel);
                            }
                            if self.placer.is_some() && is_of_unknown(&submitted) {
                                // Somebody looks for it now.
                                reader.go_back_to(sequence, offset);
                                return Ok(Step::Unplaced);
                            }
                            submitted
                        }
                    }
                };
                self.sent(sequence, offset, sent)
            }
            Item::Damaged {
                from,
                to,
                sequences,
            } => {
                let base = segment.base;
                let file = Arc::clone(&segment.file);
                self.damaged(base, &file, from..to)?;
                self.lose(sequences);
                Ok(Step::Next)
            }
            Item::Tail { from, .. } => {
                let (base, range) = (segment.base, from..segment.length);
                let (file, rest) = (Arc::clone(&segment.file), reader.sequence()..segment.end);
                self.damaged(base, &file, range)?;
                self.lose(rest);
                Ok(Step::Next)
            }
            Item::End => {
                let (at, base, end) = (reader.sequence(), segment.base, segment.end);
                if at < end {
                    self.lose(at..end);
                    return Ok(Step::Next);
                }
                match segment_of(&self.shared, self.next) {
                    // It has grown.
                    Some(now) if now.base == base => *segment = now,
                    _ => self.segment = None,
                }
                Ok(Step::Next)
            }
        }
    }

    /// What has become of handing a record over.
    fn sent(&mut self, sequence: u64, offset: u64, result: Result<(), Error>) -> io::Result<Step> {
        match result {
            Ok(()) => {}
            Err(Error::Kafka { error }) if is_permanent(error) => {
                self.refuse(sequence, error);
            }
            Err(error) => {
                // The same one again.
                if let Some((_, reader)) = &mut self.segment {
                    reader.go_back_to(sequence, offset);
                }
                if let Error::Kafka { error } = &error
                    && error.is(ErrorCode::QueueFull)
                {
                    return Ok(Step::Full);
                }
                if self.producer.fatal_error().is_some() {
                    self.reports.fail(true);
                } else {
                    self.log.error(|| format!("cannot send: {error}"));
                    self.pause();
                }
                return Ok(Step::Next);
            }
        }
        self.places.push_back(offset);
        self.next = sequence + 1;
        Ok(Step::Next)
    }

    /// It alone is meant, and for good.
    fn refuse(&mut self, sequence: u64, error: KafkaError) {
        self.alone.insert(sequence);
        self.reports.refuse(sequence, error);
    }

    /// Keeps the bytes of a damaged place.
    fn damaged(&mut self, base: u64, file: &std::fs::File, range: Range<u64>) -> io::Result<()> {
        let directory = &self.shared.options.directory;
        segment::keep_aside(directory, base, file, range.clone())?;
        tracing::error!(
            component = "journal",
            "{}: damaged from {} to {}; the bytes are kept beside it",
            segment::path_of(directory, base).display(),
            range.start,
            range.end
        );
        Ok(())
    }

    /// Counts records that are no longer there, and goes on behind them, at once
    /// or when everything before them is done.
    fn lose(&mut self, sequences: Range<u64>) {
        let sequences = sequences.start.max(self.next)..sequences.end;
        if sequences.end.saturating_sub(sequences.start) > MOST_MISSING {
            self.gap = Some(sequences);
            return;
        }
        // A place each, so that their order shows where the others are.
        self.places.extend(sequences.clone().map(|_| 0));
        self.pass(sequences);
    }

    fn pass(&mut self, sequences: Range<u64>) {
        let missing = {
            let mut delivered = self.shared.delivered.lock();
            let missing = delivered.missing_of(sequences.clone());
            delivered.insert_all(sequences.clone());
            missing
        };
        self.shared.tell_who_waits();
        if missing > 0 {
            self.shared
                .counters
                .damaged
                .fetch_add(missing, Ordering::Relaxed);
            tracing::error!(
                component = "journal",
                "{missing} records are lost: {} to {}",
                sequences.start,
                sequences.end - 1
            );
        }
        self.next = sequences.end.max(self.next);
        if let Some((segment, reader)) = &mut self.segment {
            if self.next >= segment.end {
                self.segment = None;
            } else if reader.sequence() < self.next {
                reader.skip_to(self.next);
            }
        }
    }

    /// Drops the places of what is delivered. False: it has read far enough
    /// ahead.
    fn forget_places(&mut self) -> bool {
        let prefix = self.shared.delivered.lock().prefix();
        while self.first_place < prefix && self.places.pop_front().is_some() {
            self.first_place += 1;
        }
        self.alone = self.alone.split_off(&prefix);
        self.next - prefix < WINDOW
    }
}

impl Shared {
    /// The first sequence after this one that a segment has.
    fn first_after(&self, sequence: u64) -> u64 {
        let segments = self.segments.lock();
        let mut bases = segments.iter().map(|segment| segment.base);
        bases.find(|base| *base > sequence).unwrap_or(u64::MAX)
    }
}

/// The segment that has a record.
fn segment_of(shared: &Shared, sequence: u64) -> Option<Segment> {
    let segments = shared.segments.lock();
    let has = |segment: &&Segment| segment.base <= sequence && sequence < segment.end;
    segments.iter().find(has).cloned()
}

/// The segment that has a record, and a reader that comes to it next, perhaps
/// over damage.
fn find(shared: &Shared, sequence: u64) -> io::Result<Option<(Segment, Reader)>> {
    let Some(segment) = segment_of(shared, sequence) else {
        return Ok(None);
    };
    let mut reader = Reader::new(shared.marker, segment.base);
    while reader.sequence() < sequence {
        match reader.next(&segment.file, segment.length, sequence)? {
            Item::Record { .. } | Item::Damaged { .. } => {}
            Item::Tail { .. } | Item::End => break,
        }
    }
    Ok(Some((segment, reader)))
}

#[cfg(test)]
mod tests;
