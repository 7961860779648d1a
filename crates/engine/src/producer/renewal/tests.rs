//! Producers whose clients fail for good, on librdkafka's mock.

use super::super::{
    Caller, CallerLimits, DeliverySink, Destination, Producer, Record, Undelivered,
};
use crate::cluster::{Cluster, ClusterConfig};
use crate::error::{Error, ErrorCode, KafkaError};
use crate::producer::Delivery;
use crate::properties::Properties;
use parking_lot::Mutex;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext as Context;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A mock with a topic, and the shared producer of a cluster.
fn start() -> (MockCluster<'static, Context>, Producer) {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("t", 1, 1).unwrap();
    let mut config = ClusterConfig::default();
    config
        .common
        .set("bootstrap.servers", mock.bootstrap_servers())
        // A broker that is back is found at once.
        .set("reconnect.backoff.max.ms", "50")
        .set("reconnect.backoff.ms", "10");
    let cluster = Cluster::open(config).unwrap();
    (mock, cluster.producer(&Properties::new()).unwrap())
}

fn record(value: &'static str) -> Record<'static> {
    Record {
        key: None,
        value: Some(value.as_bytes()),
    }
}

/// Waits until the client has been replaced so often.
async fn renewed(producer: &Producer, times: u64) {
    let begun = Instant::now();
    while producer.statistics().renewed < times {
        assert!(begun.elapsed() < PATIENCE, "{:?}", producer.statistics());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn settled(caller: &Caller) {
    let settled = tokio::time::timeout(PATIENCE, caller.settled()).await;
    assert!(settled.is_ok(), "{:?}", caller.report());
}

fn is_fatal(error: Option<KafkaError>) -> bool {
    error.is_some_and(|error| error.is(ErrorCode::Fatal))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_goes_on_with_the_next_client() {
    let (mock, producer) = start();
    let mut caller = producer.caller(CallerLimits::default());
    let topic = caller.topic(b"t").unwrap();
    assert_eq!(caller.send(&topic, [record("a")].into_iter()).accepted, 1);
    settled(&caller).await;
    assert_eq!(caller.report().delivered, 1);

    mock.broker_down(1).unwrap();
    let lost = [record("b"), record("c")].into_iter();
    assert_eq!(caller.send(&topic, lost).accepted, 2);
    producer.fail_for_good();
    // They are given up, although there is nobody to send to.
    settled(&caller).await;
    let report = caller.report();
    assert_eq!((report.delivered, report.failed), (1, 2));
    assert!(is_fatal(report.last_error), "{report:?}");
    renewed(&producer, 1).await;

    // The same caller, and the topic that it had.
    let later = [record("d"), record("e"), record("f")].into_iter();
    let sent = caller.send(&topic, later);
    assert_eq!((sent.accepted, sent.refused.len()), (3, 0));
    mock.broker_up(1).unwrap();
    settled(&caller).await;
    let report = caller.report();
    assert_eq!((report.delivered, report.failed), (4, 2), "{report:?}");
    let statistics = producer.statistics();
    assert_eq!((statistics.delivered, statistics.failed), (4, 2));
    assert_eq!((statistics.outstanding, statistics.accepted), (0, 6));
    assert_eq!(producer.flush(Instant::now() + PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_topic_goes_to_the_next_client() {
    let (mock, producer) = start();
    mock.broker_down(1).unwrap();
    let mut caller = producer.caller(CallerLimits::default());
    let topic = caller.topic(b"t").unwrap();
    let sent = caller.send(&topic, [record("a"), record("b")].into_iter());
    assert_eq!(sent.accepted, 2);
    producer.fail_for_good();
    renewed(&producer, 1).await;
    mock.broker_up(1).unwrap();
    settled(&caller).await;
    let report = caller.report();
    assert_eq!((report.delivered, report.failed), (2, 0), "{report:?}");
}

/// Keeps what it hears, by number.
#[derive(Default)]
struct Heard(Mutex<Vec<(u64, Result<i64, KafkaError>)>>);

impl DeliverySink for Heard {
    fn settled(&self, number: u64, _: u64, result: Result<Delivery, Undelivered<'_>>) {
        let result = result.map(|delivery| delivery.offset);
        let result = result.map_err(|undelivered| undelivered.error);
        self.0.lock().push((number, result));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_is_told_and_destinations_stay_good() {
    let (mock, producer) = start();
    let destination: Arc<Destination> = producer.destination("t").unwrap();
    let heard = Arc::new(Heard::default());
    let sink: Arc<dyn DeliverySink> = Arc::<Heard>::clone(&heard);
    let submit = |number| {
        let to = (&sink, number);
        producer.submit_for(&destination, None, record("x"), &[("h", None)], None, to)
    };
    let one = producer.deliver("t", None, record("a"), &[], None).await;
    assert_eq!(one.unwrap().offset, 0);
    for round in 1..=2 {
        mock.broker_down(1).unwrap();
        let waits = producer.submit("t", None, record("b"), &[], None).unwrap();
        submit(round * 10).unwrap();
        producer.fail_for_good();
        let told = tokio::time::timeout(PATIENCE, waits).await.unwrap();
        let told = match told {
            Err(Error::Kafka { error }) => Some(error),
            _ => None,
        };
        assert!(is_fatal(told), "{told:?}");
        renewed(&producer, round).await;
        submit(round * 10 + 1).unwrap();
        mock.broker_up(1).unwrap();
        let after = producer.deliver("t", None, record("c"), &[], None);
        let after = tokio::time::timeout(PATIENCE, after).await.unwrap();
        // Behind the one through the destination.
        assert_eq!(after.unwrap().offset, i64::try_from(round).unwrap() * 2);
    }
    let heard = heard.0.lock();
    let told = heard.iter().map(|(number, told)| (*number, told.is_ok()));
    let told: Vec<(u64, bool)> = told.collect();
    assert_eq!(told, [(10, false), (11, true), (20, false), (21, true)]);
    assert!(
        heard
            .iter()
            .all(|(_, told)| told.is_ok() || is_fatal(told.err()))
    );
}

/// The broker's own word, in the middle of many messages.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_has_lost_its_place_costs_what_was_on_its_way() {
    let (mock, producer) = start();
    let mut caller = producer.caller(CallerLimits::default());
    let topic = caller.topic(b"t").unwrap();
    caller.send(&topic, [record("a")].into_iter());
    settled(&caller).await;
    let lost = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER];
    mock.request_errors(RDKafkaApiKey::Produce, &lost);
    let mut accepted = 1;
    while producer.statistics().renewed == 0 {
        accepted += caller.send(&topic, [record("b")].into_iter()).accepted as u64;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for _ in 0..10 {
        accepted += caller.send(&topic, [record("c")].into_iter()).accepted as u64;
    }
    settled(&caller).await;
    let report = caller.report();
    assert_eq!(report.accepted, accepted);
    assert_eq!(report.delivered + report.failed, accepted, "{report:?}");
    assert!(report.failed >= 1 && report.delivered >= 11, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_fails_as_soon_as_it_is_made_is_not_replaced_without_a_pause() {
    let (_mock, producer) = start();
    let begun = Instant::now();
    for times in 1..=3 {
        producer.fail_for_good();
        renewed(&producer, times).await;
    }
    // Nothing before the first, one second, two.
    assert!(begun.elapsed() >= Duration::from_secs(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_others_replace_stays_dead() {
    let (_mock, shared) = start();
    drop(shared);
    let mut config = ClusterConfig::default();
    config.common.set("bootstrap.servers", "127.0.0.1:1");
    let cluster = Cluster::open(config).unwrap();
    let own = Properties::new();
    let producer = cluster.mortal_producer(&own).unwrap();
    producer.fail_for_good();
    assert!(producer.fatal_error().is_some());
    let next = cluster.renewed_producer(&own, &producer).unwrap();
    assert!(!next.is(&producer) && next.fatal_error().is_none());
    assert!(cluster.renewed_producer(&own, &producer).unwrap().is(&next));
    assert!(
        !cluster.producer(&own).unwrap().is(&next),
        "plain ones are others"
    );
    assert_eq!(producer.statistics().renewed, 0);
}
