//! Clients that mean no good, against a whole gateway (`testkit::hostile`): each is answered as
//! its protocol has it or ended in time, memory stays bounded, and others are served meanwhile
//! and afterwards. `cargo xtask hostile` does the same with many more of them.

use crate::support::{address, binary, file, text};
use barnabas_grpc::proto::ProdRq;
use barnabas_grpc::proto::kafka_pixy_client::KafkaPixyClient;
use barnabas_testkit::hostile::{Attack, Seen, Size, Target};
use barnabas_testkit::{Gateway, shared, topic_name};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tonic::transport::Channel;

/// For whatever has no bound of its own: the machine may be slow and stand still.
const PATIENCE: Duration = Duration::from_secs(60);
/// What clients may take their time with, as it is configured here.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections of each front end, as configured: fewer than attackers have.
const CONNECTIONS: usize = 150;
/// Calls of gRPC at the same time.
const REQUESTS: usize = 5_000;
/// What a front end may keep of what has come in part: the largest of what is configured.
const ROOM: u64 = 128 << 20;
/// Beside that: what the kernel's buffers feed into 150 connections (at most 64 KiB of a
/// Redis or HTTP/1 client, 2 MiB of an HTTP/2 one that is not looked at), librdkafka's queue
/// (64 MiB of one connection), 5,000 calls that run and four times as many that wait (a few kB each), and what a
/// debug build's allocator holds back, buffers that were moved to grow among it.
const BESIDE: u64 = 256 << 20;

/// A gateway with all front ends, and a topic.
struct World {
    gateway: Gateway,
    target: Target,
    _folder: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        Self::start_with(CLIENT_TIMEOUT)
    }

    fn start_with(client_timeout: Duration) -> Self {
        let topic = topic_name("hostile");
        shared().create_topic(&topic, 1).unwrap();
        let limits = format!(
            "max_connections: {CONNECTIONS}, client_timeout: {}s",
            client_timeout.as_secs()
        );
        let (folder, path) = file(
            "barnabas.yaml",
            &format!(
                "clusters:\n  main:\n    properties: {{bootstrap.servers: '{}'}}\n\
                 redis: {{listen: '127.0.0.1:0', cluster: main, max_input_bytes: {ROOM}, {limits}}}\n\
                 http: {{listen: '127.0.0.1:0', max_bodies_bytes: 67108864, {limits}}}\n\
                 grpc: {{listen: '127.0.0.1:0', max_messages_bytes: 8388608, \
                 max_requests: {REQUESTS}, {limits}}}\n\
                 shutdown: {{deadline: 2s}}\n",
                shared().bootstrap_servers()
            ),
        );
        let gateway = Gateway::builder(binary())
            .args(["serve", "--config", text(&path)])
            .listeners(3)
            .spawn()
            .unwrap();
        let place = |index| address(&gateway, index).parse().unwrap();
        let target = Target {
            redis: place(0),
            http: place(1),
            grpc: place(2),
            topic,
        };
        let world = Self {
            gateway,
            target,
            _folder: folder,
        };
        world.is_served("at first");
        world
    }

    /// New clients of all front ends get something done.
    fn is_served(&self, when: &str) {
        for (name, asks) in [
            ("redis", redis as fn(&Target) -> Option<()>),
            ("http", http),
            ("grpc", grpc),
        ] {
            let started = Instant::now();
            while asks(&self.target).is_none() {
                assert!(started.elapsed() < PATIENCE, "{name} is not served {when}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Attacks, while others go on; what the attackers have seen.
    fn bears(&self, name: &str, length: Duration) -> Seen {
        let attack = Attack::named(name).unwrap();
        let size = Size::small(length);
        let before = self.gateway.resident_bytes().unwrap();
        let (is_over, rounds, most) =
            (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let seen = std::thread::scope(|scope| {
            scope.spawn(|| {
                loop {
                    self.is_served(&format!("during {name}"));
                    rounds.fetch_add(1, Ordering::Relaxed);
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let now = self.gateway.resident_bytes().unwrap();
                    most.fetch_max(now, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            // Or the others would go on for ever.
            let attacked = catch_unwind(AssertUnwindSafe(|| attack.run(&self.target, size)));
            is_over.store(true, Ordering::Relaxed);
            attacked.unwrap().unwrap()
        });
        self.is_served(&format!("after {name}"));
        assert!(rounds.load(Ordering::Relaxed) > 0, "{name}");
        let grown = most.load(Ordering::Relaxed).saturating_sub(before);
        println!("{name}: {} MiB more, {seen:?}", grown >> 20);
        assert!(
            grown < ROOM + BESIDE,
            "{name}: {grown} bytes more; {seen:?}"
        );
        assert_eq!(self.gateway.status().unwrap(), None, "{name}");
        assert!(!self.gateway.stderr().contains("panicked"), "{name}");
        seen
    }

    /// The same; the server ends every attacker.
    fn ends(&self, name: &str) -> Seen {
        let started = Instant::now();
        let seen = self.bears(name, 2 * PATIENCE);
        assert_eq!(seen.ended, seen.opened, "{name}: {seen:?}");
        assert!(started.elapsed() < 2 * PATIENCE, "{name}: {seen:?}");
        seen
    }
}

/// A client with a connection of its own; `None` if it was not served.
fn redis(target: &Target) -> Option<()> {
    let mut client = TcpStream::connect(target.redis).ok()?;
    client.set_read_timeout(Some(PATIENCE)).ok()?;
    let push = format!("RPUSHX topics:{} good\r\n", target.topic);
    client.write_all(push.as_bytes()).ok()?;
    let mut reply = [0; 4];
    client.read_exact(&mut reply).ok()?;
    (&reply == b":1\r\n").then_some(())
}

fn http(target: &Target) -> Option<()> {
    let mut client = TcpStream::connect(target.http).ok()?;
    client.set_read_timeout(Some(PATIENCE)).ok()?;
    let request = format!(
        "POST /v1/topics/{}/records HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ngood",
        target.topic
    );
    client.write_all(request.as_bytes()).ok()?;
    let mut reply = [0; 12];
    client.read_exact(&mut reply).ok()?;
    (&reply == b"HTTP/1.1 200").then_some(())
}

fn grpc(target: &Target) -> Option<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    let call = async {
        let channel = Channel::from_shared(format!("http://{}", target.grpc)).ok()?;
        let mut client = KafkaPixyClient::new(channel.connect().await.ok()?);
        let request = ProdRq {
            topic: target.topic.clone(),
            message: "good".into(),
            ..ProdRq::default()
        };
        client.produce(request).await.ok().map(drop)
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, call).await.ok().flatten() })
}

#[test]
fn silent_and_slow_connections_keep_nobody_out() {
    let world = World::start();
    // Redis clients may be idle for ever, as long as there is room.
    let seen = world.bears("half-open-redis", Duration::from_secs(20));
    assert!(seen.ended >= seen.opened - CONNECTIONS as u64, "{seen:?}");
    for name in [
        "half-open-http",
        "half-open-grpc",
        "slow-loris-redis",
        "slow-loris-http",
        "slow-loris-grpc",
        "slow-bodies-redis",
    ] {
        world.ends(name);
    }
    let seen = world.ends("slow-bodies-http");
    assert!(seen.answers("HTTP/1.1 400") > 0, "{seen:?}");
    // The call is answered; the connection may go on.
    let seen = world.bears("slow-bodies-grpc", Duration::from_secs(20));
    assert!(seen.answers("HEADERS") > 0, "{seen:?}");
}

#[test]
fn who_does_not_read_is_given_up() {
    let world = World::start();
    world.ends("never-reading-redis");
    world.ends("never-reading-http");
    world.bears("never-reading-grpc", Duration::from_secs(5));
    world.bears("control-flood", Duration::from_secs(5));
}

#[test]
fn bodies_and_commands_take_no_more_than_their_room() {
    let world = World::start();
    let seen = world.bears("huge-bodies", Duration::ZERO);
    assert!(
        seen.answers("-ERR Protocol error: invalid bulk length") > 0,
        "{seen:?}"
    );
    assert_eq!(seen.answers("HTTP/1.1 413"), 2, "{seen:?}");
    // What Kafka-Pixy's asynchronous requests lose is only counted.
    assert_eq!(seen.answers("HTTP/1.1 200"), 2, "{seen:?}");
    // The message is refused, or the client told to go that sends beyond its window.
    let told = seen.answers("HEADERS") + seen.answers("GOAWAY 3");
    assert!(told > 0, "{seen:?}");
    let seen = world.ends("unfinished-redis");
    let refused = "-ERR the commands of other clients take all the room";
    assert!(seen.answers(refused) > 0, "{seen:?}");
    let seen = world.ends("unfinished-http");
    assert!(seen.answers("HTTP/1.1 429") > 0, "{seen:?}");
    let seen = world.bears("unfinished-grpc", Duration::from_secs(20));
    assert!(seen.answers("HEADERS") > 0, "{seen:?}");
    let seen = world.bears("bombs", Duration::ZERO);
    // An array that is too large, and lines of which one is.
    assert_eq!(seen.answers("HTTP/1.1 413"), 2, "{seen:?}");
    assert_eq!(seen.answers("HTTP/1.1 207"), 2, "{seen:?}");
    let told = seen.answers("HEADERS") + seen.answers("GOAWAY 3");
    assert!(told > 0, "{seen:?}");
    let seen = world.bears("deep-json", Duration::ZERO);
    assert_eq!(seen.answers("HTTP/1.1 4"), 4, "{seen:?}");
    assert!(
        seen.answers("-CONS Error parsing configuration") > 0,
        "{seen:?}"
    );
}

#[test]
fn good_requests_in_bad_form_are_answered() {
    // They are slow themselves.
    let world = World::start_with(PATIENCE);
    let seen = world.bears("one-byte-writes", Duration::ZERO);
    for answer in [":1", "HTTP/1.1 200", "HEADERS"] {
        assert!(
            seen.answers(answer) >= seen.opened / 3,
            "{answer}: {seen:?}"
        );
    }
    let seen = world.bears("pipeline", Duration::ZERO);
    assert_eq!(seen.answers("-"), 0, "{seen:?}");
    // `+PONG` and `:1`, and over HTTP at least a status line, of each of four clients.
    let requests = 4 * Size::small(Duration::ZERO).requests;
    let least = requests / 2 * (7 + 4) + requests * 50;
    assert!(seen.received > least, "{seen:?}");
}

#[test]
fn floods_of_headers_and_frames_end_their_connection() {
    let world = World::start();
    let seen = world.bears("header-flood", Duration::ZERO);
    assert_eq!(seen.answers("HTTP/1.1 431"), 2, "{seen:?}");
    // ENHANCE_YOUR_CALM (RFC 9113, section 7).
    assert_eq!(seen.answers("GOAWAY 11"), 2, "{seen:?}");
    assert_eq!(seen.ended, seen.opened, "{seen:?}");
    for name in ["rapid-reset", "continuation-flood"] {
        let seen = world.bears(name, Duration::ZERO);
        assert!(seen.answers("GOAWAY 11") > 0, "{name}: {seen:?}");
        assert_eq!(seen.ended, seen.opened, "{name}: {seen:?}");
    }
}
