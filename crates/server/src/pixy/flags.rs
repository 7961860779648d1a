//! The old program's flags: one dash or two, `-f v` or `-f=v`.

use anyhow::{Result, bail};
use std::path::PathBuf;

pub(super) const USAGE: &str = "\
Serve as Kafka-Pixy did: its flags, its file, its API

Usage: barnabas kafka-pixy [-flag value]...

  -config FILE         YAML file
  -envFile FILE        environment variables, a NAME=value per line: KAFKA_PIXY_
                       and a key of the file in capitals, two underscores
                       between levels; the environment itself wins
  -tcpAddr HOST:PORT   REST API; empty: none
  -unixAddr PATH       REST API on a Unix socket
  -grpcAddr HOST:PORT  gRPC API; empty: none
  -kafkaPeers LIST     brokers of the default cluster, separated by commas
  -zookeeperPeers LIST accepted and not used: ZooKeeper is no longer needed
  -pidFile FILE        where to write the process id
  -logging JSON        loggers, as in the file
  -tls, -insecureTLS   TLS to Kafka; without checking certificates
  -caCertFile FILE, -clientCertFile FILE, -clientCertKeyFile FILE
  -help                this text
";

/// What was typed; it beats the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) config: Option<PathBuf>,
    pub(super) env_file: Option<PathBuf>,
    pub(super) tcp_addr: Option<String>,
    pub(super) unix_addr: Option<String>,
    pub(super) grpc_addr: Option<String>,
    pub(super) kafka_peers: Option<String>,
    pub(super) zookeeper_peers: Option<String>,
    pub(super) pid_file: Option<PathBuf>,
    pub(super) logging: Option<String>,
    pub(super) tls: Option<bool>,
    pub(super) insecure_tls: Option<bool>,
    pub(super) ca_cert_file: Option<String>,
    pub(super) client_cert_file: Option<String>,
    pub(super) client_cert_key_file: Option<String>,
    pub(super) help: bool,
}

impl Flags {
    pub(super) fn parse(arguments: &[String]) -> Result<Self> {
        let mut flags = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let Some(rest) = argument.strip_prefix('-') else {
                bail!("unexpected argument: {argument}\n{USAGE}");
            };
            let rest = rest.strip_prefix('-').unwrap_or(rest);
            let (name, inline) = match rest.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (rest, None),
            };
            // As Go has it: a boolean's value comes with an equals sign only.
            if let Some(flag) = flags.boolean(name) {
                *flag = Some(match inline.as_deref() {
                    None | Some("true" | "1" | "t" | "T" | "TRUE" | "True") => true,
                    Some("false" | "0" | "f" | "F" | "FALSE" | "False") => false,
                    Some(other) => bail!("invalid boolean value {other:?} for -{name}"),
                });
                continue;
            }
            if matches!(name, "help" | "h") {
                flags.help = true;
                continue;
            }
            let Some(set) = flags.text(name) else {
                bail!("flag provided but not defined: -{name}\n{USAGE}");
            };
            let Some(value) = inline.or_else(|| arguments.next().cloned()) else {
                bail!("flag needs an argument: -{name}\n{USAGE}");
            };
            set(&mut flags, value);
        }
        Ok(flags)
    }

    fn boolean(&mut self, name: &str) -> Option<&mut Option<bool>> {
        match name {
            "tls" => Some(&mut self.tls),
            "insecureTLS" => Some(&mut self.insecure_tls),
            _ => None,
        }
    }

    fn text(&self, name: &str) -> Option<fn(&mut Self, String)> {
        Some(match name {
            "config" => |flags, value| flags.config = Some(value.into()),
            "envFile" => |flags, value| flags.env_file = Some(value.into()),
            "tcpAddr" => |flags, value| flags.tcp_addr = Some(value),
            "unixAddr" => |flags, value| flags.unix_addr = Some(value),
            "grpcAddr" => |flags, value| flags.grpc_addr = Some(value),
            "kafkaPeers" => |flags, value| flags.kafka_peers = Some(value),
            "zookeeperPeers" => |flags, value| flags.zookeeper_peers = Some(value),
            "pidFile" => |flags, value| flags.pid_file = Some(value.into()),
            "logging" => |flags, value| flags.logging = Some(value),
            "caCertFile" => |flags, value| flags.ca_cert_file = Some(value),
            "clientCertFile" => |flags, value| flags.client_cert_file = Some(value),
            "clientCertKeyFile" => |flags, value| flags.client_cert_key_file = Some(value),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Flags> {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Flags::parse(&arguments)
    }

    #[test]
    fn flags_are_read_as_go_does() {
        let flags = parse("-config a.yaml --tcpAddr=:1 -tls -insecureTLS=false -kafkaPeers a,b");
        let expected = Flags {
            config: Some("a.yaml".into()),
            tcp_addr: Some(":1".to_owned()),
            tls: Some(true),
            insecure_tls: Some(false),
            kafka_peers: Some("a,b".to_owned()),
            ..Flags::default()
        };
        assert_eq!(flags.unwrap(), expected);
        assert!(parse("-help").unwrap().help);
        for bad in ["-nonsense", "x", "-config", "-tls=maybe"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
