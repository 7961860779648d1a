//! What the tests have in common.

use barnabas_engine::{
    Caller, CallerLimits, Cluster, ClusterConfig, Consumer, Position, Properties, Record, Topic,
};
use barnabas_testkit as testkit;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long anything may take that has no bound of its own: a busy machine is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn properties(pairs: &[(&str, &str)]) -> Properties {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// The engine's cluster on these brokers: quick to notice that a broker is back, and that a group
/// has changed (librdkafka's heartbeat interval is 3 s).
pub(crate) fn open(brokers: &str) -> Cluster {
    let mut config = ClusterConfig::default();
    config
        .common
        .set("bootstrap.servers", brokers)
        .set("reconnect.backoff.max.ms", "500");
    config
        .consumer
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "45000")
        .set("heartbeat.interval.ms", "200");
    Cluster::open(config).unwrap()
}

/// A topic on the shared broker that no other test uses.
pub(crate) fn new_topic(prefix: &str, partitions: i32) -> String {
    let topic = testkit::topic_name(prefix);
    testkit::shared().create_topic(&topic, partitions).unwrap();
    topic
}

/// Waits until `holds` has a value.
pub(crate) async fn eventually<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, &mut holds).await
}

/// [`eventually`] with a bound of its own.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &str,
    mut holds: impl FnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = holds() {
            return value;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Records without a key.
pub(crate) fn values(values: &[String]) -> impl ExactSizeIterator<Item = Record<'_>> + Clone {
    values.iter().map(|value| Record {
        key: None,
        value: Some(value.as_bytes()),
    })
}

pub(crate) fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// A caller of the cluster's default producer.
pub(crate) fn caller(cluster: &Cluster) -> Caller {
    cluster
        .producer(&Properties::new())
        .unwrap()
        .caller(CallerLimits::default())
}

/// Sends records that are all taken over.
pub(crate) fn send_all<'a>(
    caller: &mut Caller,
    topic: &Arc<Topic>,
    records: impl ExactSizeIterator<Item = Record<'a>> + Clone,
) {
    let total = records.len();
    let sent = caller.send(topic, records);
    assert_eq!(sent.accepted, total, "{sent:?}");
    assert!(sent.refused.is_empty(), "{sent:?}");
}

pub(crate) async fn settle(caller: &Caller) {
    tokio::time::timeout(PATIENCE, caller.settled())
        .await
        .expect("all reports are in");
}

/// Joins `group` as `name`, with further properties.
pub(crate) fn join(
    cluster: &Cluster,
    group: &str,
    name: &str,
    topic: &str,
    more: &[(&str, &str)],
) -> Consumer {
    let mut own = properties(more);
    own.set("group.id", group).set("client.id", name);
    cluster.consumer(&own, &[topic]).unwrap()
}

/// Waits until the consumer holds `count` partitions.
pub(crate) async fn holds(consumer: &Consumer, count: usize) {
    eventually(&format!("{count} partitions"), || {
        (consumer.assignment().len() == count).then_some(())
    })
    .await;
}

/// What a consumer was given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) value: String,
}

/// The next message.
pub(crate) async fn next(consumer: &Consumer) -> Seen {
    let message = tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .expect("a message comes")
        .unwrap();
    Seen {
        partition: message.partition(),
        offset: message.offset(),
        value: String::from_utf8_lossy(message.value().unwrap_or_default()).into_owned(),
    }
}

/// The next `count` messages; checks that offsets ascend within each partition.
pub(crate) async fn read(consumer: &Consumer, count: usize) -> Vec<Seen> {
    let mut seen: Vec<Seen> = Vec::new();
    let mut last: BTreeMap<i32, i64> = BTreeMap::new();
    while seen.len() < count {
        let message = next(consumer).await;
        if let Some(before) = last.insert(message.partition, message.offset) {
            assert!(before < message.offset, "{message:?} after offset {before}");
        }
        seen.push(message);
    }
    seen
}

/// The position at `offset`.
pub(crate) fn at(topic: &str, partition: i32, offset: i64) -> Position {
    Position {
        topic: topic.to_owned(),
        partition,
        offset,
    }
}

/// Fills each partition of a topic on the shared broker with `count` records.
pub(crate) fn fill(topic: &str, partitions: i32, count: usize) {
    let numbers = numbers(0..count);
    let records = (0..partitions).flat_map(|partition| {
        numbers.iter().map(move |number| testkit::NewRecord {
            partition: Some(partition),
            value: Some(number.as_bytes()),
            ..testkit::NewRecord::default()
        })
    });
    testkit::shared().produce_all(topic, records).unwrap();
}
