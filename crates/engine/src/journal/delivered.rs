//! Which records have reached Kafka, and the file that remembers it.
//!
//! All sequences below `prefix` have; of those above, the ones whose bit is
//! set. The file `checkpoint` is replaced as a whole, so that a crash leaves
//! the old one or the new one.

use super::record::Parts;
use super::segment::sync_directory;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::Path;

/// The file's name.
const FILE: &str = "checkpoint";
const MAGIC: &[u8; 8] = b"BNBSCKPT";
const VERSION: u32 = 1;
/// Ranges that are remembered; what a crash finds beyond is sent again.
const MOST_RANGES: usize = 100_000;

/// What has been delivered, or will never be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Delivered {
    prefix: u64,
    /// 64 sequences each; the first bit is that of `first_bit`.
    words: VecDeque<u64>,
    /// A multiple of 64, at most `prefix`.
    first_bit: u64,
    count: u64,
}

impl Delivered {
    pub(super) fn new(prefix: u64) -> Self {
        Self {
            prefix,
            words: VecDeque::new(),
            first_bit: prefix / 64 * 64,
            count: 0,
        }
    }

    /// Everything below it is delivered.
    pub(super) fn prefix(&self) -> u64 {
        self.prefix
    }

    /// How many are delivered from the prefix on.
    pub(super) fn ahead(&self) -> u64 {
        self.count
    }

    fn place(&self, sequence: u64) -> Option<(usize, u64)> {
        let offset = sequence.checked_sub(self.first_bit)?;
        let word = usize::try_from(offset / 64).ok()?;
        Some((word, 1 << (offset % 64)))
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        if sequence < self.prefix {
            return true;
        }
        self.place(sequence)
            .and_then(|(word, bit)| self.words.get(word).map(|bits| bits & bit != 0))
            .unwrap_or(false)
    }

    /// Notes one; false if it was known.
    pub(super) fn insert(&mut self, sequence: u64) -> bool {
        if self.contains(sequence) {
            return false;
        }
        if sequence == self.prefix && self.count == 0 {
            // Nearly always: one after the other.
            self.prefix += 1;
            self.drop_words();
            return true;
        }
        let Some((word, bit)) = self.place(sequence) else {
            return false;
        };
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        if let Some(bits) = self.words.get_mut(word) {
            *bits |= bit;
            self.count += 1;
        }
        self.advance();
        true
    }

    /// Moves the prefix behind what follows it.
    fn advance(&mut self) {
        while self.count > 0
            && let Some((word, _)) = self.place(self.prefix)
            && let Some(bits) = self.words.get(word)
        {
            let offset = (self.prefix - self.first_bit) % 64;
            let ones = u64::from((bits >> offset).trailing_ones());
            self.prefix += ones;
            self.count -= ones;
            if offset + ones < 64 {
                break;
            }
        }
        self.drop_words();
    }

    fn drop_words(&mut self) {
        let gone = (self.prefix - self.first_bit) / 64;
        let count = usize::try_from(gone).unwrap_or(usize::MAX);
        self.words.drain(..count.min(self.words.len()));
        self.first_bit += gone * 64;
        if self.count == 0 {
            self.words.clear();
        }
    }

    /// Notes all of a range. How long it takes depends on what is noted, not on
    /// the range, if that begins at the prefix: the name of a file may say
    /// anything. Elsewhere a bit for each is kept, and they are set 64 at a time:
    /// so may a checkpoint.
    pub(super) fn insert_all(&mut self, range: Range<u64>) {
        let range = range.start.max(self.prefix)..range.end;
        if range.is_empty() {
            return;
        }
        if range.start > self.prefix {
            self.set(&range);
            return;
        }
        self.count -= self.delivered_of(&range);
        self.prefix = range.end;
        self.advance();
    }

    /// Sets the bits of a range that begins behind the prefix.
    fn set(&mut self, range: &Range<u64>) {
        let places = self.place(range.start).zip(self.place(range.end - 1));
        let Some(((first, _), (last, _))) = places else {
            return;
        };
        if last >= self.words.len() {
            self.words.resize(last + 1, 0);
        }
        let starts = (self.first_bit + first as u64 * 64..).step_by(64);
        for (start, bits) in starts.zip(self.words.range_mut(first..=last)) {
            let mask = bits_of(range, start);
            self.count += u64::from((mask & !*bits).count_ones());
            *bits |= mask;
        }
    }

    /// How many of a range, which does not begin before the prefix, are
    /// delivered.
    fn delivered_of(&self, range: &Range<u64>) -> u64 {
        let first = (range.start - self.first_bit) / 64;
        let words = self.words.iter();
        (first..)
            .zip(words.skip(usize::try_from(first).unwrap_or(usize::MAX)))
            .map(|(word, bits)| (self.first_bit + word * 64, bits))
            .take_while(|(start, _)| *start < range.end)
            .map(|(start, bits)| u64::from((bits & bits_of(range, start)).count_ones()))
            .sum()
    }

    /// How many of a range are not delivered.
    pub(super) fn missing_of(&self, range: Range<u64>) -> u64 {
        let range = range.start.max(self.prefix)..range.end;
        if range.is_empty() {
            return 0;
        }
        range.end - range.start - self.delivered_of(&range)
    }

    /// One beyond the highest that is delivered.
    pub(super) fn end(&self) -> u64 {
        if self.count == 0 {
            return self.prefix;
        }
        let words = (0_u64..).zip(&self.words);
        let ends = words
            .filter(|(_, bits)| **bits != 0)
            .map(|(word, bits)| self.first_bit + word * 64 + 64 - u64::from(bits.leading_zeros()));
        ends.last().unwrap_or(self.prefix)
    }

    /// What is delivered from the prefix on.
    fn ranges(&self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        if self.count == 0 {
            return ranges;
        }
        let mut add = |range: Range<u64>| match ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => ranges.push(range),
        };
        for (word, bits) in (0_u64..).zip(&self.words) {
            let start = self.first_bit + word * 64;
            if *bits == u64::MAX && start >= self.prefix {
                add(start..start + 64);
                continue;
            }
            // As many bits as are left, the lowest first.
            let mut left = *bits & !bits_below(self.prefix.saturating_sub(start));
            while left != 0 {
                let sequence = start + u64::from(left.trailing_zeros());
                add(sequence..sequence + 1);
                left &= left - 1;
            }
        }
        ranges
    }

    fn encode(&self) -> Vec<u8> {
        let mut ranges = self.ranges();
        ranges.truncate(MOST_RANGES);
        let mut bytes = Vec::with_capacity(32 + ranges.len() * 16);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.prefix.to_le_bytes());
        for range in ranges {
            bytes.extend_from_slice(&range.start.to_le_bytes());
            bytes.extend_from_slice(&range.end.to_le_bytes());
        }
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (content, sum) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if crc32c::crc32c(content).to_le_bytes() != sum {
            return None;
        }
        let mut parts = Parts(content);
        if parts.take(MAGIC.len())? != MAGIC || parts.u32()? != VERSION {
            return None;
        }
        let mut delivered = Self::new(parts.u64()?);
        while !parts.0.is_empty() {
            let range = parts.u64()?..parts.u64()?;
            // Far more than can be on its way: not ours.
            if range.end.checked_sub(delivered.prefix)? > 1 << 32 {
                return None;
            }
            delivered.insert_all(range);
        }
        Some(delivered)
    }

    /// Reads the file of a directory. `Ok(None)`: there is none.
    ///
    /// # Errors
    /// It cannot be read, or is damaged (`InvalidData`).
    pub(super) fn load(directory: &Path) -> io::Result<Option<Self>> {
        let bytes = match std::fs::read(directory.join(FILE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the checkpoint is damaged");
        Self::decode(&bytes).map(Some).ok_or_else(damaged)
    }

    /// Replaces the file of a directory; once this returns it is on disk.
    pub(super) fn store(&self, directory: &Path) -> io::Result<()> {
        let temporary = directory.join("checkpoint.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&self.encode())?;
        file.sync_all()?;
        std::fs::rename(&temporary, directory.join(FILE))?;
        sync_directory(directory)
    }
}

/// The bits of a range, which does not end before it, in the word for the 64
/// sequences from `start` on.
fn bits_of(range: &Range<u64>, start: u64) -> u64 {
    bits_below(range.end - start) & !bits_below(range.start.saturating_sub(start))
}

/// The first so many bits of a word.
fn bits_below(count: u64) -> u64 {
    match count {
        0..64 => (1 << count) - 1,
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(
            start in 0_u64..200,
            noted in proptest::collection::vec((0_u64..400, 1_u64..80), 0..60),
        ) {
            let mut delivered = Delivered::new(start);
            let mut set: BTreeSet<u64> = (0..start).collect();
            for (from, count) in noted {
                if count < 70 {
                    prop_assert_eq!(delivered.insert(from), set.insert(from));
                } else {
                    delivered.insert_all(from..from + count);
                    set.extend(from..from + count);
                }
                let prefix = (0..).find(|sequence| !set.contains(sequence)).unwrap();
                prop_assert_eq!(delivered.prefix(), prefix);
                prop_assert_eq!(delivered.ahead(), set.range(prefix..).count() as u64);
            }
            for sequence in 0..600 {
                prop_assert_eq!(delivered.contains(sequence), set.contains(&sequence));
            }
            let end = set.last().map_or(0, |last| last + 1);
            prop_assert_eq!(delivered.end(), end.max(start));
            let missing = (100..300).filter(|sequence| !set.contains(sequence)).count();
            prop_assert_eq!(delivered.missing_of(100..300), missing as u64);
            let read = Delivered::decode(&delivered.encode()).unwrap();
            for sequence in 0..600 {
                prop_assert_eq!(read.contains(sequence), set.contains(&sequence));
            }
        }

        #[test]
        fn damage_is_seen(at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut delivered = Delivered::new(70);
            delivered.insert(75);
            let mut bytes = delivered.encode();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert_eq!(Delivered::decode(&bytes), None);
            prop_assert_eq!(Delivered::decode(&bytes[..at]), None);
        }
    }

    #[test]
    fn a_gap_of_any_size_takes_no_time() {
        let far = 1 << 62;
        let mut delivered = Delivered::new(10);
        delivered.insert(13);
        delivered.insert(200);
        assert_eq!(delivered.missing_of(0..far), far - 12);
        delivered.insert_all(10..14);
        assert_eq!((delivered.prefix(), delivered.ahead()), (14, 1));
        delivered.insert_all(14..far);
        assert_eq!((delivered.prefix(), delivered.ahead()), (far, 0));
        assert!(delivered.insert(far + 1));
        assert!(delivered.insert(far));
        assert_eq!(delivered.prefix(), far + 2);
    }

    /// A checkpoint may name one.
    #[test]
    fn a_wide_range_takes_little_time() {
        let wide = 100..1 << 30;
        let mut delivered = Delivered::new(10);
        delivered.insert_all(wide.clone());
        assert_eq!(delivered.ahead(), wide.end - wide.start);
        assert_eq!(delivered.end(), wide.end);
        assert_eq!(delivered.ranges(), std::slice::from_ref(&wide));
        delivered.insert_all(10..100);
        assert_eq!((delivered.prefix(), delivered.ahead()), (wide.end, 0));
    }

    #[test]
    fn the_file_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Delivered::load(folder.path()).unwrap(), None);
        for prefix in [5, 9] {
            let delivered = Delivered::new(prefix);
            delivered.store(folder.path()).unwrap();
            assert_eq!(Delivered::load(folder.path()).unwrap(), Some(delivered));
        }
        std::fs::write(folder.path().join(FILE), b"x").unwrap();
        Delivered::load(folder.path()).unwrap_err();
    }
}
