//! What is done to the world, by whom it befalls, and which promises hold
//! under it.

mod brokers;
mod disk;
mod gateways;
mod limits;
mod network;
mod topics;

use super::Stage;
use super::ledger::{Findings, Promises};
use super::world::ACK_TIMEOUT;
use crate::run;
use anyhow::Result;
use std::path::Path;
use std::process::Command;

/// A fault with a name.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What happens, for the docs.
    pub(crate) about: &'static str,
    pub(crate) run: fn(&mut Stage<'_>) -> Result<Findings>,
}

/// All of them, in the order in which they are run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kill-brokers",
        about: "a broker is killed (SIGKILL) and started again; the next one each time",
        run: brokers::kill,
    },
    Scenario {
        name: "pause-brokers",
        about: "a broker stands still (SIGSTOP) until others lead its partitions, and goes on; the next one each time",
        run: brokers::pause,
    },
    Scenario {
        name: "kill-gateway",
        about: "one of the gateways is killed (SIGKILL) under load and started again with its journal",
        run: gateways::kill,
    },
    Scenario {
        name: "pause-gateway",
        about: "one of the gateways stands still (SIGSTOP) until others have its partitions, and goes on",
        run: gateways::pause,
    },
    Scenario {
        name: "stop-gateways",
        about: "each gateway in turn is told to end (SIGTERM) under load, and started again",
        run: gateways::stop,
    },
    Scenario {
        name: "move-leaders",
        about: "a broker stops in order, so that others lead, and leads again when it is back; the next one each time",
        run: brokers::move_leaders,
    },
    Scenario {
        name: "recreate-topic",
        about: "the topic is deleted under load and made again; counted from then on",
        run: topics::recreate,
    },
    Scenario {
        name: "add-partitions",
        about: "the topic grows by three partitions under load",
        run: topics::grow,
    },
    Scenario {
        name: "full-disk",
        about: "the disk below one gateway's journal is full until clients were refused",
        run: disk::full,
    },
    Scenario {
        name: "slow-disk",
        about: "each sync of one gateway's journal takes half a second",
        run: disk::slow,
    },
    Scenario {
        name: "silent-network",
        about: "nothing passes between gateways (and the npm package) and brokers, and nobody is told, until clients have waited in vain",
        run: network::silent,
    },
    Scenario {
        name: "slow-network",
        about: "only 100 kB a second pass between gateways and brokers",
        run: network::slow,
    },
    Scenario {
        name: "no-descriptors",
        about: "idle connections take all file descriptors that one gateway may have, and go again",
        run: limits::descriptors,
    },
    Scenario {
        name: "clock-jumps",
        about: "one gateway's clock jumps an hour ahead, and then two hours back",
        run: limits::clock,
    },
];

/// Nothing comes twice, and in order.
const STRICT: Promises = Promises {
    journal_may_repeat: false,
    acked_may_return: false,
    order_may_break: false,
    ack_timeout: ACK_TIMEOUT,
};

/// A gateway is killed: what its journal has not noted as delivered is sent
/// again, what it has not committed is delivered again.
const GATEWAY_LOST: Promises = Promises {
    journal_may_repeat: true,
    acked_may_return: true,
    ..STRICT
};

/// Brokers end or cannot be reached while they have what the journal's feeder
/// has sent: what it had no answer for may be there twice.
const BROKER_STOPPED: Promises = Promises {
    journal_may_repeat: true,
    ..STRICT
};

/// The group's coordinator goes, and with it commits that it has not stored.
const COORDINATOR_LOST: Promises = Promises {
    acked_may_return: true,
    ..BROKER_STOPPED
};

/// The library that makes disks slow and clocks wrong, built by the C compiler
/// that librdkafka needs, too.
fn shim(folder: &Path) -> Result<String> {
    let library = folder.join("shim.so");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(run::root().join("crates/xtask/src/torture/shim.c"));
    run::checked(&mut compiler)?;
    Ok(library.display().to_string())
}
