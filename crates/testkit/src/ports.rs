//! Ports that are known before a broker starts: in KRaft every node's configuration names the ports
//! of all.
//!
//! Port 0 will not do: the kernel would hand the same port to somebody else's outgoing connection
//! while a broker is down between a `stop` and a `start`. So ports are taken from below the range
//! of outgoing connections, and reserved against other test processes by a lock per port.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

use crate::error::{Context, Result};
use crate::paths;

/// Below 32768, where Linux begins with outgoing connections, and above the ports of well-known
/// services.
const FIRST: u16 = 21_000;
const COUNT: u16 = 8_000;

/// A port that no other process of this kind takes while this value lives.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _reservation: File,
}

impl Port {
    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}

pub(crate) fn reserve() -> Result<Port> {
    let reservations = paths::folder(&paths::kafka_folder()?.join("ports"))?;
    // The standard library's only source of randomness; different in every call.
    let start = RandomState::new().hash_one(std::process::id());
    for step in 0..COUNT {
        let offset = (start % u64::from(COUNT)) as u16;
        let number = FIRST + (offset + step) % COUNT;
        let reservation = paths::open_lock(&reservations.join(number.to_string()))?;
        if reservation.try_lock().is_ok()
            && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok()
        {
            return Ok(Port {
                number,
                _reservation: reservation,
            });
        }
    }
    Err(io::Error::from(io::ErrorKind::AddrInUse))
        .context(|| format!("find a free port from {FIRST} to {}", FIRST + COUNT - 1))
}
