//! The engine against real brokers.
//!
//! `producing`: accounts, order, partitions, limits. `unknown_topics`: topics that are not there
//! (yet). `direct`: a producer with one owner. `dispatch`: groups for many requests. `groups`: members share, leave and come back. `offsets`: what is stored, and when Kafka
//! has it. `outages`: brokers that go. `partitions`: those of Kafka-Pixy. `administration`: topics and offsets. `embedded`: the cluster in
//! memory. `clock`: the time of day is nothing to wait by. `local`: consumers that keep their offsets. `outbox`: the produce engine; `downtime`: the same without brokers; `faults`: the same while the cluster changes. `examples`: the programs in `examples/`. `support`: what they have in common.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test says what it expects"
)]

mod administration;
mod beginnings;
// Which system calls threads are in is told in numbers of their own on each platform.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod clock;
mod direct;
mod dispatch;
mod downtime;
mod embedded;
mod examples;
mod faults;
mod groups;
mod journal;
mod journal_feed;
mod local;
mod moving;
mod offsets;
mod outages;
mod outbox;
mod partitions;
mod picking;
mod producing;
mod replicas;
mod silence;
mod statistics;
mod support;
mod unknown_topics;
