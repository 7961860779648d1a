//! GetOffsets, SetOffsets, ListTopics, ListConsumers, GetTopicMetadata.

use crate::errors;
use crate::proto::{
    ConsumerGroups, ConsumerPartitions, GetOffsetsRq, GetOffsetsRs, GetTopicMetadataRq,
    GetTopicMetadataRs, ListConsumersRq, ListConsumersRs, ListTopicRq, ListTopicRs,
    PartitionMetadata, PartitionOffset, SetOffsetsRq, SetOffsetsRs,
};
use crate::service::Asked;
use barnabas_engine::{
    Action, Error, GroupDescription, NewGroupOffset, PartitionDescription, SetOffsetsError,
};
use std::collections::BTreeMap;
use tonic::Status;

pub(crate) async fn get_offsets(
    asked: &Asked<'_>,
    request: GetOffsetsRq,
) -> Result<GetOffsetsRs, Status> {
    let proxy = asked.proxy(&request.cluster, Action::Describe, Some(&request.topic))?;
    let offsets = proxy
        .admin
        .group_offsets(&request.group, &request.topic)
        .await
        .map_err(|error| errors::of_administration(&error))?
        .ok_or_else(|| errors::unknown_topic("failed to get topic partitions: "))?;
    let offsets = offsets.into_iter().map(|offset| PartitionOffset {
        partition: offset.partition,
        begin: offset.begin,
        end: offset.end,
        count: offset.count(),
        offset: offset.committed,
        lag: offset.lag(),
        sparse_acks: offset.sparse_acks().unwrap_or_default(),
        metadata: offset.metadata,
    });
    Ok(GetOffsetsRs {
        offsets: offsets.collect(),
    })
}

pub(crate) async fn set_offsets(
    asked: &Asked<'_>,
    request: SetOffsetsRq,
) -> Result<SetOffsetsRs, Status> {
    let proxy = asked.proxy(&request.cluster, Action::Manage, Some(&request.topic))?;
    let offsets: Vec<NewGroupOffset> = request
        .offsets
        .into_iter()
        .map(|offset| NewGroupOffset {
            partition: offset.partition,
            offset: offset.offset,
            metadata: offset.metadata,
        })
        .collect();
    if offsets.is_empty() {
        return Ok(SetOffsetsRs {});
    }
    let set = proxy.set_offsets(&request.group, &request.topic, &offsets);
    match set.await {
        Ok(()) => Ok(SetOffsetsRs {}),
        Err(owned @ SetOffsetsError::Owned { .. }) => {
            Err(Status::failed_precondition(owned.to_string()))
        }
        Err(SetOffsetsError::Engine(Error::Kafka { error })) if error.is_unknown_topic() => {
            Err(errors::unknown_topic(""))
        }
        Err(SetOffsetsError::Engine(error)) => Err(errors::of_administration(&error)),
    }
}

pub(crate) async fn list_topics(
    asked: &Asked<'_>,
    request: ListTopicRq,
) -> Result<ListTopicRs, Status> {
    let proxy = asked.proxy(&request.cluster, Action::Describe, None)?;
    let failed = |error: Error| errors::of_administration(&error);
    let mut topics = proxy.admin.describe_topics().await.map_err(failed)?;
    // What the token does not allow is not there.
    let caller = asked.caller();
    topics.retain(|(name, _)| caller.may(asked.proxies, &request.cluster, Action::Describe, name));
    let names: Vec<&str> = topics.iter().map(|(name, _)| name.as_str()).collect();
    let mut overrides = proxy.admin.topic_overrides(&names).await.map_err(failed)?;
    let topics = topics.iter().map(|(name, partitions)| {
        let config = overrides.remove(name).unwrap_or_default();
        let described = describe(config, partitions, request.with_partitions);
        (name.clone(), described)
    });
    Ok(ListTopicRs {
        topics: topics.collect(),
    })
}

pub(crate) async fn get_topic_metadata(
    asked: &Asked<'_>,
    request: GetTopicMetadataRq,
) -> Result<GetTopicMetadataRs, Status> {
    let proxy = asked.proxy(&request.cluster, Action::Describe, Some(&request.topic))?;
    let failed = |error: Error| errors::of_administration(&error);
    let topic = request.topic.as_str();
    let partitions = proxy
        .admin
        .describe_topic(topic)
        .await
        .map_err(failed)?
        .ok_or_else(|| errors::unknown_topic("failed to get partitions: "))?;
    let mut overrides = proxy
        .admin
        .topic_overrides(&[topic])
        .await
        .map_err(failed)?;
    let config = overrides.remove(topic).unwrap_or_default();
    Ok(describe(config, &partitions, request.with_partitions))
}

fn describe(
    config: BTreeMap<String, String>,
    partitions: &[PartitionDescription],
    with_partitions: bool,
) -> GetTopicMetadataRs {
    let partitions = partitions.iter().filter(|_| with_partitions);
    GetTopicMetadataRs {
        version: 1,
        config: config.into_iter().collect(),
        partitions: partitions
            .map(|partition| PartitionMetadata {
                partition: partition.id,
                leader: partition.leader.unwrap_or(-1),
                replicas: partition.replicas.clone(),
                isr: partition.isr.clone(),
            })
            .collect(),
    }
}

pub(crate) async fn list_consumers(
    asked: &Asked<'_>,
    request: ListConsumersRq,
) -> Result<ListConsumersRs, Status> {
    let proxy = asked.proxy(&request.cluster, Action::Describe, Some(&request.topic))?;
    let (topic, group) = (request.topic.as_str(), request.group.as_str());
    let wanted = (!group.is_empty()).then_some(group);
    let groups = proxy
        .admin
        .group_members(wanted)
        .await
        .map_err(|error| errors::of_administration(&error))?;
    if wanted.is_some() {
        let found = groups.iter().find(|found| found.group == group);
        match found.filter(|found| !found.members.is_empty()) {
            None => return Err(Status::not_found(format!("unknown consumer group {group}"))),
            Some(found) if !found.subscribes_to(topic) => {
                let text = format!("topic {topic} is not consumed by {group}");
                return Err(Status::not_found(text));
            }
            Some(_) => {}
        }
    }
    let consumers = |group: &GroupDescription| -> ConsumerGroups {
        let consumers = group.consumers_of(topic).into_iter();
        ConsumerGroups {
            consumers: consumers
                .map(|(name, partitions)| (name.to_owned(), ConsumerPartitions { partitions }))
                .collect(),
        }
    };
    Ok(ListConsumersRs {
        groups: groups
            .iter()
            .map(|group| (group.group.clone(), consumers(group)))
            .filter(|(_, consumers)| !consumers.consumers.is_empty())
            .collect(),
    })
}
