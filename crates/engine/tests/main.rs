//! The engine against real brokers.
//!
//! `producing`: accounts, order, partitions, limits. `unknown_topics`: topics that are not there
//! (yet). `direct`: a producer with one owner. `dispatch`: groups for many requests. `groups`: members share, leave and come back. `offsets`: what is stored, and when Kafka
//! has it. `outages`: brokers that go. `partitions`: those of Kafka-Pixy. `administration`: topics and offsets. `embedded`: the cluster in
//! memory. `local`: consumers that keep their offsets. `outbox`: the produce engine; `downtime`: the same without brokers; `faults`: the same while the cluster changes. `examples`: the programs in `examples/`. `support`: what they have in common.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test says what it expects"
)]

mod administration;
mod beginnings;
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
