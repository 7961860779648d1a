//! Clients that behave well: of each front end some that produce over a
//! connection of their own, one that comes with a new connection for each
//! message, and one that consumes. Each has a pace, far below what the gateway
//! can do: what is measured is whether it is served, not the machine.

use anyhow::{Context as _, Result, bail};
use barnabas_grpc::proto::kafka_pixy_client::KafkaPixyClient;
use barnabas_grpc::proto::{ConsNAckRq, ProdRq};
use barnabas_testkit::hostile::Target;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;
use tonic::transport::{Channel, Endpoint};

/// That produce, of each front end.
const PRODUCERS: usize = 4;
/// Between the requests of one.
const PACE: Duration = Duration::from_millis(20);
/// Between those of who comes anew each time.
const NEW_PACE: Duration = Duration::from_millis(100);
/// A request that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(30);

/// What clients do, in the order of the table.
pub(crate) const KINDS: [&str; 9] = [
    "redis",
    "redis new",
    "redis consume",
    "http",
    "http new",
    "http consume",
    "grpc",
    "grpc new",
    "grpc consume",
];

/// Requests that were answered well and that were not, by kind.
#[derive(Clone, Default)]
pub(crate) struct Counts(pub(crate) Vec<(u64, u64)>);

impl Counts {
    pub(crate) fn since(&self, before: &Self) -> Self {
        let both = self.0.iter().zip(&before.0);
        Self(
            both.map(|(now, then)| (now.0 - then.0, now.1 - then.1))
                .collect(),
        )
    }
}

#[derive(Default)]
struct Shared {
    done: [AtomicU64; KINDS.len()],
    failed: [AtomicU64; KINDS.len()],
    is_over: AtomicBool,
}

/// Who produces or consumes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Producer,
    New,
    Consumer,
}

/// Clients at work.
pub(crate) struct Clients {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Clients {
    pub(crate) fn start(runtime: &tokio::runtime::Runtime, target: &Target) -> Self {
        let shared = Arc::new(Shared::default());
        let mut tasks = Vec::new();
        let roles = [Role::New, Role::Consumer];
        let roles = std::iter::repeat_n(Role::Producer, PRODUCERS).chain(roles);
        for role in roles {
            for front_end in 0..3 {
                let (shared, target) = (Arc::clone(&shared), target.clone());
                tasks.push(runtime.spawn(work(shared, target, front_end, role)));
            }
        }
        Self { shared, tasks }
    }

    pub(crate) fn counts(&self) -> Counts {
        let both = self.shared.done.iter().zip(&self.shared.failed);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts(
            both.map(|(done, failed)| (read(done), read(failed)))
                .collect(),
        )
    }

    /// Waits until each kind has been served at least once.
    pub(crate) fn all_are_served(&self, patience: Duration) -> bool {
        let started = Instant::now();
        while self.counts().0.iter().any(|(done, _)| *done == 0) {
            if started.elapsed() > patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    pub(crate) fn stop(self, runtime: &tokio::runtime::Runtime) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        runtime.block_on(async {
            for task in self.tasks {
                let _ = task.await;
            }
        });
    }
}

/// A connection of one of the front ends.
enum Client {
    Redis(BufReader<TcpStream>),
    Http(reqwest::Client, String),
    Grpc(KafkaPixyClient<Channel>),
}

async fn work(shared: Arc<Shared>, target: Target, front_end: usize, role: Role) {
    let kind = front_end * 3 + role as usize;
    let pace = if role == Role::New { NEW_PACE } else { PACE };
    let mut ticks = tokio::time::interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut client = None;
    while !shared.is_over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let asked = tokio::time::timeout(LIMIT, ask(&mut client, &target, front_end, role)).await;
        let result = asked.unwrap_or_else(|_| bail_late());
        let counts = if result.is_ok() {
            &shared.done
        } else {
            &shared.failed
        };
        if let Some(count) = counts.get(kind) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if result.is_err() || role == Role::New {
            client = None;
        }
    }
}

fn bail_late() -> Result<()> {
    bail!("no answer in {LIMIT:?}")
}

async fn ask(
    client: &mut Option<Client>,
    target: &Target,
    front_end: usize,
    role: Role,
) -> Result<()> {
    if client.is_none() {
        *client = Some(connect(target, front_end, role).await?);
    }
    let topic = &target.topic;
    match client.as_mut().context("no client")? {
        Client::Redis(socket) if role == Role::Consumer => {
            let command = format!("BLPOP topics:{topic} 1\r\n");
            socket.get_mut().write_all(command.as_bytes()).await?;
            let lines = match line(socket).await?.as_str() {
                // Two texts with their lengths.
                "*2" => 4,
                "*-1" | "$-1" | "_" => 0,
                other => bail!("{other}"),
            };
            for _ in 0..lines {
                line(socket).await?;
            }
            Ok(())
        }
        Client::Redis(socket) => {
            let command = format!("RPUSHX topics:{topic} good\r\n");
            socket.get_mut().write_all(command.as_bytes()).await?;
            match line(socket).await?.as_str() {
                ":1" => Ok(()),
                other => bail!("{other}"),
            }
        }
        Client::Http(http, base) => {
            let request = match role {
                Role::Consumer => http.post(format!(
                    "{base}/v1/groups/good/topics/{topic}/records?wait=1000"
                )),
                _ => http
                    .post(format!("{base}/v1/topics/{topic}/records"))
                    .body("good"),
            };
            let reply = request.send().await?.error_for_status()?;
            reply.bytes().await?;
            Ok(())
        }
        Client::Grpc(grpc) if role == Role::Consumer => {
            let request = ConsNAckRq {
                topic: topic.clone(),
                group: "good-grpc".to_owned(),
                auto_ack: true,
                ..ConsNAckRq::default()
            };
            match grpc.consume_n_ack(request).await {
                Ok(_) => Ok(()),
                // Nothing there in time.
                Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
                Err(status) => bail!("{status}"),
            }
        }
        Client::Grpc(grpc) => {
            let request = ProdRq {
                topic: topic.clone(),
                message: "good".into(),
                ..ProdRq::default()
            };
            grpc.produce(request).await?;
            Ok(())
        }
    }
}

async fn connect(target: &Target, front_end: usize, role: Role) -> Result<Client> {
    Ok(match front_end {
        0 => Client::Redis(redis(target.redis, role).await?),
        1 => {
            let http = reqwest::Client::builder().tcp_nodelay(true).build()?;
            Client::Http(http, format!("http://{}", target.http))
        }
        _ => {
            let endpoint = Endpoint::from_shared(format!("http://{}", target.grpc))?;
            let channel = endpoint.tcp_nodelay(true).connect().await?;
            Client::Grpc(KafkaPixyClient::new(channel))
        }
    })
}

async fn redis(address: SocketAddr, role: Role) -> Result<BufReader<TcpStream>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut socket = BufReader::new(socket);
    if role == Role::Consumer {
        let port = socket.get_ref().local_addr()?.port();
        let command = format!("CLIENT SETNAME good-redis:{port}\r\n");
        socket.get_mut().write_all(command.as_bytes()).await?;
        // rafka's answer is a text with its length.
        if line(&mut socket).await?.starts_with('$') {
            line(&mut socket).await?;
        }
    }
    Ok(socket)
}

async fn line(socket: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    if socket.read_line(&mut line).await? == 0 {
        bail!("closed");
    }
    Ok(line.trim_end().to_owned())
}
