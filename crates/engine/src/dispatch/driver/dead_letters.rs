//! Messages that were delivered too often (contract, section 5, and B15 of
//! section 13).

use super::super::partition::Exhausted;
use super::super::record::ConsumedRecord;
use super::{Driver, Job};
use crate::producer::{Producer, Record};

impl Driver {
    /// Messages that were delivered too often go to the dead letters, or are
    /// dropped with a line in the log.
    pub(super) fn put_away(&mut self) {
        let given_up = std::mem::take(&mut self.group.state().exhausted);
        for (topic, message) in given_up {
            tracing::error!(
                component = self.component(),
                "{topic} [{}] offset {} was delivered too often: key {:?}, {} bytes",
                message.partition,
                message.offset,
                message.record.key,
                message.record.value.as_ref().map_or(0, |value| value.len()),
            );
            let dead_letters = self.inner.dead_letters.clone();
            let group = self.group.name().to_owned();
            let target = self.group.config().dead_letter_topic.clone();
            self.jobs.spawn(async move {
                let is_safe = match (dead_letters, target) {
                    (Some(producer), Some(target)) => {
                        dead_letter(&producer, &target, &group, &topic, &message).await
                    }
                    _ => true,
                };
                Job::PutAway(topic, message, is_safe)
            });
        }
    }
}

/// Whether a message that was delivered too often is safe in `target`.
async fn dead_letter(
    producer: &Producer,
    target: &str,
    group: &str,
    topic: &str,
    message: &Exhausted,
) -> bool {
    let record: &ConsumedRecord = &message.record;
    let (partition, offset) = (message.partition.to_string(), message.offset.to_string());
    let own = [
        ("barnabas-topic", topic),
        ("barnabas-partition", partition.as_str()),
        ("barnabas-offset", offset.as_str()),
        ("barnabas-group", group),
        ("barnabas-reason", "max retries exceeded"),
    ];
    let names: Vec<_> = record
        .headers
        .iter()
        .map(|(name, _)| String::from_utf8_lossy(name))
        .collect();
    let mut headers: Vec<(&str, Option<&[u8]>)> = names
        .iter()
        .zip(&record.headers)
        .map(|(name, (_, value))| (name.as_ref(), value.as_deref()))
        .collect();
    headers.extend(own.map(|(name, value)| (name, Some(value.as_bytes()))));
    let sent = producer
        .deliver(
            target,
            None,
            Record {
                key: record.key.as_deref(),
                value: record.value.as_deref(),
            },
            &headers,
            record.timestamp,
        )
        .await;
    if let Err(error) = &sent {
        tracing::error!(
            component = format!("consumer-{group}"),
            "{topic} [{partition}] offset {offset} could not be written to {target}: {error}"
        );
    }
    sent.is_ok()
}
