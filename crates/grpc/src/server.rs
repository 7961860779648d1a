//! The listener, its connections, their end.
//!
//! On hyper itself, without tonic's own server: that takes only bodies of
//! plain `Bytes`, which cannot tell when they have been written (`reply`).

use crate::meter::{self, Failure};
use crate::request::Incoming;
use crate::routes::Routes;
use barnabas_engine::{Access, DropReason, Drops, Newcomer, Newcomers, Proxies, Tracing};
use barnabas_metrics::{Meter, Metered, Moved};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::RwLock;
use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// How long requests that run may take when the server stops.
const REQUESTS_LIMIT: Duration = Duration::from_secs(15);

/// A client is asked for a sign of life when it has been silent for so long,
/// so that a host that vanished does not hold messages in its window.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// What a client says first (RFC 9113, section 3.4).
const PREFACE: usize = 24;

/// All headers of a request (RFC 9113, section 6.5.2).
const HEADER_LIST: u32 = 16 << 10;

/// Requests that were reset before they were looked at; with more the
/// connection ends (CVE-2023-44487).
const RESET_UNSEEN: usize = 20;
/// And those that this side has reset.
const RESET_BY_US: usize = 1_024;

/// How long one that has to make room may take for it.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long a place is waited for before somebody else is asked to leave.
const PLACE_WAIT: Duration = Duration::from_secs(2);

/// Streams that a connection may have, however many there are.
const LEAST_STREAMS: u32 = 100;

/// How long a client may take over its TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// How much of a request may be under way unread: of each stream, of all of a
/// connection. A stream that produces does not wait for the way there and
/// back.
const STREAM_WINDOW: u32 = 512 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

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
    /// Connections at the same time, 10,000 by default; the next one gets the
    /// place of the one that has been there for longest without a request. If
    /// all have asked for something it waits until another has ended.
    pub max_connections: usize,
    /// Requests and streams at the same time, of all connections together,
    /// 20,000 by default; the next one is refused.
    pub max_requests: usize,
    /// Bytes of all messages that have come in part, 256 MiB by default; a
    /// request whose message finds no room is refused.
    pub max_messages_bytes: u64,
    /// How long a client may take over its first words, and over what it has
    /// begun to send of a message, 60 s by default.
    pub client_timeout: Duration,
    /// Requests and streams at the same time of one connection, 10,000 by
    /// default: one channel of a client may carry all of its polls, each of
    /// which is a stream that waits. Clients are told, and wait themselves.
    /// With many connections it is less: each one's share of `max_requests`, 100
    /// at least.
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
            max_requests: 20_000,
            max_messages_bytes: 256 << 20,
            client_timeout: Duration::from_secs(60),
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
                (
                    Incoming::new(options.max_messages_bytes, options.client_timeout),
                    options.max_requests,
                ),
            ),
            client_timeout: options.client_timeout,
            meter,
            tls: tls.clone(),
            max_streams: options.max_streams,
            max_requests: options.max_requests,
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
    max_requests: usize,
    client_timeout: Duration,
    stopping: watch::Receiver<bool>,
    meter: Arc<Meter>,
}

async fn accept(listener: tokio::net::TcpListener, connections: Connections, limit: usize) {
    let room = Arc::new(Semaphore::new(limit));
    let mut running = JoinSet::new();
    let newcomers = Arc::<Newcomers>::default();
    let mut stop = connections.stopping.clone();
    // The first of those that wait for a place.
    let mut first = None;
    loop {
        if let Some((socket, peer)) = first.take() {
            let place = tokio::select! {
                place = place(&room, &newcomers) => place,
                () = told(&mut stop) => break,
            };
            let (mut connections, newcomer) = (connections.clone(), newcomers.enter());
            connections.max_streams = streams(&connections, running.len());
            running.spawn(async move {
                connections.open(socket, peer, newcomer).await;
                drop(place);
            });
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = running.join_next() => continue,
            () = told(&mut stop) => break,
        };
        match accepted {
            Ok(accepted) => first = Some(accepted),
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

/// A place for a connection, as soon as there is one: somebody may come to rest
/// only later.
async fn place(room: &Arc<Semaphore>, newcomers: &Newcomers) -> Option<OwnedSemaphorePermit> {
    loop {
        let free = Arc::clone(room).try_acquire_owned();
        if let Ok(free) = free {
            return Some(free);
        }
        newcomers.send_one_away();
        let free = Arc::clone(room).acquire_owned();
        if let Ok(free) = tokio::time::timeout(PLACE_WAIT, free).await {
            // It is never closed.
            return free.ok();
        }
    }
}

/// How many streams the next connection may have beside so many others: what
/// HTTP/2 keeps of requests that nobody has looked at yet is in no other bound.
/// A few clients have as many as they like, a crowd has fewer each.
fn streams(connections: &Connections, others: usize) -> u32 {
    let share = connections.max_requests / (others + 1);
    let share = u32::try_from(share).unwrap_or(u32::MAX);
    share.max(LEAST_STREAMS).min(connections.max_streams)
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

/// Resolves when a client has not said its first words in this time. Later
/// hyper asks it for signs of life; who has nothing running for so long is one
/// that may have to make room.
async fn silent(heard: &AtomicUsize, limit: Duration, (running, newcomer): (&Weak<()>, &Newcomer)) {
    tokio::time::sleep(limit).await;
    if heard.load(Ordering::Relaxed) < PREFACE {
        return;
    }
    let mut looked = newcomer.asked();
    loop {
        tokio::time::sleep(limit).await;
        let asked = newcomer.asked();
        // One is the connection's own.
        if running.strong_count() <= 1 && asked == looked {
            newcomer.rests();
        }
        looked = asked;
    }
}

impl Connections {
    /// One client.
    async fn open(self, socket: TcpStream, peer: SocketAddr, newcomer: Newcomer) {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(component = "grpc", "{peer}: {error}");
        }
        let tls = self.tls.as_ref().map(|tls| Arc::clone(&tls.read()));
        let Some(tls) = tls.map(TlsAcceptor::from) else {
            return self.serve(socket, peer, newcomer).await;
        };
        let mut stopping = self.stopping.clone();
        // On the heap: a task without TLS has no room for it.
        let shaking = Box::pin(tls.accept(socket));
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(HANDSHAKE_LIMIT, shaking) => shaken,
            () = told(&mut stopping) => return,
            () = newcomer.sent_away() => return,
        };
        match shaken {
            Ok(Ok(socket)) => return Box::pin(self.serve(socket, peer, newcomer)).await,
            Ok(Err(error)) => tracing::debug!(component = "grpc", "{peer}: TLS: {error}"),
            Err(_) => tracing::debug!(component = "grpc", "{peer}: TLS handshake takes too long"),
        }
        self.meter.failed(Failure::Tls as usize);
    }

    async fn serve<S>(self, socket: S, peer: SocketAddr, newcomer: Newcomer)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self {
            routes,
            max_streams,
            client_timeout,
            mut stopping,
            meter,
            ..
        } = self;
        let heard = Arc::new(AtomicUsize::new(0));
        let socket = {
            let heard = Arc::clone(&heard);
            Metered::new(socket, &meter, move |moved| {
                if let Moved::Read(count) = moved {
                    heard.fetch_add(count, Ordering::Relaxed);
                }
            })
        };
        let newcomer = Arc::new(newcomer);
        let asking = Arc::clone(&newcomer);
        // Each request has a clone as long as it runs.
        let running = Arc::new(());
        let asked = Arc::downgrade(&running);
        let service = service_fn(move |request| {
            asking.has_asked();
            let running = Arc::clone(&running);
            let routes = routes.clone();
            // Boxed: it is much larger than a reply, which may wait for long until
            // its client takes it.
            let answer = Box::pin(routes.answer(request, running));
            async move { Ok::<_, Infallible>(answer.await) }
        });
        // Not in the task, which has room for each value that it moves.
        let mut connection = Box::pin(
            http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(KEEP_ALIVE)
                .max_concurrent_streams(max_streams)
                .max_header_list_size(HEADER_LIST)
                .max_pending_accept_reset_streams(RESET_UNSEEN)
                .max_local_error_reset_streams(RESET_BY_US)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .serve_connection(TokioIo::new(socket), service),
        );
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = silent(&heard, client_timeout, (&asked, &newcomer)) => return meter.failed(Failure::Connection as usize),
            () = newcomer.sent_away() => {
                meter.failed(Failure::Full as usize);
                if newcomer.asked() == 0 {
                    return;
                }
                // It may be asking just now: it hears what has been looked at.
                connection.as_mut().graceful_shutdown();
                match tokio::time::timeout(FAREWELL, connection).await {
                    Ok(ended) => ended,
                    Err(_) => return,
                }
            }
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
