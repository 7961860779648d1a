//! What can be configured, and what can be wrong with it.

use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A password. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself, for those that have to send it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in a time that does not depend on where they differ.
    pub(crate) fn matches(&self, given: &[u8]) -> bool {
        use subtle::ConstantTimeEq as _;
        self.0.as_bytes().ct_eq(given).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Config {
    /// Whether what it names can be used: certificates and keys.
    ///
    /// # Errors
    /// What [`Server::start`](crate::Server::start) would say to them.
    pub fn check(&self) -> Result<(), Error> {
        match &self.tls {
            Some(files) => crate::server::load_tls(files).map(drop),
            None => Ok(()),
        }
    }
}

/// Whether a setting is one of the Go client that rafka was built on, which
/// old files and programs still name: it is ignored (contract, section 9).
pub fn is_rafkas_own(name: &str) -> bool {
    matches!(
        name,
        "go.application.rebalance.enable"
            | "go.batch.producer"
            | "go.delivery.reports"
            | "go.delivery.report.fields"
            | "go.events.channel.enable"
            | "go.events.channel.size"
            | "go.logs.channel"
            | "go.logs.channel.enable"
            | "go.produce.channel.size"
    )
}

/// The value of a property as JSON has it: strings as they are, numbers and
/// booleans as they are written.
///
/// # Errors
/// What is wrong with it: it is null, an array or an object.
pub fn property_text(name: &str, value: &RawValue) -> Result<String, String> {
    let raw = value.get();
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).map_err(|error| error.to_string()),
        Some(b'-' | b'0'..=b'9' | b't' | b'f') => Ok(raw.to_owned()),
        _ => Err(format!(
            "the value of \"{name}\" must be a string, a number or a boolean"
        )),
    }
}

/// The form in which BLPOP returns a message (contract, 13.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyForm {
    /// An array of eight: topic, partition, offset and value with their names.
    #[default]
    Rafka,
    /// An array of two: `topics:<topic>` and the value, as Redis; the next
    /// BLPOP acknowledges.
    Pair,
    /// The eight, and key, timestamp and headers.
    Full,
}

impl ReplyForm {
    /// From its name in configurations.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "rafka" => Some(Self::Rafka),
            "pair" => Some(Self::Pair),
            "full" => Some(Self::Full),
            _ => None,
        }
    }
}

/// PEM files for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// If given, clients must show a certificate of this authority.
    pub client_ca: Option<PathBuf>,
}

/// How the front end behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// I/O threads; connections are spread over them. At least 1.
    pub threads: usize,
    /// Connections at the same time; one more is told so and closed.
    /// Unless one has not sent a command yet: that one makes room.
    pub max_connections: usize,
    /// Bytes of all commands that have come in part, wait for EXEC or were read
    /// ahead; whose command finds no room is told so and closed.
    pub max_input_bytes: u64,
    /// How long a command may pause that has come in part, and how long a reply
    /// may take to be written.
    pub client_timeout: Duration,
    /// The password of the user `default`; with it, login is required.
    pub password: Option<Secret>,
    /// Further users and their passwords; with any, login is required.
    pub users: BTreeMap<String, Secret>,
    /// The form of BLPOP's replies, unless BLPOP itself chooses one.
    pub reply: ReplyForm,
    /// Speak TLS only.
    pub tls: Option<TlsFiles>,
    /// How long a consumer of streams lives without XREADGROUP and XACK
    /// (contract, 13.3: a minute).
    pub stream_idle: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            // librdkafka's threads need the other half.
            threads: std::thread::available_parallelism()
                .map_or(1, |cores| cores.get().div_ceil(2)),
            max_connections: 10_000,
            max_input_bytes: 256 << 20,
            client_timeout: Duration::from_secs(60),
            password: None,
            users: BTreeMap::new(),
            reply: ReplyForm::default(),
            tls: None,
            stream_idle: Duration::from_secs(60),
        }
    }
}

impl Config {
    pub(crate) fn requires_login(&self) -> bool {
        self.password.is_some() || !self.users.is_empty()
    }
}

/// Why the front end cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A socket or thread could not be set up.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("redis.tls: {path}: {reason}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The shared producer could not be made.
    #[error(transparent)]
    Engine(#[from] barnabas_engine::Error),
}
