//! The test kit against real brokers and real processes.
//!
//! `cluster`: one broker and three, their life and death. `data`: topics, records and groups.
//! `leftovers`: nothing stays behind. `network` and `access`: what stands between brokers and clients. `gateway`: a child process is followed and measured. `tools`:
//! missing programs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test says what it expects"
)]

mod access;
mod cluster;
mod data;
mod gateway;
mod leftovers;
mod network;
mod tools;
