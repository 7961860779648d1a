//! What of kprf's configuration counts without a restart (contract,
//! `producer-engine.md`, section 2: "ours also on reload").

use super::settings::Settings;
use crate::cli::KprfOptions as Flags;
use crate::document;
use crate::reload::{Compared, LiveKeys, Report, Reread, tell_refused};
use anyhow::Result;
use barnabas_engine::{Access, Durability};
use barnabas_http::{Kprf, Server};
use std::path::PathBuf;

/// What a running front end can change.
pub(super) struct Live<'a> {
    pub(super) access: &'a Access,
    pub(super) kprf: &'a Kprf,
    pub(super) server: &'a Server,
    pub(super) has_journal: bool,
}

/// The settings that it runs on, as far as they are compared with the next.
pub(super) struct Reloading<'a> {
    flags: &'a Flags,
    compared: Compared,
}

const KEYS: LiveKeys = LiveKeys {
    at_once: &[
        "kafka.durability",
        "kafka.dead_letter_topics",
        "http.reply_shape",
        "http.strict_kprf",
        "http.slow_request_ms",
        "ratelimit.enabled",
        "ratelimit.rules",
        "ratelimit.count_refused",
        "ratelimit.max_requests_per_client_per_minute",
        "ratelimit.max_clients",
        "topics.allow",
        "topics.deny",
    ],
    by_content: &[
        "log.level",
        "access.tokens",
        "access.tokens_file",
        "http.tls.cert",
        "http.tls.key",
        "http.tls.client_ca",
    ],
    tls: "http.tls",
};

impl<'a> Reloading<'a> {
    /// Of what has just been read, and runs.
    ///
    /// # Errors
    /// Certificates that cannot be read any more.
    pub(super) fn of(flags: &'a Flags, settings: &Settings) -> Result<Self> {
        Ok(Self {
            flags,
            compared: Compared::of(&KEYS, reread(settings)?),
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

    /// Reads the configuration again, applies what can be, and tells of it in
    /// the log.
    pub(super) fn run(&mut self, live: &Live<'_>) {
        match self.apply(live) {
            Ok(report) => report.tell(),
            Err(error) => tell_refused(&error),
        }
    }

    fn apply(&mut self, live: &Live<'_>) -> Result<Report> {
        let new = super::load(self.flags)?;
        let read = reread(&new)?;
        for warning in &new.warnings {
            tracing::warn!(component = "kprf", "{warning}");
        }
        let needs_journal = new.options.durability == Durability::Journal && !live.has_journal;
        let hindered = |key: &str| {
            (key == "kafka.durability" && needs_journal).then_some("there is no journal")
        };
        let places = (live.access, live.server);
        let report = self.compared.apply(read, places, hindered)?;
        live.kprf.reload(&new.options);
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
