//! The old program's file (contract, `consume-and-ack.md`, section 12), and
//! what it means for librdkafka and the dispatcher.

use super::duration::GoDuration;
use super::flags::Flags;
use anyhow::{Context as _, Result, bail};
use barnabas_engine::{
    AckPolicy, ClusterConfig, DispatchConfig, InitialOffset, Properties, ProxyOptions,
};
use serde::Deserialize;
use serde_norway::{Mapping, Value};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The version below which Kafka has no record headers.
const HEADERS_SINCE: (u32, u32) = (0, 11);

/// The file.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct File {
    grpc_addr: String,
    tcp_addr: String,
    unix_addr: String,
    tls: TlsFiles,
    logging: Vec<Logger>,
    default_cluster: String,
    proxies: Mapping,
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

impl Default for File {
    fn default() -> Self {
        Self {
            grpc_addr: "0.0.0.0:19091".to_owned(),
            tcp_addr: "0.0.0.0:19092".to_owned(),
            unix_addr: String::new(),
            tls: TlsFiles::default(),
            logging: Vec::new(),
            default_cluster: String::new(),
            proxies: Mapping::new(),
            unknown: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TlsFiles {
    certificate_path: String,
    key_path: String,
}

/// A logger, in the file and in the flag.
#[derive(Debug, Deserialize)]
pub(super) struct Logger {
    pub(super) name: String,
    #[serde(default)]
    pub(super) severity: String,
}

/// One of `proxies`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cluster {
    client_id: String,
    kafka: Kafka,
    zoo_keeper: Option<Value>,
    net: Net,
    producer: Producer,
    consumer: Consumer,
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Kafka {
    seed_peers: Vec<String>,
    version: String,
    tls: bool,
    insecure: bool,
    ca_certificate_file: String,
    client_certificate_file: String,
    client_key_file: String,
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            seed_peers: vec!["localhost:9092".to_owned()],
            // Absent: headers work.
            version: std::env::var("KAFKA_VERSION").unwrap_or_default(),
            tls: false,
            insecure: false,
            ca_certificate_file: String::new(),
            client_certificate_file: String::new(),
            client_key_file: String::new(),
            unknown: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Net {
    dial_timeout: GoDuration,
    read_timeout: GoDuration,
    write_timeout: GoDuration,
    sasl: Sasl,
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

impl Default for Net {
    fn default() -> Self {
        let limit = GoDuration(Duration::from_secs(30));
        Self {
            dial_timeout: limit,
            read_timeout: limit,
            write_timeout: limit,
            sasl: Sasl::default(),
            unknown: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Sasl {
    enable: bool,
    /// Always done.
    #[allow(dead_code, reason = "accepted, so that it is not called unknown")]
    handshake: bool,
    user: String,
    password: String,
    mechanism: String,
}

impl Default for Sasl {
    fn default() -> Self {
        Self {
            enable: false,
            handshake: false,
            user: String::new(),
            password: String::new(),
            mechanism: "PLAIN".to_owned(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Producer {
    channel_buffer_size: i64,
    max_message_bytes: i64,
    compression: String,
    flush_bytes: i64,
    flush_frequency: GoDuration,
    retry_backoff: GoDuration,
    retry_max: i64,
    required_acks: String,
    timeout: GoDuration,
    shutdown_timeout: GoDuration,
    partitioner: String,
    linger: GoDuration,
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

impl Default for Producer {
    fn default() -> Self {
        Self {
            channel_buffer_size: 4096,
            max_message_bytes: 1_000_000,
            compression: "snappy".to_owned(),
            flush_bytes: 1_048_576,
            flush_frequency: GoDuration(Duration::from_millis(500)),
            retry_backoff: GoDuration(Duration::from_secs(10)),
            retry_max: 6,
            required_acks: "wait_for_all".to_owned(),
            timeout: GoDuration(Duration::from_secs(10)),
            shutdown_timeout: GoDuration(Duration::from_secs(30)),
            partitioner: "hash".to_owned(),
            linger: GoDuration(Duration::from_millis(2)),
            unknown: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct Consumer {
    disabled: bool,
    ack_timeout: GoDuration,
    channel_buffer_size: i64,
    fetch_max_bytes: i64,
    fetch_max_wait: GoDuration,
    long_polling_timeout: GoDuration,
    subscription_timeout: GoDuration,
    max_pending_messages: i64,
    max_retries: i64,
    offsets_commit_interval: GoDuration,
    retry_backoff: GoDuration,
    #[allow(dead_code, reason = "accepted and unused, as in the old system")]
    rebalance_delay: Option<GoDuration>,
    initial_offset: String,
    isolation_level: String,
    assignor: String,
    revoke_wait: GoDuration,
    session_timeout: GoDuration,
    static_membership: bool,
    metadata_max_bytes: i64,
    dead_letter_topic: Option<String>,
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

impl Default for Consumer {
    fn default() -> Self {
        let seconds = |seconds| GoDuration(Duration::from_secs(seconds));
        let half_a_second = GoDuration(Duration::from_millis(500));
        Self {
            disabled: false,
            ack_timeout: seconds(300),
            channel_buffer_size: 64,
            fetch_max_bytes: 1_048_576,
            fetch_max_wait: GoDuration(Duration::from_millis(250)),
            long_polling_timeout: seconds(3),
            subscription_timeout: seconds(15),
            max_pending_messages: 300,
            max_retries: -1,
            offsets_commit_interval: half_a_second,
            retry_backoff: half_a_second,
            rebalance_delay: None,
            initial_offset: "newest".to_owned(),
            isolation_level: "read_uncommitted".to_owned(),
            assignor: "cooperative-sticky".to_owned(),
            revoke_wait: seconds(30),
            session_timeout: seconds(15),
            static_membership: false,
            metadata_max_bytes: 4096,
            dead_letter_topic: None,
            unknown: BTreeMap::new(),
        }
    }
}

/// What is to be served.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) tcp_addr: String,
    pub(super) unix_addr: String,
    pub(super) grpc_addr: String,
    pub(super) logging: Vec<Logger>,
    pub(super) default_cluster: String,
    /// In the order of the file.
    pub(super) clusters: Vec<ResolvedCluster>,
    /// What is to be said once there is a log.
    pub(super) warnings: Vec<String>,
}

/// One cluster.
#[derive(Debug)]
pub(super) struct ResolvedCluster {
    pub(super) name: String,
    pub(super) cluster: ClusterConfig,
    pub(super) dispatch: DispatchConfig,
    pub(super) options: ProxyOptions,
    pub(super) dial_timeout: Duration,
    pub(super) shutdown_timeout: Duration,
}

pub(super) fn load(flags: &Flags) -> Result<Resolved> {
    let text = match &flags.config {
        Some(path) => read(path)?,
        None => String::new(),
    };
    resolve(&text, flags).context("Failed to load config")
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .with_context(|| format!("Failed to load config: cannot read {}", path.display()))
}

fn resolve(text: &str, flags: &Flags) -> Result<Resolved> {
    let mut file: File = match text.trim().is_empty() {
        true => File::default(),
        false => serde_norway::from_str(text).context("failed to parse config")?,
    };
    if flags.config.is_none() {
        file.proxies
            .insert("default".into(), Value::Mapping(Mapping::new()));
    }
    let mut warnings = Vec::new();
    warn_of(&mut warnings, "", &file.unknown);
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
        .any(|cluster| cluster.name == default_cluster)
    {
        bail!(
            "err=(invalid config parameter: default_cluster {default_cluster} is not configured)"
        );
    }
    if !file.tls.certificate_path.is_empty() || !file.tls.key_path.is_empty() {
        bail!("tls.certificate_path and tls.key_path are not supported yet");
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
        default_cluster,
        clusters,
        warnings,
    })
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

impl Cluster {
    fn resolve(self, name: &str) -> Result<ResolvedCluster> {
        self.check(name)?;
        let client_id = match self.client_id.as_str() {
            "" => generated_client_id(),
            own => own.to_owned(),
        };
        if self.consumer.static_membership && self.client_id.is_empty() {
            bail!("cluster={name}: consumer.static_membership needs a client_id");
        }
        let consumer = &self.consumer;
        let config = ClusterConfig {
            name: name.to_owned(),
            common: self.common(&client_id),
            producer: self.producer_properties()?,
            consumer: self.consumer_properties(&client_id)?,
        };
        if let Some(problem) = config.problems().first() {
            bail!("cluster={name}: {problem}");
        }
        let count = |number: i64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(ResolvedCluster {
            name: name.to_owned(),
            cluster: config,
            dispatch: DispatchConfig {
                acks: AckPolicy {
                    timeout: consumer.ack_timeout.0,
                    max_pending: count(consumer.max_pending_messages),
                    max_retries: u32::try_from(consumer.max_retries).ok(),
                    metadata_limit: count(consumer.metadata_max_bytes),
                },
                queued_requests: count(consumer.channel_buffer_size),
                long_polling: consumer.long_polling_timeout.0,
                subscription_timeout: consumer.subscription_timeout.0,
                commit_interval: consumer.offsets_commit_interval.0,
                retry_backoff: consumer.retry_backoff.0,
                revoke_wait: consumer.revoke_wait.0,
                initial_offset: match consumer.initial_offset.as_str() {
                    "newest" => InitialOffset::Newest,
                    "oldest" => InitialOffset::Oldest,
                    other => bail!("bad consumer.initial_offset, {other}"),
                },
                dead_letter_topic: consumer.dead_letter_topic.clone(),
            },
            options: ProxyOptions {
                is_consuming_disabled: consumer.disabled,
                has_headers: has_headers(&self.kafka.version)?,
                max_message_bytes: count(self.producer.max_message_bytes),
            },
            dial_timeout: self.net.dial_timeout.0,
            shutdown_timeout: self.producer.shutdown_timeout.0,
        })
    }

    fn check(&self, name: &str) -> Result<()> {
        let milliseconds = |duration: GoDuration| duration.0.as_millis() as i64;
        let (producer, consumer) = (&self.producer, &self.consumer);
        for (key, value, least) in [
            ("net.dial_timeout", milliseconds(self.net.dial_timeout), 1),
            ("net.read_timeout", milliseconds(self.net.read_timeout), 1),
            ("net.write_timeout", milliseconds(self.net.write_timeout), 1),
            (
                "producer.channel_buffer_size",
                producer.channel_buffer_size,
                1,
            ),
            ("producer.max_message_bytes", producer.max_message_bytes, 1),
            ("producer.flush_bytes", producer.flush_bytes, 0),
            (
                "producer.retry_backoff",
                milliseconds(producer.retry_backoff),
                1,
            ),
            ("producer.retry_max", producer.retry_max, 1),
            (
                "consumer.ack_timeout",
                milliseconds(consumer.ack_timeout),
                1,
            ),
            (
                "consumer.channel_buffer_size",
                consumer.channel_buffer_size,
                1,
            ),
            ("consumer.fetch_bytes", consumer.fetch_max_bytes, 1),
            (
                "consumer.fetch_max_wait",
                milliseconds(consumer.fetch_max_wait),
                1,
            ),
            (
                "consumer.long_polling_timeout",
                milliseconds(consumer.long_polling_timeout),
                1,
            ),
            (
                "consumer.subscription_timeout",
                milliseconds(consumer.subscription_timeout),
                1,
            ),
            (
                "consumer.max_pending_messages",
                consumer.max_pending_messages,
                1,
            ),
            ("consumer.max_retries", consumer.max_retries, -1),
            (
                "consumer.offsets_commit_interval",
                milliseconds(consumer.offsets_commit_interval),
                1,
            ),
            (
                "consumer.retry_backoff",
                milliseconds(consumer.retry_backoff),
                1,
            ),
        ] {
            if value < least {
                let wanted = match least {
                    1 => "> 0",
                    0 => ">= 0",
                    _ => ">= -1",
                };
                bail!(
                    "invalid config parameter: invalid config, cluster={name}: {key} must be \
                     {wanted}"
                );
            }
        }
        Ok(())
    }

    fn common(&self, client_id: &str) -> Properties {
        let (kafka, net) = (&self.kafka, &self.net);
        let mut common = Properties::new();
        common
            .set("bootstrap.servers", kafka.seed_peers.join(","))
            .set("client.id", client_id)
            .set(
                "socket.connection.setup.timeout.ms",
                bounded(net.dial_timeout, 1_000),
            )
            .set(
                "socket.timeout.ms",
                bounded(
                    GoDuration(net.read_timeout.0.max(net.write_timeout.0)),
                    300_000,
                ),
            );
        let protocol = match (kafka.tls, net.sasl.enable) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        };
        common.set("security.protocol", protocol);
        if net.sasl.enable {
            common
                .set("sasl.mechanism", &net.sasl.mechanism)
                .set("sasl.username", &net.sasl.user)
                .set("sasl.password", &net.sasl.password);
        }
        if kafka.insecure {
            common
                .set("enable.ssl.certificate.verification", "false")
                .set("ssl.endpoint.identification.algorithm", "none");
        }
        for (name, value) in [
            ("ssl.ca.location", &kafka.ca_certificate_file),
            ("ssl.certificate.location", &kafka.client_certificate_file),
            ("ssl.key.location", &kafka.client_key_file),
        ] {
            if !value.is_empty() {
                common.set(name, value);
            }
        }
        common
    }

    fn producer_properties(&self) -> Result<Properties> {
        let own = &self.producer;
        let acks = match own.required_acks.as_str() {
            "no_response" => "0",
            "wait_for_local" => "1",
            "wait_for_all" => "all",
            // The old program's own word.
            other => bail!("bad compression, {other}"),
        };
        let compression = match own.compression.as_str() {
            known @ ("none" | "gzip" | "snappy" | "lz4" | "zstd") => known,
            other => bail!("bad compression, {other}"),
        };
        let partitioner = match own.partitioner.as_str() {
            "hash" => "fnv1a_random",
            "random" => "random",
            "roundrobin" => bail!("producer.partitioner roundrobin is not supported yet"),
            other => bail!("bad partitioner, {other}"),
        };
        let retries = u32::try_from(own.retry_max).unwrap_or(u32::MAX);
        let limit = (own.flush_frequency.0 + own.retry_backoff.0) * retries;
        let linger = own.linger.0.min(own.flush_frequency.0);
        let mut producer = Properties::new();
        producer
            .set("acks", acks)
            .set("compression.type", compression)
            .set("partitioner", partitioner)
            // Each message by itself, as the old system.
            .set("sticky.partitioning.linger.ms", "0")
            .set(
                "message.max.bytes",
                own.max_message_bytes.max(1_000).to_string(),
            )
            .set("batch.size", own.flush_bytes.max(1).to_string())
            .set("linger.ms", linger.as_millis().to_string())
            .set("retry.backoff.ms", bounded(own.retry_backoff, 300_000))
            .set("retries", retries.to_string())
            .set("request.timeout.ms", bounded(own.timeout, 900_000))
            .set("message.timeout.ms", limit.as_millis().max(1).to_string())
            // A missing topic fails in that time.
            .set("topic.metadata.propagation.max.ms", "5000");
        // The backoff may not be longer than its maximum.
        producer.set("retry.backoff.max.ms", bounded(own.retry_backoff, 300_000));
        Ok(producer)
    }

    fn consumer_properties(&self, client_id: &str) -> Result<Properties> {
        let own = &self.consumer;
        let mut consumer = Properties::new();
        consumer
            .set("fetch.message.max.bytes", own.fetch_max_bytes.to_string())
            .set("fetch.wait.max.ms", bounded(own.fetch_max_wait, 300_000))
            .set(
                "session.timeout.ms",
                bounded(own.session_timeout, 3_600_000),
            )
            .set("isolation.level", &own.isolation_level);
        consumer.set(
            "partition.assignment.strategy",
            match own.assignor.as_str() {
                known @ ("cooperative-sticky" | "range" | "roundrobin") => known,
                other => bail!("bad consumer.assignor, {other}"),
            },
        );
        // Read ahead: about one fetch.
        let kilobytes = (own.fetch_max_bytes / 1024).clamp(1, 2_097_151);
        consumer.set("queued.max.messages.kbytes", kilobytes.to_string());
        if own.static_membership {
            consumer.set("group.instance.id", client_id);
        }
        Ok(consumer)
    }
}

/// Milliseconds between 1 and what librdkafka allows.
fn bounded(duration: GoDuration, most: u128) -> String {
    duration.0.as_millis().clamp(1, most).to_string()
}

/// Whether a version of Kafka has record headers; none named: yes.
fn has_headers(version: &str) -> Result<bool> {
    if version.is_empty() {
        return Ok(true);
    }
    let mut parts = version.split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if parts.all(|part| part.is_ok()) => {
            Ok((major, minor) >= HEADERS_SINCE)
        }
        _ => bail!("bad kafka version, {version}"),
    }
}

/// The name of this process among the members of its groups.
fn generated_client_id() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(allocation) = variable("NOMAD_ALLOC_ID") {
        let block = allocation.split('-').next().unwrap_or_default().to_owned();
        return match variable("NOMAD_ALLOC_INDEX") {
            Some(index) => format!("kp_nomad_{block}_{index}"),
            None => format!("kp_nomad_{block}"),
        };
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("kp_{}_{}", host.trim(), std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Resolved> {
        let flags = Flags {
            config: Some("x".into()),
            ..Flags::default()
        };
        resolve(text, &flags)
    }

    #[test]
    fn without_a_file_there_is_one_cluster() {
        let resolved = resolve("", &Flags::default()).unwrap();
        assert_eq!(resolved.default_cluster, "default");
        assert_eq!(resolved.tcp_addr, "0.0.0.0:19092");
        let cluster = &resolved.clusters[0];
        let common = &cluster.cluster.common;
        assert_eq!(common.get("bootstrap.servers"), Some("localhost:9092"));
        assert_eq!(
            cluster.cluster.producer.get("partitioner"),
            Some("fnv1a_random")
        );
        assert_eq!(cluster.dispatch.acks.max_retries, None);
        assert!(cluster.options.has_headers);
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
            cluster.cluster.common.get("bootstrap.servers"),
            Some("x:1,y:2")
        );
        assert_eq!(cluster.dispatch.acks.timeout, Duration::from_secs(90));
        assert_eq!(cluster.dispatch.acks.max_retries, Some(3));
        assert!(!cluster.options.has_headers);
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
}
