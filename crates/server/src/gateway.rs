//! Wiring: clusters, front ends, and what happens at the end.

use crate::cli::ServeOptions;
use crate::config::{self, Resolved};
use crate::logging;
use crate::signals::Stop;
use anyhow::{Context as _, Result, bail};
use barnabas_engine::{Cluster, ClusterConfig};
use barnabas_redis::Server;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::time::Duration;

/// How long the producers get to deliver what is queued (contract, section
/// 8, step 6).
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// Open files beside those of the clients: listeners, and what each of
/// librdkafka's clients has to the brokers.
const OTHER_FILES: u64 = 512;

/// `barnabas serve`
pub(crate) fn run_configured(options: &ServeOptions) -> Result<()> {
    let resolved = config::load(&options.config)?;
    if options.check {
        logging::check(&resolved.log.level)?;
        for address in &resolved.listen {
            resolve(address)?;
        }
        resolved.redis.check()?;
        println!("{}: nothing is wrong", options.config.display());
        return Ok(());
    }
    logging::start(resolved.log.format, &resolved.log.level)?;
    serve(resolved, |_| {})
}

/// Serves until a signal, then drains. `ready` is called with the address of
/// the first listener once connections are accepted.
pub(crate) fn serve(resolved: Resolved, ready: impl FnOnce(SocketAddr)) -> Result<()> {
    let listeners = resolved
        .listen
        .iter()
        .map(|address| bind(address))
        .collect::<Result<Vec<_>>>()?;
    raise_file_limit(resolved.redis.max_connections as u64 + OTHER_FILES);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let stop = Stop::new()?;
        let cluster = Cluster::open(resolved.cluster)?;
        let server = Server::start(listeners, resolved.redis, cluster.clone())?;
        if let Some(address) = server.addresses().first() {
            ready(*address);
        }
        stop.wait().await?;
        let drain = async {
            let drained = server.drain().await;
            if drained.consumers_left > 0 {
                tracing::warn!(
                    component = "server",
                    "{} consumers had not left their groups",
                    drained.consumers_left
                );
            }
            let undelivered = cluster.flush(FLUSH_LIMIT).await;
            if undelivered > 0 {
                tracing::error!(
                    component = "producer",
                    "{undelivered} messages were not delivered"
                );
            }
        };
        if tokio::time::timeout(resolved.shutdown_deadline, drain)
            .await
            .is_err()
        {
            tracing::error!(component = "server", "The deadline for draining is over");
        }
        tracing::info!(component = "server", "Bye");
        anyhow::Ok(())
    })?;
    // librdkafka's threads may still be waiting for a broker that is gone;
    // everything that can be saved has been.
    std::process::exit(0)
}

/// Raises the limit of open files as far as `wanted` and the system allow:
/// shells start programs with 1,024, which is fewer than there may be clients.
pub(crate) fn raise_file_limit(wanted: u64) {
    match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) if limit < wanted => tracing::warn!(
            component = "server",
            "{limit} files may be open; {wanted} would serve every connection that is allowed"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(component = "server", "limit of open files: {error}"),
    }
}

pub(crate) fn bind(address: &str) -> Result<TcpListener> {
    let mut last = None;
    for address in resolve(address)? {
        match TcpListener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => bail!("cannot listen on {address}: {error}"),
        None => bail!("cannot listen on {address}: no such host"),
    }
}

fn resolve(address: &str) -> Result<Vec<SocketAddr>> {
    let resolved = address
        .to_socket_addrs()
        .with_context(|| format!("cannot listen on {address}"))?;
    Ok(resolved.collect())
}

/// Every problem of a cluster's properties, on one line; `Ok` when there
/// is none.
pub(crate) fn check(cluster: &ClusterConfig) -> Result<()> {
    let problems: Vec<String> = cluster.problems().iter().map(ToString::to_string).collect();
    if problems.is_empty() {
        Ok(())
    } else {
        bail!("{}", problems.join("; "))
    }
}
