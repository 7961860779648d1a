//! What bodies take while they are in memory.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// All bodies that are in memory.
pub(crate) struct Bodies {
    bytes: AtomicU64,
    max_bytes: u64,
}

/// One of them; its room goes back with it.
pub(crate) struct Taken<'a> {
    bodies: &'a Arc<Bodies>,
    bytes: u64,
}

/// What one has taken, kept by others for longer.
pub(crate) struct Kept {
    bodies: Arc<Bodies>,
    bytes: u64,
}

impl Bodies {
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self {
            bytes: AtomicU64::new(0),
            max_bytes,
        }
    }

    /// What all of them take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn nothing(self: &Arc<Self>) -> Taken<'_> {
        Taken {
            bodies: self,
            bytes: 0,
        }
    }
}

impl Taken<'_> {
    /// Room for more of the body, or none.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let max = self.bodies.max_bytes;
        let add = |level: u64| level.checked_add(bytes).filter(|level| *level <= max);
        let level = &self.bodies.bytes;
        let has_grown = level
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, add)
            .is_ok();
        if has_grown {
            self.bytes += bytes;
        }
        has_grown
    }

    /// What all bodies may have.
    pub(crate) fn most(&self) -> u64 {
        self.bodies.max_bytes
    }

    /// What was taken goes on to another owner.
    pub(crate) fn keep(&mut self) -> Kept {
        Kept {
            bodies: Arc::clone(self.bodies),
            bytes: mem::take(&mut self.bytes),
        }
    }

    /// There is nothing left of it.
    pub(crate) fn give_back(&mut self) {
        let bytes = mem::take(&mut self.bytes);
        self.bodies.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.bodies.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_one_bound() {
        let bodies = Arc::new(Bodies::new(100));
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
}
