//! Barnabas's own configuration: a YAML file under environment variables.
//!
//! `keys` defines every key once; `read` walks a document along it and
//! reports everything that is wrong at once; this file turns what was read
//! into what the program runs on.

mod environment;
mod keys;
mod read;

use anyhow::{Context as _, Result, bail};
use barnabas_engine::{ClusterConfig, Properties};
use barnabas_redis::{Config as RedisConfig, ReplyForm, Secret, TlsFiles};
pub(crate) use read::Document;
use serde_norway::Value;
use std::path::Path;
use std::time::Duration;

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

/// What the program runs on.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) log: Log,
    pub(crate) shutdown_deadline: Duration,
    pub(crate) cluster: ClusterConfig,
    pub(crate) listen: Vec<String>,
    pub(crate) redis: RedisConfig,
}

impl Default for Resolved {
    fn default() -> Self {
        Self {
            log: Log {
                format: LogFormat::Text,
                level: "info".to_owned(),
            },
            shutdown_deadline: Duration::from_secs(17),
            cluster: ClusterConfig::default(),
            listen: vec!["0.0.0.0:6380".to_owned()],
            redis: RedisConfig::default(),
        }
    }
}

/// Reads the file, lets the environment override it, and resolves it.
///
/// # Errors
/// Everything that is wrong, a line each.
pub(crate) fn load(path: &Path) -> Result<Resolved> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    parse(&text, variables()).with_context(|| shown.to_string())
}

/// The environment, without what is no text: that is none of ours.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn parse(text: &str, variables: impl Iterator<Item = (String, String)>) -> Result<Resolved> {
    let mut document: Value = serde_norway::from_str(text)?;
    if document.is_null() {
        document = Value::Mapping(serde_norway::Mapping::new());
    }
    let mut problems = environment::override_with(&mut document, variables);
    let document = Document::read(&document, "", &mut problems);
    let resolved = resolve(&document, &mut problems);
    if problems.is_empty() {
        Ok(resolved)
    } else {
        bail!("{}", problems.join("\n"))
    }
}

fn resolve(document: &Document, problems: &mut Vec<String>) -> Resolved {
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
        resolved.listen = listen.to_vec();
    }
    let name = document.text("redis.cluster").unwrap_or("default");
    resolved.cluster = cluster(document, name);
    if !document.clusters().any(|known| known == name) {
        problems.push(format!(
            "redis.cluster: there is no cluster \"{name}\" under clusters"
        ));
    }
    for known in document.clusters() {
        let config = cluster(document, known);
        problems.extend(
            config
                .problems()
                .iter()
                .map(|problem| format!("clusters.{known}: {problem}")),
        );
    }
    resolved.redis = redis(document, problems);
    resolved
}

fn cluster(document: &Document, name: &str) -> ClusterConfig {
    let properties = |section: &str| -> Properties {
        document
            .map(&format!("clusters.{name}.{section}"))
            .map(|map| map.iter().cloned().collect())
            .unwrap_or_default()
    };
    ClusterConfig {
        name: name.to_owned(),
        common: properties("properties"),
        producer: properties("producer"),
        consumer: properties("consumer"),
    }
}

fn redis(document: &Document, problems: &mut Vec<String>) -> RedisConfig {
    let mut config = RedisConfig::default();
    if let Some(threads) = document.number("redis.threads") {
        config.threads = threads;
    }
    if let Some(limit) = document.number("redis.max_connections") {
        config.max_connections = limit;
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
    let file = |key: &str| document.text(key).map(Into::into);
    config.tls = match (file("redis.tls.cert"), file("redis.tls.key")) {
        (Some(cert), Some(key)) => Some(TlsFiles {
            cert,
            key,
            client_ca: file("redis.tls.client_ca"),
        }),
        (None, None) => {
            if file("redis.tls.client_ca").is_some() {
                problems.push("redis.tls.client_ca: needs redis.tls.cert and redis.tls.key".into());
            }
            None
        }
        (Some(_), None) => {
            problems.push("redis.tls.key: missing, redis.tls.cert is given".into());
            None
        }
        (None, Some(_)) => {
            problems.push("redis.tls.cert: missing, redis.tls.key is given".into());
            None
        }
    };
    config
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

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, variables: &[(&str, &str)]) -> String {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        match parse(text, variables) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    const CLUSTER: &str = "clusters: {default: {properties: {bootstrap.servers: 'a:1'}}}\n";

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let text = "
log: {format: xml, levle: info}
redis: {max_conections: 5, threads: many, reply: pairs, tls: {cert: a}}
clusters:
  default: {properties: {bootstrap.server: 'a:1'}, producer: {linger.ms: soon}}
shutdown: {deadline: fast}
";
        let said = problems(text, &[("BARNABAS_REDIS__PASWORD", "x")]);
        for expected in [
            "log.format: \"xml\"",
            "text, json",
            "log.levle: no such key, did you mean log.level?",
            "redis.max_conections: no such key, did you mean redis.max_connections?",
            "redis.threads: \"many\"",
            "redis.reply: \"pairs\"",
            "redis.tls.key: missing",
            "\"bootstrap.server\", did you mean \"bootstrap.servers\"?",
            "linger.ms",
            "shutdown.deadline: \"fast\"",
            "BARNABAS_REDIS__PASWORD: no such key, did you mean redis.password?",
        ] {
            assert!(said.contains(expected), "{expected} is not in:\n{said}");
        }
    }

    #[test]
    fn variables_know_no_case_and_properties_keep_their_underscores() {
        let text = "clusters: {Main: {properties: {bootstrap.servers: 'a:1'}}}\nredis: {cluster: \
                    Main}";
        let variables = [
            (
                "BARNABAS_CLUSTERS__MAIN__PROPERTIES__BOOTSTRAP_SERVERS",
                "b:2",
            ),
            ("BARNABAS_CLUSTERS__MAIN__PROPERTIES__LOG_LEVEL", "7"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let resolved = parse(text, variables.into_iter()).unwrap();
        let common = &resolved.cluster.common;
        assert_eq!(common.get("bootstrap.servers"), Some("b:2"));
        assert_eq!(common.get("log_level"), Some("7"));
    }

    #[test]
    fn the_environment_overrides_every_key() {
        let variables = [
            ("BARNABAS_REDIS__MAX_CONNECTIONS", "7"),
            ("BARNABAS_REDIS__LISTEN", "[\"127.0.0.1:1\", \"[::1]:2\"]"),
            ("BARNABAS_REDIS__USERS", "{ann: secret}"),
            ("BARNABAS_REDIS__PASSWORD", "12345"),
            ("BARNABAS_LOG__LEVEL", "debug"),
            ("BARNABAS_SHUTDOWN__DEADLINE", "500ms"),
            ("BARNABAS_CLUSTERS__DEFAULT__PRODUCER", "{linger.ms: 3}"),
            (
                "BARNABAS_CLUSTERS__DEFAULT__CONSUMER__AUTO_OFFSET_RESET",
                "earliest",
            ),
            ("OTHER", "x"),
        ];
        let text = format!("{CLUSTER}redis: {{max_connections: 5}}");
        let resolved = parse(
            &text,
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
        .unwrap();
        assert_eq!(resolved.redis.max_connections, 7);
        assert_eq!(resolved.listen, ["127.0.0.1:1", "[::1]:2"]);
        assert_eq!(resolved.redis.users.len(), 1);
        assert_eq!(resolved.redis.password, Some(Secret::new("12345".into())));
        assert_eq!(resolved.log.level, "debug");
        assert_eq!(resolved.shutdown_deadline, Duration::from_millis(500));
        assert_eq!(resolved.cluster.producer.get("linger.ms"), Some("3"));
        assert_eq!(
            resolved.cluster.consumer.get("auto.offset.reset"),
            Some("earliest")
        );
    }

    #[test]
    fn the_example_names_every_key_with_its_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../barnabas.example.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(problems(&text, &[]), "");
        let value: Value = serde_norway::from_str(&text).unwrap();
        let document = Document::read(&value, "", &mut Vec::new());
        for key in keys::KEYS {
            let path = key.path.replace('*', "default");
            // What is off unless given stands in a comment.
            let last = format!("{}:", path.rsplit('.').next().unwrap());
            let is_shown = |line: &str| {
                let rest = line.trim_start().strip_prefix('#');
                rest.is_some_and(|rest| rest.trim_start().starts_with(&last))
            };
            let commented = key.default == "none" && text.lines().any(is_shown);
            assert!(
                document.has(&path) || commented,
                "{path} is not in the example"
            );
            if let Some(shown) = document.shown(&path)
                && key.default != "none"
            {
                assert_eq!(shown, key.default, "{path}");
            }
        }
        let defaults = Resolved::default();
        let resolved = parse(&text, std::iter::empty()).unwrap();
        assert_eq!(resolved.log, defaults.log);
        assert_eq!(resolved.listen, defaults.listen);
        assert_eq!(resolved.shutdown_deadline, defaults.shutdown_deadline);
        assert_eq!(
            resolved.redis.max_connections,
            defaults.redis.max_connections
        );
        assert_eq!(resolved.redis.reply, defaults.redis.reply);
    }

    #[test]
    fn a_cluster_must_exist() {
        assert!(problems("{}", &[]).contains("no cluster \"default\""));
        assert_eq!(problems(CLUSTER, &[]), "");
        let other = format!("{CLUSTER}redis: {{cluster: other}}");
        assert!(problems(&other, &[]).contains("no cluster \"other\""));
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = format!("{CLUSTER}redis: {{password: hunter2, users: {{a: hunter2}}}}");
        let resolved = parse(&text, std::iter::empty()).unwrap();
        assert!(!format!("{resolved:?}").contains("hunter2"));
    }
}
