//! Brokers that refuse, and certificates that are replaced.

use crate::torture::certificates::Holder;
use crate::torture::workload::Workload;
use crate::torture::world::{GATEWAYS, USER, World, eventually};
use anyhow::{Result, bail};
use barnabas_testkit::Operation;
use std::time::{Duration, Instant};

/// So long nobody gets anything where reading is refused.
const STILL: Duration = Duration::from_secs(3);
/// How often certificates are replaced until nothing fails meanwhile.
const ATTEMPTS: usize = 3;
/// Whose connections to brokers are new ones.
const GATEWAY: usize = 0;

/// Brokers take nothing for the topic until all who wait for them have been told.
pub(super) fn no_writing(world: &mut World, work: &mut Workload, _: usize) -> Result<()> {
    let before = work.ledger.failures_in_kafka();
    world.kafka.deny(USER, Operation::Write, &work.topic)?;
    let told = eventually("all who wait for Kafka to be refused", || {
        let now = work.ledger.failures_in_kafka();
        Ok(now.iter().zip(&before).all(|(now, before)| now > before))
    });
    world.kafka.allow(USER, Operation::Write, &work.topic)?;
    told
}

/// Brokers give nothing of the topic, and take no commits.
pub(super) fn no_reading(world: &mut World, work: &mut Workload, _: usize) -> Result<()> {
    world.kafka.deny(USER, Operation::Read, &work.topic)?;
    let mut last = work.ledger.deliveries();
    let mut since = Instant::now();
    let stopped = eventually("nobody to get anything", || {
        let now = work.ledger.deliveries();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        Ok(since.elapsed() > STILL)
    });
    world.kafka.allow(USER, Operation::Read, &work.topic)?;
    stopped
}

/// Waits until whoever connects is shown the newest certificate.
fn shown(world: &World, holder: Holder, addresses: &[String]) -> Result<()> {
    eventually("the new certificate", || {
        for address in addresses {
            if !world.certificates.is_shown(holder, address)? {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// Gateways get a certificate of another authority, and then brokers do. What is
/// connected stays so: requests may fail for other reasons on a machine that
/// stands still, but not each time.
pub(super) fn certificates(world: &mut World, work: &mut Workload, _: usize) -> Result<()> {
    let mut failures = Vec::new();
    while failures.len() < ATTEMPTS {
        let before = (work.ledger.unanswered_count(), work.ledger.lost_count());
        replace_all(world, work)?;
        let after = (work.ledger.unanswered_count(), work.ledger.lost_count());
        if before == after {
            // A new process has new connections only.
            world.stop_gateway(GATEWAY)?;
            return world.start_gateway(GATEWAY);
        }
        failures.push((before, after));
    }
    bail!("requests failed and readers were cut off each time: {failures:?}")
}

fn replace_all(world: &mut World, work: &Workload) -> Result<()> {
    let host = world.network()?.gateways();
    // Gateways look at the files by themselves.
    world.certificates.replace(Holder::Gateways, Some(host))?;
    let gateways = (0..GATEWAYS).filter_map(|index| world.fleet.pick(index));
    let listeners: Vec<String> = gateways
        .flat_map(|(_, address)| [address.redis, address.http, address.grpc])
        .collect();
    shown(world, Holder::Gateways, &listeners)?;
    work.flows()?;
    world.certificates.replace(Holder::Brokers, None)?;
    world.kafka.reload_certificate()?;
    let brokers = world.kafka.sasl_bootstrap_servers();
    let brokers: Vec<String> = brokers.split(',').map(str::to_owned).collect();
    shown(world, Holder::Brokers, &brokers)?;
    work.flows()
}
