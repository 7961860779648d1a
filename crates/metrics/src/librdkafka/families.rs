//! Which tables make up a set of metrics, and walking them.

use super::json::{Broker, Client, ConsumerGroup, Eos, Partition, Topic};
use super::row::{PARTS, QUANTILES, Row, Several, StateRow, WindowRow};
use super::{ClientStatistics, StatisticsNames, StatisticsOptions, kprf, own, rest};
use crate::by_topic::OTHER;
use crate::family::{Description, Kind, Labels};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// One value.
pub(super) struct Sample {
    pub(super) family: usize,
    pub(super) several: Several,
    pub(super) labels: Labels,
    pub(super) value: f64,
}

/// All metrics of a set, and where each table's begin.
pub(super) struct Families {
    options: StatisticsOptions,
    list: Vec<Description>,
    client: Vec<Table<Client>>,
    eos: Vec<Table<Eos>>,
    eos_states: States<Eos>,
    group: Vec<Table<ConsumerGroup>>,
    group_states: Option<States<ConsumerGroup>>,
    broker: Vec<Table<Broker>>,
    requests: usize,
    broker_windows: Windows<Broker>,
    topic: Vec<Table<Topic>>,
    topic_windows: Windows<Topic>,
    partition: Vec<Table<Partition>>,
}

/// Rows and the place of the first one's family.
struct Table<T: 'static> {
    rows: &'static [Row<T>],
    first: usize,
}

struct States<T: 'static> {
    rows: &'static [StateRow<T>],
    first: usize,
}

/// Each has the families of its parts and then that of its quantiles.
struct Windows<T: 'static> {
    rows: &'static [WindowRow<T>],
    first: usize,
}

/// Gathers families.
struct Builder {
    list: Vec<Description>,
    /// Before the labels of what is not a client's own.
    shared: &'static [&'static str],
}

impl Builder {
    fn add(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        help: impl Into<Cow<'static, str>>,
        is_counter: bool,
        (before, labels): (&[&'static str], &[&'static str]),
    ) {
        self.list.push(Description {
            name: name.into(),
            help: help.into(),
            kind: if is_counter {
                Kind::Counter
            } else {
                Kind::Gauge
            },
            labels: before
                .iter()
                .chain(labels)
                .copied()
                .map(Cow::Borrowed)
                .collect(),
        });
    }

    fn table<T>(
        &mut self,
        rows: &'static [Row<T>],
        before: &[&'static str],
        labels: &[&'static str],
    ) -> Table<T> {
        let first = self.list.len();
        for row in rows {
            self.add(row.name, row.help, row.is_counter, (before, labels));
        }
        Table { rows, first }
    }

    fn states<T>(&mut self, rows: &'static [StateRow<T>], before: &[&'static str]) -> States<T> {
        let first = self.list.len();
        for (name, help, _) in rows {
            self.add(*name, *help, false, (before, &["state"]));
        }
        States { rows, first }
    }

    fn windows<T>(&mut self, rows: &'static [WindowRow<T>], label: &'static str) -> Windows<T> {
        let (first, before) = (self.list.len(), self.shared);
        for row in rows {
            for (end, what, ..) in &PARTS {
                let (name, help) = (format!("{}{end}", row.name), row.help);
                let help = format!("{help}: {what} of the last window.");
                self.add(name, help, false, (before, &[label]));
            }
            let help = format!("{}: quantiles of the last window.", row.help);
            self.add(row.name, help, false, (before, &[label, "quantile"]));
        }
        Windows { rows, first }
    }
}

impl Families {
    pub(super) fn new(options: StatisticsOptions) -> Self {
        let is_kprf = options.names == StatisticsNames::Kprf;
        let client: &[&str] = match is_kprf {
            true => &["client"],
            false => &["cluster", "client"],
        };
        let shared: &[&str] = if is_kprf { &[] } else { client };
        let mut to = Builder {
            list: Vec::new(),
            shared,
        };
        let first = match is_kprf {
            // Under kprf's names without the label.
            true => to.table(&kprf::CLIENT, &[], &[]),
            false => to.table(&own::CLIENT, client, &[]),
        };
        let client_tables = vec![first, to.table(&rest::CLIENT, client, &[])];
        let eos = vec![to.table(&rest::EOS, client, &[])];
        let eos_states = to.states(&rest::EOS_STATES, client);
        let (mut group, mut group_states) = (Vec::new(), None);
        if !is_kprf {
            group.push(to.table(&own::GROUP, client, &[]));
            group_states = Some(to.states(&own::GROUP_STATES, client));
        }
        let first: &'static [Row<Broker>] = if is_kprf { &kprf::BROKER } else { &own::BROKER };
        let broker = vec![
            to.table(first, shared, &["broker"]),
            to.table(&rest::BROKER, shared, &["broker"]),
        ];
        let requests = to.list.len();
        let (name, help) = rest::REQUESTS;
        to.add(name, help, true, (shared, &["broker", "request"]));
        let broker_windows = to.windows(&rest::BROKER_WINDOWS, "broker");
        let first: &'static [Row<Topic>] = if is_kprf { &kprf::TOPIC } else { &own::TOPIC };
        let topic = vec![
            to.table(first, shared, &["topic"]),
            to.table(&rest::TOPIC, shared, &["topic"]),
        ];
        let topic_windows = to.windows(&rest::TOPIC_WINDOWS, "topic");
        let mut partition = Vec::new();
        if options.has_partitions {
            let labels = ["topic", "partition"];
            partition.push(to.table(&rest::PARTITION, shared, &labels));
            if !is_kprf {
                partition.push(to.table(&own::PARTITION, shared, &labels));
            }
        }
        Self {
            options,
            list: to.list,
            client: client_tables,
            eos,
            eos_states,
            group,
            group_states,
            broker,
            requests,
            broker_windows,
            topic,
            topic_windows,
            partition,
        }
    }

    pub(super) fn all(&self) -> &[Description] {
        &self.list
    }

    pub(super) fn is_counter(&self, index: usize) -> bool {
        let family = self.list.get(index);
        family.is_some_and(|family| family.kind == Kind::Counter)
    }

    /// Every value of every client.
    pub(super) fn walk(
        &self,
        clients: &[(ClientStatistics, Client)],
        mut to: impl FnMut(&Client, Sample),
    ) {
        let own = self.own_topics(clients);
        for (origin, client) in clients {
            let mut walk = Walk {
                families: self,
                origin,
                to: |sample| to(client, sample),
            };
            walk.client(client);
            for (name, broker) in client.brokers.iter().filter(|(_, one)| is_real(one)) {
                walk.broker(name, broker);
            }
            for (name, topic) in &client.topics {
                let has_own = own.contains(&(&*origin.cluster, name.as_str()));
                walk.topic(if has_own { name } else { OTHER }, topic);
                if has_own {
                    walk.partitions(name, topic);
                }
            }
        }
    }

    /// Topics with series of their own, by cluster.
    fn own_topics<'a>(
        &self,
        clients: &'a [(ClientStatistics, Client)],
    ) -> BTreeSet<(&'a str, &'a str)> {
        let all: BTreeSet<(&str, &str)> = clients
            .iter()
            .flat_map(|(origin, client)| {
                let names = client.topics.keys();
                names.map(|name| (&*origin.cluster, name.as_str()))
            })
            .collect();
        all.into_iter().take(self.options.max_topics).collect()
    }
}

/// One with an address, not a place in librdkafka's books.
fn is_real(broker: &Broker) -> bool {
    !matches!(broker.source.as_str(), "internal" | "logical")
}

struct Walk<'a, F> {
    families: &'a Families,
    origin: &'a ClientStatistics,
    to: F,
}

impl<F: FnMut(Sample)> Walk<'_, F> {
    fn client(&mut self, client: &Client) {
        let families = self.families;
        self.tables(&families.client, client, &[]);
        if let Some(eos) = &client.eos {
            self.tables(&families.eos, eos, &[]);
            self.states(&families.eos_states, eos);
        }
        if let Some(group) = &client.cgrp {
            self.tables(&families.group, group, &[]);
            if let Some(states) = &families.group_states {
                self.states(states, group);
            }
        }
    }

    fn broker(&mut self, name: &str, broker: &Broker) {
        let families = self.families;
        let name: Arc<str> = name.into();
        self.tables(&families.broker, broker, std::slice::from_ref(&name));
        self.windows(&families.broker_windows, broker, &name);
        // librdkafka lists every request that it knows; a series appears with
        // its first sample.
        for (request, &count) in broker.req.iter().filter(|(_, count)| **count > 0) {
            let labels = [Arc::clone(&name), request.as_str().into()];
            self.give(families.requests, Several::Added, &labels, count);
        }
    }

    fn topic(&mut self, name: &str, topic: &Topic) {
        let families = self.families;
        let name: Arc<str> = name.into();
        self.tables(&families.topic, topic, std::slice::from_ref(&name));
        self.windows(&families.topic_windows, topic, &name);
    }

    fn partitions(&mut self, name: &str, topic: &Topic) {
        let families = self.families;
        if families.partition.is_empty() {
            return;
        }
        let name: Arc<str> = name.into();
        for (number, partition) in &topic.partitions {
            // -1 is where records wait that have none yet.
            if number == "-1" {
                continue;
            }
            let labels = [Arc::clone(&name), number.as_str().into()];
            self.tables(&families.partition, partition, &labels);
        }
    }

    fn tables<T>(&mut self, tables: &[Table<T>], source: &T, labels: &[Arc<str>]) {
        for table in tables {
            for (index, row) in table.rows.iter().enumerate() {
                self.give(
                    table.first + index,
                    row.several,
                    labels,
                    (row.value)(source),
                );
            }
        }
    }

    fn states<T>(&mut self, states: &States<T>, source: &T) {
        for (index, (_, _, state)) in states.rows.iter().enumerate() {
            let labels = [state(source).into()];
            self.give(states.first + index, Several::Added, &labels, 1);
        }
    }

    fn windows<T>(&mut self, windows: &Windows<T>, source: &T, name: &Arc<str>) {
        for (index, row) in windows.rows.iter().enumerate() {
            let window = (row.window)(source);
            let first = windows.first + index * (PARTS.len() + 1);
            let mut labels = vec![Arc::clone(name)];
            for (part, (_, _, value, several)) in PARTS.iter().enumerate() {
                self.give(first + part, *several, &labels, value(window));
            }
            for (quantile, value) in &QUANTILES {
                labels.truncate(1);
                labels.push((*quantile).into());
                let family = first + PARTS.len();
                self.give(family, Several::Largest, &labels, value(window));
            }
        }
    }

    fn give(&mut self, family: usize, several: Several, labels: &[Arc<str>], value: i64) {
        let names = self.families.list.get(family).map(|family| &*family.labels);
        let names = names.unwrap_or_default();
        let mut all = Vec::with_capacity(names.len());
        for name in names {
            match &**name {
                "cluster" => all.push(Arc::clone(&self.origin.cluster)),
                "client" => all.push(Arc::clone(&self.origin.client)),
                _ => break,
            }
        }
        all.extend(labels.iter().cloned());
        (self.to)(Sample {
            family,
            several,
            labels: all,
            value: value as f64,
        });
    }
}
