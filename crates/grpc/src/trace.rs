//! The trace that a request belongs to: from its metadata to its span, and
//! back into the metadata of a reply.

use barnabas_engine::{
    BAGGAGE, RequestTrace, Span, TRACEPARENT, TRACESTATE, TraceContext, Tracing,
};
use http::{HeaderMap, HeaderValue};
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Code, Status};

/// The services that there are; what else is asked for is not repeated.
const SERVICES: [&str; 2] = ["KafkaPixy", "barnabas.v1.Gateway"];

/// A request has come for this path.
pub(crate) fn begin(
    tracing: &Tracing,
    headers: &HeaderMap,
    path: &str,
) -> (RequestTrace, Option<Span>) {
    if tracing.is_off() {
        return (RequestTrace::default(), None);
    }
    let all = |name: &'static str| headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let context = TraceContext::read(all(TRACEPARENT), all(TRACESTATE), all(BAGGAGE));
    let parts = path.trim_start_matches('/').split_once('/');
    let known = parts.filter(|(service, _)| SERVICES.contains(service));
    let (request, mut span) = tracing.begin(context, || match known {
        Some((service, method)) => format!("{service}/{}", shown(method)).into(),
        None => "_OTHER".into(),
    });
    if let Some(span) = &mut span {
        span.set("rpc.system", "grpc");
        if let Some((service, method)) = known {
            span.set("rpc.service", service.to_owned());
            span.set("rpc.method", shown(method).to_owned());
        }
    }
    (request, span)
}

/// As long as methods are.
fn shown(method: &str) -> &str {
    let end = method.floor_char_boundary(64);
    method.get(..end).unwrap_or_default()
}

/// It has ended so.
pub(crate) fn end(span: Option<Span>, code: Code, text: &str) {
    let Some(mut span) = span else { return };
    span.set("rpc.grpc.status_code", i64::from(code as i32));
    // Those that are the server's doing (semantic conventions, gRPC).
    let is_ours = matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    if is_ours {
        span.set("error.type", (code as i32).to_string());
        span.fail(text);
    }
}

/// It is answered with these headers; a status among them is one of a request
/// that has failed.
pub(crate) fn end_with(span: Option<Span>, headers: &HeaderMap) {
    if span.is_some() {
        match Status::from_header_map(headers) {
            Some(status) => end(span, status.code(), status.message()),
            None => end(span, Code::Ok, ""),
        }
    }
}

/// The reply to who has received a record: its trace.
pub(crate) fn bring_back(metadata: &mut MetadataMap, context: &TraceContext) {
    let Some(parent) = context.parent() else {
        return;
    };
    if let Ok(parent) = AsciiMetadataValue::try_from(&parent.to_traceparent()[..]) {
        metadata.insert(TRACEPARENT, parent);
    }
    if let Some(Ok(state)) = context.state().map(AsciiMetadataValue::try_from) {
        metadata.insert(TRACESTATE, state);
    }
}
