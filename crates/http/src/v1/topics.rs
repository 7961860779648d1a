//! `/v1/topics` and `/v1/topics/{topic}`

use super::{Code, Problem, ok};
use crate::reply::{self, Reply};
use crate::sender::token;
use crate::service::Call;
use barnabas_engine::{Action, PartitionDescription};
use hyper::StatusCode;
use hyper::header::{HeaderValue, LOCATION};
use serde::Deserialize;
use serde_json::{Value, json};

/// The largest body.
const LARGEST_BODY: usize = 64 << 10;

/// A topic to be created.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTopic {
    name: String,
    #[serde(default = "one_of_it")]
    partitions: u16,
    #[serde(default = "one_of_it")]
    replication: u16,
}

const fn one_of_it() -> u16 {
    1
}

pub(super) async fn list(call: &Call<'_>) -> Result<Reply, Problem> {
    let topics = call.proxy.admin.describe_topics().await?;
    let shown: Vec<Value> = topics
        .iter()
        .filter(|(name, _)| call.may_describe(name))
        .map(|(name, partitions)| json!({"name": name, "partitions": show(partitions)}))
        .collect();
    ok(&json!({ "topics": shown }))
}

pub(super) async fn one(call: &Call<'_>) -> Result<Reply, Problem> {
    let (admin, topic) = (&call.proxy.admin, call.topic);
    let Some(partitions) = admin.describe_topic(topic).await? else {
        return Err(Problem::topic_not_found(topic));
    };
    let mut overrides = admin.topic_overrides(&[topic]).await?;
    ok(&json!({
        "name": topic,
        "partitions": show(&partitions),
        "config": overrides.remove(topic).unwrap_or_default(),
    }))
}

fn show(partitions: &[PartitionDescription]) -> Vec<Value> {
    let one = |partition: &PartitionDescription| {
        json!({
            "partition": partition.id,
            "leader": partition.leader,
            "replicas": partition.replicas,
            "in_sync": partition.isr,
        })
    };
    partitions.iter().map(one).collect()
}

pub(super) async fn create(mut call: Call<'_>) -> Result<Reply, Problem> {
    let new: NewTopic = call.json(LARGEST_BODY).await?;
    // The path does not say which topic it is about.
    let (access, token) = (&call.shared.access, token(call.head));
    access
        .check(token, Action::Manage, call.cluster, Some(&new.name))
        .map_err(|denied| Problem::new(Code::Forbidden, denied.to_string()))?;
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let name = new.name.as_str();
    if !(1..=249).contains(&name.len()) || matches!(name, "." | "..") || !name.bytes().all(is_legal)
    {
        let text = "a topic's name has 1 to 249 of A-Z a-z 0-9 . _ - and is not . or ..";
        return Err(Problem::new(Code::InvalidBody, text));
    }
    if new.partitions == 0 || new.replication == 0 {
        let text = "partitions and replication must be at least 1";
        return Err(Problem::new(Code::InvalidBody, text));
    }
    let admin = &call.proxy.admin;
    admin
        .create_topic(name, new.partitions, new.replication)
        .await?;
    let mut reply = reply::compact(
        StatusCode::CREATED,
        reply::JSON,
        &json!({"name": name, "partitions": new.partitions, "replication": new.replication}),
    );
    let path = format!("/v1/clusters/{}/topics/{name}", call.cluster);
    if let Ok(path) = HeaderValue::try_from(path) {
        reply.headers_mut().insert(LOCATION, path);
    }
    Ok(reply)
}

pub(super) async fn delete(call: &Call<'_>) -> Result<Reply, Problem> {
    let (admin, topic) = (&call.proxy.admin, call.topic);
    // Names that Kafka does not allow are none of its topics.
    if admin.describe_topic(topic).await?.is_none() {
        return Err(Problem::topic_not_found(topic));
    }
    admin.delete_topic(topic).await?;
    Ok(reply::empty(StatusCode::NO_CONTENT))
}
