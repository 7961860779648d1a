//! Listeners, I/O threads, and the order in which everything stops.

use crate::config::{Config, Error, TlsFiles};
use crate::connection;
use crate::offsets::Offsets;
use crate::registry::{Registry, order};
use crate::statistics::Statistics;
use crate::stream::Stream;
use barnabas_engine::{Cluster, Producer, Properties};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, watch};
use tokio_rustls::TlsAcceptor;

/// How long consumers get to commit and leave when the server stops.
const CONSUMERS_LIMIT: Duration = Duration::from_secs(10);
/// How long running commands get after that.
const COMMANDS_LIMIT: Duration = Duration::from_millis(500);
/// How long a TLS handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) cluster: Cluster,
    pub(crate) producer: Producer,
    pub(crate) offsets: Offsets,
    pub(crate) registry: Registry,
    pub(crate) statistics: Statistics,
    pub(crate) started: Instant,
    /// The first listener's port, for INFO.
    pub(crate) port: u16,
    /// Told when a connection has ended or a consumer has left its group.
    pub(crate) connection_closed: Notify,
    /// Where work goes on after its connection has gone.
    pub(crate) background: tokio::runtime::Handle,
}

impl Shared {
    pub(crate) fn consumer_is_closed(&self) {
        self.statistics.consumers.fetch_sub(1, Ordering::AcqRel);
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
}

/// How a drain went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Consumers that had not left their group within ten seconds.
    pub consumers_left: u64,
    /// Connections that had to be cut off in the middle of a command.
    pub connections_cut: u64,
}

impl Server {
    /// Starts accepting on the listeners and returns. Must be called inside a
    /// Tokio runtime, which carries only what outlives a connection; the
    /// connections live on I/O threads of their own.
    ///
    /// # Errors
    /// Sockets or threads that cannot be set up, unusable certificates, or
    /// producer properties that librdkafka refuses.
    pub fn start(
        listeners: Vec<TcpListener>,
        config: Config,
        cluster: Cluster,
    ) -> Result<Self, Error> {
        let tls = config.tls.as_ref().map(acceptor).transpose()?;
        let producer = cluster.producer(&Properties::new())?;
        let addresses = listeners
            .iter()
            .map(|listener| listener.local_addr().map_err(io("local address")))
            .collect::<Result<Vec<_>, _>>()?;
        let shared = Arc::new(Shared {
            producer,
            cluster,
            offsets: Offsets::default(),
            registry: Registry::default(),
            statistics: Statistics::default(),
            started: Instant::now(),
            port: addresses.first().map_or(0, SocketAddr::port),
            connection_closed: Notify::new(),
            background: tokio::runtime::Handle::current(),
            config,
        });
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
        };
        server.announce();
        Ok(server)
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

    /// The addresses it listens on, ports resolved.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Stops in the order of the contract (section 8, steps 1 to 5):
    /// consumers first, while producing goes on; then everybody. Takes at
    /// most about 11 seconds. The producers' queues are the caller's next
    /// step ([`Cluster::flush`]).
    pub async fn drain(mut self) -> Drained {
        tracing::info!(component = "server", "Shutting down: consumers leave");
        self.shared.registry.order_all(order::STOP_CONSUMING);
        let consumers = |shared: &Shared| shared.statistics.consumers.load(Ordering::Acquire);
        self.shared
            .wait_until(CONSUMERS_LIMIT, |shared| consumers(shared) == 0)
            .await;
        let consumers_left = consumers(&self.shared);
        tracing::info!(component = "server", "Shutting down: no more connections");
        self.stop_listening.send_replace(true);
        // The ports are free when this is over.
        for acceptor in self.acceptors.drain(..) {
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

fn io(what: &str) -> impl FnOnce(std::io::Error) -> Error {
    let what = what.to_owned();
    move |source| Error::Io { what, source }
}

/// Hands accepted sockets to the I/O threads in turn.
async fn accept(
    listener: tokio::net::TcpListener,
    shared: Arc<Shared>,
    inboxes: Vec<mpsc::UnboundedSender<(TcpAccepted, String)>>,
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
            Err(error) => {
                // Out of descriptors, most likely: those that are there go
                // on, and some will close.
                tracing::warn!(component = "server", "accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let limit = shared.config.max_connections as u64;
        if Statistics::get(&shared.statistics.connections) >= limit {
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
        let sent = threads
            .next()
            .is_some_and(|thread| thread.send((socket, peer.to_string())).is_ok());
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
    tls: Option<TlsAcceptor>,
    running: watch::Receiver<bool>,
}

impl Worker {
    async fn run(mut self, mut sockets: mpsc::UnboundedReceiver<(TcpAccepted, String)>) {
        let tasks = tokio::task::LocalSet::new();
        tasks
            .run_until(async {
                loop {
                    // Without a listener there are no more sockets, but the
                    // connections still have their last words to say.
                    tokio::select! {
                        Some((socket, peer)) = sockets.recv() => self.begin(socket, peer),
                        _ = self.running.changed() => return,
                    }
                }
            })
            .await;
        // Leaving the set drops every task that is still there.
    }

    fn begin(&self, socket: TcpAccepted, peer: String) {
        let shared = Arc::clone(&self.shared);
        let tls = self.tls.clone();
        tokio::task::spawn_local(async move {
            let place = Place(shared);
            let socket = match TcpStream::from_std(socket) {
                Ok(socket) => socket,
                Err(error) => {
                    tracing::warn!(component = "server", "{peer}: {error}");
                    return;
                }
            };
            let stream = match tls {
                None => Stream::plain(socket),
                Some(tls) => {
                    match tokio::time::timeout(HANDSHAKE_LIMIT, tls.accept(socket)).await {
                        Ok(Ok(stream)) => Stream::tls(stream),
                        Ok(Err(error)) => {
                            tracing::info!(component = "server", "{peer}: TLS: {error}");
                            return;
                        }
                        Err(_) => return,
                    }
                }
            };
            connection::serve(place, stream, peer).await;
        });
    }
}

/// A counted connection.
pub(crate) struct Place(pub(crate) Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        release_place(&self.0);
    }
}

pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, Error> {
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
    Ok(TlsAcceptor::from(Arc::new(config)))
}
