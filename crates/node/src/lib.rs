//! The native part of the npm package `barnabas-kafka`.
//!
//! A thin binding: what Kafka needs is done by `barnabas-engine`, what the
//! package's users see is done by the JavaScript in `lib`. Each direction is
//! crossed once per batch: into here with all messages of a call in one
//! buffer, out of here by one wake-up, after which JavaScript takes everything
//! that has gathered.
//!
//! In reading order:
//!
//! - `mailbox`: what waits for JavaScript, and the wake-up;
//! - `said`: log lines and errors;
//! - `config`: what a handle's options mean to librdkafka;
//! - `frames`: records in a buffer;
//! - `producer`: the handle of a producer;
//! - `consumer`: the handle of a consumer;
//! - `group`: the handle of a member of a consumer group;
//! - `lanes`: the numbers of its partitions;
//! - `holding`: which partitions a member has got and lost;
//! - `batches`: consumed messages in buffers;
//! - `progress`: what was missed, what may be committed;
//! - `offsets`: the offset directory;
//! - `metadata`: asking about topics.

mod batches;
mod config;
mod consumer;
mod frames;
mod group;
mod holding;
mod lanes;
mod mailbox;
mod metadata;
mod offsets;
mod producer;
mod progress;
mod said;

use napi_derive::napi;

/// The version of the librdkafka that is linked in.
#[napi]
pub fn librdkafka_version() -> String {
    barnabas_engine::librdkafka_version()
}
