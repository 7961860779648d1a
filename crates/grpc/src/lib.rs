//! The gRPC front end of Barnabas: a drop-in for Kafka-Pixy, and streams.
//!
//! Serves the service `KafkaPixy`, as frozen in `proto/kafkapixy.proto`, and
//! `barnabas.v1.Gateway`, `proto/barnabas/v1/gateway.proto`. The contract is
//! `spec/pixy-api.md`, section 4; comments name its sections, and by B and a
//! number those of `spec/consume-and-ack.md`, section 13.
//!
//! In reading order:
//!
//! - `server`: the listener, its connections, their end;
//! - `routes`: which service a request is for;
//! - `request`: what is looked at before a request is decoded;
//! - `access`: who may do what;
//! - `service`: the methods of `KafkaPixy`; those with something to do have
//!   their own files, `produce`, `consume`, `ack`, `admin`;
//! - `gateway`: the methods of `barnabas.v1.Gateway`;
//! - `standard`: health and reflection;
//! - `peers`: acknowledgements handed to other replicas;
//! - `meter`: what is counted;
//! - `reply`: knows when a reply has been written;
//! - `trace`: the traces that requests belong to;
//! - `errors`: status codes and texts;
//! - `proto`, `v1`: the generated code.

mod access;
mod ack;
mod admin;
mod consume;
mod errors;
mod gateway;
mod meter;
mod peers;
mod produce;
pub mod proto;
mod reply;
mod request;
mod routes;
mod server;
mod service;
mod standard;
mod trace;
pub mod v1;

pub use meter::meter;
pub use peers::{BadToken, PeerClient};
pub use server::{Error, Options, Server};
