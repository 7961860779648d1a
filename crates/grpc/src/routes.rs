//! Which service a request is for, and what all have in common: deadlines,
//! sizes, request ids.

use crate::gateway::{self, Gateway};
use crate::meter::{Asked, Measured};
use crate::proto::kafka_pixy_server::KafkaPixyServer;
use crate::reply::{self, with_receipt};
use crate::request::{self, Checked, RequestIds};
use crate::service::Service;
use crate::standard::Standard;
use crate::trace;
use barnabas_engine::{Access, Drops, Proxies, RequestTrace, Span, Tracing};
use barnabas_metrics::Meter;
use http::{Request, Response};
use hyper::body::Incoming;
use std::sync::Arc;
use tokio::sync::watch;
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
}

impl Routes {
    pub(crate) fn new(
        proxies: Arc<Proxies>,
        access: Arc<Access>,
        lost: Arc<Drops>,
        stopping: watch::Receiver<bool>,
        tracing: Tracing,
        meter: Arc<Meter>,
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
        }
    }

    /// One request. It is dropped, wherever it waits, when its client cancels
    /// it.
    pub(crate) async fn answer(self, request: Request<Incoming>) -> Response<Measured> {
        let asked = Asked::now(&self.meter, request.uri().path());
        let id = self.ids.of(request.headers());
        let limit = request::deadline(request.headers());
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let (trace, mut span) =
            trace::begin(&self.tracing, request.headers(), request.uri().path());
        let answered = self.route(request.map(Checked::new), deadline, trace, &mut span);
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
        mut request: Request<Checked<Incoming>>,
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
