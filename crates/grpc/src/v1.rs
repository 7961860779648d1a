//! Messages and client of `proto/barnabas/v1/gateway.proto`.
//!
//! Generated as `proto` is. There is no code for the server: `gateway` says
//! why.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated code is as its generator writes it"
)]

include!("generated/barnabas.v1.rs");
