//! The engine of Barnabas: all of Kafka, and no protocol of its own.
//!
//! Front ends translate their protocol into the calls of this crate and its
//! values back into replies. It can also be used alone, as a Kafka library
//! with shared producers and consumers that cost no thread of the caller.
//!
//! In reading order:
//!
//! - `properties`: librdkafka properties as written by users, and what is
//!   wrong with them; `outdated`: as they were written once;
//! - `cluster`: a Kafka cluster, its shared producers, its consumers;
//! - `producer`: one producer for many callers, each of which can wait for
//!   exactly its own messages;
//! - `direct`: a producer with one owner, for other languages' processes;
//! - `journal`: records that are on disk before their callers are told;
//! - `outbox`: producing that outlives Kafka's absence: strategies, batches,
//!   a buffer for downtime, events;
//! - `consumer`: members of consumer groups, their rebalances and acks;
//! - `local`: consumers that keep their offsets in files of their own;
//! - `strategies`: partition strategies per topic for the shared producers;
//! - `batching`: when their batches leave, per topic;
//! - `dispatch`: groups for many short requests that acknowledge message by
//!   message;
//! - `acks`: acknowledgements message by message, in any order;
//! - `admin`: topics, offsets of groups, members of groups;
//! - `proxies`: clusters by name, for Kafka-Pixy's users;
//! - `wording`: what they are told when something goes wrong;
//! - `replicas`: acknowledgements for other processes;
//! - `trace`: to which trace a request belongs, and what is told of it;
//! - `access`: bearer tokens and what they may do;
//! - `room`, `newcomers`: what bounds memory and connections of all front
//!   ends;
//! - `embedded`: a cluster in memory, for trying things out;
//! - `error`: everything that can go wrong;
//! - `by_name`, `news`: what is kept of names from outside, what the log
//!   repeats;
//! - `native`: the only unsafe code, librdkafka's C API.
//!
//! Runnable: `examples/produce.rs`, `examples/consume.rs`,
//! `examples/outbox.rs`.

mod access;
mod acks;
mod admin;
mod batching;
mod by_name;
mod cluster;
mod consumer;
mod direct;
mod dispatch;
mod embedded;
mod error;
mod journal;
mod local;
mod native;
mod newcomers;
mod news;
mod outbox;
mod outdated;
mod producer;
mod properties;
mod proxies;
mod replicas;
mod room;
mod strategies;
mod trace;
mod wording;

pub use access::{Access, Action, Denied, Grant, bearer_token};
pub use acks::{AckPolicy, Acked, Due, MalformedAcks, Snapshot, Tracker};
pub use admin::{
    Admin, GroupDescription, GroupOffset, MemberDescription, NewGroupOffset, PartitionDescription,
    TopicDescription,
};
pub use batching::{Batching, TopicBatching};
pub use cluster::{Cluster, ClusterConfig};
pub use consumer::{
    Closing, ConsumedStatistics, Consumer, ConsumerObserver, MemberStatistics, Position,
};
pub use direct::{
    DirectConfig, DirectHeader, DirectObserver, DirectOutcome, DirectProducer, DirectRecord,
    Draining, OutcomeSink, Refusal, ViewError, Viewer,
};
pub use dispatch::{
    AckError, AckMode, Consume, ConsumeError, ConsumedRecord, Delivered, Deliveries,
    DispatchConfig, Dispatcher, GroupStatistics, Held, Holder, InitialOffset, PartitionStatistics,
    ReplyBytes,
};
pub use embedded::EmbeddedCluster;
pub use error::{Error, ErrorCode, KafkaError};
pub use journal::{
    Appended, Durabilities, Durability, Headers, Journal, JournalError, JournalOptions,
    JournalRecord, JournalReport, JournalStatistics, Journaled, OnFull, REPLAYED_HEADER, Reason,
    Refused, SegmentReport, SyncMode, TopicReport, inspect,
};
pub use local::{
    BatchNumber, BatchSummary, LocalBatch, LocalConfig, LocalConsumer, LocalMark, LocalRecord,
    LocalSink, OffsetDirectory, OffsetError, OffsetLocks, Progress, Repeat, SlotError, WorkerSlot,
};
pub use native::{
    BrokerAddress, ClusterView, Message, PartitionPlace, TimestampKind, TopicPlaces,
    librdkafka_version,
};
pub use newcomers::{Newcomer, Newcomers};
pub use outbox::{
    Admission, AllAnswers, Answers, Buffered, DowntimePolicy, Dropped, Event, Events,
    ForgottenTopics, Happening, Header, Hearer, KeptRecord, MassageBuffer, Massaged, Mode,
    NewRecord, OVERHEAD, OneLarge, Outbox, OutboxBuilder, OutboxInfo, OutboxSettings, OutboxTopic,
    Outcome, PartitionPicker, PartitionView, Payload, PerTopic, Permit, Pick, Picked, Place,
    ProduceError, ProduceSink, Statsd, StatsdConfig, Strategy, TopicCounts, TopicInfo,
    TopicSettings, TopicState, TopicView, phash2,
};
pub use outdated::bring_up_to_date;
pub use producer::{
    Caller, CallerLimits, CallerReport, Delivery, DeliverySink, Destination, DropReason, Drops,
    Producer, ProducerStatistics, Record, Sent, Stored, Submitted, Topic, TopicStatistics,
    Undelivered, is_legal_name as is_legal_topic_name,
};
pub use properties::Properties;
pub use proxies::{Proxies, Proxy, ProxyOptions, SetOffsetsError, UnknownProxy};
pub use replicas::{PeerAcks, PeerReply, Peers, Replicas, client_id_at, split_client_id};
pub use room::{Kept, Room, Taken};
pub use strategies::{Strategies, TopicStrategy};
pub use trace::{
    Attribute, BAGGAGE, FinishedSpan, Link, RequestTrace, Sampler, Sending, Span, SpanContext,
    SpanCounts, SpanKind, SpanQueue, SpanStatus, TRACEPARENT, TRACESTATE, TraceContext, Tracer,
    Tracing,
};
pub use wording::{
    CLUSTER_UNREACHABLE, CONSUMING_DISABLED, HEADERS_UNSUPPORTED, SHUTTING_DOWN, TOO_MANY_REQUESTS,
    sarama_text, sarama_text_of,
};
