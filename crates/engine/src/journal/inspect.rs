//! A look at a journal from outside. Nothing is changed and nothing locked, so
//! that a gateway may be using it meanwhile.

use super::delivered::Delivered;
use super::options::{JournalError, Reason};
use super::record::{FRAME, Frame, HEADER, decode, frame_at};
use super::recovery::open_all;
use super::segment::{Item, Reader, path_of};
use super::{Journaled, aside};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What a journal holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalReport {
    /// Its segments, the oldest first.
    pub segments: Vec<SegmentReport>,
    /// What is in them, by topic.
    pub topics: BTreeMap<String, TopicReport>,
    /// Records that are not noted as delivered.
    pub undelivered: u64,
    /// Records that are missing between or inside the segments, without those
    /// that are noted as delivered.
    pub missing: u64,
    /// Records that Kafka has refused for good, in files of their own.
    pub refused: u64,
    /// Why the checkpoint could not be read.
    pub checkpoint_problem: Option<String>,
}

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentReport {
    /// Its file.
    pub path: PathBuf,
    /// The sequence of its first record.
    pub base: u64,
    /// Its size.
    pub bytes: u64,
    /// Undamaged records.
    pub records: u64,
    /// Those of them that are not noted as delivered.
    pub undelivered: u64,
    /// Places that hold no record, from and to.
    pub damaged: Vec<(u64, u64)>,
    /// Where the last segment ends in the middle of a write, and is going to
    /// be cut.
    pub torn_at: Option<u64>,
}

/// A topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicReport {
    /// Records.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Those that are not noted as delivered.
    pub undelivered: u64,
}

impl JournalReport {
    /// Whether every record is there and undamaged. A torn end is none.
    pub fn is_sound(&self) -> bool {
        self.missing == 0
            && self.checkpoint_problem.is_none()
            && self.segments.iter().all(|one| one.damaged.is_empty())
    }
}

/// Reads the journal in a directory, every record of it. `each` is called with
/// each undamaged record, and whether it is noted as delivered.
///
/// # Errors
/// The directory or a file cannot be read.
pub fn inspect(
    directory: &Path,
    each: impl FnMut(u64, &Journaled<'_>, bool),
) -> Result<JournalReport, JournalError> {
    look(directory, each).map_err(|error| JournalError::Open {
        directory: directory.to_owned(),
        reason: Reason::from(error),
    })
}

fn look(
    directory: &Path,
    mut each: impl FnMut(u64, &Journaled<'_>, bool),
) -> io::Result<JournalReport> {
    let mut report = JournalReport::default();
    let (files, marker) = open_all(directory)?;
    // Behind the segments: those that went meanwhile are noted there as
    // delivered.
    let delivered = match Delivered::load(directory) {
        Ok(delivered) => delivered.unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            report.checkpoint_problem = Some(error.to_string());
            Delivered::default()
        }
        Err(error) => return Err(error),
    };
    let mut next_bases = files.iter().skip(1).map(|(base, _)| *base);
    for (base, file) in &files {
        let next = next_bases.next();
        let bytes = file.metadata()?.len();
        let mut segment = SegmentReport {
            path: path_of(directory, *base),
            base: *base,
            bytes,
            records: 0,
            undelivered: 0,
            damaged: Vec::new(),
            torn_at: None,
        };
        let mut reader = Reader::new(marker, *base);
        let end = next.unwrap_or(u64::MAX);
        loop {
            match reader.next(file, bytes, end)? {
                Item::Record {
                    sequence, record, ..
                } => {
                    let is_delivered = delivered.contains(sequence);
                    each(sequence, &record, is_delivered);
                    segment.records += 1;
                    let topic = match report.topics.get_mut(record.topic) {
                        Some(topic) => topic,
                        None => report.topics.entry(record.topic.to_owned()).or_default(),
                    };
                    topic.records += 1;
                    topic.bytes += record.record.bytes();
                    if !is_delivered {
                        segment.undelivered += 1;
                        topic.undelivered += 1;
                    }
                }
                Item::Damaged {
                    from,
                    to,
                    sequences,
                } => {
                    segment.damaged.push((from, to));
                    report.missing += delivered.missing_of(sequences);
                }
                Item::Tail { from, is_damage } => {
                    if next.is_none() && !is_damage {
                        segment.torn_at = Some(from);
                    } else {
                        segment.damaged.push((from, bytes));
                    }
                    break;
                }
                Item::End => break,
            }
        }
        if let Some(next) = next {
            report.missing += delivered.missing_of(reader.sequence()..next);
        }
        report.undelivered += segment.undelivered;
        report.segments.push(segment);
    }
    for path in aside::paths(directory) {
        match std::fs::read(&path) {
            Ok(bytes) => report.refused += count_frames(marker, &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(report)
}

/// Undamaged frames behind a header.
fn count_frames(marker: u32, bytes: &[u8]) -> u64 {
    let mut rest = bytes.get(HEADER..).unwrap_or_default();
    let mut count = 0;
    while rest.len() >= FRAME {
        match frame_at(marker, rest) {
            Frame::Whole { length, .. } => {
                count += u64::from(decode(rest.get(..length).unwrap_or_default()).is_some());
                rest = rest.get(length..).unwrap_or_default();
            }
            Frame::Incomplete { .. } | Frame::Damaged => break,
        }
    }
    count
}
