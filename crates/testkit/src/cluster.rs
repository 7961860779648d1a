//! A cluster of brokers: start, readiness, end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::Metadata;

use crate::broker::Broker;
use crate::builder::{ClusterBuilder, Login};
use crate::client::{self, Admin, AdminSlot};
use crate::error::{Error, Result};
use crate::fetch::{KafkaFiles, KafkaVersion, fetch};
use crate::network::Network;
use crate::node::{Node, random_id};
use crate::records::RecordProducer;
use crate::run_folder::{self, RunFolder};
use crate::tools;

/// How often a start is tried when ports are taken by others in between.
const START_ATTEMPTS: usize = 4;

/// What a [`ClusterBuilder`] resolves to.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) brokers: u16,
    pub(crate) version: KafkaVersion,
    pub(crate) jvm_options: Vec<String>,
    pub(crate) start_timeout: Duration,
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) sasl: Option<Login>,
    pub(crate) is_isolated: bool,
}

/// A running Apache Kafka, in KRaft mode, on 127.0.0.1, with plain text listeners.
///
/// All methods block; an async test calls them before its runtime does anything that cannot wait,
/// or through `spawn_blocking`. Dropping it kills the brokers and removes their folder; after a
/// panic the folder is kept and named on stderr. In a `static`, the same happens when the process
/// exits.
#[derive(Debug)]
pub struct Cluster {
    inner: Arc<Running>,
}

/// Shared with the exit handler, which is how a cluster in a `static` is tidied up.
#[derive(Debug)]
pub(crate) struct Running {
    plan: Plan,
    files: KafkaFiles,
    nodes: Vec<Node>,
    network: Option<Arc<Network>>,
    folder: RunFolder,
    ended: AtomicBool,
    pub(crate) producer: OnceLock<RecordProducer>,
    admin: AdminSlot,
}

impl Cluster {
    /// Describes a cluster; without further words, one broker of the default version.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder::default()
    }

    pub(crate) fn start(mut plan: Plan) -> Result<Self> {
        let files = fetch(plan.version)?;
        let mut attempt = 1;
        loop {
            let running = Running::prepare(plan, files.clone())?;
            match running.launch_all().and_then(|()| running.add_login()) {
                Ok(()) => {
                    let inner = Arc::new(running);
                    end_at_exit(&inner);
                    return Ok(Self { inner });
                }
                Err(_) if attempt < START_ATTEMPTS && running.found_port_taken() => {
                    running.end(false);
                    plan = running.plan;
                    attempt += 1;
                }
                Err(error) => {
                    running.end(true);
                    return Err(error);
                }
            }
        }
    }

    /// The brokers' network; `None` unless it is their own ([`ClusterBuilder::isolated`]).
    pub fn network(&self) -> Option<&Network> {
        self.inner.network.as_deref()
    }

    /// What clients are configured with: all brokers, `127.0.0.1:<port>` with commas between.
    pub fn bootstrap_servers(&self) -> String {
        let addresses: Vec<String> = self.inner.nodes.iter().map(Node::address).collect();
        addresses.join(",")
    }

    /// The same for the listeners that [`crate::ClusterBuilder::sasl`] adds; empty without it.
    pub fn sasl_bootstrap_servers(&self) -> String {
        let addresses: Vec<String> = self
            .inner
            .nodes
            .iter()
            .filter_map(Node::sasl_address)
            .collect();
        addresses.join(",")
    }

    /// The broker with this node id; they are counted from 0, as in Kafka's own metadata here.
    /// An id that does not exist is reported by what is done to the broker.
    pub fn broker(&self, id: i32) -> Broker<'_> {
        Broker {
            cluster: &self.inner,
            id,
        }
    }

    /// All brokers, running or not.
    pub fn brokers(&self) -> impl Iterator<Item = Broker<'_>> {
        self.inner.nodes.iter().map(|node| self.broker(node.id))
    }

    /// The version of the brokers.
    pub fn version(&self) -> KafkaVersion {
        self.inner.plan.version
    }

    /// Keeps the folder with logs and data although nothing panicked.
    pub fn keep_folder(&self) {
        self.inner.folder.keep();
    }

    pub(crate) fn running(&self) -> &Running {
        &self.inner
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.inner.end(run_folder::this_thread_panics());
    }
}

impl Running {
    /// Lets the cluster know the user for SCRAM; only Kafka's own tool can.
    fn add_login(&self) -> Result<()> {
        let Some(login) = &self.plan.sasl else {
            return Ok(());
        };
        // It takes one of them at a time.
        for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let credential = format!("{mechanism}=[iterations=4096,password={}]", login.password);
            self.configure(&[
                "--alter",
                "--entity-type",
                "users",
                "--entity-name",
                &login.user,
                "--add-config",
                &credential,
            ])?;
        }
        Ok(())
    }

    /// Runs Kafka's tool for what is configured of users and clients.
    pub(crate) fn configure(&self, arguments: &[&str]) -> Result<()> {
        let Some(node) = self.nodes.first() else {
            return Ok(());
        };
        let mut command = self.files.java(&self.plan.jvm_options);
        command
            .arg("kafka.admin.ConfigCommand")
            .args(["--bootstrap-server", &node.address()])
            .args(arguments);
        tools::run(command)
    }

    fn prepare(plan: Plan, files: KafkaFiles) -> Result<Self> {
        let folder = RunFolder::create()?;
        let network = plan.is_isolated.then(Network::create).transpose()?;
        let network = network.map(Arc::new);
        let nodes = (0..plan.brokers)
            .map(|id| {
                Node::reserve(
                    i32::from(id),
                    folder.path(),
                    plan.sasl.is_some(),
                    network.clone(),
                )
            })
            .collect::<Result<Vec<_>>>()?;
        let voters: Vec<String> = nodes
            .iter()
            .map(|node| format!("{}@{}", node.id, node.controller_address()))
            .collect();
        let voters = voters.join(",");
        let cluster_id = random_id();
        for node in &nodes {
            node.format(&files, &cluster_id, &voters, &plan.properties)?;
        }
        Ok(Self {
            plan,
            files,
            nodes,
            network,
            folder,
            ended: AtomicBool::new(false),
            producer: OnceLock::new(),
            admin: AdminSlot::default(),
        })
    }

    fn launch_all(&self) -> Result<()> {
        for node in &self.nodes {
            self.launch(node)?;
        }
        self.nodes
            .iter()
            .try_for_each(|node| self.wait_until_ready(node))
    }

    pub(crate) fn launch(&self, node: &Node) -> Result<()> {
        node.launch(&self.files, &self.plan.jvm_options)
    }

    pub(crate) fn node(&self, id: i32) -> Result<&Node> {
        self.nodes
            .iter()
            .find(|node| node.id == id)
            .ok_or(Error::NoSuchBroker {
                broker: id,
                brokers: self.nodes.len(),
            })
    }

    /// The nodes that run and are not paused.
    pub(crate) fn running_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.is_running())
    }

    /// Where to find the brokers that can answer; all of them if none can, so that the client's own
    /// error is what the test sees.
    pub(crate) fn reachable(&self) -> String {
        let running: Vec<String> = self.running_nodes().map(Node::address).collect();
        if running.is_empty() {
            let all: Vec<String> = self.nodes.iter().map(Node::address).collect();
            return all.join(",");
        }
        running.join(",")
    }

    pub(crate) fn admin(&self) -> Result<Arc<Admin>> {
        self.admin.get(self.reachable())
    }

    pub(crate) fn observer(&self) -> Result<BaseConsumer> {
        client::observer(&self.reachable())
    }

    /// What the brokers were started with.
    pub(crate) fn property(&self, key: &str) -> Option<&str> {
        self.plan.properties.get(key).map(String::as_str)
    }

    pub(crate) fn replication_factor(&self) -> i32 {
        i32::from(self.plan.brokers.min(3))
    }

    /// Waits until this node answers, and sees every node that runs.
    pub(crate) fn wait_until_ready(&self, node: &Node) -> Result<()> {
        let observer = client::observer(&node.address())?;
        let started = Instant::now();
        loop {
            node.check_running()?;
            if let Ok(metadata) = observer.fetch_metadata(None, Duration::from_millis(500))
                && self.is_complete(&observer, &metadata)
            {
                return Ok(());
            }
            let waited = started.elapsed();
            if waited > self.plan.start_timeout {
                self.folder.keep();
                return Err(Error::Timeout {
                    what: format!(
                        "broker {} to answer and to see the others; its log is {}",
                        node.id,
                        node.log_path().display()
                    ),
                    waited,
                });
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_complete(&self, observer: &BaseConsumer, metadata: &Metadata) -> bool {
        let sees = |id: i32| metadata.brokers().iter().any(|broker| broker.id() == id);
        let all_run = self.nodes.iter().all(Node::is_running);
        self.running_nodes().all(|node| sees(node.id))
            // A partition whose only replica is on a broker that is down has no leader to wait for.
            && (!all_run || client::all_are_served(observer, metadata.topics()))
    }

    fn found_port_taken(&self) -> bool {
        self.nodes.iter().any(Node::found_port_taken)
    }

    /// Kills what runs and deals with the folder; later calls do nothing.
    fn end(&self, failed: bool) {
        if self.ended.swap(true, Ordering::SeqCst) {
            return;
        }
        self.nodes.iter().for_each(Node::send_kill);
        self.nodes.iter().for_each(Node::discard_process);
        if let Some(network) = &self.network {
            network.remove();
        }
        self.folder.finish(failed);
    }
}

/// Sees to it that a cluster in a `static`, which is never dropped, leaves no folder behind. (Its
/// processes would end in any case, see [`crate::Process`].)
fn end_at_exit(running: &Arc<Running>) {
    static CLUSTERS: Mutex<Vec<Weak<Running>>> = Mutex::new(Vec::new());
    static REGISTERED: OnceLock<()> = OnceLock::new();

    extern "C" fn end_all() {
        // A thread that was starting a cluster may hold the lock and not exist any more.
        let Some(mut clusters) = CLUSTERS.try_lock_for(Duration::from_secs(1)) else {
            return;
        };
        for cluster in clusters.drain(..).filter_map(|weak| weak.upgrade()) {
            cluster.end(run_folder::any_thread_panicked());
        }
    }

    #[allow(
        unsafe_code,
        reason = "std has no hook for the end of the process; the handler unwinds nowhere and uses \
                  no thread-local state"
    )]
    REGISTERED.get_or_init(|| {
        // SAFETY: end_all is a function with the C calling convention that lives forever.
        unsafe { libc::atexit(end_all) };
    });
    let mut clusters = CLUSTERS.lock();
    clusters.retain(|weak| weak.strong_count() > 0);
    clusters.push(Arc::downgrade(running));
}
