//! Records per client within any 60 seconds (contract, section 9). A client is
//! a bearer token or, where there are none, an address; of IPv6 the network,
//! as one host has many.

use super::limiter::Window;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    Address(IpAddr),
    /// The token's hash; tokens are kept nowhere.
    Token(u64),
}

/// What is counted of each client.
#[derive(Default)]
pub(super) struct Clients {
    windows: Mutex<Windows>,
    hasher: RandomState,
}

#[derive(Default)]
struct Windows {
    by_client: HashMap<Client, Arc<Window>>,
    /// Of those for whom there is no place.
    others: Arc<Window>,
    /// The second of the last search for idle ones.
    cleared: u64,
}

impl Clients {
    /// A client's window. Of more than `most` clients within a minute, those
    /// that come last share one.
    pub(super) fn window(
        &self,
        token: Option<&str>,
        address: Option<IpAddr>,
        most: usize,
        now: u64,
    ) -> Arc<Window> {
        let client = match (token, address) {
            (Some(token), _) => Client::Token(self.hasher.hash_one(token)),
            (None, Some(address)) => Client::Address(network(address)),
            (None, None) => return Arc::clone(&self.windows.lock().others),
        };
        let mut windows = self.windows.lock();
        if let Some(found) = windows.by_client.get(&client) {
            return Arc::clone(found);
        }
        if windows.by_client.len() >= most && windows.cleared != now {
            windows.cleared = now;
            windows.by_client.retain(|_, window| !window.is_idle(now));
        }
        if windows.by_client.len() >= most {
            return Arc::clone(&windows.others);
        }
        Arc::clone(windows.by_client.entry(client).or_default())
    }
}

/// What counts of an address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &Arc<Window>, other: &Arc<Window>) -> bool {
        Arc::ptr_eq(one, other)
    }

    #[test]
    fn a_client_is_a_token_or_a_network() {
        let clients = Clients::default();
        let of =
            |token, address: &str| clients.window(token, Some(address.parse().unwrap()), 100, 7);
        assert!(same(&of(None, "10.0.0.1"), &of(None, "::ffff:10.0.0.1")));
        assert!(!same(&of(None, "10.0.0.1"), &of(None, "10.0.0.2")));
        assert!(same(
            &of(None, "2001:db8::1"),
            &of(None, "2001:db8::2:0:0:1")
        ));
        assert!(!same(
            &of(None, "2001:db8::1"),
            &of(None, "2001:db8:0:1::1")
        ));
        assert!(same(&of(Some("t"), "10.0.0.1"), &of(Some("t"), "10.0.0.2")));
        assert!(!same(
            &of(Some("t"), "10.0.0.1"),
            &of(Some("u"), "10.0.0.1")
        ));
    }

    #[test]
    fn clients_are_bounded_and_idle_ones_go() {
        let clients = Clients::default();
        let of = |number: u8, now| clients.window(None, Some([10, 0, 0, number].into()), 2, now);
        let (first, second) = (of(1, 100), of(2, 100));
        first.check(1, false, 100).unwrap();
        second.check(1, false, 130).unwrap();
        let third = of(3, 130);
        assert!(same(&third, &of(4, 130)), "they share one");
        // The first is idle by now, and its place is free.
        let third = of(3, 160);
        assert!(!same(&third, &of(4, 160)));
        assert!(same(&second, &of(2, 160)));
    }
}
