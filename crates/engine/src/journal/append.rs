//! Group commit: callers put their records into one buffer; a thread writes
//! it, syncs once, and tells all of them together.
//!
//! Nothing is allocated for a record or a caller: the buffers are used in
//! turn, and a group of callers shares one [`Group`].

use super::options::{JournalError, OnFull, Reason, SyncMode};
use super::record::{HEADER, Header, JournalRecord};
use super::recovery::Segment;
use super::segment;
use super::{Folded, Shared};
use parking_lot::MutexGuard;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// What may wait for the disk in memory; then callers wait before they add.
const BUFFER: usize = 16 << 20;
/// A buffer that has grown beyond this is not kept.
const KEPT_BUFFER: usize = 4 << 20;
/// Nobody is waited for if so much has come together.
const ENOUGH: usize = 1 << 20;

/// Records that are not written yet.
pub(super) struct Pending {
    bytes: Vec<u8>,
    /// The sequence of the first of them.
    first: u64,
    /// That of the next one.
    next: u64,
    callers: usize,
    group: Arc<Group>,
    /// Waits for records.
    is_idle: bool,
    /// Waits for so many callers.
    awaited: usize,
    is_closed: bool,
}

impl Pending {
    pub(super) fn new(next: u64) -> Self {
        Self {
            bytes: Vec::new(),
            first: next,
            next,
            callers: 0,
            group: Arc::default(),
            is_idle: false,
            awaited: 0,
            is_closed: false,
        }
    }

    /// From now on nothing is taken.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }
}

/// Those who wait for the same sync.
#[derive(Default)]
pub(super) struct Group {
    outcome: OnceLock<Result<(), JournalError>>,
    done: Notify,
}

impl Group {
    fn tell(&self, outcome: Result<(), JournalError>) {
        let _ = self.outcome.set(outcome);
        self.done.notify_waiters();
    }

    async fn outcome(&self) -> Result<(), JournalError> {
        loop {
            let done = self.done.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            if let Some(outcome) = self.outcome.get() {
                return outcome.clone();
            }
            done.await;
        }
    }
}

/// Records that are on their way to the disk. Dropping it withdraws nothing.
pub struct Appended {
    group: Arc<Group>,
    sequences: Range<u64>,
}

impl Appended {
    fn nothing(sequences: Range<u64>) -> Self {
        let group = Arc::<Group>::default();
        group.tell(Ok(()));
        Self { group, sequences }
    }

    /// Resolves when they are on disk, to their sequences. Cancelling does not
    /// withdraw them.
    ///
    /// # Errors
    /// They could not be written. None of them counts then.
    pub async fn synced(self) -> Result<Range<u64>, JournalError> {
        self.group.outcome().await?;
        Ok(self.sequences)
    }
}

/// Why records were not taken now.
enum Refused {
    /// The buffer of this group is full.
    Busy(Arc<Group>),
    Error(JournalError),
}

impl Shared {
    /// Takes all of the records, or none. Waits for room in memory and, if so
    /// configured, in the journal; cancelling takes nothing then.
    pub(super) async fn append<'a>(
        &self,
        records: impl Iterator<Item = JournalRecord<'a>> + Clone,
    ) -> Result<Appended, JournalError> {
        loop {
            match self.try_append(records.clone()) {
                Err(Refused::Error(JournalError::Full { .. }))
                    if self.options.on_full == OnFull::Wait => {}
                other => match self.unless_busy(other).await {
                    Some(outcome) => return outcome,
                    None => continue,
                },
            }
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            // There may be room since.
            match self.try_append(records.clone()) {
                Err(Refused::Error(JournalError::Full { .. })) => room.await,
                other => {
                    if let Some(outcome) = self.unless_busy(other).await {
                        return outcome;
                    }
                }
            }
        }
    }

    /// What there is to be said, or nothing once the buffer has been written.
    async fn unless_busy(
        &self,
        tried: Result<Appended, Refused>,
    ) -> Option<Result<Appended, JournalError>> {
        match tried {
            Ok(appended) => Some(Ok(appended)),
            Err(Refused::Error(error)) => Some(Err(error)),
            Err(Refused::Busy(group)) => {
                let _ = group.outcome().await;
                None
            }
        }
    }

    fn try_append<'a>(
        &self,
        records: impl Iterator<Item = JournalRecord<'a>> + Clone,
    ) -> Result<Appended, Refused> {
        let mut bytes = 0;
        for record in records.clone() {
            if !record.fits() {
                return Err(Refused::Error(JournalError::TooLarge));
            }
            bytes += record.frame_length();
        }
        if bytes as u64 > self.options.most_at_once() {
            return Err(Refused::Error(JournalError::TooLarge));
        }
        let mut pending = self.pending.lock();
        if pending.is_closed {
            return Err(Refused::Error(JournalError::Closed));
        }
        if bytes == 0 {
            let nothing = pending.next..pending.next;
            return Ok(Appended::nothing(nothing));
        }
        if !pending.bytes.is_empty() && pending.bytes.len() + bytes > BUFFER {
            return Err(Refused::Busy(Arc::clone(&pending.group)));
        }
        let used = self.used.load(Ordering::Acquire) + bytes as u64;
        if used > self.options.max_bytes {
            self.counters.refused_full.fetch_add(1, Ordering::Relaxed);
            let retry_after = Duration::from_secs(self.drain_seconds.load(Ordering::Relaxed));
            return Err(Refused::Error(JournalError::Full { retry_after }));
        }
        self.used.fetch_add(bytes as u64, Ordering::AcqRel);
        let start = pending.next;
        for record in records {
            let sequence = pending.next;
            record.encode(self.marker, sequence, &mut pending.bytes);
            pending.next += 1;
        }
        pending.callers += 1;
        let is_awaited = pending.is_idle
            || (pending.awaited > 0
                && (pending.callers >= pending.awaited || pending.bytes.len() >= ENOUGH));
        if is_awaited {
            (pending.is_idle, pending.awaited) = (false, 0);
            self.work.notify_one();
        }
        Ok(Appended {
            group: Arc::clone(&pending.group),
            sequences: start..pending.next,
        })
    }

    /// The thread that writes. Ends when the journal is closed and everything
    /// is written.
    pub(super) fn write_groups(&self) {
        let mut writer = Writer {
            shared: self,
            active: None,
        };
        let mut spare = Vec::new();
        // How many shared the last sync, and how long it took.
        let (mut sharers, mut took) = (1, Duration::ZERO);
        let mut log = Folded::default();
        loop {
            let mut pending = self.pending.lock();
            while pending.bytes.is_empty() && !pending.is_closed {
                pending.is_idle = true;
                self.work.wait(&mut pending);
            }
            if pending.bytes.is_empty() {
                return;
            }
            pending.is_idle = false;
            if let SyncMode::Group { interval } = self.options.sync {
                self.gather(&mut pending, sharers, took.min(interval));
            }
            sharers = std::mem::take(&mut pending.callers);
            let bytes = std::mem::replace(&mut pending.bytes, std::mem::take(&mut spare));
            let group = std::mem::take(&mut pending.group);
            let sequences = pending.first..pending.next;
            pending.first = pending.next;
            drop(pending);

            let before = Instant::now();
            match writer.write(&bytes, sequences.clone()) {
                Ok(()) => {
                    took = before.elapsed();
                    self.is_synced_to(sequences.end);
                    group.tell(Ok(()));
                }
                Err(error) => {
                    log.error(|| format!("records are refused: {error}"));
                    self.refuse(sequences.start, bytes.len(), &group, error.into());
                }
            }
            spare = bytes;
            spare.clear();
            spare.shrink_to(KEPT_BUFFER);
        }
    }

    /// Lets as many come as last time, but not for longer than `limit`.
    fn gather(&self, pending: &mut MutexGuard<'_, Pending>, callers: usize, limit: Duration) {
        let deadline = Instant::now() + limit;
        while pending.callers < callers && pending.bytes.len() < ENOUGH && !pending.is_closed {
            pending.awaited = callers;
            if self.work.wait_until(pending, deadline).timed_out() {
                break;
            }
        }
        pending.awaited = 0;
    }

    /// Refuses a group that could not be written, and those who have come
    /// since: their sequences are given again, so that none is missing.
    fn refuse(&self, from: u64, bytes: usize, group: &Group, reason: Reason) {
        let mut pending = self.pending.lock();
        let others = std::mem::take(&mut pending.group);
        let refused = bytes + pending.bytes.len();
        pending.bytes.clear();
        pending.callers = 0;
        (pending.first, pending.next) = (from, from);
        self.used.fetch_sub(refused as u64, Ordering::AcqRel);
        drop(pending);
        self.counters.failed_writes.fetch_add(1, Ordering::Relaxed);
        let error = JournalError::Write(reason);
        group.tell(Err(error.clone()));
        others.tell(Err(error));
    }
}

/// Writes to the active segment.
struct Writer<'a> {
    shared: &'a Shared,
    active: Option<Active>,
}

struct Active {
    file: Arc<File>,
    base: u64,
    /// Bytes that are synced.
    length: u64,
}

impl Writer<'_> {
    /// Writes and syncs. After an error nothing of it is in the journal, and
    /// the segment is not written to any more: nobody can say what a sync
    /// that has failed has left on disk.
    fn write(&mut self, bytes: &[u8], sequences: Range<u64>) -> io::Result<()> {
        let shared = self.shared;
        let is_new = self.active.is_none();
        let active = match self.active.take() {
            Some(active) => active,
            None => self.begin(sequences.start)?,
        };
        match self.put(&active, is_new, bytes) {
            Ok(()) => {
                let length = active.length + bytes.len() as u64;
                let mut segments = shared.segments.lock();
                if is_new {
                    shared.used.fetch_add(HEADER as u64, Ordering::AcqRel);
                    segments.push_back(Segment {
                        base: active.base,
                        end: sequences.end,
                        length,
                        file: Arc::clone(&active.file),
                        is_active: true,
                    });
                } else if let Some(last) = segments.back_mut() {
                    (last.end, last.length) = (sequences.end, length);
                }
                drop(segments);
                self.active = Some(Active { length, ..active });
                // At once, so that it can go as soon as it is delivered:
                // there may be no room for another record before that.
                if length >= shared.options.segment_bytes {
                    self.retire();
                }
                Ok(())
            }
            Err(error) => {
                if is_new {
                    let path = segment::path_of(&shared.options.directory, active.base);
                    let _ = std::fs::remove_file(path);
                } else {
                    // If this fails too: it ends where the next one begins.
                    let _ = active.file.set_len(active.length);
                    self.retire();
                }
                Err(error)
            }
        }
    }

    fn begin(&self, base: u64) -> io::Result<Active> {
        let marker = self.shared.marker;
        let file = segment::create(&self.shared.options.directory, Header { marker, base })?;
        Ok(Active {
            file: Arc::new(file),
            base,
            length: HEADER as u64,
        })
    }

    fn put(&self, active: &Active, is_new: bool, bytes: &[u8]) -> io::Result<()> {
        active.file.write_all_at(bytes, active.length)?;
        if self.shared.options.sync == SyncMode::Os {
            return Ok(());
        }
        self.shared.counters.syncs.fetch_add(1, Ordering::Relaxed);
        if is_new {
            active.file.sync_all()?;
            segment::sync_directory(&self.shared.options.directory)
        } else {
            active.file.sync_data()
        }
    }

    /// The segment may go once it is delivered.
    fn retire(&mut self) {
        self.active = None;
        if let Some(last) = self.shared.segments.lock().back_mut() {
            last.is_active = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{Journal, JournalOptions, inspect};
    use crate::producer::Record;
    use std::fs::OpenOptions;

    fn frame(shared: &Shared, sequence: u64, value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let record = JournalRecord {
            topic: "t",
            record: Record {
                key: None,
                value: Some(value),
            },
            headers: &[],
            timestamp: 0,
            partition: None,
            lane: None,
        };
        record.encode(shared.marker, sequence, &mut bytes);
        bytes
    }

    fn read(journal: &Journal) -> Vec<(u64, Vec<u8>)> {
        let mut found = Vec::new();
        inspect(journal.directory(), |sequence, record, _| {
            found.push((sequence, record.record.value.unwrap().to_vec()));
        })
        .unwrap();
        found
    }

    /// `/dev/null` takes every write and refuses every sync.
    #[test]
    fn a_failed_sync_ends_the_segment_and_keeps_what_was_synced() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(JournalOptions::new(folder.path())).unwrap();
        let shared = &journal.inner.shared;
        let mut writer = Writer {
            shared,
            active: None,
        };
        writer.write(&frame(shared, 0, b"synced"), 0..1).unwrap();
        let mut null = OpenOptions::new();
        let null = null.read(true).write(true).open("/dev/null").unwrap();
        let real = writer.active.take().unwrap();
        writer.active = Some(Active {
            file: Arc::new(null),
            ..real
        });
        writer
            .write(&frame(shared, 1, b"refused"), 1..2)
            .unwrap_err();
        assert!(!shared.segments.lock()[0].is_active);
        // As if it were on disk all the same, and had not been cut off.
        let path = segment::path_of(folder.path(), 0);
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let refused = frame(shared, 1, b"refused");
        file.write_all_at(&refused, file.metadata().unwrap().len())
            .unwrap();
        writer.write(&frame(shared, 1, b"next"), 1..2).unwrap();
        let expected = [(0, b"synced".to_vec()), (1, b"next".to_vec())];
        assert_eq!(read(&journal), expected);
        let ends: Vec<u64> = shared.segments.lock().iter().map(|one| one.end).collect();
        assert_eq!(ends, [1, 2]);
        journal.close();
        let again = Journal::open(JournalOptions::new(folder.path())).unwrap();
        assert_eq!(again.undelivered(), 2);
    }

    /// `/dev/full` takes nothing.
    #[test]
    fn a_failed_write_gives_its_sequences_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(JournalOptions::new(folder.path())).unwrap();
        let shared = &journal.inner.shared;
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut writer = Writer {
            shared,
            active: None,
        };
        writer.write(&frame(shared, 0, b"first"), 0..1).unwrap();
        let real = writer.active.take().unwrap();
        writer.active = Some(Active {
            file: Arc::new(full),
            ..real
        });
        let error = writer.write(&frame(shared, 1, b"refused"), 1..2);
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
        writer.write(&frame(shared, 1, b"next"), 1..2).unwrap();
        assert_eq!(read(&journal).len(), 2);
    }
}
