//! What the system gives a process: descriptors, and the time.

use super::STRICT;
use crate::run;
use crate::torture::Stage;
use crate::torture::ledger::Findings;
use crate::torture::world::{Special, World, eventually};
use anyhow::{Context as _, Result};
use std::fs::File;
use std::io::Write as _;
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
pub(super) fn descriptors(stage: &mut Stage<'_>) -> Result<Findings> {
    stage.play(STRICT, |world, work| {
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
    })
}

/// The wall clock of one process jumps; the monotonic one does not. It tells
/// true time again in the end.
pub(super) fn clock(stage: &mut Stage<'_>) -> Result<Findings> {
    let folder = stage.world.folder().to_owned();
    let offset = folder.join("clock-offset");
    // In place: the process has the file mapped.
    let set = |seconds: i64| {
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&offset)?;
        file.write_all(&seconds.to_ne_bytes())
    };
    set(0)?;
    let special = Special {
        environment: vec![
            ("LD_PRELOAD".to_owned(), super::shim(&folder)?),
            ("CLOCK_OFFSET".to_owned(), offset.display().to_string()),
        ],
        ..Special::default()
    };
    stage.world.stop_gateway(GATEWAY)?;
    stage.world.start_gateway(GATEWAY, &special)?;
    let findings = stage.play(STRICT, |_, work| {
        for jump in [HOUR, -HOUR, 0] {
            set(jump)?;
            work.flows()?;
        }
        Ok(())
    });
    stage.world.stop_gateway(GATEWAY)?;
    stage.world.start_gateway(GATEWAY, &Special::default())?;
    findings
}
