//! What clients' input takes while it is in memory.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bound for many: bodies of requests, commands that have come in part.
#[derive(Debug)]
pub struct Room {
    bytes: AtomicU64,
    max_bytes: u64,
}

/// What one has taken of it, as long as this lives.
#[derive(Debug)]
pub struct Taken<'a> {
    room: &'a Arc<Room>,
    bytes: u64,
}

/// The same, by somebody who outlives the place where it was taken.
#[derive(Debug)]
pub struct Kept {
    room: Arc<Room>,
    bytes: u64,
}

impl Room {
    /// An empty one of so many bytes.
    pub fn new(max_bytes: u64) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            max_bytes,
        }
    }

    /// What all of them take.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Nothing of it, to be grown.
    pub fn nothing(self: &Arc<Self>) -> Taken<'_> {
        Taken {
            room: self,
            bytes: 0,
        }
    }

    /// Nothing of it, to be grown.
    pub fn keep_nothing(self: &Arc<Self>) -> Kept {
        self.nothing().keep()
    }

    fn take(&self, bytes: u64) -> bool {
        let max = self.max_bytes;
        let add = |level: u64| level.checked_add(bytes).filter(|level| *level <= max);
        let level = &self.bytes;
        level
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, add)
            .is_ok()
    }

    fn give_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

impl Taken<'_> {
    /// Room for more, or none.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let has_grown = self.room.take(bytes);
        if has_grown {
            self.bytes += bytes;
        }
        has_grown
    }

    /// What all together may have.
    pub fn most(&self) -> u64 {
        self.room.max_bytes
    }

    /// What was taken goes on to another owner.
    pub fn keep(&mut self) -> Kept {
        Kept {
            room: Arc::clone(self.room),
            bytes: mem::take(&mut self.bytes),
        }
    }

    /// There is nothing left of it.
    pub fn give_back(&mut self) {
        self.room.give_back(mem::take(&mut self.bytes));
    }
}

impl Kept {
    /// So much is there now, more or less than before; or there is no room for
    /// more, and what there was stays.
    pub fn hold(&mut self, bytes: u64) -> bool {
        match bytes.checked_sub(self.bytes) {
            Some(0) => return true,
            Some(more) if !self.room.take(more) => return false,
            Some(_) => {}
            None => self.room.give_back(self.bytes - bytes),
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.room.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_one_bound() {
        let bodies = Arc::new(Room::new(100));
        let (mut one, mut other) = (bodies.nothing(), bodies.nothing());
        assert!(one.grow(60));
        assert!(!other.grow(41));
        assert!(!other.grow(u64::MAX));
        assert!(other.grow(40));
        drop(one);
        assert!(other.grow(60));
        let kept = other.keep();
        drop(other);
        let mut third = bodies.nothing();
        assert!(!third.grow(1));
        drop(kept);
        assert!(third.grow(100));
        third.give_back();
        assert!(third.grow(100));
    }

    #[test]
    fn what_is_kept_grows_and_shrinks() {
        let room = Arc::new(Room::new(100));
        let (mut one, mut other) = (room.keep_nothing(), room.keep_nothing());
        assert!(one.hold(70) && one.hold(70));
        assert!(!other.hold(31) && other.hold(30));
        assert!(one.hold(10) && other.hold(90));
        assert!(!one.hold(11));
        drop(other);
        assert_eq!(room.bytes(), 10);
        assert!(one.hold(100) && one.hold(0));
        assert_eq!(room.bytes(), 0);
    }
}
