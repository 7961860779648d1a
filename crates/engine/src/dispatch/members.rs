//! What this process itself knows of its groups, where the cluster cannot be
//! asked (the one in memory).

use super::Dispatcher;
use crate::admin::{GroupDescription, MemberDescription};

/// librdkafka's name for clients that have none.
const UNNAMED: &str = "rdkafka";

impl Dispatcher {
    /// The groups that this process is a member of, as their coordinator
    /// would describe them if it were the only one; by name.
    pub(crate) fn own_groups(&self) -> Vec<GroupDescription> {
        let client_id = self.inner.properties.get("client.id").unwrap_or(UNNAMED);
        let groups: Vec<_> = self.inner.groups.lock().values().cloned().collect();
        let mut described: Vec<GroupDescription> = groups
            .iter()
            .filter(|group| !group.has_ended())
            .map(|group| {
                let state = group.state();
                let mut topics: Vec<String> =
                    state.topics.keys().map(ToString::to_string).collect();
                topics.sort();
                let mut assigned: Vec<(String, i32)> = state
                    .topics
                    .iter()
                    .flat_map(|(name, topic)| {
                        topic.partitions.keys().map(|id| (name.to_string(), *id))
                    })
                    .collect();
                assigned.sort();
                GroupDescription {
                    group: group.name().to_owned(),
                    state: "Stable".to_owned(),
                    members: vec![MemberDescription {
                        member_id: client_id.to_owned(),
                        client_id: client_id.to_owned(),
                        topics,
                        assigned,
                    }],
                }
            })
            .collect();
        described.sort_by(|a, b| a.group.cmp(&b.group));
        described
    }
}
