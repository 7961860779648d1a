//! HTTP and gRPC as both kinds of configuration start and stop them.

use crate::config::Limits;
use crate::gateway;
use crate::metrics::Counted;
use anyhow::{Context as _, Result};
use barnabas_engine::{Access, Proxies, Tracing};
use barnabas_http::{IdempotencyOptions, Listener};
use barnabas_metrics::Meter;
use rustls::ServerConfig;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

/// Listeners that are bound, and what is configured of them.
#[derive(Default)]
pub(crate) struct Bound {
    pub(crate) http: Vec<TcpListener>,
    pub(crate) unix: Option<BoundUnix>,
    pub(crate) grpc: Vec<TcpListener>,
    pub(crate) http_tls: Option<Arc<ServerConfig>>,
    pub(crate) grpc_tls: Option<Arc<ServerConfig>>,
    pub(crate) access: Arc<Access>,
    pub(crate) cors_origins: Vec<String>,
    pub(crate) idempotency: IdempotencyOptions,
    pub(crate) http_limits: Limits,
    pub(crate) grpc_limits: Limits,
    pub(crate) tracing: Tracing,
}

/// A Unix socket; its file goes when this goes.
pub(crate) struct BoundUnix {
    listener: UnixListener,
    file: SocketFile,
}

struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl BoundUnix {
    /// A stale socket is removed; everybody may connect (contract,
    /// `pixy-api.md`, section 1).
    pub(crate) fn bind(path: &Path) -> Result<Self> {
        use std::os::unix::fs::FileTypeExt as _;
        let is_socket = path
            .symlink_metadata()
            .is_ok_and(|file| file.file_type().is_socket());
        if is_socket {
            let _ = std::fs::remove_file(path);
        }
        let cannot = || format!("cannot listen on {}", path.display());
        let listener = UnixListener::bind(path).with_context(cannot)?;
        gateway::widen(&listener).with_context(cannot)?;
        let file = SocketFile(path.to_owned());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))
            .with_context(cannot)?;
        Ok(Self { listener, file })
    }
}

/// Where they listen, ports resolved.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) redis: Vec<SocketAddr>,
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) grpc: Vec<SocketAddr>,
    pub(crate) metrics: Vec<SocketAddr>,
}

/// HTTP and gRPC, running.
pub(crate) struct FrontEnds {
    http: Option<barnabas_http::Server>,
    grpc: Vec<barnabas_grpc::Server>,
    meters: Vec<Arc<Meter>>,
    _socket: Option<SocketFile>,
}

impl FrontEnds {
    /// Must be called inside the Tokio runtime that is to carry them.
    pub(crate) fn start(bound: Bound, proxies: &Arc<Proxies>) -> Result<Self> {
        let mut listeners: Vec<Listener> = bound.http.into_iter().map(Listener::Tcp).collect();
        let mut socket = None;
        let mut meters = Vec::new();
        if let Some(unix) = bound.unix {
            tracing::info!(component = "http", "Listening on {}", unix.file.0.display());
            listeners.push(Listener::Unix(unix.listener));
            socket = Some(unix.file);
        }
        let http = if listeners.is_empty() {
            None
        } else {
            let meter = barnabas_http::meter();
            meters.push(Arc::clone(&meter));
            let defaults = barnabas_http::Options::default();
            let limits = bound.http_limits;
            let options = barnabas_http::Options {
                meter,
                tls: bound.http_tls,
                access: Arc::clone(&bound.access),
                cors_origins: bound.cors_origins,
                idempotency: bound.idempotency,
                max_bodies_bytes: limits.max_bytes.unwrap_or(defaults.max_bodies_bytes),
                max_connections: limits.max_connections.unwrap_or(defaults.max_connections),
                client_timeout: limits.client_timeout.unwrap_or(defaults.client_timeout),
                tracing: bound.tracing.clone(),
                ..defaults
            };
            let server = barnabas_http::Server::start(listeners, Arc::clone(proxies), options)?;
            for address in server.addresses() {
                tracing::info!(component = "http", "Listening on {address}");
            }
            Some(server)
        };
        let mut grpc = Vec::new();
        let grpc_meter = barnabas_grpc::meter();
        if !bound.grpc.is_empty() {
            meters.push(Arc::clone(&grpc_meter));
        }
        for listener in bound.grpc {
            let defaults = barnabas_grpc::Options::default();
            let limits = bound.grpc_limits;
            let options = barnabas_grpc::Options {
                max_connections: limits.max_connections.unwrap_or(defaults.max_connections),
                max_requests: limits.max_requests.unwrap_or(defaults.max_requests),
                max_messages_bytes: limits.max_bytes.unwrap_or(defaults.max_messages_bytes),
                client_timeout: limits.client_timeout.unwrap_or(defaults.client_timeout),
                meter: Arc::clone(&grpc_meter),
                tls: bound.grpc_tls.clone(),
                access: Arc::clone(&bound.access),
                tracing: bound.tracing.clone(),
                ..defaults
            };
            grpc.push(barnabas_grpc::Server::start(
                listener,
                Arc::clone(proxies),
                options,
            )?);
        }
        let started = Self {
            http,
            grpc,
            meters,
            _socket: socket,
        };
        if bound.access.is_open() {
            gateway::warn_if_open(&started.addresses(), "without tokens");
        }
        Ok(started)
    }

    /// What they count.
    pub(crate) fn counted(&self) -> Counted {
        let http = self.http.iter();
        let http = http.map(|server| ("http", Arc::clone(server.drops())));
        let grpc = self.grpc.iter();
        let grpc = grpc.map(|server| ("grpc", Arc::clone(server.drops())));
        Counted {
            meters: self.meters.clone(),
            drops: http.chain(grpc).collect(),
        }
    }

    /// Where they listen; of Redis nothing.
    pub(crate) fn addresses(&self) -> Addresses {
        Addresses {
            redis: Vec::new(),
            metrics: Vec::new(),
            http: self
                .http
                .as_ref()
                .map_or_else(Vec::new, |http| http.addresses().to_vec()),
            grpc: self
                .grpc
                .iter()
                .flat_map(|grpc| grpc.addresses().to_vec())
                .collect(),
        }
    }

    /// Resolves when a listener has died: the process is to end with 1
    /// (contract, section 13, B27).
    pub(crate) async fn failed(&mut self) {
        let mut waiting = Vec::new();
        if let Some(http) = &mut self.http {
            waiting.push(Box::pin(http.failed()) as Pin<Box<dyn Future<Output = ()> + Send + '_>>);
        }
        for grpc in &mut self.grpc {
            waiting.push(Box::pin(grpc.failed()));
        }
        std::future::poll_fn(|context| {
            match waiting
                .iter_mut()
                .any(|one| one.as_mut().poll(context).is_ready())
            {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
        tracing::error!(component = "server", "A listener has died");
    }

    /// New connections are greeted with these certificates; without, nothing
    /// changes.
    pub(crate) fn replace_tls(
        &self,
        http: Option<Arc<ServerConfig>>,
        grpc: Option<Arc<ServerConfig>>,
    ) {
        if let (Some(server), Some(config)) = (&self.http, http) {
            server.replace_tls(config);
        }
        for server in &self.grpc {
            if let Some(config) = &grpc {
                server.replace_tls(config);
            }
        }
    }

    /// The last step: no more connections; what is being answered is
    /// answered.
    pub(crate) async fn stop(self) {
        let mut stopping = tokio::task::JoinSet::new();
        for grpc in self.grpc {
            stopping.spawn(grpc.stop());
        }
        if let Some(http) = self.http {
            stopping.spawn(http.stop());
        }
        stopping.join_all().await;
    }
}
