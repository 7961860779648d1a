//! `cargo xtask hostile [attack …|all] [--seconds N]`: well-behaved clients of
//! all front ends, undisturbed and while others attack the same gateway.
//!
//! The attacks are testkit's (`hostile`), each in a process of its own with the
//! lowest priority: attackers have machines of their own, and what theirs
//! spends is not the gateway's. `clients` behave well; `report` has the results.

mod clients;
mod report;

use crate::run;
use crate::torture::{self, BUILT};
use anyhow::{Context as _, Result, bail};
use barnabas_testkit::hostile::{ATTACKS, Attack, Size, Target};
use barnabas_testkit::{Cluster, Gateway};
use clients::{Clients, Counts};
use report::{Report, Row};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The part of this that is a process of its own.
const STRIKE: &str = "--strike";
/// For whatever has no bound of its own: the machine may be slow.
const PATIENCE: Duration = Duration::from_secs(180);
/// Until the clients have found their pace.
const WARM_UP: Duration = Duration::from_secs(3);

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let Some((STRIKE, rest)) = arguments
        .split_first()
        .map(|(first, rest)| (first.as_str(), rest))
    {
        return strike(rest);
    }
    raise_file_limit();
    let words = Words::parse(arguments)?;
    let world = World::start(&binary(words.is_built)?)?;
    let mut report = Report::new(&words.line, words.is_built);
    for attack in &words.attacks {
        eprintln!("hostile: {}", attack.name);
        let row = world.bear(attack, words.length);
        let row = row.with_context(|| format!("{}\n{}", attack.name, world.gateway.stderr()))?;
        report.add(row);
    }
    report.print();
    report.write_json()?;
    if words.write_docs {
        report.write_docs()?;
    }
    report.close()
}

/// 10,000 connections are more than shells allow a process.
fn raise_file_limit() {
    if let Err(error) = rlimit::increase_nofile_limit(65_536) {
        eprintln!("hostile: the limit of open files: {error}");
    }
}

/// The gateway under test: a release build unless the debug build is to be
/// taken as it is, or `GATEWAY_BINARY` names another.
fn binary(is_built: bool) -> Result<PathBuf> {
    if is_built || std::env::var_os("GATEWAY_BINARY").is_some() {
        return torture::gateway();
    }
    run::checked(run::cargo().args(["build", "--release", "--package", "barnabas-server"]))?;
    Ok(run::target().join("release/barnabas"))
}

/// One attack, as a process: its name, the front ends' addresses, a topic and
/// how many seconds. What the attackers have seen is written as JSON.
fn strike(words: &[String]) -> Result<()> {
    let [name, redis, http, grpc, topic, seconds] = words else {
        bail!("{STRIKE} needs an attack, three addresses, a topic and seconds");
    };
    raise_file_limit();
    let attack = Attack::named(name).with_context(|| format!("no such attack: {name}"))?;
    let target = Target {
        redis: redis.parse()?,
        http: http.parse()?,
        grpc: grpc.parse()?,
        topic: topic.clone(),
    };
    let length = Duration::from_secs(seconds.parse()?);
    let seen = attack.run(&target, Size::large(length))?;
    println!("{}", seen.to_json());
    Ok(())
}

/// What is attacked.
struct World {
    gateway: Gateway,
    target: Target,
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
    _kafka: Cluster,
}

impl World {
    fn start(binary: &Path) -> Result<Self> {
        let kafka = Cluster::builder()
            .heap_mb(256)
            .start_timeout(PATIENCE)
            .start()?;
        let topic = "hostile";
        kafka.create_topic(topic, 4)?;
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("barnabas.yaml");
        // Every limit is the default.
        let text = format!(
            "clusters:\n  default:\n    properties: \
             {{bootstrap.servers: '{}'}}\n    consume: {{initial_offset: oldest}}\n\
             redis: {{listen: '127.0.0.1:0', reply: pair}}\nhttp: {{listen: '127.0.0.1:0'}}\n\
             grpc: {{listen: '127.0.0.1:0'}}\n",
            kafka.bootstrap_servers()
        );
        std::fs::write(&config, text)?;
        let gateway = Gateway::builder(binary)
            .args(["serve", "--config"])
            .arg(&config)
            .listeners(3)
            .start_timeout(PATIENCE)
            .spawn()?;
        let address = |place: usize| {
            let listening = gateway.listening().get(place);
            let listening = listening.context("the gateway does not listen")?;
            Ok::<_, anyhow::Error>(format!("{}:{}", listening.host, listening.port).parse()?)
        };
        let target = Target {
            redis: address(0)?,
            http: address(1)?,
            grpc: address(2)?,
            topic: topic.to_owned(),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        Ok(Self {
            gateway,
            target,
            runtime,
            _folder: folder,
            _kafka: kafka,
        })
    }

    /// Well-behaved clients, alone and then beside the attack.
    fn bear(&self, attack: &'static Attack, length: Duration) -> Result<Row> {
        let clients = Clients::start(&self.runtime, &self.target);
        std::thread::sleep(WARM_UP);
        let quiet = self.watch(&clients, length)?;
        let begun = self.gateway.resident_bytes()?;
        let mut attacker = self.attacker(attack, length)?;
        let during = self.watch(&clients, length);
        let seen = attacker.end(length);
        let (during, seen) = (during?, seen?);
        clients.stop(&self.runtime);
        // Once more, by clients that come now.
        let after = Clients::start(&self.runtime, &self.target);
        let served = after.all_are_served(PATIENCE);
        after.stop(&self.runtime);
        Ok(Row {
            attack,
            quiet,
            during,
            begun,
            seen,
            is_alive: self.gateway.status()?.is_none()
                && !self.gateway.stderr().contains("panicked at"),
            is_served_after: served,
        })
    }

    /// What the clients get done in this time, and what the gateway takes.
    fn watch(&self, clients: &Clients, length: Duration) -> Result<Watched> {
        let before = clients.counts();
        let started = Instant::now();
        let mut watched = Watched::default();
        while started.elapsed() < length {
            watched.resident = watched.resident.max(self.gateway.resident_bytes()?);
            watched.threads = watched.threads.max(self.gateway.threads()?.len());
            watched.descriptors = watched.descriptors.max(self.gateway.descriptors()?);
            std::thread::sleep(Duration::from_millis(100));
        }
        watched.seconds = started.elapsed().as_secs_f64();
        watched.counts = clients.counts().since(&before);
        Ok(watched)
    }

    fn attacker(&self, attack: &Attack, length: Duration) -> Result<Attacker> {
        let own = std::env::current_exe()?;
        let Target {
            redis,
            http,
            grpc,
            topic,
        } = &self.target;
        let child = Command::new("nice")
            .args(["-n", "19"])
            .arg(own)
            .args(["hostile", STRIKE, attack.name])
            .args([redis, http, grpc].map(ToString::to_string))
            .args([topic, &length.as_secs().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the attacker")?;
        Ok(Attacker(child))
    }
}

/// What was measured for a while.
#[derive(Default)]
pub(crate) struct Watched {
    seconds: f64,
    counts: Counts,
    resident: u64,
    threads: usize,
    descriptors: usize,
}

/// The process of an attack; ended with this.
struct Attacker(std::process::Child);

impl Attacker {
    /// What it has seen: it may finish what it has begun.
    fn end(&mut self, length: Duration) -> Result<serde_json::Value> {
        let started = Instant::now();
        while self.0.try_wait()?.is_none() {
            if started.elapsed() > length + PATIENCE {
                self.0.kill()?;
                bail!("the attacker does not end");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let mut text = String::new();
        if let Some(stdout) = &mut self.0.stdout {
            std::io::Read::read_to_string(stdout, &mut text)?;
        }
        serde_json::from_str(&text).with_context(|| format!("the attacker has said {text:?}"))
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was typed.
struct Words {
    attacks: Vec<&'static Attack>,
    length: Duration,
    write_docs: bool,
    is_built: bool,
    line: String,
}

impl Words {
    fn parse(arguments: &[String]) -> Result<Self> {
        let typed = arguments.iter().map(String::as_str);
        let shown = typed.clone().filter(|word| *word != "--write-docs");
        let mut words = Self {
            attacks: Vec::new(),
            length: Duration::from_secs(10),
            write_docs: false,
            is_built: false,
            line: shown.collect::<Vec<_>>().join(" "),
        };
        let mut rest = typed;
        while let Some(word) = rest.next() {
            match word {
                "all" => words.attacks.extend(ATTACKS),
                "--seconds" => {
                    let seconds = rest.next().context("--seconds N")?.parse::<u64>()?;
                    words.length = Duration::from_secs(seconds.max(1));
                }
                "--write-docs" => words.write_docs = true,
                BUILT => words.is_built = true,
                name => words.attacks.push(Attack::named(name).with_context(|| {
                    let names: Vec<&str> = ATTACKS.iter().map(|attack| attack.name).collect();
                    format!(
                        "no such attack: {name}; there are: all, {}",
                        names.join(", ")
                    )
                })?),
            }
        }
        if words.attacks.is_empty() {
            words.attacks.extend(ATTACKS);
        }
        Ok(words)
    }
}

#[cfg(test)]
mod tests {
    use super::{ATTACKS, Words};

    #[test]
    fn attacks_are_chosen_by_name() -> anyhow::Result<()> {
        let parsed = |line: &str| {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Words::parse(&arguments)
        };
        for (line, count) in [("", ATTACKS.len()), ("all", ATTACKS.len()), ("bombs", 1)] {
            assert_eq!(parsed(line)?.attacks.len(), count, "{line}");
        }
        let words = parsed("bombs --seconds 3 --built --write-docs")?;
        assert_eq!((words.length.as_secs(), words.is_built), (3, true));
        assert_eq!(words.line, "bombs --seconds 3 --built");
        assert!(parsed("kindness").is_err());
        assert!(parsed("--seconds").is_err());
        Ok(())
    }
}
