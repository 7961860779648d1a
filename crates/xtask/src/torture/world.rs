//! What is put under faults: three brokers of which one may go, and three
//! gateways in front of them with a journal each.

use super::certificates::{Certificates, Holder};
use super::ledger::{Aside, Place};
use super::node::NodeClient;
use super::sick::{SICK, Sick};
use super::workload::{Workload, http};
use anyhow::{Context as _, Result, bail};
use barnabas_testkit::{Cluster, Gateway, Network, Signal};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Gateways, as behind a balancer.
pub(crate) const GATEWAYS: usize = 3;
/// Of each topic.
pub(crate) const PARTITIONS: i32 = 6;
/// What is not acknowledged for so long is delivered again.
pub(crate) const ACK_TIMEOUT: Duration = Duration::from_secs(6);
/// For whatever has no bound of its own: the machine may be slow and stand
/// still. What has not happened by then does not happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Where a gateway is reached.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) redis: String,
    pub(crate) http: String,
    pub(crate) grpc: String,
}

/// The gateways as their clients know them.
#[derive(Debug, Default)]
pub(crate) struct Fleet(Mutex<Vec<Option<Address>>>);

impl Fleet {
    /// The next gateway that is not known to be gone, and its number.
    pub(crate) fn pick(&self, turn: usize) -> Option<(usize, Address)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (0..known.len())
            .map(|step| (turn + step) % known.len())
            .find_map(|index| Some((index, known.get(index)?.clone()?)))
    }

    fn set(&self, index: usize, address: Option<Address>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() <= index {
            known.resize(index + 1, None);
        }
        if let Some(slot) = known.get_mut(index) {
            *slot = address;
        }
    }
}

/// Whom brokers let in.
pub(crate) const USER: &str = "gateway";
const PASSWORD: &str = "s3cret";

/// Everything that runs. It is kept from scenario to scenario.
pub(crate) struct World {
    pub(crate) kafka: Cluster,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) certificates: Certificates,
    pub(crate) sick: Sick,
    gateways: Vec<Option<Gateway>>,
    /// What gateways said that have gone since.
    last_words: Vec<(usize, String)>,
    binary: PathBuf,
    folder: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    topics: usize,
}

impl World {
    /// Starts all of it.
    pub(crate) fn start(binary: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut certificates = Certificates::create(folder.path())?;
        certificates.replace(Holder::Brokers, None)?;
        let kafka = Cluster::builder()
            .brokers(3)
            .heap_mb(256)
            // So that faults of the network befall what passes to them.
            .isolated()
            .sasl(USER, PASSWORD)
            .tls(&certificates.keystore())
            .access_control()
            .start_timeout(PATIENCE)
            .property("leader.imbalance.check.interval.seconds", "2")
            .start()?;
        let network = kafka.network().context("there is no network")?;
        certificates.replace(Holder::Gateways, Some(network.gateways()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        let client = http::client(&certificates.all())?;
        let mut world = Self {
            kafka,
            client,
            fleet: Arc::default(),
            certificates,
            sick: Sick::create(folder.path())?,
            gateways: (0..GATEWAYS).map(|_| None).collect(),
            last_words: Vec::new(),
            binary: binary.to_owned(),
            folder,
            runtime,
            topics: 0,
        };
        for index in 0..GATEWAYS {
            world.start_gateway(index)?;
        }
        Ok(world)
    }

    /// A folder of this world's own.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What passes between all of them.
    pub(crate) fn network(&self) -> Result<&Network> {
        self.kafka.network().context("there is no network")
    }

    /// How librdkafka gets to the brokers.
    pub(crate) fn access(&self) -> [(&'static str, String); 7] {
        [
            ("bootstrap.servers", self.kafka.sasl_bootstrap_servers()),
            ("security.protocol", "sasl_ssl".to_owned()),
            ("sasl.mechanism", "PLAIN".to_owned()),
            ("sasl.username", USER.to_owned()),
            ("sasl.password", PASSWORD.to_owned()),
            (
                "ssl.ca.location",
                self.certificates.roots().display().to_string(),
            ),
            // Certificates are made before brokers have addresses.
            ("ssl.endpoint.identification.algorithm", "none".to_owned()),
        ]
    }

    /// Where its clients run.
    pub(crate) fn runtime(&self) -> &tokio::runtime::Runtime {
        &self.runtime
    }

    /// A topic for one scenario.
    pub(crate) fn new_topic(&mut self, scenario: &str) -> Result<String> {
        self.topics += 1;
        let topic = format!("{scenario}-{}", self.topics);
        self.kafka.create_topic(&topic, PARTITIONS)?;
        Ok(topic)
    }

    fn gateway_folder(&self, index: usize) -> Result<PathBuf> {
        let folder = self.folder.path().join(format!("gateway-{index}"));
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Starts a gateway, with the journal that it had before, and tells the
    /// clients.
    pub(crate) fn start_gateway(&mut self, index: usize) -> Result<()> {
        let config = self.gateway_folder(index)?.join("barnabas.yaml");
        let journal = self.journal(index)?;
        let text = format!(
            "\
log: {{level: info}}
shutdown: {{deadline: 20s}}
durability: journal
journal:
  dir: {journal}
  segment_bytes: 1048576
clusters:
  default:
    properties:
      {access}
      reconnect.backoff.max.ms: 500
      topic.metadata.refresh.interval.ms: 2000
      socket.timeout.ms: 10000
    consume:
      initial_offset: oldest
      ack_timeout: {ack_timeout}s
      long_polling_timeout: 500ms
      commit_interval: 200ms
      revoke_wait: 2s
      retry_backoff: 200ms
      session_timeout: 10s
redis: {{listen: '{host}:0', tls: {tls}}}
http: {{listen: '{host}:0', tls: {tls}}}
grpc: {{listen: '{host}:0', tls: {tls}}}
replicas: {{advertised: '{host}:0', ca: {roots}}}
",
            journal = journal.display(),
            access = self
                .access()
                .map(|(key, value)| format!("{key}: '{value}'"))
                .join("\n      "),
            tls = format_args!(
                "{{cert: {}, key: {}}}",
                self.certificates.certificate().display(),
                self.certificates.key().display()
            ),
            host = self.network()?.gateways(),
            roots = self.certificates.roots().display(),
            ack_timeout = ACK_TIMEOUT.as_secs(),
        );
        std::fs::write(&config, text)?;
        let gateway = Gateway::builder(&self.binary)
            .args(["serve", "--config"])
            .arg(&config)
            .inside(self.network()?)
            .listeners(3)
            .start_timeout(PATIENCE);
        let environment = self.sick.environment();
        let environment = environment.iter().filter(|_| index == SICK);
        let gateway = environment
            .fold(gateway, |gateway, (name, value)| gateway.env(name, value))
            .spawn()?;
        let address = |place: usize| {
            let listening = gateway.listening().get(place);
            let listening = listening.context("the gateway does not listen")?;
            Ok::<_, anyhow::Error>(format!("{}:{}", listening.host, listening.port))
        };
        let address = Address {
            redis: address(0)?,
            http: address(1)?,
            grpc: address(2)?,
        };
        self.fleet.set(index, Some(address));
        if let Some(slot) = self.gateways.get_mut(index) {
            *slot = Some(gateway);
        }
        Ok(())
    }

    fn journal(&self, index: usize) -> Result<PathBuf> {
        Ok(match index {
            SICK => self.sick.journal(),
            _ => self.gateway_folder(index)?.join("journal"),
        })
    }

    /// What Kafka has refused of the journals' messages: they are kept in files of
    /// their own.
    pub(crate) fn set_aside(&self) -> Result<Aside> {
        let mut texts = Vec::new();
        for index in 0..GATEWAYS {
            let clusters = std::fs::read_dir(self.journal(index)?)?;
            for cluster in clusters {
                let cluster = cluster?.path();
                for name in ["refused.old", "refused"] {
                    // There is none as long as nothing was refused.
                    let bytes = std::fs::read(cluster.join(name)).unwrap_or_default();
                    texts.push(String::from_utf8_lossy(&bytes).into_owned());
                }
            }
        }
        Ok(Aside(texts))
    }

    /// A gateway that runs.
    pub(crate) fn gateway(&self, index: usize) -> Result<&Gateway> {
        let gateway = self.gateways.get(index).and_then(Option::as_ref);
        gateway.with_context(|| format!("gateway {index} does not run"))
    }

    /// SIGKILL; its clients notice by themselves.
    pub(crate) fn kill_gateway(&mut self, index: usize) -> Result<()> {
        self.gateway(index)?.signal(Signal::Kill)?;
        self.gateway(index)?.wait(PATIENCE)?;
        self.bury(index);
        Ok(())
    }

    /// SIGTERM; it must end well.
    pub(crate) fn stop_gateway(&mut self, index: usize) -> Result<()> {
        let (status, _) = self.gateway(index)?.terminate()?;
        self.bury(index);
        if !status.success() {
            bail!("gateway {index} ended with {status}");
        }
        Ok(())
    }

    fn bury(&mut self, index: usize) {
        self.fleet.set(index, None);
        if let Some(gateway) = self.gateways.get_mut(index).and_then(Option::take) {
            self.last_words.push((index, gateway.stderr()));
        }
    }

    /// What was said in earlier scenarios is of no interest any more.
    pub(crate) fn forget_last_words(&mut self) {
        self.last_words.clear();
    }

    /// What is wrong with the processes: one has ended by itself, or says that
    /// it has panicked.
    pub(crate) fn casualties(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (index, said) in &self.last_words {
            if said.contains("panicked at") {
                found.push(format!("gateway {index}, which has gone, had panicked"));
            }
        }
        for (index, gateway) in self.gateways.iter().enumerate() {
            let Some(gateway) = gateway else {
                continue;
            };
            if let Ok(Some(status)) = gateway.status() {
                found.push(format!("gateway {index} has ended with {status}"));
            }
            if gateway.stderr().contains("panicked at") {
                found.push(format!("gateway {index} has panicked"));
            }
        }
        found
    }

    /// The ends of the logs of all gateways.
    pub(crate) fn tails(&self) -> String {
        let gone = self.last_words.iter();
        let gone = gone.map(|(index, said)| format!("--- gateway {index}, gone\n{}\n", tail(said)));
        let running = self.gateways.iter().enumerate();
        let running = running.filter_map(|(index, gateway)| {
            let said = gateway.as_ref()?.stderr();
            Some(format!("--- gateway {index}\n{}\n", tail(&said)))
        });
        gone.chain(running).collect()
    }

    /// Everything that is in the topic.
    pub(crate) fn log(&self, topic: &str) -> Result<Vec<Place>> {
        let records = self.kafka.read_all(topic)?;
        let places = records.iter().map(|record| Place {
            partition: record.partition,
            offset: record.offset,
            value: record.value_text(),
        });
        Ok(places.collect())
    }

    /// Waits until each group has committed what it has acknowledged so far,
    /// and notes that.
    pub(crate) fn settle(&self, work: &Workload) -> Result<()> {
        for group in work.ledger.groups() {
            if group == NodeClient::GROUP {
                continue;
            }
            let acked = work.ledger.acknowledged(&group);
            let what = format!("{group} to commit what it has acknowledged");
            let mut left = acked.clone();
            let mut turn = 0;
            eventually(&what, || {
                turn += 1;
                let committed = self.committed(turn, &group, &work.topic)?;
                left.retain(|place| !committed.has(*place));
                Ok(left.is_empty())
            })
            .with_context(|| format!("{} of {} left", left.len(), acked.len()))?;
            work.ledger.committed(&group, &acked);
        }
        Ok(())
    }

    /// What Kafka has of a group's acknowledgements, read by a gateway.
    fn committed(&self, turn: usize, group: &str, topic: &str) -> Result<Committed> {
        let (_, address) = self.fleet.pick(turn).context("no gateway")?;
        let url = format!(
            "https://{}/v1/groups/{group}/topics/{topic}/offsets",
            address.http
        );
        let reply = self.runtime.block_on(async {
            let reply = self.client.get(&url).send().await?;
            Ok::<_, anyhow::Error>((reply.status(), reply.text().await?))
        });
        // It may be as much under the fault as others.
        Ok(match reply {
            Ok((status, text)) if status.is_success() => Committed::parse(&text),
            Ok((status, text)) => {
                eprintln!("{url}: {status} {text}");
                Committed::default()
            }
            Err(error) => {
                eprintln!("{url}: {error:#}");
                Committed::default()
            }
        })
    }
}

/// What a group has committed: offsets, and ranges above them.
#[derive(Debug, Default)]
struct Committed(Vec<Part>);

/// A partition, what is committed of it, and ranges above that.
type Part = (i32, i64, Vec<(i64, i64)>);

impl Committed {
    fn parse(text: &str) -> Self {
        let document: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let offsets = document.get("offsets").and_then(|list| list.as_array());
        let parsed = offsets.into_iter().flatten().filter_map(|one| {
            let partition = i32::try_from(one.get("partition")?.as_i64()?).ok()?;
            let committed = one.get("committed")?.as_i64()?;
            let ranges = one.get("acknowledged").and_then(|text| text.as_str());
            let ranges = ranges.unwrap_or_default().split(',').filter_map(|range| {
                let (from, to) = range.split_once('-')?;
                let (from, to): (i64, i64) = (from.parse().ok()?, to.parse().ok()?);
                Some((committed + from, committed + to))
            });
            Some((partition, committed, ranges.collect()))
        });
        Self(parsed.collect())
    }

    fn has(&self, (partition, offset): (i32, i64)) -> bool {
        self.0.iter().any(|(own, committed, ranges)| {
            let is_above = |(from, to): &(i64, i64)| (*from..*to).contains(&offset);
            *own == partition && (offset < *committed || ranges.iter().any(is_above))
        })
    }
}

/// Waits until `holds`.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    loop {
        // A machine that stands still may leave a question without an answer.
        let found = holds();
        if let Ok(true) = found {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            found?;
            bail!("waited {PATIENCE:?} in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The last lines.
pub(crate) fn tail(text: &str) -> String {
    const LINES: usize = 40;

    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(LINES);
    let lines: Vec<&str> = lines.into_iter().skip(skipped).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::Committed;

    #[test]
    fn commits_are_read_with_the_ranges_above_them() {
        let committed = Committed::parse(
            r#"{"offsets": [
                {"partition": 1, "committed": 10, "acknowledged": "2-4,7-8"},
                {"partition": 2, "committed": null, "acknowledged": null}]}"#,
        );
        let has: Vec<i64> = (8..20)
            .filter(|offset| committed.has((1, *offset)))
            .collect();
        assert_eq!(has, [8, 9, 12, 13, 17]);
        assert!(!committed.has((2, 0)));
        assert!(!Committed::parse("nonsense").has((1, 0)));
    }
}
