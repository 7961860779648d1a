//! Series by topic: so many topics have their own, the rest share one, so that
//! a client that invents names does not fill the memory.

use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// The label of all topics that have none of their own.
pub const OTHER: &str = "other";

/// Handles on the series of topics, made at a topic's first use.
pub struct ByTopic<T> {
    known: RwLock<HashMap<Box<str>, Arc<T>>>,
    other: OnceLock<Arc<T>>,
    max: usize,
    make: Box<dyn Fn(&str) -> T + Send + Sync>,
}

impl<T> ByTopic<T> {
    /// For at most `max` topics; `make` gives the handle of a label.
    pub fn new(max: usize, make: impl Fn(&str) -> T + Send + Sync + 'static) -> Self {
        Self {
            known: RwLock::default(),
            other: OnceLock::new(),
            max,
            make: Box::new(make),
        }
    }

    /// The topic's handle, or that of [`OTHER`].
    pub fn get(&self, topic: &str) -> Arc<T> {
        if let Some(found) = self.known.read().get(topic) {
            return Arc::clone(found);
        }
        let mut known = self.known.write();
        if let Some(found) = known.get(topic) {
            return Arc::clone(found);
        }
        if known.len() >= self.max {
            drop(known);
            return self.other();
        }
        let made = Arc::new((self.make)(topic));
        known.insert(topic.into(), Arc::clone(&made));
        made
    }

    /// The handle of all that have none of their own.
    pub fn other(&self) -> Arc<T> {
        Arc::clone(self.other.get_or_init(|| Arc::new((self.make)(OTHER))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_topics_have_their_own() {
        let topics = ByTopic::new(2, str::to_owned);
        let labels = ["a", "b", "c", "a", "d"].map(|topic| topics.get(topic).to_string());
        assert_eq!(labels, ["a", "b", OTHER, "a", OTHER]);
        assert!(Arc::ptr_eq(&topics.get("a"), &topics.get("a")));
        assert!(Arc::ptr_eq(&topics.get("e"), &topics.other()));
    }
}
