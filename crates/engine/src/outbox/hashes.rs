//! Hashes of keys: Erlang's, and those that librdkafka has.
//!
//! Contract: `producer-engine.md`, section 4.

const GOLDEN_RATIO: u32 = 0x9E37_79B9;
/// What Erlang begins binaries with: 13 × the golden ratio.
const BINARY: u32 = 147_926_629;
const LOW_27_BITS: u32 = (1 << 27) - 1;

/// Erlang's `erlang:phash2/1` of a binary (Bob Jenkins' lookup2).
pub fn phash2(bytes: &[u8]) -> u32 {
    if bytes.is_empty() {
        return BINARY & LOW_27_BITS;
    }
    let mut state = [GOLDEN_RATIO, GOLDEN_RATIO, BINARY];
    let (blocks, tail) = bytes.as_chunks::<12>();
    for block in blocks {
        add(&mut state, block);
        mix(&mut state);
    }
    // The length stands in the lowest byte of the last word.
    let mut last = [0; 12];
    for (place, byte) in last.iter_mut().zip(tail) {
        *place = *byte;
    }
    let [.., c] = &mut state;
    *c = c.wrapping_add(u32::try_from(bytes.len() & 0xFFFF_FFFF).unwrap_or(u32::MAX));
    last.copy_within(8..11, 9);
    if let Some(place) = last.get_mut(8) {
        *place = 0;
    }
    add(&mut state, &last);
    mix(&mut state);
    let [.., c] = state;
    c & LOW_27_BITS
}

fn add(state: &mut [u32; 3], block: &[u8; 12]) {
    let (words, _) = block.as_chunks::<4>();
    for (word, bytes) in state.iter_mut().zip(words) {
        *word = word.wrapping_add(u32::from_le_bytes(*bytes));
    }
}

fn mix([a, b, c]: &mut [u32; 3]) {
    let step = |x: &mut u32, y: u32, z: u32, shifted: u32| {
        *x = x.wrapping_sub(y).wrapping_sub(z) ^ shifted;
    };
    step(a, *b, *c, *c >> 13);
    step(b, *c, *a, *a << 8);
    step(c, *a, *b, *b >> 13);
    step(a, *b, *c, *c >> 12);
    step(b, *c, *a, *a << 16);
    step(c, *a, *b, *b >> 5);
    step(a, *b, *c, *c >> 3);
    step(b, *c, *a, *a << 10);
    step(c, *a, *b, *b >> 15);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Erlang/OTP 25 has them.
    #[test]
    fn phash2_is_erlangs() {
        for (text, hash) in [
            ("", 13_708_901),
            ("a", 112_802_447),
            ("user1", 87_738_644),
            ("user2", 96_246_935),
            ("user3", 110_047_757),
            ("hello", 47_480_723),
            ("abcdefghijkl", 15_432_855),
            ("abcdefghijklm", 11_441_572),
        ] {
            assert_eq!(phash2(text.as_bytes()), hash, "{text}");
        }
    }
}
