//! Where a partition begins (contract, section 7).

use super::InitialOffset;
use crate::acks::{Acked, MalformedAcks};
use crate::admin::NewGroupOffset;
use crate::error::{ErrorCode, KafkaError};
use crate::native::{Client, Partitions, TopicId, TopicLookup, TopicMetadata};
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

/// How long each question may take.
const LIMIT: Duration = Duration::from_secs(5);

/// By then members have heard that a topic was made again: librdkafka asks for metadata every
/// five minutes (`topic.metadata.refresh.interval.ms`).
const YOUTH: Duration = Duration::from_secs(600);

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
    /// Of the topic.
    pub(super) id: Option<TopicId>,
}

/// Where partitions begin.
#[derive(Debug, Default)]
pub(super) struct Starts {
    pub(super) starts: Vec<Start>,
    /// Those that nobody tells of now: they have no leader.
    pub(super) unknown: Vec<(String, i32)>,
}

/// The ends of a topic's partitions.
pub(super) type Ends = HashMap<i32, End>;

/// The end of a partition when the first request for its topic came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct End {
    pub(super) offset: i64,
    /// The topic that it was of, or was of when it was taken on last, once something of it
    /// is stored.
    pub(super) id: Option<TopicId>,
}

impl End {
    /// Something of that topic is stored: all of another one than before came since the
    /// first request.
    pub(super) fn follow(&mut self, id: Option<TopicId>) {
        if is_another(self.id, id) {
            self.offset = 0;
        }
        self.id = id.or(self.id);
    }
}

/// Whether a topic was made again meanwhile, as far as that is known.
fn is_another(then: Option<TopicId>, now: Option<TopicId>) -> bool {
    then.zip(now).is_some_and(|(then, now)| then != now)
}

fn named<'a>(metadata: &'a [TopicMetadata], name: &str) -> Option<&'a TopicMetadata> {
    metadata.iter().find(|known| known.name == name)
}

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
        let known = named(&metadata, topic);
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
        let end = End {
            offset: began.map_or(end, |began| began.min(end)),
            id: named(&metadata, &key.0).and_then(|topic| topic.id),
        };
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
        named(&metadata, topic).is_some_and(|known| {
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
    let oldest_of = offsets(client, &partitions, OLDEST)?;
    let ends_of = offsets(client, &partitions, END)?;
    let id_of = |topic: &str| named(&metadata, topic).and_then(|topic| topic.id);
    let known_end = |topic: &str, partition: i32| known.get(topic)?.get(&partition);
    let is_remade = |topic: &str, partition: i32| {
        let now = id_of(topic);
        match known_end(topic, partition) {
            Some(then) => is_another(then.id, now),
            // It was not there when the others were asked for: their ids are compared.
            None => known.get(topic).is_some_and(|ends| {
                let mut ends = ends.values();
                ends.any(|then| is_another(then.id, now))
            }),
        }
    };
    let mut remade = partitions;
    remade.retain(|(topic, partition)| is_remade(topic, *partition));
    let first_of_youth = offsets(client, &remade, milliseconds_ago(YOUTH))?;
    let mut starts = Vec::new();
    for committed in list.positions() {
        let (topic, partition) = (committed.topic, committed.partition);
        let key = (topic.clone(), partition);
        let (Some(&oldest), Some(&end)) = (oldest_of.get(&key), ends_of.get(&key)) else {
            return Err(KafkaError::from_code(ErrorCode::UnknownPartition).number());
        };
        // There is an answer for what was made again. A log whose first message is older is
        // known to whoever stores something of it.
        let youth = first_of_youth.get(&key);
        let is_young = youth.is_some_and(|first| *first == oldest || oldest == end);
        let first = || match (initial, known.get(&topic)) {
            (InitialOffset::Oldest, _) => oldest,
            (InitialOffset::Time(_), _) => {
                let found = at_time.get(&key).copied();
                // Negative: there is none, librdkafka says "end".
                found.filter(|offset| *offset >= 0).unwrap_or(end)
            }
            // A partition that was not there yet is wanted from its beginning.
            (InitialOffset::Newest, Some(_)) => {
                let then = known_end(&topic, partition).filter(|_| youth.is_none());
                then.map_or(oldest, |then| then.offset.min(end).max(oldest))
            }
            (InitialOffset::Newest, None) => end,
        };
        let stored = (committed.offset, committed.metadata.as_str());
        let is_stale = is_young && is_beyond(stored, end);
        let (acked, offset) = match committed.offset {
            OLDEST => (Acked::below(oldest), oldest),
            offset if offset < 0 => {
                let first = first();
                (Acked::below(first), first)
            }
            _ if is_stale => {
                // Whoever has stored it had not heard yet that the topic was made again.
                // Of this log it says nothing.
                tracing::warn!(
                    component = client.component(),
                    "{topic} [{partition}] was made again and is read from {oldest} on: what \
                     is stored (offset {}, metadata {:?}) is beyond its end",
                    committed.offset,
                    committed.metadata
                );
                (Acked::below(oldest), oldest)
            }
            _ => place(client, (topic.as_str(), partition), stored, oldest, end),
        };
        starts.push(Start {
            differs: is_stale || acked.committed() != committed.offset,
            id: id_of(&topic),
            topic,
            partition,
            offset,
            acked,
            end,
        });
    }
    Ok(Starts { starts, unknown })
}

/// Whether a position that is stored, or a range above it, is beyond a log's end.
fn is_beyond((offset, metadata): (i64, &str), end: i64) -> bool {
    let ranges = || Acked::decode(offset, metadata, end);
    offset > end || matches!(ranges(), Err(MalformedAcks::BeyondEnd { .. }))
}

/// That time as Kafka has it.
fn milliseconds_ago(time: Duration) -> i64 {
    let then = SystemTime::now().checked_sub(time);
    let since_1970 = then.and_then(|then| then.duration_since(SystemTime::UNIX_EPOCH).ok());
    since_1970.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// What is acknowledged and where to read by a position that is stored.
fn place(
    client: &Client,
    (topic, partition): (&str, i32),
    (offset, metadata): (i64, &str),
    oldest: i64,
    end: i64,
) -> (Acked, i64) {
    if offset < oldest {
        return (Acked::below(oldest), oldest);
    }
    let acked = Acked::decode(offset, metadata, end.max(offset)).unwrap_or_else(|reason| {
        tracing::error!(
            component = client.component(),
            "{topic} [{partition}]: the metadata {metadata:?} beside offset {offset} names no \
             acknowledged ranges: {reason}"
        );
        Acked::below(offset)
    });
    // Beyond the end is read from the end; what is below the committed offset
    // counts as acknowledged.
    let read_from = acked.committed().min(end.max(oldest));
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
    let oldest_of = offsets(client, &partitions, OLDEST)?;
    let ends_of = offsets(client, &partitions, END)?;
    let starts = partitions.into_iter().zip(positions).map(|(key, new)| {
        let (Some(&oldest), Some(&end)) = (oldest_of.get(&key), ends_of.get(&key)) else {
            return Err(KafkaError::from_code(ErrorCode::UnknownPartition).number());
        };
        let (topic, partition) = key;
        let stored = match new.offset {
            OLDEST => (oldest, ""),
            offset if offset < 0 => (end, ""),
            offset => (offset, new.metadata.as_str()),
        };
        let (acked, offset) = place(client, (&topic, partition), stored, oldest, end);
        Ok(Start {
            topic,
            partition,
            offset,
            acked,
            end,
            differs: true,
            id: None,
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
    let mut asked = Partitions::new();
    for (topic, partition) in partitions {
        asked.add(topic, *partition, Some(time));
    }
    list(client, asked)
}

/// [`offsets`], with a time for each partition.
fn list(client: &Client, mut asked: Partitions) -> Result<HashMap<(String, i32), i64>, i32> {
    if asked.is_empty() {
        return Ok(HashMap::new());
    }
    client.list_offsets(&mut asked, LIMIT)?;
    let found = asked.positions();
    Ok(found
        .map(|found| ((found.topic, found.partition), found.offset))
        .collect())
}
