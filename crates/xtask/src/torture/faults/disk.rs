//! Disks below the journal: full, and slow.

use crate::torture::sick::SICK;
use crate::torture::workload::Workload;
use crate::torture::world::{World, eventually};
use anyhow::Result;

/// Waits until this gateway's journal takes messages again.
fn takes_again(work: &Workload) -> Result<()> {
    let before = work.ledger.journaled_by(SICK);
    eventually("the journal to take messages", || {
        Ok(work.ledger.journaled_by(SICK) > before)
    })
}

/// No room for one journal, until its clients were told so.
pub(super) fn full(world: &mut World, work: &mut Workload, _: usize) -> Result<()> {
    takes_again(work)?;
    let refused = work.ledger.refused_count();
    world.sick.fill_disk()?;
    eventually("a client to be refused", || {
        Ok(work.ledger.refused_count() > refused)
    })?;
    world.sick.free_disk()?;
    takes_again(work)
}

/// Syncs of one journal take long.
pub(super) fn slow(world: &mut World, work: &mut Workload, _: usize) -> Result<()> {
    takes_again(work)?;
    world.sick.slow_disk()?;
    takes_again(work)?;
    work.flows()?;
    world.sick.quick_disk()
}
