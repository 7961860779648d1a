//! What one of the old file's clusters means for librdkafka and for groups.

use super::client_id;
use super::duration::GoDuration;
use super::file::Cluster;
use super::resolve::ResolvedCluster;
use crate::clusters::{Plan, initial_offset};
use anyhow::{Result, bail};
use barnabas_engine::{AckPolicy, ClusterConfig, DispatchConfig, Properties, ProxyOptions};
use serde_norway::Value;

/// The version below which Kafka has no record headers.
const HEADERS_SINCE: (u32, u32) = (0, 11);

impl Cluster {
    pub(super) fn resolve(self, name: &str) -> Result<ResolvedCluster> {
        self.check(name)?;
        let client_id = match self.client_id.as_str() {
            "" => client_id::generated(),
            own => own.to_owned(),
        };
        if self.consumer.static_membership && self.client_id.is_empty() {
            bail!("cluster={name}: consumer.static_membership needs a client_id");
        }
        let consumer = &self.consumer;
        let config = ClusterConfig {
            name: name.to_owned(),
            common: self.common(&client_id)?,
            producer: self.producer_properties()?,
            consumer: self.consumer_properties(&client_id)?,
            ..ClusterConfig::default()
        };
        if let Some(problem) = config.problems().first() {
            bail!("cluster={name}: {problem}");
        }
        let plan = Plan {
            dispatch: self.dispatch()?,
            options: ProxyOptions {
                is_consuming_disabled: consumer.disabled,
                has_headers: has_headers(&self.kafka.version)?,
                max_message_bytes: count(self.producer.max_message_bytes),
                strict_async: self.producer.strict_async,
            },
            ..Plan::new(config)
        };
        Ok(ResolvedCluster {
            plan,
            dial_timeout: self.net.dial_timeout.0,
            shutdown_timeout: self.producer.shutdown_timeout.0,
        })
    }

    fn dispatch(&self) -> Result<DispatchConfig> {
        let own = &self.consumer;
        let text = match &own.initial_offset {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        let Some(initial_offset) = initial_offset(&text) else {
            bail!(
                "bad consumer.initial_offset, {text}: newest, oldest, a time such as \
                 2026-01-31T12:00:00Z, or milliseconds since 1970"
            );
        };
        Ok(DispatchConfig {
            acks: AckPolicy {
                timeout: own.ack_timeout.0,
                max_pending: count(own.max_pending_messages),
                max_retries: u32::try_from(own.max_retries).ok(),
                metadata_limit: count(own.metadata_max_bytes),
            },
            queued_requests: count(own.channel_buffer_size),
            long_polling: own.long_polling_timeout.0,
            subscription_timeout: own.subscription_timeout.0,
            commit_interval: own.offsets_commit_interval.0,
            retry_backoff: own.retry_backoff.0,
            revoke_wait: own.revoke_wait.0,
            initial_offset,
            dead_letter_topic: own.dead_letter_topic.clone(),
            max_groups: count(own.max_groups),
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
            ("producer.timeout", milliseconds(producer.timeout), 0),
            ("consumer.max_groups", consumer.max_groups, 1),
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

    fn common(&self, client_id: &str) -> Result<Properties> {
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
            self.sasl(&mut common)?;
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
        Ok(common)
    }

    /// The handshake is always done (contract, section 13, B6).
    fn sasl(&self, common: &mut Properties) -> Result<()> {
        let own = &self.net.sasl;
        match own.mechanism.as_str() {
            "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512" => {
                common
                    .set("sasl.username", &own.user)
                    .set("sasl.password", &own.password);
            }
            "OAUTHBEARER" => {
                let sources = [
                    "sasl.oauthbearer.method",
                    "enable.sasl.oauthbearer.unsecure.jwt",
                ];
                if !sources
                    .iter()
                    .any(|name| own.properties.contains_key(*name))
                {
                    bail!(
                        "net.sasl.properties: OAUTHBEARER needs {} or {}",
                        sources[0],
                        sources[1]
                    );
                }
            }
            other => bail!("bad net.sasl.mechanism, {other}"),
        }
        common.set("sasl.mechanism", &own.mechanism);
        for (name, value) in &own.properties {
            if !name.starts_with("sasl.") && !name.starts_with("enable.sasl.") {
                bail!("net.sasl.properties: {name} is none of SASL");
            }
            common.set(name, value);
        }
        Ok(())
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
            "roundrobin" => "roundrobin",
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

/// Whether a version of Kafka has record headers; none named, by the
/// environment neither: yes.
fn has_headers(version: &str) -> Result<bool> {
    let version = match version {
        "" => std::env::var("KAFKA_VERSION").unwrap_or_default(),
        own => own.to_owned(),
    };
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

fn count(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}
