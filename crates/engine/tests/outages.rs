//! Brokers that go and come back.

use crate::support::{
    PATIENCE, at, caller, eventually, join, next, numbers, open, read, send_all, settle, values,
};
use barnabas_testkit::{Cluster, topic_name};
use std::collections::BTreeSet;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn producer_and_consumer_outlive_a_restart_of_the_broker() {
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("restart", 1).unwrap();
    let cluster = open(&kafka.bootstrap_servers());
    let group = topic_name("restart");
    let mut caller = caller(&cluster);
    let topic = caller.topic(b"restart").unwrap();
    send_all(&mut caller, &topic, values(&numbers(0..10)));
    settle(&caller).await;
    let often = [("auto.commit.interval.ms", "100")];
    let consumer = join(&cluster, &group, "one", "restart", &often);
    read(&consumer, 10).await;
    consumer.store(&[at("restart", 0, 10)]).unwrap();

    kafka.broker(0).stop().unwrap();
    send_all(&mut caller, &topic, values(&numbers(10..20)));
    // A topic that nobody could ask for yet waits as well.
    let unresolved = caller.topic(b"not-asked-for").unwrap();
    send_all(&mut caller, &unresolved, values(&numbers(0..1)));
    let waited = tokio::time::timeout(Duration::from_millis(700), consumer.next()).await;
    assert!(waited.is_err(), "a reader goes on waiting");
    assert_eq!(caller.outstanding(), 11);
    let producer = caller.producer().clone();
    let listed = tokio::time::timeout(PATIENCE, producer.topic_names()).await;
    listed.unwrap().unwrap_err();

    kafka.broker(0).start().unwrap();
    settle(&caller).await;
    let report = caller.report();
    assert_eq!((report.delivered, report.failed), (20, 1));
    let mut seen = BTreeSet::new();
    while seen.len() < 10 {
        seen.insert(next(&consumer).await.value);
    }
    assert_eq!(seen, numbers(10..20).into_iter().collect());
    consumer.store(&[at("restart", 0, 20)]).unwrap();
    // Not at the end only: a coordinator that has just come back may still be
    // busy, and closing waits for it no longer than ten seconds.
    eventually("the commit", || {
        (kafka.committed(&group, "restart").unwrap()[&0] == 20).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_does_not_wait_for_ever_for_a_broker_that_is_gone() {
    let kafka = Cluster::builder().start().unwrap();
    kafka.create_topic("gone", 1).unwrap();
    kafka.produce("gone", None, None, Some(b"0")).unwrap();
    let cluster = open(&kafka.bootstrap_servers());
    let consumer = join(&cluster, &topic_name("gone"), "one", "gone", &[]);
    read(&consumer, 1).await;
    consumer.store(&[at("gone", 0, 1)]).unwrap();
    kafka.broker(0).kill().unwrap();
    // The engine gives up after ten seconds.
    tokio::time::timeout(PATIENCE, consumer.close().done())
        .await
        .expect("it is freed nevertheless");
}
