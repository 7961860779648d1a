//! The outbox's clients, or what there is of each of them.

use std::sync::Arc;

/// One for each client.
#[derive(Clone)]
pub(super) struct Clients<T> {
    /// Without a limit in time; a partition belongs to one of them.
    pub(super) patient: Vec<T>,
    /// For those who wait.
    pub(super) limited: T,
}

impl<T> Clients<T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.patient.iter().chain([&self.limited])
    }

    /// What is made of each of them; nothing if something fails.
    pub(super) fn try_map<U>(&self, mut make: impl FnMut(&T) -> Option<U>) -> Option<Clients<U>> {
        let patient = self.patient.iter().map(&mut make);
        Some(Clients {
            patient: patient.collect::<Option<_>>()?,
            limited: make(&self.limited)?,
        })
    }

    /// The place in [`iter`](Self::iter).
    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        let others = std::iter::once(&mut self.limited);
        self.patient.iter_mut().chain(others).nth(place)
    }

    /// The one that messages of a partition go to.
    pub(super) fn of(&self, partition: i32, is_limited: bool) -> Option<&T> {
        if is_limited {
            return Some(&self.limited);
        }
        let number = usize::try_from(partition).unwrap_or(0);
        self.patient.get(number % self.patient.len().max(1))
    }
}

impl<T> Clients<Arc<T>> {
    /// The first of those without a limit.
    pub(super) fn first(&self) -> Option<Arc<T>> {
        self.patient.first().cloned()
    }
}
