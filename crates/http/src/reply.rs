//! Replies, and what becomes of the messages in them.

use barnabas_engine::Deliveries;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

pub(crate) type Reply = Response<ReplyBody>;

/// A body of one piece. Messages in it are confirmed when the connection has
/// taken that piece to write it; a client that has hung up before leaves them
/// to the next one.
pub(crate) struct ReplyBody {
    piece: Option<Bytes>,
    deliveries: Option<Deliveries>,
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.piece.take();
        if let Some(deliveries) = self.deliveries.take() {
            deliveries.confirm();
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.piece.as_ref().map_or(0, |piece| piece.len() as u64))
    }
}

pub(crate) fn with_body(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = empty(status);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply.body_mut().piece = Some(body.into());
    reply
}

pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(ReplyBody {
        piece: None,
        deliveries: None,
    });
    *reply.status_mut() = status;
    reply
}

/// A JSON reply, indented by two spaces as the old system's.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Reply {
    // What is serialized here has string keys and no failing parts.
    let text = serde_json::to_vec_pretty(value).unwrap_or_default();
    with_body(status, "application/json", text)
}

/// A JSON reply whose messages reach their client with it.
pub(crate) fn json_of(deliveries: Deliveries, value: &impl Serialize) -> Reply {
    let mut reply = json(StatusCode::OK, value);
    reply.body_mut().deliveries = Some(deliveries);
    reply
}

pub(crate) fn error(status: StatusCode, text: impl Into<String>) -> Reply {
    json(status, &serde_json::json!({ "error": text.into() }))
}
