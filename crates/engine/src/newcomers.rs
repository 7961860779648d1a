//! Connections that have not asked for anything yet, or not for long.
//!
//! Where all places for connections are taken, the one that has been in this
//! list for longest goes, and who comes next gets its place: whoever opens
//! connections and says nothing keeps nobody out. nginx does the same with idle
//! ones.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Those of a front end, by the order in which they have come.
#[derive(Debug, Default)]
pub struct Newcomers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    waiting: BTreeMap<u64, Arc<Notify>>,
    last: u64,
}

/// One of them. Dropping it is leaving.
#[derive(Debug)]
pub struct Newcomer {
    all: Arc<Newcomers>,
    /// Its place in the list; 0 is none.
    number: AtomicU64,
    told: Arc<Notify>,
}

impl Newcomers {
    /// Somebody has come.
    pub fn enter(self: &Arc<Self>) -> Newcomer {
        let newcomer = Newcomer {
            all: Arc::clone(self),
            number: AtomicU64::new(0),
            told: Arc::default(),
        };
        newcomer.rests();
        newcomer
    }

    /// Tells the one that has been there for longest to go; false if all have
    /// asked for something.
    pub fn send_one_away(&self) -> bool {
        let first = self.0.lock().waiting.pop_first();
        // A permit is kept for one that does not listen yet.
        first.map(|(_, told)| told.notify_one()).is_some()
    }
}

impl Newcomer {
    /// It has asked for something, and stays. After the first time this is
    /// next to nothing.
    pub fn has_asked(&self) {
        if self.number.load(Ordering::Relaxed) != 0 {
            let mut known = self.all.0.lock();
            let number = self.number.swap(0, Ordering::Relaxed);
            known.waiting.remove(&number);
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
        self.told.notified().await;
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.has_asked();
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
}
