//! Listeners, connections, and how they stop.

use crate::pixy;
use barnabas_engine::Proxies;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long running requests may take once the server stops.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// Where requests come in.
pub enum Listener {
    /// A TCP port.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) proxies: Arc<Proxies>,
}

/// A running HTTP front end.
pub struct Server {
    stop: watch::Sender<bool>,
    acceptors: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
}

impl Server {
    /// Starts accepting. Must be called inside a Tokio runtime, which carries
    /// the connections.
    ///
    /// # Errors
    /// Listeners that cannot be made non-blocking or registered.
    pub fn start(listeners: Vec<Listener>, proxies: Arc<Proxies>) -> io::Result<Self> {
        let shared = Arc::new(Shared { proxies });
        let (stop, stopped) = watch::channel(false);
        let mut addresses = Vec::new();
        let mut acceptors = Vec::new();
        for listener in listeners {
            let (shared, stopped) = (Arc::clone(&shared), stopped.clone());
            acceptors.push(match listener {
                Listener::Tcp(listener) => {
                    listener.set_nonblocking(true)?;
                    addresses.push(listener.local_addr()?);
                    let listener = TcpListener::from_std(listener)?;
                    let accept = async move || {
                        let (socket, _) = listener.accept().await?;
                        socket.set_nodelay(true)?;
                        Ok(socket)
                    };
                    tokio::spawn(serve(accept, shared, stopped))
                }
                Listener::Unix(listener) => {
                    listener.set_nonblocking(true)?;
                    let listener = UnixListener::from_std(listener)?;
                    let accept = async move || Ok(listener.accept().await?.0);
                    tokio::spawn(serve(accept, shared, stopped))
                }
            });
        }
        Ok(Self {
            stop,
            acceptors,
            addresses,
        })
    }

    /// The addresses of the TCP listeners, ports resolved.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops accepting and lets running requests end, five seconds at most.
    /// [`Proxies::refuse_work`] comes first.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        for acceptor in self.acceptors {
            let _ = acceptor.await;
        }
    }
}

/// Accepts until the server stops, then sees the connections off.
async fn serve<S, F>(mut accept: F, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: AsyncFnMut() -> io::Result<S>,
{
    let builder = auto::Builder::new(TokioExecutor::new());
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let socket = match accepted {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(component = "http", "accept: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        let service = service_fn(move |request| {
            let shared = Arc::clone(&shared);
            async move { Ok::<_, Infallible>(pixy::answer(&shared, request).await) }
        });
        let connection = builder
            .serve_connection(TokioIo::new(socket), service)
            .into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(component = "http", "connection: {error}");
            }
        });
    }
    let _ = tokio::time::timeout(STOP_LIMIT, graceful.shutdown()).await;
}
