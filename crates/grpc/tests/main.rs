//! The gRPC front end against real brokers, through a client made from the same proto file.
//!
//! `producing`, `consuming`, `acks`: what the methods do. `refusals`: every code and text.
//! `hanging_up`: clients that go away lose nothing. `stopping`: the end. `libraries`: gRPC of
//! Python. `generated`: the committed code. `support`, `raw`: what they have in common.

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
mod hanging_up;
mod libraries;
mod producing;
mod raw;
mod refusals;
mod stopping;
mod support;
