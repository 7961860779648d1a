//! `barnabas kafka-pixy`: the old program's flags, file and API (contract,
//! `pixy-api.md`, section 1).

mod client_id;
mod cluster;
mod duration;
mod environment;
mod file;
mod flags;
mod reload;
mod resolve;
mod telemetry;

use crate::clusters::{Clusters, OpenError};
use crate::config::LogFormat;
use crate::front_ends::{Bound, BoundUnix, FrontEnds};
use crate::metrics::{self, Metrics};
use crate::reload::Watch;
use crate::telemetry::Telemetry;
use crate::{gateway, logging, tls};
use anyhow::{Context as _, Result, anyhow, bail};
use barnabas_engine::CLUSTER_UNREACHABLE;
use file::Logger;
use flags::Flags;
use reload::Reloading;
use resolve::Resolved;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What spans and metrics get at the end.
const TELEMETRY_LIMIT: Duration = Duration::from_secs(2);

/// Fewer open files than this are soon too few.
const FEW_FILES: u64 = 4_096;

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let flags = Flags::parse(arguments)?;
    if flags.help {
        print!("{}", flags::USAGE);
        return Ok(());
    }
    let resolved = resolve::load(&flags)?;
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
    let _pid_file = flags.pid_file.clone().map(PidFile::write).transpose()?;
    gateway::raise_file_limit(gateway::FILES, FEW_FILES);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(serve(&flags, resolved))
}

/// Keys that differ when a file is read twice, for the fuzz targets.
pub(crate) fn read_twice(path: &Path) -> Result<Vec<String>> {
    let flags = Flags {
        config: Some(path.to_owned()),
        ..Flags::default()
    };
    let (one, other) = (resolve::load(&flags)?, resolve::load(&flags)?);
    Ok(reload::differences_of(&one, &other))
}

fn start_log(loggers: &[Logger]) -> Result<()> {
    let (format, level) = severity(loggers);
    logging::start(format, level)
}

/// The first logger that can be served, console or JSON, and its level.
fn severity(loggers: &[Logger]) -> (LogFormat, &'static str) {
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
    (format, level)
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

async fn serve(flags: &Flags, resolved: Resolved) -> Result<()> {
    let mut signals = Signals::new()?;
    let mut reloading = Reloading::of(flags, &resolved);
    let mut watch = Watch::new(reloading.files())?;
    let (tls_files, tokens) = (resolved.tls, resolved.tokens);
    let load = |protocols| {
        let loaded = tls_files.as_ref().map(|files| tls::load(files, protocols));
        loaded.transpose()
    };
    let http_tls = load(tls::HTTP).context("tls")?;
    let grpc_tls = load(tls::GRPC).context("failed to configure gRPC security")?;
    let dial_timeouts = resolved.clusters.iter().map(|own| own.dial_timeout);
    let dial_timeouts = dial_timeouts.collect();
    let flush_limits: Vec<_> = resolved
        .clusters
        .iter()
        .map(|own| own.shutdown_timeout)
        .collect();
    let mut plans: Vec<_> = resolved.clusters.into_iter().map(|own| own.plan).collect();
    let is_sent = resolved.telemetry.sends_metrics();
    resolved.metrics.prepare(&mut plans, is_sent);
    let metrics_listeners = resolved.metrics.bind()?;
    let first = plans.first().map(|plan| plan.config.name.clone());
    let cannot_spawn = |name: &str, error: &dyn std::fmt::Display| {
        anyhow!("failed to spawn proxy, name={name}: failed to create Kafka client: {error}")
    };
    // Its port may be what other replicas have to know.
    let grpc = listen_grpc(&resolved.grpc_addr)?;
    let link = resolved.replicas.as_ref().map(|replicas| {
        let linked = replicas.link(&grpc, tls_files.as_ref());
        linked.context("replicas")
    });
    let link = link.transpose()?;
    let opened = Clusters::open(resolved.default_cluster, plans, link.as_ref());
    let mut clusters = opened.map_err(|error| match error.downcast_ref::<OpenError>() {
        Some(refused) => cannot_spawn(&refused.name, refused),
        None => error,
    })?;
    if !clusters.wait_for_any(dial_timeouts).await {
        return Err(cannot_spawn(
            &first.unwrap_or_default(),
            &CLUSTER_UNREACHABLE,
        ));
    }
    let access = tokens.access();
    let mut telemetry = Telemetry::start(resolved.telemetry)?;
    let bound = Bound {
        tracing: telemetry.tracing(),
        http_tls,
        grpc_tls,
        access: Arc::clone(&access),
        grpc,
        ..listen(&resolved.tcp_addr, &resolved.unix_addr)?
    };
    let mut front_ends = FrontEnds::start(bound, &clusters.proxies)?;
    let counted = front_ends.counted();
    let started = Metrics::start(
        &resolved.metrics,
        metrics_listeners,
        metrics::of_clusters(&clusters, counted.drops),
        counted.meters,
        is_sent,
    );
    let mut metrics = started?;
    telemetry.send_metrics(metrics.sources());

    let has_failed = loop {
        tokio::select! {
            () = signals.next() => break false,
            () = front_ends.failed() => break true,
            () = metrics.failed() => break true,
            () = watch.changed() => {}
        }
        reloading.run(&access, &front_ends);
        watch.follow(reloading.files());
    };
    tracing::info!(component = "server", "Draining");
    clusters.proxies.refuse_work();
    let (hurry, hurried) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        signals.next().await;
        hurry.send_replace(true);
        // Whoever waits for this must not see its end before.
        std::future::pending::<()>().await;
    });
    let mut stopping = tokio::task::JoinSet::new();
    for (own, limit) in clusters.open.iter().cloned().zip(flush_limits) {
        let mut hurried = hurried.clone();
        stopping.spawn(async move {
            let skip = async {
                let _ = hurried.wait_for(|hurried| *hurried).await;
            };
            tokio::join!(own.flush(limit), own.dispatcher.stop(skip));
        });
    }
    stopping.join_all().await;
    front_ends.stop().await;
    metrics.stop().await;
    telemetry.stop(TELEMETRY_LIMIT).await;
    tracing::info!(component = "server", "Bye");
    if has_failed {
        bail!("a listener has died");
    }
    Ok(())
}

fn listen_grpc(address: &str) -> Result<Vec<TcpListener>> {
    if address.is_empty() {
        return Ok(Vec::new());
    }
    let listener = gateway::bind(&go_address(address));
    let listener = listener.context("failed to start gRPC server: failed to create listener")?;
    Ok(vec![listener])
}

fn listen(tcp: &str, unix: &str) -> Result<Bound> {
    let mut bound = Bound::default();
    if !tcp.is_empty() {
        let listener = gateway::bind(&go_address(tcp));
        bound.http.push(listener.context(
            "failed to start TCP socket based HTTP API server: failed to create listener",
        )?);
    }
    if !unix.is_empty() {
        let listener = BoundUnix::bind(Path::new(unix));
        bound.unix = Some(listener.context(
            "failed to start Unix socket based HTTP API server: failed to create listener",
        )?);
    }
    Ok(bound)
}

/// Go says every address without one.
fn go_address(address: &str) -> String {
    match address.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => address.to_owned(),
    }
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
