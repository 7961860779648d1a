//! What kafboy's metrics port shows beside its requests: its outbox, and what
//! requests hold.

use crate::metrics::{Watched, clusters, outbox};
use barnabas_engine::Producer;
use barnabas_http::Kafboy;
use barnabas_metrics::{ClientStatistics, Description, Error, Kind, Registry};
use std::sync::atomic::{AtomicBool, Ordering};

/// What the cluster is called, in metrics, in tokens' grants and in the journal's
/// directory.
pub(super) const CLUSTER: &str = "ekaf";

/// What is behind the port.
pub(crate) struct Shown {
    kafboy: Kafboy,
    is_stopping: AtomicBool,
}

impl Shown {
    pub(crate) fn new(kafboy: &Kafboy) -> Self {
        Self {
            kafboy: kafboy.clone(),
            is_stopping: AtomicBool::new(false),
        }
    }

    /// From now on the process is not ready.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }
}

impl Watched for Shown {
    fn register(&self, registry: &Registry, max_topics: usize) -> Result<(), Error> {
        let level = |name, help| Description::new(Kind::Gauge, name, help, &[]);
        let levels = vec![
            level(
                "barnabas_body_bytes",
                "Bytes of bodies that are being read or waited with.",
            ),
            level(
                "barnabas_valve_waiting_requests",
                "Requests to /safe that wait before the valve.",
            ),
            level(
                "barnabas_valve_running_requests",
                "Requests to /safe that are behind it.",
            ),
        ];
        let kafboy = self.kafboy.clone();
        registry.snapshot(levels, move |samples| {
            let levels = kafboy.levels();
            samples.add(0, &[], levels.body_bytes as f64);
            samples.add(1, &[], levels.waiting as f64);
            samples.add(2, &[], levels.running as f64);
        })?;
        if let Some(journal) = self.kafboy.outbox().journal() {
            clusters::register_journals(registry, vec![(CLUSTER.into(), journal.clone())])?;
        }
        outbox::register(registry, self.kafboy.outbox(), max_topics)
    }

    fn said(&self) -> Vec<ClientStatistics> {
        outbox::said(self.kafboy.outbox(), CLUSTER)
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    fn probes(&self) -> Vec<Producer> {
        vec![self.kafboy.outbox().waiting_client()]
    }
}
