//! The wire: a device (TUN) on each side, and a thread that carries packets from one to another.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Conditions, Link};
use crate::error::{Context, Result};

/// Opening it makes a device.
pub(super) const DEVICE: &str = "/dev/net/tun";

/// What may wait for a limited rate, on each way.
const BACKLOG_BYTES: f64 = 1e6;
/// What may be under way at all; the next packet is lost.
const PACKETS: usize = 50_000;
/// Taken from one device before another is looked at.
const TURN: usize = 64;
/// More than any device's packets have.
const PACKET_BYTES: usize = 1 << 16;

/// Who is where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The test, and all that it starts without further words.
    Test,
    Brokers,
    Gateways,
}

impl Side {
    pub(super) const ALL: [Self; 3] = [Self::Test, Self::Brokers, Self::Gateways];

    /// The name of its device; at most 15 characters.
    pub(super) fn device(self, network: &str) -> String {
        let letter = match self {
            Self::Test => 't',
            Self::Brokers => 'b',
            Self::Gateways => 'g',
        };
        format!("{network}{letter}")
    }
}

/// Ends, and its devices with it, when it is dropped.
#[derive(Debug)]
pub(super) struct Wire {
    conditions: Arc<Mutex<[Conditions; 2]>>,
    /// The thread ends when the other end is closed.
    end: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Makes the devices, each named after its side, all in the namespace of this thread.
    pub(super) fn open(network: &str, address: impl Fn(Side) -> Ipv4Addr) -> Result<Self> {
        let mut ports = Vec::new();
        for side in Side::ALL {
            ports.push(Port {
                side,
                address: address(side),
                device: open_device(&side.device(network))?,
                free_at: [Instant::now(); Side::ALL.len()],
            });
        }
        let (ended, end) = io::pipe().context(|| "make a pipe".to_owned())?;
        let conditions = Arc::default();
        let mut carrier = Carrier {
            ports,
            conditions: Arc::clone(&conditions),
            under_way: BinaryHeap::new(),
            number: 0,
        };
        let thread = thread::Builder::new()
            .name("testkit-wire".to_owned())
            .spawn(move || carrier.carry(&ended))
            .context(|| "start a thread".to_owned())?;
        Ok(Self {
            conditions,
            end: Some(end),
            thread: Some(thread),
        })
    }

    pub(super) fn set(&self, link: Link, conditions: Conditions) {
        let [brokers, gateways] = &mut *self.conditions.lock();
        match link {
            Link::Brokers => *brokers = conditions,
            Link::Gateways => *gateways = conditions,
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // Had it panicked, nothing would have passed any more.
            let _ = thread.join();
        }
    }
}

struct Port {
    side: Side,
    address: Ipv4Addr,
    device: File,
    /// When a limited rate has let pass what is for each side.
    free_at: [Instant; Side::ALL.len()],
}

/// A packet that is to arrive. Ordered by time, then as they were sent.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    due: Instant,
    number: u64,
    to: usize,
    bytes: Vec<u8>,
}

struct Carrier {
    ports: Vec<Port>,
    conditions: Arc<Mutex<[Conditions; 2]>>,
    under_way: BinaryHeap<Reverse<Packet>>,
    number: u64,
}

impl Carrier {
    /// Until the pipe is closed.
    fn carry(&mut self, ended: &io::PipeReader) {
        let mut buffer = vec![0; PACKET_BYTES];
        let devices = self.ports.iter().map(|port| port.device.as_raw_fd());
        let watched: Vec<RawFd> = devices.chain([ended.as_raw_fd()]).collect();
        loop {
            let next = self.under_way.peek();
            let wait =
                next.map(|Reverse(packet)| packet.due.saturating_duration_since(Instant::now()));
            let ready = wait_for_input(&watched, wait);
            if ready.last() == Some(&true) {
                return;
            }
            for (from, _) in ready.iter().enumerate().filter(|(_, is_ready)| **is_ready) {
                for _ in 0..TURN {
                    let Some(length) = self.read(from, &mut buffer) else {
                        break;
                    };
                    self.take(from, buffer.get(..length).unwrap_or_default());
                }
            }
            self.deliver();
        }
    }

    fn read(&mut self, from: usize, buffer: &mut [u8]) -> Option<usize> {
        let port = self.ports.get_mut(from)?;
        // There is nothing, or the device is not up yet.
        port.device.read(buffer).ok()
    }

    /// Puts a packet on its way, or loses it.
    fn take(&mut self, from: usize, bytes: &[u8]) {
        let Some(address) = destination(bytes) else {
            return;
        };
        let to = self.ports.iter().position(|port| port.address == address);
        let Some(to) = to.filter(|_| self.under_way.len() < PACKETS) else {
            return;
        };
        let Some(arrival) = self.ports.get(to).map(|port| port.side) else {
            return;
        };
        let Some(port) = self.ports.get_mut(from) else {
            return;
        };
        let [brokers, gateways] = *self.conditions.lock();
        let conditions = match [port.side, arrival].contains(&Side::Brokers) {
            true => brokers,
            false => gateways,
        };
        // With 0 nothing is lost, and with 1 everything.
        if fastrand::f64() < conditions.loss {
            return;
        }
        let now = Instant::now();
        let mut leaves = now;
        let rate = f64::from(conditions.bytes_per_second);
        if rate > 0.0
            && let Some(free_at) = port.free_at.get_mut(to)
        {
            leaves = leaves.max(*free_at);
            if leaves.duration_since(now).as_secs_f64() * rate > BACKLOG_BYTES {
                return;
            }
            leaves += Duration::from_secs_f64(bytes.len() as f64 / rate);
            *free_at = leaves;
        }
        self.number += 1;
        self.under_way.push(Reverse(Packet {
            due: leaves + conditions.delay + conditions.jitter.mul_f64(fastrand::f64()),
            number: self.number,
            to,
            bytes: bytes.to_vec(),
        }));
    }

    fn deliver(&mut self) {
        let now = Instant::now();
        while self
            .under_way
            .peek()
            .is_some_and(|Reverse(packet)| packet.due <= now)
        {
            let Some(Reverse(packet)) = self.under_way.pop() else {
                return;
            };
            if let Some(port) = self.ports.get_mut(packet.to) {
                // A device that takes nothing loses packets, as others do.
                let _ = port.device.write(&packet.bytes);
            }
        }
    }
}

/// Where an IPv4 packet goes (RFC 791); the kernel's own questions for IPv6 neighbours go nowhere.
fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    const AT: usize = 16;

    let is_ipv4 = packet.first()? >> 4 == 4;
    let octets: &[u8; 4] = packet.get(AT..)?.first_chunk()?;
    is_ipv4.then(|| Ipv4Addr::from(*octets))
}

/// Opens a new device for whole packets, without a header of the device's own.
fn open_device(name: &str) -> Result<File> {
    let device = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(DEVICE)
        .context(|| format!("open {DEVICE}"))?;
    name_device(&device, name).context(|| format!("make the network device {name}"))?;
    Ok(device)
}

#[allow(
    unsafe_code,
    reason = "std has no ioctl; this one reads and writes the structure that it is given"
)]
fn name_device(device: &File, name: &str) -> io::Result<()> {
    // SAFETY: all of its fields may be zero.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // One byte stays zero.
    let room = request.ifr_name.len().saturating_sub(1);
    for (to, from) in request.ifr_name.iter_mut().take(room).zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request is a valid ifreq and outlives the call.
    match unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Which of these have something to be read, or have been closed; none if nothing has within `limit`.
#[allow(
    unsafe_code,
    reason = "std has no poll; it reads and writes the list that it is given"
)]
fn wait_for_input(watched: &[RawFd], limit: Option<Duration>) -> Vec<bool> {
    let mut asked: Vec<libc::pollfd> = watched
        .iter()
        .map(|fd| libc::pollfd {
            fd: *fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    // Up to the next whole one, so as not to ask again and again before.
    let limit = limit.map_or(-1, |limit| {
        libc::c_int::try_from(limit.as_micros().div_ceil(1_000)).unwrap_or(libc::c_int::MAX)
    });
    let count = asked.len() as libc::nfds_t;
    // SAFETY: the list has as many entries as is said. An error leaves all of them zero.
    unsafe { libc::poll(asked.as_mut_ptr(), count, limit) };
    asked.iter().map(|one| one.revents != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_go_where_their_headers_say() {
        let mut packet = [0; 20];
        packet[0] = 0x45;
        packet[16..].copy_from_slice(&[10, 200, 0, 3]);
        assert_eq!(destination(&packet), Some(Ipv4Addr::new(10, 200, 0, 3)));
        assert_eq!(destination(&packet[..19]), None);
        packet[0] = 0x60;
        assert_eq!(destination(&packet), None);
        assert_eq!(destination(&[]), None);
    }
}
