//! A network of its own for a broker: a namespace, and a pair of interfaces between it and the
//! test. What passes can be dropped without a word to either side, or slowed down.
//!
//! Needs root, and `ip` and `tc` (Debian: `iproute2`). Dropping is done by a token bucket that no
//! packet fits into: `netem` is not in every kernel.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::error::Result;
use crate::tools;

/// How long `ip` and `tc` may take.
const LIMIT: Duration = Duration::from_secs(20);
/// What names begin with; a process id and a number follow.
const PREFIX: &str = "bk";

/// The network of a cluster that was started by [`crate::ClusterBuilder::isolated`].
#[derive(Debug)]
pub struct Network {
    /// Of the namespace, and what the interfaces' names begin with.
    name: String,
    /// The address in the namespace.
    address: String,
    is_removed: AtomicBool,
}

impl Network {
    pub(crate) fn create() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        tools::ensure_program("ip", "iproute2")?;
        tools::ensure_program("tc", "iproute2")?;
        let _lock = crate::paths::lock("network")?;
        remove_leftovers()?;
        let pid = std::process::id();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{pid:x}-{number}");
        // 10.200.0.0/15 in blocks of four; two processes do not share a number by chance alone.
        let block = (pid.wrapping_mul(31).wrapping_add(number)) % (1 << 15);
        let at = |host: u32| {
            let place = block * 4 + host;
            let (high, middle, low) = (place >> 16, place >> 8 & 0xff, place & 0xff);
            format!("10.{}.{middle}.{low}", 200 + high)
        };
        let (own, address) = (at(1), at(2));
        let network = Self {
            name,
            address,
            is_removed: AtomicBool::new(false),
        };
        let name = network.name.as_str();
        let [outside, inside] = network.interfaces();
        // Of each other they know the hardware address for good: while everything is dropped, a
        // question for it would end in an error that the test is to do without.
        let (near, far) = ("02:00:00:00:00:01", "02:00:00:00:00:02");
        let address = network.address.as_str();
        for line in [
            format!("netns add {name}"),
            format!("-n {name} link set lo up"),
            format!(
                "link add {outside} address {near} type veth peer name {inside} address {far} \
                 netns {name}"
            ),
            format!("address add {own}/30 dev {outside}"),
            format!("link set {outside} up"),
            format!("-n {name} address add {address}/30 dev {inside}"),
            format!("-n {name} link set {inside} up"),
            format!("neighbour replace {address} lladdr {far} dev {outside} nud permanent"),
            format!("-n {name} neighbour replace {own} lladdr {near} dev {inside} nud permanent"),
        ] {
            run("ip", &line)?;
        }
        Ok(network)
    }

    /// Where the broker listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The same command in the namespace; the process is the command's own.
    pub(crate) fn enter(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", self.name.as_str()]);
        inside.arg(command.get_program()).args(command.get_args());
        inside
    }

    /// From now on no packet arrives, in neither direction, and nobody is told.
    ///
    /// # Errors
    /// `tc` refuses.
    pub fn drop_packets(&self) -> Result<()> {
        self.shape("rate 8bit burst 1 limit 1")
    }

    /// From now on so many bytes a second pass in each direction.
    ///
    /// # Errors
    /// `tc` refuses.
    pub fn limit_rate(&self, bytes_per_second: u32) -> Result<()> {
        // As tc writes bytes. Large packets of this kernel's own must fit.
        self.shape(&format!("rate {bytes_per_second}bps burst 128kb limit 1mb"))
    }

    /// From now on everything passes.
    ///
    /// # Errors
    /// `tc` refuses.
    pub fn restore(&self) -> Result<()> {
        self.shape("rate 100gbit burst 10mb limit 10mb")
    }

    fn shape(&self, bucket: &str) -> Result<()> {
        let [outside, inside] = self.interfaces();
        run(
            "tc",
            &format!("qdisc replace dev {outside} root tbf {bucket}"),
        )?;
        let name = &self.name;
        run(
            "tc",
            &format!("-n {name} qdisc replace dev {inside} root tbf {bucket}"),
        )
    }

    fn interfaces(&self) -> [String; 2] {
        ["h", "n"].map(|side| format!("{}{side}", self.name))
    }

    /// Once the broker has ended; later calls do nothing.
    pub(crate) fn remove(&self) {
        if !self.is_removed.swap(true, Ordering::Relaxed) {
            // One end of the pair takes the other with it.
            let [outside, _] = self.interfaces();
            let _ = run("ip", &format!("link delete {outside}"));
            let _ = run("ip", &format!("netns delete {}", self.name));
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Removes the networks of test binaries that were killed.
fn remove_leftovers() -> Result<()> {
    let listed = tools::output(command("ip", "netns list"), "", LIMIT)?;
    for line in listed.lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('-'));
        let Some(Ok(pid)) = owner.map(|(pid, _)| u32::from_str_radix(pid, 16)) else {
            continue;
        };
        if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
            run("ip", &format!("netns delete {name}"))?;
        }
    }
    Ok(())
}

fn command(program: &str, line: &str) -> Command {
    let mut command = Command::new(program);
    command.args(line.split_whitespace());
    command
}

fn run(program: &str, line: &str) -> Result<()> {
    tools::output(command(program, line), "", LIMIT).map(drop)
}
