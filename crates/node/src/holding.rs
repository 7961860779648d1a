//! Which partitions a member of a group has got and lost since JavaScript
//! has asked last.
//!
//! However often they move while JavaScript is busy, each is kept once or
//! twice: whether it has gone, and whether it is here.

use napi_derive::napi;

/// A partition of a topic.
#[napi(object)]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
}

/// What has changed: first the revoked ones go, then the assigned ones come.
#[derive(Default)]
pub(crate) struct Holding {
    pub(crate) revoked: Vec<Place>,
    pub(crate) assigned: Vec<Place>,
    /// Some of them belonged to others already.
    pub(crate) are_lost: bool,
}

impl Holding {
    pub(crate) fn assigned(&mut self, partitions: &[(String, i32)]) {
        self.assigned.extend(partitions.iter().map(place));
    }

    /// What has come and gone in between was never here.
    pub(crate) fn revoked(&mut self, partitions: &[(String, i32)], are_lost: bool) {
        for place in partitions.iter().map(place) {
            match self.assigned.iter().position(|one| *one == place) {
                Some(at) => drop(self.assigned.remove(at)),
                None => {
                    self.revoked.push(place);
                    self.are_lost |= are_lost;
                }
            }
        }
    }
}

fn place((topic, partition): &(String, i32)) -> Place {
    Place {
        topic: topic.clone(),
        partition: *partition,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(places: &[Place]) -> Vec<i32> {
        places.iter().map(|place| place.partition).collect()
    }

    fn of(partitions: &[i32]) -> Vec<(String, i32)> {
        partitions.iter().map(|id| ("t".to_owned(), *id)).collect()
    }

    #[test]
    fn what_came_and_went_unseen_is_not_told() {
        let mut holding = Holding::default();
        holding.assigned(&of(&[0, 1]));
        holding.revoked(&of(&[1]), true);
        assert_eq!(ids(&holding.assigned), [0]);
        assert_eq!(ids(&holding.revoked), [0; 0]);
        assert!(!holding.are_lost);
    }

    #[test]
    fn what_went_and_came_is_told_twice_and_no_more() {
        let mut holding = Holding::default();
        for _ in 0..100 {
            holding.revoked(&of(&[3, 4]), true);
            holding.assigned(&of(&[3, 4]));
        }
        assert_eq!(ids(&holding.revoked), [3, 4]);
        assert_eq!(ids(&holding.assigned), [3, 4]);
        assert!(holding.are_lost);
    }
}
