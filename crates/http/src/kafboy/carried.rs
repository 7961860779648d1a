//! The trace of a request: its messages carry it on, a span for each topic
//! tells of their sending (`docs/tracing.md`).

use barnabas_engine::{Header, NewRecord, Outbox, Outcome, ProduceError, RequestTrace, Sending};
use std::collections::HashMap;

/// The messages of a request, topic by topic.
pub(super) struct Carried<'t>(HashMap<&'t str, Sending>);

/// What their records get.
pub(super) struct Headers<'a>(HashMap<&'a str, Vec<Header<'a>>>);

impl<'t> Carried<'t> {
    /// For messages to these topics, each named as often as it has messages.
    pub(super) fn begin(trace: &RequestTrace, topics: impl Iterator<Item = &'t str>) -> Self {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        if trace.header_bytes() > 0 || trace.is_recorded() {
            for topic in topics {
                *counts.entry(topic).or_default() += 1;
            }
        }
        let sendings = counts.into_iter().map(|(topic, count)| {
            let sending = trace.sending(topic);
            if count > 1 {
                sending.count(count);
            }
            (topic, sending)
        });
        Self(sendings.collect())
    }

    pub(super) fn headers(&self) -> Headers<'_> {
        let sendings = self.0.iter().filter(|(_, sending)| !sending.is_empty());
        let headers = sendings.map(|(topic, sending)| (*topic, sending.headers()));
        Headers(headers.collect())
    }

    /// That of one topic, which outlives the others; `None`: there is no trace.
    pub(super) fn take(&mut self, topic: &str) -> Option<Box<Sending>> {
        self.0.remove(topic).map(Box::new)
    }

    /// Messages of that topic have failed.
    pub(super) fn failed(&self, topic: &str, error: &ProduceError) {
        if let Some(sending) = self.0.get(topic) {
            failed(sending, error);
        }
    }

    /// None of them has found room.
    pub(super) fn found_no_room(&self) {
        for sending in self.0.values() {
            sending.failed_as("overload", || "there was no room".to_owned());
        }
    }
}

impl Headers<'_> {
    /// Adds them to a record of this topic, unless it is too large with them.
    pub(super) fn add_to<'r>(&'r self, topic: &str, outbox: &Outbox, record: &mut NewRecord<'r>) {
        if let Some(headers) = self.0.get(topic) {
            let with_them = NewRecord { headers, ..*record };
            if outbox.fits(&with_them) {
                *record = with_them;
            }
        }
    }
}

/// What has become of messages that were waited for.
pub(super) fn settled(sending: &Sending, outcomes: &[Outcome]) {
    if let [Ok(delivery)] = outcomes {
        sending.written(*delivery);
    }
    if let Some(error) = outcomes.iter().find_map(|outcome| outcome.as_ref().err()) {
        failed(sending, error);
    }
}

fn failed(sending: &Sending, error: &ProduceError) {
    let kind = match error {
        ProduceError::Broker { error, .. } => return sending.failed_by(*error),
        ProduceError::Full { .. } => "overload",
        ProduceError::TooLarge { .. } => "too_large",
        ProduceError::InvalidTopic { .. } => "invalid_topic",
        ProduceError::UnknownTopic { .. } => "unknown_topic",
        ProduceError::UnknownPartition { .. } => "unknown_partition",
        ProduceError::Blocked { .. } => "blocked",
        ProduceError::Timeout { .. }
        | ProduceError::PossiblyPersisted { .. }
        | ProduceError::Downtime { .. } => "timeout",
        ProduceError::Dropped { .. } => "dropped",
        ProduceError::ShuttingDown { .. } => "closed",
        _ => "_OTHER",
    };
    sending.failed_as(kind, || error.to_string());
}
