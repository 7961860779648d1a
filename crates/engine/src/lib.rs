//! The engine of Barnabas: all of Kafka, and no protocol of its own.
//!
//! Front ends translate their protocol into the calls of this crate and its
//! values back into replies. It can also be used alone, as a Kafka library
//! with shared producers and consumers that cost no thread of the caller.
//!
//! In reading order:
//!
//! - `properties`: librdkafka properties as written by users, and what is
//!   wrong with them;
//! - `cluster`: a Kafka cluster, its shared producers, its consumers;
//! - `producer`: one producer for many callers, each of which can wait for
//!   exactly its own messages;
//! - `consumer`: members of consumer groups, their rebalances and acks;
//! - `dispatch`: groups for many short requests that acknowledge message by
//!   message;
//! - `acks`: acknowledgements message by message, in any order;
//! - `admin`: topics, offsets of groups, members of groups;
//! - `proxies`: clusters by name, for Kafka-Pixy's users;
//! - `embedded`: a cluster in memory, for trying things out;
//! - `error`: everything that can go wrong;
//! - `native`: the only unsafe code, librdkafka's C API.
//!
//! Runnable: `examples/produce.rs`, `examples/consume.rs`.

mod acks;
mod admin;
mod cluster;
mod consumer;
mod dispatch;
mod embedded;
mod error;
mod native;
mod news;
mod producer;
mod properties;
mod proxies;

pub use acks::{AckPolicy, Acked, Due, MalformedAcks, Snapshot, Tracker};
pub use admin::{
    Admin, GroupDescription, GroupOffset, MemberDescription, NewGroupOffset, PartitionDescription,
    TopicDescription,
};
pub use cluster::{Cluster, ClusterConfig};
pub use consumer::{Closing, Consumer, Position};
pub use dispatch::{
    AckError, AckMode, Consume, ConsumeError, ConsumedRecord, Delivered, Deliveries,
    DispatchConfig, Dispatcher, InitialOffset,
};
pub use embedded::EmbeddedCluster;
pub use error::{Error, ErrorCode, KafkaError};
pub use native::{Message, librdkafka_version};
pub use producer::{
    Caller, CallerLimits, CallerReport, Delivery, Producer, ProducerStatistics, Record, Sent,
    Submitted, Topic,
};
pub use properties::Properties;
pub use proxies::{
    CONSUMING_DISABLED, HEADERS_UNSUPPORTED, Proxies, Proxy, ProxyOptions, SHUTTING_DOWN,
    TOO_MANY_REQUESTS, UnknownProxy, sarama_text, sarama_text_of,
};
