//! Pushes what happens to topics to statsd over UDP.
//!
//! Names and formats are those of ekaf's demo (contract, `producer-engine.md`,
//! section 7). statsd's lines are text that nothing here has to understand, so
//! this lives in the engine, as a listener like any other.

use super::events::{Event, Events, Happening};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Gauges and counters that wait for their turn; a topic has a few per
/// partition. More are left out until then.
const REMEMBERED: usize = 100_000;

/// Where and how statsd is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsdConfig {
    /// `host:port`.
    pub address: String,
    /// In front of each name.
    pub prefix: String,
    /// The largest datagram; metrics are packed into it.
    pub mtu: usize,
    /// Gauges are pushed once in this time, with their last value; counters
    /// with what has come together.
    pub interval: Duration,
}

impl Default for StatsdConfig {
    fn default() -> Self {
        Self {
            address: "localhost:8125".to_owned(),
            prefix: "ekaf.".to_owned(),
            mtu: 1432,
            interval: Duration::from_secs(1),
        }
    }
}

/// The listener. It sends what concerns topics that have statsd switched on,
/// never waits, and counts what it could not send.
pub struct Statsd {
    socket: UdpSocket,
    config: StatsdConfig,
    state: Mutex<State>,
    unsent: AtomicU64,
}

struct State {
    /// By name: statsd is told in this order.
    metrics: BTreeMap<String, Metric>,
    pushed: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metric {
    Gauge(u64),
    Counter(u64),
}

impl Statsd {
    /// Opens a socket; nobody has to listen there.
    ///
    /// # Errors
    /// The address cannot be resolved, or no socket can be had.
    pub fn new(config: StatsdConfig) -> io::Result<Self> {
        let mut addresses = config.address.to_socket_addrs()?;
        let address = addresses.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let own: SocketAddr = match address {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let socket = UdpSocket::bind(own)?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            config,
            state: Mutex::new(State {
                metrics: BTreeMap::new(),
                pushed: Instant::now(),
            }),
            unsent: AtomicU64::new(0),
        })
    }

    /// Datagrams and metrics that could not be sent.
    pub fn unsent(&self) -> u64 {
        self.unsent.load(Ordering::Relaxed)
    }

    fn push(&self, metrics: BTreeMap<String, Metric>) {
        let mut datagram = String::new();
        let mut line = String::new();
        for (name, metric) in metrics {
            line.clear();
            let prefix = &self.config.prefix;
            // Text into memory: nothing can fail.
            let _ = match metric {
                Metric::Gauge(value) => write!(line, "{prefix}{name}:{value}|g|@1.0"),
                Metric::Counter(count) => write!(line, "{prefix}{name}:{count}|c|@1.0"),
            };
            if !datagram.is_empty() {
                if datagram.len() + 1 + line.len() > self.config.mtu {
                    self.send(&datagram);
                    datagram.clear();
                } else {
                    datagram.push('\n');
                }
            }
            datagram.push_str(&line);
        }
        if !datagram.is_empty() {
            self.send(&datagram);
        }
    }

    fn send(&self, datagram: &str) {
        if self.socket.send(datagram.as_bytes()).is_err() {
            self.unsent.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Events for Statsd {
    fn happened(&self, event: &Event) {
        if !event.has_statsd {
            return;
        }
        let Some((name, metric)) = metric_of(event) else {
            return;
        };
        let metrics = &mut self.state.lock().metrics;
        let has_room = metrics.len() < REMEMBERED;
        match (metrics.get_mut(&name), metric) {
            (Some(Metric::Counter(sum)), Metric::Counter(count)) => *sum += count,
            (Some(known), metric) => *known = metric,
            (None, metric) if has_room => {
                metrics.insert(name, metric);
            }
            (None, _) => {
                self.unsent.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn pause(&self) {
        let metrics = {
            let mut state = self.state.lock();
            if state.metrics.is_empty() || state.pushed.elapsed() < self.config.interval {
                return;
            }
            state.pushed = Instant::now();
            std::mem::take(&mut state.metrics)
        };
        self.push(metrics);
    }
}

/// The name behind the prefix, and the value.
fn metric_of(event: &Event) -> Option<(String, Metric)> {
    let topic = &event.topic;
    let of_partition = |name: &str, last: &str| {
        let leader = event.leader.unwrap_or(-1);
        let partition = event.partition.unwrap_or(-1);
        format!("{topic}.ekaf_callback_{name}.broker{leader}.{partition}{last}")
    };
    let of_topic = |name: &str| format!("{topic}.{name}");
    Some(match &event.what {
        Happening::Flush { messages } => {
            (of_partition("flush", ""), Metric::Gauge(*messages as u64))
        }
        Happening::FlushedReplied { unanswered, .. } => (
            of_partition("flushed_replied", ".diff"),
            Metric::Gauge(*unanswered as u64),
        ),
        Happening::WorkerUp { .. } => (of_partition("worker_up", ""), Metric::Counter(1)),
        Happening::WorkerDown { .. } => (of_partition("worker_down", ""), Metric::Counter(1)),
        Happening::WorkerStillDown { .. } => {
            (of_topic("mainbroker_unreachable"), Metric::Counter(1))
        }
        Happening::TimeToConnect(time) => (
            of_partition("time_to_connect", ""),
            Metric::Gauge(milliseconds(*time)),
        ),
        Happening::TimeDown(time) => (
            of_topic("ekaf_callback_time_down"),
            Metric::Gauge(milliseconds(*time)),
        ),
        Happening::DowntimeSaved { .. } => {
            (of_topic("ekaf_callback_downtime_saved"), Metric::Counter(1))
        }
        Happening::DowntimeReplayed { .. } => (
            of_topic("ekaf_callback_downtime_replayed"),
            Metric::Counter(1),
        ),
        Happening::MaxDowntimeBufferReached { .. } => (
            of_topic("ekaf_callback_max_downtime_buffer_reached"),
            Metric::Counter(1),
        ),
        Happening::Dropped { .. } => return None,
    })
}

/// Rounded up.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn event(has_statsd: bool, what: Happening) -> Event {
        Event {
            topic: "events".into(),
            partition: Some(0),
            leader: Some(1),
            at: SystemTime::now(),
            has_statsd,
            what,
        }
    }

    fn pair(mtu: usize) -> (UdpSocket, Statsd) {
        let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
        let patience = Some(Duration::from_secs(20));
        listener.set_read_timeout(patience).unwrap();
        let statsd = Statsd::new(StatsdConfig {
            address: listener.local_addr().unwrap().to_string(),
            mtu,
            interval: Duration::ZERO,
            ..StatsdConfig::default()
        });
        (listener, statsd.unwrap())
    }

    fn received(listener: &UdpSocket) -> String {
        let mut bytes = [0; 2_000];
        let length = listener.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn names_and_values_are_those_of_ekaf() {
        let (listener, statsd) = pair(1432);
        statsd.happened(&event(true, Happening::Flush { messages: 7 }));
        statsd.happened(&event(true, Happening::Flush { messages: 100 }));
        statsd.happened(&event(true, Happening::WorkerUp { lanes: 1 }));
        statsd.happened(&event(true, Happening::DowntimeSaved { messages: 3 }));
        statsd.happened(&event(true, Happening::DowntimeSaved { messages: 3 }));
        let took = Duration::from_micros(59_279_001);
        statsd.happened(&event(true, Happening::TimeDown(took)));
        let reason = "gone".into();
        statsd.happened(&event(true, Happening::WorkerStillDown { reason }));
        statsd.happened(&event(false, Happening::Flush { messages: 9 }));
        statsd.pause();
        let lines = received(&listener);
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(
            lines,
            [
                "ekaf.events.ekaf_callback_downtime_saved:2|c|@1.0",
                "ekaf.events.ekaf_callback_flush.broker1.0:100|g|@1.0",
                "ekaf.events.ekaf_callback_time_down:59280|g|@1.0",
                "ekaf.events.ekaf_callback_worker_up.broker1.0:1|c|@1.0",
                "ekaf.events.mainbroker_unreachable:1|c|@1.0",
            ]
        );
    }

    #[test]
    fn a_datagram_is_no_longer_than_allowed() {
        let (listener, statsd) = pair(100);
        for partition in 0..3 {
            let mut up = event(true, Happening::WorkerUp { lanes: 1 });
            up.partition = Some(partition);
            statsd.happened(&up);
        }
        statsd.pause();
        // Each line has 54 bytes.
        let datagrams: Vec<String> = (0..3).map(|_| received(&listener)).collect();
        for (partition, datagram) in datagrams.iter().enumerate() {
            let expected =
                format!("ekaf.events.ekaf_callback_worker_up.broker1.{partition}:1|c|@1.0");
            assert_eq!(*datagram, expected);
        }
        assert_eq!(statsd.unsent(), 0);
    }

    #[test]
    fn nobody_has_to_listen() {
        let (listener, statsd) = pair(1432);
        drop(listener);
        for _ in 0..3 {
            statsd.happened(&event(true, Happening::Flush { messages: 1 }));
            statsd.pause();
        }
    }
}
