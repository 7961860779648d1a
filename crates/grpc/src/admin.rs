//! GetOffsets, SetOffsets, ListTopics, ListConsumers, GetTopicMetadata.

use crate::errors;
use crate::proto::{
    ConsumerGroups, ConsumerPartitions, GetOffsetsRq, GetOffsetsRs, GetTopicMetadataRq,
    GetTopicMetadataRs, ListConsumersRq, ListConsumersRs, ListTopicRq, ListTopicRs,
    PartitionMetadata, PartitionOffset, SetOffsetsRq, SetOffsetsRs,
};
use barnabas_engine::{Error, GroupDescription, NewGroupOffset, PartitionDescription, Proxies};
use std::collections::BTreeMap;
use tonic::Status;

pub(crate) async fn get_offsets(
    proxies: &Proxies,
    request: GetOffsetsRq,
) -> Result<GetOffsetsRs, Status> {
    let proxy = proxies
        .get(&request.cluster)
        .map_err(errors::unknown_cluster)?;
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
    proxies: &Proxies,
    request: SetOffsetsRq,
) -> Result<SetOffsetsRs, Status> {
    let proxy = proxies
        .get(&request.cluster)
        .map_err(errors::unknown_cluster)?;
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
    let groups = proxy.admin.group_members(Some(&request.group)).await;
    let groups = groups.map_err(|error| errors::of_administration(&error))?;
    // What is written under a consumer would be overwritten by its next
    // commit (contract, B19).
    for (member, held) in groups
        .iter()
        .flat_map(|group| group.consumers_of(&request.topic))
    {
        if let Some(taken) = offsets
            .iter()
            .find(|offset| held.contains(&offset.partition))
        {
            return Err(Status::failed_precondition(format!(
                "partition {} of {} is being consumed by {member}",
                taken.partition, request.topic
            )));
        }
    }
    let committed = proxy
        .admin
        .commit_group_offsets(&request.group, &request.topic, &offsets)
        .await;
    match committed {
        Ok(()) => Ok(SetOffsetsRs {}),
        Err(Error::Kafka { error }) if error.is_unknown_topic() => Err(errors::unknown_topic("")),
        Err(error) => Err(errors::of_administration(&error)),
    }
}

pub(crate) async fn list_topics(
    proxies: &Proxies,
    request: ListTopicRq,
) -> Result<ListTopicRs, Status> {
    let proxy = proxies
        .get(&request.cluster)
        .map_err(errors::unknown_cluster)?;
    let failed = |error: Error| errors::of_administration(&error);
    let topics = proxy.admin.describe_topics().await.map_err(failed)?;
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
    proxies: &Proxies,
    request: GetTopicMetadataRq,
) -> Result<GetTopicMetadataRs, Status> {
    let proxy = proxies
        .get(&request.cluster)
        .map_err(errors::unknown_cluster)?;
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
    proxies: &Proxies,
    request: ListConsumersRq,
) -> Result<ListConsumersRs, Status> {
    let proxy = proxies
        .get(&request.cluster)
        .map_err(errors::unknown_cluster)?;
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
