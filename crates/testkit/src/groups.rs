//! Consumer groups: who is in them, and how far they are.

use std::collections::BTreeMap;

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::client::{self, REQUEST_TIMEOUT};
use crate::cluster::Cluster;
use crate::error::{Context, Result};

/// A member of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// The id that the coordinator gave it.
    pub id: String,
    /// `client.id` of the consumer.
    pub client_id: String,
    /// Where it connects from, as Kafka writes it: `/127.0.0.1`.
    pub client_host: String,
    /// Topics and partitions assigned to it, in order; empty while the group rebalances.
    pub assigned: Vec<(String, i32)>,
}

impl Cluster {
    /// What a group has committed for a topic; partitions without a commit are left out. The group
    /// need not exist, and is not joined.
    ///
    /// # Errors
    /// [`crate::Error::Kafka`] with Kafka's code, for example for an unknown topic.
    pub fn committed(&self, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>> {
        let committed = self.committed_with_metadata(group, topic)?;
        let offsets = committed.into_iter().map(|(id, (offset, _))| (id, offset));
        Ok(offsets.collect())
    }

    /// [`Cluster::committed`], with the text that was committed beside each offset.
    ///
    /// # Errors
    /// As [`Cluster::committed`].
    pub fn committed_with_metadata(
        &self,
        group: &str,
        topic: &str,
    ) -> Result<BTreeMap<i32, (i64, String)>> {
        let consumer = client::consumer(&self.running().reachable(), group)?;
        let mut partitions = TopicPartitionList::new();
        for partition in client::partitions(&consumer, topic)? {
            partitions.add_partition(topic, partition);
        }
        let committed = client::patiently(|| {
            let committed = consumer.committed_offsets(partitions.clone(), REQUEST_TIMEOUT)?;
            let elements = committed.elements();
            elements.iter().try_for_each(|element| element.error())?;
            drop(elements);
            Ok(committed)
        })
        .context(|| format!("find what {group} has committed for {topic}"))?;
        Ok(committed
            .elements()
            .iter()
            .filter_map(|element| match element.offset() {
                Offset::Offset(offset) => {
                    Some((element.partition(), (offset, element.metadata().to_owned())))
                }
                _ => None,
            })
            .collect())
    }

    /// The members of a group, by client id and id; empty if there is no such group. Groups of the
    /// classic protocol only: the client library's binding cannot describe the others (KIP-848).
    ///
    /// # Errors
    /// [`crate::Error::Kafka`] if the coordinator does not answer.
    pub fn group_members(&self, group: &str) -> Result<Vec<GroupMember>> {
        Ok(self.describe_group(group)?.1)
    }

    /// The state of a group in Kafka's words: `Stable`, `Empty`, `PreparingRebalance`,
    /// `CompletingRebalance`, `Dead`; `None` if there is no such group. Classic protocol only.
    ///
    /// # Errors
    /// [`crate::Error::Kafka`] if the coordinator does not answer.
    pub fn group_state(&self, group: &str) -> Result<Option<String>> {
        Ok(self.describe_group(group)?.0)
    }

    fn describe_group(&self, group: &str) -> Result<(Option<String>, Vec<GroupMember>)> {
        let admin = self.running().admin()?;
        let groups = client::patiently(|| {
            let admin = admin.inner();
            admin.fetch_group_list(Some(group), REQUEST_TIMEOUT)
        })
        .context(|| format!("describe group {group}"))?;
        let Some(found) = groups.groups().iter().find(|found| found.name() == group) else {
            return Ok((None, Vec::new()));
        };
        let mut members: Vec<GroupMember> = found
            .members()
            .iter()
            .map(|member| GroupMember {
                id: member.id().to_owned(),
                client_id: member.client_id().to_owned(),
                client_host: member.client_host().to_owned(),
                assigned: member
                    .assignment()
                    .and_then(decode_assignment)
                    .unwrap_or_default(),
            })
            .collect();
        members.sort_by(|a, b| (&a.client_id, &a.id).cmp(&(&b.client_id, &b.id)));
        Ok((Some(found.state().to_owned()), members))
    }
}

/// Kafka's `ConsumerProtocolAssignment`: version, then topics with their partitions, then bytes of
/// the assignor. `None` for what does not look like it.
fn decode_assignment(bytes: &[u8]) -> Option<Vec<(String, i32)>> {
    let mut rest = bytes;
    let mut take = |count: usize| {
        let (head, tail) = rest.split_at_checked(count)?;
        rest = tail;
        Some(head)
    };
    let _version = take(2)?;
    let topics = i32::from_be_bytes(take(4)?.try_into().ok()?);
    let mut assigned = Vec::new();
    for _ in 0..topics {
        let length = u16::from_be_bytes(take(2)?.try_into().ok()?);
        let topic = std::str::from_utf8(take(usize::from(length))?).ok()?;
        let partitions = i32::from_be_bytes(take(4)?.try_into().ok()?);
        for _ in 0..partitions {
            let partition = i32::from_be_bytes(take(4)?.try_into().ok()?);
            assigned.push((topic.to_owned(), partition));
        }
    }
    assigned.sort_unstable();
    Some(assigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_decoded() {
        let bytes = b"\0\x01\0\0\0\x01\0\x02ab\0\0\0\x02\0\0\0\x07\0\0\0\x03\xff\xff\xff\xff";
        let expected = vec![("ab".to_owned(), 3), ("ab".to_owned(), 7)];
        assert_eq!(decode_assignment(bytes), Some(expected));
    }

    #[test]
    fn a_cut_assignment_is_not() {
        assert_eq!(decode_assignment(b"\0\x01\0\0\0\x01\0\x02a"), None);
    }
}
