//! Replies, and what becomes of the messages in them.

use barnabas_engine::Deliveries;
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

pub(crate) type Reply = Response<ReplyBody>;

/// A body of one piece.
pub(crate) struct ReplyBody(Option<Piece>);

/// Messages in it are confirmed when its last byte has been written; a client
/// that has hung up before leaves them to the next one.
pub(crate) struct Piece {
    bytes: Bytes,
    deliveries: Option<Deliveries>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        if !self.bytes.has_remaining()
            && let Some(deliveries) = self.deliveries.take()
        {
            deliveries.confirm();
        }
    }
}

impl Body for ReplyBody {
    type Data = Piece;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Infallible>>> {
        Poll::Ready(self.0.take().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_ref().map_or(0, |piece| piece.bytes.len() as u64))
    }
}

pub(crate) fn with_body(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    let mut reply = empty(status);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply.body_mut().0 = Some(Piece {
        bytes: body.into(),
        deliveries: None,
    });
    reply
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
    with_body(status, "application/json", text)
}

/// A JSON reply whose messages reach their client with it.
pub(crate) fn json_of(deliveries: Deliveries, value: &impl Serialize) -> Reply {
    let mut reply = json(StatusCode::OK, value);
    if let Some(piece) = &mut reply.body_mut().0 {
        piece.deliveries = Some(deliveries);
    }
    reply
}

pub(crate) fn error(status: StatusCode, text: impl Into<String>) -> Reply {
    json(status, &serde_json::json!({ "error": text.into() }))
}
