//! Where a partition begins (contract, section 7).

use super::InitialOffset;
use crate::acks::Acked;
use crate::native::{Client, Partitions};
use std::collections::HashMap;
use std::time::Duration;

/// How long each question may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Stands for the oldest message in committed offsets.
const OLDEST: i64 = -2;

/// A partition and where to begin in it.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// Where to read.
    pub(super) offset: i64,
    /// What need not be delivered.
    pub(super) acked: Acked,
    /// Behind the last message now.
    pub(super) end: i64,
    /// Kafka has something else stored: this is committed at once.
    pub(super) differs: bool,
}

/// The ends of a topic's partitions when its first request came.
pub(super) type Ends = HashMap<i32, i64>;

/// Asks for the ends of a topic; blocks. A topic that does not exist has
/// none. The error is librdkafka's number.
pub(super) fn ends(client: &Client, topic: &str) -> Result<Ends, i32> {
    let mut ends = Ends::new();
    for partition in client.partitions_of(topic, LIMIT)? {
        let (_, end) = client.query_watermarks(topic, partition, LIMIT)?;
        ends.insert(partition, end);
    }
    Ok(ends)
}

/// Asks what is committed and where to begin; blocks. `known` are the ends
/// that were taken down when a topic was first asked for. The error is
/// librdkafka's number; then nothing is known.
pub(super) fn find(
    client: &Client,
    partitions: &[(String, i32)],
    initial: InitialOffset,
    known: &HashMap<String, Ends>,
) -> Result<Vec<Start>, i32> {
    let mut list = Partitions::new();
    for (topic, partition) in partitions {
        list.add(topic, *partition, None);
    }
    client.committed(&mut list, LIMIT)?;
    let mut starts = Vec::with_capacity(partitions.len());
    for committed in list.positions() {
        let (topic, partition) = (committed.topic, committed.partition);
        let (oldest, end) = client.query_watermarks(&topic, partition, LIMIT)?;
        let first = || match (initial, known.get(&topic)) {
            (InitialOffset::Oldest, _) => oldest,
            // A partition that was not there yet is wanted from its beginning.
            (InitialOffset::Newest, Some(ends)) => {
                ends.get(&partition).copied().unwrap_or(oldest).max(oldest)
            }
            (InitialOffset::Newest, None) => end,
        };
        let (acked, offset) = match committed.offset {
            OLDEST => (Acked::below(oldest), oldest),
            offset if offset < 0 => {
                let first = first();
                (Acked::below(first), first)
            }
            offset if offset < oldest => (Acked::below(oldest), oldest),
            offset => {
                let acked = Acked::decode(offset, &committed.metadata, end.max(offset))
                    .unwrap_or_else(|reason| {
                        tracing::error!(
                            component = client.component(),
                            "{topic} [{partition}]: the metadata {:?} beside offset {offset} \
                             names no acknowledged ranges: {reason}",
                            committed.metadata
                        );
                        Acked::below(offset)
                    });
                // Beyond the end is read from the end; what is below the
                // committed offset counts as acknowledged.
                let offset = acked.committed().min(end.max(oldest));
                (acked, offset)
            }
        };
        starts.push(Start {
            differs: acked.committed() != committed.offset,
            topic,
            partition,
            offset,
            acked,
            end,
        });
    }
    Ok(starts)
}
