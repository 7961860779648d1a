//! The Redis front end against real brokers: what section 15 of its contract wants to see.
//!
//! `wire`: the conversation of section 10, byte for byte. `identity`: names come back. `timeouts`:
//! how long BLPOP waits. `sharing`: groups over several connections. `acks`: what Kafka has when.
//! `consuming`: subscriptions, forms of replies, errors. `producing`: partitions, unknown topics,
//! counters. `outages`: brokers that go, under load too. `shutdown`: the order in which everything
//! stops. `streams`: the entries of section 13.3, `stream_groups`: its groups, `stream_consumers`: who
//! gets an entry, and for how long, `stream_waits`: who waits for one. `crowds`: a thousand
//! connections, a watcher that does not read. `libraries`: the clients of section 14, in their own
//! languages. `support`: the gateway in this process and a client that speaks bytes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test says what it expects"
)]

mod acks;
mod consuming;
mod crowds;
mod identity;
mod libraries;
mod outages;
mod producing;
mod sharing;
mod shutdown;
mod stream_consumers;
mod stream_groups;
mod stream_waits;
mod streams;
mod support;
mod timeouts;
mod wire;
