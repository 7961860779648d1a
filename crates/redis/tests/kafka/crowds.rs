//! A thousand connections, a watcher that does not read.

use crate::support::{
    Client, Gateway, PATIENCE, Reply, new_topic, rafkas_test_configuration, stored,
};
use barnabas_redis::{Config, Server};
use barnabas_testkit::{Gateway as Process, shared};
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// Names the brokers to the test below when it is run as a process of its own.
const BROKERS: &str = "BARNABAS_TEST_BROKERS";

/// No test by itself: the gateway process of the test below, whose threads and descriptors are not
/// those of other tests. Ends when it is killed.
#[test]
fn gateway_process() {
    let Ok(brokers) = std::env::var(BROKERS) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let cluster = barnabas_engine::Cluster::open(rafkas_test_configuration(&brokers)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Server::start(vec![listener], Config::default(), cluster, None).unwrap();
        eprintln!("Listening on {}", server.addresses()[0]);
        std::future::pending::<()>().await;
    });
}

#[test]
fn a_thousand_producing_connections_need_no_more_threads_than_one() {
    let topic = new_topic("crowd", 4);
    let gateway = Process::builder(std::env::current_exe().unwrap())
        .args(["--exact", "crowds::gateway_process", "--nocapture"])
        .env(BROKERS, shared().bootstrap_servers())
        .spawn()
        .unwrap();
    let address = gateway.address().parse().unwrap();
    let mut clients = vec![Client::connect(address)];
    clients[0].produce(&topic, "0");
    clients[0].dump();
    let threads = gateway.threads().unwrap();
    let descriptors = gateway.descriptors().unwrap();

    for number in 1..1_000 {
        let mut client = Client::connect(address);
        client.produce(&topic, &number.to_string());
        clients.push(client);
    }
    for client in &mut clients {
        client.dump();
    }
    let mut with_all = gateway.threads().unwrap();
    with_all.sort();
    let mut with_one = threads;
    with_one.sort();
    assert_eq!(with_all, with_one);
    let sockets = gateway.descriptors().unwrap() - descriptors;
    assert_eq!(sockets, 999, "a socket each, and nothing else");
    assert_eq!(clients[0].stat("server.connections"), 1_000);
    assert_eq!(stored(shared(), &topic).len(), 1_000);
    let megabytes = gateway.resident_bytes().unwrap() >> 20;
    println!("{megabytes} MiB with 1,000 connections, unoptimised");
}

#[test]
fn a_watcher_that_never_reads_harms_nobody() {
    let gateway = Gateway::start();
    let topic = new_topic("watched", 1);
    let mut sleeper = gateway.connect();
    assert_eq!(sleeper.call(&["monitor"]), Reply::Simple("OK".to_owned()));
    let mut reader = gateway.connect();
    assert_eq!(reader.call(&["monitor"]), Reply::Simple("OK".to_owned()));
    let mut client = gateway.connect();
    client.produce(&topic, "x");
    let line = match reader.reply() {
        Reply::Simple(line) => line,
        other => panic!("{other:?}"),
    };
    let expected = format!("\"rpushx\" \"topics:{topic}\" \"x\"");
    assert!(line.ends_with(&expected), "{line}");

    // Lines of 1 KiB, until the sockets are full and a thousand lines wait. The reader is asleep
    // too from here on.
    let value = "y".repeat(1_024);
    let lot = vec![vec!["echo", &value]; 1_000];
    let started = Instant::now();
    while client.stat("server.monitor.dropped") == 0 {
        client.send_all(&lot);
        for _ in 0..lot.len() {
            assert!(matches!(client.reply(), Reply::Bulk(echo) if echo.len() == 1_024));
        }
        assert!(started.elapsed() < PATIENCE, "nothing was dropped");
    }
    client.produce(&topic, "z");
    client.dump();
    // Watchers get on as soon as they read; frames never mix.
    let mut newcomer = gateway.connect();
    let ping = newcomer.call(&["ping", "here"]);
    assert_eq!(ping, crate::support::bulk("here"));
    for _ in 0..2_000 {
        assert!(matches!(reader.reply(), Reply::Simple(line) if line.contains("] \"")));
    }
    assert!(started.elapsed() < PATIENCE + Duration::from_secs(10));
    drop(sleeper);
}
