//! `barnabas dev`: everything on a cluster in memory.

use crate::cli::DevOptions;
use crate::config::{LogFormat, Resolved};
use crate::{gateway, logging};
use anyhow::Result;
use barnabas_engine::{ClusterConfig, EmbeddedCluster};
use std::net::{Ipv4Addr, SocketAddr};

pub(crate) fn run(options: &DevOptions) -> Result<()> {
    logging::start(LogFormat::Text, "warn,barnabas_redis=info,barnabas=info")?;
    let embedded = EmbeddedCluster::start(1)?;
    let mut cluster = ClusterConfig {
        name: "embedded".to_owned(),
        ..ClusterConfig::default()
    };
    cluster
        .common
        .set("bootstrap.servers", embedded.bootstrap_servers());
    // Whoever tries it out expects to see what was produced before.
    cluster.consumer.set("auto.offset.reset", "earliest");
    // The cluster in memory keeps the place of a member that has left until
    // its session is over.
    cluster
        .consumer
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "1000");
    let resolved = Resolved {
        listen: vec![config_address(&options.host, options.port)],
        cluster,
        ..Resolved::default()
    };
    gateway::serve(resolved, |address| print!("{}", welcome(address)))
}

pub(crate) fn config_address(host: &str, port: u16) -> String {
    // IPv6 hosts come with or without brackets.
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.contains(':') {
        format!("[{bare}]:{port}")
    } else {
        format!("{bare}:{port}")
    }
}

fn welcome(address: SocketAddr) -> String {
    let port = address.port();
    // redis-cli goes to 127.0.0.1 by itself.
    let host = match address.ip() {
        ip if ip == Ipv4Addr::LOCALHOST || ip == Ipv4Addr::UNSPECIFIED => String::new(),
        ip => format!("-h {ip} "),
    };
    format!(
        "
Barnabas is up, on a Kafka cluster inside this process.
Its data lives in memory only and is gone when this program ends.

  Redis protocol   {address}

Type next, in another terminal:

  redis-cli {host}-p {port}
  RPUSHX topics:greetings \"hello there\"
  CLIENT SETNAME myapp:worker-1
  BLPOP topics:greetings 10
  RPUSH acks last

Topics are created on first use. Ctrl-C ends.
"
    )
}

#[cfg(test)]
mod tests {
    use super::config_address;

    #[test]
    fn hosts_come_with_and_without_brackets() {
        assert_eq!(config_address("127.0.0.1", 1), "127.0.0.1:1");
        assert_eq!(config_address("::1", 1), "[::1]:1");
        assert_eq!(config_address("[::1]", 1), "[::1]:1");
    }
}
