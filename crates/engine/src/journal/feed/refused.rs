//! What becomes of records that Kafka refuses for good.

use super::{Feeder, find, segment_of};
use crate::error::KafkaError;
use crate::journal::recovery::Segment;
use crate::journal::segment::{Item, Reader};
use crate::journal::{Refused, aside};
use std::io;
use std::sync::atomic::Ordering;

/// So many bytes, and the record that goes beyond them, are kept at once.
const PORTION: usize = 1 << 20;
/// Topics that a line of the log names.
const NAMED: usize = 5;

impl Feeder {
    /// Keeps records that Kafka has refused for good beside the journal; they
    /// are done then, and no longer in the list. Those of one portion are
    /// synced together.
    pub(super) fn keep_aside(&mut self, refused: &mut Vec<(u64, KafkaError)>) -> io::Result<()> {
        let options = &self.shared.options;
        let mut topics: Vec<(String, KafkaError)> = Vec::new();
        let all = refused.len();
        while !refused.is_empty() {
            let mut frames = Vec::new();
            let mut count = 0;
            for (sequence, error) in &*refused {
                if frames.len() >= PORTION {
                    break;
                }
                count += 1;
                let Some((segment, mut reader)) = self.reader_at(*sequence)? else {
                    continue;
                };
                let offset = reader.offset();
                let item = reader.next(&segment.file, segment.length, segment.end)?;
                if let Item::Record { record, .. } = item
                    && topics.len() < NAMED
                    && !topics.iter().any(|(topic, _)| topic == record.topic)
                {
                    topics.push((record.topic.to_owned(), *error));
                }
                frames.extend_from_slice(reader.last_frame(offset));
            }
            aside::add(
                &options.directory,
                self.shared.marker,
                &frames,
                options.segment_bytes,
            )?;
            let refusals = &self.shared.counters.refused;
            refusals.fetch_add(count as u64, Ordering::Relaxed);
            for (sequence, error) in refused.drain(..count) {
                self.tell_of(sequence, error);
                self.shared.is_delivered(sequence);
            }
        }
        let topics: Vec<String> = topics
            .iter()
            .map(|(topic, error)| format!("{topic}: {error}"))
            .collect();
        self.log.error(|| {
            format!(
                "{all} records are refused by Kafka and kept aside ({})",
                topics.join("; ")
            )
        });
        Ok(())
    }

    /// Tells who listens, once it is kept.
    fn tell_of(&self, sequence: u64, error: KafkaError) {
        let Some(listener) = self.shared.refused_listener.get() else {
            return;
        };
        if let Ok(Some((segment, mut reader))) = self.reader_at(sequence)
            && let Ok(Item::Record { record, .. }) =
                reader.next(&segment.file, segment.length, segment.end)
        {
            listener(Refused {
                topic: record.topic,
                record: record.record,
                error,
            });
        }
    }

    /// The segment that has a record, and a reader that comes to it next.
    fn reader_at(&self, sequence: u64) -> io::Result<Option<(Segment, Reader)>> {
        let place = sequence.checked_sub(self.first_place);
        let offset = place.and_then(|place| self.places.get(usize::try_from(place).ok()?));
        match (segment_of(&self.shared, sequence), offset) {
            (Some(segment), Some(offset)) => {
                let reader = Reader::at(self.shared.marker, sequence, *offset);
                Ok(Some((segment, reader)))
            }
            // It was read before the last time that everything was sent again.
            (Some(_), None) => find(&self.shared, sequence),
            (None, _) => Ok(None),
        }
    }
}
