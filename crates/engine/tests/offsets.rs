//! What is stored, and when Kafka has it.

use crate::support::{at, eventually, fill, holds, join, new_topic, open, read};
use barnabas_testkit::{shared, topic_name};
use std::collections::BTreeMap;

/// Longer than any test: what is committed then is committed for another reason.
const NEVER: (&str, &str) = ("auto.commit.interval.ms", "600000");
const OFTEN: (&str, &str) = ("auto.commit.interval.ms", "100");

fn committed(group: &str, topic: &str) -> BTreeMap<i32, i64> {
    shared().committed(group, topic).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_offsets_are_committed_in_the_interval() {
    let cluster = open(&shared().bootstrap_servers());
    let topic = new_topic("interval", 1);
    let group = topic_name("interval");
    fill(&topic, 1, 10);
    let consumer = join(&cluster, &group, "one", &topic, &[OFTEN]);
    read(&consumer, 10).await;
    consumer.store(&[at(&topic, 0, 5)]).unwrap();
    eventually("the commit", || {
        (committed(&group, &topic).get(&0) == Some(&5)).then_some(())
    })
    .await;
    // The last one wins, also when it is lower, and also at the end.
    consumer.store(&[at(&topic, 0, 9)]).unwrap();
    consumer.store(&[at(&topic, 0, 2)]).unwrap();
    eventually("the position moved back", || {
        (committed(&group, &topic).get(&0) == Some(&2)).then_some(())
    })
    .await;
    consumer.close().done().await;
    assert_eq!(committed(&group, &topic)[&0], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_offsets_are_committed_when_the_consumer_closes() {
    let cluster = open(&shared().bootstrap_servers());
    let topic = new_topic("close", 2);
    let group = topic_name("close");
    fill(&topic, 2, 10);
    let consumer = join(&cluster, &group, "one", &topic, &[NEVER]);
    read(&consumer, 20).await;
    consumer
        .store(&[at(&topic, 0, 7), at(&topic, 1, 3)])
        .unwrap();
    assert!(committed(&group, &topic).is_empty());
    consumer.close().done().await;
    assert_eq!(committed(&group, &topic), BTreeMap::from([(0, 7), (1, 3)]));

    // The next one goes on there; what it stores and is dropped with counts too.
    let consumer = join(&cluster, &group, "two", &topic, &[NEVER]);
    let seen = read(&consumer, 3 + 7).await;
    let first = |partition| {
        let of_partition = seen.iter().filter(|seen| seen.partition == partition);
        of_partition.map(|seen| seen.offset).min().unwrap()
    };
    assert_eq!((first(0), first(1)), (7, 3));
    consumer.store(&[at(&topic, 0, 10)]).unwrap();
    drop(consumer);
    eventually("the commit of a dropped consumer", || {
        (committed(&group, &topic)[&0] == 10).then_some(())
    })
    .await;
    assert_eq!(committed(&group, &topic)[&1], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_offsets_are_committed_when_partitions_go() {
    for strategy in ["cooperative-sticky", "range"] {
        let cluster = open(&shared().bootstrap_servers());
        let topic = new_topic("revoke", 2);
        let group = topic_name("revoke");
        fill(&topic, 2, 10);
        let own = [NEVER, ("partition.assignment.strategy", strategy)];
        let first = join(&cluster, &group, "first", &topic, &own);
        read(&first, 20).await;
        first.store(&[at(&topic, 0, 4), at(&topic, 1, 6)]).unwrap();
        let second = join(&cluster, &group, "second", &topic, &own);
        holds(&second, 1).await;
        let (_, moved) = second.assignment()[0].clone();
        let expected = if moved == 0 { 4 } else { 6 };
        assert_eq!(committed(&group, &topic)[&moved], expected, "{strategy}");
        let next = crate::support::next(&second).await;
        assert_eq!((next.partition, next.offset), (moved, expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_held_cannot_be_stored_and_then_nothing_is() {
    let cluster = open(&shared().bootstrap_servers());
    let topic = new_topic("refused", 2);
    let group = topic_name("refused");
    fill(&topic, 2, 10);
    let first = join(&cluster, &group, "first", &topic, &[NEVER]);
    let second = join(&cluster, &group, "second", &topic, &[NEVER]);
    holds(&first, 1).await;
    holds(&second, 1).await;
    let (_, own) = first.assignment()[0].clone();
    let foreign = 1 - own;

    let error = |positions: &[_]| first.store(positions).unwrap_err().to_string();
    assert_eq!(error(&[at(&topic, foreign, 1)]), "Local: Erroneous state");
    assert_eq!(error(&[at(&topic, 77, 1)]), "Local: Unknown partition");
    let unknown = topic_name("never-heard-of");
    assert_eq!(error(&[at(&unknown, 0, 1)]), "Local: Unknown partition");

    for bad in [
        at(&topic, foreign, 1),
        at(&topic, 77, 1),
        at(&unknown, 0, 1),
    ] {
        let good = at(&topic, own, 8);
        error(&[good.clone(), bad.clone()]);
        error(&[bad, good]);
    }
    first.store(&[]).unwrap();
    first.close().done().await;
    second.close().done().await;
    assert!(committed(&group, &topic).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_commits_nothing_reaches_kafka() {
    let cluster = open(&shared().bootstrap_servers());
    let topic = new_topic("uncommitted", 1);
    let group = topic_name("uncommitted");
    fill(&topic, 1, 10);
    let own = [("enable.auto.commit", "false"), OFTEN];
    let consumer = join(&cluster, &group, "one", &topic, &own);
    read(&consumer, 10).await;
    consumer.store(&[at(&topic, 0, 8)]).unwrap();
    consumer.store(&[at(&topic, 0, 2)]).unwrap();
    consumer.close().done().await;
    assert!(committed(&group, &topic).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_can_be_the_acknowledgement() {
    let cluster = open(&shared().bootstrap_servers());
    let topic = new_topic("by-itself", 1);
    let group = topic_name("by-itself");
    fill(&topic, 1, 10);
    let own = [("enable.auto.offset.store", "true"), NEVER];
    let consumer = join(&cluster, &group, "one", &topic, &own);
    read(&consumer, 4).await;
    // Has no effect then.
    consumer.store(&[at(&topic, 0, 9)]).unwrap();
    consumer.close().done().await;
    assert_eq!(committed(&group, &topic)[&0], 4);
}
