//! Setting the offsets of partitions that are being consumed here (contract,
//! section 13, B19): nothing more is handed out, the new position is
//! committed, and reading goes on from there.

use super::super::group::{Setting, ask};
use super::super::partition::Partition;
use super::super::start::{self, Start};
use super::commits::Committing;
use super::rebalance::Rebalance;
use super::{Driver, Job};
use crate::error::{Error, KafkaError};
use crate::native::Partitions;
use std::sync::Arc;
use std::time::Duration;

/// How long the fetchers may take to move.
const SEEK_LIMIT: Duration = Duration::from_secs(5);

/// A setting whose positions are known, and wait for their commit.
pub(super) struct Found {
    setting: Setting,
    starts: Vec<Start>,
}

impl Driver {
    /// Whether a setting has been taken up: its positions are looked at, wait
    /// for their commit, are being committed, or the fetchers move there.
    fn is_setting(&self) -> bool {
        self.is_looking
            || self.setting.is_some()
            || matches!(self.committing, Some(Committing::Setting(_)))
    }

    /// Takes up what is to be set; one at a time: the end of one lets its
    /// partitions go on, also those that the next one holds.
    pub(super) fn set_offsets(&mut self) {
        while !self.is_setting() {
            let Some(setting) = self.group.state().settings.pop_front() else {
                return;
            };
            let is_settled = matches!(self.rebalance, Rebalance::None) && self.leaving.is_none();
            let is_owned = is_settled && {
                let mut state = self.group.state();
                let topic = state.topics.get_mut(setting.topic.as_str());
                topic.is_some_and(|topic| {
                    setting.positions.iter().all(|new| {
                        let found = topic.partitions.get(&new.partition);
                        found.is_some_and(|found| !found.is_leaving())
                    })
                })
            };
            if !is_owned {
                setting.answer(Ok(false));
                continue;
            }
            self.each_of(&setting.partitions(), Partition::hold);
            self.is_looking = true;
            let client = Arc::clone(&self.client);
            self.jobs.spawn(async move {
                let (topic, positions) = (setting.topic.clone(), setting.positions.clone());
                let looked = ask(client, move |client| {
                    start::of_positions(client, &topic, &positions)
                });
                Job::Found(setting, looked.await.unwrap_or(Ok(Vec::new())))
            });
        }
    }

    pub(super) fn finish_looking(&mut self, setting: Setting, found: Result<Vec<Start>, i32>) {
        self.is_looking = false;
        match found {
            Ok(starts) => {
                self.setting = Some(Found { setting, starts });
                self.commit_setting();
            }
            Err(code) => self.give_setting_up(setting, KafkaError::from_raw(code).into()),
        }
    }

    /// Sends the commit, once no other one is under way.
    pub(super) fn commit_setting(&mut self) {
        if self.committing.is_some() {
            return;
        }
        let Some(found) = self.setting.take() else {
            return;
        };
        let mut held = 0;
        self.each_of(&found.setting.partitions(), |partition| {
            held += usize::from(partition.is_held());
        });
        if held < found.setting.positions.len() {
            // Some have moved away meanwhile: it is for their next owner.
            self.each_of(&found.setting.partitions(), Partition::go_on);
            found.setting.answer(Ok(false));
            return;
        }
        let limit = self.group.config().acks.metadata_limit;
        let mut list = Partitions::new();
        for (start, new) in found.starts.iter().zip(&found.setting.positions) {
            let offset = start.acked.committed();
            // As it was given, unless it was given for another offset.
            let metadata = match offset == new.offset {
                true => new.metadata.clone(),
                false => start.acked.encode(limit),
            };
            list.add_with_metadata(&start.topic, start.partition, offset, &metadata);
        }
        match self.client.commit_to(Some(&list), &self.events) {
            0 => self.committing = Some(Committing::Setting(found)),
            code => self.give_setting_up(found.setting, KafkaError::from_raw(code).into()),
        }
    }

    /// The commit is done: what was acknowledged before does not count any more,
    /// and the fetchers move there.
    pub(super) fn finish_setting(&mut self, found: Found, result: Result<(), KafkaError>) {
        if let Err(error) = result {
            self.undo_setting(found.setting, error.into());
            return;
        }
        let policy = self.group.config().acks;
        let mut list = Partitions::new();
        for start in &found.starts {
            let mut is_held = false;
            self.each_of(&[(start.topic.clone(), start.partition)], |partition| {
                partition.begin_at(start.acked.clone(), start.end, policy);
                is_held = partition.is_held();
            });
            if is_held {
                list.add(&start.topic, start.partition, Some(start.offset));
            }
        }
        let client = Arc::clone(&self.client);
        self.is_looking = true;
        self.jobs.spawn(async move {
            let sought = ask(client, move |client| client.seek_all(&list, SEEK_LIMIT));
            let sought = sought.await.unwrap_or_else(|error| Err(error.to_string()));
            Job::Sought(found, sought)
        });
    }

    /// The fetchers are there: reading begins anew.
    pub(super) fn finish_seeking(&mut self, found: Found, sought: Result<(), String>) {
        self.is_looking = false;
        if let Err(reason) = sought {
            self.undo_setting(found.setting, Error::Client { reason });
            return;
        }
        // One that has moved away begins there with its next owner.
        self.each_of(&found.setting.partitions(), Partition::has_moved);
        found.setting.answer(Ok(true));
    }

    /// Some of it may be stored; what is true here is stored again.
    fn undo_setting(&self, setting: Setting, error: Error) {
        self.each_of(&setting.partitions(), Partition::has_not_moved);
        setting.answer(Err(error));
    }

    fn give_setting_up(&self, setting: Setting, error: Error) {
        self.each_of(&setting.partitions(), Partition::go_on);
        setting.answer(Err(error));
    }

    /// Nobody is left waiting when the group ends.
    pub(super) fn refuse_settings(&mut self) {
        let queued = std::mem::take(&mut self.group.state().settings);
        let begun = self.setting.take().map(|found| found.setting);
        for setting in queued.into_iter().chain(begun) {
            setting.answer(Ok(false));
        }
    }
}
