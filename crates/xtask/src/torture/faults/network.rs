//! The network between gateways and brokers, and between clients and gateways.

use crate::torture::workload::Workload;
use crate::torture::world::{World, eventually};
use anyhow::Result;
use barnabas_testkit::{Conditions, Link};
use std::time::Duration;

/// What passes while it is slow, in each direction.
const BYTES_PER_SECOND: u32 = 100_000;

/// A bad long line: packets come late, overtake one another, or not at all.
const ROUGH: Conditions = Conditions {
    loss: 0.03,
    delay: Duration::from_millis(20),
    jitter: Duration::from_millis(40),
    bytes_per_second: 0,
};

/// Disturbs the link as long as that takes.
fn disturbed(
    world: &World,
    work: &Workload,
    link: Link,
    conditions: Conditions,
    wait: impl FnOnce() -> Result<()>,
) -> Result<()> {
    if link == Link::Gateways {
        work.ledger.may_lose();
    }
    world.network()?.set(link, conditions);
    let waited = wait();
    world.network()?.restore();
    waited
}

/// No packet passes, and no connection breaks by that, until clients have been
/// told nothing for as long as they wait.
fn silence(world: &World, work: &Workload, link: Link) -> Result<()> {
    let before = work.ledger.unanswered_count();
    disturbed(world, work, link, Conditions::silent(), || {
        eventually("clients to wait in vain", || {
            Ok(work.ledger.unanswered_count() > before)
        })
    })
}

pub(super) fn silent(world: &mut World, work: &mut Workload, _: usize) -> Result<()> {
    silence(world, work, Link::Brokers)
}

pub(super) fn silent_to_clients(world: &mut World, work: &mut Workload, _: usize) -> Result<()> {
    silence(world, work, Link::Gateways)
}

pub(super) fn slow(world: &mut World, work: &mut Workload, _: usize) -> Result<()> {
    let slow = Conditions::limited(BYTES_PER_SECOND);
    disturbed(world, work, Link::Brokers, slow, || work.flows())
}

pub(super) fn rough(world: &mut World, work: &mut Workload, _: usize) -> Result<()> {
    disturbed(world, work, Link::Brokers, ROUGH, || work.flows())
}

pub(super) fn rough_to_clients(world: &mut World, work: &mut Workload, _: usize) -> Result<()> {
    disturbed(world, work, Link::Gateways, ROUGH, || work.flows())
}
