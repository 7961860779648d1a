//! Wiring: clusters, front ends, and what happens at the end.

use crate::cli::ServeOptions;
use crate::clusters::Clusters;
use crate::config::{self, Resolved, Source};
use crate::front_ends::{Addresses, Bound, BoundUnix, FrontEnds};
use crate::metrics::{self, Metrics};
use crate::reload::{Live, Reloading, Watch};
use crate::signals::Stop;
use crate::telemetry::Telemetry;
use crate::{logging, tls};
use anyhow::{Context as _, Result, bail};
use barnabas_engine::ClusterConfig;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the producers get to deliver what is queued (contract,
/// `redis.md`, section 8, step 6).
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// What has to be left of the deadline when unacknowledged messages are no
/// longer waited for: to commit, to leave the groups, and to flush.
const AFTER_ACKS: Duration = Duration::from_secs(7);

/// What has to be left of the deadline when the journals are no longer waited
/// for: to stop listening.
const AFTER_JOURNALS: Duration = Duration::from_millis(500);

/// What spans and metrics get at the end, if nothing is left of the deadline.
pub(crate) const TELEMETRY_LEAST: Duration = Duration::from_millis(250);

/// Open files beside those of the clients: listeners, and what each of
/// librdkafka's clients has to the brokers.
const OTHER_FILES: u64 = 512;

/// Open files where HTTP or gRPC is served.
pub(crate) const FILES: u64 = 65_536;

/// The part of a shutdown that running requests get: what came with the last
/// of them has to reach Kafka in the rest.
pub(crate) fn for_requests(shutdown: Duration) -> Duration {
    shutdown / 4 * 3
}

/// `barnabas serve`
pub(crate) fn run_configured(options: &ServeOptions) -> Result<()> {
    let source = Source {
        config: options.config.clone(),
        env_file: options.env_file.clone(),
    };
    let resolved = config::load(&source)?;
    if options.check {
        logging::check(&resolved.log.level)?;
        for address in resolved.addresses() {
            resolve(address)?;
        }
        resolved.redis.check()?;
        load_tls(&resolved)?;
        match &options.config {
            Some(path) => println!("{}: nothing is wrong", path.display()),
            None => println!("environment: nothing is wrong"),
        }
        return Ok(());
    }
    logging::start(resolved.log.format, &resolved.log.level)?;
    serve_with(resolved, true, |_| {})
}

/// Serves until a signal, then drains. `ready` is called with what is
/// listened on once connections are accepted.
pub(crate) fn serve(resolved: Resolved, ready: impl FnOnce(&Addresses)) -> Result<()> {
    serve_with(resolved, false, ready)
}

/// [`serve`]; if it can be reloaded, what it was read from is watched.
fn serve_with(resolved: Resolved, can_reload: bool, ready: impl FnOnce(&Addresses)) -> Result<()> {
    let mut bound = load_tls(&resolved)?;
    let redis_listeners = bind_all(&resolved.redis_listen)?;
    bound.http = bind_all(&resolved.http.listen)?;
    bound.grpc = bind_all(&resolved.grpc.listen)?;
    if let Some(path) = &resolved.http.unix {
        bound.unix = Some(BoundUnix::bind(path)?);
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let files = resolved.redis.max_connections as u64 + OTHER_FILES;
    if resolved.is_redis_only() {
        raise_file_limit(files, files);
        // Redis has threads of its own; this one accepts.
        builder.worker_threads(1);
    } else {
        raise_file_limit(FILES.max(files), files);
    }
    let runtime = builder
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(run(resolved, can_reload, bound, redis_listeners, ready))?;
    // librdkafka's threads may still be waiting for a broker that is gone;
    // everything that can be saved has been.
    std::process::exit(0)
}

async fn run(
    mut resolved: Resolved,
    can_reload: bool,
    mut bound: Bound,
    redis_listeners: Vec<TcpListener>,
    ready: impl FnOnce(&Addresses),
) -> Result<()> {
    let stop = Stop::new()?;
    let mut watch = match can_reload {
        true => Some(Watch::new(resolved.written.files())?),
        false => None,
    };
    let mut reloading = Reloading::of(&resolved);
    bound.access = resolved.tokens.access();
    let access = Arc::clone(&bound.access);
    bound.idempotency = resolved.http.idempotency;
    bound.http_limits = resolved.http.limits;
    bound.grpc_limits = resolved.grpc.limits;
    bound.cors_origins = resolved.http.cors_origins;
    let is_sent = resolved.telemetry.sends_metrics();
    let mut telemetry = Telemetry::start(resolved.telemetry)?;
    bound.tracing = telemetry.tracing();
    let link = resolved.replicas.as_ref().map(|replicas| {
        let linked = replicas.link(&bound.grpc, resolved.grpc.tls.as_ref());
        linked.context("replicas")
    });
    let link = link.transpose()?;
    resolved.metrics.prepare(&mut resolved.clusters, is_sent);
    let metrics_listeners = resolved.metrics.bind()?;
    let clusters = Clusters::open(resolved.default_cluster, resolved.clusters, link.as_ref())?;
    clusters.keep(&resolved.keeping)?;
    // Every front end may use these.
    let proxies = &clusters.proxies;
    let mut redis = match redis_listeners.is_empty() {
        true => None,
        false => {
            let cluster = clusters.get(&resolved.redis_cluster);
            let cluster = cluster.context("redis.cluster: there is no such cluster")?;
            let proxy = match resolved.has_stream_groups {
                true => Some(Arc::clone(proxies.get(&resolved.redis_cluster)?)),
                false => None,
            };
            Some(barnabas_redis::Server::start(
                redis_listeners,
                resolved.redis,
                cluster.clone(),
                proxy,
            )?)
        }
    };
    let mut front_ends = FrontEnds::start(bound, proxies)?;
    let mut addresses = front_ends.addresses();
    let mut counted = front_ends.counted();
    if let Some(redis) = &redis {
        addresses.redis = redis.addresses().to_vec();
        counted.meters.push(Arc::clone(redis.meter()));
    }
    let started = Metrics::start(
        &resolved.metrics,
        metrics_listeners,
        metrics::of_clusters(&clusters, counted.drops),
        counted.meters,
        is_sent,
    );
    let mut metrics = started?;
    addresses.metrics = metrics.addresses().to_vec();
    telemetry.send_metrics(metrics.sources());
    ready(&addresses);
    let stopped = stop.wait();
    tokio::pin!(stopped);
    let has_failed = loop {
        tokio::select! {
            asked = &mut stopped => {
                asked?;
                break false;
            }
            () = front_ends.failed() => break true,
            () = metrics.failed() => break true,
            () = redis_failed(redis.as_mut()) => break true,
            () = changed(watch.as_mut()) => {}
        }
        let live = Live {
            access: &access,
            clusters: &clusters,
            front_ends: &front_ends,
            redis: redis.as_ref(),
        };
        let files = reloading.run(&live);
        if let Some(watch) = &mut watch {
            watch.follow(files);
        }
    };

    let deadline = Instant::now() + resolved.shutdown_deadline;
    let drain = drain(
        &clusters,
        redis,
        front_ends,
        acks_limit(resolved.shutdown_deadline),
        deadline,
    );
    if tokio::time::timeout_at(deadline.into(), drain)
        .await
        .is_err()
    {
        tracing::error!(component = "server", "The deadline for draining is over");
    }
    clusters.close_journals();
    metrics.stop().await;
    let left = deadline.saturating_duration_since(Instant::now());
    telemetry.stop(left.max(TELEMETRY_LEAST)).await;
    tracing::info!(component = "server", "Bye");
    if has_failed {
        bail!("a listener has died");
    }
    Ok(())
}

/// Resolves when the configuration is to be read again, if that can be.
async fn changed(watch: Option<&mut Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Resolves when a listener of Redis has died, as [`FrontEnds::failed`] does
/// of the others.
async fn redis_failed(redis: Option<&mut barnabas_redis::Server>) {
    match redis {
        Some(redis) => redis.failed().await,
        None => std::future::pending().await,
    }
    tracing::error!(component = "server", "A listener has died");
}

/// The end, in the order of the contracts (`consume-and-ack.md` and
/// `redis.md`, sections 8): no more work over HTTP and gRPC; Redis drains, and
/// the groups wait for acknowledgements, which all front ends go on to take;
/// what is queued goes out; the listeners close.
async fn drain(
    clusters: &Clusters,
    redis: Option<barnabas_redis::Server>,
    front_ends: FrontEnds,
    acks_limit: Duration,
    deadline: Instant,
) {
    clusters.proxies.refuse_work();
    let until = Instant::now() + acks_limit;
    let redis_drained = async {
        let Some(redis) = redis else { return };
        let drained = redis.drain().await;
        if drained.consumers_left > 0 {
            tracing::warn!(
                component = "server",
                "{} consumers had not left their groups",
                drained.consumers_left
            );
        }
    };
    let skip = move || tokio::time::sleep_until(until.into());
    tokio::join!(redis_drained, clusters.stop_groups(skip));
    let journals =
        clusters.drain_journals(deadline.checked_sub(AFTER_JOURNALS).unwrap_or(deadline));
    tokio::join!(clusters.flush(FLUSH_LIMIT), journals);
    front_ends.stop().await;
}

/// How long unacknowledged messages may be waited for.
fn acks_limit(deadline: Duration) -> Duration {
    deadline.saturating_sub(AFTER_ACKS).max(deadline / 2)
}

/// Reads the certificates and keys; the listeners come later.
fn load_tls(resolved: &Resolved) -> Result<Bound> {
    let load = |section: &str, files: &Option<barnabas_redis::TlsFiles>, protocols| {
        files
            .as_ref()
            .map(|files| tls::load(files, protocols).with_context(|| section.to_owned()))
            .transpose()
    };
    Ok(Bound {
        http_tls: load("http.tls", &resolved.http.tls, tls::HTTP)?,
        grpc_tls: load("grpc.tls", &resolved.grpc.tls, tls::GRPC)?,
        ..Bound::default()
    })
}

/// Raises the limit of open files as far as `wanted` and the system allow:
/// shells start programs with 1,024, which is fewer than there may be clients.
/// Fewer than `least` are warned of.
pub(crate) fn raise_file_limit(wanted: u64, least: u64) {
    match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) if limit < least => tracing::warn!(
            component = "server",
            "{limit} files may be open; {least} would serve every connection that is allowed"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(component = "server", "limit of open files: {error}"),
    }
}

/// Warns of ports that everybody in the network can use.
pub(crate) fn warn_if_open(addresses: &Addresses, how: &str) {
    for address in addresses.http.iter().chain(&addresses.grpc) {
        if !address.ip().is_loopback() {
            tracing::warn!(
                component = "server",
                "{address} is open to the network {how}"
            );
        }
    }
}

fn bind_all(addresses: &[String]) -> Result<Vec<TcpListener>> {
    addresses.iter().map(|address| bind(address)).collect()
}

/// Connections that may wait to be accepted, as far as the system allows it
/// (`net.core.somaxconn`). Of the 128 that std asks for, thousands that come in a moment
/// lose connections, and with them everybody's, for seconds.
const BACKLOG: i32 = 4_096;

pub(crate) fn bind(address: &str) -> Result<TcpListener> {
    let mut last = None;
    for address in resolve(address)? {
        let bound = TcpListener::bind(address).and_then(|listener| {
            widen(&listener)?;
            Ok(listener)
        });
        match bound {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some(error),
        }
    }
    match last {
        Some(error) => bail!("cannot listen on {address}: {error}"),
        None => bail!("cannot listen on {address}: no such host"),
    }
}

/// Lets more connections wait at a listener.
pub(crate) fn widen(listener: &impl AsFd) -> std::io::Result<()> {
    socket2::SockRef::from(listener).listen(BACKLOG)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// They are established by the system; nobody accepts them.
    #[test]
    fn many_connections_may_wait_to_be_accepted() {
        let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let allowed: usize = allowed.trim().parse().unwrap();
        let listener = bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let patience = Duration::from_secs(60);
        let waiting: Vec<_> = (0..allowed.min(500))
            .map(|_| std::net::TcpStream::connect_timeout(&address, patience).unwrap())
            .collect();
        assert_eq!(waiting.len(), allowed.min(500));
    }

    #[test]
    fn acknowledgements_are_waited_for_within_the_deadline() {
        for (deadline, expected) in [(17_000, 10_000), (8_000, 4_000), (500, 250), (0, 0)] {
            let deadline = Duration::from_millis(deadline);
            assert_eq!(acks_limit(deadline), Duration::from_millis(expected));
        }
    }
}
