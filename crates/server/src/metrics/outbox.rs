//! What the engine has counted of an outbox (contract, `producer-engine.md`,
//! sections 6 to 8), read when somebody asks. Nothing here asks a broker.

use barnabas_engine::{Dropped, ForgottenTopics, Outbox, OutboxInfo, Producer, TopicInfo};
use barnabas_metrics::{
    ByTopic, ClientStatistics, Description, Error, Kind, OTHER, Registry, Samples,
};
use std::cmp::Reverse;
use std::sync::Arc;

/// Of the outbox as a whole: name, type, meaning, value.
type Whole = (&'static str, Kind, &'static str, fn(&OutboxInfo) -> u64);

const WHOLE: [Whole; 3] = [
    (
        "barnabas_outbox_messages",
        Kind::Gauge,
        "Messages that are admitted and neither in Kafka nor given up.",
        |own| own.messages,
    ),
    (
        "barnabas_outbox_bytes",
        Kind::Gauge,
        "Bytes that they take, and what is reserved for messages on their way in.",
        |own| own.bytes,
    ),
    (
        "barnabas_outbox_events_left_out_total",
        Kind::Counter,
        "Events that found no room on their way to their listeners.",
        |own| own.events_left_out,
    ),
];

/// Of a topic: name, type, meaning, value.
type OfTopic = (&'static str, Kind, &'static str, fn(&TopicInfo) -> usize);

/// Its counters. Those of topics that are remembered no more go on in the
/// series that many share.
const COUNTERS: [(&str, &str); 4] = [
    (
        "barnabas_outbox_accepted_messages_total",
        "Messages that were admitted.",
    ),
    (
        "barnabas_produced_messages_total",
        "Records that Kafka has acknowledged; one that was made of a batch counts once.",
    ),
    (
        "barnabas_outbox_saved_messages_total",
        "Messages that were kept because their topic or partition could not be reached.",
    ),
    (
        "barnabas_outbox_replayed_messages_total",
        "Messages that were handed over after a downtime of their topic.",
    ),
];

/// Its levels.
const LEVELS: [OfTopic; 6] = [
    (
        "barnabas_produce_in_flight_messages",
        Kind::Gauge,
        "Messages that librdkafka has, neither acknowledged nor given up.",
        |own| own.in_flight,
    ),
    (
        "barnabas_outbox_batched_messages",
        Kind::Gauge,
        "Messages in batches (ekaf's buffer.size).",
        |own| own.batched,
    ),
    (
        "barnabas_outbox_kept_messages",
        Kind::Gauge,
        "Messages that wait for their topic or for librdkafka (the message queue of ekaf's topic \
         server).",
        |own| own.kept,
    ),
    (
        "barnabas_outbox_waiting_messages",
        Kind::Gauge,
        "Of requests that wait for Kafka, messages that wait likewise.",
        |own| own.waiting,
    ),
    (
        "barnabas_outbox_workers",
        Kind::Gauge,
        "Entries of the ring whose partitions can be reached (ekaf's workers).",
        |own| own.lanes as usize * (own.partitions.len() - dead(own)),
    ),
    (
        "barnabas_outbox_dead_workers",
        Kind::Gauge,
        "Entries of the ring whose partitions cannot be reached.",
        |own| own.lanes as usize * dead(own),
    ),
];

fn dead(topic: &TopicInfo) -> usize {
    let partitions = topic.partitions.iter();
    partitions.filter(|one| !one.is_available).count()
}

/// What [`COUNTERS`] stand for.
fn counts(counts: &barnabas_engine::TopicCounts) -> [u64; COUNTERS.len()] {
    [
        counts.accepted,
        counts.delivered,
        counts.saved,
        counts.replayed,
    ]
}

/// Registers everything that is known of an outbox; so many topics have series
/// of their own.
pub(crate) fn register(
    registry: &Registry,
    outbox: &Outbox,
    max_topics: usize,
) -> Result<(), Error> {
    let described = WHOLE.map(|(name, kind, help, _)| Description::new(kind, name, help, &[]));
    let own = outbox.clone();
    registry.snapshot(described.to_vec(), move |samples| {
        let info = own.info();
        for (index, (.., value)) in WHOLE.iter().enumerate() {
            samples.add(index, &[], value(&info) as f64);
        }
    })?;
    let of_topic = &["topic"];
    let mut described = Vec::new();
    for (name, help) in COUNTERS {
        described.push(Description::new(Kind::Counter, name, help, of_topic));
    }
    for (name, kind, help, _) in LEVELS {
        described.push(Description::new(kind, name, help, of_topic));
    }
    described.push(Description::new(
        Kind::Gauge,
        "barnabas_outbox_max_batch_messages",
        "Messages at which a batch leaves (ekaf's buffer.max); of topics that share a series \
         nothing.",
        of_topic,
    ));
    described.push(Description::new(
        Kind::Gauge,
        "barnabas_outbox_topic_state",
        "How many topics are in this state: starting, up, degraded, down or replaying.",
        &["topic", "state"],
    ));
    described.push(Description::new(
        Kind::Counter,
        "barnabas_dropped_messages_total",
        "Messages that were admitted and dropped: by the downtime's policy, their age, or because \
         Kafka would never take them.",
        &["topic", "reason"],
    ));
    let labels = ByTopic::new(max_topics, str::to_owned);
    let own = outbox.clone();
    registry.snapshot(described, move |samples| {
        let mut topics = own.topics();
        // Not a name that a request has brought, and nothing more.
        topics.retain(|topic| topic.counts.accepted > 0 || !topic.partitions.is_empty());
        // Of those that have come since the last time the busiest are told
        // apart.
        topics.sort_unstable_by_key(|topic| Reverse(topic.counts.accepted));
        for topic in topics {
            show(samples, &labels.get(&topic.topic), &topic);
        }
        show_forgotten(samples, &own.forgotten_topics());
    })
}

/// Places behind those of counters and levels.
const MAX_BATCH: usize = COUNTERS.len() + LEVELS.len();
const STATE: usize = MAX_BATCH + 1;
const DROPPED: usize = STATE + 1;

fn show(samples: &mut Samples, label: &str, topic: &TopicInfo) {
    show_counts(samples, label, counts(&topic.counts), &topic.dropped);
    for (index, (.., value)) in LEVELS.iter().enumerate() {
        samples.add(COUNTERS.len() + index, &[label], value(topic) as f64);
    }
    if label != OTHER {
        samples.add(MAX_BATCH, &[label], topic.max_batch_messages.into());
    }
    samples.add(STATE, &[label, topic.state.name()], 1.0);
}

fn show_counts(
    samples: &mut Samples,
    label: &str,
    counts: [u64; COUNTERS.len()],
    dropped: &[(Dropped, u64)],
) {
    for (index, count) in counts.into_iter().enumerate() {
        samples.add(index, &[label], count as f64);
    }
    for (reason, count) in dropped.iter().filter(|(_, count)| *count > 0) {
        samples.add(DROPPED, &[label, reason.name()], *count as f64);
    }
}

fn show_forgotten(samples: &mut Samples, topics: &ForgottenTopics) {
    let counts = counts(&topics.counts);
    if counts.iter().any(|count| *count > 0) {
        show_counts(samples, OTHER, counts, &topics.dropped);
    }
}

/// What librdkafka has said about the outbox's clients.
pub(crate) fn said(outbox: &Outbox, cluster: &str) -> Vec<ClientStatistics> {
    let cluster: Arc<str> = cluster.into();
    let patient = outbox.patient_clients().into_iter();
    let patient = patient.map(|client| ("patient", client));
    let all = patient.chain([("waiting", outbox.waiting_client())]);
    let said = all.filter_map(|(name, client): (&str, Producer)| {
        Some(ClientStatistics {
            cluster: Arc::clone(&cluster),
            client: name.into(),
            json: client.client_statistics()?,
        })
    });
    said.collect()
}
