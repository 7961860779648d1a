//! What a broker says of the cluster and of a topic, whole.

use super::{Client, NativeTopic, text};
use rdkafka::bindings as sys;
use std::ffi::c_int;
use std::time::Duration;

/// A broker's answer to a question about a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// The broker that has answered.
    pub origin: BrokerAddress,
    /// All brokers.
    pub brokers: Vec<BrokerAddress>,
    /// The topics asked about.
    pub topics: Vec<TopicPlaces>,
}

/// Where a broker is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Its node id; -1 before it has told.
    pub id: i32,
    /// Its host; of the origin what the log calls it.
    pub host: String,
    /// Its port; 0 of the origin.
    pub port: i32,
}

/// A topic's partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicPlaces {
    /// Its name.
    pub name: String,
    /// Kafka's error number; 0 is none.
    pub error: i32,
    /// Its partitions.
    pub partitions: Vec<PartitionPlace>,
}

/// Where a partition is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionPlace {
    /// The partition.
    pub id: i32,
    /// Kafka's error number; 0 is none.
    pub error: i32,
    /// The broker that leads it; -1: none does.
    pub leader: i32,
    /// The brokers that keep it.
    pub replicas: Vec<i32>,
    /// Those of them that are in sync.
    pub in_sync: Vec<i32>,
}

impl Client {
    /// Asks a broker about a topic, which a broker that creates topics on use
    /// creates; blocks up to `timeout`. The error is a librdkafka error
    /// number.
    pub(crate) fn view(&self, topic: &NativeTopic, timeout: Duration) -> Result<ClusterView, i32> {
        let milliseconds = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
        let mut metadata: *const sys::rd_kafka_metadata = std::ptr::null();
        // SAFETY: on success `metadata` points to a tree that is ours until it
        // is destroyed below; nothing of it is kept.
        unsafe {
            let error = sys::rd_kafka_metadata(
                self.pointer.as_ptr(),
                0,
                topic.pointer.as_ptr(),
                &raw mut metadata,
                milliseconds,
            );
            if error as i32 != 0 {
                return Err(error as i32);
            }
            let Some(tree) = metadata.as_ref() else {
                return Ok(ClusterView::default());
            };
            let view = ClusterView {
                origin: BrokerAddress {
                    id: tree.orig_broker_id,
                    host: text(tree.orig_broker_name),
                    port: 0,
                },
                brokers: slice(tree.brokers, tree.broker_cnt)
                    .iter()
                    .map(|broker| BrokerAddress {
                        id: broker.id,
                        host: text(broker.host),
                        port: broker.port,
                    })
                    .collect(),
                topics: slice(tree.topics, tree.topic_cnt)
                    .iter()
                    .map(|topic| topic_places(topic))
                    .collect(),
            };
            sys::rd_kafka_metadata_destroy(metadata);
            Ok(view)
        }
    }
}

/// # Safety
/// What `topic` points to is alive.
unsafe fn topic_places(topic: &sys::rd_kafka_metadata_topic) -> TopicPlaces {
    // SAFETY: by the caller.
    unsafe {
        TopicPlaces {
            name: text(topic.topic),
            error: topic.err as i32,
            partitions: slice(topic.partitions, topic.partition_cnt)
                .iter()
                .map(|partition| PartitionPlace {
                    id: partition.id,
                    error: partition.err as i32,
                    leader: partition.leader,
                    replicas: slice(partition.replicas, partition.replica_cnt).to_vec(),
                    in_sync: slice(partition.isrs, partition.isr_cnt).to_vec(),
                })
                .collect(),
        }
    }
}

/// # Safety
/// `pointer` points to `count` elements that outlive `'a`, or `count` is 0.
pub(super) unsafe fn slice<'a, T>(pointer: *const T, count: c_int) -> &'a [T] {
    match usize::try_from(count) {
        // SAFETY: by the caller.
        Ok(count) if count > 0 => unsafe { std::slice::from_raw_parts(pointer, count) },
        _ => &[],
    }
}
