//! Messages that were delivered too often (contract, section 5, and B15 of
//! section 13).

use super::super::partition::Exhausted;
use super::super::record::ConsumedRecord;
use super::{Driver, Job};
use crate::error::{Error, ErrorCode};
use crate::journal::is_permanent;
use crate::producer::{Producer, Record};
use std::time::Duration;

/// Pause where only somebody can help: the dead letters' topic must be allowed,
/// or must take messages as large as those that are consumed.
const SOMEBODYS_PAUSE: Duration = Duration::from_secs(60);

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
            let pause = self.group.config().retry_backoff;
            self.jobs.spawn(async move {
                let again = match (dead_letters, target) {
                    (Some(producer), Some(target)) => {
                        let kept = dead_letter(&producer, &target, &group, &topic, &message).await;
                        kept.err().map(|error| match is_for_somebody(&error) {
                            true => pause.max(SOMEBODYS_PAUSE),
                            false => pause,
                        })
                    }
                    _ => None,
                };
                Job::PutAway(topic, message, again)
            });
        }
    }
}

/// Whether it takes somebody to change what is configured. The message is not
/// given up for that: it is tried again, at leisure.
fn is_for_somebody(error: &Error) -> bool {
    matches!(error, Error::Kafka { error } if is_permanent(*error) && !error.is_unknown_topic())
}

fn is_too_large(error: &Error) -> bool {
    matches!(error, Error::Kafka { error } if error.is(ErrorCode::MessageSizeTooLarge))
}

/// Writes a message that was delivered too often to `target`; returns once it is
/// safe there. If there is no room for where it came from, that is left out.
async fn dead_letter(
    producer: &Producer,
    target: &str,
    group: &str,
    topic: &str,
    message: &Exhausted,
) -> Result<(), Error> {
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
    let before = headers.len();
    headers.extend(own.map(|(name, value)| (name, Some(value.as_bytes()))));
    let key_and_value = Record {
        key: record.key.as_deref(),
        value: record.value.as_deref(),
    };
    let send = |headers| producer.deliver(target, None, key_and_value, headers, record.timestamp);
    let mut sent = send(&headers).await;
    if sent.as_ref().is_err_and(is_too_large) {
        // It was not too large where it came from.
        sent = send(headers.get(..before).unwrap_or_default()).await;
        if sent.is_ok() {
            tracing::warn!(
                component = format!("consumer-{group}"),
                "{topic} [{partition}] offset {offset} is in {target} without the headers that \
                 say where it came from: it would be too large with them"
            );
        }
    }
    if let Err(error) = &sent {
        tracing::error!(
            component = format!("consumer-{group}"),
            "{topic} [{partition}] offset {offset} could not be written to {target}, it is tried \
             again: {error}"
        );
    }
    sent.map(drop)
}
