//! The feeder's producer, and handing records over to it.

use super::super::REPLAYED_HEADER;
use super::super::place::Placer;
use super::super::record::Journaled;
use crate::cluster::ClusterConfig;
use crate::error::Error;
use crate::producer::{DeliverySink, Destination, Producer, Renewal};
use crate::properties::Properties;
use std::sync::Arc;
use std::time::Duration;

/// Records that the producer may have.
const MOST_MESSAGES: u64 = 200_000;
/// The same by their bytes; twice the largest message if that is more.
const MOST_KILOBYTES: u64 = 64 << 10;
/// How long a broker may take to tell of a topic's partitions.
const LOOK_UP: Duration = Duration::from_secs(2);

/// A producer that retries for ever and holds little.
pub(super) fn start(config: &ClusterConfig) -> Result<Producer, Error> {
    let mut own = Properties::new();
    own.set("message.timeout.ms", "0");
    let mut properties = config.producer_properties(&own);
    properties.remove("delivery.timeout.ms");
    let largest = properties.get("message.max.bytes");
    let largest: u64 = largest.and_then(|text| text.parse().ok()).unwrap_or(0);
    let kilobytes = MOST_KILOBYTES.max(largest.div_ceil(512));
    properties
        .set("queue.buffering.max.messages", MOST_MESSAGES.to_string())
        .set("queue.buffering.max.kbytes", kilobytes.to_string());
    config.start_producer(&properties, Renewal::Others)
}

/// Hands a record over.
pub(super) fn submit(
    (producer, placer): (&Producer, Option<&dyn Placer>),
    destination: &mut Option<(String, Arc<Destination>)>,
    record: Journaled<'_>,
    is_marked: bool,
    sink: (&Arc<dyn DeliverySink>, u64),
) -> Result<(), Error> {
    if destination
        .as_ref()
        .is_none_or(|known| known.0 != record.topic)
    {
        let compression = placer.and_then(|placer| placer.compression(record.topic));
        let found = producer.destination_with(record.topic, compression.as_deref())?;
        *destination = Some((record.topic.to_owned(), found));
    }
    let Some((_, known)) = destination else {
        return Err(Error::Closed);
    };
    let mut headers = record.headers;
    if is_marked {
        headers.push((REPLAYED_HEADER, Some(b"1")));
    }
    let submit = || {
        producer.submit_for(
            known,
            record.partition,
            record.record,
            &headers,
            Some(record.timestamp),
            sink,
        )
    };
    let mut submitted = submit();
    if let Some(placer) = placer
        && is_of_unknown(&submitted)
    {
        // It may have to learn of a new partition, or of a new topic.
        producer.learn_of(known, LOOK_UP);
        submitted = submit();
        if is_of_unknown(&submitted) {
            placer.missed(record.topic);
        }
    }
    if submitted.is_err() {
        // Its absence may be remembered by what is kept of the topic.
        *destination = None;
    }
    submitted
}

/// Whether it was refused because the producer does not know the topic or its
/// partition.
pub(super) fn is_of_unknown(submitted: &Result<(), Error>) -> bool {
    matches!(submitted, Err(Error::Kafka { error }) if error.is_unknown_topic())
}
