//! The gRPC front end against real brokers, through a client made from the same proto file.
//!
//! `producing`, `consuming`, `acks`, `administration`: what the old methods do. `stream_consume`,
//! `stream_produce`: the streams. `peers`: acknowledgements for other replicas. `refusals`: every
//! code and text. `guarding`: tokens, bounds, names of requests. `hanging_up`: clients that go away
//! lose nothing. `stopping`: the end. `libraries`: gRPC of Go and Python, grpcurl. `generated`: the
//! committed code. `support`, `raw`: what they have in common.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test says what it expects"
)]

mod acks;
mod administration;
mod consuming;
mod generated;
mod guarding;
mod hanging_up;
mod libraries;
mod peers;
mod producing;
mod raw;
mod refusals;
mod stopping;
mod stream_consume;
mod stream_produce;
mod support;
mod tracing;
