//! The HTTP front end: Kafka-Pixy's REST API on the engine.
//!
//! In reading order: `server` (listeners, connections, stopping), `pixy` (the
//! routes and what each does), `parameters` (query strings and forms),
//! `reply` (bodies; what a reply that is written, or not, means for the
//! messages in it).
//!
//! Contract: `pixy-api.md`.

mod parameters;
mod pixy;
mod reply;
mod server;

pub use server::{Listener, Server};
