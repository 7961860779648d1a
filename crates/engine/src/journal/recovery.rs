//! Opening a directory: who may, and what the last process has left.

use super::delivered::Delivered;
use super::options::{JournalError, Reason};
use super::record::{FRAME, HEADER, Header};
use super::segment::{self, Item, Reader};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// The file that the process holds locked. It has the journal's marker, too.
const LOCK: &str = "lock";

/// A segment, as far as it can be relied on.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// The sequence of its first record.
    pub(super) base: u64,
    /// That of the first record that is not in it.
    pub(super) end: u64,
    /// Bytes up to there.
    pub(super) length: u64,
    pub(super) file: Arc<File>,
    /// It still grows.
    pub(super) is_active: bool,
}

/// What a directory holds.
pub(super) struct Recovered {
    /// Locked as long as it is open.
    pub(super) lock: File,
    pub(super) marker: u32,
    /// By their bases.
    pub(super) segments: VecDeque<Segment>,
    pub(super) delivered: Delivered,
    /// The next record's.
    pub(super) sequence: u64,
}

/// Makes the directory unless it is there, locks it, and finds out what it
/// holds. The torn tail of the last segment is cut.
pub(super) fn open(directory: &Path) -> Result<Recovered, JournalError> {
    let failed = |error: io::Error| JournalError::Open {
        directory: directory.to_owned(),
        reason: Reason::from(error),
    };
    make(directory).map_err(failed)?;
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(directory.join(LOCK))
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(JournalError::InUse(directory.to_owned()));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    recover(directory, lock).map_err(failed)
}

/// Makes the directory and those above it, durably.
fn make(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(directory)?;
    match directory.canonicalize()?.parent() {
        Some(parent) => segment::sync_directory(parent),
        None => Ok(()),
    }
}

fn recover(directory: &Path, lock: File) -> io::Result<Recovered> {
    let loaded = match Delivered::load(directory) {
        Ok(loaded) => loaded,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::error!(
                component = "journal",
                "{}: {error}: everything that is there is sent again",
                directory.display()
            );
            None
        }
        Err(error) => return Err(error),
    };
    let mut delivered = loaded.unwrap_or_default();
    let (found, marker) = open_all(directory)?;
    let identity = Header { marker, base: 0 };
    if identity_of(directory) != Some(identity) {
        lock.set_len(0)?;
        lock.write_all_at(&identity.encode(), 0)?;
        lock.sync_all()?;
    }
    let mut segments: VecDeque<Segment> = VecDeque::new();
    let mut bases = found.iter().map(|(base, _)| *base);
    bases.next();
    for ((base, file), next) in found.iter().zip(bases.map(Some).chain([None])) {
        let length = file.metadata()?.len();
        let segment = Segment {
            base: *base,
            end: next.unwrap_or(*base),
            length,
            file: Arc::clone(file),
            is_active: false,
        };
        segments.push_back(segment);
    }
    let mut is_last = true;
    while let Some(last) = segments.back_mut() {
        // The name of an empty file behind it may say anything.
        if std::mem::take(&mut is_last) || last.end - last.base > last.length / FRAME as u64 {
            cut(directory, marker, last)?;
        }
        if last.end > last.base {
            break;
        }
        std::fs::remove_file(segment::path_of(directory, last.base))?;
        segments.pop_back();
    }
    // What has no segment any more was delivered.
    let first = segments.front().map_or(delivered.end(), |first| first.base);
    delivered.insert_all(delivered.prefix()..first);
    while let Some(first) = segments.front()
        && first.end <= delivered.prefix()
    {
        std::fs::remove_file(segment::path_of(directory, first.base))?;
        segments.pop_front();
    }
    let end = segments.back().map_or(0, |last| last.end);
    Ok(Recovered {
        lock,
        marker,
        // Beyond all that is noted as delivered, even if it was lost.
        sequence: end.max(delivered.end()),
        segments,
        delivered,
    })
}

/// Segments by their bases.
pub(super) type Files = Vec<(u64, Arc<File>)>;

/// Opens all segments, and finds the journal's marker: any header has it, the
/// lock, or any first record.
pub(super) fn open_all(directory: &Path) -> io::Result<(Files, u32)> {
    open_these(directory, segment::list(directory)?)
}

fn open_these(directory: &Path, bases: impl IntoIterator<Item = u64>) -> io::Result<(Files, u32)> {
    let mut files = Vec::new();
    let (mut marker, mut likely) = (None, None);
    let mut have_gone = false;
    for base in bases {
        let path = segment::path_of(directory, base);
        // Whoever only looks may not be allowed to write.
        let writable = OpenOptions::new().read(true).write(true).open(&path);
        let file = match writable.or_else(|_| File::open(&path)) {
            // Delivered and gone, while somebody looks from outside.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                have_gone = true;
                continue;
            }
            opened => opened?,
        };
        let (header, first) = segment::markers(&file)?;
        (marker, likely) = (marker.or(header), likely.or(first));
        files.push((base, Arc::new(file)));
    }
    if have_gone {
        // They go from the front: those before them are gone by now, too.
        files.retain(|(base, _)| segment::path_of(directory, *base).exists());
    }
    let marker = marker
        .or_else(|| identity_of(directory).map(|identity| identity.marker))
        .or(likely)
        .unwrap_or_else(new_marker);
    Ok((files, marker))
}

/// What the lock says; it has the form of a segment's header.
fn identity_of(directory: &Path) -> Option<Header> {
    Header::decode(&std::fs::read(directory.join(LOCK)).ok()?)
}

/// Random, by the seed of the standard library's maps.
fn new_marker() -> u32 {
    let hash = RandomState::new().hash_one(std::process::id());
    u32::try_from(hash >> 32).unwrap_or(1)
}

/// Finds the end of the last segment. What is behind its last record is what
/// the crash has torn: it was not acknowledged, and goes.
fn cut(directory: &Path, marker: u32, last: &mut Segment) -> io::Result<()> {
    let mut reader = Reader::new(marker, last.base);
    loop {
        match reader.next(&last.file, last.length, u64::MAX)? {
            // Damage is told of when the records are sent.
            Item::Record { .. } | Item::Damaged { .. } => {}
            Item::Tail { from, is_damage } => {
                let bytes = last.length - from;
                if is_damage {
                    segment::keep_aside(directory, last.base, &last.file, from..last.length)?;
                }
                tracing::warn!(
                    component = "journal",
                    "{}: {bytes} bytes of a torn write are cut off at {from}{}",
                    segment::path_of(directory, last.base).display(),
                    if is_damage { ", and kept beside" } else { "" }
                );
                break;
            }
            Item::End => break,
        }
    }
    last.end = reader.sequence();
    last.length = reader.offset().max(HEADER as u64);
    last.file.set_len(last.length)?;
    // A process that was killed may have left it unsynced.
    last.file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside a gateway that delivers, segments go while they are opened.
    #[test]
    fn segments_that_go_meanwhile_leave_no_gap() {
        let folder = tempfile::tempdir().unwrap();
        let marker = 7;
        for base in [0, 10, 20, 30] {
            segment::create(folder.path(), Header { marker, base }).unwrap();
        }
        let bases = segment::list(folder.path()).unwrap();
        let going = bases.into_iter().inspect(|base| {
            if *base == 10 {
                for base in [0, 10] {
                    std::fs::remove_file(segment::path_of(folder.path(), base)).unwrap();
                }
            }
        });
        let (files, found) = open_these(folder.path(), going).unwrap();
        assert_eq!(found, marker);
        let bases: Vec<u64> = files.iter().map(|(base, _)| *base).collect();
        assert_eq!(bases, [20, 30]);
    }
}
