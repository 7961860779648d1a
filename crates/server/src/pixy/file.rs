//! The old program's file as it is written (contract, `consume-and-ack.md`,
//! section 12). What is not ours is kept, to be warned of.

use super::duration::GoDuration;
use serde::Deserialize;
use serde_norway::{Mapping, Value};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct File {
    pub(super) grpc_addr: String,
    pub(super) tcp_addr: String,
    pub(super) unix_addr: String,
    pub(super) tls: TlsFiles,
    pub(super) logging: Vec<Logger>,
    pub(super) default_cluster: String,
    /// Tokens and their grants.
    pub(super) auth: Value,
    pub(super) debug: bool,
    /// Where acknowledgements for other processes go.
    pub(super) replicas: Replicas,
    /// As in our own file.
    pub(super) metrics: Value,
    /// As in our own file.
    pub(super) statsd: Value,
    /// Traces and metrics; keys as in our own file.
    pub(super) tracing: Option<BTreeMap<String, Value>>,
    pub(super) otlp: Option<BTreeMap<String, Value>>,
    pub(super) proxies: Mapping,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, Value>,
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
            auth: Value::Null,
            debug: false,
            replicas: Replicas::default(),
            metrics: Value::Null,
            statsd: Value::Null,
            tracing: None,
            otlp: None,
            proxies: Mapping::new(),
            unknown: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TlsFiles {
    pub(super) certificate_path: String,
    pub(super) key_path: String,
    pub(super) client_ca_path: String,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Replicas {
    pub(super) advertised_addr: String,
    pub(super) token: String,
    pub(super) ca_path: String,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, Value>,
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
pub(super) struct Cluster {
    pub(super) client_id: String,
    pub(super) kafka: Kafka,
    pub(super) zoo_keeper: Option<Value>,
    pub(super) net: Net,
    pub(super) producer: Producer,
    pub(super) consumer: Consumer,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct Kafka {
    pub(super) seed_peers: Vec<String>,
    pub(super) version: String,
    pub(super) tls: bool,
    pub(super) insecure: bool,
    pub(super) ca_certificate_file: String,
    pub(super) client_certificate_file: String,
    pub(super) client_key_file: String,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, Value>,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            seed_peers: vec!["localhost:9092".to_owned()],
            version: String::new(),
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
pub(super) struct Net {
    pub(super) dial_timeout: GoDuration,
    pub(super) read_timeout: GoDuration,
    pub(super) write_timeout: GoDuration,
    pub(super) sasl: Sasl,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, Value>,
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
pub(super) struct Sasl {
    pub(super) enable: bool,
    /// Always done.
    #[allow(dead_code, reason = "accepted, so that it is not called unknown")]
    pub(super) handshake: bool,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) mechanism: String,
    /// librdkafka's own of SASL, for OAUTHBEARER.
    pub(super) properties: BTreeMap<String, String>,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, Value>,
}

impl Default for Sasl {
    fn default() -> Self {
        Self {
            enable: false,
            handshake: false,
            user: String::new(),
            password: String::new(),
            mechanism: "PLAIN".to_owned(),
            properties: BTreeMap::new(),
            unknown: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct Producer {
    pub(super) channel_buffer_size: i64,
    pub(super) max_message_bytes: i64,
    pub(super) compression: String,
    pub(super) flush_bytes: i64,
    pub(super) flush_frequency: GoDuration,
    pub(super) retry_backoff: GoDuration,
    pub(super) retry_max: i64,
    pub(super) required_acks: String,
    pub(super) timeout: GoDuration,
    pub(super) shutdown_timeout: GoDuration,
    pub(super) partitioner: String,
    pub(super) linger: GoDuration,
    pub(super) strict_async: bool,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, Value>,
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
            strict_async: false,
            unknown: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(default)]
pub(super) struct Consumer {
    pub(super) disabled: bool,
    pub(super) ack_timeout: GoDuration,
    pub(super) channel_buffer_size: i64,
    pub(super) fetch_max_bytes: i64,
    pub(super) fetch_max_wait: GoDuration,
    pub(super) long_polling_timeout: GoDuration,
    pub(super) subscription_timeout: GoDuration,
    pub(super) max_pending_messages: i64,
    pub(super) max_retries: i64,
    pub(super) offsets_commit_interval: GoDuration,
    pub(super) retry_backoff: GoDuration,
    #[allow(dead_code, reason = "accepted and unused, as in the old system")]
    pub(super) rebalance_delay: Option<GoDuration>,
    /// A word, a time, or a number.
    pub(super) initial_offset: Value,
    pub(super) isolation_level: String,
    pub(super) assignor: String,
    pub(super) revoke_wait: GoDuration,
    pub(super) session_timeout: GoDuration,
    pub(super) static_membership: bool,
    pub(super) metadata_max_bytes: i64,
    pub(super) dead_letter_topic: Option<String>,
    pub(super) max_groups: i64,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, Value>,
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
            initial_offset: "newest".into(),
            isolation_level: "read_uncommitted".to_owned(),
            assignor: "cooperative-sticky".to_owned(),
            revoke_wait: seconds(30),
            session_timeout: seconds(15),
            static_membership: false,
            metadata_max_bytes: 4096,
            dead_letter_topic: None,
            max_groups: 1_000,
            unknown: BTreeMap::new(),
        }
    }
}
