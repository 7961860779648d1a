//! Records that fail when nobody waits for them any more, and are written to
//! another topic instead (contract, section 9). Their share of the bound stays
//! taken until that is decided.

use super::engine::Topic;
use super::reply::message_production;
use super::state::State;
use barnabas_engine::{Delivery, DeliverySink, KafkaError, Record, Refused, Undelivered};
use std::sync::Arc;
use std::time::Instant;

/// Hears what becomes of one of them.
struct DeadLetter {
    state: Arc<State>,
    /// The topic that it was for.
    topic: Arc<Topic>,
    target: Box<str>,
    /// What else was admitted with it.
    header_bytes: u64,
}

/// A record of the journal that Kafka has refused for good. It is kept aside
/// there, whether there is room for it here or not.
pub(super) fn refused(state: &Arc<State>, refused: Refused<'_>) {
    let Refused {
        topic: name,
        record,
        error,
    } = refused;
    let topic = state.topic(name);
    state.metrics.failed(&topic.series, error.number(), 1);
    let text = message_production(error);
    tracing::error!(
        component = "kprf",
        topic = name,
        error = text,
        "got error when tried to send message"
    );
    let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len) as u64;
    let bytes = length(record.key) + length(record.value);
    let mut held = state.admission.hold();
    if held.turn_into(1, bytes) && send(state, &topic, (record, error), 0) {
        held.pass_on();
    }
}

/// Sends a record that has failed to its topic's dead letters; its share of the
/// bound goes along. False: it has none, or they cannot be reached either.
pub(super) fn send(
    state: &Arc<State>,
    topic: &Arc<Topic>,
    (record, error): (Record<'_>, KafkaError),
    header_bytes: u64,
) -> bool {
    let rules = state.rules();
    let Some(target) = rules.dead_letter_topic(&topic.name) else {
        return false;
    };
    let reason = error.name_and_text();
    let headers = [
        ("barnabas-topic", Some(topic.name.as_bytes())),
        ("barnabas-reason", Some(reason.as_bytes())),
    ];
    let sink: Arc<dyn DeliverySink> = Arc::new(DeadLetter {
        state: Arc::clone(state),
        topic: Arc::clone(topic),
        target: target.into(),
        header_bytes,
    });
    let sent = state.engine.submit_aside(target, record, &headers, &sink);
    if let Err(error) = sent {
        tell(&topic.name, target, &message_production(error));
        return false;
    }
    true
}

fn tell(topic: &str, target: &str, error: &str) {
    tracing::error!(
        component = "kprf",
        topic,
        target,
        error,
        "a record is in the dead letters neither"
    );
}

impl DeliverySink for DeadLetter {
    fn settled(&self, _: u64, bytes: u64, result: Result<Delivery, Undelivered<'_>>) {
        let bytes = bytes + self.header_bytes;
        self.state.admission.release(1, bytes, Instant::now());
        if let Err(undelivered) = result {
            let error = message_production(undelivered.error);
            tell(&self.topic.name, &self.target, &error);
        }
    }
}
