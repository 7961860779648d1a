//! Reading the configuration again while it serves: on SIGHUP, and when one of
//! its files has changed.
//!
//! What can change at once does, for the next request or connection; nothing
//! that is there is closed. What cannot is named in the log. A configuration
//! that cannot be used changes nothing at all.

use crate::clusters::Clusters;
use crate::config::{BATCHING_KEYS, Resolved, STRATEGY_KEYS, STRATEGY_PICKER, Written};
use crate::document;
use crate::front_ends::FrontEnds;
use crate::tokens::Tokens;
use crate::{logging, tls};
use anyhow::{Context as _, Result};
use barnabas_engine::{Access, PerTopic};
use barnabas_http::Server;
use barnabas_redis::TlsFiles;
use rustls::ServerConfig;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior};

/// How often files are looked at. Polled rather than told by the kernel: a
/// mounted secret is a chain of links that are exchanged, a network file system
/// tells nobody, and a look costs a microsecond.
const LOOK: Duration = Duration::from_secs(1);

/// What a file looked like; `None` if it was not there.
type Stamp = Option<(u64, u64, SystemTime)>;

/// Waits for a reason to read the configuration again.
pub(crate) struct Watch {
    hangup: Signal,
    files: Vec<PathBuf>,
    /// When the configuration was read.
    read: Vec<Stamp>,
    /// At the last look.
    seen: Vec<Stamp>,
    looks: Interval,
}

impl Watch {
    /// Of files that have just been read. Must be called inside a Tokio
    /// runtime.
    ///
    /// # Errors
    /// The signal cannot be had.
    pub(crate) fn new(files: Vec<PathBuf>) -> Result<Self> {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stamps = stamps(&files);
        Ok(Self {
            hangup: signal(SignalKind::hangup()).context("SIGHUP")?,
            files,
            read: stamps.clone(),
            seen: stamps,
            looks,
        })
    }

    /// Resolves on SIGHUP, or when a file has changed and then stayed as it is
    /// from one look to the next: nobody wants half a file. May be cancelled.
    pub(crate) async fn changed(&mut self) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {
                    self.seen = stamps(&self.files);
                    self.read.clone_from(&self.seen);
                    tracing::info!(component = "server", "SIGHUP: reading the configuration again");
                    return;
                }
                _ = self.looks.tick() => {
                    if let Some(changed) = self.look() {
                        tracing::info!(
                            component = "server",
                            "{changed} has changed: reading the configuration again"
                        );
                        return;
                    }
                }
            }
        }
    }

    /// The first file that has changed, once all of them rest.
    fn look(&mut self) -> Option<String> {
        let now = stamps(&self.files);
        let is_resting = now == self.seen;
        self.seen = now;
        if !is_resting || self.seen == self.read {
            return None;
        }
        let all = self.files.iter().zip(self.seen.iter().zip(&self.read));
        let changed = all
            .filter(|(_, (seen, read))| seen != read)
            .map(|(file, _)| file)
            .next();
        let changed = changed.map(|file| file.display().to_string());
        self.read.clone_from(&self.seen);
        changed
    }

    /// These files are meant from now on.
    pub(crate) fn follow(&mut self, files: Vec<PathBuf>) {
        if files != self.files {
            self.files = files;
            self.seen = stamps(&self.files);
            self.read.clone_from(&self.seen);
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        // Links are followed: what counts is behind them.
        let found = std::fs::metadata(file).ok()?;
        Some((found.ino(), found.len(), found.modified().ok()?))
    };
    files.iter().map(stamp).collect()
}

/// Says in the log what a reload has come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    applied: Vec<String>,
    postponed: Vec<String>,
}

impl Report {
    /// This counts now.
    pub(crate) fn applied(&mut self, key: impl Into<String>) {
        self.applied.push(key.into());
    }

    /// This does not, before the next start.
    pub(crate) fn needs_restart(&mut self, key: impl Into<String>) {
        self.postponed.push(key.into());
    }

    /// Whether this was noted as counting now.
    pub(crate) fn has_applied(&self, key: &str) -> bool {
        self.applied.iter().any(|own| own == key)
    }

    /// Writes the lines.
    pub(crate) fn tell(&self) {
        match &*self.applied {
            [] => tracing::info!(
                component = "server",
                "configuration reloaded: nothing has changed"
            ),
            keys => tracing::info!(
                component = "server",
                "configuration reloaded: {}",
                keys.join(", ")
            ),
        }
        if !self.postponed.is_empty() {
            tracing::warn!(
                component = "server",
                "needs a restart: {}",
                self.postponed.join(", ")
            );
        }
    }
}

/// Says that everything stays as it was, and why.
pub(crate) fn tell_refused(error: &anyhow::Error) {
    let text = format!("{error:#}").replace('\n', "; ");
    tracing::error!(
        component = "server",
        "the configuration stays as it was: {text}"
    );
}

/// Gives `tokens` to those who share `access`. From some to none is no change
/// that a file should make by itself: everybody could do everything.
pub(crate) fn replace_tokens(access: &Access, tokens: Tokens, key: &str, report: &mut Report) {
    if tokens.is_empty() != access.is_open() {
        report.needs_restart(format!("{key} (to begin with tokens, or to do without)"));
    } else if !tokens.is_empty() {
        access.replace(&tokens.access());
        report.applied(key);
    }
}

/// The keys of a program whose configuration is a table of them
/// ([`document`]).
pub(crate) struct LiveKeys {
    /// Those that count from the next request on.
    pub(crate) at_once: &'static [&'static str],
    /// Those that are compared by what they stand for.
    pub(crate) by_content: &'static [&'static str],
    /// The section of certificates.
    pub(crate) tls: &'static str,
}

/// What all of those programs have, as it was read; and the whole of it as it
/// was written.
#[derive(Debug, Clone)]
pub(crate) struct Reread {
    pub(crate) written: document::Written,
    pub(crate) tokens: Tokens,
    /// Of the log.
    pub(crate) level: String,
    pub(crate) certificates: Option<Arc<ServerConfig>>,
}

/// The configuration that such a program runs on, as far as it is compared with
/// the next one.
pub(crate) struct Compared {
    keys: &'static LiveKeys,
    /// That of the start: what needs a restart goes by it.
    start: document::Written,
    current: Reread,
}

impl Compared {
    pub(crate) fn of(keys: &'static LiveKeys, start: Reread) -> Self {
        Self {
            keys,
            start: start.written.clone(),
            current: start,
        }
    }

    /// The files that count.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.current.written.files()
    }

    /// Applies what is the same in all programs and tells of the rest: the
    /// caller applies it, but for what `hindered` names with its reason.
    /// Whatever can fail comes before anything is changed.
    pub(crate) fn apply(
        &mut self,
        mut new: Reread,
        (access, server): (&Access, &Server),
        hindered: impl Fn(&str) -> Option<&'static str>,
    ) -> Result<Report> {
        let mut report = Report::default();
        logging::check(&new.level)?;
        if self.current.level != new.level {
            match logging::set_level(&new.level)? {
                true => report.applied("log.level"),
                false => report.needs_restart("log.level (RUST_LOG counts)"),
            }
        }
        for key in self.current.written.differences(&new.written) {
            if self.keys.at_once.contains(&key) {
                match hindered(key) {
                    Some(reason) => report.needs_restart(format!("{key} ({reason})")),
                    None => report.applied(key),
                }
            }
        }
        if self.current.tokens != new.tokens {
            replace_tokens(access, new.tokens.clone(), "access.tokens", &mut report);
            if new.tokens.is_empty() != self.current.tokens.is_empty() {
                new.tokens = self.current.tokens.clone();
            }
        }
        let tls = self.keys.tls;
        match (&self.current.certificates, &new.certificates) {
            (Some(_), Some(config)) => {
                server.replace_tls(Arc::clone(config));
                report.applied(tls);
            }
            (None, None) => {}
            _ => {
                report.needs_restart(format!("{tls} (to begin with TLS, or to do without)"));
                new.certificates.clone_from(&self.current.certificates);
            }
        }
        let LiveKeys {
            at_once,
            by_content,
            ..
        } = self.keys;
        for key in self.start.differences(&new.written) {
            if !at_once.contains(&key) && !by_content.contains(&key) {
                report.needs_restart(key);
            }
        }
        self.current = new;
        Ok(report)
    }
}

/// What a running gateway can change.
pub(crate) struct Live<'a> {
    pub(crate) access: &'a Access,
    pub(crate) clusters: &'a Clusters,
    pub(crate) front_ends: &'a FrontEnds,
    pub(crate) redis: Option<&'a barnabas_redis::Server>,
}

/// The configuration that `barnabas serve` runs on, as far as it is compared
/// with the next one.
pub(crate) struct Reloading {
    /// That of the start: what needs a restart goes by it.
    start: Written,
    /// The one that counts.
    current: Written,
    tokens: Tokens,
    /// The scripts that pick partitions, by cluster: those of the last reload.
    scripts: Scripts,
    /// Which listeners have TLS: Redis, HTTP, gRPC.
    has_tls: [bool; 3],
}

/// Keys that count at once.
fn is_live(key: &str) -> bool {
    matches!(
        key,
        "log.level" | "durability" | "access.tokens" | "access.tokens_file"
    ) || key.starts_with("clusters.")
        && STRATEGY_KEYS.iter().chain(&BATCHING_KEYS).any(|own| {
            let rest = key.strip_suffix(own);
            rest.is_some_and(|rest| rest.ends_with('.'))
        })
        || TLS.iter().any(|section| {
            let rest = key.strip_prefix(section);
            rest.is_some_and(|rest| rest.starts_with('.'))
        })
}

type Scripts = BTreeMap<String, BTreeMap<String, String>>;

fn scripts(resolved: &Resolved) -> Scripts {
    let plans = resolved.clusters.iter();
    let scripts = plans.map(|plan| (plan.config.name.clone(), plan.scripts.clone()));
    scripts.collect()
}

const TLS: [&str; 3] = ["redis.tls", "http.tls", "grpc.tls"];

fn tls_files(resolved: &Resolved) -> [Option<&TlsFiles>; 3] {
    let redis = resolved.redis.tls.as_ref();
    [
        redis,
        resolved.http.tls.as_ref(),
        resolved.grpc.tls.as_ref(),
    ]
}

/// Certificates that were read, and are good.
struct Certificates {
    http: Option<Arc<ServerConfig>>,
    grpc: Option<Arc<ServerConfig>>,
    redis: Option<Arc<ServerConfig>>,
}

impl Certificates {
    fn load(resolved: &Resolved) -> Result<Self> {
        let load = |files: &Option<TlsFiles>, protocols, section: &str| {
            let loaded = files.as_ref().map(|files| tls::load(files, protocols));
            loaded.transpose().with_context(|| section.to_owned())
        };
        Ok(Self {
            http: load(&resolved.http.tls, tls::HTTP, "http.tls")?,
            grpc: load(&resolved.grpc.tls, tls::GRPC, "grpc.tls")?,
            redis: load(&resolved.redis.tls, tls::REDIS, "redis.tls")?,
        })
    }
}

impl Reloading {
    pub(crate) fn of(resolved: &Resolved) -> Self {
        Self {
            start: resolved.written.clone(),
            current: resolved.written.clone(),
            tokens: resolved.tokens.clone(),
            scripts: scripts(resolved),
            has_tls: tls_files(resolved).map(|files| files.is_some()),
        }
    }

    /// Reads the configuration again, applies what can be, and tells of it in
    /// the log. Returns the files that count from now on.
    pub(crate) fn run(&mut self, live: &Live<'_>) -> Vec<PathBuf> {
        match self.apply(live) {
            Ok(report) => report.tell(),
            Err(error) => tell_refused(&error),
        }
        self.current.files()
    }

    fn apply(&mut self, live: &Live<'_>) -> Result<Report> {
        // Everything that can fail, first.
        let new = self.current.again()?;
        logging::check(&new.log.level)?;
        let certificates = Certificates::load(&new)?;
        let mut report = Report::default();
        let changed = self.current.differences(&new.written);
        let has_changed = |key: &str| {
            changed.iter().any(|own| {
                own == key || {
                    let rest = own.strip_prefix(key);
                    rest.is_some_and(|rest| rest.starts_with('.'))
                }
            })
        };
        if has_changed("log.level") {
            match logging::set_level(&new.log.level)? {
                true => report.applied("log.level"),
                false => report.needs_restart("log.level (RUST_LOG counts)"),
            }
        }
        if self.tokens != new.tokens {
            replace_tokens(
                live.access,
                new.tokens.clone(),
                "access.tokens",
                &mut report,
            );
            if new.tokens.is_empty() == self.tokens.is_empty() {
                self.tokens = new.tokens.clone();
            }
        }
        if has_changed("durability") {
            match live.clusters.replace_durabilities(&new.keeping) {
                Ok(()) => report.applied("durability"),
                Err(error) => report.needs_restart(format!("durability ({error})")),
            }
        }
        for plan in &new.clusters {
            let name = &plan.config.name;
            let changed_of = |keys: &[&str]| -> Vec<String> {
                let keys = keys.iter().map(|key| format!("clusters.{name}.{key}"));
                keys.filter(|key| has_changed(key)).collect()
            };
            let keys = changed_of(&BATCHING_KEYS);
            if let Some(cluster) = live.clusters.get(name).filter(|_| !keys.is_empty()) {
                cluster.config().batching.replace(&plan.config.batching);
                keys.into_iter().for_each(|key| report.applied(key));
            }
            let known = self.scripts.get(name);
            let mut keys = changed_of(&STRATEGY_KEYS);
            let picker = format!("clusters.{name}.{STRATEGY_PICKER}");
            if known.is_some_and(|known| *known != plan.scripts) && !keys.contains(&picker) {
                keys.push(picker);
            }
            let Some(cluster) = live.clusters.get(name).filter(|_| !keys.is_empty()) else {
                continue;
            };
            let topics = plan.strategies.clone();
            if cluster
                .config()
                .strategies
                .replace(topics.unwrap_or_else(|| PerTopic::all(None)))
            {
                keys.into_iter().for_each(|key| report.applied(key));
            } else {
                report.needs_restart(format!("{} (to begin with strategies)", keys.join(", ")));
            }
        }
        self.scripts = scripts(&new);
        let wants_tls = tls_files(&new).map(|files| files.is_some());
        for ((section, had), wants) in TLS.iter().zip(self.has_tls).zip(wants_tls) {
            match (had, wants) {
                (true, true) => report.applied(*section),
                (false, false) => {}
                _ => {
                    report.needs_restart(format!("{section} (to begin with TLS, or to do without)"))
                }
            }
        }
        live.front_ends
            .replace_tls(certificates.http, certificates.grpc);
        if let (Some(redis), Some(config)) = (live.redis, certificates.redis) {
            redis.replace_tls(config);
        }
        for key in self.start.differences(&new.written) {
            if !is_live(&key) {
                report.needs_restart(key);
            }
        }
        self.current = new.written;
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_counts_once_it_rests() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, "one").unwrap();
        let mut watch = Watch::new(vec![path.clone()]).unwrap();
        assert_eq!(watch.look(), None);
        std::fs::write(&path, "hal").unwrap();
        std::fs::write(&path, "half").unwrap();
        assert_eq!(watch.look(), None, "somebody is writing");
        std::fs::write(&path, "half and half").unwrap();
        assert_eq!(watch.look(), None);
        assert_eq!(watch.look(), Some(path.display().to_string()));
        assert_eq!(watch.look(), None);
        // Another file in its place, as editors and mounted secrets do it.
        let other = folder.path().join("b");
        std::fs::write(&other, "half and half").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_eq!(watch.look(), None);
        assert!(watch.look().is_some());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(watch.look(), None);
        assert!(watch.look().is_some(), "to be told that it is missing");
        watch.follow(Vec::new());
        assert_eq!(watch.look(), None);
    }

    #[test]
    fn tokens_neither_come_nor_go_by_a_reload() {
        let some: Tokens = {
            let value = serde_norway::from_str("t: [{actions: [produce]}]").unwrap();
            Tokens::read(&value).unwrap()
        };
        let mut report = Report::default();
        let open = Access::open();
        replace_tokens(&open, some.clone(), "k", &mut report);
        assert!(open.is_open());
        let closed = some.clone().access();
        replace_tokens(&closed, Tokens::default(), "k", &mut report);
        assert!(!closed.is_open());
        assert_eq!((report.applied.len(), report.postponed.len()), (0, 2));
        replace_tokens(&closed, some, "k", &mut report);
        assert_eq!(report.applied, ["k"]);
    }

    #[test]
    fn keys_that_count_at_once_are_known() {
        for key in [
            "log.level",
            "durability",
            "clusters.a.b.produce.strategy",
            "clusters.a.produce.linger_ms",
            "http.tls.cert",
            "redis.tls.client_ca",
        ] {
            assert!(is_live(key), "{key}");
        }
        for key in [
            "log.format",
            "journal.dir",
            "clusters.a.produce.partitioner",
            "http.listen",
            "redis.password",
            "http.tlsx",
        ] {
            assert!(!is_live(key), "{key}");
        }
    }
}
