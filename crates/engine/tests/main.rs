//! The engine against real brokers.
//!
//! `producing`: accounts, order, partitions, limits. `unknown_topics`: topics that are not there
//! (yet). `dispatch`: groups for many requests. `groups`: members share, leave and come back. `offsets`: what is stored, and when Kafka
//! has it. `outages`: brokers that go. `partitions`: those of Kafka-Pixy. `administration`: topics and offsets. `embedded`: the cluster in
//! memory. `examples`: the programs in `examples/`. `support`: what they have in common.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test says what it expects"
)]

mod administration;
mod dispatch;
mod embedded;
mod examples;
mod groups;
mod offsets;
mod outages;
mod partitions;
mod producing;
mod support;
mod unknown_topics;
