//! Records that Kafka refuses for good.

use super::super::reports::is_of_a_batch;
use super::super::segment::{Item, Reader};
use super::super::{Refused, aside};
use super::{Feeder, find, segment_of};
use crate::error::KafkaError;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Pause before the disk is tried again that has not taken them.
const ASIDE_PAUSE: Duration = Duration::from_secs(1);

impl Feeder {
    /// Keeps aside what was refused. What the disk does not take is not done, and
    /// tried again later; the others go on meanwhile, since only they can make
    /// room.
    pub(super) fn look_at_refused(&mut self) {
        let mut refused = std::mem::take(&mut *self.reports.refused.lock());
        refused.retain(|(sequence, error)| {
            let is_meant = !is_of_a_batch(*error) || self.alone.contains(sequence);
            if !is_meant {
                self.alone.insert(*sequence);
                self.reports.fail(false);
            }
            is_meant
        });
        if refused.is_empty() {
            return;
        }
        let now = Instant::now();
        if self.aside_again.is_none_or(|again| again <= now) {
            match self.keep_aside(&refused) {
                Ok(()) => {
                    self.aside_again = None;
                    return;
                }
                Err(error) => {
                    self.aside_again = Some(now + ASIDE_PAUSE);
                    self.log
                        .error(|| format!("what Kafka refuses cannot be kept: {error}"));
                }
            }
        }
        self.reports.refused.lock().extend(refused);
    }

    /// Keeps records that Kafka has refused for good; they are done then.
    fn keep_aside(&mut self, refused: &[(u64, KafkaError)]) -> io::Result<()> {
        let mut frames = Vec::new();
        let mut topics: Vec<(String, KafkaError)> = Vec::new();
        for (sequence, error) in refused {
            let place = sequence.checked_sub(self.first_place);
            let offset = place.and_then(|place| self.places.get(usize::try_from(place).ok()?));
            let (segment, mut reader) = match (segment_of(&self.shared, *sequence), offset) {
                (Some(segment), Some(offset)) => {
                    let reader = Reader::at(self.shared.marker, *sequence, *offset);
                    (segment, reader)
                }
                // It was read before the last time that everything was sent
                // again.
                (Some(_), None) => match find(&self.shared, *sequence)? {
                    Some(found) => found,
                    None => continue,
                },
                (None, _) => continue,
            };
            let offset = reader.offset();
            let item = reader.next(&segment.file, segment.length, segment.end)?;
            if let Item::Record { record, .. } = item {
                if let Some(listener) = self.shared.refused_listener.get() {
                    listener(Refused {
                        topic: record.topic,
                        record: record.record,
                        error: *error,
                    });
                }
                if !topics.iter().any(|(topic, _)| topic == record.topic) {
                    topics.push((record.topic.to_owned(), *error));
                }
            }
            frames.extend_from_slice(reader.last_frame(offset));
        }
        let options = &self.shared.options;
        aside::add(
            &options.directory,
            self.shared.marker,
            &frames,
            options.segment_bytes,
        )?;
        let count = refused.len() as u64;
        self.shared
            .counters
            .refused
            .fetch_add(count, Ordering::Relaxed);
        for (sequence, _) in refused {
            self.shared.is_delivered(*sequence);
        }
        let topics: Vec<String> = topics
            .iter()
            .take(5)
            .map(|(topic, error)| format!("{topic}: {error}"))
            .collect();
        self.log.error(|| {
            format!(
                "{count} records are refused by Kafka and kept aside ({})",
                topics.join("; ")
            )
        });
        Ok(())
    }
}
