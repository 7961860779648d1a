//! Brokers that die, stand still, or lead no more.

use super::{BROKER_STOPPED, COORDINATOR_LOST};
use crate::torture::Stage;
use crate::torture::ledger::Findings;
use crate::torture::world::{World, eventually};
use anyhow::{Context as _, Result};

/// Waits until this broker leads nothing of the topic.
fn others_lead(world: &World, topic: &str, broker: i32) -> Result<()> {
    eventually("other brokers to lead", || {
        let leaders = world.kafka.leaders(topic)?;
        Ok(leaders
            .values()
            .all(|leader| *leader >= 0 && *leader != broker))
    })
}

/// Waits until every broker has all of the topic, so that the next may go.
fn in_sync(world: &World, topic: &str) -> Result<()> {
    let brokers = world.kafka.brokers().count();
    eventually("all brokers to be in sync", || {
        let replicas = world.kafka.in_sync(topic)?;
        Ok(replicas.values().all(|replicas| replicas.len() == brokers))
    })
}

/// The brokers, again and again.
fn turns(world: &World) -> impl Iterator<Item = i32> + use<> {
    let ids: Vec<i32> = world.kafka.brokers().map(|broker| broker.id()).collect();
    ids.into_iter().cycle()
}

/// The next broker each time, under load.
pub(super) fn kill(stage: &mut Stage<'_>) -> Result<Findings> {
    let mut turns = turns(stage.world);
    stage.play(COORDINATOR_LOST, |world, work| {
        let id = turns.next().context("no broker")?;
        world.kafka.broker(id).kill()?;
        others_lead(world, &work.topic, id)?;
        work.flows()?;
        world.kafka.broker(id).start()?;
        in_sync(world, &work.topic)
    })
}

/// The next broker each time, under load. Its connections stay open.
pub(super) fn pause(stage: &mut Stage<'_>) -> Result<Findings> {
    let mut turns = turns(stage.world);
    stage.play(COORDINATOR_LOST, |world, work| {
        let id = turns.next().context("no broker")?;
        world.kafka.broker(id).pause()?;
        let moved = others_lead(world, &work.topic, id);
        world.kafka.broker(id).resume()?;
        moved?;
        world.kafka.broker(id).wait_until_ready()?;
        in_sync(world, &work.topic)
    })
}

/// The next broker each time hands its partitions over, and gets them back: the
/// controller looks every other second whether the preferred replicas lead.
pub(super) fn move_leaders(stage: &mut Stage<'_>) -> Result<Findings> {
    let mut turns = turns(stage.world);
    stage.play(BROKER_STOPPED, |world, work| {
        let preferred = world.kafka.leaders(&work.topic)?;
        let id = turns.next().context("no broker")?;
        world.kafka.broker(id).stop()?;
        others_lead(world, &work.topic, id)?;
        world.kafka.broker(id).start()?;
        in_sync(world, &work.topic)?;
        eventually("the preferred replicas to lead", || {
            Ok(world.kafka.leaders(&work.topic)? == preferred)
        })
    })
}
