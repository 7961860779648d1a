//! Pushes all metrics to statsd over UDP: counters as what has come since the
//! last time, gauges as they stand, of histograms their counts and sums.
//!
//! A series' name is the metric's, and the values of its labels behind it,
//! with dots between: `barnabas.requests_total.http.GET__v1_clusters.200`.

use super::StatsdSettings;
use anyhow::{Context as _, Result};
use barnabas_metrics::{Family, FamilySample, Kind, Registry, Value};
use std::collections::HashMap;
use std::net::{SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::ops::Range;
use std::time::Duration;

/// What all our names begin with; the prefix says it already.
const OWN: &str = "barnabas_";

/// Series that are remembered beyond those that are shown: one that is gone
/// may come back with what it had.
const REMEMBERED: usize = 50_000;

/// Datagrams that are sent without a pause, less than half of what a socket
/// holds that nobody has made larger; and the pause.
const BURST: usize = 32;
const PAUSE: Duration = Duration::from_millis(5);

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
        for (index, datagram) in packed(&lines, self.mtu).into_iter().enumerate() {
            if index > 0 && index.is_multiple_of(BURST) {
                std::thread::sleep(PAUSE);
            }
            if self.socket.send(datagram.text.as_bytes()).is_err() {
                // No room, or nobody there: it comes with the next push. What
                // is lost on the way is lost: it is UDP.
                let lines = lines.get(datagram.lines).unwrap_or_default();
                let counted = lines.iter().filter_map(|line| line.counted.clone());
                self.pushed.extend(counted);
            }
        }
    }

    fn lines(&mut self, families: &[Family]) -> Vec<Line> {
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
                        lines.extend(self.counter(&name, &mut shown, own, *value));
                    }
                    (Value::Histogram { count, sum, .. }, _) => {
                        for (part, value) in [("count", *count as f64), ("sum", *sum)] {
                            let own = key(family, sample, part);
                            let name = format!("{name}.{part}");
                            lines.extend(self.counter(&name, &mut shown, own, value));
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

    /// What has come of a counter since it was pushed, if anything has.
    fn counter(
        &self,
        name: &str,
        shown: &mut HashMap<String, f64>,
        key: String,
        value: f64,
    ) -> Option<Line> {
        let before = self.pushed.get(&key).copied().unwrap_or(0.0);
        shown.insert(key.clone(), value);
        // One that has fallen has begun anew.
        let (before, more) = match value < before {
            true => (0.0, value),
            false => (before, value - before),
        };
        (more > 0.0).then(|| Line {
            text: format!("{name}:{more}|c"),
            counted: Some((key, before)),
        })
    }
}

/// A line, and for a counter its key and what had been pushed before.
struct Line {
    text: String,
    counted: Option<(String, f64)>,
}

/// Some of the lines.
struct Datagram {
    text: String,
    lines: Range<usize>,
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

/// statsd takes a number with a sign for a change.
fn gauge(lines: &mut Vec<Line>, name: &str, value: f64) {
    let text = match value < 0.0 {
        true => format!("{name}:0|g\n{name}:{value}|g"),
        false => format!("{name}:{value}|g"),
    };
    lines.push(Line {
        text,
        counted: None,
    });
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
fn packed(lines: &[Line], mtu: usize) -> Vec<Datagram> {
    let mut datagrams: Vec<Datagram> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        match datagrams.last_mut() {
            Some(last) if last.text.len() + 1 + line.text.len() <= mtu => {
                last.text.push('\n');
                last.text.push_str(&line.text);
                last.lines.end = index + 1;
            }
            _ => datagrams.push(Datagram {
                text: line.text.clone(),
                lines: index..index + 1,
            }),
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

    fn total(label: &str, value: f64) -> Family {
        let value = Value::Number(value);
        family("barnabas_x_total", Kind::Counter, label, value)
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
        let mut lines = |families: &[Family]| -> Vec<String> {
            let lines = statsd.lines(families).into_iter();
            lines.map(|line| line.text).collect()
        };
        let alike = [total("a.b", 3.0), total("a_b", 10.0)];
        let both = ["barnabas.x_total.a_b:3|c", "barnabas.x_total.a_b:10|c"];
        assert_eq!(lines(&alike), both);
        assert_eq!(lines(&alike), [""; 0]);
        assert_eq!(lines(&[]), [""; 0]);
        let both = ["barnabas.x_total.a_b:2|c", "barnabas.x_total.a_b:1|c"];
        assert_eq!(lines(&[total("a.b", 5.0), total("a_b", 11.0)]), both);
    }

    #[test]
    fn what_could_not_be_sent_comes_with_the_next_push() {
        let (listener, mut statsd) = statsd(1432);
        statsd.push_once(&[total("a", 3.0)]);
        assert_eq!(received(&listener), "barnabas.x_total.a:3|c");
        // A datagram cannot be so long.
        let long = "x".repeat(70_000);
        statsd.push_once(&[total(&long, 1.0), total("a", 4.0)]);
        assert_eq!(received(&listener), "barnabas.x_total.a:1|c");
        let lines = statsd.lines(&[total(&long, 3.0), total("a", 4.0)]);
        let ends = lines.iter().map(|line| line.text.ends_with(":3|c"));
        assert_eq!(ends.collect::<Vec<_>>(), [true], "1 and 2 more");
    }

    #[test]
    fn a_datagram_is_no_longer_than_allowed() {
        let lines = ["aaaa", "bbbb", "cc", "dddddddddddd", "e"].map(|text| Line {
            text: text.to_owned(),
            counted: None,
        });
        let packed = packed(&lines, 9);
        let texts: Vec<&str> = packed.iter().map(|own| &*own.text).collect();
        assert_eq!(texts, ["aaaa\nbbbb", "cc", "dddddddddddd", "e"]);
        let places: Vec<_> = packed.iter().map(|own| own.lines.clone()).collect();
        assert_eq!(places, [0..2, 2..3, 3..4, 4..5]);
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
