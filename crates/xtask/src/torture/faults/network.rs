//! The network between the brokers and all others.

use super::COORDINATOR_LOST;
use crate::torture::Stage;
use crate::torture::ledger::Findings;
use crate::torture::world::{World, eventually};
use anyhow::{Context as _, Result};
use barnabas_testkit::Network;

/// What passes while it is slow, in each direction.
const BYTES_PER_SECOND: u32 = 100_000;

fn network(world: &World) -> Result<&Network> {
    world.kafka.network().context("the brokers have no network")
}

/// No packet passes, and no connection breaks by that, until clients have been
/// told nothing for as long as they wait.
pub(super) fn silent(stage: &mut Stage<'_>) -> Result<Findings> {
    stage.play(COORDINATOR_LOST, |world, work| {
        let before = work.ledger.unanswered_count();
        network(world)?.drop_packets()?;
        let waited = eventually("clients to wait in vain", || {
            Ok(work.ledger.unanswered_count() > before)
        });
        network(world)?.restore()?;
        waited
    })
}

/// Everything passes, some time.
pub(super) fn slow(stage: &mut Stage<'_>) -> Result<Findings> {
    stage.play(COORDINATOR_LOST, |world, work| {
        network(world)?.limit_rate(BYTES_PER_SECOND)?;
        let flows = work.flows();
        network(world)?.restore()?;
        flows
    })
}
