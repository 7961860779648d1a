//! Who is in which group.

use super::clients::patiently;
use super::{Admin, convert, protocol};
use crate::error::Error;
use crate::replicas::split_client_id;
use rdkafka::consumer::Consumer;
use rdkafka::groups::{GroupInfo, GroupMemberInfo};
use std::collections::BTreeMap;

/// The type of protocol that consumers speak; Kafka Connect's workers, for
/// instance, form groups of other types.
const CONSUMERS: &str = "consumer";

/// A group of consumers as its coordinator describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its name.
    pub group: String,
    /// Kafka's word: `Stable`, `Empty`, `PreparingRebalance`,
    /// `CompletingRebalance`, `Dead`.
    pub state: String,
    /// Its members, by client id and member id.
    pub members: Vec<MemberDescription>,
}

impl GroupDescription {
    /// Who holds which partitions of a topic, ascending. A member goes by its
    /// client id unless another one of the group has the same (contract,
    /// `consume-and-ack.md`, section 9).
    pub fn consumers_of(&self, topic: &str) -> BTreeMap<&str, Vec<i32>> {
        let mut consumers = BTreeMap::new();
        for member in &self.members {
            let held = member.assigned.iter().filter(|(own, _)| own == topic);
            let partitions: Vec<i32> = held.map(|(_, partition)| *partition).collect();
            if partitions.is_empty() {
                continue;
            }
            let own = member.name();
            let same = self.members.iter().filter(|other| other.name() == own);
            let name = match same.count() {
                1 => own,
                _ => &member.member_id,
            };
            consumers.insert(name, partitions);
        }
        consumers
    }

    /// Whether a member subscribes to a topic.
    pub fn subscribes_to(&self, topic: &str) -> bool {
        self.members
            .iter()
            .any(|member| member.topics.iter().any(|own| own == topic))
    }
}

/// A member of a group of consumers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// The id that the coordinator gave it.
    pub member_id: String,
    /// The client's own name, which others may have too.
    pub client_id: String,
    /// What it subscribes to; empty while the group rebalances.
    pub topics: Vec<String>,
    /// The partitions that it is to hold, sorted; empty while the group
    /// rebalances.
    pub assigned: Vec<(String, i32)>,
}

impl MemberDescription {
    /// The client's own name, without the address that it may end in.
    pub fn name(&self) -> &str {
        split_client_id(&self.client_id).0
    }
}

impl Admin {
    /// The members of all groups of consumers, or of one, by group. A group
    /// that does not exist or has no members is left out or has an empty list.
    /// Joins and disturbs no group. Takes up to 10 s.
    ///
    /// `rdkafka` describes groups of the classic protocol only: those of
    /// KIP-848 read as having no members. And it asks every broker, for one
    /// group too: one that is down makes this wait until the cluster has
    /// noticed. Of several brokers it reports the last outcome only, so that
    /// groups may be missing while their coordinator loads them.
    ///
    /// # Errors
    /// Kafka's code: a broker does not answer. [`Error::Client`] if the
    /// coordinator does not describe the one group that is asked for: it has
    /// just moved, or we are not allowed to see it (which, `rdkafka` keeps to
    /// itself). Among all groups such are left out.
    pub async fn group_members(&self, group: Option<&str>) -> Result<Vec<GroupDescription>, Error> {
        let wanted = group.map(str::to_owned);
        if wanted.as_ref().is_some_and(|group| group.contains('\0')) {
            // librdkafka takes C strings. No client could have joined it.
            return Ok(Vec::new());
        }
        if let Some(own) = &self.embedded {
            let mut groups = own.own_groups();
            groups.retain(|found| wanted.as_ref().is_none_or(|group| found.group == *group));
            return Ok(groups);
        }
        self.clients
            .observe(move |client, deadline| {
                let found = patiently(deadline, || {
                    // librdkafka asks every broker that it knows of. Without
                    // this it would ask one that has left for minutes.
                    client
                        .fetch_metadata(None, deadline.left())
                        .map_err(convert)?;
                    client
                        .fetch_group_list(wanted.as_deref(), deadline.left())
                        .map_err(convert)
                })?;
                // A description that carries an error has no state.
                if let Some(group) = wanted
                    && found.groups().iter().any(|found| found.state().is_empty())
                {
                    return Err(Error::Client {
                        reason: format!("the coordinator does not describe group \"{group}\""),
                    });
                }
                let mut groups: Vec<GroupDescription> = found
                    .groups()
                    .iter()
                    .filter(|group| group.protocol_type() == CONSUMERS)
                    .map(describe)
                    .collect();
                groups.sort_by(|a, b| a.group.cmp(&b.group));
                Ok(groups)
            })
            .await
    }
}

fn describe(group: &GroupInfo) -> GroupDescription {
    let mut members: Vec<MemberDescription> = group.members().iter().map(member).collect();
    members.sort_by(|a, b| (&a.client_id, &a.member_id).cmp(&(&b.client_id, &b.member_id)));
    GroupDescription {
        group: group.name().to_owned(),
        state: group.state().to_owned(),
        members,
    }
}

fn member(member: &GroupMemberInfo) -> MemberDescription {
    MemberDescription {
        member_id: member.id().to_owned(),
        client_id: member.client_id().to_owned(),
        topics: protocol::subscription(member.metadata().unwrap_or_default()),
        assigned: protocol::assignment(member.assignment().unwrap_or_default()),
    }
}
