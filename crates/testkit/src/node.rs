//! One broker as the operating system sees it: a folder, two ports and a Java process.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::hash::BuildHasher;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::error::{Context, Error, Result};
use crate::fetch::{KafkaFiles, write};
use crate::network::Network;
use crate::paths;
use crate::ports::{self, Port};
use crate::process::{Process, Signal};

/// How much of the log goes into an error.
const LOG_TAIL_LINES: usize = 30;

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: i32,
    pub(crate) broker_port: Port,
    pub(crate) controller_port: Port,
    sasl_port: Option<Port>,
    network: Option<Arc<Network>>,
    folder: PathBuf,
    process: Mutex<Option<Process>>,
    paused: AtomicBool,
}

impl Node {
    pub(crate) fn reserve(
        id: i32,
        cluster_folder: &Path,
        with_sasl: bool,
        network: Option<Arc<Network>>,
    ) -> Result<Self> {
        Ok(Self {
            id,
            broker_port: ports::reserve()?,
            controller_port: ports::reserve()?,
            sasl_port: with_sasl.then(ports::reserve).transpose()?,
            folder: paths::folder(&cluster_folder.join(format!("broker-{id}")))?,
            network,
            process: Mutex::new(None),
            paused: AtomicBool::new(false),
        })
    }

    pub(crate) fn address(&self) -> String {
        self.at(&self.broker_port)
    }

    fn at(&self, port: &Port) -> String {
        let network = self.network.as_ref();
        let host = network.map_or(Ipv4Addr::LOCALHOST, |network| network.address());
        format!("{host}:{}", port.number())
    }

    pub(crate) fn controller_address(&self) -> String {
        self.at(&self.controller_port)
    }

    pub(crate) fn sasl_address(&self) -> Option<String> {
        let port = self.sasl_port.as_ref()?;
        Some(self.at(port))
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.join("broker.log")
    }

    /// The first file of a partition's log.
    pub(crate) fn segment_path(&self, topic: &str, partition: i32) -> PathBuf {
        let folder = self.folder.join("data");
        let folder = folder.join(format!("{topic}-{partition}"));
        folder.join("00000000000000000000.log")
    }

    fn configuration_path(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    /// Writes the configuration, and does to the data folder what `kafka-storage format` would.
    pub(crate) fn format(
        &self,
        files: &KafkaFiles,
        cluster_id: &str,
        voters: &str,
        properties: &BTreeMap<String, String>,
    ) -> Result<()> {
        let data = paths::folder(&self.folder.join("data"))?;
        write(
            &data.join("meta.properties"),
            &format!(
                "version=1\ncluster.id={cluster_id}\nnode.id={}\ndirectory.id={}\n",
                self.id,
                random_id()
            ),
        )?;
        let checkpoint = data.join("bootstrap.checkpoint");
        fs::copy(files.bootstrap_checkpoint(), &checkpoint)
            .context(|| format!("write {}", checkpoint.display()))?;

        let address = self.address();
        let sasl = self
            .sasl_address()
            .map_or_else(String::new, |address| format!(",SASL://{address}"));
        let mut all = BTreeMap::from(
            [
                ("process.roles", "broker,controller".to_owned()),
                ("node.id", self.id.to_string()),
                ("controller.quorum.voters", voters.to_owned()),
                (
                    "listeners",
                    format!(
                        "PLAINTEXT://{address},CONTROLLER://{}{sasl}",
                        self.controller_address()
                    ),
                ),
                (
                    "advertised.listeners",
                    format!("PLAINTEXT://{address}{sasl}"),
                ),
                ("controller.listener.names", "CONTROLLER".to_owned()),
                (
                    "listener.security.protocol.map",
                    "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT".to_owned(),
                ),
                ("inter.broker.listener.name", "PLAINTEXT".to_owned()),
                ("log.dirs", data.display().to_string()),
            ]
            .map(|(key, value)| (key.to_owned(), value)),
        );
        all.extend(
            properties
                .iter()
                .map(|(key, value)| (key.clone(), value.clone())),
        );
        let mut text = String::new();
        for (key, value) in all {
            // Writing to a String does not fail. A backslash would start an escape.
            let _ = writeln!(text, "{key}={}", value.replace('\\', "\\\\"));
        }
        write(&self.configuration_path(), &text)
    }

    /// Starts the process and does not wait for anything.
    pub(crate) fn launch(&self, files: &KafkaFiles, jvm_options: &[String]) -> Result<()> {
        let mut process = self.process.lock();
        if process.as_ref().is_some_and(is_running) {
            return Err(self.state("running already"));
        }
        let path = self.log_path();
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|log| Ok((log.try_clone()?, log)))
            .context(|| format!("open {}", path.display()))?;
        let mut command = files.java(jvm_options);
        command.arg("kafka.Kafka").arg(self.configuration_path());
        if let Some(network) = &self.network {
            command = network.enter(&command);
        }
        command
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.0)
            .stderr(log.1);
        self.paused.store(false, Ordering::Relaxed);
        *process = Some(Process::spawn(command)?);
        Ok(())
    }

    /// The error that says so, if the process is not running.
    pub(crate) fn check_running(&self) -> Result<()> {
        let process = self.process.lock();
        let Some(process) = process.as_ref() else {
            return Err(self.state("not running"));
        };
        match process.status()? {
            None => Ok(()),
            Some(status) => Err(Error::BrokerEnded {
                broker: self.id,
                status,
                folder: self.folder.clone(),
                log_tail: self.log_tail(),
            }),
        }
    }

    /// Whether the process runs and is not stopped by [`Signal::Stop`].
    pub(crate) fn is_running(&self) -> bool {
        !self.paused.load(Ordering::Relaxed) && self.process.lock().as_ref().is_some_and(is_running)
    }

    /// Lets `act` have the process, which runs or may be paused.
    pub(crate) fn with_process<T>(&self, act: impl FnOnce(&Process) -> Result<T>) -> Result<T> {
        self.check_running()?;
        let process = self.process.lock();
        act(process.as_ref().ok_or_else(|| self.state("not running"))?)
    }

    pub(crate) fn pause(&self) -> Result<()> {
        self.with_process(|process| process.signal(Signal::Stop))?;
        self.paused.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn resume(&self) -> Result<()> {
        self.with_process(|process| process.signal(Signal::Continue))?;
        self.paused.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Sends SIGKILL without waiting, so that several nodes can go at the same time.
    pub(crate) fn send_kill(&self) {
        if let Some(process) = self.process.lock().as_ref() {
            let _ = process.signal(Signal::Kill);
        }
    }

    /// Forgets the process; it is killed if it still runs.
    pub(crate) fn discard_process(&self) {
        *self.process.lock() = None;
    }

    /// Whether the last start failed because somebody else took a port.
    pub(crate) fn found_port_taken(&self) -> bool {
        fs::read_to_string(self.log_path()).is_ok_and(|log| {
            log.contains("Address already in use") || log.contains("BindException")
        })
    }

    fn state(&self, state: &'static str) -> Error {
        Error::BrokerState {
            broker: self.id,
            state,
        }
    }

    fn log_tail(&self) -> String {
        let Ok(log) = fs::read(self.log_path()) else {
            return String::new();
        };
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let skipped = lines.len().saturating_sub(LOG_TAIL_LINES);
        lines
            .into_iter()
            .skip(skipped)
            .collect::<Vec<_>>()
            .join("\n")
    }
}

fn is_running(process: &Process) -> bool {
    process.status().is_ok_and(|status| status.is_none())
}

/// An id as Kafka writes them: 16 random bytes in URL-safe base64 without padding.
pub(crate) fn random_id() -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // 126 of the 128 bits, so that the last digit's padding bits are zero.
    let high = RandomState::new().hash_one(0);
    let low = RandomState::new().hash_one(1);
    let mut bits = (u128::from(high) << 64 | u128::from(low)) >> 1;
    let mut id = String::with_capacity(22);
    for position in 0..22 {
        // 21 digits of 6 bits, then one of 2 bits, which base64 puts into the digit's upper half.
        // The first digit has 5 bits: Kafka's tools would take a leading '-' for an option.
        let digit = match position {
            0 => bits & 0x1f,
            21 => (bits & 0x3) << 4,
            _ => bits & 0x3f,
        };
        bits >>= 6;
        id.extend(
            usize::try_from(digit)
                .ok()
                .and_then(|digit| DIGITS.get(digit))
                .map(|digit| char::from(*digit)),
        );
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_kafkas_length_and_differ() {
        assert_eq!(random_id().len(), 22);
        assert_ne!(random_id(), random_id());
    }
}
