//! Ten times more than a slow network to Kafka takes: memory grows by its bound and 32 MB at most,
//! and who finds no room is told so and when to come back (contract, `producer-http.md`,
//! section 9).

use crate::support::{address, binary, eventually, file, text};
use barnabas_testkit::{Cluster, Conditions, Gateway, Link};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What passes to Kafka and back, in bytes a second.
const RATE: u32 = 400_000;
/// How long it is offered more, at least; a slow machine needs longer to offer
/// enough.
const LENGTH: Duration = Duration::from_secs(12);
const LONGEST: Duration = Duration::from_secs(120);
/// More than ten times what passes meanwhile.
const TEN_TIMES: u64 = 10 * RATE as u64 * LENGTH.as_secs();
const WORKERS: usize = 16;
/// The journal's buffers and its feeder's queue (`docs/journal.md`); on disk it has more.
const JOURNAL_BOUND: u64 = 96 << 20;
const JOURNAL: u64 = 128 << 20;
/// What is configured.
const BOUND: u64 = 32 << 20;
/// What may come beside it: 50 MB less what an idle process has (of a release build).
const SURPLUS: u64 = 32_000_000;

/// What clients have seen.
#[derive(Default)]
struct Seen {
    offered: AtomicU64,
    taken: AtomicU64,
    refused: AtomicU64,
}

impl Seen {
    fn is_enough(&self) -> bool {
        self.offered.load(Ordering::Relaxed) >= TEN_TIMES
            && self.refused.load(Ordering::Relaxed) > 0
    }
}

/// Posts this body again and again; the most that the process has had meanwhile.
async fn press(gateway: &Gateway, url: &str, kind: &'static str, body: String) -> (Arc<Seen>, u64) {
    let seen = Arc::<Seen>::default();
    let client = reqwest::Client::new();
    let is_over = Arc::new(AtomicBool::new(false));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let (seen, client) = (Arc::clone(&seen), client.clone());
        let is_over = Arc::clone(&is_over);
        let (url, body) = (url.to_owned(), body.clone());
        workers.spawn(async move {
            while !is_over.load(Ordering::Relaxed) {
                let request = client.post(&url).header("content-type", kind);
                // Who waits for room is not waited for.
                let request = request.timeout(Duration::from_secs(5)).body(body.clone());
                seen.offered.fetch_add(body.len() as u64, Ordering::Relaxed);
                let Ok(reply) = request.send().await else {
                    continue;
                };
                match reply.status().as_u16() {
                    200 | 202 => seen.taken.fetch_add(1, Ordering::Relaxed),
                    429 | 503 => {
                        let after = reply.headers()["retry-after"].to_str().unwrap();
                        assert!(after.parse::<u64>().unwrap() >= 1, "{after}");
                        seen.refused.fetch_add(1, Ordering::Relaxed)
                    }
                    other => panic!("{other}: {:?}", reply.text().await),
                };
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
    }
    let started = Instant::now();
    let mut most = 0;
    while started.elapsed() < LENGTH || !seen.is_enough() && started.elapsed() < LONGEST {
        most = most.max(gateway.resident_bytes().unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    workers.join_all().await;
    (seen, most.max(gateway.resident_bytes().unwrap()))
}

fn check(what: &str, seen: &Seen, grown: u64, bound: u64) {
    let offered = seen.offered.load(Ordering::Relaxed);
    assert!(offered >= TEN_TIMES, "{what}: {offered} of {TEN_TIMES}");
    assert!(seen.taken.load(Ordering::Relaxed) > 0, "{what}");
    assert!(seen.refused.load(Ordering::Relaxed) > 0, "{what}");
    assert!(grown < bound + SURPLUS, "{what}: {grown} bytes more");
}

fn slow() -> Cluster {
    let kafka = Cluster::builder().isolated().start().unwrap();
    kafka.create_topic("slow", 1).unwrap();
    let network = kafka.network().unwrap();
    network.set(Link::Brokers, Conditions::limited(RATE));
    kafka
}

#[tokio::test(flavor = "multi_thread")]
async fn kprf_refuses_what_it_has_no_room_for() {
    let kafka = slow();
    let (_folder, path) = file(
        "kprf.yaml",
        &format!(
            "http: {{listen: 127.0.0.1, port: 0, metrics_port: 0}}\nkafka: {{brokers: ['{}'], \
             max_buffered_bytes: {BOUND}}}\nshutdown_timeout_ms: 1000\n",
            kafka.bootstrap_servers()
        ),
    );
    let gateway = Gateway::builder(binary())
        .args(["kprf", "-c", text(&path)])
        .listeners(0)
        .spawn()
        .unwrap();
    let port = eventually("kprf's port", || {
        let log = gateway.stdout();
        let mut lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = lines.find(|line| line["msg"] == "starting main http server")?;
        line["port"].as_u64()
    });
    let before = gateway.resident_bytes().unwrap();
    // Nothing that compresses away.
    let noise = |size: usize| -> String { (0..size).map(|_| fastrand::alphanumeric()).collect() };
    let records: Vec<Value> = (0..50)
        .map(|_| json!({"topic": "slow", "data": noise(4_096)}))
        .collect();
    let body = json!({ "records": records }).to_string();
    let url = format!("http://127.0.0.1:{port}/push");
    let (seen, most) = press(&gateway, &url, "application/json", body).await;
    check("kprf", &seen, most.saturating_sub(before), BOUND);
}

/// The native API, with a queue and a journal that are soon full.
fn serve(kafka: &Cluster) -> (tempfile::TempDir, Gateway) {
    let kbytes = BOUND >> 10;
    let (folder, path) = file(
        "barnabas.yaml",
        &format!(
            "clusters:\n  main:\n    properties: {{bootstrap.servers: '{}'}}\n    producer: \
             {{queue.buffering.max.kbytes: {kbytes}}}\nredis: {{listen: []}}\nhttp: {{listen: \
             '127.0.0.1:0'}}\njournal: {{max_bytes: {JOURNAL}}}\nshutdown: {{deadline: 2s}}\n",
            kafka.bootstrap_servers()
        ),
    );
    let gateway = Gateway::builder(binary())
        .args(["serve", "--config", text(&path)])
        .env("BARNABAS_JOURNAL__DIR", folder.path().join("journal"))
        .spawn()
        .unwrap();
    (folder, gateway)
}

/// Presses the native API; what clients have seen, and by how much it has grown.
async fn press_native(durability: &str) -> (Arc<Seen>, u64) {
    let kafka = slow();
    let (_folder, gateway) = serve(&kafka);
    let before = gateway.resident_bytes().unwrap();
    let address = address(&gateway, 0);
    let url = format!("http://{address}/v1/topics/slow/records?durability={durability}");
    let body: String = (0..200_000).map(|_| fastrand::alphanumeric()).collect();
    let (seen, most) = press(&gateway, &url, "text/plain", body).await;
    (seen, most.saturating_sub(before))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_refuses_what_it_has_no_room_for() {
    let (seen, grown) = press_native("journal").await;
    check("journal", &seen, grown, JOURNAL_BOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_refuses_what_it_has_no_room_for() {
    let (seen, grown) = press_native("memory").await;
    check("memory", &seen, grown, BOUND);
}
