//! Something for each of a bounded number of names, which come from outside.

use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;

/// Names that are told apart; what belongs to further ones is one.
const MOST: usize = 10_000;

/// What stands for all names that are not told apart.
const OTHER: &str = "other";

/// Things by name, made at the first use of a name and kept.
pub(crate) struct ByName<T> {
    known: RwLock<HashMap<Box<str>, Arc<T>>>,
    other: Arc<T>,
}

impl<T: Default> Default for ByName<T> {
    fn default() -> Self {
        Self {
            known: RwLock::default(),
            other: Arc::default(),
        }
    }
}

impl<T: Default> ByName<T> {
    /// What belongs to a name.
    pub(crate) fn get(&self, name: &str) -> Arc<T> {
        if let Some(found) = self.known.read().get(name) {
            return Arc::clone(found);
        }
        let mut known = self.known.write();
        if known.len() >= MOST && !known.contains_key(name) {
            return Arc::clone(&self.other);
        }
        Arc::clone(known.entry(name.into()).or_default())
    }

    /// All of them, in no order.
    pub(crate) fn each(&self, mut show: impl FnMut(&str, &T)) {
        let known = self.known.read();
        for (name, own) in &*known {
            show(name, own);
        }
        if known.len() >= MOST {
            show(OTHER, &self.other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn so_many_names_are_told_apart() {
        let names = ByName::<AtomicUsize>::default();
        for number in 0..MOST + 5 {
            let counter = names.get(&number.to_string());
            counter.fetch_add(1, Ordering::Relaxed);
        }
        names.get("0").fetch_add(1, Ordering::Relaxed);
        let (mut all, mut other, mut first) = (0, 0, 0);
        names.each(|name, counter| {
            let count = counter.load(Ordering::Relaxed);
            all += count;
            match name {
                OTHER => other = count,
                "0" => first = count,
                _ => {}
            }
        });
        assert_eq!((all, other, first), (MOST + 6, 5, 2));
    }
}
