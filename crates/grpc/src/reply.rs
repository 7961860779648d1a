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

use crate::errors;
use crate::gateway::Output;
use crate::server::told;
use barnabas_engine::{Deliveries, ReplyBytes};
use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tonic::Status;

/// What is said to a request that was not done in its time.
pub(crate) const DEADLINE_EXCEEDED: &str = "context deadline exceeded";

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
pub(crate) enum Body {
    /// Of a request that has one message as its answer.
    One {
        inner: tonic::body::Body,
        deliveries: Option<Deliveries>,
    },
    /// Of a stream.
    Stream(Output),
    /// Of a standard service, whose streams may go on for ever.
    Standard {
        inner: tonic::body::Body,
        /// What ends it, and as what; `None` once that has been said.
        end: Option<End>,
    },
}

/// Resolves when a stream must not go on.
type End = Pin<Box<dyn Future<Output = Status> + Send>>;

/// The reply with its receipt, if it has one.
pub(crate) fn with_receipt(mut reply: http::Response<tonic::body::Body>) -> http::Response<Body> {
    let receipt = reply.extensions_mut().remove::<Receipt>();
    let deliveries = receipt.and_then(|receipt| receipt.0.lock().take());
    reply.map(|inner| Body::One { inner, deliveries })
}

impl Body {
    /// A reply without messages of consumers.
    pub(crate) fn of(reply: http::Response<tonic::body::Body>) -> http::Response<Self> {
        reply.map(|inner| Self::One {
            inner,
            deliveries: None,
        })
    }

    /// The same, but it ends at the deadline, or when the server does.
    pub(crate) fn until(
        deadline: Option<Instant>,
        mut stopping: watch::Receiver<bool>,
        reply: http::Response<tonic::body::Body>,
    ) -> http::Response<Self> {
        let late = async move {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let end = async move {
            tokio::select! {
                () = late => Status::deadline_exceeded(DEADLINE_EXCEEDED),
                () = told(&mut stopping) => errors::shutting_down(),
            }
        };
        reply.map(|inner| Self::Standard {
            inner,
            end: Some(Box::pin(end)),
        })
    }
}

/// What a stream ends with before its service has ended it.
fn trailers_of(status: &Status) -> Frame<Written> {
    let mut trailers = http::HeaderMap::new();
    // Its text is one that headers can have.
    let _ = status.add_header(&mut trailers);
    Frame::trailers(trailers)
}

impl http_body::Body for Body {
    type Data = Written;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Written>, Status>>> {
        match &mut *self {
            Self::One { inner, deliveries } => {
                let frame = Pin::new(inner).poll_frame(context);
                frame.map_ok(|frame| {
                    // A unary reply is one data frame.
                    frame.map_data(|bytes| Written::from(deliveries.take(), bytes))
                })
            }
            Self::Stream(output) => output.poll_frame(context).map(|frame| frame.map(Ok)),
            Self::Standard { inner, end } => {
                let Some(ending) = end else {
                    return Poll::Ready(None);
                };
                if let Poll::Ready(status) = ending.as_mut().poll(context) {
                    *end = None;
                    return Poll::Ready(Some(Ok(trailers_of(&status))));
                }
                let frame = Pin::new(inner).poll_frame(context);
                frame.map_ok(|frame| frame.map_data(|bytes| Written::from(None, bytes)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::One { inner, .. } => inner.is_end_stream(),
            Self::Stream(output) => output.is_over(),
            Self::Standard { inner, end } => end.is_none() || inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::One { inner, .. } => inner.size_hint(),
            Self::Standard { .. } | Self::Stream(_) => SizeHint::default(),
        }
    }
}

/// Bytes that know when they have been written, and make room then.
pub(crate) struct Written {
    bytes: ReplyBytes,
    has_messages: bool,
    /// Given back with them.
    _room: Option<OwnedSemaphorePermit>,
}

impl Written {
    pub(crate) fn from(deliveries: Option<Deliveries>, bytes: Bytes) -> Self {
        Self {
            has_messages: deliveries.is_some(),
            bytes: match deliveries {
                Some(deliveries) => ReplyBytes::of(deliveries, bytes),
                None => ReplyBytes::from(bytes),
            },
            _room: None,
        }
    }

    /// Whether there are messages of a consumer in it.
    pub(crate) fn has_messages(&self) -> bool {
        self.has_messages
    }

    /// Holds this room until it has been written.
    pub(crate) fn holding(mut self, room: Option<OwnedSemaphorePermit>) -> Self {
        self._room = room;
        self
    }
}

impl Buf for Written {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}
