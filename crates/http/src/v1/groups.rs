//! `/v1/groups` and `/v1/groups/{group}`

use super::{Code, Problem, ok};
use crate::reply::Reply;
use crate::service::Call;
use barnabas_engine::GroupDescription;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// No topic is called so: who may describe it may describe all.
const EVERY_TOPIC: &str = "*";

pub(super) async fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let groups = call.proxy.admin.group_members(None).await?;
    let shown: Vec<Value> = groups
        .iter()
        .filter(|group| is_visible(call, group))
        .map(|group| {
            json!({
                "name": group.group,
                "state": group.state,
                "members": group.members.len(),
                "topics": topics(group).filter(|topic| call.may_describe(topic)).collect::<BTreeSet<_>>(),
            })
        })
        .collect();
    ok(&json!({ "groups": shown }))
}

pub(super) async fn one(call: &Call<'_>) -> Result<Reply, Problem> {
    let groups = call.proxy.admin.group_members(Some(call.group)).await?;
    let group = groups
        .iter()
        // Kafka describes one that does not exist as dead.
        .find(|found| found.group == call.group && found.state != "Dead")
        .filter(|found| is_visible(call, found));
    let Some(group) = group else {
        let text = format!("there is no group {:?}", call.group);
        return Err(Problem::new(Code::GroupNotFound, text));
    };
    let members: Vec<Value> = group
        .members
        .iter()
        .map(|member| {
            let topics: Vec<&String> = member
                .topics
                .iter()
                .filter(|topic| call.may_describe(topic))
                .collect();
            let assigned: Vec<Value> = member
                .assigned
                .iter()
                .filter(|(topic, _)| call.may_describe(topic))
                .map(|(topic, partition)| json!({"topic": topic, "partition": partition}))
                .collect();
            json!({
                "member_id": member.member_id,
                "client_id": member.client_id,
                "topics": topics,
                "assigned": assigned,
            })
        })
        .collect();
    ok(&json!({"name": group.group, "state": group.state, "members": members}))
}

fn topics(group: &GroupDescription) -> impl Iterator<Item = &str> {
    group
        .members
        .iter()
        .flat_map(|member| member.topics.iter().map(String::as_str))
}

fn is_visible(call: &Call<'_>, group: &GroupDescription) -> bool {
    call.may_describe(EVERY_TOPIC) || topics(group).any(|topic| call.may_describe(topic))
}
