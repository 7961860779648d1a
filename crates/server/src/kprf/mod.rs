//! `barnabas kprf`: the old program's file, log, ports and exit codes
//! (contract, `producer-http.md`, sections 3 to 5 and 7.2).

mod keeping;
mod keys;
mod log;
mod reload;
mod settings;

use crate::cli::KprfOptions as Flags;
use crate::document::journal;
use crate::metrics::clusters;
use crate::reload::Watch;
use crate::signals::Stop;
use crate::telemetry::Telemetry;
use crate::{config, exit, gateway, logging, tls};
use anyhow::{Context as _, Error, Result, bail};
use barnabas_engine::{Cluster, Journal};
use barnabas_http::{Kprf, KprfProducers, Listener, Options, Server};
#[cfg(test)]
pub(crate) use keys::SCHEMA;
use log::Log;
use reload::{Live, Reloading};
use settings::Settings;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// Which build this is.
pub(crate) const COMMIT: &str = match option_env!("BARNABAS_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Fewer open files than this are soon too few.
const FEW_FILES: u64 = 4_096;

/// What dead letters get that come at the very end.
const DEAD_LETTERS_LEAST: Duration = Duration::from_millis(500);

/// How long the metrics port goes on once everything else has ended.
const METRICS_STOP: Duration = Duration::from_secs(1);

/// Keys that differ when a file is read twice, for the fuzz targets.
pub(crate) fn read_twice(path: &Path) -> Result<Vec<String>> {
    let read = || settings::load(Some(path), std::iter::empty());
    let differences = read()?.written.differences(&read()?.written);
    Ok(differences.into_iter().map(str::to_owned).collect())
}

/// Runs until a signal; tells what is wrong in one line.
pub(crate) fn run(flags: &Flags) -> ExitCode {
    let ended = match prepare(flags) {
        Ok(None) => return ExitCode::SUCCESS,
        Ok(Some((settings, log))) => {
            serve(flags, settings, &log).map_err(|error| (exit::FAILURE, error))
        }
        Err(error) => Err((exit::CONFIGURATION, error)),
    };
    match ended {
        // librdkafka's threads may still be waiting for a broker that is gone;
        // everything that can be saved has been.
        Ok(()) => std::process::exit(0),
        Err((code, error)) => {
            eprintln!("{error:#}");
            ExitCode::from(code)
        }
    }
}

/// Reads the configuration and opens the log; `None` if only that was asked.
fn prepare(flags: &Flags) -> Result<Option<(Settings, Log)>> {
    let settings = settings::explained(load(flags))?;
    if flags.check {
        logging::check(&settings.level)?;
        load_tls(&settings)?;
        for warning in &settings.warnings {
            eprintln!("{warning}");
        }
        println!("nothing is wrong with the configuration");
        return Ok(None);
    }
    let log = Log::start(&settings.output, &settings.level)?;
    let (commit, version) = (COMMIT, env!("CARGO_PKG_VERSION"));
    tracing::info!(component = "kprf", commit, version, "starting application");
    for warning in &settings.warnings {
        tracing::warn!(component = "kprf", "{warning}");
    }
    Ok(Some((settings, log)))
}

fn load(flags: &Flags) -> Result<Settings> {
    let variables = config::variables(flags.env_file.as_deref())?;
    settings::load(flags.config.as_deref(), variables.into_iter())
}

fn load_tls(settings: &Settings) -> Result<Option<Arc<rustls::ServerConfig>>> {
    let files = settings.tls.as_ref();
    let loaded = files.map(|files| tls::load(files, tls::HTTP));
    loaded.transpose().context("http.tls")
}

fn serve(flags: &Flags, settings: Settings, log: &Log) -> Result<()> {
    gateway::raise_file_limit(gateway::FILES, FEW_FILES);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(run_until_told(flags, settings, log));
    log.flush();
    ended
}

async fn run_until_told(flags: &Flags, settings: Settings, log: &Log) -> Result<()> {
    let stop = Stop::new()?;
    let mut reloading = Reloading::of(flags, &settings)?;
    let mut watch = Watch::new(reloading.files())?;
    reopen_on_hangup(log)?;
    let tls = load_tls(&settings)?;
    // In kprf's order: the metrics port is taken before there is a producer.
    let metrics_listener = gateway::bind(&settings.metrics_listen)?;
    let port = metrics_listener.local_addr()?.port();
    tracing::info!(component = "kprf", port, "starting metrics server");
    let cluster = Cluster::open(settings.cluster)?;
    let journal = settings.journal.map(Journal::open).transpose()?;
    let producers = KprfProducers {
        waiting: cluster.producer(&settings.waiting)?,
        patient: cluster.producer(&settings.patient)?,
        journal: journal.clone(),
    };
    let kprf = Kprf::new(producers, settings.options).context("metrics")?;
    if let Some(journal) = &journal {
        // Not before: what Kafka refuses of it is heard of now.
        journal.feed(&cluster)?;
        let shown = vec![(settings::CLUSTER.to_owned(), journal.clone())];
        clusters::register_journals(kprf.registry(), shown).context("metrics")?;
    }
    let mut telemetry = Telemetry::start(settings.telemetry)?;
    let source = kprf.clone();
    telemetry.send_metrics(vec![Box::new(move || source.families())]);
    let listeners = vec![Listener::Tcp(metrics_listener)];
    let options = Options {
        stop_limit: METRICS_STOP,
        ..Options::default()
    };
    let mut metrics = Server::start_kprf_metrics(listeners, &kprf, options)?;
    let listener = gateway::bind(&settings.listen)?;
    let port = listener.local_addr()?.port();
    tracing::info!(component = "kprf", port, "starting main http server");
    let access = settings.tokens.access();
    let options = Options {
        tls,
        access: Arc::clone(&access),
        max_connections: settings.max_connections,
        stop_limit: gateway::for_requests(settings.shutdown_timeout),
        tracing: telemetry.tracing(),
        ..Options::default()
    };
    let mut server = Server::start_kprf(vec![Listener::Tcp(listener)], &kprf, options)?;

    let stopped = stop.wait();
    tokio::pin!(stopped);
    let has_failed = loop {
        tokio::select! {
            asked = &mut stopped => {
                asked?;
                break false;
            }
            () = server.failed() => break true,
            () = metrics.failed() => break true,
            () = watch.changed() => {}
        }
        reloading.run(&Live {
            access: &access,
            kprf: &kprf,
            server: &server,
            has_journal: journal.is_some(),
        });
        watch.follow(reloading.files());
    };
    tracing::info!(component = "kprf", "shutting down application");
    kprf.begin_to_stop();
    let deadline = Instant::now() + settings.shutdown_timeout;
    // Those who wait are answered sooner while what is queued is being flushed.
    tracing::info!(component = "kprf", "shutting down http-server");
    let answered = async {
        server.stop().await;
        kprf.refuse_work();
    };
    tokio::join!(answered, cluster.flush(settings.shutdown_timeout));
    // What came with the last requests.
    let left = deadline.saturating_duration_since(Instant::now());
    let close_journal = async {
        if let Some(journal) = journal {
            journal::close(journal, "kprf", deadline).await;
        }
    };
    tokio::join!(cluster.flush(left), close_journal);
    // Dead letters of what the journal has sent last.
    let left = deadline.saturating_duration_since(Instant::now());
    let undelivered = cluster.flush(left.max(DEAD_LETTERS_LEAST)).await;
    if undelivered > 0 {
        tracing::error!(
            component = "kprf",
            messages = undelivered,
            "messages were not delivered"
        );
    }
    tracing::info!(component = "kprf", "shutting down metrics server");
    metrics.stop().await;
    let left = deadline.saturating_duration_since(Instant::now());
    telemetry.stop(left.max(gateway::TELEMETRY_LEAST)).await;
    if has_failed {
        bail!("a listener has died");
    }
    Ok(())
}

/// SIGHUP: the log's file has been moved away.
fn reopen_on_hangup(log: &Log) -> Result<()> {
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    let log = log.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            if let Err(error) = log.reopen().map_err(Error::from) {
                tracing::error!(component = "kprf", "the log cannot be reopened: {error:#}");
            }
        }
    });
    Ok(())
}
