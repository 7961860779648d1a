//! `barnabas dev`: everything on a cluster in memory.

use crate::cli::DevOptions;
use crate::config::{LogFormat, Resolved};
use crate::{gateway, logging};
use anyhow::Result;
use barnabas_engine::{ClusterConfig, EmbeddedCluster};

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
    let resolved = Resolved {
        listen: vec![config_address(&options.host, options.port)],
        cluster,
        ..Resolved::default()
    };
    gateway::serve(resolved, |port| print!("{}", welcome(port)))
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

fn welcome(port: u16) -> String {
    format!(
        "
Barnabas is up, on a Kafka cluster inside this process.
Its data lives in memory only and is gone when this program ends.

  Redis protocol   127.0.0.1:{port}

Type next, in another terminal:

  redis-cli -p {port}
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
