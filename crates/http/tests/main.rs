//! The HTTP front end against real Kafka, with reqwest and with curl.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test says what it expects"
)]

mod administration;
mod connections;
mod consuming;
mod document;
mod idempotency;
mod kafboy;
mod kprf;
mod native;
mod native_producing;
mod problems;
mod producing;
mod support;
mod tokens;
mod tracing;
mod wire;
