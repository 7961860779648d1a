//! The binary as its users meet it: flags, files, exit codes, signals.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

mod batching;
mod collector;
mod command_line;
mod descriptors;
mod dev;
mod hostile;
mod journal;
mod kafboy;
mod kafboy_journal;
mod kafboy_ports;
mod kprf;
mod metrics;
mod overload;
mod readme;
mod reload;
mod renewal;
mod replicas;
mod sasl;
mod serve;
mod signals;
mod strategies;
mod support;
mod telemetry;
mod tls;
