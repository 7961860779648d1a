//! A socket whose bytes are counted.

use crate::meter::{Connected, Meter};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a connection has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes have come.
    Read(usize),
    /// A write has got on.
    Written,
}

/// A connection: counted as open as long as it lives, and its bytes by each
/// read and write.
pub struct Metered<S, F> {
    socket: S,
    meter: Arc<Meter>,
    on_move: F,
    _connected: Connected,
}

impl<S, F: Fn(Moved)> Metered<S, F> {
    /// Of a connection that has just been accepted, and its handshake done;
    /// `on_move` is called for each read and write that has got on.
    pub fn new(socket: S, meter: &Arc<Meter>, on_move: F) -> Self {
        Self {
            socket,
            meter: Arc::clone(meter),
            on_move,
            _connected: meter.connected(),
        }
    }
}

impl<S: AsyncRead + Unpin, F: Fn(Moved) + Unpin> AsyncRead for Metered<S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.socket).poll_read(context, buffer));
        let count = buffer.filled().len() - before;
        self.meter.received(count);
        (self.on_move)(Moved::Read(count));
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin, F: Fn(Moved) + Unpin> AsyncWrite for Metered<S, F> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write(context, bytes));
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.socket).poll_write_vectored(context, parts));
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl<S, F: Fn(Moved)> Metered<S, F> {
    fn count(&self, written: io::Result<usize>) -> Poll<io::Result<usize>> {
        if let Ok(bytes) = &written {
            self.meter.sent(*bytes);
            (self.on_move)(Moved::Written);
        }
        Poll::Ready(written)
    }
}
