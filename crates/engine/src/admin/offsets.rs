//! What groups have committed.

use super::clients::{Client, Deadline, patiently};
use super::topics::one_topic;
use super::{Admin, convert};
use crate::acks::Acked;
use crate::error::{Error, ErrorCode, KafkaError};
use crate::native::delete_group_offsets;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::BTreeMap;

/// What a group has committed on a partition that it has not committed on.
const NOTHING: i64 = -1;
/// Stands for the oldest message.
const OLDEST: i64 = -2;

/// How far a group is on a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffset {
    /// The partition's id.
    pub partition: i32,
    /// The first offset kept.
    pub begin: i64,
    /// The next offset to be written (high watermark).
    pub end: i64,
    /// What the group has committed; -1 if nothing, -2 is possible if
    /// somebody has set it.
    pub committed: i64,
    /// The text that was committed with it; empty if none.
    pub metadata: String,
}

impl GroupOffset {
    /// How many offsets the partition spans.
    pub fn count(&self) -> i64 {
        self.end - self.begin
    }

    /// How far the group is behind: 0 if it has committed nothing, everything
    /// if it is to begin with the oldest; negative beyond the end.
    pub fn lag(&self) -> i64 {
        match self.committed {
            NOTHING => 0,
            OLDEST => self.count(),
            committed => self.end - committed,
        }
    }

    /// The acknowledged ranges above the committed offset, as people read
    /// them; `None` if the metadata names none.
    pub fn sparse_acks(&self) -> Option<String> {
        let acked = Acked::decode(self.committed, &self.metadata, self.end).ok()?;
        Some(acked.shown()).filter(|shown| !shown.is_empty())
    }
}

/// A position to commit for a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGroupOffset {
    /// The partition's id.
    pub partition: i32,
    /// The next offset that the group is to read.
    pub offset: i64,
    /// Text to keep with it; Kafka's limit is 4096 bytes by default.
    pub metadata: String,
}

impl Admin {
    /// How far a group is on every partition of a topic, ascending; `None` if
    /// the topic does not exist. A group that does not exist has committed
    /// nothing. It is neither created nor joined. Takes up to 10 s.
    ///
    /// # Errors
    /// Kafka's code: no broker answers, a partition has no leader, or "Broker:
    /// Invalid group.id" if that is empty or holds a NUL.
    pub async fn group_offsets(
        &self,
        group: &str,
        topic: &str,
    ) -> Result<Option<Vec<GroupOffset>>, Error> {
        let topic = topic.to_owned();
        self.clients
            .observe_group(group, move |observer, named, deadline| {
                let Some(partitions) = one_topic(observer, &topic, deadline)? else {
                    return Ok(None);
                };
                if partitions
                    .iter()
                    .any(|partition| partition.leader.is_none())
                {
                    // Only the leader knows; librdkafka would wait for one.
                    return Err(no_leader());
                }
                let ids: Vec<i32> = partitions.iter().map(|partition| partition.id).collect();
                let begins = edges(observer, &topic, &ids, Offset::Beginning, deadline)?;
                let ends = edges(observer, &topic, &ids, Offset::End, deadline)?;
                let mut committed =
                    patiently(deadline, || committed(named, &topic, &ids, deadline))?;
                let offsets = ids.into_iter().map(|partition| {
                    let (offset, metadata) = committed
                        .remove(&partition)
                        .unwrap_or((NOTHING, String::new()));
                    GroupOffset {
                        partition,
                        begin: begins.get(&partition).copied().unwrap_or(NOTHING),
                        end: ends.get(&partition).copied().unwrap_or(NOTHING),
                        committed: offset,
                        metadata,
                    }
                });
                Ok(Some(offsets.collect()))
            })
            .await
    }

    /// The offset of the first message of each partition that is not older
    /// than a time in milliseconds since 1970, ascending; the partition's end
    /// if there is none. `None` if the topic does not exist. Takes up to 10 s.
    ///
    /// # Errors
    /// Kafka's code: no broker answers, or a partition has no leader;
    /// "Local: Invalid argument or configuration" for a negative time, which
    /// Kafka reads as something else.
    pub async fn offsets_at(
        &self,
        topic: &str,
        timestamp: i64,
    ) -> Result<Option<BTreeMap<i32, i64>>, Error> {
        if timestamp < 0 {
            return Err(KafkaError::from_code(ErrorCode::InvalidArgument).into());
        }
        let topic = topic.to_owned();
        self.clients
            .observe(move |observer, deadline| {
                let Some(partitions) = one_topic(observer, &topic, deadline)? else {
                    return Ok(None);
                };
                if partitions
                    .iter()
                    .any(|partition| partition.leader.is_none())
                {
                    return Err(no_leader());
                }
                let ids: Vec<i32> = partitions.iter().map(|partition| partition.id).collect();
                let ends = edges(observer, &topic, &ids, Offset::End, deadline)?;
                let mut list = TopicPartitionList::with_capacity(ids.len());
                for id in &ids {
                    list.add_partition(&topic, *id)
                        .set_offset(Offset::Offset(timestamp))
                        .map_err(convert)?;
                }
                let list = observer
                    .offsets_for_times(list, deadline.left())
                    .map_err(convert)?;
                let found = list.elements().into_iter().map(|element| {
                    element.error().map_err(convert)?;
                    let id = element.partition();
                    let offset = match element.offset() {
                        Offset::Offset(offset) => offset,
                        // Every message is older.
                        _ => ends.get(&id).copied().ok_or_else(no_leader)?,
                    };
                    Ok((id, offset))
                });
                found.collect::<Result<_, Error>>().map(Some)
            })
            .await
    }

    /// Commits positions for a group that has no members (with generation
    /// -1). An empty list succeeds without asking anybody; of two positions
    /// for one partition the later counts. Takes up to 10 s, and what was
    /// given up then may still be committed.
    ///
    /// librdkafka commits no negative offsets, neither here nor elsewhere.
    /// One that the group has already, with the same metadata, is left as it
    /// is, so that what [`Admin::group_offsets`] tells can be committed again;
    /// any other is refused.
    ///
    /// # Errors
    /// Kafka's code; if partitions are refused with different ones, that of
    /// one of them. Nothing is changed by "Broker: Unknown topic or partition", by "Broker: Unknown
    /// member" (the group has members), by "Local: Invalid argument or
    /// configuration" (a negative offset) and by "Broker: Invalid group.id".
    /// Of others, such as "Broker: Offset metadata string too large", the
    /// partitions without error are committed.
    pub async fn commit_group_offsets(
        &self,
        group: &str,
        topic: &str,
        offsets: &[NewGroupOffset],
    ) -> Result<(), Error> {
        let mut wanted: BTreeMap<i32, (i64, String)> = offsets
            .iter()
            .map(|new| (new.partition, (new.offset, new.metadata.clone())))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let topic = topic.to_owned();
        self.clients
            .observe_group(group, move |observer, named, deadline| {
                // The broker says the same, but only after librdkafka has
                // tried it three times, and takes the other partitions.
                let known = one_topic(observer, &topic, deadline)?.unwrap_or_default();
                if wanted
                    .keys()
                    .any(|id| known.iter().all(|partition| partition.id != *id))
                {
                    return Err(KafkaError::from_code(ErrorCode::UnknownTopicOrPartition).into());
                }
                let negative: Vec<i32> = wanted
                    .iter()
                    .filter(|(_, (offset, _))| *offset < 0)
                    .map(|(id, _)| *id)
                    .collect();
                if !negative.is_empty() {
                    let committed =
                        patiently(deadline, || committed(named, &topic, &negative, deadline))?;
                    for id in negative {
                        if wanted.remove(&id).as_ref() != committed.get(&id) {
                            return Err(KafkaError::from_code(ErrorCode::InvalidArgument).into());
                        }
                    }
                }
                if wanted.is_empty() {
                    return Ok(());
                }
                patiently(deadline, || commit(named, &topic, &wanted))
            })
            .await
    }
}

impl Admin {
    /// Forgets what a group has committed on a topic; on other topics it
    /// stays. A group of which nothing else is known ceases to exist. Takes
    /// up to 10 s.
    ///
    /// # Errors
    /// Kafka's code: "Broker: The consumer group is actively subscribed to
    /// the topic" while a member reads it, "Broker: The group id does not
    /// exist", "Broker: Invalid group.id" if that is empty or holds a NUL.
    pub async fn delete_group_offsets(&self, group: &str, topic: &str) -> Result<(), Error> {
        if group.is_empty() || group.contains('\0') {
            return Err(KafkaError::from_code(ErrorCode::InvalidGroupId).into());
        }
        let (group, topic) = (group.to_owned(), topic.to_owned());
        self.clients
            .observe(move |client, deadline| {
                let Some(partitions) = one_topic(client, &topic, deadline)? else {
                    return Err(KafkaError::from_code(ErrorCode::UnknownTopicOrPartition).into());
                };
                let ids: Vec<i32> = partitions.iter().map(|partition| partition.id).collect();
                patiently(deadline, || {
                    delete_group_offsets(client.client(), &group, &topic, &ids, deadline.left())
                        .map_err(|code| KafkaError::from_raw(code).into())
                })
            })
            .await
    }
}

fn no_leader() -> Error {
    KafkaError::from_code(ErrorCode::LeaderNotAvailable).into()
}

/// The first or the next offset of partitions: one request to each leader.
fn edges(
    client: &Client,
    topic: &str,
    partitions: &[i32],
    which: Offset,
    deadline: Deadline,
) -> Result<BTreeMap<i32, i64>, Error> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        // Kafka's special times for the first and the next offset are the
        // numbers that librdkafka has for these positions.
        list.add_partition(topic, *partition)
            .set_offset(which)
            .map_err(convert)?;
    }
    let list = client
        .offsets_for_times(list, deadline.left())
        .map_err(convert)?;
    list.elements()
        .iter()
        .map(|element| {
            element.error().map_err(convert)?;
            match raw(element.offset()) {
                // What was asked: librdkafka found nobody to ask.
                ..0 => Err(no_leader()),
                offset => Ok((element.partition(), offset)),
            }
        })
        .collect()
}

/// What the client's group has committed on partitions, with the metadata.
fn committed(
    client: &Client,
    topic: &str,
    partitions: &[i32],
    deadline: Deadline,
) -> Result<BTreeMap<i32, (i64, String)>, Error> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(topic, *partition);
    }
    let list = client
        .committed_offsets(list, deadline.left())
        .map_err(convert)?;
    list.elements()
        .iter()
        .map(|element| {
            element.error().map_err(convert)?;
            let metadata = element.metadata().to_owned();
            Ok((element.partition(), (raw(element.offset()), metadata)))
        })
        .collect()
}

/// Kafka's number for an offset.
fn raw(offset: Offset) -> i64 {
    match offset {
        // librdkafka's own -1001 for none.
        Offset::Invalid => NOTHING,
        other => other.to_raw().unwrap_or(NOTHING),
    }
}

/// Commits and waits for the answer, longer than the caller if need be: this
/// call of librdkafka has no limit of its own (10 s each for the coordinator
/// to be found and to answer), and of one that does not wait `rdkafka` 0.39
/// never tells how it ended, in spite of its `commit_callback`.
fn commit(
    client: &Client,
    topic: &str,
    offsets: &BTreeMap<i32, (i64, String)>,
) -> Result<(), Error> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, (offset, metadata)) in offsets {
        let mut element = list.add_partition(topic, *partition);
        element
            .set_offset(Offset::Offset(*offset))
            .map_err(convert)?;
        element.set_metadata(metadata);
    }
    client.commit(&list, CommitMode::Sync).map_err(convert)
}
