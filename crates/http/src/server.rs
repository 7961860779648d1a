//! Listeners, connections, and how they stop.
//!
//! What a connection may cost is bounded: their number, the time of a TLS
//! handshake, the time until a request's head is complete (which is also how
//! long a connection may be idle), its size, the pauses within a body. Where
//! there is no place left, who has not asked for anything yet makes room.

use crate::cors::Cors;
use crate::kafboy::{self, Kafboy};
use crate::kprf::{self, Kprf};
use crate::meter::{self, Failure};
use crate::page::{self, Observed};
use crate::reply::Reply;
use crate::request_id::RequestIds;
use crate::sender::Sender;
use crate::service;
use crate::turns::Turns;
use crate::v1::{IdempotencyOptions, Keys};
use barnabas_engine::{Access, DropReason, Drops, Newcomer, Newcomers, Proxies, Room, Tracing};
use barnabas_metrics::{Meter, Metered, Moved};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use parking_lot::RwLock;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a TLS handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How often it is said that there are too many connections.
const FULL_LOG_INTERVAL: Duration = Duration::from_secs(1);
/// An HTTP/2 client is asked for a sign of life when it has been silent for
/// so long, so that a host that vanished holds nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// What an HTTP/1 connection reads ahead, and the largest head of a request:
/// hyper's 400 KiB each are in no budget.
const BUFFER: usize = 64 << 10;
/// All headers of an HTTP/2 request (RFC 9113, section 6.5.2).
const HEADER_LIST: u32 = 16 << 10;
/// HTTP/2 requests that were reset before they were looked at; with more the
/// connection ends (CVE-2023-44487).
const RESET_UNSEEN: usize = 20;
/// And those that this side has reset.
const RESET_BY_US: usize = 1_024;
/// How long a place is waited for that somebody has to leave.
const PLACE_WAIT: Duration = Duration::from_secs(2);
/// Requests at the same time on one HTTP/2 connection.
const STREAMS: u32 = 256;

/// Where requests come in.
pub enum Listener {
    /// A TCP port.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

/// What is configured of the front end.
#[derive(Clone)]
pub struct Options {
    /// TLS on TCP listeners; never on Unix sockets. Without protocols of its
    /// own it offers `h2` and `http/1.1` (ALPN).
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Who may do what.
    pub access: Arc<Access>,
    /// Origins of web pages whose scripts may use the API (CORS); `*` is
    /// every origin, none switches it off.
    pub cors_origins: Vec<String>,
    /// How long the answers to requests with an `Idempotency-Key` are kept.
    pub idempotency: IdempotencyOptions,
    /// Bytes of all bodies in memory; a request whose body finds no room is
    /// refused. At least one of the largest batches, 64 MiB, has to fit.
    pub max_bodies_bytes: u64,
    /// Connections at the same time, of all listeners together. One more is
    /// accepted and closed at once, as nginx does it: its client, or the load
    /// balancer before it, learns now that it has to go elsewhere, not after
    /// the minutes that a place in the kernel's queue may take. Only if all
    /// have asked for something, though: who has not makes room.
    pub max_connections: usize,
    /// How long a request's head may take, and a connection be idle, over
    /// HTTP/1, up to a quarter more; and the longest pause within a body.
    pub client_timeout: Duration,
    /// How long running requests may take once the server stops.
    pub stop_limit: Duration,
    /// What becomes of the traces that requests belong to.
    pub tracing: Tracing,
    /// What counts requests and connections, [`meter`](crate::meter) by
    /// default.
    pub meter: Arc<Meter>,
}

impl Default for Options {
    /// No TLS, no tokens, no CORS, 256 MiB of bodies, 10,000 connections, 60 s
    /// and 5 s; traces are passed on.
    fn default() -> Self {
        Self {
            tls: None,
            access: Arc::default(),
            cors_origins: Vec::new(),
            idempotency: IdempotencyOptions::default(),
            max_bodies_bytes: 256 << 20,
            max_connections: 10_000,
            client_timeout: Duration::from_secs(60),
            stop_limit: Duration::from_secs(5),
            tracing: Tracing::default(),
            meter: meter::meter(),
        }
    }
}

/// What all requests share.
pub(crate) struct Shared {
    pub(crate) proxies: Arc<Proxies>,
    pub(crate) access: Arc<Access>,
    pub(crate) cors: Cors,
    pub(crate) ids: RequestIds,
    pub(crate) drops: Arc<Drops>,
    pub(crate) idempotency: Arc<Keys>,
    pub(crate) bodies: Arc<Room>,
    pub(crate) client_timeout: Duration,
    pub(crate) tracing: Tracing,
    pub(crate) meter: Arc<Meter>,
}

/// Whose routes a server has.
enum Application {
    /// Kafka-Pixy's and the native ones.
    Gateway(Shared),
    /// kprf's one.
    Kprf(Kprf, Arc<Access>, Tracing),
    /// kafboy's.
    Kafboy(Kafboy, Arc<Access>, Tracing),
    /// Those of a metrics port.
    Metrics(Arc<dyn Observed>),
}

impl Application {
    async fn answer(&self, address: Option<IpAddr>, request: Request<Incoming>) -> Reply {
        match self {
            Self::Gateway(shared) => service::answer(shared, request).await,
            Self::Kprf(kprf, access, tracing) => {
                let sender = Sender {
                    access,
                    tracing,
                    address,
                };
                kprf::answer(kprf, sender, request).await
            }
            Self::Kafboy(kafboy, access, tracing) => {
                let sender = Sender {
                    access,
                    tracing,
                    address,
                };
                kafboy::answer(kafboy, sender, request).await
            }
            Self::Metrics(shown) => page::answer(shown, &request.into_parts().0).await,
        }
    }
}

/// A running HTTP front end.
pub struct Server {
    drops: Arc<Drops>,
    stop: watch::Sender<bool>,
    acceptors: Vec<JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
    tls: Option<Arc<Tls>>,
}

/// What the next connection's handshake goes by.
type Tls = RwLock<Arc<rustls::ServerConfig>>;

impl Server {
    /// Starts accepting. Must be called inside a Tokio runtime, which carries
    /// the connections.
    ///
    /// # Errors
    /// Listeners that cannot be made non-blocking or registered.
    pub fn start(
        listeners: Vec<Listener>,
        proxies: Arc<Proxies>,
        options: Options,
    ) -> io::Result<Self> {
        let drops = Arc::new(Drops::new("http"));
        let shared = Shared {
            proxies,
            access: Arc::clone(&options.access),
            cors: Cors::new(&options.cors_origins),
            ids: RequestIds::new(),
            drops: Arc::clone(&drops),
            idempotency: Arc::new(Keys::new(options.idempotency)),
            bodies: Arc::new(Room::new(options.max_bodies_bytes)),
            client_timeout: options.client_timeout,
            tracing: options.tracing.clone(),
            meter: Arc::clone(&options.meter),
        };
        Self::run(listeners, Application::Gateway(shared), options, drops)
    }

    /// Serves kprf's API instead, its cluster called `kafka` in tokens' grants.
    /// CORS and the meter do not apply: it has none, and a meter of its own.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_kprf(listeners: Vec<Listener>, kprf: &Kprf, options: Options) -> io::Result<Self> {
        let (access, tracing) = (Arc::clone(&options.access), options.tracing.clone());
        let application = Application::Kprf(kprf.clone(), access, tracing);
        let options = Options {
            meter: kprf.meter(),
            ..options
        };
        Self::run(
            listeners,
            application,
            options,
            Arc::new(Drops::new("http")),
        )
    }

    /// Serves kafboy's API instead, its cluster called `ekaf` in tokens' grants.
    /// CORS and the meter do not apply: it has none, and a meter of its own.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_kafboy(
        listeners: Vec<Listener>,
        kafboy: &Kafboy,
        options: Options,
    ) -> io::Result<Self> {
        let (access, tracing) = (Arc::clone(&options.access), options.tracing.clone());
        let application = Application::Kafboy(kafboy.clone(), access, tracing);
        let options = Options {
            meter: Arc::clone(kafboy.meter()),
            ..options
        };
        let drops = Arc::new(Drops::new("http"));
        Self::run(listeners, application, options, drops)
    }

    /// Serves what kprf has on its metrics port.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_kprf_metrics(
        listeners: Vec<Listener>,
        kprf: &Kprf,
        options: Options,
    ) -> io::Result<Self> {
        Self::start_metrics(listeners, kprf.observed(), options)
    }

    /// Serves a metrics port. Of the options, tokens and CORS do not apply.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_metrics(
        listeners: Vec<Listener>,
        shown: Arc<dyn Observed>,
        options: Options,
    ) -> io::Result<Self> {
        let application = Application::Metrics(shown);
        let drops = Arc::new(Drops::new("http"));
        Self::run(listeners, application, options, drops)
    }

    fn run(
        listeners: Vec<Listener>,
        application: Application,
        options: Options,
        drops: Arc<Drops>,
    ) -> io::Result<Self> {
        let application = Arc::new(application);
        let tls = options.tls.map(with_protocols);
        let tls = tls.map(|config| Arc::new(Tls::new(config)));
        let places = options.max_connections.min(Semaphore::MAX_PERMITS);
        let places = Arc::new(Semaphore::new(places));
        let newcomers = Arc::<Newcomers>::default();
        let (stop, stopped) = watch::channel(false);
        let mut addresses = Vec::new();
        let mut acceptors = Vec::new();
        for listener in listeners {
            let connections = Connections {
                application: Arc::clone(&application),
                places: Arc::clone(&places),
                newcomers: Arc::clone(&newcomers),
                builder: Arc::new(builder()),
                client_timeout: options.client_timeout,
                stop_limit: options.stop_limit,
                meter: Arc::clone(&options.meter),
            };
            let stopped = stopped.clone();
            acceptors.push(match listener {
                Listener::Tcp(listener) => {
                    listener.set_nonblocking(true)?;
                    addresses.push(listener.local_addr()?);
                    let listener = TcpListener::from_std(listener)?;
                    let tls = tls.clone();
                    let accept = async move || {
                        let (socket, peer) = listener.accept().await?;
                        // Of one that is gone already, some systems say
                        // what a dead listener says.
                        let _ = socket.set_nodelay(true);
                        Ok(Accepted::new(socket, peer.ip(), tls.as_deref()))
                    };
                    tokio::spawn(connections.accept(accept, stopped))
                }
                Listener::Unix(listener) => {
                    listener.set_nonblocking(true)?;
                    let listener = UnixListener::from_std(listener)?;
                    let accept = async move || Ok(Accepted::Unix(listener.accept().await?.0));
                    tokio::spawn(connections.accept(accept, stopped))
                }
            });
        }
        Ok(Self {
            drops,
            stop,
            acceptors,
            addresses,
            tls,
        })
    }

    /// New connections are greeted so from now on; those that are there go on.
    /// False: this server has no TLS, and none can be added.
    pub fn replace_tls(&self, config: Arc<rustls::ServerConfig>) -> bool {
        let Some(tls) = &self.tls else {
            return false;
        };
        *tls.write() = with_protocols(config);
        true
    }

    /// The addresses of the TCP listeners, ports resolved.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What counts messages that are dropped, for those who show it.
    pub fn drops(&self) -> &Arc<Drops> {
        &self.drops
    }

    /// How many messages were dropped whose producers did not wait for
    /// Kafka's answer, by reason (contract, `consume-and-ack.md`, section 13,
    /// B23).
    pub fn dropped(&self) -> impl Iterator<Item = (DropReason, u64)> {
        self.drops.counts()
    }

    /// Resolves when a listener has died, which nothing brings back: then the
    /// process should end, so that another one takes its place (contract,
    /// `consume-and-ack.md`, section 13, B27). May be cancelled.
    pub async fn failed(&mut self) {
        std::future::poll_fn(|context| {
            let mut acceptors = self.acceptors.iter_mut();
            match acceptors.any(|acceptor| Pin::new(acceptor).poll(context).is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Stops accepting and lets running requests end, within the limit of the
    /// options.
    /// [`Proxies::refuse_work`] comes first.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // One that has died has been polled to its end.
        for acceptor in self.acceptors.into_iter().filter(|one| !one.is_finished()) {
            let _ = acceptor.await;
        }
    }
}

/// Whether a listener will never accept again.
fn is_final(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK)
    )
}

fn with_protocols(config: Arc<rustls::ServerConfig>) -> Arc<rustls::ServerConfig> {
    if !config.alpn_protocols.is_empty() {
        return config;
    }
    let mut config = (*config).clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

/// HTTP/1.1 and, by what a client says first, HTTP/2.
fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Ours is `Turns`: hyper's costs each request a timer of its own and a
    // read that finds nothing.
    builder.http1().header_read_timeout(None);
    builder.http1().max_buf_size(BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST)
        .max_pending_accept_reset_streams(RESET_UNSEEN)
        .max_local_error_reset_streams(RESET_BY_US)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    builder
}

/// A client that has come, before a TLS handshake.
enum Accepted {
    Tcp(TcpStream, IpAddr),
    Tls(TcpStream, IpAddr, TlsAcceptor),
    Unix(tokio::net::UnixStream),
}

impl Accepted {
    fn new(socket: TcpStream, peer: IpAddr, tls: Option<&Tls>) -> Self {
        match tls {
            Some(tls) => Self::Tls(socket, peer, Arc::clone(&tls.read()).into()),
            None => Self::Tcp(socket, peer),
        }
    }
}

/// What the connections of a listener share.
#[derive(Clone)]
struct Connections {
    application: Arc<Application>,
    places: Arc<Semaphore>,
    newcomers: Arc<Newcomers>,
    builder: Arc<auto::Builder<TokioExecutor>>,
    client_timeout: Duration,
    stop_limit: Duration,
    meter: Arc<Meter>,
}

impl Connections {
    /// Accepts until the server stops, then sees the connections off.
    async fn accept<F>(self, mut accept: F, mut stopped: watch::Receiver<bool>)
    where
        F: AsyncFnMut() -> io::Result<Accepted>,
    {
        let graceful = GracefulShutdown::new();
        let mut told = None;
        loop {
            let accepted = tokio::select! {
                accepted = accept() => accepted,
                _ = stopped.wait_for(|stopped| *stopped) => break,
            };
            let accepted = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_final(&error) => {
                    tracing::error!(component = "http", "accept: {error}");
                    break;
                }
                Err(error) => {
                    // Out of descriptors, most likely: those that are there
                    // go on, and some will close.
                    self.meter.failed(Failure::Accept as usize);
                    tracing::warn!(component = "http", "accept: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let place = Arc::clone(&self.places).try_acquire_owned().ok();
            if place.is_none() && !self.newcomers.send_one_away() {
                self.meter.failed(Failure::Full as usize);
                if told.is_none_or(|told: Instant| told.elapsed() > FULL_LOG_INTERVAL) {
                    told = Some(Instant::now());
                    tracing::warn!(component = "http", "too many connections: one is closed");
                }
                continue;
            };
            let (own, watcher) = (self.clone(), graceful.watcher());
            tokio::spawn(async move {
                let place = match place {
                    Some(place) => Some(place),
                    None => own.place_of_another().await,
                };
                if place.is_some() {
                    let newcomer = own.newcomers.enter();
                    own.greet(accepted, watcher, newcomer).await;
                } else {
                    own.meter.failed(Failure::Full as usize);
                }
                drop(place);
            });
        }
        drop(accept);
        let _ = tokio::time::timeout(self.stop_limit, graceful.shutdown()).await;
    }

    /// The place of the one that was sent away. Who gets it instead of this one
    /// was sent one, too.
    async fn place_of_another(&self) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.places).acquire_owned();
        tokio::time::timeout(PLACE_WAIT, place).await.ok()?.ok()
    }

    async fn greet(self, accepted: Accepted, watcher: Watcher, newcomer: Newcomer) {
        match accepted {
            Accepted::Tcp(socket, peer) => {
                self.serve(socket, Some(peer), watcher, newcomer).await;
            }
            Accepted::Unix(socket) => self.serve(socket, None, watcher, newcomer).await,
            Accepted::Tls(socket, peer, tls) => {
                // On the heap: a task without TLS has no room for it.
                let shaking = Box::pin(tls.accept(socket));
                let shaken = tokio::select! {
                    shaken = tokio::time::timeout(HANDSHAKE_LIMIT, shaking) => shaken,
                    () = newcomer.sent_away() => return,
                };
                match shaken {
                    Ok(Ok(socket)) => {
                        let serving = self.serve(socket, Some(peer), watcher, newcomer);
                        return Box::pin(serving).await;
                    }
                    Ok(Err(error)) => tracing::debug!(component = "http", "TLS: {error}"),
                    Err(_) => {
                        tracing::debug!(component = "http", "TLS: the handshake took too long");
                    }
                }
                self.meter.failed(Failure::Tls as usize);
            }
        }
    }

    async fn serve<S>(self, socket: S, peer: Option<IpAddr>, watcher: Watcher, newcomer: Newcomer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let meter = self.meter;
        let turns = Arc::new(Turns::default());
        let socket = {
            let turns = Arc::clone(&turns);
            Metered::new(socket, &meter, move |moved| {
                if moved == Moved::Written {
                    turns.written();
                }
            })
        };
        let newcomer = Arc::new(newcomer);
        let service = {
            let (application, turns) = (self.application, Arc::clone(&turns));
            let newcomer = Arc::clone(&newcomer);
            service_fn(move |request| {
                newcomer.has_asked();
                let turn = turns.begin(request.version());
                let application = Arc::clone(&application);
                // On the heap while it runs: hyper keeps room for it in each
                // connection, idle or not.
                Box::pin(async move {
                    let reply = application.answer(peer, request).await;
                    drop(turn);
                    Ok::<_, Infallible>(reply)
                })
            })
        };
        // A task has room for each value that it moves on the way; these are
        // large, and there are many connections.
        let mut connection = Box::pin({
            let socket = TokioIo::new(socket);
            let connection = self.builder.serve_connection(socket, service);
            watcher.watch(connection.into_owned())
        });
        let served = tokio::select! {
            biased;
            served = &mut connection => served,
            () = turns.none_for(self.client_timeout, || newcomer.rests()) => return,
            () = newcomer.sent_away() => {
                meter.failed(Failure::Full as usize);
                return;
            }
        };
        if let Err(error) = served {
            meter.failed(Failure::Connection as usize);
            tracing::debug!(component = "http", "connection: {error}");
        }
    }
}
