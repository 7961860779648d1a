//! What a cluster should be like, and the settings of Kafka that follow from it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::cluster::{Cluster, Plan};
use crate::error::Result;
use crate::fetch::KafkaVersion;

/// Where brokers find their key and certificate for clients.
pub(crate) const KEYSTORE: &str = "listener.name.sasl.ssl.keystore.location";

/// Describes a cluster; [`ClusterBuilder::start`] starts it.
#[derive(Clone, Debug)]
#[must_use]
pub struct ClusterBuilder {
    brokers: u16,
    version: Option<KafkaVersion>,
    auto_create_topics: bool,
    default_partitions: u32,
    heap_mb: u32,
    for_benchmark: bool,
    start_timeout: Duration,
    properties: BTreeMap<String, String>,
    sasl: Option<Login>,
    is_isolated: bool,
}

/// Whom brokers let in by SASL.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Default for ClusterBuilder {
    fn default() -> Self {
        Self {
            brokers: 1,
            version: None,
            auto_create_topics: false,
            default_partitions: 1,
            heap_mb: 512,
            for_benchmark: false,
            start_timeout: Duration::from_secs(60),
            properties: BTreeMap::new(),
            sasl: None,
            is_isolated: false,
        }
    }
}

impl ClusterBuilder {
    /// How many brokers; each is a controller too. Default 1. With 3 or more, topics have three
    /// replicas and `min.insync.replicas` is 2, so that one broker may go.
    pub fn brokers(mut self, brokers: u16) -> Self {
        self.brokers = brokers;
        self
    }

    /// Default [`KafkaVersion::from_environment`].
    pub fn version(mut self, version: KafkaVersion) -> Self {
        self.version = Some(version);
        self
    }

    /// Whether a client that asks for an unknown topic makes it exist. Default no, unlike Kafka's
    /// own default: a test should notice a topic name that is wrong.
    pub fn auto_create_topics(mut self, create: bool) -> Self {
        self.auto_create_topics = create;
        self
    }

    /// Partitions of topics that are created without saying how many. Default 1.
    pub fn default_partitions(mut self, partitions: u32) -> Self {
        self.default_partitions = partitions;
        self
    }

    /// Sets a broker property on every broker; wins over what the test kit would set.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(key.into(), value.into());
        self
    }

    /// Adds a listener on which clients have to log in, as this user with PLAIN, SCRAM-SHA-256 or
    /// SCRAM-SHA-512, or as anybody with an unsecured token of OAUTHBEARER
    /// ([`Cluster::sasl_bootstrap_servers`]). Takes some seconds more.
    pub fn sasl(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.sasl = Some(Login {
            user: user.into(),
            password: password.into(),
        });
        self
    }

    /// On the listener of [`ClusterBuilder::sasl`] clients speak TLS; brokers show what is in this
    /// file, a key and its certificate in PEM ([`Cluster::reload_certificate`]).
    pub fn tls(self, keystore: &Path) -> Self {
        self.property(
            "listener.security.protocol.map",
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_SSL",
        )
        .property("listener.name.sasl.ssl.keystore.type", "PEM")
        .property(KEYSTORE, keystore.display().to_string())
    }

    /// Lets [`Cluster::deny`] take rights away from whoever logs in. Who does not log in may do
    /// everything.
    pub fn access_control(self) -> Self {
        self.property(
            "authorizer.class.name",
            "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        )
        .property("super.users", "User:ANONYMOUS")
        .property("allow.everyone.if.no.acl.found", "true")
    }

    /// Puts the brokers into a network of their own ([`Cluster::network`]), away from 127.0.0.1.
    /// Needs root and `/dev/net/tun`.
    pub fn isolated(mut self) -> Self {
        self.is_isolated = true;
        self
    }

    /// The most memory for Java objects, in MiB per broker. Default 512.
    pub fn heap_mb(mut self, heap_mb: u32) -> Self {
        self.heap_mb = heap_mb;
        self
    }

    /// Optimises for throughput instead of a fast start: the whole JIT compiler, the G1 collector,
    /// 1 GiB of heap unless [`ClusterBuilder::heap_mb`] follows, Kafka's own thread counts, and a
    /// log with warnings only.
    pub fn for_benchmark(mut self) -> Self {
        self.for_benchmark = true;
        self.heap_mb = 1024;
        self
    }

    /// How long each start of a broker may take. Default 60 s: a machine that runs several test
    /// binaries at once is slow.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Fetches Kafka if that has not happened yet, starts all brokers, and waits until each of them
    /// knows all of them. Blocks; one broker takes about 1 s on an idle machine.
    ///
    /// # Errors
    /// Whatever [`KafkaVersion::from_environment`] and [`crate::fetch()`] report, [`crate::Error::BrokerEnded`] with the log's last
    /// lines, or [`crate::Error::Timeout`]. The cluster's folder is kept in the last two cases.
    pub fn start(self) -> Result<Cluster> {
        Cluster::start(Plan {
            brokers: self.brokers.max(1),
            version: self
                .version
                .map_or_else(KafkaVersion::from_environment, Ok)?,
            jvm_options: self.jvm_options(),
            start_timeout: self.start_timeout,
            properties: self.broker_properties(),
            sasl: self.sasl,
            is_isolated: self.is_isolated,
        })
    }

    fn jvm_options(&self) -> Vec<String> {
        let log_level = if self.for_benchmark { "warn" } else { "info" };
        let mut options = vec![
            format!("-Xmx{}m", self.heap_mb),
            // Otherwise every JVM maps a file in /tmp that only monitoring tools read.
            "-XX:-UsePerfData".to_owned(),
            "-XX:+ExitOnOutOfMemoryError".to_owned(),
            "-Djava.awt.headless=true".to_owned(),
            "-Dorg.slf4j.simpleLogger.showDateTime=true".to_owned(),
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS".to_owned(),
            format!("-Dorg.slf4j.simpleLogger.defaultLogLevel={log_level}"),
        ];
        if self.for_benchmark {
            options.push("-XX:+UseG1GC".to_owned());
        } else {
            // Both make the first seconds of a JVM cheaper and its later hours slower.
            options.push("-XX:+UseSerialGC".to_owned());
            options.push("-XX:TieredStopAtLevel=1".to_owned());
        }
        options
    }

    fn broker_properties(&self) -> BTreeMap<String, String> {
        let replicas = self.brokers.clamp(1, 3).to_string();
        let in_sync = if self.brokers >= 3 { "2" } else { "1" };
        let mut properties = BTreeMap::new();
        let mut set = |key: &str, value: &str| {
            properties.insert(key.to_owned(), value.to_owned());
        };

        set(
            "auto.create.topics.enable",
            &self.auto_create_topics.to_string(),
        );
        set("num.partitions", &self.default_partitions.to_string());
        set("default.replication.factor", &replicas);
        set("min.insync.replicas", in_sync);
        for topic in ["offsets.topic", "transaction.state.log"] {
            set(&format!("{topic}.replication.factor"), &replicas);
            // The default of 50 costs every first consumer a second.
            set(&format!("{topic}.num.partitions"), "4");
        }
        set("transaction.state.log.min.isr", in_sync);
        set("group.initial.rebalance.delay.ms", "0");

        // How soon a killed broker's partitions get a new leader, and how long a broker that was
        // killed has to wait before it may register again. Kafka's default is 9 s.
        set("broker.heartbeat.interval.ms", "300");
        set("broker.session.timeout.ms", "3000");

        // 128 MB by default, allocated at start.
        // Tests produce records of long ago, which stay.
        set("log.retention.ms", "-1");
        set("log.cleaner.dedupe.buffer.size", "4194304");
        if !self.for_benchmark {
            set("num.network.threads", "2");
            set("num.io.threads", "2");
            set("background.threads", "2");
        }
        if let Some(login) = &self.sasl {
            let mechanisms = [
                (
                    "PLAIN",
                    format!(
                        "plain.PlainLoginModule required user_{}=\"{}\";",
                        login.user, login.password
                    ),
                ),
                (
                    "SCRAM-SHA-256",
                    "scram.ScramLoginModule required;".to_owned(),
                ),
                (
                    "SCRAM-SHA-512",
                    "scram.ScramLoginModule required;".to_owned(),
                ),
                (
                    "OAUTHBEARER",
                    "oauthbearer.OAuthBearerLoginModule required \
                     unsecuredLoginStringClaim_sub=\"broker\";"
                        .to_owned(),
                ),
            ];
            let names = mechanisms.each_ref().map(|(name, _)| *name).join(",");
            let mut set = |key: &str, value: String| {
                properties.insert(format!("listener.name.sasl.{key}"), value);
            };
            set("sasl.enabled.mechanisms", names);
            for (name, module) in mechanisms {
                set(
                    &format!("{}.sasl.jaas.config", name.to_lowercase()),
                    format!("org.apache.kafka.common.security.{module}"),
                );
            }
        }
        properties.extend(self.properties.clone());
        properties
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_wins_over_the_test_kits_own() {
        let properties = ClusterBuilder::default()
            .property("num.io.threads", "7")
            .broker_properties();
        assert_eq!(properties.get("num.io.threads").unwrap(), "7");
    }

    #[test]
    fn one_of_three_brokers_may_go() {
        let properties = ClusterBuilder::default().brokers(3).broker_properties();
        assert_eq!(properties.get("min.insync.replicas").unwrap(), "2");
        assert_eq!(
            properties.get("offsets.topic.replication.factor").unwrap(),
            "3"
        );
    }
}
