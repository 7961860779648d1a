//! What of Kafka-Pixy's configuration counts without a restart: tokens,
//! certificates, the severity of the log.

use super::flags::Flags;
use super::resolve::{self, Resolved};
use super::severity;
use crate::config::LogFormat;
use crate::front_ends::FrontEnds;
use crate::reload::{Report, replace_tokens, tell_refused};
use crate::tokens::Tokens;
use crate::{logging, tls};
use anyhow::{Context as _, Result};
use barnabas_engine::Access;
use serde_norway::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The configuration that it runs on, as far as it is compared with the next.
pub(super) struct Reloading<'a> {
    flags: &'a Flags,
    start: BTreeMap<String, Value>,
    log: (LogFormat, &'static str),
    tokens: Tokens,
    has_tls: bool,
    files: Vec<PathBuf>,
}

impl<'a> Reloading<'a> {
    pub(super) fn of(flags: &'a Flags, resolved: &Resolved) -> Self {
        Self {
            flags,
            start: values(&resolved.written.0),
            log: severity(&resolved.logging),
            tokens: resolved.tokens.clone(),
            has_tls: resolved.tls.is_some(),
            files: files(flags, resolved),
        }
    }

    /// The files that are to be watched.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    /// Reads the configuration again, applies what can be, and tells of it in
    /// the log.
    pub(super) fn run(&mut self, access: &Access, front_ends: &FrontEnds) {
        match self.apply(access, front_ends) {
            Ok(report) => report.tell(),
            Err(error) => tell_refused(&error),
        }
    }

    fn apply(&mut self, access: &Access, front_ends: &FrontEnds) -> Result<Report> {
        // Everything that can fail, first.
        let new = resolve::load(self.flags)?;
        let load = |protocols| {
            let loaded = new.tls.as_ref().map(|files| tls::load(files, protocols));
            loaded.transpose().context("tls")
        };
        let (http, grpc) = (load(tls::HTTP)?, load(tls::GRPC)?);
        for warning in &new.warnings {
            tracing::warn!(component = "server", "{warning}");
        }
        let mut report = Report::default();
        let log = severity(&new.logging);
        if log.1 != self.log.1 {
            match logging::set_level(log.1)? {
                true => report.applied("logging.severity"),
                false => report.needs_restart("logging.severity (RUST_LOG counts)"),
            }
        }
        if log.0 != self.log.0 {
            report.needs_restart("logging");
        }
        self.log.1 = log.1;
        if self.tokens != new.tokens {
            replace_tokens(access, new.tokens.clone(), "auth", &mut report);
            if new.tokens.is_empty() == self.tokens.is_empty() {
                self.tokens = new.tokens.clone();
            }
        }
        match (self.has_tls, new.tls.is_some()) {
            (true, true) => {
                front_ends.replace_tls(http, grpc);
                report.applied("tls");
            }
            (false, false) => {}
            _ => report.needs_restart("tls (to begin with TLS, or to do without)"),
        }
        for key in differences(&self.start, &values(&new.written.0)) {
            report.needs_restart(key);
        }
        self.files = files(self.flags, &new);
        Ok(report)
    }
}

fn files(flags: &Flags, resolved: &Resolved) -> Vec<PathBuf> {
    let own = [&flags.config, &flags.env_file].into_iter().flatten();
    let mut files: Vec<PathBuf> = own.cloned().collect();
    if let Some(tls) = &resolved.tls {
        files.extend([tls.cert.clone(), tls.key.clone()]);
        files.extend(tls.client_ca.clone());
    }
    files
}

/// The keys whose values differ, of those that count at the start only.
pub(super) fn differences_of(one: &Resolved, other: &Resolved) -> Vec<String> {
    let (one, other) = (values(&one.written.0), values(&other.written.0));
    let found = differences(&one, &other);
    found.into_iter().map(str::to_owned).collect()
}

/// The values of a document that count at the start only, by path.
fn values(document: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    walk(document, "", &mut found);
    found
}

fn walk(value: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
    if matches!(path, "auth" | "logging" | "tls") {
        return;
    }
    let Value::Mapping(mapping) = value else {
        found.insert(path.to_owned(), value.clone());
        return;
    };
    for (name, value) in mapping {
        let name = name.as_str().unwrap_or_default();
        let path = match path {
            "" => name.to_owned(),
            _ => format!("{path}.{name}"),
        };
        walk(value, &path, found);
    }
}

fn differences<'a>(
    one: &'a BTreeMap<String, Value>,
    other: &'a BTreeMap<String, Value>,
) -> BTreeSet<&'a str> {
    let all = one.keys().chain(other.keys());
    all.filter(|path| one.get(*path) != other.get(*path))
        .map(String::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_restart_is_named_by_its_path() {
        let read = |text: &str| values(&serde_norway::from_str(text).unwrap());
        let start = read("tcp_addr: a\nauth: {x: []}\nproxies: {a: {kafka: {tls: true}}, b: ~}\n");
        let other = read(
            "tcp_addr: b\nauth: {y: []}\ntls: {key_path: x}\nlogging: []\nproxies: {a: {kafka: \
             {tls: true, version: '3'}}}\n",
        );
        let found: Vec<&str> = differences(&start, &other).into_iter().collect();
        assert_eq!(found, ["proxies.a.kafka.version", "proxies.b", "tcp_addr"]);
        assert!(differences(&start, &start).is_empty());
    }
}
