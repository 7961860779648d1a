//! The numbers of a member's partitions.
//!
//! A partition has a number for as long as the member holds it; when it comes
//! again it has another one, so that nothing from before is committed or
//! counted with what comes after.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What a number stands for.
#[derive(Clone)]
pub(crate) struct Named {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
}

impl Named {
    fn is(&self, topic: &str, partition: i32) -> bool {
        self.partition == partition && *self.topic == *topic
    }
}

/// A number, and whether it is a new one.
pub(crate) enum Numbered {
    Known(i32),
    New(i32),
}

/// All numbers of a member.
#[derive(Default)]
pub(crate) struct Lanes {
    named: BTreeMap<i32, Named>,
    last: i32,
    /// That of the last message: those of a partition come in runs.
    current: Option<(Named, i32)>,
    gone: Vec<i32>,
}

impl Lanes {
    /// The number of a message's partition.
    pub(crate) fn of(&mut self, topic: &str, partition: i32) -> Numbered {
        if let Some((place, lane)) = &self.current
            && place.is(topic, partition)
        {
            return Numbered::Known(*lane);
        }
        let mut named = self.named.iter();
        if let Some((lane, place)) = named.find(|(_, place)| place.is(topic, partition)) {
            self.current = Some((place.clone(), *lane));
            return Numbered::Known(*lane);
        }
        self.last = self.last.wrapping_add(1).max(0);
        let place = Named {
            topic: topic.into(),
            partition,
        };
        self.current = Some((place.clone(), self.last));
        self.named.insert(self.last, place);
        Numbered::New(self.last)
    }

    /// What a number stands for, unless that is held no longer.
    pub(crate) fn place(&self, lane: i32) -> Option<&Named> {
        self.named.get(&lane)
    }

    /// Partitions are held no longer.
    pub(crate) fn give_up(&mut self, partitions: &[(String, i32)]) {
        self.current = None;
        let gone = &mut self.gone;
        self.named.retain(|lane, place| {
            let is_gone = partitions.iter().any(|(topic, id)| place.is(topic, *id));
            if is_gone {
                gone.push(*lane);
            }
            !is_gone
        });
    }

    /// The numbers that were given up since this was asked last.
    pub(crate) fn take_gone(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.gone)
    }
}
