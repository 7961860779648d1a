//! The HTTP front ends: Kafka-Pixy's REST API with the native one (`/v1`),
//! kprf's and kafboy's, on the engine.
//!
//! In reading order: `server` (listeners, connections, stopping), `service`
//! (a request from its first line to its reply), `routes` (the table of all
//! routes), `pixy` and `v1` (what each does, a file per endpoint), `openapi`
//! (the document, from the table); `cors`, `request_id`, `sender`,
//! `trace`; `parameters` (query
//! strings and forms), `accept` (which form a reply takes), `body`, `inflate`,
//! `json`, `reply` (bytes in and out; what a reply that is written, or not, means for
//! the messages in it); `meter` (what is counted), `page` (the metrics port). `kprf` and
//! `kafboy` are APIs of their own, on ports of their own; `pace` is when they have room
//! again.
//!
//! Contracts: `pixy-api.md`; `producer-http.md`; `docs/http-api.md` for the native API.

mod accept;
mod body;
mod cors;
mod inflate;
mod json;
mod kafboy;
mod kprf;
mod meter;
mod openapi;
mod pace;
mod page;
mod parameters;
mod pixy;
mod reply;
mod request_id;
mod routes;
mod sender;
mod server;
mod service;
mod trace;
mod turns;
mod v1;

pub use kafboy::{
    EditJson, HookAnswer, HookFailure, HookMessage, HookOutcome, HookPair, HookRecord, HookRequest,
    InvalidRoute, Kafboy, KafboyLevels, KafboyOptions, ValveOptions,
};
pub use kprf::{DeadLetterTopics, Kprf, KprfOptions, KprfProducers, RateRule, ReplyShape};
pub use meter::meter;
pub use page::{ClientQuery, Health, Observed};
pub use server::{Listener, Options, Server};
pub use v1::IdempotencyOptions;
