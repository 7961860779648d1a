//! The two kinds of sockets: plain and TLS.

use barnabas_engine::{Deliveries, Kept};
use bytes::{BufMut as _, BytesMut};
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Input that is read ahead while a command waits, so that the end behind it
/// is seen.
const AHEAD_BYTES: usize = 16 << 20;
/// Read ahead in one go; on the stack.
const AHEAD_STEP: usize = 16 << 10;

/// A client's socket, and what has been read of it while nobody wanted input.
pub(crate) struct Stream {
    transport: Transport,
    ahead: BytesMut,
    /// What that takes of the room for all.
    kept: Kept,
    /// A reply that cannot be written for so long ends the connection.
    write_limit: Duration,
    /// The messages in replies that have not been written yet. They are
    /// somebody else's if the connection ends before.
    unwritten: Vec<Deliveries>,
    /// Bytes written that nobody has counted yet.
    sent: usize,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(crate) fn plain(socket: TcpStream, kept: Kept, write_limit: Duration) -> Self {
        Self {
            transport: Transport::Plain(socket),
            ahead: BytesMut::new(),
            kept,
            write_limit,
            unwritten: Vec::new(),
            sent: 0,
        }
    }

    pub(crate) fn tls(stream: TlsStream<TcpStream>, kept: Kept, write_limit: Duration) -> Self {
        Self {
            transport: Transport::Tls(Box::new(stream)),
            ahead: BytesMut::new(),
            kept,
            write_limit,
            unwritten: Vec::new(),
            sent: 0,
        }
    }

    fn socket(&self) -> &TcpStream {
        match &self.transport {
            Transport::Plain(socket) => socket,
            Transport::Tls(stream) => stream.get_ref().0,
        }
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.socket().as_raw_fd()
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    /// Waits for input without holding a buffer for it.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        if !self.ahead.is_empty() {
            return Ok(());
        }
        match &self.transport {
            Transport::Plain(socket) => socket.readable().await,
            Transport::Tls(stream) => {
                let (socket, session) = stream.get_ref();
                // False while it holds decrypted bytes.
                if session.wants_read() {
                    socket.readable().await?;
                }
                Ok(())
            }
        }
    }

    /// Reads what is there into the buffer's free space, no more than `most`; 0 is end of
    /// file.
    pub(crate) async fn read(&mut self, buffer: &mut BytesMut, most: usize) -> io::Result<usize> {
        if !self.ahead.is_empty() {
            let ahead = std::mem::take(&mut self.ahead);
            buffer.extend_from_slice(&ahead);
            return Ok(ahead.len());
        }
        match &mut self.transport {
            Transport::Plain(socket) => socket.read_buf(&mut buffer.limit(most)).await,
            Transport::Tls(stream) => stream.read_buf(&mut buffer.limit(most)).await,
        }
    }

    /// What was read has been executed, or is kept elsewhere.
    pub(crate) fn has_executed(&mut self) {
        self.kept.hold(self.ahead.len() as u64);
    }

    /// Writes everything. The buffer is empty afterwards, also after an error:
    /// some of it may have been sent.
    pub(crate) async fn write(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let result = self.write_all(bytes).await;
        if result.is_ok() {
            self.sent += bytes.len();
        }
        bytes.clear();
        if result.is_ok() {
            self.unwritten.drain(..).for_each(Deliveries::confirm);
        }
        result
    }

    /// How many bytes have been written since this was asked last.
    pub(crate) fn take_sent(&mut self) -> usize {
        std::mem::take(&mut self.sent)
    }

    /// Keeps the messages of a reply until it has been written.
    pub(crate) fn hold(&mut self, deliveries: Deliveries) {
        self.unwritten.push(deliveries);
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        // Nearly always the socket takes all at once: no timer for that.
        if let Transport::Plain(socket) = &self.transport {
            match socket.try_write(bytes) {
                Ok(count) if count == bytes.len() => return Ok(()),
                Ok(count) => written = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let deadline = tokio::time::Instant::now() + self.write_limit;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let progress = async {
                match &mut self.transport {
                    Transport::Plain(socket) => socket.write(rest).await,
                    Transport::Tls(stream) => {
                        let count = stream.write(rest).await?;
                        stream.flush().await?;
                        Ok(count)
                    }
                }
            };
            match tokio::time::timeout_at(deadline, progress).await {
                Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(Ok(count)) => written += count,
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the client does not read",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Resolves when the peer has closed or reset the connection, behind up
    /// to 16 MiB of unread input.
    pub(crate) async fn hung_up(&mut self) {
        if poll_fn(|context| self.poll_to_the_end(context)).await {
            return;
        }
        // Tokio wakes for a closed read half whatever else is asked for;
        // asking for urgent data only keeps plain input from waking it.
        loop {
            match self.socket().ready(Interest::PRIORITY).await {
                Ok(ready) if ready.is_read_closed() || ready.is_error() => return,
                Ok(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(_) => return,
            }
        }
    }

    /// Reads ahead until the peer has closed (true) or the room is used up.
    /// Who waits for nothing but the end holds no buffer for it.
    fn poll_to_the_end(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut step = [MaybeUninit::uninit(); AHEAD_STEP];
        while self.ahead.len() < AHEAD_BYTES
            && self.kept.hold((self.ahead.len() + AHEAD_STEP) as u64)
        {
            let mut read = ReadBuf::uninit(&mut step);
            let result = match &mut self.transport {
                Transport::Plain(socket) => Pin::new(socket).poll_read(context, &mut read),
                Transport::Tls(stream) => Pin::new(stream).poll_read(context, &mut read),
            };
            if result.is_pending() {
                // Who sends nothing takes no room for it.
                self.kept.hold(self.ahead.len() as u64);
            }
            if ready!(result).is_err() || read.filled().is_empty() {
                return Poll::Ready(true);
            }
            self.ahead.extend_from_slice(read.filled());
        }
        self.kept.hold(self.ahead.len() as u64);
        Poll::Ready(false)
    }

    /// Says goodbye where the protocol has a word for it.
    pub(crate) async fn shutdown(&mut self) {
        let farewell = async {
            match &mut self.transport {
                Transport::Plain(socket) => socket.shutdown().await,
                Transport::Tls(stream) => stream.shutdown().await,
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(100), farewell).await;
    }
}

/// Whether the peer of a socket has closed or reset it.
pub(crate) fn is_hung_up(descriptor: RawFd) -> bool {
    let mut poll = libc::pollfd {
        fd: descriptor,
        events: libc::POLLRDHUP,
        revents: 0,
    };
    #[allow(
        unsafe_code,
        reason = "one poll of one descriptor that the registry keeps open; no safe wrapper is in use"
    )]
    // SAFETY: `poll` is one valid element, and the call does not wait.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0 && poll.revents & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn who_does_not_read_is_given_up_and_sent_nothing_twice() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let room = std::sync::Arc::new(barnabas_engine::Room::new(0));
        let socket = listener.accept().await.unwrap().0;
        let limit = Duration::from_millis(100);
        let mut stream = Stream::plain(socket, room.keep_nothing(), limit);
        let numbers: Vec<u8> = (0..4_000_000_u32).flat_map(u32::to_be_bytes).collect();
        let mut bytes = numbers.clone();
        let error = stream.write(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(bytes.is_empty());
        drop(stream);
        let mut read = Vec::new();
        let _ = client.read_to_end(&mut read).await;
        assert!(numbers.starts_with(&read));
        assert!(!read.is_empty());
    }
}
