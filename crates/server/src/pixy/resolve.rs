//! The old program's file and flags, and what is to be served.

use super::environment;
use super::file::{self, Cluster, File, Logger};
use super::flags::Flags;
use crate::clusters::Plan;
use crate::config::variables;
use crate::tokens::Tokens;
use crate::{config, metrics, replicas, telemetry};
use anyhow::{Context as _, Result, bail};
use barnabas_redis::{Secret, TlsFiles};
use serde_norway::{Mapping, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) tcp_addr: String,
    pub(super) unix_addr: String,
    pub(super) grpc_addr: String,
    pub(super) logging: Vec<Logger>,
    pub(super) default_cluster: String,
    pub(super) tls: Option<TlsFiles>,
    pub(super) tokens: Tokens,
    pub(super) replicas: Option<replicas::Settings>,
    pub(super) metrics: metrics::Settings,
    pub(super) telemetry: telemetry::Settings,
    /// In the order of the file.
    pub(super) clusters: Vec<ResolvedCluster>,
    /// What is to be said once there is a log.
    pub(super) warnings: Vec<String>,
    /// File and environment together.
    pub(super) written: Written,
}

/// What was written. `Debug` hides it, as there are secrets in it.
pub(super) struct Written(pub(super) Value);

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Written")
    }
}

/// One cluster.
#[derive(Debug)]
pub(super) struct ResolvedCluster {
    pub(super) plan: Plan,
    pub(super) dial_timeout: Duration,
    pub(super) shutdown_timeout: Duration,
}

pub(super) fn load(flags: &Flags) -> Result<Resolved> {
    let text = match &flags.config {
        Some(path) => read(path)?,
        None => String::new(),
    };
    let variables = variables(flags.env_file.as_deref()).context("Failed to load config")?;
    resolve(&text, variables, flags).context("Failed to load config")
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .with_context(|| format!("Failed to load config: cannot read {}", path.display()))
}

fn resolve(text: &str, variables: Vec<(String, String)>, flags: &Flags) -> Result<Resolved> {
    let mut written = match text.trim().is_empty() {
        true => Value::Mapping(Mapping::new()),
        false => serde_norway::from_str(text).context("failed to parse config")?,
    };
    let is_overridden = environment::override_with(&mut written, variables.clone())?;
    let file = match is_overridden || text.trim().is_empty() {
        true => serde_norway::from_value(written.clone()),
        // Its errors have lines.
        false => serde_norway::from_str(text),
    };
    let mut file: File = file.context("failed to parse config")?;
    if flags.config.is_none() && file.proxies.is_empty() {
        file.proxies
            .insert("default".into(), Value::Mapping(Mapping::new()));
    }
    let mut warnings = Vec::new();
    warn_of(&mut warnings, "", &file.unknown);
    warn_of(&mut warnings, "tls.", &file.tls.unknown);
    warn_of(&mut warnings, "replicas.", &file.replicas.unknown);
    let telemetry = super::telemetry::settings(&file, &variables, &mut warnings)?;
    if file.proxies.is_empty() {
        bail!("err=(invalid config parameter: at least on proxy must be configured)");
    }
    let mut clusters = Vec::new();
    let first = file.proxies.keys().next().and_then(Value::as_str);
    let default_cluster = match file.default_cluster.as_str() {
        "" => first.unwrap_or_default().to_owned(),
        name => name.to_owned(),
    };
    for (name, value) in file.proxies {
        let name = name.as_str().context("a cluster's name is no text")?;
        let mut cluster: Cluster = match value {
            Value::Null => Cluster::default(),
            value => serde_norway::from_value(value).context("failed to parse config")?,
        };
        if name == default_cluster {
            apply(&mut cluster, flags);
        }
        warn_about(&mut warnings, name, &cluster);
        clusters.push(cluster.resolve(name)?);
    }
    if !clusters
        .iter()
        .any(|cluster| cluster.plan.config.name == default_cluster)
    {
        bail!(
            "err=(invalid config parameter: default_cluster {default_cluster} is not configured)"
        );
    }
    let tokens = match Tokens::read(&file.auth) {
        Ok(tokens) => tokens,
        Err(problems) => bail!("auth: {}", problems.join("; ")),
    };
    if file.debug {
        warnings.push("debug: there is no heap profile to be had; /pprof/heap stays 404".into());
    }
    if flags.zookeeper_peers.is_some() {
        warnings.push("-zookeeperPeers: ZooKeeper is no longer needed".to_owned());
    }
    let logging = match &flags.logging {
        Some(text) => serde_json::from_str(text).context("-logging")?,
        None => file.logging,
    };
    let choose = |flag: &Option<String>, own: String| flag.clone().unwrap_or(own);
    Ok(Resolved {
        tcp_addr: choose(&flags.tcp_addr, file.tcp_addr),
        unix_addr: choose(&flags.unix_addr, file.unix_addr),
        grpc_addr: choose(&flags.grpc_addr, file.grpc_addr),
        logging,
        tls: tls(&file.tls)?,
        tokens,
        replicas: replicas(file.replicas)?,
        metrics: config::metrics_sections(&file.metrics, &file.statsd)?,
        telemetry,
        default_cluster,
        clusters,
        warnings,
        written: Written(written),
    })
}

fn replicas(own: file::Replicas) -> Result<Option<replicas::Settings>> {
    if own.advertised_addr.is_empty() {
        if !own.token.is_empty() || !own.ca_path.is_empty() {
            bail!("replicas.token and replicas.ca_path need replicas.advertised_addr");
        }
        return Ok(None);
    }
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(Some(replicas::Settings {
        advertised: own.advertised_addr,
        token: given(own.token).map(Secret::new),
        ca: given(own.ca_path).map(Into::into),
    }))
}

/// One file without the other would be plaintext, unnoticed (contract,
/// section 13, B26).
fn tls(own: &file::TlsFiles) -> Result<Option<TlsFiles>> {
    let given = |path: &String| Some(path).filter(|path| !path.is_empty()).map(Into::into);
    let client_ca = given(&own.client_ca_path);
    match (given(&own.certificate_path), given(&own.key_path)) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles {
            cert,
            key,
            client_ca,
        })),
        (None, None) if client_ca.is_some() => {
            bail!("tls.client_ca_path: needs tls.certificate_path and tls.key_path")
        }
        (None, None) => Ok(None),
        (Some(_), None) => bail!("tls.key_path: missing, tls.certificate_path is given"),
        (None, Some(_)) => bail!("tls.certificate_path: missing, tls.key_path is given"),
    }
}

fn warn_of(warnings: &mut Vec<String>, section: &str, unknown: &BTreeMap<String, Value>) {
    warnings.extend(
        unknown
            .keys()
            .map(|key| format!("unknown key: {section}{key}")),
    );
}

fn warn_about(warnings: &mut Vec<String>, name: &str, cluster: &Cluster) {
    for (section, unknown) in [
        ("", &cluster.unknown),
        ("kafka.", &cluster.kafka.unknown),
        ("net.", &cluster.net.unknown),
        ("net.sasl.", &cluster.net.sasl.unknown),
        ("producer.", &cluster.producer.unknown),
        ("consumer.", &cluster.consumer.unknown),
    ] {
        warn_of(warnings, &format!("proxies.{name}.{section}"), unknown);
    }
    if cluster.zoo_keeper.is_some() {
        warnings.push(format!(
            "proxies.{name}.zoo_keeper: ZooKeeper is no longer needed"
        ));
    }
}

/// Flags beat the file.
fn apply(cluster: &mut Cluster, flags: &Flags) {
    let kafka = &mut cluster.kafka;
    if let Some(peers) = &flags.kafka_peers {
        kafka.seed_peers = peers
            .split(',')
            .map(|peer| peer.trim().to_owned())
            .collect();
    }
    kafka.tls = flags.tls.unwrap_or(kafka.tls);
    kafka.insecure = flags.insecure_tls.unwrap_or(kafka.insecure);
    for (flag, own) in [
        (&flags.ca_cert_file, &mut kafka.ca_certificate_file),
        (&flags.client_cert_file, &mut kafka.client_certificate_file),
        (&flags.client_cert_key_file, &mut kafka.client_key_file),
    ] {
        if let Some(value) = flag {
            own.clone_from(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barnabas_engine::InitialOffset;

    fn read(text: &str) -> Result<Resolved> {
        let flags = Flags {
            config: Some("x".into()),
            ..Flags::default()
        };
        resolve(text, Vec::new(), &flags)
    }

    #[test]
    fn without_a_file_there_is_one_cluster() {
        let resolved = resolve("", Vec::new(), &Flags::default()).unwrap();
        assert_eq!(resolved.default_cluster, "default");
        assert_eq!(resolved.tcp_addr, "0.0.0.0:19092");
        let cluster = &resolved.clusters[0];
        let common = &cluster.plan.config.common;
        assert_eq!(common.get("bootstrap.servers"), Some("localhost:9092"));
        assert_eq!(
            cluster.plan.config.producer.get("partitioner"),
            Some("fnv1a_random")
        );
        assert_eq!(cluster.plan.dispatch.acks.max_retries, None);
        assert!(cluster.plan.options.has_headers);
    }

    #[test]
    fn the_old_file_is_read_as_it_is() {
        let resolved = read(
            "tcp_addr: 127.0.0.1:1\nnonsense: 1\nproxies:\n  b:\n    kafka: {seed_peers: [x:1, \
             y:2], version: 0.10.2.1}\n    consumer: {ack_timeout: 1m30s, max_retries: 3, \
             typo: 1}\n    zoo_keeper: {seed_peers: [z]}\n  a:\n",
        )
        .unwrap();
        assert_eq!(resolved.default_cluster, "b");
        assert_eq!(resolved.clusters.len(), 2);
        let cluster = &resolved.clusters[0];
        assert_eq!(
            cluster.plan.config.common.get("bootstrap.servers"),
            Some("x:1,y:2")
        );
        assert_eq!(cluster.plan.dispatch.acks.timeout, Duration::from_secs(90));
        assert_eq!(cluster.plan.dispatch.acks.max_retries, Some(3));
        assert!(!cluster.plan.options.has_headers);
        let mut warnings = resolved.warnings;
        warnings.sort();
        assert_eq!(
            warnings,
            [
                "proxies.b.zoo_keeper: ZooKeeper is no longer needed",
                "unknown key: nonsense",
                "unknown key: proxies.b.consumer.typo",
            ]
        );
    }

    #[test]
    fn problems_are_named_as_the_old_program_does() {
        let problem = |text: &str| format!("{:#}", read(text).unwrap_err());
        assert_eq!(
            problem("proxies: {}"),
            "err=(invalid config parameter: at least on proxy must be configured)"
        );
        assert_eq!(
            problem("proxies: {c: {consumer: {fetch_max_bytes: 0}}}"),
            "invalid config parameter: invalid config, cluster=c: consumer.fetch_bytes must be > 0"
        );
        assert_eq!(
            problem("proxies: {c: {consumer: {max_retries: -2}}}"),
            "invalid config parameter: invalid config, cluster=c: consumer.max_retries must be >= \
             -1"
        );
        let bad = "proxies: {c: {producer: {compression: zip}}}";
        assert_eq!(problem(bad), "bad compression, zip");
        let bad = "proxies: {c: {kafka: {version: new}}}";
        assert_eq!(problem(bad), "bad kafka version, new");
        assert!(problem("a: [").starts_with("failed to parse config: "));
        assert!(problem("{default_cluster: x, proxies: {c: {}}}").contains("x is not configured"));
    }

    #[test]
    fn the_example_has_every_key_with_its_default() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kafka-pixy.example.yaml");
        let text = std::fs::read_to_string(path).unwrap();
        let example = read(&text).unwrap();
        assert_eq!(example.warnings, [""; 0]);
        let mut bare = read("proxies: {default: }").unwrap();
        bare.logging = vec![Logger {
            name: "console".to_owned(),
            severity: "info".to_owned(),
        }];
        assert_eq!(format!("{example:?}"), format!("{bare:?}"));
        // Each of a section's fields, in the order of their definition.
        let document: Value = serde_norway::from_str(&text).unwrap();
        let sections = [
            ("", "File"),
            ("tls", "TlsFiles"),
            ("replicas", "Replicas"),
            ("proxies.default.kafka", "Kafka"),
            ("proxies.default.net", "Net"),
            ("proxies.default.net.sasl", "Sasl"),
            ("proxies.default.producer", "Producer"),
            ("proxies.default.consumer", "Consumer"),
        ];
        for (section, name) in sections {
            let mut value = &document;
            for part in section.split('.').filter(|part| !part.is_empty()) {
                value = &value[part];
            }
            let shown: std::collections::BTreeSet<&str> = value
                .as_mapping()
                .unwrap()
                .keys()
                .filter_map(Value::as_str)
                .collect();
            let definition = include_str!("file.rs")
                .split_once(&format!("struct {name} {{"))
                .unwrap()
                .1;
            let definition = definition.split_once("\n}").unwrap().0;
            let fields = definition.lines().filter_map(|line| {
                let (field, _) = line.trim().strip_prefix("pub(super) ")?.split_once(':')?;
                Some(field).filter(|field| *field != "unknown")
            });
            assert_eq!(shown, fields.collect(), "{name}");
        }
    }

    #[test]
    fn what_is_new_is_read() {
        let resolved = read(
            "tls: {certificate_path: c, key_path: k, client_ca_path: a, typo: 1}\nauth: {hunter2: \
             [{actions: [consume]}]}\ndebug: true\nproxies:\n  c:\n    client_id: me\n    net: {sasl: \
             {enable: true, mechanism: SCRAM-SHA-512, user: u, password: hunter2}}\n    producer: \
             {partitioner: roundrobin, strict_async: true}\n    consumer: {initial_offset: \
             2026-01-01T00:00:00Z, max_groups: 7, dead_letter_topic: lost, assignor: range, \
             isolation_level: read_committed, static_membership: true, session_timeout: 9s, \
             revoke_wait: 1s, metadata_max_bytes: 100}\n  d: {consumer: {initial_offset: \
             1767225600000}}\n",
        )
        .unwrap();
        let tls = resolved.tls.as_ref().unwrap();
        assert_eq!(tls.client_ca.as_deref(), Some(Path::new("a")));
        assert!(!format!("{resolved:?}").contains("hunter2"));
        assert_eq!(resolved.warnings.len(), 2, "{:?}", resolved.warnings);
        let [c, d] = [0, 1].map(|index| &resolved.clusters[index].plan);
        let common = &c.config.common;
        assert_eq!(common.get("sasl.mechanism"), Some("SCRAM-SHA-512"));
        assert_eq!(common.get("sasl.password"), Some("hunter2"));
        assert_eq!(common.get("security.protocol"), Some("sasl_plaintext"));
        assert_eq!(c.config.producer.get("partitioner"), Some("roundrobin"));
        assert!(c.options.strict_async);
        let consumer = &c.config.consumer;
        assert_eq!(consumer.get("group.instance.id"), Some("me"));
        assert_eq!(consumer.get("session.timeout.ms"), Some("9000"));
        assert_eq!(consumer.get("isolation.level"), Some("read_committed"));
        assert_eq!(c.dispatch.max_groups, 7);
        let time = InitialOffset::Time(1_767_225_600_000);
        assert_eq!([c, d].map(|plan| plan.dispatch.initial_offset), [time; 2]);
        assert_eq!(d.dispatch.acks.max_pending, 300);
    }

    #[test]
    fn oauthbearer_takes_librdkafkas_own_properties() {
        let sasl = |properties: &str| {
            read(&format!(
                "proxies: {{c: {{net: {{sasl: {{enable: true, mechanism: OAUTHBEARER, properties: \
                 {properties}}}}}}}}}"
            ))
        };
        let resolved = sasl(
            "{enable.sasl.oauthbearer.unsecure.jwt: 'true', sasl.oauthbearer.config: principal=me}",
        )
        .unwrap();
        let common = &resolved.clusters[0].plan.config.common;
        assert_eq!(common.get("sasl.oauthbearer.config"), Some("principal=me"));
        assert_eq!(common.get("sasl.username"), None);
        let problem = |properties| format!("{:#}", sasl(properties).unwrap_err());
        assert!(problem("{}").contains("OAUTHBEARER needs sasl.oauthbearer.method or"));
        let foreign = "{enable.sasl.oauthbearer.unsecure.jwt: 'true', acks: '0'}";
        assert_eq!(
            problem(foreign),
            "net.sasl.properties: acks is none of SASL"
        );
    }

    #[test]
    fn what_is_new_is_checked() {
        let in_cluster = |text: &str| format!("proxies: {{c: {text}}}");
        for (text, expected) in [
            ("tls: {key_path: k}", "tls.certificate_path: missing"),
            ("tls: {certificate_path: c}", "tls.key_path: missing"),
            ("tls: {client_ca_path: a}", "tls.client_ca_path: needs"),
            ("auth: {hunter2: 1}", "auth: token 1: a list of grants"),
        ] {
            let text = format!("{text}\nproxies: {{c: {{}}}}");
            let problem = format!("{:#}", read(&text).unwrap_err());
            assert!(problem.contains(expected), "{text}: {problem}");
        }
        for (text, expected) in [
            (
                "{net: {sasl: {enable: true, mechanism: GSSAPI}}}",
                "bad net.sasl.mechanism, GSSAPI",
            ),
            (
                "{consumer: {initial_offset: latest}}",
                "bad consumer.initial_offset, latest",
            ),
            (
                "{consumer: {max_groups: 0}}",
                "consumer.max_groups must be > 0",
            ),
            ("{producer: {partitioner: x}}", "bad partitioner, x"),
            ("{consumer: {assignor: x}}", "bad consumer.assignor, x"),
            (
                "{consumer: {static_membership: true}}",
                "consumer.static_membership needs a client_id",
            ),
        ] {
            let problem = format!("{:#}", read(&in_cluster(text)).unwrap_err());
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }
}
