//! What both kinds of streams have in common: a task that works, and the
//! body that hands its frames to the connection.
//!
//! The task must not be the body: acknowledgements are taken while nothing
//! can be sent. Between them is a queue of few frames. hyper asks the body
//! for the next frame only when the client has let in all of the last one,
//! so a client that does not read fills the queue, and the task stops.

use crate::reply::{Body, DEADLINE_EXCEEDED, Written};
use crate::request::Checked;
use crate::trace;
use barnabas_engine::Span;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use hyper::body::Incoming;
use parking_lot::Mutex;
use prost::Message;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::codec::Codec as _;
use tonic::metadata::GRPC_CONTENT_TYPE;
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

/// Frames between the task and the connection.
const QUEUE: usize = 1;

/// The frames of a request, decoded.
pub(super) fn frames<T: Message + Default + Send + 'static>(
    body: Checked<Incoming>,
) -> Streaming<T> {
    let decoder = ProstCodec::<T, T>::default().decoder();
    Streaming::new_request(decoder, body, None, Some(crate::request::MAX_MESSAGE))
}

/// A message as it is on the wire.
pub(super) fn encode(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(5 + length);
    bytes.put_u8(0);
    // What is put into a frame is far below 4 GiB.
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message.encode_raw(&mut bytes);
    bytes.freeze()
}

/// How a stream has ended.
pub(super) struct End {
    pub(super) status: Status,
    /// Messages that are still in the queue are not for the client any more.
    pub(super) discards: bool,
}

impl End {
    /// What was to be said has been.
    pub(super) fn of(status: Status) -> Self {
        Self {
            status,
            discards: false,
        }
    }
}

/// Starts the task of a stream and returns the reply that it fills. It ends
/// with `deadline`, and by itself when the client has gone; with it ends its
/// span.
pub(super) fn start<F>(
    deadline: Option<Instant>,
    span: Option<Span>,
    work: impl FnOnce(mpsc::Sender<Written>) -> F,
) -> Response<Body>
where
    F: Future<Output = End> + Send + 'static,
{
    let (sender, frames) = mpsc::channel(QUEUE);
    let end = Arc::new(Mutex::new(None));
    let ended = Arc::clone(&end);
    // Its clone keeps the queue open until the end is known.
    let open = sender.clone();
    let working = work(sender);
    tokio::spawn(async move {
        let done = match deadline {
            None => working.await,
            Some(deadline) => match tokio::time::timeout_at(deadline, working).await {
                Ok(done) => done,
                Err(_) => End {
                    status: Status::deadline_exceeded(DEADLINE_EXCEEDED),
                    discards: true,
                },
            },
        };
        trace::end(span, done.status.code(), done.status.message());
        *ended.lock() = Some(done);
        drop(open);
    });
    let output = Output {
        frames,
        end,
        is_over: false,
    };
    let mut response = Response::new(Body::Stream(output));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
    response
}

/// The frames of a stream, and its status behind them.
pub(crate) struct Output {
    frames: mpsc::Receiver<Written>,
    end: Arc<Mutex<Option<End>>>,
    is_over: bool,
}

impl Output {
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(crate) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame<Written>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        loop {
            match self.frames.poll_recv(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(frame)) => {
                    let discards = self.end.lock().as_ref().is_some_and(|end| end.discards);
                    if !(discards && frame.has_messages()) {
                        return Poll::Ready(Some(Frame::data(frame)));
                    }
                }
                Poll::Ready(None) => break,
            }
        }
        self.is_over = true;
        let end = self.end.lock().take();
        // The task has come to an end that it did not mean to.
        let status = end.map_or_else(|| Status::internal("stream failed"), |end| end.status);
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("13"));
        }
        Poll::Ready(Some(Frame::trailers(trailers)))
    }
}

/// The result of a future if there is one.
pub(super) async fn of<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
