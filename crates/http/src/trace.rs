//! The trace that a request belongs to: from its headers to its span, and
//! back into the headers of a reply.

use crate::reply::Reply;
use barnabas_engine::{
    Attribute, BAGGAGE, RequestTrace, Span, TRACEPARENT, TRACESTATE, TraceContext, Tracing,
};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};

const PARENT: HeaderName = HeaderName::from_static(TRACEPARENT);
const STATE: HeaderName = HeaderName::from_static(TRACESTATE);

/// A request has come.
pub(crate) fn begin(tracing: &Tracing, head: &Parts) -> (RequestTrace, Option<Span>) {
    if tracing.is_off() {
        return (RequestTrace::default(), None);
    }
    let all = |name: &'static str| {
        let values = head.headers.get_all(name).iter();
        values.map(HeaderValue::as_bytes)
    };
    let context = TraceContext::read(all(TRACEPARENT), all(TRACESTATE), all(BAGGAGE));
    let method = method(&head.method);
    let (request, mut span) = tracing.begin(context, || method.into());
    if let Some(span) = &mut span {
        span.set("http.request.method", method);
        span.set("url.path", Attribute::of(head.uri.path()));
        let version = match head.version {
            Version::HTTP_2 => "2",
            Version::HTTP_10 => "1.0",
            _ => "1.1",
        };
        span.set("network.protocol.version", version);
    }
    (request, span)
}

/// It is for this route.
pub(crate) fn route(span: &mut Option<Span>, method: &Method, route: &str) {
    if let Some(span) = span {
        span.rename(format!("{} {route}", self::method(method)));
        span.set("http.route", Attribute::of(route));
    }
}

/// It is answered so.
pub(crate) fn end(span: Option<Span>, status: StatusCode) {
    if let Some(mut span) = span {
        span.set("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            span.set("error.type", status.as_str().to_owned());
            span.fail(status.canonical_reason().unwrap_or_default());
        }
    }
}

/// The reply to who has received a record: its trace.
pub(crate) fn bring_back(mut reply: Reply, context: &TraceContext) -> Reply {
    if let Some(parent) = context.parent() {
        let headers: &mut HeaderMap = reply.headers_mut();
        if let Ok(parent) = HeaderValue::from_bytes(&parent.to_traceparent()) {
            headers.insert(PARENT, parent);
        }
        if let Some(Ok(state)) = context.state().map(HeaderValue::from_bytes) {
            headers.insert(STATE, state);
        }
    }
    reply
}

/// The method, of which there are few.
fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        _ => "_OTHER",
    }
}
