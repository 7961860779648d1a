//! What the measurements over HTTP share: nginx that answers with a constant,
//! and wrk as the load.

use crate::run;
use anyhow::{Context as _, Result, bail, ensure};
use barnabas_testkit::{Cluster, Process, tools};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a program may take to start, and Kafka to have everything.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Said by wrk when it is done: requests, microseconds, failures of
/// connections, other statuses than 2xx and 3xx, and in microseconds the
/// middle and the 99th percentile of the latency.
const DONE: &str = r#"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.timeout, e.status,
    latency:percentile(50), latency:percentile(99)))
end
"#;

/// nginx that answers every request with `{}`.
pub(super) struct Nginx {
    process: Process,
    pub(super) address: String,
}

impl Nginx {
    pub(super) fn start(folder: &Path) -> Result<Self> {
        let program = tools::ensure_program("nginx", "nginx-light")?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let own = folder.join("nginx");
        std::fs::create_dir_all(&own)?;
        let shown = own.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {shown}/{kind};\n"))
            .concat();
        let configuration = format!(
            "daemon off;\nworker_processes auto;\npid {shown}/pid;\nerror_log stderr crit;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\naccess_log off;\nkeepalive_requests 1000000000;\n{temporary}\
             server {{\nlisten {address};\ndefault_type application/json;\n\
             location / {{ return 200 '{{}}'; }}\n}}\n}}\n"
        );
        let path = own.join("nginx.conf");
        std::fs::write(&path, configuration)?;
        let mut command = Command::new(program);
        command
            .arg("-p")
            .arg(&own)
            .arg("-c")
            .arg(&path)
            .stdout(Stdio::null());
        let process = Process::spawn(command)?;
        let start = Instant::now();
        while TcpStream::connect(&address).is_err() {
            ensure!(start.elapsed() < PATIENCE, "nginx does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { process, address })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it only if it may end them.
        let _ = self.process.terminate(Duration::from_secs(10));
    }
}

/// A load of wrk's.
pub(super) struct Load<'a> {
    pub(super) address: &'a str,
    pub(super) path: &'a str,
    pub(super) connections: usize,
    pub(super) seconds: u64,
    /// The body of a POST; `None` is a GET.
    pub(super) body: Option<&'a str>,
}

/// What wrk has counted.
pub(super) struct Done {
    pub(super) requests: u64,
    /// Of them, those that were answered with an error.
    pub(super) refused: u64,
    pub(super) seconds: f64,
    /// In milliseconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
}

impl Done {
    /// Requests that were taken.
    pub(super) fn accepted(&self) -> u64 {
        self.requests - self.refused
    }

    /// Requests per second that were taken.
    pub(super) fn rate(&self) -> f64 {
        self.accepted() as f64 / self.seconds
    }
}

/// wrk, and where its scripts are written.
pub(super) struct Wrk {
    program: PathBuf,
    folder: PathBuf,
}

impl Wrk {
    pub(super) fn new(folder: &Path) -> Result<Self> {
        Ok(Self {
            program: tools::ensure_program("wrk", "wrk")?,
            folder: folder.to_owned(),
        })
    }

    /// Runs a load; every connection must have held.
    pub(super) fn run(&self, load: &Load<'_>) -> Result<Done> {
        let mut script = String::new();
        if let Some(body) = load.body {
            script.push_str("wrk.method = 'POST'\n");
            script.push_str("wrk.headers['Content-Type'] = 'application/json'\n");
            script.push_str(&format!("wrk.body = [[{body}]]\n"));
        }
        script.push_str(DONE);
        let file = self.folder.join("load.lua");
        std::fs::write(&file, script)?;
        let threads = load.connections.min(2).to_string();
        let output = Command::new(&self.program)
            .args(["-t", &threads, "-c", &load.connections.to_string()])
            .args(["-d", &load.seconds.to_string(), "--timeout", "30", "-s"])
            .arg(&file)
            .arg(format!("http://{}{}", load.address, load.path))
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<u64> = text
            .lines()
            .find_map(|line| line.strip_prefix("RESULT "))
            .with_context(|| format!("wrk said: {text}"))?
            .split(' ')
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let [requests, micros, failures, refused, p50, p99] = numbers[..] else {
            bail!("wrk said: {text}");
        };
        ensure!(
            failures == 0 && requests > refused,
            "{requests} requests to {}: {failures} failed, {refused} were refused",
            load.path
        );
        Ok(Done {
            requests,
            refused,
            seconds: micros as f64 / 1e6,
            p50: p50 as f64 / 1e3,
            p99: p99 as f64 / 1e3,
        })
    }

    /// Runs a load of which nothing may be refused.
    pub(super) fn run_all(&self, load: &Load<'_>) -> Result<Done> {
        let done = self.run(load)?;
        ensure!(
            done.refused == 0,
            "{} of {} requests to {} were refused",
            done.refused,
            done.requests,
            load.path
        );
        Ok(done)
    }
}

/// Where a measurement has its files.
pub(super) fn folder(name: &str) -> Result<PathBuf> {
    let folder = run::root().join("target/bench").join(name);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Messages of a topic in Kafka.
pub(super) fn stored(kafka: &Cluster, topic: &str) -> Result<u64> {
    let stored: i64 = kafka.end_offsets(topic)?.values().sum();
    Ok(u64::try_from(stored)?)
}

/// Waits until Kafka has everything that was accepted, and no more comes; wrk
/// leaves requests behind that it has not counted.
pub(super) fn all_arrived(kafka: &Cluster, topic: &str, before: u64, accepted: u64) -> Result<()> {
    let start = Instant::now();
    let mut last = 0;
    loop {
        let stored = stored(kafka, topic)? - before;
        if stored >= accepted && stored == last {
            return Ok(());
        }
        last = stored;
        ensure!(
            start.elapsed() < PATIENCE,
            "of {accepted} accepted messages {stored} are in Kafka"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A JSON document of this size whose parts differ, as those of real ones
/// do: what is compressed to nothing would be no load for Kafka.
pub(super) fn document(bytes: usize) -> String {
    let mut text = String::from("{\"items\":\"");
    text.push_str(&words(bytes - 12));
    text.push_str("\"}");
    text
}

/// Text of this size whose parts differ.
pub(super) fn words(bytes: usize) -> String {
    let mut state = 42_u64;
    let mut text = String::new();
    while text.len() < bytes {
        // Knuth's MMIX generator.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        text.push_str(&format!("{:x}-", state >> 40));
    }
    text.truncate(bytes);
    text
}
