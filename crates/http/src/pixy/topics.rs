//! `GET /topics` and `GET /topics/<t>` (contract, section 3.7).

use crate::reply::{self, Reply};
use crate::service::Call;
use barnabas_engine::{Error, PartitionDescription, sarama_text_of};
use hyper::StatusCode;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(super) async fn list(call: &Call<'_>) -> Result<Reply, Box<Reply>> {
    let admin = &call.proxy.admin;
    let mut topics = admin.describe_topics().await.map_err(failed)?;
    topics.retain(|(name, _)| call.may_describe(name));
    let has = |flag: &str| call.parameters.has(flag);
    let (with_partitions, with_config) = (has("withPartitions"), has("withConfig"));
    if !with_partitions && !with_config {
        let names: Vec<&str> = topics.iter().map(|(name, _)| name.as_str()).collect();
        return Ok(reply::json(StatusCode::OK, &names));
    }
    let mut overrides = BTreeMap::new();
    if with_config {
        let names: Vec<&str> = topics.iter().map(|(name, _)| name.as_str()).collect();
        overrides = admin.topic_overrides(&names).await.map_err(failed)?;
    }
    let mut shown = Map::new();
    for (name, partitions) in &topics {
        let config = with_config.then(|| overrides.remove(name).unwrap_or_default());
        let partitions = with_partitions.then_some(partitions.as_slice());
        shown.insert(name.clone(), describe(config, partitions));
    }
    Ok(reply::json(StatusCode::OK, &Value::Object(shown)))
}

pub(super) async fn one(call: &Call<'_>) -> Result<Reply, Box<Reply>> {
    let topic = call.topic;
    let admin = &call.proxy.admin;
    let Some(partitions) = admin.describe_topic(topic).await.map_err(failed)? else {
        return Ok(reply::error(StatusCode::NOT_FOUND, "Unknown topic"));
    };
    let mut overrides = admin.topic_overrides(&[topic]).await.map_err(failed)?;
    let with_partitions = call.parameters.has("withPartitions");
    let partitions = with_partitions.then_some(partitions.as_slice());
    let config = overrides.remove(topic).unwrap_or_default();
    Ok(reply::json(
        StatusCode::OK,
        &describe(Some(config), partitions),
    ))
}

fn describe(
    config: Option<BTreeMap<String, String>>,
    partitions: Option<&[PartitionDescription]>,
) -> Value {
    let mut shown = Map::new();
    if let Some(config) = config {
        shown.insert("config".to_owned(), json!({"version": 1, "config": config}));
    }
    if let Some(partitions) = partitions {
        let partitions: Vec<Value> = partitions
            .iter()
            .map(|partition| {
                json!({
                    "partition": partition.id,
                    "leader": partition.leader.unwrap_or(-1),
                    "replicas": partition.replicas,
                    "isr": partition.isr,
                })
            })
            .collect();
        shown.insert("partitions".to_owned(), Value::Array(partitions));
    }
    Value::Object(shown)
}

fn failed(error: Error) -> Box<Reply> {
    Box::new(reply::error(
        StatusCode::INTERNAL_SERVER_ERROR,
        sarama_text_of(&error),
    ))
}
