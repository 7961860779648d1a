//! Real Apache Kafka, and a gateway as a child process, for tests and benchmarks.
//!
//! [`Cluster`] starts brokers on this machine; [`shared()`] lends one that all tests of a binary
//! use. [`Gateway`] starts any gateway binary against it. Both are ordinary child processes that
//! end with the test, however it ends. Everything here blocks: an async test uses `spawn_blocking`
//! where that matters.
//!
//! Kafka is fetched with Maven on first use ([`fetch()`]) into `<target>/kafka`. Set
//! `KAFKA_UNDER_TEST=3.9` to run tests against that version instead of 4.1, and
//! `TESTKIT_KEEP=1` to keep the folder of every cluster; after a failure it is kept anyway.
//!
//! In reading order: `fetch` gets Kafka and `prepare` makes it start fast; `builder` says what a cluster is like; `cluster` starts
//! and ends it; `broker` is what tests do to one broker and `node` how that is done; `topics`,
//! `records` and `groups` are questions to the cluster, asked through `client`; `access` and `quotas`
//! bound what others may ask, `network` is what is between them and the cluster; `shared` has the
//! common clusters. `timing` has bounds on time. `gateway` is the process under test and `captured` its output. Below both:
//! `process` (children that cannot be left behind), `procfs`, `ports`, `run_folder`, `paths`,
//! `error`; beside them `tools` installs programs, and `hostile` has clients that attack a gateway.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test says what it expects")
)]

mod access;
mod broker;
mod builder;
mod captured;
mod client;
mod cluster;
mod error;
mod fetch;
mod gateway;
mod groups;
pub mod hostile;
mod network;
mod node;
mod paths;
mod ports;
mod prepare;
mod process;
mod procfs;
mod quotas;
mod records;
mod run_folder;
mod shared;
mod timing;
pub mod tools;
mod topics;

pub use access::Operation;
pub use broker::Broker;
pub use builder::ClusterBuilder;
pub use cluster::Cluster;
pub use error::{Error, Result};
pub use fetch::{KafkaFiles, KafkaVersion, fetch};
pub use gateway::{Gateway, GatewayBuilder, Listening};
pub use groups::GroupMember;
pub use network::{Conditions, Link, Network};
pub use process::{Process, Signal};
pub use records::{NewRecord, Position, Record};
pub use shared::{shared, shared_auto_create, topic_name};
pub use timing::{Quickest, Stalls};
