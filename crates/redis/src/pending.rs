//! A command that has come in part: what it takes of the room for all of them,
//! and when the rest is too late.

use crate::codec::Limits;
use barnabas_engine::Kept;
use bytes::BytesMut;
use std::time::Duration;

/// Free space that a read gets.
pub(crate) const READ_BYTES: usize = 64 << 10;
/// The beginning of a command that is no longer than this does not keep its
/// buffer.
const SMALL_BYTES: usize = 4 << 10;
/// So many bytes a second of a command are waited for, beside the pause that is
/// allowed: who sends a byte now and then would hold it for ever.
const LEAST_RATE: u64 = 1_024;

/// The bytes of a command that is not complete yet.
pub(crate) struct Pending {
    bytes: BytesMut,
    kept: Kept,
    has_begun: bool,
    /// The buffer is as long as the whole command: what has not come of it is not in
    /// memory, and does not count.
    is_sized: bool,
    /// When its first bytes came, and when the next ones are too late.
    since: tokio::time::Instant,
    late: tokio::time::Instant,
}

impl Pending {
    /// Nothing; what comes takes its room of `kept`.
    pub(crate) fn new(kept: Kept) -> Self {
        let now = tokio::time::Instant::now();
        Self {
            bytes: BytesMut::new(),
            kept,
            has_begun: false,
            is_sized: false,
            since: now,
            late: now,
        }
    }

    /// What is left of the input; `is_new` if that is another command than
    /// before. False: there is no room for it.
    pub(crate) fn keep(&mut self, input: &mut BytesMut, is_new: bool, pause: Duration) -> bool {
        if input.is_empty() {
            (self.has_begun, self.is_sized) = (false, false);
            return self.kept.hold(0);
        }
        let now = tokio::time::Instant::now();
        if is_new || !self.has_begun {
            self.since = now;
            self.is_sized = false;
        }
        self.has_begun = true;
        let size = input.len() as u64;
        let all = self.since + pause + Duration::from_secs(size / LEAST_RATE);
        self.late = all.min(now + pause);
        if input.len() <= SMALL_BYTES {
            self.bytes.extend_from_slice(input);
            input.clear();
            return self.kept.hold(0);
        }
        if !self.is_sized && input.len() < input.capacity() / 4 {
            // Most of the room would be for nothing.
            self.bytes.extend_from_slice(input);
            input.clear();
        } else {
            self.bytes = std::mem::take(input);
        }
        match self.is_sized {
            true => self.holds(self.bytes.len() + READ_BYTES),
            false => self.holds(self.bytes.capacity()),
        }
    }

    /// What there is goes back to the front of an empty buffer.
    pub(crate) fn give_to(&mut self, input: &mut BytesMut) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes.len() > SMALL_BYTES {
            *input = bytes;
        } else {
            input.extend_from_slice(&bytes);
        }
    }

    /// Makes room behind the input for what comes next, and says how much that may be.
    /// What it takes counts before it is there. `wanted`: how long the input will be, if
    /// that is known. `None`: there is no room.
    pub(crate) fn grow(&mut self, input: &mut BytesMut, wanted: usize) -> Option<usize> {
        let length = input.len();
        if length <= SMALL_BYTES || input.capacity() - length >= READ_BYTES {
            input.reserve(READ_BYTES);
            return match self.is_sized {
                true => self.holds(length + READ_BYTES).then_some(READ_BYTES),
                false => Some(input.capacity() - length),
            };
        }
        // All of it at once, so that nothing is copied again; else no more than the longest
        // command needs. The copy that goes does not count: a thread makes one at a time.
        let is_sized = wanted > length + READ_BYTES;
        let doubled = (length * 2).min(Limits::FULL.command_bytes);
        let larger = doubled.max(wanted.max(length) + READ_BYTES);
        if !self.holds(if is_sized {
            length + READ_BYTES
        } else {
            larger
        }) {
            return None;
        }
        self.is_sized = is_sized;
        let mut grown = BytesMut::with_capacity(larger);
        grown.extend_from_slice(input);
        *input = grown;
        Some(READ_BYTES)
    }

    fn holds(&mut self, bytes: usize) -> bool {
        self.kept.hold(bytes as u64)
    }

    /// Its client could not go on meanwhile.
    pub(crate) fn restart(&mut self) {
        self.since = tokio::time::Instant::now();
    }

    /// When its next bytes are too late; `None` if nothing has begun.
    pub(crate) fn late(&self) -> Option<tokio::time::Instant> {
        (!self.bytes.is_empty()).then_some(self.late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barnabas_engine::Room;
    use std::sync::Arc;

    const PAUSE: Duration = Duration::from_secs(60);

    /// Reads as a connection does a command whose length is known or not, until `length`
    /// bytes are there or there is no room; how many came.
    fn read(pending: &mut Pending, length: usize, is_known: bool) -> usize {
        let mut input = BytesMut::new();
        let mut come = 0;
        while come < length {
            pending.give_to(&mut input);
            let wanted = if is_known && come > 0 { length } else { 0 };
            let Some(most) = pending.grow(&mut input, wanted) else {
                break;
            };
            let free = input.capacity() - input.len();
            assert!(free >= READ_BYTES, "{free} bytes free behind {come}");
            let is_new = come == 0;
            come = (input.len() + most.min(free)).min(length);
            input.resize(come, b'x');
            if !pending.keep(&mut input, is_new, PAUSE) {
                break;
            }
            input = BytesMut::new();
        }
        come
    }

    #[tokio::test]
    async fn the_longest_command_fits_where_the_least_room_is_configured() {
        let longest = Limits::FULL.command_bytes;
        for is_known in [false, true] {
            let room = Arc::new(Room::new(128 << 20));
            let mut pending = Pending::new(room.keep_nothing());
            assert_eq!(read(&mut pending, longest, is_known), longest);
            drop(pending);
            assert_eq!(room.bytes(), 0);
        }
    }

    #[tokio::test]
    async fn what_finds_no_room_is_not_there_first() {
        for is_known in [false, true] {
            let room = Arc::new(Room::new(1 << 20));
            let mut pending = Pending::new(room.keep_nothing());
            let come = read(&mut pending, 16 << 20, is_known);
            assert!(come <= 1 << 20, "{come} of 1 MiB");
            assert!(room.bytes() <= 1 << 20);
        }
    }

    /// Others have the room for what has not come yet.
    #[tokio::test]
    async fn of_a_command_whose_length_is_known_only_what_has_come_counts() {
        let room = Arc::new(Room::new(128 << 20));
        let mut pending = Pending::new(room.keep_nothing());
        let mut input = BytesMut::from(&[b'x'; 100_000][..]);
        assert!(pending.keep(&mut input, true, PAUSE));
        pending.give_to(&mut input);
        assert_eq!(pending.grow(&mut input, 32 << 20), Some(READ_BYTES));
        assert!(input.capacity() >= 32 << 20);
        let place = input.as_ptr();
        input.resize(120_000, b'x');
        assert!(pending.keep(&mut input, false, PAUSE));
        assert!(room.bytes() < 200_000, "{}", room.bytes());
        pending.give_to(&mut input);
        assert_eq!(place, input.as_ptr(), "it was copied");
        assert_eq!(input.len(), 120_000);
        // It is complete, and what is left is another one.
        let mut rest = input.split_off(110_000);
        assert!(pending.keep(&mut rest, true, PAUSE));
        assert!(room.bytes() < 200_000, "{}", room.bytes());
    }

    #[tokio::test]
    async fn a_buffer_with_some_space_left_does_not_shrink() {
        let room = Arc::new(Room::new(1 << 20));
        let mut pending = Pending::new(room.keep_nothing());
        let mut input = BytesMut::with_capacity(80 << 10);
        input.resize(20 << 10, b'x');
        assert!(pending.grow(&mut input, 0).is_some());
        assert!(input.capacity() >= 80 << 10);
    }
}
