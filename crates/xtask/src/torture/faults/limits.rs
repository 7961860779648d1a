//! What the system gives a process: descriptors, and the time.

use crate::run;
use crate::torture::workload::Workload;
use crate::torture::world::{World, eventually};
use anyhow::{Context as _, Result};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

/// Whom it befalls.
const GATEWAY: usize = 0;
/// Descriptors that are left when the crowd comes.
const FREE: usize = 30;
/// Idle connections to each listener.
const CROWD: usize = 60;
/// In seconds.
const HOUR: i64 = 3_600;
/// What a start sets.
const USUAL: usize = 10_000;

fn limit_descriptors(world: &World, count: usize) -> Result<()> {
    let pid = world.gateway(GATEWAY)?.pid();
    let mut command = Command::new("prlimit");
    // The soft limit: as root it can be raised again.
    command.args([&format!("--pid={pid}"), &format!("--nofile={count}:")]);
    run::checked(&mut command)
}

/// No descriptor is left for a new connection, until those that have taken
/// them go.
pub(super) fn descriptors(world: &mut World, work: &mut Workload, _: usize) -> Result<()> {
    let limit = world.gateway(GATEWAY)?.descriptors()? + FREE;
    limit_descriptors(world, limit)?;
    let (_, address) = world.fleet.pick(GATEWAY).context("no gateway")?;
    let mut crowd = Vec::new();
    for listener in [&address.redis, &address.http, &address.grpc] {
        let listener: SocketAddr = listener.parse()?;
        for _ in 0..CROWD {
            // The kernel takes them for the process as long as it has room.
            if let Ok(one) = TcpStream::connect_timeout(&listener, Duration::from_secs(1)) {
                crowd.push(one);
            }
        }
    }
    eventually("the descriptors to be used up", || {
        Ok(world.gateway(GATEWAY)?.descriptors()? + 2 >= limit)
    })?;
    drop(crowd);
    // With as many as it needs, and no more.
    work.flows()?;
    limit_descriptors(world, USUAL)
}

/// The wall clock of one process jumps; the monotonic one does not. It tells
/// true time again in the end.
pub(super) fn clock(world: &mut World, work: &mut Workload, _: usize) -> Result<()> {
    for jump in [HOUR, -HOUR, 0] {
        world.sick.set_clock(jump)?;
        work.flows()?;
    }
    Ok(())
}
