//! One gateway that serves all front ends.

use anyhow::{Context as _, Result};
use barnabas_testkit::hostile::Target;
use barnabas_testkit::{Cluster, Gateway};
use std::path::Path;
use std::time::Duration;

/// For whatever has no bound of its own: the machine may be slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// 10,000 connections are more than shells allow a process.
pub(crate) fn raise_file_limit() {
    if let Err(error) = rlimit::increase_nofile_limit(65_536) {
        eprintln!("the limit of open files: {error}");
    }
}

/// Where clients run.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}

/// A gateway with its configuration.
pub(crate) struct Served {
    pub(crate) gateway: Gateway,
    pub(crate) target: Target,
    _folder: tempfile::TempDir,
}

impl Served {
    /// Starts one. Every limit is the default unless `settings` have it: pairs
    /// of an environment variable without `BARNABAS_`, and a value.
    pub(crate) fn start(
        binary: &Path,
        kafka: &Cluster,
        topic: &str,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("barnabas.yaml");
        let text = format!(
            "clusters:\n  default:\n    properties: \
             {{bootstrap.servers: '{}'}}\n    consume: {{initial_offset: oldest}}\n\
             redis: {{listen: '127.0.0.1:0', reply: pair}}\nhttp: {{listen: '127.0.0.1:0'}}\n\
             grpc: {{listen: '127.0.0.1:0'}}\n",
            kafka.bootstrap_servers()
        );
        std::fs::write(&config, text)?;
        let gateway = Gateway::builder(binary)
            .args(["serve", "--config"])
            .arg(&config)
            .listeners(3)
            .start_timeout(PATIENCE);
        let gateway = settings
            .iter()
            .fold(gateway, |gateway, (name, value)| {
                gateway.env(format!("BARNABAS_{name}"), value)
            })
            .spawn()?;
        let address = |place: usize| {
            let listening = gateway.listening().get(place);
            let listening = listening.context("the gateway does not listen")?;
            Ok::<_, anyhow::Error>(format!("{}:{}", listening.host, listening.port).parse()?)
        };
        let target = Target {
            redis: address(0)?,
            http: address(1)?,
            grpc: address(2)?,
            topic: topic.to_owned(),
        };
        Ok(Self {
            gateway,
            target,
            _folder: folder,
        })
    }

    /// Whether it is the process that was started, and has not panicked.
    pub(crate) fn is_well(&self) -> Result<bool> {
        let has_panicked = self.gateway.stderr().contains("panicked at");
        Ok(self.gateway.status()?.is_none() && !has_panicked)
    }
}
