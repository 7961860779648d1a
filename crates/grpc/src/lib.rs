//! The gRPC front end of Barnabas: a drop-in for Kafka-Pixy.
//!
//! Serves the service `KafkaPixy`, as frozen in `proto/kafkapixy.proto`. The
//! contract is `spec/pixy-api.md`, section 4; comments name its sections, and
//! by B and a number those of `spec/consume-and-ack.md`, section 13.
//!
//! In reading order:
//!
//! - `server`: the listener, its connections, their end;
//! - `request`: what is checked before a request is decoded: size, deadline;
//! - `service`: the methods; those with something to do have their own files,
//!   `produce`, `consume`, `ack`, `admin`;
//! - `reply`: knows when a reply has been written;
//! - `errors`: status codes and texts;
//! - `lost`: messages that failed after their reply;
//! - `proto`: the generated code.

mod ack;
mod admin;
mod consume;
mod errors;
mod lost;
mod produce;
pub mod proto;
mod reply;
mod request;
mod server;
mod service;

pub use server::{Error, Server};
