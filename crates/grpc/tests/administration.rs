//! GetOffsets, SetOffsets, ListTopics, ListConsumers, GetTopicMetadata.

use crate::support::{Client, Gateway, fill, new_topic, no_ack};
use barnabas_grpc::proto::{
    GetOffsetsRq, GetTopicMetadataRq, ListConsumersRq, ListTopicRq, PartitionOffset, SetOffsetsRq,
};
use barnabas_testkit::{shared, topic_name};
use tonic::Code;

const NO_TOPIC: &str = "kafka server: Request was for a topic or partition that does not exist on \
                        this broker.";

async fn offsets(client: &mut Client, group: &str, topic: &str) -> Vec<PartitionOffset> {
    let request = GetOffsetsRq {
        group: group.to_owned(),
        topic: topic.to_owned(),
        ..GetOffsetsRq::default()
    };
    client
        .get_offsets(request)
        .await
        .unwrap()
        .into_inner()
        .offsets
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_read_and_written() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let topic = new_topic("offsets", 1);
    let group = topic_name("offsets");
    fill(&topic, &["a", "b", "c"]);
    let unread = PartitionOffset {
        end: 3,
        count: 3,
        offset: -1,
        ..PartitionOffset::default()
    };
    assert_eq!(offsets(&mut client, &group, &topic).await[0], unread);
    let set = |topic: &str, partition| SetOffsetsRq {
        group: group.clone(),
        topic: topic.to_owned(),
        offsets: vec![PartitionOffset {
            partition,
            offset: 1,
            metadata: "BB".to_owned(),
            ..PartitionOffset::default()
        }],
        ..SetOffsetsRq::default()
    };
    client.set_offsets(set(&topic, 0)).await.unwrap();
    let read = PartitionOffset {
        offset: 1,
        lag: 2,
        metadata: "BB".to_owned(),
        sparse_acks: "1-2".to_owned(),
        ..unread
    };
    assert_eq!(offsets(&mut client, &group, &topic).await, [read]);
    let missing = topic_name("missing");
    let request = GetOffsetsRq {
        group: group.clone(),
        topic: missing.clone(),
        ..GetOffsetsRq::default()
    };
    let refused = client.get_offsets(request).await.unwrap_err();
    let text = format!("failed to get topic partitions: {NO_TOPIC}");
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::NotFound, &*text)
    );
    for request in [set(&missing, 0), set(&topic, 7)] {
        let refused = client.set_offsets(request).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::NotFound, NO_TOPIC)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_described() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let topic = topic_name("described");
    shared()
        .create_topic_with(&topic, 2, 1, &[("retention.ms", "60000")])
        .unwrap();
    for with_partitions in [false, true] {
        let request = GetTopicMetadataRq {
            topic: topic.clone(),
            with_partitions,
            ..GetTopicMetadataRq::default()
        };
        let one = client
            .get_topic_metadata(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(
            (one.version, one.config["retention.ms"].as_str()),
            (1, "60000")
        );
        let ids: Vec<_> = one
            .partitions
            .iter()
            .map(|p| (p.partition, p.leader))
            .collect();
        let expected = if with_partitions {
            vec![(0, 0), (1, 0)]
        } else {
            Vec::new()
        };
        assert_eq!(ids, expected);
        let request = ListTopicRq {
            with_partitions,
            ..ListTopicRq::default()
        };
        let all = client.list_topics(request).await.unwrap().into_inner();
        assert_eq!(all.topics[&topic], one);
    }
    let request = GetTopicMetadataRq {
        topic: topic_name("missing"),
        ..GetTopicMetadataRq::default()
    };
    let refused = client.get_topic_metadata(request).await.unwrap_err();
    let text = format!("failed to get partitions: {NO_TOPIC}");
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::NotFound, &*text)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_are_listed_and_protected() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let (topic, other) = (new_topic("consumers", 2), new_topic("other", 1));
    let group = topic_name("consumers");
    let request = |topic: &str, group: &str| ListConsumersRq {
        topic: topic.to_owned(),
        group: group.to_owned(),
        ..ListConsumersRq::default()
    };
    let refused = client
        .list_consumers(request(&topic, &group))
        .await
        .unwrap_err();
    let text = format!("unknown consumer group {group}");
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::NotFound, &*text)
    );
    fill(&topic, &["a"]);
    while client.consume_n_ack(no_ack(&group, &topic)).await.is_err() {}
    for wanted in [&*group, ""] {
        let listed = client
            .list_consumers(request(&topic, wanted))
            .await
            .unwrap()
            .into_inner();
        let held: Vec<_> = listed.groups[&group].consumers.values().collect();
        assert_eq!(held.len(), 1);
        assert_eq!(held[0].partitions, [0, 1]);
    }
    let refused = client
        .list_consumers(request(&other, &group))
        .await
        .unwrap_err();
    let text = format!("topic {other} is not consumed by {group}");
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::NotFound, &*text)
    );
    let request = SetOffsetsRq {
        group,
        topic,
        offsets: vec![PartitionOffset::default()],
        ..SetOffsetsRq::default()
    };
    // Another process than the one that consumes may not; that one goes on
    // from there.
    let other = Gateway::start();
    let refused = other.client().await.set_offsets(request.clone()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    client.set_offsets(request).await.unwrap();
}
