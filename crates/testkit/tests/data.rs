//! Topics, records and groups, on the shared broker.

use std::collections::BTreeMap;
use std::time::Duration;

use barnabas_testkit::{Error, NewRecord, Position, shared, shared_auto_create, topic_name};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};

#[test]
fn what_was_produced_is_read_as_it_was() {
    let topic = topic_name("as-it-was");
    shared().create_topic(&topic, 2).unwrap();
    let tombstone = shared()
        .produce(&topic, Some(1), Some(b"key"), None)
        .unwrap();
    assert_eq!(
        tombstone,
        Position {
            partition: 1,
            offset: 0
        }
    );
    let full = NewRecord {
        partition: Some(0),
        key: Some(b""),
        value: Some(b"\0\xff"),
        headers: vec![("a", Some(b"1")), ("a", None), ("b", Some(b""))],
        timestamp: Some(1_700_000_000_123),
    };
    shared().produce_all(&topic, [full]).unwrap();

    let records = shared().read_all(&topic).unwrap();
    assert_eq!(records.len(), 2);
    let (first, second) = (&records[0], &records[1]);
    assert_eq!((first.partition, first.offset), (0, 0));
    assert_eq!(first.key.as_deref(), Some(b"".as_slice()));
    assert_eq!(first.value.as_deref(), Some(b"\0\xff".as_slice()));
    assert_eq!(
        first.headers,
        [
            ("a".to_owned(), Some(b"1".to_vec())),
            ("a".to_owned(), None),
            ("b".to_owned(), Some(Vec::new())),
        ]
    );
    assert_eq!(first.timestamp, Some(1_700_000_000_123));
    assert_eq!((second.key_text().as_str(), &second.value), ("key", &None));
    assert_eq!(
        shared().end_offsets(&topic).unwrap(),
        BTreeMap::from([(0, 1), (1, 1)])
    );
}

#[test]
fn an_empty_topic_has_no_records() {
    let topic = topic_name("empty");
    shared().create_topic(&topic, 3).unwrap();
    assert_eq!(shared().read_all(&topic).unwrap(), []);
}

#[test]
fn topics_are_created_grown_and_deleted() {
    let topic = topic_name("grown");
    shared()
        .create_topic_with(&topic, 1, 1, &[("max.message.bytes", "1000")])
        .unwrap();
    assert!(shared().topics().unwrap().contains(&topic));
    let too_large = shared().produce(&topic, None, None, Some(&[7; 2000]));
    assert!(matches!(too_large, Err(Error::Kafka { .. })));
    assert!(matches!(
        shared().create_topic(&topic, 1),
        Err(Error::Kafka { .. })
    ));

    shared().add_partitions(&topic, 4).unwrap();
    shared().produce(&topic, Some(3), None, Some(b"x")).unwrap();
    assert_eq!(shared().end_offsets(&topic).unwrap().len(), 4);

    shared().delete_topic(&topic).unwrap();
    assert!(!shared().topics().unwrap().contains(&topic));
    assert!(matches!(
        shared().read_all(&topic),
        Err(Error::Kafka { .. })
    ));
    shared().create_topic(&topic, 1).unwrap();
    shared().produce(&topic, Some(0), None, Some(b"y")).unwrap();
}

#[test]
fn topics_appear_by_themselves_only_where_that_was_asked_for() {
    let topic = topic_name("by-itself");
    shared_auto_create()
        .produce(&topic, None, None, Some(b"x"))
        .unwrap();
    assert_eq!(shared_auto_create().read_all(&topic).unwrap().len(), 1);
    assert!(shared().read_all(&topic).is_err());
    assert!(!shared().topics().unwrap().contains(&topic));
}

#[test]
fn members_and_commits_of_a_group_are_seen() {
    let topic = topic_name("group");
    shared().create_topic(&topic, 3).unwrap();
    shared().produce(&topic, Some(1), None, Some(b"x")).unwrap();
    // In this order: the first question may have to wait for the coordinator, and leaves it loading.
    assert_eq!(
        shared().committed("nobody", &topic).unwrap(),
        BTreeMap::new()
    );
    assert_eq!(shared().group_members("nobody").unwrap(), []);

    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", shared().bootstrap_servers())
        .set("group.id", &topic)
        .set("client.id", "member")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    consumer.subscribe(&[&topic]).unwrap();
    let message = loop {
        if let Some(event) = consumer.poll(Duration::from_secs(30)) {
            break event.unwrap();
        }
    };
    consumer.commit_message(&message, CommitMode::Sync).unwrap();

    assert_eq!(
        shared().committed(&topic, &topic).unwrap(),
        BTreeMap::from([(1, 1)])
    );
    assert_eq!(
        shared().group_state(&topic).unwrap().as_deref(),
        Some("Stable")
    );
    let members = shared().group_members(&topic).unwrap();
    assert_eq!(members.len(), 1);
    assert_eq!(members[0].client_id, "member");
    assert_eq!(
        members[0].assigned,
        [0, 1, 2].map(|partition| (topic.clone(), partition))
    );
}
