//! The listener, its connections, their end.
//!
//! On hyper itself, without tonic's own server: that takes only bodies of
//! plain `Bytes`, which cannot tell when they have been written (`reply`).

use crate::meter::{self, Failure};
use crate::routes::Routes;
use barnabas_engine::{Access, DropReason, Drops, Proxies, Tracing};
use barnabas_metrics::{Meter, Metered};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::RwLock;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// How long requests that run may take when the server stops.
const REQUESTS_LIMIT: Duration = Duration::from_secs(15);

/// A client is asked for a sign of life when it has been silent for so long,
/// so that a host that vanished does not hold messages in its window.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// How long a client may take over its TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How much of a request may be under way unread: of each stream, of all of a
/// connection. A stream that produces does not wait for the way there and
/// back.
const STREAM_WINDOW: u32 = 512 << 10;
const CONNECTION_WINDOW: u32 = 2 << 20;

/// The front end could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listener cannot be used.
    #[error("gRPC listener: {0}")]
    Listener(#[from] std::io::Error),
}

/// What is configured of the front end.
#[derive(Clone)]
pub struct Options {
    /// TLS on the listener.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// Connections at the same time, 10,000 by default; the next one waits
    /// in the listener's queue until another has ended.
    pub max_connections: usize,
    /// Requests and streams at the same time of one connection, 10,000 by
    /// default: one channel of a client may carry all of its polls, each of
    /// which is a stream that waits. Clients are told, and wait themselves.
    pub max_streams: u32,
    /// What becomes of the traces that requests belong to.
    pub tracing: Tracing,
    /// What counts requests and connections, [`meter`](crate::meter) by
    /// default.
    pub meter: Arc<Meter>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: None,
            access: Arc::default(),
            max_connections: 10_000,
            max_streams: 10_000,
            tracing: Tracing::default(),
            meter: meter::meter(),
        }
    }
}

/// A running gRPC front end.
pub struct Server {
    address: SocketAddr,
    lost: Arc<Drops>,
    stop: watch::Sender<bool>,
    tls: Option<Arc<Tls>>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Begins to listen. Must be called inside a Tokio runtime, which carries
    /// the connections.
    ///
    /// # Errors
    /// The listener cannot be used.
    pub fn start(
        listener: TcpListener,
        proxies: Arc<Proxies>,
        options: Options,
    ) -> Result<Self, Error> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (stop, stopping) = watch::channel(false);
        let Options {
            tls,
            access,
            tracing,
            meter,
            ..
        } = options;
        let lost = Arc::new(Drops::new("grpc"));
        let tls = tls.map(|config| Arc::new(Tls::new(with_protocol(&config))));
        let connections = Connections {
            routes: Routes::new(
                proxies,
                access,
                Arc::clone(&lost),
                stopping.clone(),
                tracing,
                Arc::clone(&meter),
            ),
            meter,
            tls: tls.clone(),
            max_streams: options.max_streams,
            stopping,
        };
        let limit = options.max_connections.clamp(1, Semaphore::MAX_PERMITS);
        tracing::info!(component = "grpc", "Listening on {address}");
        Ok(Self {
            address,
            lost,
            stop,
            tls,
            accepting: tokio::spawn(accept(listener, connections, limit)),
        })
    }

    /// New connections are greeted so from now on; those that are there go on.
    /// False: this server has no TLS, and none can be added.
    pub fn replace_tls(&self, config: &rustls::ServerConfig) -> bool {
        let Some(tls) = &self.tls else {
            return false;
        };
        *tls.write() = with_protocol(config);
        true
    }

    /// The addresses it listens on, ports resolved.
    pub fn addresses(&self) -> &[SocketAddr] {
        std::slice::from_ref(&self.address)
    }

    /// What counts messages that are dropped, for those who show it.
    pub fn drops(&self) -> &Arc<Drops> {
        &self.lost
    }

    /// How many messages were dropped though their async requests had been
    /// answered well, since the start, by reason (contract, B23).
    pub fn dropped(&self) -> impl Iterator<Item = (DropReason, u64)> {
        self.lost.counts()
    }

    /// Resolves when the listener has died, which nothing brings back: then
    /// the process should end, so that another one takes its place (contract,
    /// B27). May be cancelled.
    pub async fn failed(&mut self) {
        let _ = (&mut self.accepting).await;
    }

    /// Closes the listener, tells the clients to go elsewhere, ends streams
    /// and finishes the requests that run; after 15 seconds they are cut off.
    /// For the order of the contract's shutdown, [`Proxies::refuse_work`] and
    /// [`Dispatcher::stop`](barnabas_engine::Dispatcher::stop) come first.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // Unless it has died, and been awaited.
        if !self.accepting.is_finished() {
            let _ = self.accepting.await;
        }
    }
}

/// What the next connection's handshake goes by.
type Tls = RwLock<Arc<rustls::ServerConfig>>;

/// HTTP/2 is all that gRPC speaks.
fn with_protocol(config: &rustls::ServerConfig) -> Arc<rustls::ServerConfig> {
    let mut config = config.clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// What all connections have in common.
#[derive(Clone)]
struct Connections {
    routes: Routes,
    tls: Option<Arc<Tls>>,
    max_streams: u32,
    stopping: watch::Receiver<bool>,
    meter: Arc<Meter>,
}

async fn accept(listener: tokio::net::TcpListener, connections: Connections, limit: usize) {
    let room = Arc::new(Semaphore::new(limit));
    let mut running = JoinSet::new();
    let mut stop = connections.stopping.clone();
    loop {
        let accepting = async {
            // It is never closed.
            let place = Arc::clone(&room).acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepting => accepted,
            Some(_) = running.join_next() => continue,
            () = told(&mut stop) => break,
        };
        match accepted {
            Ok((socket, peer)) => {
                let connections = connections.clone();
                running.spawn(async move {
                    connections.open(socket, peer).await;
                    drop(place);
                });
            }
            Err(error) if is_final(&error) => {
                tracing::error!(component = "grpc", "accept: {error}");
                break;
            }
            Err(error) => {
                // Out of descriptors, most likely: those that are there go
                // on, and some will close.
                connections.meter.failed(Failure::Accept as usize);
                tracing::warn!(component = "grpc", "accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let ended = async { while running.join_next().await.is_some() {} };
    if tokio::time::timeout(REQUESTS_LIMIT, ended).await.is_err() {
        tracing::warn!(component = "grpc", "{} connections cut off", running.len());
    }
}

/// Whether the listener will never accept again.
fn is_final(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK)
    )
}

/// Resolves when the server stops.
pub(crate) async fn told(stopping: &mut watch::Receiver<bool>) {
    // An error is the end of the server, too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

impl Connections {
    /// One client.
    async fn open(self, socket: TcpStream, peer: SocketAddr) {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(component = "grpc", "{peer}: {error}");
        }
        let tls = self.tls.as_ref().map(|tls| Arc::clone(&tls.read()));
        let Some(tls) = tls.map(TlsAcceptor::from) else {
            return self.serve(socket, peer).await;
        };
        let mut stopping = self.stopping.clone();
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(HANDSHAKE_LIMIT, tls.accept(socket)) => shaken,
            () = told(&mut stopping) => return,
        };
        match shaken {
            Ok(Ok(socket)) => return self.serve(socket, peer).await,
            Ok(Err(error)) => tracing::debug!(component = "grpc", "{peer}: TLS: {error}"),
            Err(_) => tracing::debug!(component = "grpc", "{peer}: TLS handshake takes too long"),
        }
        self.meter.failed(Failure::Tls as usize);
    }

    async fn serve<S>(self, socket: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self {
            routes,
            max_streams,
            mut stopping,
            meter,
            ..
        } = self;
        let socket = Metered::new(socket, &meter, || ());
        let service = service_fn(move |request| {
            let routes = routes.clone();
            async move { Ok::<_, Infallible>(routes.answer(request).await) }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .max_concurrent_streams(max_streams)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .serve_connection(TokioIo::new(socket), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = told(&mut stopping) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            meter.failed(Failure::Connection as usize);
            tracing::debug!(component = "grpc", "{peer}: {error}");
        }
    }
}
