//! Gateways that die, and gateways that are told to end.

use crate::torture::workload::Workload;
use crate::torture::world::{GATEWAYS, World, eventually};
use anyhow::Result;
use barnabas_testkit::Signal;

/// One gateway, the next one each time, under load. It is started again with
/// its journal.
pub(super) fn kill(world: &mut World, work: &mut Workload, turn: usize) -> Result<()> {
    let index = turn % GATEWAYS;
    world.kill_gateway(index)?;
    work.flows()?;
    world.start_gateway(index)
}

/// One gateway, the next one each time, under load: the groups go on without
/// it, and it finds out when it goes on.
pub(super) fn pause(world: &mut World, work: &mut Workload, turn: usize) -> Result<()> {
    let index = turn % GATEWAYS;
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
}

/// Each gateway in turn, under load.
pub(super) fn stop(world: &mut World, work: &mut Workload, _: usize) -> Result<()> {
    for index in 0..GATEWAYS {
        world.stop_gateway(index)?;
        work.flows()?;
        world.start_gateway(index)?;
    }
    Ok(())
}
