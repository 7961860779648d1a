//! Networks of their own for brokers and gateways: a namespace each, joined with the test's by a
//! wire in this process (`network/wire`). What passes can be lost, delayed, put out of order, held
//! up, or dropped without a word to either side.
//!
//! Needs root, `ip` (Debian: `iproute2`) and `/dev/net/tun`. Not by the kernel's `netem`, which is
//! not in every kernel.

mod wire;

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::Result;
use crate::tools;
use wire::{Side, Wire};

/// How long `ip` may take.
const LIMIT: Duration = Duration::from_secs(20);
/// What names begin with; a process id and a number follow.
const PREFIX: &str = "bk";

/// What can be disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Between the brokers and all others, but not among the brokers.
    Brokers,
    /// Between gateways in the network ([`crate::GatewayBuilder::inside`]) and their clients, but not
    /// among the gateways.
    Gateways,
}

/// How packets fare on a [`Link`], in each direction. By default everything passes at once.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conditions {
    /// The share of packets that nobody ever sees, 0 to 1.
    pub loss: f64,
    /// How long each is on its way.
    pub delay: Duration,
    /// How much longer at most; by chance, so that packets overtake one another.
    pub jitter: Duration,
    /// How much passes; 0 for no bound. What a megabyte waits before is lost.
    pub bytes_per_second: u32,
}

impl Conditions {
    /// No packet arrives, and nobody is told.
    pub fn silent() -> Self {
        Self {
            loss: 1.0,
            ..Self::default()
        }
    }

    /// So many bytes a second pass.
    pub fn limited(bytes_per_second: u32) -> Self {
        Self {
            bytes_per_second,
            ..Self::default()
        }
    }
}

/// The network of a cluster that was started by [`crate::ClusterBuilder::isolated`].
#[derive(Debug)]
pub struct Network {
    /// What the namespaces' names begin with.
    name: String,
    /// Of the brokers, and of gateways.
    addresses: [Ipv4Addr; 2],
    /// Until it is removed.
    wire: Mutex<Option<Wire>>,
}

impl Network {
    pub(crate) fn create() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        tools::ensure_program("ip", "iproute2")?;
        let _lock = crate::paths::lock("network")?;
        ensure_device()?;
        remove_leftovers()?;
        let pid = std::process::id();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{pid:x}-{number}");
        // 10.200.0.0/15 in blocks of eight; two processes do not share a number by chance alone.
        let block = (pid.wrapping_mul(31).wrapping_add(number)) % (1 << 14);
        let at = |side: Side| {
            let first = u32::from(Ipv4Addr::new(10, 200, 0, 0));
            Ipv4Addr::from(first + block * 8 + 1 + side as u32)
        };
        let wire = Wire::open(&name, at)?;
        let network = Self {
            name,
            addresses: [Side::Brokers, Side::Gateways].map(at),
            wire: Mutex::new(Some(wire)),
        };
        for side in Side::ALL {
            let device = side.device(&network.name);
            let mut inside = String::new();
            if side != Side::Test {
                // Named as its device is.
                run(&format!("netns add {device}"))?;
                run(&format!("link set {device} netns {device}"))?;
                inside = format!("-n {device} ");
                run(&format!("{inside}link set lo up"))?;
            }
            run(&format!("{inside}address add {}/29 dev {device}", at(side)))?;
            run(&format!("{inside}link set {device} up"))?;
        }
        Ok(network)
    }

    /// Where the brokers listen.
    pub(crate) fn address(&self) -> Ipv4Addr {
        let [brokers, _] = self.addresses;
        brokers
    }

    /// Where gateways listen that run [inside](crate::GatewayBuilder::inside).
    pub fn gateways(&self) -> Ipv4Addr {
        let [_, gateways] = self.addresses;
        gateways
    }

    /// The same command beside the brokers; the process is the command's own.
    pub(crate) fn enter(&self, command: &Command) -> Command {
        enter(&Side::Brokers.device(&self.name), command)
    }

    /// Where gateways run, for [`enter`].
    pub(crate) fn gateways_namespace(&self) -> String {
        Side::Gateways.device(&self.name)
    }

    /// From now on packets fare so, those under way excepted.
    pub fn set(&self, link: Link, conditions: Conditions) {
        if let Some(wire) = self.wire.lock().as_ref() {
            wire.set(link, conditions);
        }
    }

    /// From now on everything passes, everywhere.
    pub fn restore(&self) {
        for link in [Link::Brokers, Link::Gateways] {
            self.set(link, Conditions::default());
        }
    }

    /// Once all processes in it have ended; later calls do nothing.
    pub(crate) fn remove(&self) {
        // Its devices go with it.
        if self.wire.lock().take().is_some() {
            for side in [Side::Brokers, Side::Gateways] {
                let _ = run(&format!("netns delete {}", side.device(&self.name)));
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The same command in a namespace.
pub(crate) fn enter(namespace: &str, command: &Command) -> Command {
    let mut inside = Command::new("ip");
    inside.args(["netns", "exec", namespace]);
    inside.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            inside.env(name, value);
        }
    }
    inside
}

/// What TUN devices are made with: where nobody looks after `/dev` it may be missing, though the
/// kernel has it.
fn ensure_device() -> Result<()> {
    if Path::new(wire::DEVICE).exists() {
        return Ok(());
    }
    let mut make = Command::new("sh");
    // Its numbers are the kernel's (admin-guide/devices).
    make.args([
        "-c",
        "mkdir -p /dev/net && { mknod -m 600 /dev/net/tun c 10 200 || test -c /dev/net/tun; }",
    ]);
    tools::output(make, "", LIMIT).map(drop)
}

/// Removes the networks of test binaries that were killed.
fn remove_leftovers() -> Result<()> {
    let listed = tools::output(command("netns list"), "", LIMIT)?;
    for line in listed.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('-'));
        let Some(Ok(pid)) = owner.map(|(pid, _)| u32::from_str_radix(pid, 16)) else {
            continue;
        };
        if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
            // Somebody else may have seen it, too.
            let _ = run(&format!("netns delete {name}"));
        }
    }
    Ok(())
}

fn command(line: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(line.split_whitespace());
    command
}

fn run(line: &str) -> Result<()> {
    tools::output(command(line), "", LIMIT).map(drop)
}
