//! What is counted of topics, and where groups stand.

use crate::dispatch::{config, get, nothing, one};
use crate::support::{
    at, caller, eventually, fill, join, new_topic, numbers, open, properties, read, send_all,
    settle, values,
};
use barnabas_engine::{
    AckMode, AckPolicy, Cluster, ConsumedStatistics, ConsumerObserver, DispatchConfig, Dispatcher,
    Properties, Record, TopicStatistics,
};
use barnabas_testkit::{shared, topic_name};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const EARLIEST: &[(&str, &str)] = &[("auto.offset.reset", "earliest")];

fn produced(cluster: &Cluster, topic: &str) -> TopicStatistics {
    let mut found = TopicStatistics::default();
    for producer in cluster.producers() {
        producer.each_topic(|name, own| {
            if name == topic {
                found = own;
            }
        });
    }
    found
}

fn consumed(cluster: &Cluster, topic: &str) -> ConsumedStatistics {
    let mut found = ConsumedStatistics::default();
    cluster.each_consumed_topic(|name, own| {
        if name == topic {
            found = own;
        }
    });
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_produced_is_counted_by_topic() {
    let cluster = open(&shared().bootstrap_servers());
    let (topic, other) = (new_topic("tally", 1), new_topic("tally", 1));
    let mut caller = caller(&cluster);
    // Ten of one byte, and ninety of two, while the topic is not known yet.
    let target = caller.topic(topic.as_bytes()).unwrap();
    send_all(&mut caller, &target, values(&numbers(0..100)));
    settle(&caller).await;
    let producer = cluster.producer(&Properties::new()).unwrap();
    let record = Record {
        key: Some(b"key"),
        value: Some(b"value"),
    };
    for partition in [0, 7] {
        let sent = producer
            .deliver(&other, Some(partition), record, &[], None)
            .await;
        assert_eq!(sent.is_ok(), partition == 0, "{sent:?}");
    }
    // Counted behind the reports that were waited for.
    let ended = async |topic: &str, count: u64| {
        eventually("all is counted", || {
            let own = produced(&cluster, topic);
            (own.delivered + own.failed == count).then_some(own)
        })
        .await
    };
    let own = ended(&topic, 100).await;
    assert_eq!((own.accepted, own.delivered, own.failed), (100, 100, 0));
    assert_eq!((own.bytes, own.outstanding()), (190, 0));
    let own = ended(&other, 1).await;
    assert_eq!((own.delivered, own.bytes, own.outstanding()), (1, 8, 0));
    assert_eq!(produced(&cluster, "none"), TopicStatistics::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_groups_do_is_counted_and_their_lag_known() {
    let topic = new_topic("standing", 1);
    let group = topic_name("standing");
    fill(&topic, 1, 3);
    let cluster = open(&shared().bootstrap_servers());
    let own = DispatchConfig {
        acks: AckPolicy {
            timeout: Duration::from_millis(300),
            max_retries: Some(1),
            ..AckPolicy::default()
        },
        ..config()
    };
    let dispatcher = Dispatcher::start(&cluster, own, &Properties::new()).unwrap();
    get(&dispatcher, &group, &topic, AckMode::Auto, 2)
        .await
        .confirm();
    let lag = || {
        let standing = dispatcher.statistics();
        let own = standing.iter().find(|own| own.topic == topic)?;
        assert_eq!(own.group, group);
        own.partitions[0].lag
    };
    // It comes twice and is dropped then.
    let first = one(&dispatcher, &group, &topic, AckMode::Explicit).await;
    eventually("one is behind", || (lag() == Some(1)).then_some(())).await;
    let again = one(&dispatcher, &group, &topic, AckMode::Explicit).await;
    assert_eq!((first.1, again.1), (2, 2));
    nothing(&dispatcher, &group, &topic).await;
    eventually("none is behind", || (lag() == Some(0)).then_some(())).await;
    let own = consumed(&cluster, &topic);
    assert_eq!((own.messages, own.again, own.acked), (4, 1, 2));
    assert_eq!((own.bytes, own.dropped, own.dead_letters), (4, 1, 0));
    dispatcher.stop(std::future::ready(())).await;
    assert_eq!(dispatcher.statistics(), []);
    assert_eq!(consumed(&cluster, &topic).messages, 4, "it stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_groups_are_counted_and_their_lag_known() {
    let topic = new_topic("member", 1);
    fill(&topic, 1, 5);
    let cluster = open(&shared().bootstrap_servers());
    let consumer = join(&cluster, &topic_name("member"), "me", &topic, EARLIEST);
    read(&consumer, 5).await;
    consumer.store(&[at(&topic, 0, 3)]).unwrap();
    let own = consumed(&cluster, &topic);
    assert_eq!((own.messages, own.bytes, own.acked), (5, 5, 1));
    let standing = cluster.member_statistics();
    assert_eq!(standing.len(), 1);
    assert_eq!((standing[0].partition, standing[0].lag), (0, Some(2)));
    assert!(consumer.close().done().await);
    eventually("it is gone", || {
        cluster.member_statistics().is_empty().then_some(())
    })
    .await;
}

/// Notes what a member says.
#[derive(Default)]
struct Notes(Mutex<Vec<Note>>);

#[derive(Clone, Debug, PartialEq)]
enum Note {
    Log(String),
    Statistics(String),
    Assigned(Vec<i32>),
    Revoked(Vec<i32>, bool),
}

impl Notes {
    fn add(&self, note: Note) {
        self.0.lock().unwrap().push(note);
    }

    /// The first that is as wanted.
    fn find<T>(&self, wanted: impl FnMut(&Note) -> Option<T>) -> Option<T> {
        self.0.lock().unwrap().iter().find_map(wanted)
    }
}

fn ids(partitions: &[(String, i32)]) -> Vec<i32> {
    let mut ids: Vec<i32> = partitions.iter().map(|(_, id)| *id).collect();
    ids.sort_unstable();
    ids
}

impl ConsumerObserver for Notes {
    fn log(&self, _: i32, facility: &str, _: &str) {
        self.add(Note::Log(facility.to_owned()));
    }

    fn statistics(&self, json: &str) {
        self.add(Note::Statistics(json.to_owned()));
    }

    fn assigned(&self, partitions: &[(String, i32)]) {
        self.add(Note::Assigned(ids(partitions)));
    }

    fn revoked(&self, partitions: &[(String, i32)], are_lost: bool) {
        self.add(Note::Revoked(ids(partitions), are_lost));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_hears_what_a_member_says() {
    let cluster = open(&shared().bootstrap_servers());
    let topic = new_topic("observed", 2);
    let notes = Arc::new(Notes::default());
    let group = topic_name("observed");
    let own = properties(&[
        ("group.id", group.as_str()),
        ("debug", "cgrp"),
        ("statistics.interval.ms", "50"),
    ]);
    let observer = Arc::<Notes>::clone(&notes);
    let consumer = cluster
        .observed_consumer(&own, &[&topic], observer)
        .unwrap();
    let assigned = |note: &Note| matches!(note, Note::Assigned(_)).then(|| note.clone());
    let note = eventually("it has got partitions", || notes.find(assigned)).await;
    assert_eq!(note, Note::Assigned(vec![0, 1]));
    let said = |note: &Note| match note {
        Note::Statistics(json) => json.contains(&topic).then_some(()),
        _ => None,
    };
    eventually("its statistics", || notes.find(said)).await;
    let logged = |note: &Note| (*note == Note::Log("CGRPSTATE".to_owned())).then_some(());
    assert_eq!(notes.find(logged), Some(()));
    assert_eq!(consumer.held(), 0);
    assert!(consumer.close().done().await);
    let revoked = |note: &Note| matches!(note, Note::Revoked(..)).then(|| note.clone());
    assert_eq!(notes.find(revoked), Some(Note::Revoked(vec![0, 1], false)));
}
