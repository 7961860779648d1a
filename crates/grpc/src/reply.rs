//! Replies that know when they have been written.
//!
//! Messages are confirmed only then (B8): a client that goes away while it
//! polls, or before it has read its reply, must lose none, not even with
//! auto-ack. Neither the handler nor the response's body can tell. When the
//! handler returns, nothing has been sent; and hyper takes a data frame from
//! the body, and the trailers after it, before the client's window has room
//! for them: h2 keeps them as long as the client does not read. What h2 does
//! at the moment when bytes go into the connection's output is to advance
//! the buffer that it was given. So the buffer itself holds the messages:
//! when its last byte is taken, they are confirmed; when it is dropped
//! before, as the stream was reset or the connection has ended, they go back.
//! What a broken connection then still has in its own or the kernel's buffer
//! is lost with it, as with anything that is acknowledged before use.

use barnabas_engine::Deliveries;
use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;

/// The messages of a reply, from the handler to its body. In extensions,
/// which must be `Clone`.
#[derive(Clone)]
pub(crate) struct Receipt(Arc<Mutex<Option<Deliveries>>>);

impl Receipt {
    pub(crate) fn new(deliveries: Deliveries) -> Self {
        Self(Arc::new(Mutex::new(Some(deliveries))))
    }
}

/// The body of a reply.
pub(crate) struct Body {
    inner: tonic::body::Body,
    deliveries: Option<Deliveries>,
}

/// The reply with its receipt, if it has one.
pub(crate) fn with_receipt(mut reply: http::Response<tonic::body::Body>) -> http::Response<Body> {
    let receipt = reply.extensions_mut().remove::<Receipt>();
    let deliveries = receipt.and_then(|receipt| receipt.0.lock().take());
    reply.map(|inner| Body { inner, deliveries })
}

impl http_body::Body for Body {
    type Data = Chunk;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Chunk>, Status>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        frame.map_ok(|frame| {
            // A unary reply is one data frame.
            frame.map_data(|bytes| Chunk {
                bytes,
                deliveries: self.deliveries.take(),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A part of a reply that confirms its messages when it has been taken.
pub(crate) struct Chunk {
    bytes: Bytes,
    deliveries: Option<Deliveries>,
}

impl Buf for Chunk {
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
