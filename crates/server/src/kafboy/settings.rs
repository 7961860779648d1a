//! What `barnabas kafboy` runs on, from what is written (contract,
//! `producer-http.md`, section 8).

use super::ekaf::{self, Ekaf};
use super::keys::{self, HOOK, PICKER};
use super::metrics::CLUSTER;
use super::reload::Scripts;
use crate::config::LogFormat;
use crate::document::keys::Kind;
use crate::document::{Document, Written, journal, sections};
use crate::script::LuaHook;
use crate::tokens::Tokens;
use crate::{gateway, logging, metrics, telemetry};
use anyhow::{Result, bail};
use barnabas_engine::{ClusterConfig, JournalOptions};
use barnabas_http::{EditJson, KafboyOptions, Options, ValveOptions};
use barnabas_redis::TlsFiles;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Everything that the program runs on.
pub(super) struct Settings {
    pub(super) cluster: ClusterConfig,
    pub(super) ekaf: Ekaf,
    pub(super) journal: Option<JournalOptions>,
    pub(super) options: KafboyOptions,
    pub(super) hook: Option<Arc<dyn EditJson>>,
    pub(super) listen: String,
    pub(super) max_connections: usize,
    pub(super) tls: Option<TlsFiles>,
    pub(super) format: LogFormat,
    pub(super) level: String,
    pub(super) shutdown_timeout: Duration,
    pub(super) warnings: Vec<String>,
    pub(super) metrics: metrics::Settings,
    pub(super) telemetry: telemetry::Settings,
    pub(super) tokens: Tokens,
    pub(super) written: Written,
    pub(super) scripts: Scripts,
}

/// Reads file and environment.
///
/// # Errors
/// Everything that is wrong, in one line.
pub(super) fn load(
    path: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Settings> {
    resolve(Document::read(&keys::SCHEMA, path, variables)?)
}

fn resolve(mut document: Document) -> Result<Settings> {
    let mut problems = std::mem::take(&mut document.problems);
    let mut warnings = std::mem::take(&mut document.warnings);
    let mut ekaf = ekaf::read(&document, &mut problems, &mut warnings);
    if ekaf.brokers.is_empty() {
        problems
            .push("ekaf.ekaf_bootstrap_broker is missing: there is nobody to send to".to_owned());
    }
    let journal = journal::read(&document, CLUSTER, &mut problems);
    if journal.is_none() && ekaf.wants_journal() {
        problems.push("ekaf.durability: journal needs journal.dir".to_owned());
    }
    let ignored = keys::SCHEMA
        .keys()
        .filter(|key| key.kind == Kind::Ignored && key.path.starts_with("kafboy."));
    for key in ignored.filter(|key| document.get(key.path).is_some()) {
        let path = key.path;
        warnings.push(format!("{path} has no effect: it is for nodes of Erlang"));
    }
    let options = options(&document, &ekaf);
    if let Err(problem) = options.check() {
        problems.push(format!("kafboy.{problem}"));
    }
    let hook = hook(&document, options.hook_timeout, &mut problems);
    let tls = document.tls("kafboy.tls", &mut problems);
    let tokens = sections::tokens(&document, &mut problems);
    let telemetry = sections::telemetry(&document, &mut problems);
    let metrics = sections::metrics(&document, &mut problems);
    let properties = &mut ekaf.settings.librdkafka;
    metrics.prepare_properties(properties, telemetry.sends_metrics());
    let mut cluster = ClusterConfig {
        name: CLUSTER.to_owned(),
        // The journal's producer has them, too.
        producer: ekaf.settings.librdkafka.clone(),
        ..ClusterConfig::default()
    };
    cluster
        .common
        .set("bootstrap.servers", ekaf.brokers.as_str());
    if let Err(error) = gateway::check(&cluster) {
        problems.push(error.to_string());
    }
    let is_talkative = ekaf.is_talkative || document.switch("kafboy.enable_logging");
    let level = document.text("log.level");
    let level = level.unwrap_or(if is_talkative { "debug" } else { "info" });
    if let Err(error) = logging::check(level) {
        problems.push(format!("{error:#}"));
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("; "));
    }
    let number = |path: &str, default: i64| document.number(path).unwrap_or(default);
    let host = document
        .text("kafboy.kafboy_http_listen")
        .unwrap_or("0.0.0.0");
    let port = number("kafboy.kafboy_http_port", 8_000);
    Ok(Settings {
        cluster,
        journal,
        listen: match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        },
        max_connections: document
            .number("kafboy.kafboy_max_connections")
            .and_then(|most| usize::try_from(most).ok())
            .unwrap_or(Options::default().max_connections),
        tls,
        hook,
        format: match document.text("log.format") {
            Some("json") => LogFormat::Json,
            _ => LogFormat::Text,
        },
        level: level.to_owned(),
        shutdown_timeout: milliseconds(number("shutdown_timeout_ms", 30_000)),
        warnings,
        options,
        ekaf,
        metrics,
        telemetry,
        tokens,
        scripts: scripts(&document),
        written: Written::new(document),
    })
}

/// What is in the scripts that are named: they count by that, too, and not by
/// their names alone.
fn scripts(document: &Document) -> Scripts {
    let read = |key: &'static str| {
        let files = document.files(key);
        let read = files.map(|path| std::fs::read(path).unwrap_or_default());
        (key, read.collect())
    };
    vec![read(HOOK), read(PICKER)]
}

fn options(document: &Document, ekaf: &Ekaf) -> KafboyOptions {
    let built_in = KafboyOptions::default();
    let text = |name: &str, default: &str| {
        let value = document.text(&format!("kafboy.{name}"));
        value.unwrap_or(default).to_owned()
    };
    let list = |name: &str| document.list(&format!("kafboy.{name}"));
    let most = ekaf.settings.max_buffered_bytes;
    // What could never be admitted is too large.
    let max_body = document
        .number("kafboy.kafboy_max_body_bytes")
        .map_or(built_in.max_body_bytes as u64, unsigned)
        .min(most);
    KafboyOptions {
        async_url: text("kafboy_async_url", &built_in.async_url),
        sync_url: text("kafboy_sync_url", &built_in.sync_url),
        extra_async_batch: list("kafboy_routes_async_batch"),
        extra_async: list("kafboy_routes_async"),
        extra_sync: list("kafboy_routes_sync"),
        max_body_bytes: usize::try_from(max_body).unwrap_or(usize::MAX),
        max_bodies_bytes: most,
        hook_timeout: document
            .number("kafboy.kafboy_hook_timeout_ms")
            .map_or(built_in.hook_timeout, milliseconds),
        is_strict: document.switch("kafboy.kafboy_strict"),
        valve: document
            .switch("kafboy.kafboy_enable_safetyvalve")
            .then(|| valve(document)),
        waits: ekaf.waits.clone(),
        node: format!("barnabas@{}", host_name()),
    }
}

fn valve(document: &Document) -> ValveOptions {
    let built_in = ValveOptions::default();
    let number = |name: &str| document.number(&format!("safetyvalve.queues.kafboy_q.{name}"));
    let count = |name: &str, default: usize| {
        let count = number(name).and_then(|count| usize::try_from(count).ok());
        count.unwrap_or(default)
    };
    ValveOptions {
        interval: number("hz").map_or(built_in.interval, milliseconds),
        rate: number("rate").map_or(built_in.rate, unsigned),
        token_limit: number("token_limit").map_or(built_in.token_limit, unsigned),
        size: count("size", built_in.size),
        concurrency: count("concurrency", built_in.concurrency),
    }
}

fn hook(
    document: &Document,
    timeout: Duration,
    problems: &mut Vec<String>,
) -> Option<Arc<dyn EditJson>> {
    let name = document.text(HOOK)?;
    if ekaf::is_erlang(name) {
        problems.push(format!(
            "{HOOK}: {name} is written in Erlang; here it is the path of a Lua script"
        ));
        return None;
    }
    match LuaHook::load(Path::new(name), timeout) {
        Ok(hook) => Some(Arc::new(hook)),
        Err(error) => {
            problems.push(format!("{HOOK}: {error:#}"));
            None
        }
    }
}

/// As Linux has it.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "localhost".to_owned(),
        name => name.to_owned(),
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn milliseconds(number: i64) -> Duration {
    Duration::from_millis(unsigned(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: &str, text: &str) -> Result<Settings> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        load(Some(&path), std::iter::empty())
    }

    fn read(text: &str) -> Result<Settings> {
        read_as("kafboy.yaml", text)
    }

    const BROKER: &str = "ekaf: {ekaf_bootstrap_broker: 'a:1'}\n";

    #[test]
    fn defaults_are_those_of_the_contract() {
        let settings = read(BROKER).unwrap();
        assert_eq!(settings.listen, "0.0.0.0:8000");
        let options = &settings.options;
        assert_eq!(options.async_url, "/async/:topic/");
        assert_eq!(options.max_body_bytes, 1 << 20);
        assert_eq!(options.hook_timeout, Duration::from_millis(500));
        assert!(options.valve.is_none() && settings.hook.is_none());
        assert!(options.node.starts_with("barnabas@"));
        let brokers = settings.cluster.common.get("bootstrap.servers");
        assert_eq!(brokers, Some("a:1"));
        assert_eq!(settings.level, "info");
        assert_eq!(settings.shutdown_timeout, Duration::from_secs(30));
        assert_eq!(settings.warnings, [""; 0]);
        assert!(settings.tokens.is_empty() && !settings.metrics.is_on());
        let interval = settings.ekaf.settings.librdkafka;
        assert_eq!(interval.get("statistics.interval.ms"), None, "nobody looks");
    }

    #[test]
    fn librdkafka_writes_statistics_for_those_who_look() {
        let interval = |own: &str| {
            let text =
                format!("metrics: {{listen: 'a:1'}}\nekaf: {{ekaf_bootstrap_broker: a{own}}}");
            let librdkafka = read(&text).unwrap().ekaf.settings.librdkafka;
            librdkafka.get("statistics.interval.ms").map(str::to_owned)
        };
        assert_eq!(interval("").as_deref(), Some("5000"));
        let own = ", librdkafka: {statistics.interval.ms: 7}";
        assert_eq!(interval(own).as_deref(), Some("7"));
    }

    #[test]
    fn a_sys_config_of_both_is_read() {
        let settings = read_as(
            "sys.config",
            r#"[{kafboy, [{kafboy_http_port, 9903}, {kafboy_enable_safetyvalve, true},
                  {kafboy_routes_async_batch, ["/1/foo/:topic"]},
                  {kafboy_load_balancer, "http://x/disco"}, {kafboy_mastr, 1}, {enable_logging, true}]},
                {ekaf, [{ekaf_bootstrap_broker, {"localhost", 9091}}]},
                {safetyvalve, [{queues, [{kafboy_q, [{hz, 10}, {rate, 5}, {size, 7}]}]}]}]."#,
        )
        .unwrap();
        assert_eq!(settings.listen, "0.0.0.0:9903");
        assert_eq!(settings.options.extra_async_batch, ["/1/foo/:topic"]);
        let expected = ValveOptions {
            interval: Duration::from_millis(10),
            rate: 5,
            size: 7,
            ..ValveOptions::default()
        };
        assert_eq!(settings.options.valve, Some(expected));
        assert_eq!(settings.level, "debug");
        assert_eq!(
            settings.warnings,
            [
                "unknown key kafboy.kafboy_mastr, did you mean kafboy.kafboy_master?",
                "kafboy.kafboy_load_balancer has no effect: it is for nodes of Erlang",
            ]
        );
    }

    #[test]
    fn everything_that_is_wrong_is_said() {
        for (text, expected) in [
            (
                "kafboy: {}",
                "ekaf.ekaf_bootstrap_broker is missing: there is nobody to send to",
            ),
            (
                "kafboy: {kafboy_sync_url: sync}\nekaf: {ekaf_bootstrap_broker: a}",
                "kafboy.kafboy_sync_url: \"sync\" must begin with / and have :topic once",
            ),
            (
                "kafboy: {kafboy_callback_edit_json: [m, f], tls: {key: k}}\nekaf: \
                 {ekaf_bootstrap_broker: a}",
                "kafboy.kafboy_callback_edit_json: m:f is written in Erlang; here it is the path \
                 of a Lua script; kafboy.tls needs cert and key together",
            ),
            (
                "ekaf: {ekaf_bootstrap_broker: a, durability: {clicks: journal}}",
                "ekaf.durability: journal needs journal.dir",
            ),
            (
                "ekaf: {ekaf_bootstrap_broker: a, librdkafka: {linger: 1}}",
                "no such configuration property: \"linger\"",
            ),
        ] {
            let problem = read(text).err().unwrap().to_string();
            assert_eq!(problem, expected);
        }
        let level = read("ekaf: {ekaf_bootstrap_broker: a}\nlog: {level: x=y=z}");
        let problem = level.err().unwrap().to_string();
        assert!(problem.starts_with("log.level: x=y=z: "), "{problem}");
    }

    #[test]
    fn variables_stand_before_the_file() {
        let variables = [
            ("KAFBOY_EKAF__EKAF_BOOTSTRAP_BROKER", "a:1,b:2"),
            (
                "KAFBOY_EKAF__EKAF_MAX_BUFFER_SIZE",
                r#"{"t": 7, "default": 8}"#,
            ),
            ("KAFBOY_EKAF__LIBRDKAFKA__COMPRESSION_TYPE", "lz4"),
            ("KAFBOY_KAFBOY__KAFBOY_HTTP_PORT", "9"),
            ("KAFBOY_KAFBOY__PORT", "9"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = load(None, variables.into_iter()).unwrap();
        assert_eq!(settings.listen, "0.0.0.0:9");
        let ekaf = &settings.ekaf;
        assert_eq!(ekaf.brokers, "a:1,b:2");
        assert_eq!(ekaf.settings.of("t").max_batch_messages, 7);
        assert_eq!(ekaf.settings.of("x").max_batch_messages, 8);
        let compression = ekaf.settings.librdkafka.get("compression.type");
        assert_eq!(compression, Some("lz4"));
        assert_eq!(settings.warnings, ["unknown variable KAFBOY_KAFBOY__PORT"]);
    }

    #[test]
    fn the_example_has_every_key_with_its_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kafboy.example.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        let example = read(&text).unwrap();
        assert_eq!(example.warnings, [""; 0]);
        let bare = read("ekaf: {ekaf_bootstrap_broker: '127.0.0.1:9092'}").unwrap();
        let shown = |settings: &Settings| {
            let Settings {
                cluster,
                ekaf,
                options,
                listen,
                max_connections,
                level,
                shutdown_timeout,
                metrics,
                tokens,
                ..
            } = settings;
            let own = &ekaf.settings;
            let topic = own.of("t");
            format!(
                "{cluster:?} {options:?} {listen} {max_connections} {level} {shutdown_timeout:?} \
                 {:?} {:?} {:?} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {} {:?} {:?} {} {}",
                ekaf.brokers,
                ekaf.topics,
                topic.strategy,
                topic.max_batch_messages,
                topic.batch_ttl,
                topic.lanes_per_partition,
                topic.max_downtime_messages,
                topic.downtime_policy,
                topic.max_message_age,
                topic.sticky_picks,
                topic.compression,
                topic.has_statsd,
                own.max_buffered_bytes,
                own.sync_timeout,
                own.metadata_refresh,
                own.connections,
                own.max_buffered_messages,
            ) + &format!(
                "{:?} {:?} {:?} {metrics:?} {tokens:?}",
                own.down_after, own.unknown_topic_grace, own.librdkafka
            )
        };
        assert_eq!(shown(&example), shown(&bare));
        // Those without a default are shown as a comment.
        for key in keys::SCHEMA.keys().filter(|key| key.kind != Kind::Ignored) {
            let name = key.path.rsplit('.').next().unwrap_or_default();
            let is_there = text.lines().any(|line| {
                let line = line.trim_start().trim_start_matches("# ").trim_start();
                line.starts_with(&format!("{name}:"))
            });
            assert!(is_there, "{}", key.path);
        }
    }
}
