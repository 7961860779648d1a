//! The two kinds of sockets: plain and TLS.

use bytes::BytesMut;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A reply that cannot be written for this long ends the connection.
const WRITE_LIMIT: Duration = Duration::from_secs(60);

/// Input that is read ahead while a command waits, so that the end behind it
/// is seen.
const AHEAD_BYTES: usize = 16 << 20;
/// Free space that reading ahead asks for.
const AHEAD_STEP: usize = 64 << 10;

/// A client's socket.
pub(crate) enum Stream {
    Plain(Plain),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A socket, and what has been read of it while nobody wanted input.
pub(crate) struct Plain {
    socket: TcpStream,
    ahead: BytesMut,
}

impl Plain {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self {
            socket,
            ahead: BytesMut::new(),
        }
    }

    /// Reads ahead until the peer has closed (true) or the room is used up.
    async fn reads_to_the_end(&mut self) -> bool {
        while self.ahead.len() < AHEAD_BYTES {
            if self.socket.readable().await.is_err() {
                return true;
            }
            self.ahead.reserve(AHEAD_STEP);
            match self.socket.try_read_buf(&mut self.ahead) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Who waits for nothing but the end holds no buffer.
                    if self.ahead.is_empty() {
                        self.ahead = BytesMut::new();
                    }
                }
                Err(_) => return true,
            }
        }
        false
    }
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(plain) => &plain.socket,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.socket().as_raw_fd()
    }

    /// Waits for input without holding a buffer for it.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(plain) if !plain.ahead.is_empty() => Ok(()),
            Self::Plain(plain) => plain.socket.readable().await,
            Self::Tls(stream) => {
                let (socket, session) = stream.get_ref();
                // False while it holds decrypted bytes.
                if session.wants_read() {
                    socket.readable().await?;
                }
                Ok(())
            }
        }
    }

    /// Reads what is there into the buffer's free space; 0 is end of file.
    pub(crate) async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(plain) if !plain.ahead.is_empty() => {
                let ahead = std::mem::take(&mut plain.ahead);
                buffer.extend_from_slice(&ahead);
                Ok(ahead.len())
            }
            Self::Plain(plain) => plain.socket.read_buf(buffer).await,
            Self::Tls(stream) => stream.read_buf(buffer).await,
        }
    }

    /// Writes everything and empties the buffer.
    pub(crate) async fn write(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut written = 0;
        // Nearly always the socket takes all at once: no timer for that.
        if let Self::Plain(plain) = self {
            match plain.socket.try_write(bytes) {
                Ok(count) if count == bytes.len() => {
                    bytes.clear();
                    return Ok(());
                }
                Ok(count) => written = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        let deadline = tokio::time::Instant::now() + WRITE_LIMIT;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let progress = async {
                match self {
                    Self::Plain(plain) => plain.socket.write(rest).await,
                    Self::Tls(stream) => {
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
        bytes.clear();
        Ok(())
    }

    /// Resolves when the peer has closed or reset the connection, however
    /// much unread input waits.
    pub(crate) async fn hung_up(&mut self) {
        if let Self::Plain(plain) = self
            && plain.reads_to_the_end().await
        {
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

    /// Says goodbye where the protocol has a word for it.
    pub(crate) async fn shutdown(&mut self) {
        let farewell = async {
            match self {
                Self::Plain(plain) => plain.socket.shutdown().await,
                Self::Tls(stream) => stream.shutdown().await,
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
