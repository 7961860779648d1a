//! Barnabas's own configuration: a YAML file under environment variables.
//!
//! `keys` defines every key once; `read` walks a document along it and
//! reports everything that is wrong at once; `source` says where it comes from;
//! this file turns what was read into what the program runs on.

mod batching;
mod clusters;
mod environment;
mod journal;
mod keys;
mod metrics;
mod read;
mod source;
mod strategies;
#[cfg(test)]
pub(crate) mod tests;

use crate::clusters::Plan;
use crate::metrics::Settings as Metrics;
use crate::replicas;
use crate::telemetry;
use crate::tokens::Tokens;
use anyhow::{Context as _, Result, bail};
use barnabas_http::IdempotencyOptions;
use barnabas_redis::{Config as RedisConfig, ReplyForm, Secret, TlsFiles};
pub(crate) use batching::KEYS as BATCHING_KEYS;
pub(crate) use clusters::dispatch_defaults;
pub(crate) use environment::set as set_at;
pub(crate) use journal::{Keeping, Written as WrittenJournal};
pub(crate) use metrics::metrics_sections;
pub(crate) use read::Document;
use serde_norway::Value;
pub(crate) use source::{Source, Written, variables};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
pub(crate) use strategies::{KEYS as STRATEGY_KEYS, PICKER as STRATEGY_PICKER};

/// Less would cut off clients that are merely far away.
const LEAST_CLIENT_TIMEOUT: Duration = Duration::from_secs(1);

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
    /// `[component] YYYY/MM/DD HH:MM:SS text`, of `barnabas rafka`.
    Rafka,
}

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) format: LogFormat,
    pub(crate) level: String,
}

/// What bounds the clients of a front end, where it is not the default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) max_connections: Option<usize>,
    pub(crate) max_requests: Option<usize>,
    /// Of bodies, or of messages in part.
    pub(crate) max_bytes: Option<u64>,
    pub(crate) client_timeout: Option<Duration>,
}

impl Limits {
    fn of(document: &Document, section: &str, bytes: &str) -> Self {
        let key = |key: &str| format!("{section}.{key}");
        Self {
            max_connections: document.number(&key("max_connections")),
            max_requests: document.number(&key("max_requests")),
            max_bytes: document.number(&key(bytes)).map(|most| most as u64),
            client_timeout: document.duration(&key("client_timeout")),
        }
    }
}

/// The HTTP front end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Http {
    pub(crate) listen: Vec<String>,
    pub(crate) unix: Option<PathBuf>,
    pub(crate) cors_origins: Vec<String>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) idempotency: IdempotencyOptions,
    pub(crate) limits: Limits,
}

/// The gRPC front end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Grpc {
    pub(crate) listen: Vec<String>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) limits: Limits,
}

/// What the program runs on.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) log: Log,
    pub(crate) shutdown_deadline: Duration,
    /// In the order of the file.
    pub(crate) clusters: Vec<Plan>,
    /// The one that requests without a name are for.
    pub(crate) default_cluster: String,
    pub(crate) redis_listen: Vec<String>,
    pub(crate) redis_cluster: String,
    pub(crate) redis: RedisConfig,
    /// Redis streams have consumer groups.
    pub(crate) has_stream_groups: bool,
    pub(crate) http: Http,
    pub(crate) grpc: Grpc,
    pub(crate) tokens: Tokens,
    pub(crate) replicas: Option<replicas::Settings>,
    pub(crate) keeping: Keeping,
    pub(crate) metrics: Metrics,
    pub(crate) written: Written,
    pub(crate) telemetry: telemetry::Settings,
}

impl Default for Resolved {
    fn default() -> Self {
        Self {
            log: Log {
                format: LogFormat::Text,
                level: "info".to_owned(),
            },
            shutdown_deadline: Duration::from_secs(17),
            clusters: Vec::new(),
            default_cluster: "default".to_owned(),
            redis_listen: vec!["0.0.0.0:6380".to_owned()],
            redis_cluster: "default".to_owned(),
            redis: RedisConfig::default(),
            has_stream_groups: true,
            http: Http::default(),
            grpc: Grpc::default(),
            tokens: Tokens::default(),
            replicas: None,
            keeping: Keeping::default(),
            metrics: Metrics::default(),
            written: Written::default(),
            telemetry: telemetry::Settings::default(),
        }
    }
}

impl Resolved {
    /// Of one cluster, which everything is for.
    pub(crate) fn of(plan: Plan) -> Self {
        Self {
            default_cluster: plan.config.name.clone(),
            redis_cluster: plan.config.name.clone(),
            clusters: vec![plan],
            ..Self::default()
        }
    }

    /// What it listens on beside a Unix socket, as written.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &str> {
        let all = [
            &self.redis_listen,
            &self.http.listen,
            &self.grpc.listen,
            &self.metrics.listen,
        ];
        all.into_iter().flatten().map(String::as_str)
    }

    /// Whether neither HTTP nor gRPC is served.
    pub(crate) fn is_redis_only(&self) -> bool {
        self.http.listen.is_empty() && self.http.unix.is_none() && self.grpc.listen.is_empty()
    }
}

/// Reads the file, lets the environment override it, and resolves it.
///
/// # Errors
/// Everything that is wrong, a line each.
pub(crate) fn load(source: &Source) -> Result<Resolved> {
    let variables = variables(source.env_file.as_deref())?.into_iter();
    let mut resolved = match &source.config {
        None => parse("", variables).context("environment, as there is no --config")?,
        Some(path) => {
            let shown = path.display();
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
            parse(&text, variables).with_context(|| shown.to_string())?
        }
    };
    resolved.written.source = source.clone();
    Ok(resolved)
}

fn parse(text: &str, variables: impl Iterator<Item = (String, String)>) -> Result<Resolved> {
    let mut document: Value = serde_norway::from_str(text)?;
    if document.is_null() {
        document = Value::Mapping(serde_norway::Mapping::new());
    }
    let variables: Vec<(String, String)> = variables.collect();
    let mut problems = environment::override_with(&mut document, variables.iter().cloned());
    let document = Document::read(&document, "", &mut problems);
    let mut resolved = resolve(&document, &variables, &mut problems);
    if problems.is_empty() {
        resolved.written.document = Arc::new(document);
        Ok(resolved)
    } else {
        bail!("{}", problems.join("\n"))
    }
}

fn resolve(
    document: &Document,
    variables: &[(String, String)],
    problems: &mut Vec<String>,
) -> Resolved {
    let mut resolved = Resolved::default();
    if document.text("log.format") == Some("json") {
        resolved.log.format = LogFormat::Json;
    }
    if let Some(level) = document.text("log.level") {
        level.clone_into(&mut resolved.log.level);
    }
    if let Some(deadline) = document.duration("shutdown.deadline") {
        resolved.shutdown_deadline = deadline;
    }
    if let Some(listen) = document.list("redis.listen") {
        resolved.redis_listen = listen.to_vec();
    }
    resolved.clusters = document
        .clusters()
        .map(|name| clusters::plan(document, name, problems))
        .collect();
    let first = document.clusters().next();
    if let Some(name) = document.text("redis.cluster") {
        name.clone_into(&mut resolved.redis_cluster);
    }
    resolved.default_cluster = match document.text("default_cluster") {
        Some(name) => name.to_owned(),
        // As it was before there could be several.
        None if document.clusters().any(|known| known == "default") => "default".to_owned(),
        None => first.unwrap_or("default").to_owned(),
    };
    for (key, name, is_used) in [
        (
            "redis.cluster",
            &resolved.redis_cluster,
            !resolved.redis_listen.is_empty(),
        ),
        ("default_cluster", &resolved.default_cluster, true),
    ] {
        if is_used && !document.clusters().any(|known| known == name) {
            problems.push(format!(
                "{key}: there is no cluster \"{name}\" under clusters"
            ));
        }
    }
    resolved.redis = redis(document, problems);
    resolved.http = Http {
        listen: list(document, "http.listen"),
        unix: document.text("http.unix").map(Into::into),
        cors_origins: list(document, "http.cors_origins"),
        tls: tls(document, "http", problems),
        idempotency: idempotency(document),
        limits: Limits::of(document, "http", "max_bodies_bytes"),
    };
    resolved.grpc = Grpc {
        listen: list(document, "grpc.listen"),
        tls: tls(document, "grpc", problems),
        limits: Limits::of(document, "grpc", "max_messages_bytes"),
    };
    for section in ["redis", "http", "grpc"] {
        let key = format!("{section}.client_timeout");
        let limit = document.duration(&key);
        if limit.is_some_and(|limit| limit < LEAST_CLIENT_TIMEOUT) {
            problems.push(format!("{key}: must be at least 1s"));
        }
    }
    if resolved.redis_listen.is_empty() && resolved.is_redis_only() {
        problems.push("redis.listen, http.listen, grpc.listen: nothing is listened on".into());
    }
    resolved.tokens = tokens(document, problems);
    resolved.replicas = replicas(document, problems);
    resolved.keeping = journal::keeping(document, problems);
    resolved.metrics = metrics::settings(document, problems);
    let headers = document.map("otlp.headers").map(<[_]>::to_vec);
    resolved.telemetry = telemetry::Settings::of(
        |key| document.scalar(key),
        headers.unwrap_or_default(),
        variables,
        problems,
    );
    resolved
}

fn idempotency(document: &Document) -> IdempotencyOptions {
    let mut options = IdempotencyOptions::default();
    if let Some(window) = document.number("http.idempotency.window_ms") {
        options.window = Duration::from_millis(window as u64);
    }
    if let Some(most) = document.number("http.idempotency.max_keys") {
        options.max_keys = most;
    }
    options
}

fn list(document: &Document, key: &str) -> Vec<String> {
    document
        .list(key)
        .map(<[String]>::to_vec)
        .unwrap_or_default()
}

fn replicas(document: &Document, problems: &mut Vec<String>) -> Option<replicas::Settings> {
    let Some(advertised) = document.text("replicas.advertised") else {
        for key in ["replicas.token", "replicas.ca"] {
            if document.has(key) {
                problems.push(format!("{key}: needs replicas.advertised"));
            }
        }
        return None;
    };
    Some(replicas::Settings {
        advertised: advertised.to_owned(),
        token: document
            .text("replicas.token")
            .map(|token| Secret::new(token.to_owned())),
        ca: document.text("replicas.ca").map(Into::into),
    })
}

fn tokens(document: &Document, problems: &mut Vec<String>) -> Tokens {
    let mut tokens = document
        .tokens("access.tokens")
        .cloned()
        .unwrap_or_default();
    if let Some(path) = document.text("access.tokens_file") {
        tokens.add_file(Path::new(path), problems);
    }
    tokens
}

fn redis(document: &Document, problems: &mut Vec<String>) -> RedisConfig {
    let mut config = RedisConfig::default();
    if let Some(threads) = document.number("redis.threads") {
        config.threads = threads;
    }
    if let Some(limit) = document.number("redis.max_connections") {
        config.max_connections = limit;
    }
    if let Some(most) = document.number("redis.max_input_bytes") {
        config.max_input_bytes = most as u64;
    }
    if let Some(limit) = document.duration("redis.client_timeout") {
        config.client_timeout = limit;
    }
    config.password = document
        .text("redis.password")
        .map(|password| Secret::new(password.to_owned()));
    if let Some(users) = document.map("redis.users") {
        config.users = users
            .iter()
            .map(|(name, password)| (name.clone(), Secret::new(password.clone())))
            .collect();
    }
    if let Some(form) = document.text("redis.reply").and_then(ReplyForm::from_name) {
        config.reply = form;
    }
    config.tls = tls(document, "redis", problems);
    config
}

/// The files of a section's listeners, all that are needed or none.
fn tls(document: &Document, section: &str, problems: &mut Vec<String>) -> Option<TlsFiles> {
    let file = |key: &str| -> Option<PathBuf> {
        let path = document.text(&format!("{section}.tls.{key}"));
        path.map(Into::into)
    };
    let client_ca = file("client_ca");
    match (file("cert"), file("key")) {
        (Some(cert), Some(key)) => {
            return Some(TlsFiles {
                cert,
                key,
                client_ca,
            });
        }
        (None, None) if client_ca.is_some() => problems.push(format!(
            "{section}.tls.client_ca: needs {section}.tls.cert and {section}.tls.key"
        )),
        (None, None) => {}
        (Some(_), None) => problems.push(format!(
            "{section}.tls.key: missing, {section}.tls.cert is given"
        )),
        (None, Some(_)) => problems.push(format!(
            "{section}.tls.cert: missing, {section}.tls.key is given"
        )),
    }
    None
}

/// The `redis` section of a rafka file: the keys of ours but the listener,
/// which is a flag there.
pub(crate) fn redis_section(section: &Value) -> Result<RedisConfig> {
    let mut problems = Vec::new();
    let document = Document::read(section, "redis", &mut problems);
    for key in ["redis.listen", "redis.cluster"] {
        if document.has(key) {
            problems.push(format!("{key}: not in this file; it is given by flags"));
        }
    }
    let config = redis(&document, &mut problems);
    if problems.is_empty() {
        Ok(config)
    } else {
        bail!("{}", problems.join("; "))
    }
}
