//! `barnabas kafboy`: kafboy's and ekaf's configuration, port and end
//! (contract, `producer-http.md`, section 8).

pub(crate) mod ekaf;
mod keys;
mod metrics;
mod reload;
mod settings;

use crate::cli::KafboyOptions as Flags;
use crate::document::journal;
use crate::metrics::Metrics;
use crate::reload::Watch;
use crate::signals::Stop;
use crate::telemetry::Telemetry;
use crate::{config, exit, gateway, logging, tls};
use anyhow::{Context as _, Error, Result, bail};
use barnabas_engine::{Cluster, Journal, Outbox, Statsd};
use barnabas_http::{Kafboy, Listener, Options, Server};
pub(crate) use metrics::Shown;
use reload::{Live, Reloading};
use settings::Settings;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// Fewer open files than this are soon too few.
const FEW_FILES: u64 = 4_096;

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
        Ok(Some(settings)) => serve(flags, settings).map_err(|error| (exit::FAILURE, error)),
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

/// Reads the configuration and starts the log; `None` if only that was asked.
fn prepare(flags: &Flags) -> Result<Option<Settings>> {
    let settings = load(flags)?;
    if flags.check {
        load_tls(&settings)?;
        for warning in &settings.warnings {
            eprintln!("{warning}");
        }
        println!("nothing is wrong with the configuration");
        return Ok(None);
    }
    logging::start(settings.format, &settings.level)?;
    for warning in &settings.warnings {
        tracing::warn!(component = "kafboy", "{warning}");
    }
    Ok(Some(settings))
}

fn load(flags: &Flags) -> Result<Settings> {
    let variables = config::variables(flags.env_file.as_deref())?;
    settings::load(flags.config.as_deref(), variables.into_iter())
}

fn load_tls(settings: &Settings) -> Result<Option<Arc<rustls::ServerConfig>>> {
    let files = settings.tls.as_ref();
    let loaded = files.map(|files| tls::load(files, tls::HTTP));
    loaded.transpose().context("kafboy.tls")
}

fn serve(flags: &Flags, settings: Settings) -> Result<()> {
    gateway::raise_file_limit(gateway::FILES, FEW_FILES);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let ended = runtime.block_on(run_until_told(flags, settings));
    // A script that cannot be interrupted is not waited for.
    runtime.shutdown_background();
    ended
}

async fn run_until_told(flags: &Flags, settings: Settings) -> Result<()> {
    let stop = Stop::new()?;
    let mut reloading = Reloading::of(flags, &settings)?;
    let mut watch = Watch::new(reloading.files())?;
    let tls = load_tls(&settings)?;
    let metrics_listeners = settings.metrics.bind()?;
    let outbox = start_outbox(&settings)?;
    let has_statsd = settings.ekaf.statsd.is_some();
    let kafboy = Kafboy::new(outbox.clone(), settings.hook, settings.options)?;
    let is_sent = settings.telemetry.sends_metrics();
    let mut telemetry = Telemetry::start(settings.telemetry)?;
    let listener = gateway::bind(&settings.listen)?;
    let access = settings.tokens.access();
    let options = Options {
        tls,
        access: Arc::clone(&access),
        max_connections: settings.max_connections,
        stop_limit: gateway::for_requests(settings.shutdown_timeout),
        tracing: telemetry.tracing(),
        ..Options::default()
    };
    // Before anything is taken: what fails here ends the process.
    let shown = Arc::new(Shown::new(&kafboy));
    let started = Metrics::start(
        &settings.metrics,
        metrics_listeners,
        Arc::<Shown>::clone(&shown),
        vec![Arc::clone(kafboy.meter())],
        is_sent,
    );
    let mut metrics = started?;
    let mut server = Server::start_kafboy(vec![Listener::Tcp(listener)], &kafboy, options)?;
    for address in server.addresses() {
        tracing::info!(component = "kafboy", "Listening on {address}");
    }
    telemetry.send_metrics(metrics.sources());

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
        // A script may take its time, or not end at all.
        let flags = flags.clone();
        let read = tokio::task::spawn_blocking(move || load(&flags));
        let read = tokio::select! {
            asked = &mut stopped => {
                asked?;
                break false;
            }
            read = read => read,
        };
        let live = Live {
            access: &access,
            kafboy: &kafboy,
            server: &server,
            has_statsd,
        };
        reloading.run(read.map_err(Error::from).flatten(), &live);
        watch.follow(reloading.files());
    };
    let deadline = Instant::now() + settings.shutdown_timeout;
    shown.stop();
    // What came with the last requests goes at once, and those who wait are
    // answered sooner while what is queued is being sent.
    let last = async {
        server.stop().await;
        outbox.drain(deadline).await
    };
    let (left, _) = tokio::join!(last, outbox.flush(deadline));
    if left > 0 {
        tracing::error!(
            component = "kafboy",
            messages = left,
            "messages were not delivered"
        );
    }
    if let Some(journal) = outbox.journal().cloned() {
        journal::close(journal, "kafboy", deadline).await;
    }
    metrics.stop().await;
    let left = deadline.saturating_duration_since(Instant::now());
    telemetry.stop(left.max(gateway::TELEMETRY_LEAST)).await;
    if has_failed {
        bail!("a listener has died");
    }
    Ok(())
}

fn start_outbox(settings: &Settings) -> Result<Outbox> {
    let cluster = Cluster::open(settings.cluster.clone())?;
    let journal = settings.journal.clone().map(Journal::open).transpose()?;
    let ekaf = &settings.ekaf;
    let mut builder = Outbox::builder(&cluster).settings(ekaf.settings.clone());
    if let Some(config) = &ekaf.statsd {
        let address = &config.address;
        let statsd = Statsd::new(config.clone()).with_context(|| format!("statsd at {address}"))?;
        builder = builder.listener(Arc::new(statsd));
    }
    for topic in &ekaf.topics {
        builder = builder.topic(topic);
    }
    if let Some(journal) = journal {
        builder = builder.journal(journal);
    }
    builder.start().context("ekaf")
}
