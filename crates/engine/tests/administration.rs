//! Topics, what groups have committed, who is in them.

use crate::support::{PATIENCE, eventually, fill, holds, join, new_topic, open, read};
use barnabas_engine::{
    Admin, Error, ErrorCode, GroupDescription, GroupOffset, NewGroupOffset, PartitionDescription,
};
use barnabas_testkit::{Cluster, Quickest, shared, shared_auto_create, topic_name};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(10);

fn admin() -> Admin {
    open(&shared().bootstrap_servers()).admin().unwrap()
}

fn code(error: &Error) -> ErrorCode {
    const KNOWN: [ErrorCode; 6] = [
        ErrorCode::LeaderNotAvailable,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::OffsetMetadataTooLarge,
        ErrorCode::UnknownMemberId,
        ErrorCode::InvalidArgument,
        ErrorCode::InvalidGroupId,
    ];
    let Error::Kafka { error } = error else {
        panic!("{error:?}");
    };
    *KNOWN
        .iter()
        .find(|code| error.is(**code))
        .unwrap_or_else(|| panic!("{error:?}"))
}

fn new(partition: i32, offset: i64, metadata: &str) -> NewGroupOffset {
    NewGroupOffset {
        partition,
        offset,
        metadata: metadata.to_owned(),
    }
}

/// What the group has committed on each partition.
async fn committed(admin: &Admin, group: &str, topic: &str) -> Vec<(i64, String)> {
    let offsets = admin.group_offsets(group, topic).await.unwrap().unwrap();
    offsets
        .into_iter()
        .map(|offset| (offset.committed, offset.metadata))
        .collect()
}

fn pair(offset: i64, metadata: &str) -> (i64, String) {
    (offset, metadata.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_described_and_deleted() {
    let admin = open(&shared().bootstrap_servers()).admin().unwrap();
    let name = topic_name("admin");
    admin.create_topic(&name, 3, 1).await.unwrap();
    let found = eventually("the topic", || {
        let topics = admin.topics(TIMEOUT).unwrap();
        assert!(topics.is_sorted_by_key(|topic| topic.name.clone()));
        topics.into_iter().find(|topic| topic.name == name)
    })
    .await;
    assert_eq!(found.partitions, [0, 1, 2]);

    let again = admin.create_topic(&name, 3, 1).await.unwrap_err();
    assert_eq!(again.to_string(), "Broker: Topic already exists");
    let Error::Kafka { error } = again else {
        panic!("{again:?}");
    };
    assert!(error.is(ErrorCode::TopicAlreadyExists));
    assert_eq!(error.number(), 36);

    for value in ["a", "b", "c"] {
        shared()
            .produce(&name, Some(1), None, Some(value.as_bytes()))
            .unwrap();
    }
    assert_eq!(admin.watermarks(&name, 1, TIMEOUT).unwrap(), (0, 3));
    // A partition that has just been made may have no leader yet.
    let empty = eventually("a leader", || admin.watermarks(&name, 2, TIMEOUT).ok()).await;
    assert_eq!(empty, (0, 0));
    admin.watermarks(&name, 9, TIMEOUT).unwrap_err();

    admin.delete_topic(&name).await.unwrap();
    eventually("the topic's end", || {
        let topics = admin.topics(TIMEOUT).unwrap();
        topics.iter().all(|topic| topic.name != name).then_some(())
    })
    .await;
    // Not the same one again: whoever has just used it may ask for it, and
    // this broker creates what is asked for.
    let missing = admin.delete_topic(&topic_name("missing")).await;
    let missing = missing.unwrap_err().to_string();
    assert!(missing.contains("Unknown topic"), "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_topics_are_described() {
    let admin = admin();
    let name = new_topic("described", 3);
    // Makes sure that there is an internal topic.
    committed(&admin, &topic_name("any"), &name).await;
    let expected: Vec<PartitionDescription> = (0..3)
        .map(|id| PartitionDescription {
            id,
            leader: Some(0),
            replicas: vec![0],
            isr: vec![0],
        })
        .collect();

    let topics = admin.describe_topics().await.unwrap();
    assert!(topics.is_sorted_by(|a, b| a.0.as_bytes() < b.0.as_bytes()));
    let names: Vec<&str> = topics.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"__consumer_offsets"), "{names:?}");
    let (_, partitions) = topics.iter().find(|(found, _)| *found == name).unwrap();
    assert_eq!(*partitions, expected);

    assert_eq!(admin.describe_topic(&name).await.unwrap(), Some(expected));
    for missing in [topic_name("missing").as_str(), "", ".", "a b", "a\0b"] {
        assert_eq!(admin.describe_topic(missing).await.unwrap(), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_set_on_a_topic_is_an_override() {
    let admin = admin();
    let plain = new_topic("plain", 1);
    let special = topic_name("special");
    let own = [
        ("retention.ms", "123456"),
        ("cleanup.policy", "compact,delete"),
    ];
    shared().create_topic_with(&special, 1, 1, &own).unwrap();
    let missing = topic_name("missing");

    let asked = [&plain, &special, &missing, &special, "", "a\0b"];
    let found = admin.topic_overrides(&asked).await.unwrap();
    let expected: BTreeMap<String, String> = own
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[&special], expected);
    assert_eq!(found[&plain], BTreeMap::new());

    assert!(admin.topic_overrides(&[]).await.unwrap().is_empty());
    assert!(admin.topic_overrides(&[&missing]).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_a_group_are_committed_and_told() {
    let admin = admin();
    let topic = new_topic("offsets", 3);
    let group = topic_name("offsets");
    fill(&topic, 2, 5);

    // A group that does not exist has nothing, and does not exist afterwards.
    let expected = |partition, end, committed, metadata: &str| GroupOffset {
        partition,
        begin: 0,
        end,
        committed,
        metadata: metadata.to_owned(),
    };
    let before = admin.group_offsets(&group, &topic).await.unwrap().unwrap();
    let nothing: Vec<GroupOffset> = [5, 5, 0]
        .into_iter()
        .enumerate()
        .map(|(id, end)| expected(i32::try_from(id).unwrap(), end, -1, ""))
        .collect();
    assert_eq!(before, nothing);
    assert_eq!(shared().group_state(&group).unwrap(), None);

    // Partitions in any order, beyond the end, the later of two.
    let offsets = [new(2, 7, ""), new(0, 1, "old"), new(0, 3, "a\u{e4}")];
    admin
        .commit_group_offsets(&group, &topic, &offsets)
        .await
        .unwrap();
    let now = admin.group_offsets(&group, &topic).await.unwrap().unwrap();
    let expected = [
        expected(0, 5, 3, "a\u{e4}"),
        expected(1, 5, -1, ""),
        expected(2, 0, 7, ""),
    ];
    assert_eq!(now, expected);

    // What is told can be committed again, and offsets go back.
    let again: Vec<NewGroupOffset> = now
        .iter()
        .map(|offset| new(offset.partition, offset.committed, &offset.metadata))
        .collect();
    admin
        .commit_group_offsets(&group, &topic, &again)
        .await
        .unwrap();
    admin
        .commit_group_offsets(&group, &topic, &[new(2, 0, "")])
        .await
        .unwrap();
    assert_eq!(
        committed(&admin, &group, &topic).await,
        [pair(3, "a\u{e4}"), pair(-1, ""), pair(0, "")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_what_is_not_there() {
    let admin = admin();
    let topic = new_topic("offsets", 1);
    let missing = topic_name("missing");
    for missing in [&missing, "", "a b"] {
        assert_eq!(admin.group_offsets("any", missing).await.unwrap(), None);
    }
    for group in ["", "a\0b"] {
        let refused = admin.group_offsets(group, &topic).await.unwrap_err();
        assert_eq!(code(&refused), ErrorCode::InvalidGroupId);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_that_are_refused() {
    let admin = admin();
    let topic = new_topic("refused", 2);
    let group = topic_name("refused");
    let missing = topic_name("missing");
    let long = "x".repeat(5000);
    let cases = [
        (
            &missing,
            vec![new(0, 1, "")],
            ErrorCode::UnknownTopicOrPartition,
        ),
        (
            &topic,
            vec![new(0, 1, ""), new(2, 1, "")],
            ErrorCode::UnknownTopicOrPartition,
        ),
        (
            &topic,
            vec![new(-1, 1, "")],
            ErrorCode::UnknownTopicOrPartition,
        ),
        (
            &topic,
            vec![new(0, 1, ""), new(1, -2, "")],
            ErrorCode::InvalidArgument,
        ),
        (&topic, vec![new(0, -1, "text")], ErrorCode::InvalidArgument),
        (&topic, vec![new(0, -7, "")], ErrorCode::InvalidArgument),
    ];
    for (topic, offsets, expected) in cases {
        let refused = admin
            .commit_group_offsets(&group, topic, &offsets)
            .await
            .unwrap_err();
        assert_eq!(code(&refused), expected, "{offsets:?}");
    }
    // Nothing of these has been committed.
    let nothing = [pair(-1, ""), pair(-1, "")];
    assert_eq!(committed(&admin, &group, &topic).await, nothing);

    // The broker takes what it can.
    let refused = admin
        .commit_group_offsets(&group, &topic, &[new(0, 1, &long), new(1, 1, "")])
        .await
        .unwrap_err();
    assert_eq!(code(&refused), ErrorCode::OffsetMetadataTooLarge);
    assert_eq!(
        committed(&admin, &group, &topic).await,
        [pair(-1, ""), pair(1, "")]
    );

    // Nor can an offset be taken away.
    let refused = admin
        .commit_group_offsets(&group, &topic, &[new(1, -1, "")])
        .await
        .unwrap_err();
    assert_eq!(code(&refused), ErrorCode::InvalidArgument);

    // Nothing to do is done for whatever topic.
    admin.commit_group_offsets(&group, "", &[]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_members_is_described_and_keeps_its_offsets() {
    let cluster = open(&shared().bootstrap_servers());
    let admin = cluster.admin().unwrap();
    let topic = new_topic("members", 3);
    let group = topic_name("members");
    fill(&topic, 3, 5);
    let first = join(&cluster, &group, "first", &topic, &[]);
    holds(&first, 3).await;
    let second = join(&cluster, &group, "second", &topic, &[]);
    eventually("a share for each", || {
        let held = first.assignment().len() + second.assignment().len();
        (held == 3 && !second.assignment().is_empty()).then_some(())
    })
    .await;

    let one = admin.group_members(Some(&group)).await.unwrap();
    let [found] = one.as_slice() else {
        panic!("{one:?}");
    };
    assert_eq!(
        (found.group.as_str(), found.state.as_str()),
        (group.as_str(), "Stable")
    );
    for (member, (name, consumer)) in found
        .members
        .iter()
        .zip([("first", &first), ("second", &second)])
    {
        let mut held = consumer.assignment();
        held.sort_unstable();
        assert_eq!(member.client_id, name);
        assert!(member.member_id.starts_with(name), "{member:?}");
        assert_eq!(member.topics, [topic.as_str()]);
        assert_eq!(member.assigned, held);
    }
    let all = admin.group_members(None).await.unwrap();
    assert!(all.is_sorted_by_key(|found| found.group.clone()));
    assert_eq!(all.iter().find(|other| other.group == group), Some(found));

    // Only members may commit; none is disturbed by others who try.
    let refused = admin
        .commit_group_offsets(&group, &topic, &[new(0, 2, "")])
        .await
        .unwrap_err();
    assert_eq!(code(&refused), ErrorCode::UnknownMemberId);
    assert_eq!(
        committed(&admin, &group, &topic).await,
        vec![pair(-1, ""); 3]
    );
    assert_eq!(admin.group_members(Some(&group)).await.unwrap(), one);

    // Nobody is in it any more, and it takes what it is told.
    first.close().done().await;
    second.close().done().await;
    let members =
        |groups: Vec<GroupDescription>| groups.into_iter().flat_map(|group| group.members).count();
    let started = Instant::now();
    while members(admin.group_members(Some(&group)).await.unwrap()) > 0 {
        assert!(started.elapsed() < TIMEOUT);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    admin
        .commit_group_offsets(&group, &topic, &[new(0, 2, "")])
        .await
        .unwrap();
    assert_eq!(committed(&admin, &group, &topic).await[0], pair(2, ""));
    let third = join(&cluster, &group, "third", &topic, &[]);
    holds(&third, 3).await;
    let mut seen = read(&third, 3 + 5 + 5).await;
    seen.sort_unstable();
    assert_eq!((seen[0].partition, seen[0].offset), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_not_there_has_no_members() {
    let admin = admin();
    let missing = topic_name("missing");
    for group in [missing.as_str(), "", "a\0b"] {
        let found = admin.group_members(Some(group)).await.unwrap();
        assert!(found.iter().all(|group| group.members.is_empty()));
    }
    // Kafka keeps a group that only has offsets; it is none of consumers.
    let topic = new_topic("empty", 1);
    admin
        .commit_group_offsets(&missing, &topic, &[new(0, 0, "")])
        .await
        .unwrap();
    assert_eq!(admin.group_members(Some(&missing)).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn to_ask_for_a_topic_does_not_create_it() {
    let broker = shared_auto_create();
    let admin = open(&broker.bootstrap_servers()).admin().unwrap();
    let missing = topic_name("missing");
    let group = topic_name("group");
    assert_eq!(admin.describe_topic(&missing).await.unwrap(), None);
    assert!(admin.topic_overrides(&[&missing]).await.unwrap().is_empty());
    assert_eq!(admin.group_offsets(&group, &missing).await.unwrap(), None);
    let refused = admin
        .commit_group_offsets(&group, &missing, &[new(0, 1, "")])
        .await
        .unwrap_err();
    assert_eq!(code(&refused), ErrorCode::UnknownTopicOrPartition);
    admin.group_members(None).await.unwrap();
    // librdkafka refreshes what it knows of topics every second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!broker.topics().unwrap().contains(&missing));
    let topics = admin.describe_topics().await.unwrap();
    assert!(topics.iter().all(|(name, _)| *name != missing));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_every_question_ends_with_an_error() {
    let mut quickest = Quickest::of(3, Duration::from_secs(12));
    while quickest.is_missing() {
        quickest.took(questions_without_a_broker().await);
    }
}

async fn questions_without_a_broker() -> Duration {
    // A port that nobody listens to.
    let admin = open("127.0.0.1:1").admin().unwrap();
    let started = Instant::now();
    let offsets = [new(0, 1, "")];
    let (topics, topic, overrides, told, commit, members) = tokio::join!(
        admin.describe_topics(),
        admin.describe_topic("a"),
        admin.topic_overrides(&["a"]),
        admin.group_offsets("g", "a"),
        admin.commit_group_offsets("g", "a", &offsets),
        admin.group_members(Some("g")),
    );
    let elapsed = started.elapsed();
    let errors = [
        topics.unwrap_err(),
        topic.unwrap_err(),
        overrides.unwrap_err(),
        told.unwrap_err(),
        commit.unwrap_err(),
        members.unwrap_err(),
    ];
    for error in &errors {
        let Error::Kafka { error } = error else {
            panic!("{errors:?}");
        };
        assert!(error.is_transient(), "{errors:?}");
    }
    elapsed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_leaves_partitions_without_leader_and_groups_that_are_found() {
    let kafka = Cluster::builder().brokers(3).start().unwrap();
    let cluster = open(&kafka.bootstrap_servers());
    let admin = cluster.admin().unwrap();
    kafka.create_topic_with("one-copy", 3, 1, &[]).unwrap();
    kafka.create_topic("copies", 1).unwrap();
    let before = admin.describe_topic("one-copy").await.unwrap().unwrap();
    let lost = before[1].leader.unwrap();
    let offsets = admin.group_offsets("any", "one-copy").await.unwrap();
    assert_eq!(offsets.unwrap().len(), 3);
    let member = join(&cluster, "group", "member", "copies", &[]);
    holds(&member, 1).await;

    kafka.broker(lost).kill().unwrap();
    // Questions may fail until the cluster has noticed, and go to any broker, of which one hears of
    // it later than another.
    until(
        async || admin.group_members(None).await,
        |found| {
            let Ok([group]) = found.as_deref() else {
                return false;
            };
            matches!(&*group.members, [member] if member.client_id == "member")
        },
    )
    .await;
    let expected: Vec<Option<i32>> = before
        .iter()
        .map(|partition| partition.leader.filter(|leader| *leader != lost))
        .collect();
    until(
        async || admin.describe_topic("one-copy").await,
        |found| {
            let Ok(Some(now)) = found else {
                return false;
            };
            let leaders = now.iter().map(|partition| partition.leader);
            leaders.eq(expected.iter().copied()) && now[1].replicas == [lost]
        },
    )
    .await;
    until(
        async || {
            let refused = admin.group_offsets("any", "one-copy").await;
            refused.expect_err("a partition has no leader")
        },
        |refused| matches!(refused, Error::Kafka { error } if error.is(ErrorCode::LeaderNotAvailable)),
    )
    .await;
    // Of other topics it is told.
    until(
        async || admin.group_offsets("group", "copies").await,
        |found| matches!(found, Ok(Some(offsets)) if offsets[0].committed == -1),
    )
    .await;
}

/// Asks until the answer is right: after a broker has gone. It is missed after 9 s, by a new
/// controller after 9 more if it was that as well, and a question may wait for 10.
async fn until<T: std::fmt::Debug>(mut ask: impl AsyncFnMut() -> T, is_right: impl Fn(&T) -> bool) {
    let started = Instant::now();
    loop {
        let answer = ask().await;
        if is_right(&answer) {
            return;
        }
        assert!(started.elapsed() < 3 * PATIENCE, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_one_topic_are_deleted() {
    let admin = admin();
    let topics = [topic_name("forget-a"), topic_name("forget-b")];
    let group = topic_name("forget");
    for topic in &topics {
        admin.create_default_topic(topic).await.unwrap();
        // A broker may hear of it a moment later.
        let count = loop {
            if let Some(described) = admin.describe_topic(topic).await.unwrap() {
                break described.len();
            }
        };
        assert_eq!(count, 1, "the broker's default");
        let offsets = [new(0, 0, "m")];
        admin
            .commit_group_offsets(&group, topic, &offsets)
            .await
            .unwrap();
    }
    admin
        .delete_group_offsets(&group, &topics[0])
        .await
        .unwrap();
    assert_eq!(committed(&admin, &group, &topics[0]).await, [pair(-1, "")]);
    assert_eq!(committed(&admin, &group, &topics[1]).await, [pair(0, "m")]);
    let missing = topic_name("missing");
    let refused = admin.delete_group_offsets(&group, &missing).await;
    assert_eq!(
        code(&refused.unwrap_err()),
        ErrorCode::UnknownTopicOrPartition
    );
    let refused = admin.delete_group_offsets("", &topics[1]).await;
    assert_eq!(code(&refused.unwrap_err()), ErrorCode::InvalidGroupId);

    // While a member reads the topic they stay.
    let cluster = open(&shared().bootstrap_servers());
    let member = join(&cluster, &group, "member", &topics[1], &[]);
    holds(&member, 1).await;
    let refused = admin.delete_group_offsets(&group, &topics[1]).await;
    let Err(Error::Kafka { error }) = refused else {
        panic!("{refused:?}");
    };
    assert!(error.is(ErrorCode::GroupSubscribedToTopic), "{error:?}");
    member.close().done().await;
    admin
        .delete_group_offsets(&group, &topics[1])
        .await
        .unwrap();
    assert_eq!(committed(&admin, &group, &topics[1]).await, [pair(-1, "")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_time() {
    let cluster = open(&shared().bootstrap_servers());
    let admin = cluster.admin().unwrap();
    let topic = new_topic("times", 2);
    let producer = cluster
        .producer(&barnabas_engine::Properties::new())
        .unwrap();
    let record = barnabas_engine::Record {
        key: None,
        value: Some(b"x"),
    };
    let now = 1_700_000_000_000;
    for age in [3_000, 2_000, 1_000] {
        producer
            .deliver(&topic, Some(0), record, &[], Some(now - age))
            .await
            .unwrap();
    }
    let at = async |time| {
        let offsets = admin.offsets_at(&topic, time).await.unwrap().unwrap();
        offsets.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(at(0).await, [(0, 0), (1, 0)]);
    assert_eq!(at(now - 2_500).await, [(0, 1), (1, 0)]);
    assert_eq!(at(now - 1_000).await, [(0, 2), (1, 0)]);
    assert_eq!(at(now).await, [(0, 3), (1, 0)]);
    let missing = topic_name("missing");
    assert_eq!(admin.offsets_at(&missing, 0).await.unwrap(), None);
    let refused = admin.offsets_at(&topic, -1).await.unwrap_err();
    assert_eq!(code(&refused), ErrorCode::InvalidArgument);
}
