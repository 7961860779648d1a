//! What is done to the world, by whom it befalls, and which promises hold
//! under it.

mod access;
mod brokers;
mod disk;
mod gateways;
mod limits;
mod network;
mod topics;

use super::ledger::Promises;
use super::workload::Workload;
use super::world::{ACK_TIMEOUT, World};
use anyhow::Result;

/// A fault with a name.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What happens, for the docs.
    pub(crate) about: &'static str,
    /// What holds all the same.
    pub(crate) promises: Promises,
    /// What was before it does not count, so that it shares clients with no other.
    pub(crate) is_alone: bool,
    /// Injects it, once, and waits until it has done its work. The number says how often
    /// that was done before.
    pub(crate) inject: fn(&mut World, &mut Workload, usize) -> Result<()>,
}

/// All of them, in the order in which they are run.
pub(crate) const SCENARIOS: &[&Scenario] = &[
    &Scenario {
        name: "move-leaders",
        about: "a broker stops in order, so that others lead, and leads again when it is back; the next one each time",
        promises: COORDINATOR_LOST,
        is_alone: false,
        inject: brokers::move_leaders,
    },
    &Scenario {
        name: "kill-brokers",
        about: "a broker is killed (SIGKILL) and started again; the next one each time",
        promises: COORDINATOR_LOST,
        is_alone: false,
        inject: brokers::kill,
    },
    &Scenario {
        name: "pause-brokers",
        about: "a broker stands still (SIGSTOP) until others lead its partitions, and goes on; the next one each time",
        promises: COORDINATOR_LOST,
        is_alone: false,
        inject: brokers::pause,
    },
    &Scenario {
        name: "silent-network",
        about: "nothing passes between gateways (and the npm package) and brokers, and nobody is told, until clients have waited in vain",
        promises: COORDINATOR_LOST,
        is_alone: false,
        inject: network::silent,
    },
    &Scenario {
        name: "slow-network",
        about: "only 100 kB a second pass between gateways (and the npm package) and brokers",
        promises: COORDINATOR_LOST,
        is_alone: false,
        inject: network::slow,
    },
    &Scenario {
        name: "rough-network",
        about: "between gateways (and the npm package) and brokers, packets are delayed by 20 to 60 ms, so that they overtake one another, and 3 % are lost",
        promises: COORDINATOR_LOST,
        is_alone: false,
        inject: network::rough,
    },
    &Scenario {
        name: "no-reading",
        about: "the same with the right to read and to commit, until nobody gets anything",
        promises: COORDINATOR_LOST,
        is_alone: false,
        inject: access::no_reading,
    },
    &Scenario {
        name: "kill-gateway",
        about: "one of the gateways is killed (SIGKILL) under load and started again with its journal",
        promises: GATEWAY_LOST,
        is_alone: false,
        inject: gateways::kill,
    },
    &Scenario {
        name: "pause-gateway",
        about: "one of the gateways stands still (SIGSTOP) until others have its partitions, and goes on",
        promises: COORDINATOR_LOST,
        is_alone: false,
        inject: gateways::pause,
    },
    &Scenario {
        name: "recreate-topic",
        about: "the topic is deleted under load and made again; counted from then on",
        promises: STRICT,
        is_alone: true,
        inject: topics::recreate,
    },
    &Scenario {
        name: "no-writing",
        about: "the brokers' access control (ACL) takes the right to write away under load, until all who wait for Kafka were refused, and gives it back",
        promises: REFUSED,
        is_alone: false,
        inject: access::no_writing,
    },
    &Scenario {
        name: "new-certificates",
        about: "the certificates of gateways, and then of brokers, are replaced by another authority's under load; no connection breaks, and new ones are shown the new ones",
        promises: STRICT,
        is_alone: false,
        inject: access::certificates,
    },
    &Scenario {
        name: "add-partitions",
        about: "the topic grows by three partitions under load",
        promises: STRICT,
        is_alone: false,
        inject: topics::grow,
    },
    &Scenario {
        name: "stop-gateways",
        about: "each gateway in turn is told to end (SIGTERM) under load, and started again",
        promises: STRICT,
        is_alone: false,
        inject: gateways::stop,
    },
    &Scenario {
        name: "full-disk",
        about: "the disk below one gateway's journal is full until clients were refused",
        promises: STRICT,
        is_alone: false,
        inject: disk::full,
    },
    &Scenario {
        name: "slow-disk",
        about: "each sync of one gateway's journal takes half a second",
        promises: STRICT,
        is_alone: false,
        inject: disk::slow,
    },
    &Scenario {
        name: "no-descriptors",
        about: "idle connections take all file descriptors that one gateway may have, and go again",
        promises: STRICT,
        is_alone: false,
        inject: limits::descriptors,
    },
    &Scenario {
        name: "clock-jumps",
        about: "one gateway's clock jumps an hour ahead, and then two hours back",
        promises: STRICT,
        is_alone: false,
        inject: limits::clock,
    },
    &Scenario {
        name: "rough-clients",
        about: "the rough network between clients and gateways",
        promises: CLIENTS_LOST,
        is_alone: false,
        inject: network::rough_to_clients,
    },
    &Scenario {
        name: "silent-clients",
        about: "nothing passes between clients and gateways, and nobody is told, until clients have waited in vain",
        promises: CLIENTS_LOST,
        is_alone: false,
        inject: network::silent_to_clients,
    },
];

/// Nothing comes twice, and in order.
const STRICT: Promises = Promises {
    journal_may_repeat: false,
    journal_may_set_aside: false,
    acked_may_return: false,
    replies_may_be_lost: false,
    ack_timeout: ACK_TIMEOUT,
};

/// Gateways send what does not arrive.
const CLIENTS_LOST: Promises = Promises {
    replies_may_be_lost: true,
    ..STRICT
};

/// Kafka refuses what journals have taken.
const REFUSED: Promises = Promises {
    journal_may_set_aside: true,
    ..STRICT
};

/// A gateway is killed: what its journal has not noted as delivered is sent
/// again, what it has not committed is delivered again.
const GATEWAY_LOST: Promises = Promises {
    journal_may_repeat: true,
    acked_may_return: true,
    ..STRICT
};

/// Brokers end or cannot be reached while they have what the journal's feeder has sent:
/// what it had no answer for may be there twice. The group's coordinator goes, and with
/// it commits that it has not stored; also where it hands over in order, members may not
/// find the new one while their sessions last.
const COORDINATOR_LOST: Promises = Promises {
    journal_may_repeat: true,
    acked_may_return: true,
    ..STRICT
};
