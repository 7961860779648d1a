//! Several gateways of the same groups behind a plain load balancer, of which
//! one is killed.
//!
//! The bound that is tested: what was acknowledged (200) comes again only if
//! its owner was killed before it could commit, that is within the commit
//! interval and the commit's way to the broker.
//!
//! In figures, while the group is stable: the owner looks every 100 ms whether
//! the interval of 200 ms is over, and sends a commit when the last one has
//! been answered. An acknowledgement is thus in a commit 300 ms later plus the
//! rest of one round trip, and in the broker's log after the way there: what
//! is in the socket then outlives the process. [`BEFORE`] leaves 600 ms for
//! each of the two, which take a few milliseconds where nothing else runs.
//!
//! What is asked after the kill only the living answer, whose acknowledgements
//! do not come again at all.

use crate::support::{binary, file};
use barnabas_testkit::{Gateway, NewRecord, Signal, shared, topic_name};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const COMMIT_INTERVAL: Duration = Duration::from_millis(200);
/// What was acknowledged so long before the kill has been committed.
const BEFORE: Duration = Duration::from_millis(1_500);
const PARTITIONS: i32 = 6;
const MESSAGES: usize = 3_000;
const CLIENTS: usize = 6;
const PATIENCE: Duration = Duration::from_secs(90);

/// What the clients have seen, in their own order.
#[derive(Default)]
struct Seen {
    deliveries: Vec<Delivery>,
    acked: BTreeMap<(i32, i64), Acked>,
    refused: usize,
}

/// When somebody asked to acknowledge a message, and heard that it is.
#[derive(Clone, Copy)]
struct Acked {
    asked: Instant,
    answered: Instant,
}

/// One message that has come.
struct Delivery {
    position: (i32, i64),
    asked: Instant,
    came: Instant,
}

fn gateway() -> Gateway {
    let (folder, path) = file(
        "pixy.yaml",
        &format!(
            "tcp_addr: 127.0.0.1:0
grpc_addr: 127.0.0.1:0
replicas: {{advertised_addr: '127.0.0.1:0'}}
proxies:
  main:
    kafka: {{seed_peers: ['{}']}}
    consumer:
      initial_offset: oldest
      long_polling_timeout: 1s
      offsets_commit_interval: {}ms
      session_timeout: 6s
      ack_timeout: 60s
      max_pending_messages: 1000
",
            shared().bootstrap_servers(),
            COMMIT_INTERVAL.as_millis(),
        ),
    );
    let gateway = Gateway::builder(binary())
        .args(["kafka-pixy", "--config"])
        .arg(&path)
        .listeners(2)
        .spawn()
        .unwrap();
    drop(folder);
    gateway
}

/// One client: consumes at the next gateway, acknowledges at the one after.
async fn work(
    number: usize,
    addresses: Arc<Mutex<Vec<String>>>,
    (group, topic): (String, String),
    seen: Arc<Mutex<Seen>>,
    is_done: Arc<AtomicBool>,
) {
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(20))
        .build()
        .unwrap();
    let turn = AtomicUsize::new(number);
    let next = || {
        let addresses = addresses.lock().unwrap();
        addresses[turn.fetch_add(1, Ordering::Relaxed) % addresses.len()].clone()
    };
    while !is_done.load(Ordering::Acquire) {
        let url = format!(
            "http://{}/topics/{topic}/messages?group={group}&noAck&max=10",
            next()
        );
        let asked = Instant::now();
        let Ok(reply) = client.get(url).send().await else {
            continue;
        };
        if reply.status() != 200 {
            continue;
        }
        let Ok(text) = reply.text().await else {
            continue;
        };
        let messages: Vec<Value> = serde_json::from_str(&text).unwrap();
        let came = Instant::now();
        let positions: Vec<(i32, i64)> = messages
            .iter()
            .map(|message| {
                let partition = message["partition"].as_i64().unwrap();
                let offset = message["offset"].as_i64().unwrap();
                (i32::try_from(partition).unwrap(), offset)
            })
            .collect();
        {
            let mut seen = seen.lock().unwrap();
            let deliveries = positions.iter().map(|position| Delivery {
                position: *position,
                asked,
                came,
            });
            seen.deliveries.extend(deliveries);
        }
        let body: Vec<Value> = positions
            .iter()
            .map(|(id, offset)| serde_json::json!({"partition": id, "offset": offset}))
            .collect();
        let body = serde_json::to_string(&body).unwrap();
        // Until somebody has taken all of them, as a client does that must
        // not lose its work; what nobody takes comes again.
        for _ in 0..3 {
            let url = format!("http://{}/topics/{topic}/acks?group={group}", next());
            let request = client.post(url).header("content-type", "application/json");
            let asked = Instant::now();
            let Ok(reply) = request.body(body.clone()).send().await else {
                continue;
            };
            let Ok(text) = reply.text().await else {
                continue;
            };
            let results: Vec<Value> = serde_json::from_str(&text).unwrap();
            let acked = Acked {
                asked,
                answered: Instant::now(),
            };
            let mut seen = seen.lock().unwrap();
            let mut is_refused = false;
            for (position, result) in positions.iter().zip(&results) {
                if result.get("error").is_none() {
                    seen.acked.entry(*position).or_insert(acked);
                } else {
                    is_refused = true;
                }
            }
            if !is_refused {
                break;
            }
            seen.refused += 1;
        }
    }
}

/// Waits until each of `count` gateways has its share of the partitions.
async fn all_have_joined(group: &str, count: usize) {
    let started = Instant::now();
    loop {
        let members = shared().group_members(group).unwrap();
        let owners = members.iter().filter(|member| !member.assigned.is_empty());
        if owners.count() == count && members.len() == count {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{members:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Lets clients work through a balancer over `count` gateways, kills one in
/// the middle, and compares what was delivered with what was acknowledged.
async fn kill_one_of(count: usize) {
    let topic = topic_name("kill");
    let group = topic_name("kill");
    shared().create_topic(&topic, PARTITIONS).unwrap();
    let mut gateways: Vec<Gateway> = (0..count).map(|_| gateway()).collect();
    let addresses = gateways.iter().map(Gateway::address).collect();
    let addresses: Arc<Mutex<Vec<String>>> = Arc::new(Mutex::new(addresses));
    let seen = Arc::new(Mutex::new(Seen::default()));
    let is_done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            tokio::spawn(work(
                number,
                Arc::clone(&addresses),
                (group.clone(), topic.clone()),
                Arc::clone(&seen),
                Arc::clone(&is_done),
            ))
        })
        .collect();
    let mut expected = BTreeSet::new();
    let mut produce = |count: usize| {
        let records = (0..count).map(|index| NewRecord {
            partition: Some(i32::try_from(index).unwrap() % PARTITIONS),
            value: Some(b"message"),
            ..NewRecord::default()
        });
        let positions = shared().produce_all(&topic, records).unwrap();
        expected.extend(positions.iter().map(|at| (at.partition, at.offset)));
    };
    // So that the one that is killed owns something, and nothing is on the move.
    all_have_joined(&group, count).await;
    produce(MESSAGES / 2);
    let started = Instant::now();
    let acked = || seen.lock().unwrap().acked.len();
    while acked() < MESSAGES / 4 {
        assert!(started.elapsed() < PATIENCE, "{} acked", acked());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Under load, and without a word; the balancer notices at once.
    let killed = gateways.remove(0);
    killed.signal(Signal::Kill).unwrap();
    let killed_at = Instant::now();
    addresses.lock().unwrap().remove(0);
    produce(MESSAGES - MESSAGES / 2);
    while acked() < MESSAGES {
        assert!(started.elapsed() < PATIENCE, "{} acked", acked());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    is_done.store(true, Ordering::Release);
    for client in clients {
        client.await.unwrap();
    }
    let seen = seen.lock().unwrap();
    let acked: BTreeSet<(i32, i64)> = seen.acked.keys().copied().collect();
    assert_eq!(
        acked, expected,
        "what was produced is acknowledged, all of it"
    );
    let mut again = 0;
    for delivery in &seen.deliveries {
        let Acked {
            asked,
            answered: acked_at,
        } = seen.acked[&delivery.position];
        // One that was asked for before may have left before: the new owner had
        // delivered it when somebody who had it from the old one acknowledged it.
        let is_under_way = acked_at > killed_at && delivery.asked <= acked_at;
        if delivery.came <= acked_at || is_under_way {
            continue;
        }
        again += 1;
        assert!(
            acked_at + BEFORE > killed_at && asked < killed_at,
            "{:?} was acknowledged {:?} before or {:?} after the kill and came again",
            delivery.position,
            killed_at.saturating_duration_since(acked_at),
            acked_at.saturating_duration_since(killed_at)
        );
    }
    println!(
        "{count} gateways: {} deliveries of {MESSAGES} messages, {again} after their \
         acknowledgement, {} requests to acknowledge refused in part",
        seen.deliveries.len(),
        seen.refused
    );
    for gateway in gateways {
        gateway.terminate().unwrap();
    }
    let committed = shared().committed(&group, &topic).unwrap();
    let offsets: i64 = committed.values().sum();
    assert_eq!(offsets, i64::try_from(MESSAGES).unwrap(), "{committed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_one_of_two_gateways_loses_and_repeats_nothing_beyond_the_bound() {
    kill_one_of(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_one_of_three_gateways_loses_and_repeats_nothing_beyond_the_bound() {
    kill_one_of(3).await;
}
