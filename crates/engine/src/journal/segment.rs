//! Segments: the files of a journal, and reading them from front to back over
//! whatever damage there is.
//!
//! A file is named by the sequence of its first record. A segment ends where
//! the next one begins: what it may still hold beyond was refused when
//! writing failed, and does not count.

use super::record::{FRAME, Frame, HEADER, Header, decode, find_marker, frame_at, marker_of};
use super::record::{Journaled, MOST_PAYLOAD};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".segment";
/// What one read takes, unless a record is larger.
const CHUNK: usize = 256 << 10;
/// Damage between segments is found by the gap in the sequences, so no name
/// has to be believed beyond this.
const DIGITS: usize = 20;

/// A segment's file.
pub(super) fn path_of(directory: &Path, base: u64) -> PathBuf {
    directory.join(format!("{base:0DIGITS$}{SUFFIX}"))
}

/// Where the bytes of a damaged place are kept.
fn aside_path(directory: &Path, base: u64, from: u64) -> PathBuf {
    directory.join(format!("{base:0DIGITS$}-{from}.damaged"))
}

/// The first sequences of all segments, ascending.
pub(super) fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let base = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        if let Some(Ok(base)) = base
            .filter(|base| base.len() == DIGITS)
            .map(str::parse::<u64>)
        {
            found.push(base);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Makes names durable that were added to or taken from a directory.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Makes a new segment; not durable yet.
pub(super) fn create(directory: &Path, header: Header) -> io::Result<File> {
    let path = path_of(directory, header.base);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    if let Err(error) = file.write_all_at(&header.encode(), 0) {
        let _ = std::fs::remove_file(&path);
        return Err(error);
    }
    Ok(file)
}

/// The marker of a segment, as its header and its first record have it.
pub(super) fn markers(file: &File) -> io::Result<(Option<u32>, Option<u32>)> {
    let mut bytes = vec![0; HEADER + CHUNK];
    let count = read_up_to(file, &mut bytes, 0)?;
    bytes.truncate(count);
    let header = Header::decode(&bytes).map(|header| header.marker);
    Ok((header, bytes.get(HEADER..).and_then(marker_of)))
}

/// As many bytes as there are.
fn read_up_to(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// What a reader has come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item<'a> {
    /// A record.
    Record {
        sequence: u64,
        /// Where its frame begins.
        offset: u64,
        record: Journaled<'a>,
    },
    /// Bytes that hold no record, and the records that are missing for it.
    Damaged {
        from: u64,
        to: u64,
        sequences: std::ops::Range<u64>,
    },
    /// Bytes without a record up to the end: a tail that was torn, or damage.
    Tail {
        from: u64,
        /// It is no torn write: what is there is not the beginning of a frame.
        is_damage: bool,
    },
    /// Everything was read.
    End,
}

/// Reads a segment.
pub(super) struct Reader {
    marker: u32,
    /// Of the next record.
    sequence: u64,
    /// Where it begins.
    offset: u64,
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    buffered_from: u64,
}

impl Reader {
    pub(super) fn new(marker: u32, base: u64) -> Self {
        Self::at(marker, base, HEADER as u64)
    }

    /// Begins in the middle, with the record of that sequence.
    pub(super) fn at(marker: u32, sequence: u64, offset: u64) -> Self {
        Self {
            marker,
            sequence,
            offset,
            buffer: Vec::new(),
            buffered_from: 0,
        }
    }

    /// The sequence that is to come next.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Where that is.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Comes to this record again.
    pub(super) fn go_back_to(&mut self, sequence: u64, offset: u64) {
        (self.sequence, self.offset) = (sequence, offset);
        if offset < self.buffered_from {
            self.buffer.clear();
            self.buffered_from = offset;
        }
    }

    /// Takes the records before this one for read.
    pub(super) fn skip_to(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    /// The bytes of the record that was read last, which began there.
    pub(super) fn last_frame(&self, offset: u64) -> &[u8] {
        let end = self.start();
        let start = usize::try_from(offset.saturating_sub(self.buffered_from)).unwrap_or(end);
        self.buffer.get(start..end).unwrap_or_default()
    }

    /// The next item of what lies below `limit` in the file and below `end` in
    /// the sequences. After a tail or the end it stays there.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn next(&mut self, file: &File, limit: u64, end: u64) -> io::Result<Item<'_>> {
        if self.offset >= limit || self.sequence >= end {
            return Ok(Item::End);
        }
        self.fill(file, limit, FRAME)?;
        let mut frame = frame_at(self.marker, self.ahead());
        if let Frame::Incomplete { length } = frame
            && length <= FRAME + MOST_PAYLOAD
            && self.offset + length as u64 <= limit
        {
            self.fill(file, limit, length)?;
            frame = frame_at(self.marker, self.ahead());
        }
        match frame {
            Frame::Whole { sequence, length } if sequence == self.sequence => {
                let offset = self.offset;
                let start = self.start();
                self.sequence += 1;
                self.offset += length as u64;
                let bytes = self.buffer.get(start..start + length).unwrap_or_default();
                match decode(bytes) {
                    Some(record) => Ok(Item::Record {
                        sequence,
                        offset,
                        record,
                    }),
                    // Written by a program that knows more than this one.
                    None => Ok(Item::Damaged {
                        from: offset,
                        to: offset + length as u64,
                        sequences: sequence..sequence + 1,
                    }),
                }
            }
            _ => self.resynchronise(file, limit, end),
        }
    }

    /// Looks for the next frame behind the damage.
    fn resynchronise(&mut self, file: &File, limit: u64, end: u64) -> io::Result<Item<'_>> {
        let size = usize::try_from(limit - self.offset).unwrap_or(usize::MAX);
        self.fill(file, limit, size)?;
        let ahead = self.ahead();
        let is_cut = matches!(frame_at(self.marker, ahead), Frame::Incomplete { .. });
        let mut from = 1;
        while let Some(at) = find_marker(self.marker, ahead, from) {
            let candidate = ahead.get(at..).unwrap_or_default();
            if let Frame::Whole { sequence, .. } = frame_at(self.marker, candidate)
                && self.could_be(sequence, at, end)
            {
                let (from, missing) = (self.offset, self.sequence);
                self.offset += at as u64;
                self.sequence = sequence;
                return Ok(Item::Damaged {
                    from,
                    to: self.offset,
                    sequences: missing..sequence,
                });
            }
            from = at + 1;
        }
        Ok(Item::Tail {
            from: self.offset,
            is_damage: !is_cut,
        })
    }

    /// Whether so many records, one at least, fit into the bytes before it.
    fn could_be(&self, sequence: u64, skipped: usize, end: u64) -> bool {
        let most = skipped as u64 / FRAME as u64;
        let missing = sequence.checked_sub(self.sequence);
        sequence < end && missing.is_some_and(|missing| (1..=most).contains(&missing))
    }

    fn start(&self) -> usize {
        let start = self.offset.saturating_sub(self.buffered_from);
        usize::try_from(start).unwrap_or(usize::MAX)
    }

    fn ahead(&self) -> &[u8] {
        self.buffer.get(self.start()..).unwrap_or_default()
    }

    /// Has `count` bytes ahead, if there are so many below the limit.
    fn fill(&mut self, file: &File, limit: u64, count: usize) -> io::Result<()> {
        let available = usize::try_from(limit - self.offset).unwrap_or(usize::MAX);
        let count = count.min(available);
        if self.ahead().len() >= count {
            return Ok(());
        }
        let kept = self.ahead().len();
        let start = self.start().min(self.buffer.len());
        self.buffer.drain(..start);
        self.buffered_from = self.offset;
        // A large record is not kept for all those that follow it.
        if self.buffer.capacity() > 4 * CHUNK && count <= CHUNK {
            self.buffer.shrink_to(CHUNK);
        }
        let wanted = count.max(CHUNK).min(available);
        self.buffer.resize(wanted, 0);
        let rest = self.buffer.get_mut(kept..).unwrap_or_default();
        let read = read_up_to(file, rest, self.offset + kept as u64)?;
        self.buffer.truncate(kept + read);
        Ok(())
    }
}

/// Keeps the bytes of a damaged place beside its segment, unless they are
/// there already.
pub(super) fn keep_aside(
    directory: &Path,
    base: u64,
    file: &File,
    range: std::ops::Range<u64>,
) -> io::Result<()> {
    let path = aside_path(directory, base, range.start);
    let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length];
    let count = read_up_to(file, &mut bytes, range.start)?;
    bytes.truncate(count);
    let created = OpenOptions::new().write(true).create_new(true).open(path);
    match created {
        Ok(mut aside) => {
            aside.write_all(&bytes)?;
            aside.sync_all()
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::JournalRecord;
    use crate::producer::Record;
    use proptest::prelude::*;

    const MARKER: u32 = 0xfeed_beef;
    const BASE: u64 = 1_000;

    /// A segment of records with these values, and where each begins.
    fn segment(values: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
        let header = Header {
            marker: MARKER,
            base: BASE,
        };
        let mut bytes = header.encode();
        let mut starts = Vec::new();
        for (sequence, value) in (BASE..).zip(values) {
            starts.push(bytes.len());
            let record = JournalRecord {
                topic: "t",
                record: Record {
                    key: Some(b"k"),
                    value: Some(value),
                },
                headers: &[],
                timestamp: 0,
                partition: None,
                lane: None,
            };
            record.encode(MARKER, sequence, &mut bytes);
        }
        starts.push(bytes.len());
        (bytes, starts)
    }

    #[derive(Debug, Default, PartialEq)]
    struct Read {
        records: Vec<(u64, Vec<u8>)>,
        lost: Vec<u64>,
        tail: Option<(u64, bool)>,
    }

    fn read(bytes: &[u8], end: u64) -> Read {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        let mut reader = Reader::new(MARKER, BASE);
        let mut found = Read::default();
        let limit = bytes.len() as u64;
        loop {
            match reader.next(&file, limit, end).unwrap() {
                Item::Record {
                    sequence, record, ..
                } => {
                    let value = record.record.value.unwrap().to_vec();
                    found.records.push((sequence, value));
                }
                Item::Damaged { sequences, .. } => found.lost.extend(sequences),
                Item::Tail { from, is_damage } => {
                    found.tail = Some((from, is_damage));
                    return found;
                }
                Item::End => return found,
            }
        }
    }

    fn values(count: u8) -> Vec<Vec<u8>> {
        (0..count)
            .map(|number| vec![number; usize::from(number) * 3])
            .collect()
    }

    #[test]
    fn cut_anywhere_all_whole_records_are_read() {
        let values = values(12);
        let (bytes, starts) = segment(&values);
        for length in HEADER..=bytes.len() {
            let read = read(&bytes[..length], u64::MAX);
            let whole = starts[1..].iter().filter(|end| **end <= length).count();
            let expected: Vec<_> = (BASE..).zip(values[..whole].to_vec()).collect();
            assert_eq!(read.records, expected, "cut at {length}");
            assert_eq!(read.lost, Vec::<u64>::new());
            let is_torn = starts[whole] < length;
            let tail = is_torn.then_some((starts[whole] as u64, false));
            assert_eq!(read.tail, tail, "cut at {length}");
        }
    }

    #[test]
    fn every_flipped_bit_costs_the_record_it_is_in_and_no_other() {
        let values = values(9);
        let (bytes, starts) = segment(&values);
        for at in HEADER..bytes.len() {
            for bit in [0x01, 0x80] {
                let mut damaged = bytes.clone();
                damaged[at] ^= bit;
                let hit = starts.iter().rposition(|start| *start <= at).unwrap();
                let read = read(&damaged, u64::MAX);
                let mut expected: Vec<_> = (BASE..).zip(values.clone()).collect();
                expected.remove(hit);
                assert_eq!(read.records, expected, "byte {at}");
                if hit == values.len() - 1 {
                    assert_eq!(read.tail.unwrap().0, starts[hit] as u64);
                } else {
                    assert_eq!(read.lost, [BASE + hit as u64], "byte {at}");
                }
            }
        }
    }

    #[test]
    fn a_segment_ends_where_the_next_begins() {
        let values = values(5);
        let (bytes, _) = segment(&values);
        let read = read(&bytes, BASE + 3);
        assert_eq!(read.records.len(), 3);
        assert_eq!(read.tail, None);
    }

    #[test]
    fn a_record_larger_than_a_read_is_read() {
        let values = vec![vec![1; 10], vec![2; 3 * CHUNK], vec![3; CHUNK], vec![4; 10]];
        let (bytes, _) = segment(&values);
        let read = read(&bytes, u64::MAX);
        let expected: Vec<_> = (BASE..).zip(values).collect();
        assert_eq!(read.records, expected);
    }

    #[test]
    fn a_frame_inside_a_value_is_no_record() {
        // Whoever has seen a segment may send parts of it as values.
        let (inner, _) = segment(&values(2));
        let mut outer = vec![vec![7; 5], inner[HEADER..].to_vec(), vec![8; 5]];
        let (mut bytes, starts) = segment(&outer);
        bytes[starts[1] + 4] ^= 1;
        let read = read(&bytes, u64::MAX);
        outer.remove(1);
        assert_eq!(read.records, [(BASE, vec![7; 5]), (BASE + 2, vec![8; 5])]);
        assert_eq!(read.lost, [BASE + 1]);
    }

    proptest! {
        /// Damage of several places at once: no panic, no record that was not
        /// written, and every record outside is read.
        #[test]
        fn what_is_undamaged_is_read(
            lengths in proptest::collection::vec(0_usize..400, 1..30),
            hits in proptest::collection::vec(
                (any::<prop::sample::Index>(), 1_usize..120, any::<u8>()), 1..6),
        ) {
            let values: Vec<Vec<u8>> = lengths
                .iter()
                .enumerate()
                .map(|(index, length)| vec![index as u8; *length])
                .collect();
            let (bytes, starts) = segment(&values);
            let mut damaged = bytes.clone();
            for (at, length, with) in hits {
                let at = HEADER + at.index(bytes.len() - HEADER);
                let end = (at + length).min(bytes.len());
                damaged[at..end].fill(with);
            }
            let read = read(&damaged, u64::MAX);
            let undamaged: Vec<(u64, Vec<u8>)> = (BASE..)
                .zip(&values)
                .zip(starts.windows(2))
                .filter(|(_, place)| bytes[place[0]..place[1]] == damaged[place[0]..place[1]])
                .map(|((sequence, value), _)| (sequence, value.clone()))
                .collect();
            prop_assert_eq!(read.records, undamaged);
        }
    }
}
