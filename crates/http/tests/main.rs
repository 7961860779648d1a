//! The HTTP front end against real Kafka, with reqwest and with curl.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test says what it expects"
)]

mod administration;
mod consuming;
mod producing;
mod support;
mod wire;
