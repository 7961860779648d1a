//! The acknowledged messages of a partition.

use std::fmt::Write as _;
use std::ops::Range;

/// The digits of a number in the metadata text, least significant first: the
/// lower half ends a number, the upper half continues it.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Bits of a digit.
const BITS: u32 = 5;
/// Set in a digit that is not a number's last.
const CONTINUES: u64 = 1 << BITS;
/// Digits that 63 bits need.
const LONGEST: u32 = 13;

/// Which messages of one partition are acknowledged: all below the committed
/// offset, and ranges above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acked {
    committed: i64,
    /// Ascending, disjoint, not adjacent, not empty, all above `committed`.
    ranges: Vec<Range<i64>>,
}

/// Metadata that does not describe acknowledged ranges, so that only the
/// offset beside it counts: another program wrote it, or the topic is not the
/// one it was written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedAcks {
    /// A character that is no digit of this encoding.
    #[error("byte {0:#04x} is no digit")]
    NoDigit(u8),
    /// A number that does not end, is longer than 13 digits or exceeds 63
    /// bits.
    #[error("a number is cut off or too large")]
    Number,
    /// The start of a range without its length.
    #[error("the last range has no length")]
    Unpaired,
    /// A range that is empty, starts at or below zero or ends beyond 63 bits.
    #[error("a range is empty or out of bounds")]
    Range,
    /// A range that ends behind the partition's end.
    #[error("a range ends at {to}, behind the partition's end at {end}")]
    BeyondEnd {
        /// Where the range ends.
        to: i64,
        /// Where the partition ends.
        end: i64,
    },
}

impl Acked {
    /// Everything below `committed`, which must not be negative, and nothing
    /// above.
    pub fn below(committed: i64) -> Self {
        Self {
            committed,
            ranges: Vec::new(),
        }
    }

    /// Reads what was committed: an offset and its metadata text (contract,
    /// section 10). `end` is the partition's high watermark: what ends behind
    /// it cannot have been acknowledged.
    ///
    /// # Errors
    /// [`MalformedAcks`]; then only the offset counts ([`Acked::below`]).
    pub fn decode(committed: i64, metadata: &str, end: i64) -> Result<Self, MalformedAcks> {
        let mut acked = Self::below(committed);
        let mut bytes = metadata.bytes();
        let mut base = committed;
        while let Some(gap) = decode_number(&mut bytes)? {
            let length = decode_number(&mut bytes)?.ok_or(MalformedAcks::Unpaired)?;
            let from = base.checked_add(gap).ok_or(MalformedAcks::Range)?;
            let to = from.checked_add(length).ok_or(MalformedAcks::Range)?;
            if from <= 0 || to <= from {
                return Err(MalformedAcks::Range);
            }
            if to > end {
                return Err(MalformedAcks::BeyondEnd { to, end });
            }
            acked.ack(from..to);
            base = to;
        }
        Ok(acked)
    }

    /// The metadata text, of at most `limit` bytes: the highest ranges are
    /// left out if it would be longer (their messages may come again).
    pub fn encode(&self, limit: usize) -> String {
        let mut text = String::new();
        let mut base = self.committed;
        for range in &self.ranges {
            let before = text.len();
            encode_number(&mut text, range.start - base);
            encode_number(&mut text, range.end - range.start);
            if text.len() > limit {
                text.truncate(before);
                break;
            }
            base = range.end;
        }
        text
    }

    /// The lowest offset that is not acknowledged: what is committed.
    pub fn committed(&self) -> i64 {
        self.committed
    }

    /// The acknowledged ranges above the committed offset, ascending.
    pub fn ranges(&self) -> &[Range<i64>] {
        &self.ranges
    }

    /// The ranges as people read them: `2-3,4-5`, relative to the committed
    /// offset, ends exclusive.
    pub fn shown(&self) -> String {
        let mut text = String::new();
        for range in &self.ranges {
            if !text.is_empty() {
                text.push(',');
            }
            let (from, to) = (range.start - self.committed, range.end - self.committed);
            let _ = write!(text, "{from}-{to}");
        }
        text
    }

    /// Whether the message at `offset` is acknowledged.
    pub fn contains(&self, offset: i64) -> bool {
        offset < self.committed
            || self
                .ranges
                .get(self.index_of(offset))
                .is_some_and(|range| range.contains(&offset))
    }

    /// Acknowledges a range; false if that changes nothing.
    pub fn ack(&mut self, range: Range<i64>) -> bool {
        let mut range = range.start.max(self.committed)..range.end;
        if range.is_empty() {
            return false;
        }
        // All ranges that touch it become one with it.
        let first = self.ranges.partition_point(|other| other.end < range.start);
        let behind = self
            .ranges
            .partition_point(|other| other.start <= range.end);
        let touched = self.ranges.get(first..behind).unwrap_or(&[]);
        if let (Some(lowest), Some(highest)) = (touched.first(), touched.last()) {
            if lowest.start <= range.start && lowest.end >= range.end {
                return false;
            }
            range = range.start.min(lowest.start)..range.end.max(highest.end);
        }
        if range.start == self.committed {
            self.committed = range.end;
            self.ranges.drain(..behind);
        } else {
            self.ranges.splice(first..behind, [range]);
        }
        true
    }

    /// The first range that ends behind `offset`.
    fn index_of(&self, offset: i64) -> usize {
        self.ranges.partition_point(|range| range.end <= offset)
    }
}

fn encode_number(text: &mut String, number: i64) {
    let mut rest = number.unsigned_abs();
    loop {
        let mut digit = rest % CONTINUES;
        rest /= CONTINUES;
        if rest > 0 {
            digit += CONTINUES;
        }
        let digit = usize::try_from(digit).unwrap_or(0);
        text.push(char::from(DIGITS.get(digit).copied().unwrap_or(b'A')));
        if rest == 0 {
            return;
        }
    }
}

/// The next number; `None` at the end of the text.
fn decode_number(bytes: &mut impl Iterator<Item = u8>) -> Result<Option<i64>, MalformedAcks> {
    let mut number: u64 = 0;
    for place in 0..LONGEST {
        let Some(byte) = bytes.next() else {
            return match place {
                0 => Ok(None),
                _ => Err(MalformedAcks::Number),
            };
        };
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            other => return Err(MalformedAcks::NoDigit(other)),
        };
        let digit = u64::from(digit);
        // Thirteen digits are 65 bits: the last one may be too large.
        number = (digit % CONTINUES)
            .checked_mul(1 << (place * BITS))
            .and_then(|part| number.checked_add(part))
            .ok_or(MalformedAcks::Number)?;
        if digit < CONTINUES {
            let number = i64::try_from(number).map_err(|_| MalformedAcks::Number)?;
            return Ok(Some(number));
        }
    }
    Err(MalformedAcks::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const FAR: i64 = i64::MAX;

    fn acked(committed: i64, offsets: impl IntoIterator<Item = i64>) -> Acked {
        let mut acked = Acked::below(committed);
        for offset in offsets {
            acked.ack(offset..offset + 1);
        }
        acked
    }

    /// The table of the contract's section 10.
    #[test]
    fn the_contracts_examples() {
        let table: [(i64, Vec<i64>, &str, &str); 9] = [
            (301, vec![], "", ""),
            (300, vec![302], "CB", "2-3"),
            (1000, vec![1001, 1002, 1003, 1006], "BDCB", "1-4,6-7"),
            (1000, vec![1002, 1004, 1006], "CBBBBB", "2-3,4-5,6-7"),
            (5, vec![36], "fB", "31-32"),
            (5, vec![37], "gBB", "32-33"),
            (100, (101..=140).collect(), "BoB", "1-41"),
            (312, vec![398, 399, 4496], "2CCggEB", "86-88,4184-4185"),
            (
                0,
                vec![i64::MAX - 1],
                "+///////////HB",
                "9223372036854775806-9223372036854775807",
            ),
        ];
        for (committed, offsets, metadata, shown) in table {
            let acked = acked(committed, offsets);
            assert_eq!(acked.encode(4096), metadata);
            assert_eq!(acked.shown(), shown);
            assert_eq!(Acked::decode(committed, metadata, FAR), Ok(acked));
        }
    }

    #[test]
    fn what_others_wrote_is_rejected_as_a_whole() {
        use MalformedAcks::{BeyondEnd, NoDigit, Number, Range, Unpaired};
        for (metadata, error) in [
            ("AA", Range),
            ("C", Unpaired),
            ("CB@", NoDigit(b'@')),
            ("g", Number),
            ("hello", Number),
            ("A100", Number),
            ("CBg", Number),
            ("////////////////B", Number),
            ("////////////PB", Number),
            ("+///////////HB", Range),
            ("é", NoDigit(0xc3)),
            (
                "done",
                BeyondEnd {
                    to: 31_981,
                    end: 20_000,
                },
            ),
        ] {
            let end = if metadata == "done" { 20_000 } else { FAR };
            assert_eq!(Acked::decode(1000, metadata, end), Err(error), "{metadata}");
        }
        assert_eq!(Acked::decode(0, "AB", FAR), Err(Range));
    }

    #[test]
    fn what_others_wrote_in_their_own_way_is_understood() {
        let decoded = |metadata| Acked::decode(1000, metadata, FAR).unwrap();
        assert_eq!(decoded("EC"), acked(1000, [1004, 1005]));
        assert_eq!(decoded("AB"), Acked::below(1001));
        assert_eq!(decoded("BBAB"), acked(1000, [1001, 1002]));
        assert_eq!(decoded(""), Acked::below(1000));
    }

    #[test]
    fn a_text_has_room_for_the_lowest_ranges() {
        let acked = acked(0, [2, 4, 100, 102]);
        let whole = acked.encode(4096);
        assert_eq!(acked.encode(whole.len()), whole);
        let shorter = acked.encode(whole.len() - 1);
        assert!(whole.starts_with(&shorter));
        let read = Acked::decode(0, &shorter, FAR).unwrap();
        assert_eq!(read.ranges(), &acked.ranges()[..3]);
        assert_eq!(acked.encode(0), "");
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_offsets(
            committed in 0..50i64,
            acks in prop::collection::vec((0..120i64, 0..6i64), 0..60),
        ) {
            let mut acked = Acked::below(committed);
            let mut model: BTreeSet<i64> = (0..committed).collect();
            for (from, length) in acks {
                let before = model.len();
                model.extend(from.max(0)..from + length);
                prop_assert_eq!(acked.ack(from..from + length), model.len() > before);
                let lowest = (0..).find(|offset| !model.contains(offset));
                prop_assert_eq!(Some(acked.committed()), lowest);
                for offset in 0..130 {
                    prop_assert_eq!(acked.contains(offset), model.contains(&offset));
                }
                for pair in acked.ranges().windows(2) {
                    prop_assert!(pair[0].end < pair[1].start);
                }
                prop_assert!(acked.ranges().iter().all(|range| range.start > acked.committed()));
                let text = acked.encode(4096);
                prop_assert_eq!(Acked::decode(acked.committed(), &text, 200), Ok(acked.clone()));
            }
        }

        #[test]
        fn no_text_breaks_the_reader(committed in 0..i64::MAX, text in "\\PC{0,40}", end: i64) {
            if let Ok(acked) = Acked::decode(committed, &text, end) {
                prop_assert!(acked.committed() >= committed);
                prop_assert!(acked.ranges().iter().all(|range| range.end <= end));
            }
        }

        #[test]
        fn no_digits_break_the_reader(committed in 0..i64::MAX, text in "[A-Za-z0-9+/]{0,60}") {
            if let Ok(acked) = Acked::decode(committed, &text, i64::MAX) {
                let again = acked.encode(usize::MAX);
                let committed = acked.committed();
                prop_assert_eq!(Acked::decode(committed, &again, i64::MAX), Ok(acked));
            }
        }
    }
}
