//! Pushes all metrics to statsd over UDP: counters as what has come since the
//! last time, gauges as they stand, of histograms their counts and sums.
//!
//! A series' name is the metric's, and the values of its labels behind it,
//! with dots between: `barnabas.requests_total.http.GET__v1_clusters.200`.

use super::StatsdSettings;
use anyhow::{Context as _, Result};
use barnabas_metrics::{Family, FamilySample, Kind, Registry, Value};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::time::Duration;

/// What all our names begin with; the prefix says it already.
const OWN: &str = "barnabas_";

/// Series that are remembered beyond those that are shown: one that is gone
/// may come back with what it had.
const REMEMBERED: usize = 50_000;

/// The socket, and what was pushed last.
pub(super) struct Statsd {
    socket: UdpSocket,
    prefix: String,
    interval: Duration,
    mtu: usize,
    /// Counters by [`key`]: two series may have the same name here.
    pushed: HashMap<String, f64>,
}

impl Statsd {
    /// Opens a socket; nobody has to listen there.
    ///
    /// # Errors
    /// The address cannot be resolved, or no socket can be had.
    pub(super) fn open(settings: &StatsdSettings) -> Result<Self> {
        let mut addresses = settings
            .address
            .to_socket_addrs()
            .with_context(|| settings.address.clone())?;
        let address = addresses.next().context("no such host")?;
        let own: SocketAddr = match address {
            SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
            SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
        };
        let socket = UdpSocket::bind(own)?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            prefix: settings.prefix.clone(),
            interval: settings.interval,
            mtu: settings.mtu,
            pushed: HashMap::new(),
        })
    }

    /// Pushes what the registry shows, again and again. Gathering has a thread
    /// of its own.
    pub(super) async fn push(mut self, registry: Registry) {
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let registry = registry.clone();
            let pushed = tokio::task::spawn_blocking(move || {
                self.push_once(&registry.families());
                self
            });
            match pushed.await {
                Ok(own) => self = own,
                // The runtime ends.
                Err(_) => return,
            }
        }
    }

    fn push_once(&mut self, families: &[Family]) {
        let lines = self.lines(families);
        for datagram in packed(&lines, self.mtu) {
            // What finds no room, or nobody, is lost: it is UDP.
            let _ = self.socket.send(datagram.as_bytes());
        }
    }

    fn lines(&mut self, families: &[Family]) -> Vec<String> {
        let mut lines = Vec::new();
        let mut shown = HashMap::new();
        for family in families {
            let metric = family.name.strip_prefix(OWN).unwrap_or(&family.name);
            for sample in &family.samples {
                let mut name = format!("{}{metric}", self.prefix);
                for (_, value) in &sample.labels {
                    name.push('.');
                    name.extend(value.chars().map(in_names));
                }
                match (&sample.value, family.kind) {
                    (Value::Number(value), Kind::Gauge) => gauge(&mut lines, &name, *value),
                    (Value::Number(value), _) => {
                        let own = key(family, sample, "");
                        counter(&mut lines, &name, self.since(&mut shown, own, *value));
                    }
                    (Value::Histogram { count, sum, .. }, _) => {
                        for (part, value) in [("count", *count as f64), ("sum", *sum)] {
                            let own = key(family, sample, part);
                            let name = format!("{name}.{part}");
                            counter(&mut lines, &name, self.since(&mut shown, own, value));
                        }
                    }
                }
            }
        }
        if self.pushed.len() > REMEMBERED {
            self.pushed = shown;
        } else {
            self.pushed.extend(shown);
        }
        lines
    }

    /// What has come of a counter since it was pushed.
    fn since(&self, shown: &mut HashMap<String, f64>, key: String, value: f64) -> f64 {
        let before = self.pushed.get(&key).copied().unwrap_or(0.0);
        shown.insert(key, value);
        // One that has fallen has begun anew.
        if value < before {
            value
        } else {
            value - before
        }
    }
}

/// What tells a series from all others.
fn key(family: &Family, sample: &FamilySample, part: &str) -> String {
    let mut key = family.name.clone();
    let values = sample.labels.iter().map(|(_, value)| value.as_str());
    for value in values.chain([part]) {
        key.push('\0');
        key.push_str(value);
    }
    key
}

fn counter(lines: &mut Vec<String>, name: &str, more: f64) {
    if more > 0.0 {
        lines.push(format!("{name}:{more}|c"));
    }
}

/// statsd takes a number with a sign for a change.
fn gauge(lines: &mut Vec<String>, name: &str, value: f64) {
    let mut line = String::new();
    if value < 0.0 {
        let _ = write!(line, "{name}:0|g\n{name}:{value}|g");
    } else {
        let _ = write!(line, "{name}:{value}|g");
    }
    lines.push(line);
}

/// What separates names and values in statsd, or parts of names, is no part of
/// a label.
fn in_names(character: char) -> char {
    match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => character,
        _ => '_',
    }
}

/// As many lines in a datagram as fit; one that is too long goes alone.
fn packed(lines: &[String], mtu: usize) -> Vec<String> {
    let mut datagrams: Vec<String> = Vec::new();
    for line in lines {
        match datagrams.last_mut() {
            Some(last) if last.len() + 1 + line.len() <= mtu => {
                last.push('\n');
                last.push_str(line);
            }
            _ => datagrams.push(line.clone()),
        }
    }
    datagrams
}

#[cfg(test)]
mod tests {
    use super::*;
    use barnabas_metrics::Description;

    fn statsd(mtu: usize) -> (UdpSocket, Statsd) {
        let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
        let patience = Some(Duration::from_secs(20));
        listener.set_read_timeout(patience).unwrap();
        let statsd = Statsd::open(&StatsdSettings {
            address: listener.local_addr().unwrap().to_string(),
            mtu,
            interval: Duration::from_millis(10),
            ..StatsdSettings::default()
        });
        (listener, statsd.unwrap())
    }

    fn received(listener: &UdpSocket) -> String {
        let mut bytes = [0; 2_000];
        let length = listener.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    fn family(name: &str, kind: Kind, label: &str, value: Value) -> Family {
        Family {
            name: name.to_owned(),
            help: String::new(),
            kind,
            samples: vec![FamilySample {
                labels: vec![("of".to_owned(), label.to_owned())],
                value,
            }],
        }
    }

    #[test]
    fn counters_are_pushed_as_what_has_come_since() {
        let (listener, mut statsd) = statsd(1432);
        let state = |count: f64, level: f64| {
            [
                family(
                    "barnabas_requests_total",
                    Kind::Counter,
                    "GET /a.b",
                    Value::Number(count),
                ),
                family("barnabas_open", Kind::Gauge, "x", Value::Number(level)),
                family(
                    "barnabas_time",
                    Kind::Histogram,
                    "x",
                    Value::Histogram {
                        count: count as u64,
                        sum: count / 2.0,
                        buckets: Vec::new(),
                    },
                ),
            ]
        };
        statsd.push_once(&state(3.0, 7.0));
        assert_eq!(
            received(&listener),
            "barnabas.requests_total.GET__a_b:3|c\nbarnabas.open.x:7|g\n\
             barnabas.time.x.count:3|c\nbarnabas.time.x.sum:1.5|c"
        );
        // Nothing new but the level.
        statsd.push_once(&state(3.0, -2.0));
        assert_eq!(
            received(&listener),
            "barnabas.open.x:0|g\nbarnabas.open.x:-2|g"
        );
        statsd.push_once(&state(5.0, 0.0));
        assert!(received(&listener).starts_with("barnabas.requests_total.GET__a_b:2|c\n"));
        // Begun anew.
        statsd.push_once(&state(1.0, 0.0));
        assert!(received(&listener).starts_with("barnabas.requests_total.GET__a_b:1|c\n"));
    }

    /// They may share a name here, and a scrape may miss one.
    #[test]
    fn series_are_told_apart_and_remembered() {
        let (_listener, mut statsd) = statsd(1432);
        let total = |label, value| {
            let value = Value::Number(value);
            family("barnabas_x_total", Kind::Counter, label, value)
        };
        let alike = [total("a.b", 3.0), total("a_b", 10.0)];
        let lines = statsd.lines(&alike);
        assert_eq!(
            lines,
            ["barnabas.x_total.a_b:3|c", "barnabas.x_total.a_b:10|c"]
        );
        assert_eq!(statsd.lines(&alike), [""; 0]);
        assert_eq!(statsd.lines(&[]), [""; 0]);
        let lines = statsd.lines(&[total("a.b", 5.0), total("a_b", 11.0)]);
        assert_eq!(
            lines,
            ["barnabas.x_total.a_b:2|c", "barnabas.x_total.a_b:1|c"]
        );
    }

    #[test]
    fn a_datagram_is_no_longer_than_allowed() {
        let lines = ["aaaa", "bbbb", "cc", "dddddddddddd", "e"].map(str::to_owned);
        let packed = packed(&lines, 9);
        assert_eq!(packed, ["aaaa\nbbbb", "cc", "dddddddddddd", "e"]);
    }

    #[tokio::test]
    async fn the_registry_is_pushed_and_nobody_has_to_listen() {
        let (listener, statsd) = statsd(1432);
        let registry = Registry::new();
        let level = Description::new(Kind::Gauge, "barnabas_level", "Level.", &["of"]);
        let read = |samples: &mut barnabas_metrics::Samples| samples.add(0, &["a"], 2.0);
        registry.snapshot(vec![level], read).unwrap();
        let pushing = tokio::spawn(statsd.push(registry));
        let heard = tokio::task::spawn_blocking(move || {
            let first = received(&listener);
            // Gone: the next ones find nobody, and nothing waits for them.
            drop(listener);
            first
        });
        assert_eq!(heard.await.unwrap(), "barnabas.level.a:2|g");
        assert!(!pushing.is_finished());
        pushing.abort();
    }
}
