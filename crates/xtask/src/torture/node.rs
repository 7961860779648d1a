//! The npm package, in a process of Node: its producer and its consumer with
//! offset files. What it says goes into the ledger.

use super::ledger::{Durability, Ledger, Place, Value};
use super::world::{PATIENCE, World, tail};
use crate::{node, run};
use anyhow::{Context as _, Result, bail};
use barnabas_testkit::Process;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const WRITER: &str = "node";
/// Its gateway is itself.
const SELF: usize = usize::MAX;

/// The process.
pub(crate) struct NodeClient {
    process: Process,
    input: Option<PipeWriter>,
    listener: Option<JoinHandle<()>>,
    complaints: Option<JoinHandle<()>>,
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    has_stopped: AtomicBool,
    complaints: Mutex<String>,
}

impl NodeClient {
    /// What its consumer is called in the ledger.
    pub(crate) const GROUP: &str = "node-offset-files";

    /// Starts it on this topic.
    pub(crate) fn start(world: &World, topic: &str, ledger: &Arc<Ledger>) -> Result<Self> {
        ledger.writer(WRITER, Durability::Kafka);
        ledger.group(Self::GROUP);
        let offsets = world.folder().join(format!("offsets-{topic}"));
        std::fs::create_dir_all(&offsets)?;
        let (stdin, input) = std::io::pipe()?;
        let (output, stdout) = std::io::pipe()?;
        let (errors, stderr) = std::io::pipe()?;
        let mut command = Command::new("node");
        command
            .arg(run::root().join("crates/xtask/src/torture/client.js"))
            .arg(node::folder())
            .arg(json!(world.access().into_iter().collect::<BTreeMap<_, _>>()).to_string())
            .arg(topic)
            .arg(offsets)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr);
        let process = Process::spawn(command)?;
        let heard = Arc::new(Heard::default());
        let (ledger, own) = (Arc::clone(ledger), Arc::clone(&heard));
        let listener = std::thread::spawn(move || listen(output, &ledger, &own));
        let own = Arc::clone(&heard);
        let complaints = std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                let mut all = own
                    .complaints
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                all.push_str(&line);
                all.push('\n');
            }
        });
        Ok(Self {
            process,
            input: Some(input),
            listener: Some(listener),
            complaints: Some(complaints),
            heard,
        })
    }

    /// Returns when all that it has produced was answered.
    pub(crate) fn stop_producing(&mut self) -> Result<()> {
        if let Some(input) = &mut self.input {
            input.write_all(b"stop\n").context("node has ended")?;
        }
        let started = Instant::now();
        while !self.heard.has_stopped.load(Ordering::Acquire) {
            if let Some(status) = self.process.status()? {
                bail!("node has ended with {status}:\n{}", self.complaints());
            }
            if started.elapsed() > PATIENCE {
                bail!("node's producer does not stop:\n{}", self.complaints());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// It must end well.
    pub(crate) fn stop(mut self) -> Result<()> {
        drop(self.input.take());
        let status = self.process.wait(PATIENCE)?;
        for thread in [self.listener.take(), self.complaints.take()] {
            if thread.is_some_and(|thread| thread.join().is_err()) {
                bail!("what node says makes no sense");
            }
        }
        if !status.success() {
            bail!("node has ended with {status}:\n{}", self.complaints());
        }
        Ok(())
    }

    fn complaints(&self) -> String {
        let all = &self.heard.complaints;
        tail(&all.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn listen(output: PipeReader, ledger: &Ledger, heard: &Heard) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let line: Json = serde_json::from_str(&line).unwrap_or_default();
        note(&line, ledger);
        if line.get("stopped").is_some() {
            heard.has_stopped.store(true, Ordering::Release);
        }
    }
}

fn note(line: &Json, ledger: &Ledger) {
    let now = Instant::now();
    let list = |name: &str| {
        let list = line.get(name).and_then(Json::as_array);
        list.into_iter().flatten()
    };
    let ago = line.get("asked_ms_ago").and_then(Json::as_f64);
    let ago = Duration::from_secs_f64(ago.unwrap_or(0.0).max(0.0) / 1e3);
    // The line may have waited: it was asked no later than this.
    let asked = now.checked_sub(ago).unwrap_or(now);
    for value in list("accepted").filter_map(Json::as_str) {
        if let Some(value) = Value::parse(value) {
            ledger.accepted(value, SELF, asked);
        }
    }
    let failed = line.get("failed").and_then(Json::as_u64).unwrap_or(0);
    ledger.unknown(WRITER, usize::try_from(failed).unwrap_or(usize::MAX));
    for message in list("received") {
        let place = || {
            Some(Place {
                partition: i32::try_from(message.get(0)?.as_i64()?).ok()?,
                offset: message.get(1)?.as_i64()?,
                value: message.get(2)?.as_str()?.to_owned(),
            })
        };
        if let Some(place) = place() {
            ledger.delivered(NodeClient::GROUP, place.clone(), u64::MAX, now);
            // The callback has returned, so it counts.
            ledger.acked(NodeClient::GROUP, &place);
        }
    }
}
