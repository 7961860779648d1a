//! Where a partition begins (contract, section 7).

use super::InitialOffset;
use crate::acks::{Acked, MalformedAcks};
use crate::admin::NewGroupOffset;
use crate::error::{ErrorCode, KafkaError};
use crate::native::{Client, Partitions, StoredPosition, TopicLookup};
use std::collections::HashMap;
use std::time::Duration;

/// How long each question may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Stands for the oldest message, in committed offsets and in questions for
/// offsets (Kafka's ListOffsets).
const OLDEST: i64 = -2;
/// Stands for the end in questions for offsets.
const END: i64 = -1;

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

/// What a partition's leader says about its log.
struct Log {
    oldest: i64,
    /// Behind the last message.
    end: i64,
    /// Of the leader (KIP-320).
    leader_epoch: Option<i32>,
}

impl Log {
    /// Whether a log that lacks what was read in the time of this leader is
    /// another one. A log loses its end only to a new leader, whose epoch is
    /// higher; that of a topic that is made again begins with the lowest, and
    /// its offsets with 0.
    fn is_new_since(&self, leader_epoch: Option<i32>) -> bool {
        let epochs = self.leader_epoch.zip(leader_epoch);
        self.oldest == 0 && epochs.is_some_and(|(now, then)| now <= then)
    }
}

/// Where partitions begin.
#[derive(Debug, Default)]
pub(super) struct Starts {
    pub(super) starts: Vec<Start>,
    /// Those that nobody tells of now: they have no leader.
    pub(super) unknown: Vec<(String, i32)>,
}

/// The ends of a topic's partitions when its first request came.
pub(super) type Ends = HashMap<i32, i64>;

/// Asks for the ends of topics as they were at the time that stands beside
/// each (milliseconds since 1970); blocks. One that does not exist has none;
/// one whose ends nobody tells now is left out.
pub(super) fn ends(client: &Client, topics: &[(String, i64)]) -> HashMap<String, Ends> {
    let Ok(metadata) = client.metadata(&TopicLookup::All, LIMIT) else {
        return HashMap::new();
    };
    let mut found: HashMap<String, Ends> = HashMap::new();
    let (mut now, mut then) = (Partitions::new(), Partitions::new());
    for (topic, since) in topics {
        found.insert(topic.clone(), Ends::new());
        let known = metadata.iter().find(|known| known.name == *topic);
        for partition in known.into_iter().flat_map(|known| &known.partitions) {
            now.add(topic, *partition, Some(END));
            then.add(topic, *partition, Some(*since));
        }
    }
    let asked = list(client, now).and_then(|now| Ok((now, list(client, then)?)));
    let Ok((now, then)) = asked else {
        // Who holds up the answer for all? A partition without a leader.
        return match topics {
            [] | [_] => HashMap::new(),
            topics => topics
                .iter()
                .flat_map(|topic| ends(client, std::slice::from_ref(topic)))
                .collect(),
        };
    };
    for (key, end) in now {
        // What came between that time and now is younger than it.
        let began = then.get(&key).copied().filter(|offset| *offset >= 0);
        let end = began.map_or(end, |began| began.min(end));
        found.entry(key.0).or_default().insert(key.1, end);
    }
    found
}

/// Asks what is committed and where to begin; blocks. `known` are the ends
/// that were taken down when a topic was first asked for. The error is
/// librdkafka's number; then nothing is known.
pub(super) fn find(
    client: &Client,
    partitions: &[(String, i32)],
    initial: InitialOffset,
    known: &HashMap<String, Ends>,
) -> Result<Starts, i32> {
    let metadata = client.metadata(&TopicLookup::All, LIMIT)?;
    let has_leader = |(topic, partition): &(String, i32)| {
        let known = metadata.iter().find(|known| known.name == *topic);
        known.is_some_and(|known| {
            known.partitions.contains(partition) && !known.without_leader.contains(partition)
        })
    };
    let (partitions, unknown): (Vec<_>, Vec<_>) = partitions.iter().cloned().partition(has_leader);
    if partitions.is_empty() {
        let starts = Vec::new();
        return Ok(Starts { starts, unknown });
    }
    let mut list = Partitions::new();
    for (topic, partition) in &partitions {
        list.add(topic, *partition, None);
    }
    client.committed(&mut list, LIMIT)?;
    let at_time = match initial {
        InitialOffset::Time(time) => offsets(client, &partitions, time)?,
        InitialOffset::Newest | InitialOffset::Oldest => HashMap::new(),
    };
    let logs = logs(client, &partitions)?;
    let mut starts = Vec::with_capacity(partitions.len());
    for committed in list.positions() {
        let key = (committed.topic.clone(), committed.partition);
        let Some(log) = logs.get(&key) else {
            return Err(KafkaError::from_code(ErrorCode::UnknownPartition).number());
        };
        let (oldest, end) = (log.oldest, log.end);
        let first = || match (initial, known.get(&committed.topic)) {
            (InitialOffset::Oldest, _) => oldest,
            (InitialOffset::Time(_), _) => {
                let found = at_time.get(&key).copied();
                // Negative: there is none, librdkafka says "end".
                found.filter(|offset| *offset >= 0).unwrap_or(end)
            }
            // A partition that was not there yet is wanted from its beginning.
            (InitialOffset::Newest, Some(ends)) => {
                let end = ends.get(&committed.partition).copied();
                end.unwrap_or(oldest).max(oldest)
            }
            (InitialOffset::Newest, None) => end,
        };
        let (acked, offset) = match committed.offset {
            OLDEST => (Acked::below(oldest), oldest),
            offset if offset < 0 => {
                let first = first();
                (Acked::below(first), first)
            }
            _ => place(client, &committed, log),
        };
        starts.push(Start {
            differs: acked.committed() != committed.offset,
            topic: committed.topic,
            partition: committed.partition,
            offset,
            acked,
            end,
        });
    }
    Ok(Starts { starts, unknown })
}

/// What is acknowledged and where to read by a position that is stored.
fn place(client: &Client, stored: &StoredPosition, log: &Log) -> (Acked, i64) {
    let (offset, metadata) = (stored.offset, &stored.metadata);
    let from_the_oldest = (Acked::below(log.oldest), log.oldest);
    if offset < log.oldest {
        return from_the_oldest;
    }
    let decoded = Acked::decode(offset, metadata, log.end.max(offset));
    if (offset > log.end || matches!(decoded, Err(MalformedAcks::BeyondEnd { .. })))
        && log.is_new_since(stored.leader_epoch)
    {
        // A member that had not heard yet that the topic was made again has
        // stored it. Of this log it says nothing.
        tracing::warn!(
            component = client.component(),
            "{} [{}]: what is stored (offset {offset}, metadata {metadata:?}) is of another log, \
             read from {} on",
            stored.topic,
            stored.partition,
            log.oldest,
        );
        return from_the_oldest;
    }
    let acked = decoded.unwrap_or_else(|reason| {
        tracing::error!(
            component = client.component(),
            "{} [{}]: the metadata {metadata:?} beside offset {offset} names no acknowledged \
             ranges: {reason}",
            stored.topic,
            stored.partition,
        );
        Acked::below(offset)
    });
    // Beyond the end is read from the end; what is below the committed offset
    // counts as acknowledged.
    let read_from = acked.committed().min(log.end.max(log.oldest));
    (acked, read_from)
}

/// Where positions of a topic lie that somebody sets, in their order; blocks.
/// The error is librdkafka's number.
pub(super) fn of_positions(
    client: &Client,
    topic: &str,
    positions: &[NewGroupOffset],
) -> Result<Vec<Start>, i32> {
    let partitions = positions
        .iter()
        .map(|new| (topic.to_owned(), new.partition));
    let partitions: Vec<(String, i32)> = partitions.collect();
    let logs = logs(client, &partitions)?;
    let starts = partitions.into_iter().zip(positions).map(|(key, new)| {
        let Some(log) = logs.get(&key) else {
            return Err(KafkaError::from_code(ErrorCode::UnknownPartition).number());
        };
        let (topic, partition) = key;
        let (offset, metadata) = match new.offset {
            OLDEST => (log.oldest, ""),
            offset if offset < 0 => (log.end, ""),
            offset => (offset, new.metadata.as_str()),
        };
        let wanted = StoredPosition {
            topic,
            partition,
            offset,
            metadata: metadata.to_owned(),
            leader_epoch: None,
            error: 0,
        };
        let (acked, offset) = place(client, &wanted, log);
        Ok(Start {
            topic: wanted.topic,
            partition,
            offset,
            acked,
            end: log.end,
            differs: true,
        })
    });
    starts.collect()
}

/// Asks for the first offset of each partition that is not older than `time`
/// in milliseconds, [`OLDEST`] or [`END`]; negative if there is none. Blocks.
fn offsets(
    client: &Client,
    partitions: &[(String, i32)],
    time: i64,
) -> Result<HashMap<(String, i32), i64>, i32> {
    list(client, questions(partitions, time))
}

fn questions(partitions: &[(String, i32)], time: i64) -> Partitions {
    let mut asked = Partitions::new();
    for (topic, partition) in partitions {
        asked.add(topic, *partition, Some(time));
    }
    asked
}

/// [`offsets`], with a time for each partition.
fn list(client: &Client, asked: Partitions) -> Result<HashMap<(String, i32), i64>, i32> {
    let found = answers(client, asked)?.into_iter();
    Ok(found
        .map(|found| ((found.topic, found.partition), found.offset))
        .collect())
}

/// Asks what there is of each partition. Blocks.
fn logs(client: &Client, partitions: &[(String, i32)]) -> Result<HashMap<(String, i32), Log>, i32> {
    let oldest_of = offsets(client, partitions, OLDEST)?;
    let ends = answers(client, questions(partitions, END))?.into_iter();
    let logs = ends.filter_map(|end| {
        let key = (end.topic, end.partition);
        let log = Log {
            oldest: *oldest_of.get(&key)?,
            end: end.offset,
            leader_epoch: end.leader_epoch,
        };
        Some((key, log))
    });
    Ok(logs.collect())
}

fn answers(client: &Client, mut asked: Partitions) -> Result<Vec<StoredPosition>, i32> {
    if !asked.is_empty() {
        client.list_offsets(&mut asked, LIMIT)?;
    }
    Ok(asked.positions().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tells_a_new_log_from_one_that_has_lost_its_end() {
        let log = |oldest, leader_epoch| Log {
            oldest,
            end: 10,
            leader_epoch,
        };
        // A topic that was made again, and one after a number of elections.
        assert!(log(0, Some(0)).is_new_since(Some(0)));
        assert!(log(0, Some(1)).is_new_since(Some(4)));
        // An unclean leader.
        assert!(!log(0, Some(5)).is_new_since(Some(4)));
        // Retention.
        assert!(!log(3, Some(4)).is_new_since(Some(4)));
        // Nobody has said so: others' commits, old brokers.
        assert!(!log(0, Some(0)).is_new_since(None));
        assert!(!log(0, None).is_new_since(Some(4)));
    }
}
