//! Which service a request is for, and what all have in common: deadlines,
//! sizes, request ids.

use crate::gateway::{self, Gateway};
use crate::meter::{Asked, Measured};
use crate::proto::kafka_pixy_server::KafkaPixyServer;
use crate::reply::{self, with_receipt};
use crate::request::{self, Checked, Incoming, RequestIds};
use crate::service::Service;
use crate::standard::Standard;
use crate::trace;
use barnabas_engine::{Access, Drops, Proxies, RequestTrace, Span, Tracing};
use barnabas_metrics::Meter;
use http::{Request, Response};
use hyper::body::Incoming as Body;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tonic::Status;
use tonic::codegen::Service as _;

/// All services. Clones are the same.
#[derive(Clone)]
pub(crate) struct Routes {
    pixy: KafkaPixyServer<Service>,
    gateway: Arc<Gateway>,
    standard: Standard,
    stopping: watch::Receiver<bool>,
    ids: Arc<RequestIds>,
    tracing: Tracing,
    meter: Arc<Meter>,
    incoming: Incoming,
    places: Arc<Semaphore>,
}

impl Routes {
    pub(crate) fn new(
        proxies: Arc<Proxies>,
        access: Arc<Access>,
        lost: Arc<Drops>,
        stopping: watch::Receiver<bool>,
        tracing: Tracing,
        meter: Arc<Meter>,
        (incoming, max_requests): (Incoming, usize),
    ) -> Self {
        let pixy = Service::new(Arc::clone(&proxies), Arc::clone(&access), lost);
        Self {
            pixy: KafkaPixyServer::new(pixy).max_decoding_message_size(request::MAX_MESSAGE),
            standard: Standard::new(Arc::clone(&proxies)),
            gateway: Arc::new(Gateway::new(proxies, access, stopping.clone())),
            stopping,
            ids: Arc::default(),
            tracing,
            meter,
            incoming,
            places: Arc::new(Semaphore::new(max_requests.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// One request. It is dropped, wherever it waits, when its client cancels
    /// it, and `running` with it, or with its reply.
    pub(crate) async fn answer(
        self,
        request: Request<Body>,
        running: Arc<()>,
    ) -> Response<Measured> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let is_full = place.is_err();
        let path = request.uri().path();
        let asked = Asked::now(&self.meter, path, (running, place.ok()));
        if is_full {
            let status = Status::resource_exhausted("too many requests at the same time");
            return asked.until_the_end_of(reply::Body::of(status.into_http()));
        }
        let id = self.ids.of(request.headers());
        let limit = request::deadline(request.headers());
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let (trace, mut span) =
            trace::begin(&self.tracing, request.headers(), request.uri().path());
        let incoming = self.incoming.clone();
        let path = request.uri().path();
        // What is neither is Kafka-Pixy's, whose requests are one message each.
        let is_expected = !path.starts_with(gateway::PATH) && !Standard::serves(path);
        let request = request.map(|body| Checked::new(body, &incoming, is_expected));
        let answered = self.route(request, deadline, trace, &mut span);
        let mut reply = match deadline {
            None => answered.await,
            Some(deadline) => tokio::time::timeout_at(deadline, answered)
                .await
                .unwrap_or_else(|_| {
                    let status = Status::deadline_exceeded(reply::DEADLINE_EXCEEDED);
                    reply::Body::of(status.into_http())
                }),
        };
        // A stream has taken its own along.
        trace::end_with(span, reply.headers());
        reply.headers_mut().insert(request::ID_HEADER, id);
        asked.until_the_end_of(reply)
    }

    async fn route(
        mut self,
        mut request: Request<Checked<Body>>,
        deadline: Option<Instant>,
        trace: RequestTrace,
        span: &mut Option<Span>,
    ) -> Response<reply::Body> {
        let path = request.uri().path();
        if let Some(method) = path.strip_prefix(gateway::PATH) {
            let method = method.to_owned();
            let traced = (trace, span);
            return self.gateway.call(&method, request, deadline, traced).await;
        }
        if Standard::serves(path) {
            let reply = self.standard.call(request).await;
            return reply::Body::until(deadline, self.stopping, reply);
        }
        request.extensions_mut().insert(trace);
        match self.pixy.call(request).await {
            Ok(reply) => with_receipt(reply),
            Err(never) => match never {},
        }
    }
}
