//! The methods of `barnabas.v1.Gateway` (contract, B5).
//!
//! Routed here rather than by generated code: that knows only replies whose
//! frames are plain `Bytes`, and a frame with messages must tell when it has
//! been written (`reply`).

mod ack;
mod consume;
mod produce;
mod stream;

use crate::access::Caller;
use crate::reply::Body;
use crate::request::{Checked, MAX_MESSAGE};
use barnabas_engine::{Access, Proxies, RequestTrace, Span};
use http::{Request, Response};
use hyper::body::Incoming;
use std::sync::Arc;
pub(crate) use stream::Output;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;
use tonic::server::Grpc;
use tonic_prost::ProstCodec;

/// Where the methods are.
pub(crate) const PATH: &str = "/barnabas.v1.Gateway/";

/// Positions in one frame or request.
const MAX_POSITIONS: usize = 20_000;

/// The service.
pub(crate) struct Gateway {
    proxies: Arc<Proxies>,
    access: Arc<Access>,
    /// The server stops, at the end of everything.
    stopping: watch::Receiver<bool>,
}

impl Gateway {
    pub(crate) fn new(
        proxies: Arc<Proxies>,
        access: Arc<Access>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            proxies,
            access,
            stopping,
        }
    }

    /// One request; `method` is what comes behind [`PATH`].
    pub(crate) async fn call(
        self: &Arc<Self>,
        method: &str,
        request: Request<Checked<Incoming>>,
        deadline: Option<Instant>,
        (trace, span): (RequestTrace, &mut Option<Span>),
    ) -> Response<Body> {
        match method {
            "Consume" => consume::consume(self, request, deadline, (trace, span)).await,
            "Produce" => produce::produce(self, request, deadline, (trace, span)).await,
            "Ack" => {
                let mut grpc =
                    Grpc::new(ProstCodec::default()).max_decoding_message_size(MAX_MESSAGE);
                Body::of(grpc.unary(ack::Ack(Arc::clone(self)), request).await)
            }
            _ => Body::of(Status::unimplemented("").into_http()),
        }
    }
}

fn too_many(what: &str, count: usize, limit: usize) -> Status {
    Status::invalid_argument(format!("too many {what}: {count}, at most {limit}"))
}
