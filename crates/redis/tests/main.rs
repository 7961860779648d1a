//! The Redis front end as clients see it: bytes over a socket, against
//! librdkafka's mock cluster. What needs a real Kafka is tested elsewhere.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test says what it expects"
)]

mod support;

mod clients;
mod commands;
mod describe;
mod faults;
mod framing;
mod handshake;
mod limits;
mod listeners;
mod monitor;
mod multi;
mod names;
mod preludes;
mod produce;
mod pubsub;
mod queue;
mod tls;
mod topics;
