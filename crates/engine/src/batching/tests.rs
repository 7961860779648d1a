//! On librdkafka's mock.

use super::{Batching, TopicBatching};
use crate::cluster::{Cluster, ClusterConfig};
use crate::outbox::PerTopic;
use crate::producer::{Caller, CallerLimits, Producer, Record};
use crate::properties::Properties;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext as Context;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any test waits.
const LONG: Duration = Duration::from_secs(200);

fn batching(linger: Duration, messages: Option<u32>) -> Batching {
    let own = TopicBatching {
        linger: Some(linger),
        messages,
    };
    Batching::new(PerTopic::default().with("t", own))
}

/// A mock with the topic `t`, and a producer.
fn start(
    batching: &Batching,
    properties: &[(&str, &str)],
) -> (MockCluster<'static, Context>, Producer) {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let mut config = ClusterConfig {
        batching: batching.clone(),
        ..ClusterConfig::default()
    };
    let servers = mock.bootstrap_servers();
    config.common.set("bootstrap.servers", servers);
    for (name, value) in properties {
        config.producer.set(*name, *value);
    }
    let cluster = Cluster::open(config).unwrap();
    (mock, cluster.producer(&Properties::new()).unwrap())
}

fn send(caller: &mut Caller, count: usize) {
    let topic = caller.topic(b"t").unwrap();
    let record = Record {
        key: None,
        value: Some(b"x"),
    };
    let sent = caller.send(&topic, std::iter::repeat_n(record, count));
    assert_eq!(sent.accepted, count);
}

async fn delivered(caller: &Caller, count: u64) {
    let settled = tokio::time::timeout(PATIENCE, caller.settled()).await;
    let report = caller.report();
    assert!(settled.is_ok(), "{report:?}");
    assert_eq!((report.delivered, report.failed), (count, 0), "{report:?}");
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_leaves_before_its_client_would_also_with_the_next_client() {
    let client = [("linger.ms", "200000")];
    let (_mock, producer) = start(&batching(Duration::ZERO, None), &client);
    let mut caller = producer.caller(CallerLimits::default());
    send(&mut caller, 1);
    delivered(&caller, 1).await;
    producer.fail_for_good();
    eventually("another client", || producer.statistics().renewed == 1).await;
    send(&mut caller, 1);
    delivered(&caller, 2).await;
    let waits = producer.submit("t", None, Record::default(), &[], None);
    let told = tokio::time::timeout(PATIENCE, waits.unwrap().delivered()).await;
    assert_eq!(told.unwrap().unwrap().offset, 2);
}

/// The broker could not tell that it has it already, and the client would give up
/// for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_sent_again_is_the_same_one_whatever_is_said_by_then() {
    let own = batching(LONG, Some(10));
    let patience = [
        ("retry.backoff.ms", "1000"),
        ("statistics.interval.ms", "50"),
    ];
    let (mock, producer) = start(&own, &patience);
    let mut caller = producer.caller(CallerLimits::default());
    let again = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;
    mock.request_errors(RDKafkaApiKey::Produce, &[again; 1_000]);
    send(&mut caller, 10);
    // Each attempt counts.
    let sent = |said: &str| {
        let counts = said.split(r#""txmsgs":"#).skip(1);
        let counts = counts.filter_map(|rest| rest.split(',').next()?.parse::<u64>().ok());
        counts.max().unwrap_or(0)
    };
    eventually("it is on its way", || {
        let said = producer.client_statistics();
        said.is_some_and(|said| sent(&said) >= 10)
    })
    .await;
    own.replace(&batching(LONG, Some(3)));
    send(&mut caller, 2);
    assert_eq!(caller.report().delivered, 0, "it is tried again");
    mock.clear_request_errors(RDKafkaApiKey::Produce);
    send(&mut caller, 1);
    delivered(&caller, 13).await;
    assert_eq!(producer.statistics().renewed, 0);
}
