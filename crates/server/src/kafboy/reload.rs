//! What of kafboy's and ekaf's configuration counts without a restart
//! (contract, `producer-engine.md`, section 2: "ours also on reload").

use super::keys::{HOOK, PICKER};
use super::settings::Settings;
use crate::cli::KafboyOptions as Flags;
use crate::document;
use crate::reload::{Compared, LiveKeys, Report, Reread, tell_refused};
use anyhow::Result;
use barnabas_engine::{Access, Durability, PerTopic};
use barnabas_http::{Kafboy, Server};
use std::path::PathBuf;

/// What a running front end can change.
pub(super) struct Live<'a> {
    pub(super) access: &'a Access,
    pub(super) kafboy: &'a Kafboy,
    pub(super) server: &'a Server,
    pub(super) has_statsd: bool,
}

/// The settings that it runs on, as far as they are compared with the next.
pub(super) struct Reloading {
    flags: Flags,
    compared: Compared,
    scripts: Scripts,
    /// When producing is answered: what the outbox is told, and who waits.
    durability: (PerTopic<Durability>, PerTopic<bool>),
}

/// Keys of scripts, and what was in their files.
pub(super) type Scripts = Vec<(&'static str, Vec<Vec<u8>>)>;

const DURABILITY: &str = "ekaf.durability";
const STATSD: &str = "ekaf.ekaf_push_to_statsd_enabled";

const KEYS: LiveKeys = LiveKeys {
    at_once: &[
        HOOK,
        PICKER,
        STATSD,
        "ekaf.ekaf_per_partition_workers",
        "ekaf.ekaf_max_buffer_size",
        "ekaf.ekaf_buffer_ttl",
        "ekaf.ekaf_max_downtime_buffer_size",
        "ekaf.ekaf_partition_strategy",
        "ekaf.ekaf_sticky_partition_buffer_size",
        "ekaf.ekaf_callback_massage_buffer",
        "ekaf.pull_for_changes_timeout",
        "ekaf.metadata_refresh_ms",
        DURABILITY,
        "ekaf.max_buffered_bytes",
        "ekaf.max_buffered_messages",
        "ekaf.downtime_policy",
        "ekaf.max_message_age_ms",
        "ekaf.down_after_ms",
        "ekaf.topic_grace_ms",
    ],
    by_content: &[
        "log.level",
        "kafboy.enable_logging",
        "ekaf.enable_logging",
        "access.tokens",
        "access.tokens_file",
        "kafboy.tls.cert",
        "kafboy.tls.key",
        "kafboy.tls.client_ca",
    ],
    tls: "kafboy.tls",
};

impl Reloading {
    /// Of what has just been read, and runs.
    ///
    /// # Errors
    /// Certificates that cannot be read any more.
    pub(super) fn of(flags: &Flags, settings: &Settings) -> Result<Self> {
        Ok(Self {
            flags: flags.clone(),
            compared: Compared::of(&KEYS, reread(settings)?),
            scripts: settings.scripts.clone(),
            durability: (
                settings.ekaf.settings.durability.clone(),
                settings.ekaf.waits.clone(),
            ),
        })
    }

    /// The files that are to be watched.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let config = self.flags.config.iter();
        let config = config.map(|path| document::find(path).unwrap_or_else(|_| path.clone()));
        config
            .chain(self.flags.env_file.clone())
            .chain(self.compared.files())
            .collect()
    }

    /// Applies what was read again, as far as it can be, and tells of it in
    /// the log.
    pub(super) fn run(&mut self, new: Result<Settings>, live: &Live<'_>) {
        match new.and_then(|new| self.apply(new, live)) {
            Ok(report) => report.tell(),
            Err(error) => tell_refused(&error),
        }
    }

    fn apply(&mut self, new: Settings, live: &Live<'_>) -> Result<Report> {
        let needs_journal = live.kafboy.outbox().journal().is_none() && new.ekaf.wants_journal();
        let read = reread(&new)?;
        for warning in &new.warnings {
            tracing::warn!(component = "kafboy", "{warning}");
        }
        let hindered = |key: &str| match key {
            STATSD if !live.has_statsd => Some("nothing was pushed at the start"),
            DURABILITY if needs_journal => Some("there is no journal"),
            _ => None,
        };
        let places = (live.access, live.server);
        let mut report = self.compared.apply(read, places, hindered)?;
        for (key, files) in &new.scripts {
            let same = self.scripts.contains(&(*key, files.clone()));
            if !same && !report.has_applied(key) {
                report.applied(*key);
            }
        }
        let (mut settings, mut waits) = (new.ekaf.settings, new.ekaf.waits);
        if needs_journal {
            (settings.durability, waits) = self.durability.clone();
        } else {
            self.durability = (settings.durability.clone(), waits.clone());
        }
        live.kafboy.outbox().reload(settings);
        live.kafboy.reload(new.hook, waits);
        self.scripts = new.scripts;
        Ok(report)
    }
}

fn reread(settings: &Settings) -> Result<Reread> {
    Ok(Reread {
        written: settings.written.clone(),
        tokens: settings.tokens.clone(),
        level: settings.level.clone(),
        certificates: super::load_tls(settings)?,
    })
}
