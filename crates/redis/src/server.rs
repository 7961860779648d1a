//! Listeners, I/O threads, and the order in which everything stops.

use crate::config::{Config, Error, TlsFiles};
use crate::connection;
use crate::meter::{self, Failure};
use crate::offsets::Offsets;
use crate::registry::{Registry, order};
use crate::statistics::Statistics;
use crate::stream::Stream;
use crate::streams::Streams;
use barnabas_engine::{Cluster, Newcomer, Newcomers, Producer, Properties, Proxy, Room};
use barnabas_metrics::{Connected, Meter};
use parking_lot::RwLock;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio_rustls::TlsAcceptor;

/// How long consumers get to commit and leave when the server stops.
const CONSUMERS_LIMIT: Duration = Duration::from_secs(10);
/// How long acknowledgements of what streams' consumers hold are waited for.
const STREAMS_LIMIT: Duration = Duration::from_secs(1);
/// How often it is looked whether they have come.
const STREAMS_PAUSE: Duration = Duration::from_millis(20);
/// How long running commands get after that.
const COMMANDS_LIMIT: Duration = Duration::from_millis(500);
/// Connections above their bound that have been sent away and are still there.
const LEAVING: u64 = 64;
/// How long a TLS handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) cluster: Cluster,
    pub(crate) producer: Producer,
    pub(crate) offsets: Offsets,
    /// Consumers of streams, where the server has groups for them.
    pub(crate) streams: Option<Streams>,
    pub(crate) registry: Registry,
    pub(crate) statistics: Statistics,
    pub(crate) meter: Arc<Meter>,
    /// What input takes of which nothing can be executed yet.
    pub(crate) input: Arc<Room>,
    newcomers: Arc<Newcomers>,
    pub(crate) started: Instant,
    /// The first listener's port, for INFO.
    pub(crate) port: u16,
    /// Told when a connection has ended or a consumer has left its group.
    pub(crate) connection_closed: Notify,
    /// Where work goes on after its connection has gone.
    pub(crate) background: tokio::runtime::Handle,
}

impl Shared {
    pub(crate) fn consumer_is_closed(&self, has_left: bool) {
        if has_left {
            self.statistics.consumers.fetch_sub(1, Ordering::AcqRel);
        } else {
            Statistics::add(&self.statistics.consumers_given_up, 1);
        }
        self.connection_closed.notify_waiters();
    }

    /// Waits until `done` holds, or the limit is over; says whether it holds.
    async fn wait_until(&self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let changed = self.connection_closed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if done(self) {
                return true;
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                return done(self);
            }
        }
    }
}

/// A running Redis front end.
pub struct Server {
    shared: Arc<Shared>,
    stop_listening: watch::Sender<bool>,
    stop_threads: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    acceptors: Vec<tokio::task::JoinHandle<()>>,
    addresses: Vec<SocketAddr>,
    tls: Option<Arc<Tls>>,
}

/// What the next connection's handshake goes by.
type Tls = RwLock<Arc<rustls::ServerConfig>>;

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Consumers that had not left their group within ten seconds, or could
    /// not.
    pub consumers_left: u64,
    /// Connections that had to be cut off in the middle of a command.
    pub connections_cut: u64,
}

impl Server {
    /// Starts accepting on the listeners and returns. Must be called inside a
    /// Tokio runtime, which carries only what outlives a connection; the
    /// connections live on I/O threads of their own.
    ///
    /// `proxy` serves the consumer groups of streams (contract, 13.3); it must
    /// be one of `cluster`, and whoever has made it stops its dispatcher after
    /// [`drain`](Self::drain). Without it
    /// XREADGROUP, XACK, XGROUP and XINFO say that there are no groups here.
    ///
    /// # Errors
    /// Sockets or threads that cannot be set up, unusable certificates, or
    /// producer properties that librdkafka refuses.
    pub fn start(
        listeners: Vec<TcpListener>,
        config: Config,
        cluster: Cluster,
        proxy: Option<Arc<Proxy>>,
    ) -> Result<Self, Error> {
        let tls = config.tls.as_ref().map(load_tls).transpose()?;
        let tls = tls.map(|config| Arc::new(Tls::new(config)));
        let producer = cluster.producer(&Properties::new())?;
        let addresses = listeners
            .iter()
            .map(|listener| listener.local_addr().map_err(io("local address")))
            .collect::<Result<Vec<_>, _>>()?;
        let shared = Arc::new(Shared {
            producer,
            cluster,
            offsets: Offsets::default(),
            streams: proxy.map(|proxy| Streams::new(proxy, config.stream_idle)),
            registry: Registry::default(),
            statistics: Statistics::default(),
            meter: meter::meter(),
            input: Arc::new(Room::new(config.max_input_bytes)),
            newcomers: Arc::default(),
            started: Instant::now(),
            port: addresses.first().map_or(0, SocketAddr::port),
            connection_closed: Notify::new(),
            background: tokio::runtime::Handle::current(),
            config,
        });
        if shared.streams.is_some() {
            let idle_limit = shared.config.stream_idle;
            tokio::spawn(Streams::watch(Arc::downgrade(&shared), idle_limit));
        }
        let (stop_listening, listening) = watch::channel(false);
        let (stop_threads, running) = watch::channel(false);
        let mut threads = Vec::new();
        let mut inboxes = Vec::new();
        for index in 0..shared.config.threads.max(1) {
            let (inbox, sockets) = mpsc::unbounded_channel();
            inboxes.push(inbox);
            let worker = Worker {
                shared: Arc::clone(&shared),
                tls: tls.clone(),
                running: running.clone(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(io("I/O runtime"))?;
            let thread = std::thread::Builder::new()
                .name(format!("redis-io-{index}"))
                .spawn(move || runtime.block_on(worker.run(sockets)))
                .map_err(io("I/O thread"))?;
            threads.push(thread);
        }
        let mut acceptors = Vec::new();
        for listener in listeners {
            listener.set_nonblocking(true).map_err(io("listener"))?;
            let listener = tokio::net::TcpListener::from_std(listener).map_err(io("listener"))?;
            acceptors.push(tokio::spawn(accept(
                listener,
                Arc::clone(&shared),
                inboxes.clone(),
                listening.clone(),
            )));
        }
        let server = Self {
            shared,
            stop_listening,
            stop_threads,
            threads,
            acceptors,
            addresses,
            tls,
        };
        server.announce();
        Ok(server)
    }

    /// Other certificates, for the connections from now on; those that are
    /// there go on. False: this server has no TLS, and none can be added.
    pub fn replace_tls(&self, config: Arc<rustls::ServerConfig>) -> bool {
        let Some(tls) = &self.tls else {
            return false;
        };
        *tls.write() = config;
        true
    }

    fn announce(&self) {
        for address in &self.addresses {
            tracing::info!(component = "server", "Listening on {address}");
            if !address.ip().is_loopback() && !self.shared.config.requires_login() {
                tracing::warn!(
                    component = "server",
                    "{address} is open to the network without a password"
                );
            }
        }
    }

    /// What counts its commands and connections.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.shared.meter
    }

    /// The addresses it listens on, ports resolved.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
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

    /// Stops in the order of the contract (section 8, steps 1 to 5):
    /// consumers first, while producing goes on; then everybody. Takes at
    /// most about 11 seconds. The producers' queues are the caller's next
    /// step ([`Cluster::flush`]).
    pub async fn drain(mut self) -> Drained {
        tracing::info!(component = "server", "Shutting down: consumers leave");
        self.shared.registry.order_all(order::STOP_CONSUMING);
        let consumers = |shared: &Shared| shared.statistics.consumers.load(Ordering::Acquire);
        let given_up =
            |shared: &Shared| shared.statistics.consumers_given_up.load(Ordering::Acquire);
        let given_up_before = given_up(&self.shared);
        self.shared
            .wait_until(CONSUMERS_LIMIT, |shared| {
                consumers(shared) <= given_up(shared)
            })
            .await;
        let consumers_left = consumers(&self.shared).saturating_sub(given_up_before);
        self.end_streams().await;
        tracing::info!(component = "server", "Shutting down: no more connections");
        self.stop_listening.send_replace(true);
        // The ports are free when this is over. One that has died has been
        // polled to its end.
        let acceptors = self.acceptors.drain(..);
        for acceptor in acceptors.filter(|one| !one.is_finished()) {
            let _ = acceptor.await;
        }
        self.shared.registry.order_all(order::CLOSE);
        let connections = |shared: &Shared| shared.statistics.connections.load(Ordering::Acquire);
        self.shared
            .wait_until(COMMANDS_LIMIT, |shared| connections(shared) == 0)
            .await;
        let connections_cut = connections(&self.shared);
        self.stop_threads.send_replace(true);
        for thread in self.threads.drain(..) {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        Drained {
            consumers_left,
            connections_cut,
        }
    }
}

impl Server {
    /// Whoever reads streams has been told to stop, and may still acknowledge
    /// what it has; then the rest is for others.
    async fn end_streams(&self) {
        let Some(streams) = &self.shared.streams else {
            return;
        };
        let deadline = Instant::now() + STREAMS_LIMIT;
        while streams.hold_something() && Instant::now() < deadline {
            tokio::time::sleep(STREAMS_PAUSE).await;
        }
        streams.end_all(&self.shared.registry);
    }
}

fn io(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.to_owned();
    move |source| Error::Io { what, source }
}

/// Whether a listener will never accept again.
fn is_final(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK)
    )
}

/// Hands accepted sockets to the I/O threads in turn, until the server stops
/// or the listener dies.
async fn accept(
    listener: tokio::net::TcpListener,
    shared: Arc<Shared>,
    inboxes: Vec<mpsc::UnboundedSender<Arrived>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut threads = inboxes.iter().cycle();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_final(&error) => {
                tracing::error!(component = "server", "accept: {error}");
                return;
            }
            Err(error) => {
                // Out of descriptors, most likely: those that are there go
                // on, and some will close.
                shared.meter.failed(Failure::Accept as usize);
                tracing::warn!(component = "server", "accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let limit = shared.config.max_connections as u64;
        let connections = Statistics::get(&shared.statistics.connections);
        // Who is sent away is there for a moment more.
        let is_full = connections >= limit + LEAVING
            || connections >= limit && !shared.newcomers.send_one_away();
        if is_full {
            shared.meter.failed(Failure::Full as usize);
            let _ = socket.try_write(b"-ERR max number of clients reached\r\n");
            continue;
        }
        shared.statistics.connections.fetch_add(1, Ordering::AcqRel);
        Statistics::add(&shared.statistics.connections_total, 1);
        let socket = match prepare(socket) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(component = "server", "{peer}: {error}");
                release_place(&shared);
                continue;
            }
        };
        let (peer, newcomer) = (peer.to_string(), shared.newcomers.enter());
        let sent = threads
            .next()
            .is_some_and(|thread| thread.send((socket, peer, newcomer)).is_ok());
        if !sent {
            release_place(&shared);
        }
    }
}

fn release_place(shared: &Shared) {
    shared.statistics.connections.fetch_sub(1, Ordering::AcqRel);
    shared.connection_closed.notify_waiters();
}

/// A socket between two runtimes.
type TcpAccepted = std::net::TcpStream;
/// And who is behind it.
type Arrived = (TcpAccepted, String, Newcomer);

/// No delay, and keep-alive probes so that names of vanished hosts come back
/// within a minute.
fn prepare(socket: TcpStream) -> std::io::Result<TcpAccepted> {
    socket.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
    socket.into_std()
}

/// One I/O thread.
struct Worker {
    shared: Arc<Shared>,
    tls: Option<Arc<Tls>>,
    running: watch::Receiver<bool>,
}

impl Worker {
    async fn run(mut self, mut sockets: mpsc::UnboundedReceiver<Arrived>) {
        let tasks = tokio::task::LocalSet::new();
        tasks
            .run_until(async {
                loop {
                    // Without a listener there are no more sockets, but the
                    // connections still have their last words to say.
                    tokio::select! {
                        Some(arrived) = sockets.recv() => self.begin(arrived),
                        _ = self.running.changed() => return,
                    }
                }
            })
            .await;
        // Leaving the set drops every task that is still there.
    }

    fn begin(&self, (socket, peer, newcomer): Arrived) {
        let shared = Arc::clone(&self.shared);
        let tls = self.tls.as_ref().map(|tls| Arc::clone(&tls.read()));
        let tls = tls.map(TlsAcceptor::from);
        tokio::task::spawn_local(async move {
            let place = Place {
                _connected: shared.meter.connected(),
                shared,
            };
            let socket = match TcpStream::from_std(socket) {
                Ok(socket) => socket,
                Err(error) => {
                    tracing::warn!(component = "server", "{peer}: {error}");
                    return;
                }
            };
            let ahead = place.shared.input.keep_nothing();
            let limit = place.shared.config.client_timeout;
            let stream = match tls {
                None => Stream::plain(socket, ahead, limit),
                Some(tls) => {
                    let shaken = tokio::select! {
                        shaken = tokio::time::timeout(HANDSHAKE_LIMIT, tls.accept(socket)) => shaken,
                        () = newcomer.sent_away() => return,
                    };
                    match shaken {
                        Ok(Ok(stream)) => Stream::tls(stream, ahead, limit),
                        Ok(Err(error)) => {
                            place.shared.meter.failed(Failure::Tls as usize);
                            tracing::info!(component = "server", "{peer}: TLS: {error}");
                            return;
                        }
                        Err(_) => {
                            place.shared.meter.failed(Failure::Tls as usize);
                            return;
                        }
                    }
                }
            };
            connection::serve(place, stream, peer, &newcomer).await;
        });
    }
}

/// A counted connection.
pub(crate) struct Place {
    pub(crate) shared: Arc<Shared>,
    _connected: Connected,
}

impl Drop for Place {
    fn drop(&mut self) {
        release_place(&self.shared);
    }
}

pub(crate) fn load_tls(files: &TlsFiles) -> Result<Arc<rustls::ServerConfig>, Error> {
    let problem = |path: &Path, reason: String| Error::Tls {
        path: path.to_owned(),
        reason,
    };
    let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, Error> {
        CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| problem(path, error.to_string()))
    };
    let chain = certificates(&files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| problem(&files.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| problem(&files.cert, error.to_string()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = rustls::RootCertStore::empty();
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| problem(path, error.to_string()))?;
            }
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider,
            )
            .build()
            .map_err(|error| problem(path, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder
        .with_single_cert(chain, key)
        .map_err(|error| problem(&files.cert, error.to_string()))?;
    Ok(Arc::new(config))
}
