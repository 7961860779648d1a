//! Replies, and what becomes of the messages in them.

use barnabas_engine::{Deliveries, ReplyBytes};
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

pub(crate) type Reply = Response<ReplyBody>;

/// The content type of JSON.
pub(crate) const JSON: &str = "application/json";

/// A body of one piece.
pub(crate) struct ReplyBody(Option<ReplyBytes>);

impl Body for ReplyBody {
    type Data = ReplyBytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<ReplyBytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |bytes| bytes.remaining() as u64))
    }
}

fn with_bytes(status: StatusCode, kind: &'static str, bytes: ReplyBytes) -> Reply {
    let mut reply = empty(status);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply.body_mut().0 = Some(bytes);
    reply
}

pub(crate) fn with_body(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    with_bytes(status, kind, ReplyBytes::from(body.into()))
}

/// A reply whose messages reach their client with it.
pub(crate) fn of(deliveries: Deliveries, kind: &'static str, body: Bytes) -> Reply {
    if body.is_empty() {
        // There is no last byte to wait for: hyper does not even look at an
        // empty body. The reply is about to be written.
        deliveries.confirm();
        return with_body(StatusCode::OK, kind, body);
    }
    with_bytes(StatusCode::OK, kind, ReplyBytes::of(deliveries, body))
}

pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(ReplyBody(None));
    *reply.status_mut() = status;
    reply
}

/// A JSON reply, indented by two spaces as the old system's.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    // What is serialized here has string keys and no failing parts.
    let text = serde_json::to_vec_pretty(value).unwrap_or_default();
    with_body(status, JSON, text)
}

/// A JSON reply without blanks.
pub(crate) fn compact(status: StatusCode, kind: &'static str, value: &impl Serialize) -> Reply {
    let text = serde_json::to_vec(value).unwrap_or_default();
    with_body(status, kind, text)
}

/// An error in the old system's form.
pub(crate) fn error(status: StatusCode, text: impl Into<String>) -> Reply {
    json(status, &serde_json::json!({ "error": text.into() }))
}
