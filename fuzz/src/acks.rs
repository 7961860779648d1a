//! The metadata text beside a committed offset: which messages above it are
//! acknowledged. Other programs write such texts, too.
//!
//! - What is decoded is sorted, disjoint, above the committed offset and within
//!   the partition.
//! - Written and read again it is the same; cut to a limit, it is a part.
//! - Acknowledging any range afterwards keeps all that.

use crate::input::Input;
use barnabas_engine::Acked;

/// The input is the committed offset, the partition's end, the limit of the
/// text, ranges, and the text.
pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let committed = input.number().cast_signed() & i64::MAX;
    let end = input.number().cast_signed();
    let limit = usize::from(input.short());
    let ranges: Vec<_> = (0..input.byte() % 8)
        .map(|_| (input.number().cast_signed(), input.short()))
        .collect();
    let Ok(metadata) = std::str::from_utf8(input.rest()) else {
        return;
    };
    let mut acked = match Acked::decode(committed, metadata, end) {
        Ok(acked) => {
            let highest = acked
                .ranges()
                .last()
                .map_or(acked.committed(), |own| own.end);
            assert!(highest <= end.max(committed), "behind the end");
            acked
        }
        Err(_) => Acked::below(committed),
    };
    check(&acked, limit);
    for (start, length) in ranges {
        let start = start & (i64::MAX >> 1);
        let range = start..start + i64::from(length);
        let before = acked.clone();
        let has_changed = acked.ack(range.clone());
        assert_eq!(has_changed, acked != before);
        assert!(acked.committed() >= before.committed());
        if !range.is_empty() {
            assert!(acked.contains(range.start) && acked.contains(range.end - 1));
        }
        check(&acked, limit);
    }
}

fn check(acked: &Acked, limit: usize) {
    let mut highest = acked.committed();
    for range in acked.ranges() {
        assert!(
            highest < range.start && range.start < range.end,
            "{acked:?}"
        );
        assert!(!acked.contains(range.start - 1) && acked.contains(range.start));
        assert!(acked.contains(range.end - 1) && !acked.contains(range.end));
        highest = range.end;
    }
    let whole = acked.encode(usize::MAX);
    let again = Acked::decode(acked.committed(), &whole, highest);
    assert_eq!(again.as_ref(), Ok(acked), "{whole}");
    let cut = acked.encode(limit);
    assert!(cut.len() <= limit && whole.starts_with(&cut));
    let part = Acked::decode(acked.committed(), &cut, highest).expect("what was written");
    assert!(acked.ranges().starts_with(part.ranges()));
}

/// What Kafka-Pixy and this program write.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let written = |committed: u64, end: u64, text: &str| {
        let mut seed = Vec::new();
        seed.extend_from_slice(&committed.to_le_bytes());
        seed.extend_from_slice(&end.to_le_bytes());
        seed.extend_from_slice(&64_u16.to_le_bytes());
        seed.push(1);
        seed.extend_from_slice(&(committed + 7).to_le_bytes());
        seed.extend_from_slice(&3_u16.to_le_bytes());
        seed.extend_from_slice(text.as_bytes());
        seed
    };
    let mut acked = Acked::below(1_000);
    let mut seeds = vec![written(1_000, 2_000, ""), written(1_000, 2_000, "-")];
    for number in 0..40 {
        let start = 1_002 + number * number;
        acked.ack(start..start + 1 + number % 3);
        if number % 13 == 0 {
            seeds.push(written(1_000, 1 << 40, &acked.encode(usize::MAX)));
        }
    }
    seeds
}
