//! Brokers that die, stand still, or lead no more.

use crate::torture::workload::Workload;
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

/// The broker whose turn it is.
fn whose_turn(world: &World, turn: usize) -> Result<i32> {
    let ids: Vec<i32> = world.kafka.brokers().map(|broker| broker.id()).collect();
    ids.into_iter().cycle().nth(turn).context("no broker")
}

/// The next broker each time, under load.
pub(super) fn kill(world: &mut World, work: &mut Workload, turn: usize) -> Result<()> {
    let id = whose_turn(world, turn)?;
    world.kafka.broker(id).kill()?;
    others_lead(world, &work.topic, id)?;
    work.flows()?;
    world.kafka.broker(id).start()?;
    in_sync(world, &work.topic)
}

/// The next broker each time, under load. Its connections stay open.
pub(super) fn pause(world: &mut World, work: &mut Workload, turn: usize) -> Result<()> {
    let id = whose_turn(world, turn)?;
    world.kafka.broker(id).pause()?;
    let moved = others_lead(world, &work.topic, id);
    world.kafka.broker(id).resume()?;
    moved?;
    world.kafka.broker(id).wait_until_ready()?;
    in_sync(world, &work.topic)
}

/// The next broker each time hands its partitions over, and gets them back: the
/// controller looks every other second whether the preferred replicas lead.
pub(super) fn move_leaders(world: &mut World, work: &mut Workload, turn: usize) -> Result<()> {
    let id = whose_turn(world, turn)?;
    world.kafka.broker(id).stop()?;
    others_lead(world, &work.topic, id)?;
    world.kafka.broker(id).start()?;
    in_sync(world, &work.topic)?;
    eventually("the broker to lead again", || {
        let leaders = world.kafka.leaders(&work.topic)?;
        Ok(leaders.values().any(|leader| *leader == id))
    })
}
