//! What can go wrong, as data: a failing test should say at once whether the machine, Kafka or the
//! code under test is at fault.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use rdkafka::error::KafkaError;
use thiserror::Error;

use crate::fetch::KafkaVersion;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the test kit could not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A program is not on the `PATH`, and this process may not install it.
    #[error("{program} is not installed: run `apt-get install {package}` (Debian) and try again")]
    ProgramMissing {
        /// The program that was looked for.
        program: String,
        /// The Debian package that has it.
        package: String,
    },

    /// A program ran and reported a failure.
    #[error("`{command}` failed with {status}:\n{output}")]
    CommandFailed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote, stdout before stderr.
        output: String,
    },

    /// The operating system refused something.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was being done, as words that follow "cannot".
        action: String,
        /// The refusal.
        source: io::Error,
    },

    /// Kafka, or the client library on the way to it, refused something.
    #[error("cannot {action}: {source}")]
    Kafka {
        /// What was being done, as words that follow "cannot".
        action: String,
        /// The refusal, with Kafka's error code.
        source: KafkaError,
    },

    /// `KAFKA_UNDER_TEST` names no version of Kafka that the test kit has.
    #[error(
        "KAFKA_UNDER_TEST is `{name}`; there is {}",
        KafkaVersion::ALL.map(KafkaVersion::number).join(" and ")
    )]
    UnknownVersion {
        /// What it names.
        name: String,
    },

    /// A broker ended although it was meant to run.
    #[error("broker {broker} ended with {status}; its folder is {}; its log ends with:\n{log_tail}", folder.display())]
    BrokerEnded {
        /// The node id.
        broker: i32,
        /// How the Java process ended.
        status: ExitStatus,
        /// Configuration, data and log, kept for reading.
        folder: PathBuf,
        /// The last lines of the log.
        log_tail: String,
    },

    /// Something did not happen in time.
    #[error("waited {waited:?} in vain for {what}")]
    Timeout {
        /// What was awaited.
        what: String,
        /// For how long.
        waited: Duration,
    },

    /// The cluster has no broker of this node id.
    #[error("there is no broker {broker}: the cluster has {brokers}, counted from 0")]
    NoSuchBroker {
        /// The node id asked for.
        broker: i32,
        /// How many brokers there are.
        brokers: usize,
    },

    /// `start` on a broker that runs, or a signal to one that does not.
    #[error("broker {broker} is {state}")]
    BrokerState {
        /// The node id.
        broker: i32,
        /// What it is doing.
        state: &'static str,
    },

    /// The gateway ended before it was listening.
    #[error("the gateway ended with {status} before it was listening; its stderr:\n{stderr}")]
    GatewayEnded {
        /// How it ended.
        status: ExitStatus,
        /// Everything it wrote to stderr.
        stderr: String,
    },

    /// The gateway runs but has not said that it listens.
    #[error("the gateway was not listening after {waited:?}; its stderr:\n{stderr}")]
    GatewayNotListening {
        /// How long it had.
        waited: Duration,
        /// Everything it wrote to stderr so far.
        stderr: String,
    },
}

/// Turns a library's error into ours, with the words that follow "cannot".
pub(crate) trait Context<T> {
    fn context(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io {
            action: action(),
            source,
        })
    }
}

impl<T> Context<T> for Result<T, KafkaError> {
    fn context(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Kafka {
            action: action(),
            source,
        })
    }
}
