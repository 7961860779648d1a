//! `barnabas kafka-pixy`: the old program's flags, file and API (contract,
//! `pixy-api.md`, section 1).

mod config;
mod duration;
mod flags;

use crate::config::LogFormat;
use crate::{gateway, logging};
use anyhow::{Context as _, Result, anyhow, bail};
use barnabas_engine::{Cluster, Dispatcher, Properties, Proxies, Proxy};
use barnabas_http::{Listener, Server};
use config::{Logger, Resolved};
use flags::Flags;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Open files beside those of the clients.
const FILES: u64 = 65_536;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let flags = Flags::parse(arguments)?;
    if flags.help {
        print!("{}", flags::USAGE);
        return Ok(());
    }
    let resolved = config::load(&flags)?;
    start_log(&resolved.logging)?;
    for warning in &resolved.warnings {
        tracing::warn!(component = "server", "{warning}");
    }
    if resolved.tcp_addr.is_empty()
        && resolved.unix_addr.is_empty()
        && resolved.grpc_addr.is_empty()
    {
        bail!("at least one API server should be configured");
    }
    let _pid_file = flags.pid_file.map(PidFile::write).transpose()?;
    gateway::raise_file_limit(FILES);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(resolved))
}

/// The first logger that can be served: console or JSON.
fn start_log(loggers: &[Logger]) -> Result<()> {
    let known = |logger: &&Logger| matches!(logger.name.as_str(), "console" | "json");
    let (format, severity) = match loggers.iter().find(known) {
        Some(logger) if logger.name == "json" => (LogFormat::Json, logger.severity.as_str()),
        Some(logger) => (LogFormat::Text, logger.severity.as_str()),
        None => (LogFormat::Text, ""),
    };
    let level = match severity {
        "debug" => "debug",
        "warning" | "warn" => "warn",
        "error" | "fatal" | "panic" => "error",
        _ => "info",
    };
    logging::start(format, level)
}

/// Removed at the end.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: PathBuf) -> Result<Self> {
        std::fs::write(&path, std::process::id().to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// One running cluster.
struct Running {
    cluster: Cluster,
    dispatcher: Dispatcher,
    shutdown_timeout: Duration,
}

async fn serve(resolved: Resolved) -> Result<()> {
    let mut signals = Signals::new()?;
    let mut running = Vec::new();
    let mut proxies = BTreeMap::new();
    let mut reachable = Vec::new();
    for own in resolved.clusters {
        let problem = |error| {
            anyhow!(
                "failed to spawn proxy, name={}: failed to create Kafka client: {error}",
                own.name
            )
        };
        let cluster = Cluster::open(own.cluster).map_err(problem)?;
        let dispatcher = Dispatcher::start(&cluster, own.dispatch, &Properties::new());
        let dispatcher = dispatcher.map_err(problem)?;
        let proxy = Proxy::new(&cluster, dispatcher.clone(), own.options).map_err(problem)?;
        let producer = proxy.producer.clone();
        proxies.insert(own.name.clone(), proxy);
        reachable.push((own.name, own.dial_timeout, producer));
        running.push(Running {
            cluster,
            dispatcher,
            shutdown_timeout: own.shutdown_timeout,
        });
    }
    wait_for_any(reachable).await?;
    let listeners = listen(&resolved.tcp_addr, &resolved.unix_addr)?;
    let proxies = Arc::new(Proxies::new(resolved.default_cluster, proxies)?);
    let grpc = match resolved.grpc_addr.as_str() {
        "" => None,
        address => {
            let listener = gateway::bind(&go_address(address))
                .context("failed to start gRPC server: failed to create listener")?;
            Some(barnabas_grpc::Server::start(
                listener,
                Arc::clone(&proxies),
            )?)
        }
    };
    let server = Server::start(listeners, Arc::clone(&proxies))?;
    for address in server.addresses() {
        tracing::info!(component = "server", "Listening on {address}");
    }
    if !resolved.unix_addr.is_empty() {
        tracing::info!(component = "server", "Listening on {}", resolved.unix_addr);
    }
    signals.next().await;
    tracing::info!(component = "server", "Signal received: draining");
    proxies.refuse_work();
    let (hurry, hurried) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        signals.next().await;
        hurry.send_replace(true);
        // Whoever waits for this must not see its end before.
        std::future::pending::<()>().await;
    });
    let mut stopping = tokio::task::JoinSet::new();
    for own in running {
        let mut hurried = hurried.clone();
        stopping.spawn(async move {
            let skip = async {
                let _ = hurried.wait_for(|hurried| *hurried).await;
            };
            let (undelivered, ()) = tokio::join!(
                own.cluster.flush(own.shutdown_timeout),
                own.dispatcher.stop(skip)
            );
            if undelivered > 0 {
                tracing::error!(
                    component = "producer",
                    "{undelivered} messages were not delivered"
                );
            }
        });
    }
    while stopping.join_next().await.is_some() {}
    let grpc_stopped = async {
        if let Some(grpc) = grpc {
            grpc.stop().await;
        }
    };
    tokio::join!(server.stop(), grpc_stopped);
    if !resolved.unix_addr.is_empty() {
        let _ = std::fs::remove_file(&resolved.unix_addr);
    }
    tracing::info!(component = "server", "Bye");
    Ok(())
}

/// Waits until one of the clusters answers; the others may come later.
async fn wait_for_any(clusters: Vec<(String, Duration, barnabas_engine::Producer)>) -> Result<()> {
    let first = clusters.first().map(|(name, ..)| name.clone());
    let mut asking = tokio::task::JoinSet::new();
    for (name, limit, producer) in clusters {
        asking.spawn(async move {
            let asked = async {
                while producer.topic_names().await.is_err() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            let answer = tokio::time::timeout(limit, asked).await;
            if answer.is_err() {
                tracing::error!(component = "server", "cluster {name} does not answer");
            }
            answer.is_ok()
        });
    }
    while let Some(answer) = asking.join_next().await {
        if answer.unwrap_or(false) {
            // Nobody waits for the others, but the log tells of them.
            asking.detach_all();
            return Ok(());
        }
    }
    bail!(
        "failed to spawn proxy, name={}: failed to create Kafka client: kafka: client has run out \
         of available brokers to talk to (Is your cluster reachable?)",
        first.unwrap_or_default()
    )
}

fn listen(tcp: &str, unix: &str) -> Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    if !tcp.is_empty() {
        let listener = gateway::bind(&go_address(tcp)).context(
            "failed to start TCP socket based HTTP API server: failed to create listener",
        )?;
        listeners.push(Listener::Tcp(listener));
    }
    if !unix.is_empty() {
        listeners.push(Listener::Unix(unix_listener(Path::new(unix)).context(
            "failed to start Unix socket based HTTP API server: failed to create listener",
        )?));
    }
    Ok(listeners)
}

/// Go says every address without one.
fn go_address(address: &str) -> String {
    match address.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => address.to_owned(),
    }
}

/// A stale socket is removed; everybody may connect.
fn unix_listener(path: &Path) -> Result<std::os::unix::net::UnixListener> {
    let _ = std::fs::remove_file(path);
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
    Ok(listener)
}

/// The signals that end the old program.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self([
            signal(SignalKind::terminate()).context("SIGTERM")?,
            signal(SignalKind::interrupt()).context("SIGINT")?,
            signal(SignalKind::quit()).context("SIGQUIT")?,
        ]))
    }

    async fn next(&mut self) {
        let [terminate, interrupt, quit] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
        }
    }
}
