//! kprf's API (contract, `producer-http.md`, sections 1, 2 and 6): records in
//! JSON on one port, metrics on another.
//!
//! In reading order: `state` (what is configured, what requests share), `push`
//! (one request), `request` and `reply` (its two bodies), `limiter`, `clients` and
//! `admission` (what is taken), `rules` (what may change meanwhile), `handing`
//! (records on their way out of a request), `engine` (what is asked of the
//! engine), `batch` (records under way), `dead_letters`, `metrics`;
//! `crate::page` is the metrics port.

mod admission;
mod batch;
mod clients;
mod dead_letters;
mod engine;
mod handing;
mod limiter;
mod metrics;
mod push;
mod reply;
mod request;
mod rules;
mod state;

pub use engine::KprfProducers;
pub use limiter::RateRule;
pub use reply::ReplyShape;
pub use rules::DeadLetterTopics;
pub use state::{Kprf, KprfOptions};

use crate::reply::{self as replies, Reply};
use crate::sender::Sender;
use crate::trace;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Method, Request, StatusCode};

/// A request to the main port: it knows one path.
pub(crate) async fn answer(kprf: &Kprf, sender: Sender<'_>, request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    if !matches!(head.uri.path(), "/push" | "/push/") {
        return replies::empty(StatusCode::NOT_FOUND);
    }
    if head.method != Method::POST {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        kprf.state.metrics.rejected(status.as_u16());
        let mut reply = replies::with_body(status, push::PLAIN, "HTTP method not allowed");
        let headers = reply.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
        return reply;
    }
    let (trace, mut span) = trace::begin(sender.tracing, &head);
    trace::route(&mut span, &head.method, "/push");
    let reply = push::push(&kprf.state, &sender, &head, body, &trace).await;
    trace::end(span, reply.status());
    reply
}
