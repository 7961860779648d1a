//! Connections that have not asked for anything yet, or not for long.
//!
//! Where all places for connections are taken, the one that has been in this
//! list for longest goes, and who comes next gets its place: whoever opens
//! connections and says nothing keeps nobody out. nginx does the same with idle
//! ones.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;

/// Those of a front end, by the order in which they have come.
#[derive(Debug, Default)]
pub struct Newcomers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    waiting: BTreeMap<u64, Arc<Told>>,
    last: u64,
}

/// Whether one has been told to go. Changes under the lock of all.
#[derive(Debug, Default)]
struct Told {
    must_go: AtomicBool,
    changed: Notify,
}

/// One of them. Dropping it is leaving.
#[derive(Debug)]
pub struct Newcomer {
    all: Arc<Newcomers>,
    /// Its place in the list; 0 is none.
    number: AtomicU64,
    asked: AtomicU64,
    told: Arc<Told>,
}

impl Newcomers {
    /// Somebody has come.
    pub fn enter(self: &Arc<Self>) -> Newcomer {
        let newcomer = Newcomer {
            all: Arc::clone(self),
            number: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            told: Arc::default(),
        };
        newcomer.rests();
        newcomer
    }

    /// Tells the one that has been there for longest to go; false if all have
    /// asked for something.
    pub fn send_one_away(&self) -> bool {
        self.0.lock().send_one_away()
    }
}

impl Known {
    fn send_one_away(&mut self) -> bool {
        let Some((_, told)) = self.waiting.pop_first() else {
            return false;
        };
        told.must_go.store(true, Ordering::Relaxed);
        // A permit is kept for one that does not listen yet.
        told.changed.notify_one();
        true
    }
}

impl Newcomer {
    /// It asks for something, and stays; also if it has been told to go and has
    /// not heard of it yet: another one goes instead. After the first time this
    /// is next to nothing.
    pub fn has_asked(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.number.load(Ordering::Relaxed) != 0 {
            self.leave(true);
        }
    }

    /// How often it has asked for something.
    pub fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    fn leave(&self, stays: bool) {
        let mut known = self.all.0.lock();
        let number = self.number.swap(0, Ordering::Relaxed);
        let was_told = known.waiting.remove(&number).is_none();
        if stays && was_told && self.told.must_go.swap(false, Ordering::Relaxed) {
            known.send_one_away();
        }
    }

    /// It has not asked for anything for long, and is the last to go.
    pub fn rests(&self) {
        let mut known = self.all.0.lock();
        if self.number.load(Ordering::Relaxed) == 0 {
            known.last += 1;
            let number = known.last;
            known.waiting.insert(number, Arc::clone(&self.told));
            self.number.store(number, Ordering::Relaxed);
        }
    }

    /// Resolves when it has to go. May be cancelled.
    pub async fn sent_away(&self) {
        loop {
            self.told.changed.notified().await;
            if self.told.must_go.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.leave(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_waited_for_longest_goes_first() {
        let all = Arc::new(Newcomers::default());
        let (first, second, third) = (all.enter(), all.enter(), all.enter());
        first.has_asked();
        first.has_asked();
        assert!(all.send_one_away());
        second.sent_away().await;
        drop(third);
        assert!(!all.send_one_away(), "one has asked, one has gone");
        first.rests();
        let fourth = all.enter();
        assert!(all.send_one_away());
        first.sent_away().await;
        drop((first, second, fourth));
        let fourth = all.enter();
        assert!(all.send_one_away());
        fourth.sent_away().await;
    }

    #[tokio::test]
    async fn who_asks_before_he_has_heard_of_it_stays() {
        let all = Arc::new(Newcomers::default());
        let (first, second) = (all.enter(), all.enter());
        assert!(all.send_one_away());
        first.has_asked();
        assert_eq!((first.asked(), second.asked()), (1, 0));
        second.sent_away().await;
        let moment = std::time::Duration::from_millis(50);
        let stays = tokio::time::timeout(moment, first.sent_away()).await;
        assert!(stays.is_err());
        assert!(!all.send_one_away(), "nobody is left who rests");
    }
}
