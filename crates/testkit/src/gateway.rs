//! A gateway as a child process: started, listened to, measured and ended as an operator would.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::captured::Captured;
use crate::error::{Error, Result};
use crate::network::{self, Network};
use crate::process::{Process, Signal};

const TERMINATE_TIMEOUT: Duration = Duration::from_secs(60);

/// After its last words the kernel may take a moment to report that the process is gone.
const EXIT_AFTER_LAST_WORDS: Duration = Duration::from_secs(5);

/// Where a gateway says that it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// What stands before the words, without time and brackets: `server` in
    /// `[server] 2026/01/31 12:00:00 Listening on 127.0.0.1:6380`.
    pub component: Option<String>,
    /// The host as written, an IPv6 address without its brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Describes a gateway process; [`GatewayBuilder::spawn`] starts it.
#[derive(Clone, Debug)]
#[must_use]
pub struct GatewayBuilder {
    binary: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    listeners: usize,
    start_timeout: Duration,
    namespace: Option<String>,
}

impl GatewayBuilder {
    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|one| one.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable; the others are this process's.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment
            .push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// How many `Listening on` lines to wait for. Default 1; with 0 nothing is waited for.
    pub fn listeners(mut self, count: usize) -> Self {
        self.listeners = count;
        self
    }

    /// How long it may take until it listens. Default 30 s.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// Runs it where [`Network::gateways`] is, so that its clients' network can be disturbed. It has
    /// to listen there.
    pub fn inside(mut self, network: &Network) -> Self {
        self.namespace = Some(network.gateways_namespace());
        self
    }

    /// Starts the process and waits until it has said on stderr where it listens.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be started; [`Error::GatewayEnded`] or
    /// [`Error::GatewayNotListening`], both with its stderr.
    pub fn spawn(self) -> Result<Gateway> {
        let mut command = Command::new(&self.binary);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(key, value)| (key, value)));
        if let Some(namespace) = &self.namespace {
            command = network::enter(namespace, &command);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let process = Process::spawn(command)?;
        let (stdout, stderr) =
            process.with_child(|child| (child.stdout.take(), child.stderr.take()));
        let mut gateway = Gateway {
            process,
            stdout: Captured::read(stdout)?,
            stderr: Captured::read(stderr)?,
            listening: Vec::new(),
        };
        gateway.wait_until_listening(self.listeners, self.start_timeout)?;
        Ok(gateway)
    }
}

/// A gateway process. Killed when dropped, and at the latest with this process; if the test fails,
/// its stderr is printed.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    stdout: Captured,
    stderr: Captured,
    listening: Vec<Listening>,
}

impl Gateway {
    /// Starts `binary` with `arguments` and waits until it listens.
    ///
    /// # Errors
    /// As for [`GatewayBuilder::spawn`].
    pub fn spawn(binary: &Path, arguments: &[&str]) -> Result<Self> {
        Self::builder(binary).args(arguments).spawn()
    }

    /// Describes a gateway process.
    pub fn builder(binary: impl Into<PathBuf>) -> GatewayBuilder {
        GatewayBuilder {
            binary: binary.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            listeners: 1,
            start_timeout: Duration::from_secs(30),
            namespace: None,
        }
    }

    /// Where it said that it listens, in the order of its lines, as far as they were waited for.
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// The port of the first listener; 0 if none was waited for.
    pub fn port(&self) -> u16 {
        self.listening.first().map_or(0, |first| first.port)
    }

    /// `<host>:<port>` of the first listener; empty if none was waited for.
    pub fn address(&self) -> String {
        self.listening.first().map_or_else(String::new, |first| {
            if first.host.contains(':') {
                format!("[{}]:{}", first.host, first.port)
            } else {
                format!("{}:{}", first.host, first.port)
            }
        })
    }

    /// The process: its pid, threads, memory, CPU time and descriptors.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Everything it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Everything it has written to stdout so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// Waits for a line on stderr that contains `text`, and returns it. Lines from before the call
    /// count too.
    ///
    /// # Errors
    /// [`Error::Timeout`] if there is none, and none comes.
    pub fn wait_for_stderr(&self, text: &str, timeout: Duration) -> Result<String> {
        self.stderr
            .wait(timeout, |written| {
                written
                    .lines()
                    .find(|line| line.contains(text))
                    .map(str::to_owned)
            })
            .ok_or_else(|| Error::Timeout {
                what: format!(
                    "a line with {text:?} on stderr, where there is:\n{}",
                    self.stderr()
                ),
                waited: timeout,
            })
    }

    /// Sends a signal; nothing happens if it has ended.
    ///
    /// # Errors
    /// [`Error::Io`] if the kernel refuses.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// SIGTERM, then waits at most a minute: how it ended, and how long that took.
    /// [`Gateway::stderr`] is complete afterwards.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it runs on.
    pub fn terminate(&self) -> Result<(ExitStatus, Duration)> {
        let ended = self.process.terminate(TERMINATE_TIMEOUT)?;
        self.wait_for_last_words();
        Ok(ended)
    }

    /// Waits until it ends by itself. [`Gateway::stderr`] is complete afterwards.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it runs on.
    pub fn wait(&self, timeout: Duration) -> Result<ExitStatus> {
        let status = self.process.wait(timeout)?;
        self.wait_for_last_words();
        Ok(status)
    }

    /// How it ended, or `None` while it runs.
    ///
    /// # Errors
    /// [`Error::Io`] if the kernel refuses.
    pub fn status(&self) -> Result<Option<ExitStatus>> {
        self.process.status()
    }

    /// See [`Process::threads`].
    ///
    /// # Errors
    /// [`Error::Io`] if it has ended.
    pub fn threads(&self) -> Result<Vec<String>> {
        self.process.threads()
    }

    /// See [`Process::resident_bytes`].
    ///
    /// # Errors
    /// [`Error::Io`] if it has ended.
    pub fn resident_bytes(&self) -> Result<u64> {
        self.process.resident_bytes()
    }

    /// See [`Process::cpu_time`].
    ///
    /// # Errors
    /// [`Error::Io`] if it has ended.
    pub fn cpu_time(&self) -> Result<Duration> {
        self.process.cpu_time()
    }

    /// See [`Process::descriptors`].
    ///
    /// # Errors
    /// [`Error::Io`] if it has ended.
    pub fn descriptors(&self) -> Result<usize> {
        self.process.descriptors()
    }

    fn wait_until_listening(&mut self, count: usize, timeout: Duration) -> Result<()> {
        let started = Instant::now();
        let enough = |written: &str| {
            let listening: Vec<Listening> = written.lines().filter_map(parse_listening).collect();
            (listening.len() >= count).then_some(listening)
        };
        if let Some(listening) = self.stderr.wait(timeout, enough) {
            self.listening = listening;
            return Ok(());
        }
        if self.stderr.has_ended() {
            let status = self.process.wait(EXIT_AFTER_LAST_WORDS)?;
            return Err(Error::GatewayEnded {
                status,
                stderr: self.stderr(),
            });
        }
        Err(Error::GatewayNotListening {
            waited: started.elapsed(),
            stderr: self.stderr(),
        })
    }

    fn wait_for_last_words(&self) {
        for stream in [&self.stdout, &self.stderr] {
            stream.wait_for_end(EXIT_AFTER_LAST_WORDS);
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if thread::panicking() {
            // The harness shows this beside the failed assertion.
            eprintln!(
                "--- stderr of the gateway, pid {}:\n{}---",
                self.pid(),
                self.stderr()
            );
        }
    }
}

/// Reads `... Listening on <host>:<port>`; other lines are `None`.
fn parse_listening(line: &str) -> Option<Listening> {
    let (before, after) = line
        .split_once("Listening on ")
        .or_else(|| line.split_once("listening on "))?;
    let address = after
        .split(|c: char| c.is_whitespace() || matches!(c, '"' | ',' | ';'))
        .next()?;
    let (host, port) = address.rsplit_once(':')?;
    Some(Listening {
        component: component(before),
        host: host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned(),
        port: port.parse().ok()?,
    })
}

fn component(before: &str) -> Option<String> {
    let name = match before.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next()?,
        None => before.split_whitespace().next_back()?,
    };
    let name = name.trim_end_matches(':');
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(component: Option<&str>, host: &str, port: u16) -> Option<Listening> {
        Some(Listening {
            component: component.map(str::to_owned),
            host: host.to_owned(),
            port,
        })
    }

    #[test]
    fn listening_lines_are_recognised() {
        for (line, expected) in [
            (
                "Listening on 127.0.0.1:40123",
                listening(None, "127.0.0.1", 40123),
            ),
            (
                "[server] 2026/01/31 12:00:00 Listening on [::1]:6380",
                listening(Some("server"), "::1", 6380),
            ),
            (
                "INFO redis: Listening on localhost:6380, TLS",
                listening(Some("redis"), "localhost", 6380),
            ),
            ("Listening on a socket", None),
            ("Listening on 127.0.0.1:99999", None),
        ] {
            assert_eq!(parse_listening(line), expected, "{line}");
        }
    }
}
