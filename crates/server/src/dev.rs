//! `barnabas dev`: everything on a cluster in memory.

use crate::cli::DevOptions;
use crate::clusters::Plan;
use crate::config::{Grpc, Http, LogFormat, Resolved, dispatch_defaults};
use crate::front_ends::Addresses;
use crate::metrics::Settings as Metrics;
use crate::{gateway, logging};
use anyhow::Result;
use barnabas_engine::{ClusterConfig, DispatchConfig, EmbeddedCluster, InitialOffset};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

const HTTP_PORT: u16 = 19_092;
const GRPC_PORT: u16 = 19_091;
const METRICS_PORT: u16 = 19_090;

pub(crate) fn run(options: &DevOptions) -> Result<()> {
    logging::start(
        LogFormat::Text,
        "warn,barnabas_redis=info,barnabas_grpc=info,barnabas_http=info,barnabas=info",
    )?;
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
    let plan = Plan {
        dispatch: DispatchConfig {
            initial_offset: InitialOffset::Oldest,
            // It also lets new groups wait for three seconds, as Kafka does
            // by default; the first request should have its message.
            long_polling: Duration::from_secs(10),
            ..dispatch_defaults()
        },
        is_embedded: true,
        ..Plan::new(cluster)
    };
    let or_free = |port: Option<u16>, usual| match options.port {
        0 => port.unwrap_or(0),
        _ => port.unwrap_or(usual),
    };
    let address = |port| vec![config_address(&options.host, port)];
    let metrics_port = or_free(None, METRICS_PORT);
    let metrics = Metrics {
        listen: vec![format!("127.0.0.1:{metrics_port}")],
        ..Metrics::default()
    };
    let resolved = Resolved {
        metrics,
        redis_listen: address(options.port),
        http: Http {
            listen: address(or_free(options.http_port, HTTP_PORT)),
            ..Http::default()
        },
        grpc: Grpc {
            listen: address(or_free(options.grpc_port, GRPC_PORT)),
            ..Grpc::default()
        },
        ..Resolved::of(plan)
    };
    gateway::serve(resolved, |addresses| print!("{}", welcome(addresses)))
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

fn welcome(addresses: &Addresses) -> String {
    let first = |addresses: &[SocketAddr]| addresses.first().copied();
    let unknown = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let redis = first(&addresses.redis).unwrap_or(unknown);
    let http = first(&addresses.http).unwrap_or(unknown);
    let grpc = first(&addresses.grpc).unwrap_or(unknown);
    let metrics = first(&addresses.metrics).unwrap_or(unknown);
    // redis-cli goes to 127.0.0.1 by itself.
    let host = match reachable(redis).ip() {
        ip if ip == Ipv4Addr::LOCALHOST => String::new(),
        ip => format!("-h {ip} "),
    };
    let (port, http_at, grpc_at) = (redis.port(), reachable(http), reachable(grpc));
    format!(
        "
Barnabas is up, on a Kafka cluster inside this process.
Its data lives in memory only and is gone when this program ends.

  Redis protocol   {redis}
  HTTP             http://{http}
  gRPC             {grpc}
  Metrics          http://{metrics}/metrics

Type next, in another terminal. With Redis:

  redis-cli {host}-p {port}
  RPUSHX topics:greetings \"hello there\"
  CLIENT SETNAME myapp:worker-1
  BLPOP topics:greetings 10
  RPUSH acks last

Over HTTP:

  curl -X POST 'http://{http_at}/topics/letters/messages?sync' -H 'Content-Type: text/plain' -d 'hello there'
  curl 'http://{http_at}/topics/letters/messages?group=letters-app'

Over gRPC:

  grpcurl -plaintext -d '{{\"topic\": \"notes\", \"message\": \"aGVsbG8=\"}}' {grpc_at} KafkaPixy/Produce
  grpcurl -plaintext -d '{{\"topic\": \"notes\", \"group\": \"notes-app\", \"auto_ack\": true}}' {grpc_at} KafkaPixy/ConsumeNAck

Topics are created on first use. Ctrl-C ends.
"
    )
}

/// Where clients on this machine connect to.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if ip.is_unspecified() && ip.is_ipv4() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        ip if ip.is_unspecified() => (Ipv6Addr::LOCALHOST, address.port()).into(),
        _ => address,
    }
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
