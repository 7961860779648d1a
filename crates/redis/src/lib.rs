//! The Redis front end of Barnabas: a drop-in for rafka.
//!
//! Any Redis client produces with `RPUSHX topics:<topic>[:<key>] <message>`
//! and consumes with `BLPOP topics:<topic> <seconds>` and
//! `RPUSH acks <topic>:<partition>:<offset>`. The contract is
//! `spec/redis.md`; comments name its sections.
//!
//! In reading order:
//!
//! - `config`: what can be configured;
//! - `server`: listeners, I/O threads, draining;
//! - `connection`: one client: reads, executes, writes;
//! - `session`: what a connection has said and owns;
//! - `codec`: the wire format, without I/O;
//! - `commands`: one file per command or family;
//! - `registry`: what connections know of each other: names, watchers;
//! - `streams`: consumers of streams, which belong to no connection;
//! - `offsets`: how many messages topics keep;
//! - `statistics`: counters of the protocol; `meter`: those of the metrics.

mod codec;
mod commands;
mod config;
mod connection;
#[doc(hidden)]
pub mod fuzzing;
mod meter;
mod offsets;
mod pending;
mod registry;
mod server;
mod session;
mod statistics;
mod stream;
mod streams;

pub use config::{Config, Error, ReplyForm, Secret, TlsFiles, is_rafkas_own, property_text};
pub use server::{Drained, Server};
