//! Gateways that die, and gateways that are told to end.

use super::{COORDINATOR_LOST, GATEWAY_LOST, STRICT};
use crate::torture::Stage;
use crate::torture::ledger::Findings;
use crate::torture::world::{GATEWAYS, Special, eventually};
use anyhow::Result;
use barnabas_testkit::Signal;

/// One gateway, the next one each time, under load. It is started again with
/// its journal.
pub(super) fn kill(stage: &mut Stage<'_>) -> Result<Findings> {
    let mut turn = 0;
    stage.play(GATEWAY_LOST, |world, work| {
        let index = turn % GATEWAYS;
        turn += 1;
        world.kill_gateway(index)?;
        work.flows()?;
        world.start_gateway(index, &Special::default())
    })
}

/// One gateway, the next one each time, under load: the groups go on without
/// it, and it finds out when it goes on.
pub(super) fn pause(stage: &mut Stage<'_>) -> Result<Findings> {
    let mut turn = 0;
    stage.play(COORDINATOR_LOST, |world, work| {
        let index = turn % GATEWAYS;
        turn += 1;
        world.gateway(index)?.signal(Signal::Stop)?;
        let left = eventually("the groups to go on without it", || {
            for group in work.ledger.groups() {
                let members = world.kafka.group_members(&group)?;
                if members.len() >= GATEWAYS {
                    return Ok(false);
                }
            }
            Ok(true)
        });
        world.gateway(index)?.signal(Signal::Continue)?;
        left
    })
}

/// Each gateway in turn, under load.
pub(super) fn stop(stage: &mut Stage<'_>) -> Result<Findings> {
    stage.play(STRICT, |world, work| {
        for index in 0..GATEWAYS {
            world.stop_gateway(index)?;
            work.flows()?;
            world.start_gateway(index, &Special::default())?;
        }
        Ok(())
    })
}
