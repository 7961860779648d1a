//! The Redis front end in a program of one's own, on an embedded cluster or
//! on the brokers given: `cargo run -p barnabas-redis --example gateway [bootstrap.servers] [port]`.

use barnabas_engine::{Cluster, ClusterConfig, EmbeddedCluster};
use barnabas_redis::{Config, Server};
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let mut arguments = std::env::args().skip(1);
    let embedded = EmbeddedCluster::start(1)?;
    let brokers = arguments
        .next()
        .unwrap_or_else(|| embedded.bootstrap_servers().to_owned());
    let port = arguments.next().unwrap_or_else(|| "6380".to_owned());
    let mut cluster = ClusterConfig::default();
    cluster.common.set("bootstrap.servers", brokers);
    cluster.consumer.set("auto.offset.reset", "earliest");
    let cluster = Cluster::open(cluster)?;
    let listener = std::net::TcpListener::bind(format!("127.0.0.1:{port}"))?;
    let server = Server::start(vec![listener], Config::default(), cluster.clone(), None)?;
    tokio::signal::ctrl_c().await?;
    server.drain().await;
    let undelivered = cluster.flush(Duration::from_secs(5)).await;
    println!("{undelivered} messages were not delivered");
    Ok(())
}
