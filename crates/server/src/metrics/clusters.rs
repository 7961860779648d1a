//! What the engine has counted of clusters, read when somebody asks. Nothing
//! here asks a broker.

use super::Watched;
use crate::clusters::{Clusters, Open};
use barnabas_engine::{
    Drops, Journal, JournalStatistics, Producer, ProducerStatistics, Properties, Proxies,
};
use barnabas_metrics::{ClientStatistics, Description, Error, Kind, OTHER, Registry, Samples};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The clusters of a gateway, and what their front ends have lost.
struct Gateway {
    open: Vec<Open>,
    proxies: Arc<Proxies>,
    drops: Vec<(&'static str, Arc<Drops>)>,
}

/// What is to be known of these clusters, and of messages that front ends
/// lost.
pub(crate) fn of_clusters(
    clusters: &Clusters,
    drops: Vec<(&'static str, Arc<Drops>)>,
) -> Arc<dyn Watched> {
    Arc::new(Gateway {
        open: clusters.open.clone(),
        proxies: Arc::clone(&clusters.proxies),
        drops,
    })
}

impl Watched for Gateway {
    fn register(&self, registry: &Registry, max_topics: usize) -> Result<(), Error> {
        let lost = Description::new(
            Kind::Counter,
            "barnabas_lost_messages_total",
            "Messages that were lost though their requests, which did not wait for Kafka, had \
             been answered well.",
            &["front_end", "reason"],
        );
        let drops = self.drops.clone();
        registry.snapshot(vec![lost], move |samples| {
            for (front_end, drops) in &drops {
                for (reason, count) in drops.counts().filter(|(_, count)| *count > 0) {
                    samples.add(0, &[front_end, reason.name()], count as f64);
                }
            }
        })?;
        register(registry, self.open.clone(), max_topics)
    }

    fn said(&self) -> Vec<ClientStatistics> {
        self.open.iter().flat_map(said).collect()
    }

    fn is_stopping(&self) -> bool {
        self.proxies.is_stopping()
    }

    fn probes(&self) -> Vec<Producer> {
        let producers = self
            .open
            .iter()
            .map(|open| open.cluster.producer(&Properties::new()));
        producers.filter_map(Result::ok).collect()
    }
}

/// What is shown of a cluster as a whole: name, type, meaning, value.
type Whole<T> = (&'static str, Kind, &'static str, fn(&T) -> u64);

/// Of all producers of a cluster together.
const PRODUCERS: [Whole<ProducerStatistics>; 7] = [
    (
        "barnabas_producer_accepted_messages_total",
        Kind::Counter,
        "Messages that were taken over from callers.",
        |own| own.accepted,
    ),
    (
        "barnabas_producer_delivered_messages_total",
        Kind::Counter,
        "Messages that Kafka has acknowledged.",
        |own| own.delivered,
    ),
    (
        "barnabas_producer_failed_messages_total",
        Kind::Counter,
        "Messages that were given up.",
        |own| own.failed,
    ),
    (
        "barnabas_producer_queue_messages",
        Kind::Gauge,
        "Messages that are in memory, neither acknowledged nor given up.",
        |own| own.outstanding,
    ),
    (
        "barnabas_producer_unflushed_messages_total",
        Kind::Counter,
        "Messages that were undelivered five seconds after their connection had closed.",
        |own| own.unflushed,
    ),
    (
        "barnabas_producer_errors_total",
        Kind::Counter,
        "Errors of librdkafka's producers that are no message's.",
        |own| own.unknown_events,
    ),
    (
        "barnabas_producer_failed_clients_total",
        Kind::Counter,
        "librdkafka's producers that had failed for good and were replaced.",
        |own| own.renewed,
    ),
];

/// Of a cluster's journal.
const JOURNAL: [Whole<JournalStatistics>; 12] = [
    (
        "barnabas_journal_bytes",
        Kind::Gauge,
        "Bytes of the journal's segments.",
        |own| own.bytes,
    ),
    (
        "barnabas_journal_segments",
        Kind::Gauge,
        "Segments of the journal.",
        |own| own.segments,
    ),
    (
        "barnabas_journal_waiting_messages",
        Kind::Gauge,
        "Messages in the journal that are neither delivered nor given up.",
        |own| own.undelivered,
    ),
    (
        "barnabas_journal_written_messages_total",
        Kind::Counter,
        "Messages that were written to disk.",
        |own| own.written,
    ),
    (
        "barnabas_journal_delivered_messages_total",
        Kind::Counter,
        "Messages of the journal that Kafka has acknowledged.",
        |own| own.delivered,
    ),
    (
        "barnabas_journal_replayed_messages_total",
        Kind::Counter,
        "Of those, messages of an earlier process.",
        |own| own.replayed,
    ),
    (
        "barnabas_journal_refused_messages_total",
        Kind::Counter,
        "Messages that Kafka has refused for good; they are kept aside.",
        |own| own.refused,
    ),
    (
        "barnabas_journal_damaged_messages_total",
        Kind::Counter,
        "Messages that were damaged on disk; their bytes are kept aside.",
        |own| own.damaged,
    ),
    (
        "barnabas_journal_full_total",
        Kind::Counter,
        "Requests that found the journal full.",
        |own| own.refused_full,
    ),
    (
        "barnabas_journal_failed_writes_total",
        Kind::Counter,
        "Writes and syncs of the journal that failed.",
        |own| own.failed_writes,
    ),
    (
        "barnabas_journal_failed_producers_total",
        Kind::Counter,
        "Producers of the journal that had failed for good and were replaced.",
        |own| own.producers_failed,
    ),
    (
        "barnabas_journal_syncs_total",
        Kind::Counter,
        "Syncs of the journal to disk.",
        |own| own.syncs,
    ),
];

/// Of a cluster's topics.
const TOPICS: [(&str, Kind, &str); 12] = [
    (
        "barnabas_produced_messages_total",
        Kind::Counter,
        "Messages that Kafka has acknowledged.",
    ),
    (
        "barnabas_produced_bytes_total",
        Kind::Counter,
        "Bytes of keys and values of the messages that Kafka has acknowledged.",
    ),
    (
        "barnabas_produce_failed_messages_total",
        Kind::Counter,
        "Messages to the topic that were given up.",
    ),
    (
        "barnabas_produce_in_flight_messages",
        Kind::Gauge,
        "Messages that librdkafka has, neither acknowledged nor given up.",
    ),
    (
        "barnabas_consumed_messages_total",
        Kind::Counter,
        "Messages that were handed out to consumers, again included.",
    ),
    (
        "barnabas_consumed_bytes_total",
        Kind::Counter,
        "Bytes of the messages that were handed out to consumers.",
    ),
    (
        "barnabas_redelivered_messages_total",
        Kind::Counter,
        "Messages that were handed out again, as nobody had acknowledged them.",
    ),
    (
        "barnabas_acked_messages_total",
        Kind::Counter,
        "Acknowledgements of messages that were taken.",
    ),
    (
        "barnabas_dead_letter_messages_total",
        Kind::Counter,
        "Messages that were delivered too often and are in the dead letters' topic.",
    ),
    (
        "barnabas_dropped_messages_total",
        Kind::Counter,
        "Messages that were delivered too often and were dropped.",
    ),
    (
        "barnabas_unacknowledged_messages",
        Kind::Gauge,
        "Messages that were handed out over HTTP, gRPC or streams and wait for their \
         acknowledgement.",
    ),
    (
        "barnabas_waiting_consumers",
        Kind::Gauge,
        "Requests that wait for a message of the topic.",
    ),
];

/// Places in [`TOPICS`].
mod place {
    pub(super) const PRODUCED: usize = 0;
    pub(super) const PRODUCED_BYTES: usize = 1;
    pub(super) const FAILED: usize = 2;
    pub(super) const IN_FLIGHT: usize = 3;
    pub(super) const CONSUMED: usize = 4;
    pub(super) const CONSUMED_BYTES: usize = 5;
    pub(super) const AGAIN: usize = 6;
    pub(super) const ACKED: usize = 7;
    pub(super) const DEAD_LETTERS: usize = 8;
    pub(super) const DROPPED: usize = 9;
    pub(super) const UNACKNOWLEDGED: usize = 10;
    pub(super) const WAITING: usize = 11;
}

/// Registers what is known of clusters' journals.
pub(crate) fn register_journals(
    registry: &Registry,
    journals: Vec<(String, Journal)>,
) -> Result<(), Error> {
    registry.snapshot(described(&JOURNAL), move |samples| {
        for (cluster, journal) in &journals {
            show(samples, cluster, &JOURNAL, &journal.statistics());
        }
    })
}

/// Registers everything that is known of these clusters; so many topics have
/// series of their own, and so many topics of groups.
fn register(registry: &Registry, clusters: Vec<Open>, max_topics: usize) -> Result<(), Error> {
    let own = clusters.clone();
    registry.snapshot(described(&PRODUCERS), move |samples| {
        for open in &own {
            for producer in open.cluster.producers() {
                show(samples, &open.name, &PRODUCERS, &producer.statistics());
            }
        }
    })?;
    let journals = clusters.iter();
    let journals = journals.filter_map(|open| {
        let journal = open.cluster.journal()?.clone();
        Some((open.name.clone(), journal))
    });
    register_journals(registry, journals.collect())?;
    let topics = TOPICS.map(|(name, kind, help)| {
        let labels = &["cluster", "topic"];
        Description::new(kind, name, help, labels)
    });
    let own = clusters.clone();
    let labels = Labels::new(max_topics);
    registry.snapshot(topics.to_vec(), move |samples| {
        for open in &own {
            show_topics(samples, open, &labels);
        }
    })?;
    let lag = Description::new(
        Kind::Gauge,
        "barnabas_consumer_lag_messages",
        "How far a group is behind the end of a partition that this process consumes, as of the \
         last fetch.",
        &["cluster", "group", "topic", "partition"],
    );
    registry.snapshot(vec![lag], move |samples| {
        for open in &clusters {
            show_lag(samples, open, max_topics);
        }
    })
}

/// What librdkafka has said about the clients of a cluster.
fn said(open: &Open) -> Vec<ClientStatistics> {
    let producers = open.cluster.producers();
    let produced = producers
        .iter()
        .filter_map(|producer| producer.client_statistics());
    let groups = open.dispatcher.client_statistics();
    let members = open.cluster.member_client_statistics();
    let all = produced.map(|json| ("producer", json));
    let all = all.chain(groups.into_iter().map(|json| ("group", json)));
    let all = all.chain(members.into_iter().map(|json| ("consumer", json)));
    let cluster: Arc<str> = open.name.as_str().into();
    let all = all.map(|(client, json)| ClientStatistics {
        cluster: Arc::clone(&cluster),
        client: client.into(),
        json,
    });
    all.collect()
}

fn described<T>(whole: &[Whole<T>]) -> Vec<Description> {
    let described = whole
        .iter()
        .map(|(name, kind, help, _)| Description::new(*kind, name, help, &["cluster"]));
    described.collect()
}

fn show<T>(samples: &mut Samples, cluster: &str, whole: &[Whole<T>], values: &T) {
    for (index, (.., value)) in whole.iter().enumerate() {
        samples.add(index, &[cluster], value(values) as f64);
    }
}

/// Topics that have been given labels of their own. They keep them: a counter
/// must not fall because another topic has come.
struct Labels {
    known: Mutex<BTreeSet<(String, String)>>,
    most: usize,
}

impl Labels {
    fn new(most: usize) -> Self {
        Self {
            known: Mutex::default(),
            most,
        }
    }

    fn of<'a>(&self, cluster: &str, topic: &'a str) -> &'a str {
        let mut known = self.known.lock();
        let name = (cluster.to_owned(), topic.to_owned());
        if known.contains(&name) {
            return topic;
        }
        if known.len() >= self.most {
            return OTHER;
        }
        known.insert(name);
        topic
    }
}

fn show_topics(samples: &mut Samples, open: &Open, labels: &Labels) {
    let cluster = open.name.as_str();
    let mut add =
        |place, topic: &str, value: u64| samples.add(place, &[cluster, topic], value as f64);
    for producer in open.cluster.producers() {
        producer.each_topic(|topic, own| {
            // Asked for and not there, maybe.
            if own.accepted == 0 {
                return;
            }
            let topic = labels.of(cluster, topic);
            add(place::PRODUCED, topic, own.delivered);
            add(place::PRODUCED_BYTES, topic, own.bytes);
            add(place::FAILED, topic, own.failed);
            add(place::IN_FLIGHT, topic, own.outstanding());
        });
    }
    open.cluster.each_consumed_topic(|topic, own| {
        if own.messages == 0 {
            return;
        }
        let topic = labels.of(cluster, topic);
        add(place::CONSUMED, topic, own.messages);
        add(place::CONSUMED_BYTES, topic, own.bytes);
        add(place::AGAIN, topic, own.again);
        add(place::ACKED, topic, own.acked);
        add(place::DEAD_LETTERS, topic, own.dead_letters);
        add(place::DROPPED, topic, own.dropped);
    });
    for group in open.dispatcher.statistics() {
        let topic = labels.of(cluster, &group.topic);
        let pending: usize = group.partitions.iter().map(|own| own.pending).sum();
        add(place::UNACKNOWLEDGED, topic, pending as u64);
        add(place::WAITING, topic, group.waiting as u64);
    }
}

/// Of more groups' topics than may be told apart the lag is shown together.
fn show_lag(samples: &mut Samples, open: &Open, most: usize) {
    let mut known: BTreeMap<(String, String), Vec<(i32, u64)>> = BTreeMap::new();
    for group in open.dispatcher.statistics() {
        let lags = group.partitions.iter();
        let lags = lags.filter_map(|own| Some((own.partition, own.lag?)));
        let entry = known.entry((group.group, group.topic)).or_default();
        entry.extend(lags);
    }
    for member in open.cluster.member_statistics() {
        if let Some(lag) = member.lag {
            let entry = known.entry((member.group, member.topic)).or_default();
            entry.push((member.partition, lag));
        }
    }
    let cluster = open.name.as_str();
    for (index, ((group, topic), partitions)) in known.iter().enumerate() {
        for (partition, lag) in partitions {
            let partition = partition.to_string();
            let own = [cluster, group, topic, partition.as_str()];
            let labels = match index < most {
                true => own,
                false => [cluster, OTHER, OTHER, OTHER],
            };
            samples.add(0, &labels, *lag as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_keeps_its_label() {
        let labels = Labels::new(2);
        let given = ["b", "c", "a", "b"].map(|topic| labels.of("x", topic));
        assert_eq!(given, ["b", "c", OTHER, "b"]);
        assert_eq!(labels.of("y", "b"), OTHER, "of another cluster");
    }
}
