//! What must hold for any bytes from outside.
//!
//! A target is a function of bytes that panics when something is not as it
//! has to be. `cargo xtask fuzz` lets libFuzzer look for such bytes;
//! `cargo test` replays those that are worth keeping, which are in `corpus`.
//! The page `docs/fuzzing.md` says more.
//!
//! In reading order: the targets of pure readers, `acks`, `resp`, `offsets`,
//! `journal`, `configuration`; those of whole front ends on a cluster in
//! memory, `redis`, `http`, `grpc`, and what they talk to, `world`; `input` and
//! `scratch`, what they share.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "to panic is how a target speaks"
)]

mod acks;
mod configuration;
mod grpc;
mod http;
mod input;
mod journal;
mod offsets;
mod redis;
mod resp;
mod scratch;
mod world;

use std::path::{Path, PathBuf};

/// A target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is called on command lines; its folder in the corpus.
    pub name: &'static str,
    /// Panics when something does not hold for these bytes.
    pub run: fn(&[u8]),
    /// Valid inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    target("acks", acks::run, acks::seeds),
    target("configuration", configuration::run, configuration::seeds),
    target("grpc", grpc::run, grpc::seeds),
    target("http", http::run, http::seeds),
    target("journal", journal::run, journal::seeds),
    target("offsets", offsets::run, offsets::seeds),
    target("redis", redis::run, redis::seeds),
    target("resp", resp::run, resp::seeds),
];

const fn target(name: &'static str, run: fn(&[u8]), seeds: fn() -> Vec<Vec<u8>>) -> Target {
    Target { name, run, seeds }
}

impl Target {
    /// The target of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Where its inputs are kept.
    pub fn corpus(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(self.name)
    }
}
