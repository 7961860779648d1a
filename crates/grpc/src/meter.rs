//! What is counted of requests, and the body that tells how each has ended.

use crate::reply::{Body, Written};
use barnabas_metrics::Meter;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Code, Status};

/// The methods' paths, without the first slash.
const METHODS: [&str; 11] = [
    "KafkaPixy/Produce",
    "KafkaPixy/ConsumeNAck",
    "KafkaPixy/Ack",
    "KafkaPixy/GetOffsets",
    "KafkaPixy/SetOffsets",
    "KafkaPixy/ListTopics",
    "KafkaPixy/ListConsumers",
    "KafkaPixy/GetTopicMetadata",
    "barnabas.v1.Gateway/Consume",
    "barnabas.v1.Gateway/Produce",
    "barnabas.v1.Gateway/Ack",
];
const HEALTH: usize = METHODS.len();
const REFLECTION: usize = HEALTH + 1;
const OTHER: usize = REFLECTION + 1;

/// gRPC's codes, by number.
const OUTCOMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// What goes wrong with connections.
const FAILURES: [&str; 4] = ["accept", "full", "tls", "connection"];

/// Kinds of [`FAILURES`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failure {
    /// None could be accepted.
    Accept,
    /// One had to make room that had not asked for anything.
    Full,
    /// The handshake of TLS failed or took too long.
    Tls,
    /// It broke, or what came over it was no HTTP/2.
    Connection,
}

/// The numbers of all gRPC listeners of a process: requests by method, and by
/// the code that they ended with.
pub fn meter() -> Arc<Meter> {
    let methods = METHODS.iter().copied();
    let requests = methods.chain(["health", "reflection", "other"]);
    let requests = requests.map(Cow::Borrowed).collect();
    Arc::new(Meter::new("grpc", requests, &OUTCOMES, &FAILURES))
}

fn place(path: &str) -> usize {
    let path = path.strip_prefix('/').unwrap_or(path);
    let found = METHODS.iter().position(|method| *method == path);
    found.unwrap_or_else(|| match path {
        _ if path.starts_with("grpc.health.") => HEALTH,
        _ if path.starts_with("grpc.reflection.") => REFLECTION,
        _ => OTHER,
    })
}

/// What a request holds as long as it runs: that its connection is busy, and its
/// place among all.
type Running = (Arc<()>, Option<OwnedSemaphorePermit>);

/// A request that has not ended. One that is dropped before its status is
/// known has been cancelled.
pub(crate) struct Asked {
    meter: Arc<Meter>,
    since: Instant,
    request: usize,
    code: Code,
    /// Its connection and its place, as long as it runs.
    _running: Running,
}

impl Asked {
    pub(crate) fn now(meter: &Arc<Meter>, path: &str, running: Running) -> Self {
        Self {
            meter: Arc::clone(meter),
            since: Instant::now(),
            request: place(path),
            code: Code::Cancelled,
            _running: running,
        }
    }

    fn note(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get(Status::GRPC_STATUS) {
            self.code = Code::from_bytes(code.as_bytes());
        }
    }

    /// It ends with the reply's body.
    pub(crate) fn until_the_end_of(mut self, reply: Response<Body>) -> Response<Measured> {
        // Where nothing follows.
        self.note(reply.headers());
        reply.map(|inner| Measured { inner, asked: self })
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let after = self.since.elapsed();
        self.meter.answered(self.request, self.code as usize, after);
    }
}

/// A reply's body that is watched to its end.
pub(crate) struct Measured {
    inner: Body,
    asked: Asked,
}

impl http_body::Body for Measured {
    type Data = Written;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Written>, Status>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.asked.note(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_name() {
        for (number, name) in OUTCOMES.iter().enumerate() {
            let code = Code::from_i32(i32::try_from(number).unwrap());
            let shown = format!("{code:?}").to_uppercase();
            assert_eq!(shown, name.replace('_', ""));
        }
    }

    #[test]
    fn methods_are_known_by_their_paths() {
        assert_eq!(place("/KafkaPixy/Produce"), 0);
        assert_eq!(place("/barnabas.v1.Gateway/Ack"), METHODS.len() - 1);
        assert_eq!(place("/grpc.health.v1.Health/Check"), HEALTH);
        let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        assert_eq!(place(reflection), REFLECTION);
        assert_eq!(place("/KafkaPixy/Nothing"), OTHER);
        assert_eq!(place(""), OTHER);
    }
}
