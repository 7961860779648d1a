//! Messages, service and client of `proto/kafkapixy.proto`.
//!
//! `tests/generated.rs` generates the code; so nobody who builds needs to.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated code is as its generator writes it"
)]

include!("generated/kafkapixy.rs");
