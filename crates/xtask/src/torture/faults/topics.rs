//! Topics that go, come again, and grow.

use crate::torture::workload::Workload;
use crate::torture::world::{PARTITIONS, World, eventually};
use anyhow::Result;

/// The topic is deleted under load and made again. What was asked until then
/// may be gone with it.
pub(super) fn recreate(world: &mut World, work: &mut Workload, _: usize) -> Result<()> {
    world.kafka.delete_topic(&work.topic)?;
    // Somebody is told so before there is a new one.
    let refused = work.ledger.refused_count();
    eventually("a client to be refused", || {
        Ok(work.ledger.refused_count() > refused)
    })?;
    world.kafka.create_topic(&work.topic, PARTITIONS)?;
    work.flows()?;
    work.ledger.begins_anew();
    Ok(())
}

/// The topic gets more partitions under load, three each time.
pub(super) fn grow(world: &mut World, work: &mut Workload, _: usize) -> Result<()> {
    let partitions = world.kafka.end_offsets(&work.topic)?.len();
    let before = i32::try_from(partitions)?;
    world.kafka.add_partitions(&work.topic, before + 3)?;
    eventually("records in the new partitions", || {
        let ends = world.kafka.end_offsets(&work.topic)?;
        let new = ends.range(before..).map(|(_, end)| *end);
        Ok(new.filter(|end| *end > 0).count() > 0)
    })
}
