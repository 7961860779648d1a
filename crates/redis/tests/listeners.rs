//! Listeners that die (`consume-and-ack.md`, section 13, B27).

use crate::support::PATIENCE;
use barnabas_engine::{Cluster, ClusterConfig};
use barnabas_redis::{Config, Server};
use std::net::{Shutdown, TcpListener};
use std::time::Duration;

#[test]
fn a_listener_that_dies_is_noticed() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let mut cluster = ClusterConfig::default();
    // Nobody listens there.
    cluster.common.set("bootstrap.servers", "127.0.0.1:1");
    let cluster = Cluster::open(cluster).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let same = listener.try_clone().unwrap();
    let drained = runtime.block_on(async {
        let mut server = Server::start(vec![listener], Config::default(), cluster, None).unwrap();
        let early = tokio::time::timeout(Duration::from_millis(100), server.failed());
        early.await.unwrap_err();
        // As if somebody closed it under the process.
        socket2::SockRef::from(&same)
            .shutdown(Shutdown::Both)
            .unwrap();
        let noticed = tokio::time::timeout(PATIENCE, server.failed());
        noticed.await.unwrap();
        server.drain().await
    });
    assert_eq!(drained.connections_cut, 0);
}
