//! The clusters of a process: opened together, reached one by one, stopped
//! in the contract's order.

use crate::config::Keeping;
use crate::replicas::Link;
use anyhow::Result;
use barnabas_engine::{
    Cluster, ClusterConfig, DispatchConfig, Dispatcher, Error, InitialOffset, PerTopic, Properties,
    Proxies, Proxy, ProxyOptions, Replicas, Strategies, TopicStrategy, client_id_at,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::{JoinHandle, JoinSet};

/// A cluster as it is to be opened.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) config: ClusterConfig,
    /// How its groups are served over HTTP and gRPC.
    pub(crate) dispatch: DispatchConfig,
    /// Properties of those groups' consumers, before the cluster's.
    pub(crate) group_properties: Properties,
    pub(crate) options: ProxyOptions,
    /// How the partitions of its topics are picked, if it is said.
    pub(crate) strategies: Option<PerTopic<Option<TopicStrategy>>>,
    /// The texts of the scripts that pick, by their paths.
    pub(crate) scripts: BTreeMap<String, String>,
    /// It is the one inside this process.
    pub(crate) is_embedded: bool,
}

impl Plan {
    /// Of a cluster of which nothing else is configured.
    pub(crate) fn new(config: ClusterConfig) -> Self {
        Self {
            config,
            dispatch: DispatchConfig::default(),
            group_properties: Properties::new(),
            options: ProxyOptions {
                is_consuming_disabled: false,
                has_headers: true,
                max_message_bytes: 1_000_000,
                strict_async: false,
            },
            strategies: None,
            scripts: BTreeMap::new(),
            is_embedded: false,
        }
    }
}

/// A cluster that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub(crate) struct OpenError {
    pub(crate) name: String,
    source: Error,
}

/// A cluster that is open.
#[derive(Clone)]
pub(crate) struct Open {
    pub(crate) name: String,
    pub(crate) cluster: Cluster,
    pub(crate) dispatcher: Dispatcher,
}

/// All of them.
pub(crate) struct Clusters {
    /// What the front ends address.
    pub(crate) proxies: Arc<Proxies>,
    /// In the order of their plans.
    pub(crate) open: Vec<Open>,
    /// Each ends when its cluster has answered.
    reaching: Vec<JoinHandle<()>>,
}

impl Clusters {
    /// Opens all; connecting goes on behind. Must be called inside a Tokio
    /// runtime.
    ///
    /// # Errors
    /// The first cluster whose properties librdkafka refuses. Its default
    /// one has to be among them.
    pub(crate) fn open(default: String, plans: Vec<Plan>, replicas: Option<&Link>) -> Result<Self> {
        let mut open = Vec::new();
        let mut by_name = BTreeMap::new();
        for plan in plans {
            let name = plan.config.name.clone();
            let (one, proxy) = open_one(plan, replicas).map_err(|source| OpenError {
                name: name.clone(),
                source,
            })?;
            open.push(one);
            by_name.insert(name, proxy);
        }
        let proxies = Arc::new(Proxies::new(default, by_name)?);
        let mut reaching = Vec::new();
        for one in &open {
            let proxy = Arc::clone(proxies.get(&one.name)?);
            reaching.push(tokio::spawn(async move { proxy.reach().await }));
        }
        Ok(Self {
            proxies,
            open,
            reaching,
        })
    }

    /// The cluster of a name.
    pub(crate) fn get(&self, name: &str) -> Option<&Cluster> {
        let found = self.open.iter().find(|one| one.name == name);
        found.map(|one| &one.cluster)
    }

    /// Waits until one of the clusters answers; the others may come later
    /// (contract, section 13, B30). `limits` say how long each may take, in
    /// the order of the plans. False: none has answered.
    pub(crate) async fn wait_for_any(&mut self, limits: Vec<Duration>) -> bool {
        let mut asking = JoinSet::new();
        for ((one, reached), limit) in self.open.iter().zip(self.reaching.drain(..)).zip(limits) {
            let name = one.name.clone();
            asking.spawn(async move {
                // Asking goes on when the time is over.
                let answer = tokio::time::timeout(limit, reached).await;
                if answer.is_err() {
                    tracing::error!(component = "server", "cluster {name} does not answer");
                }
                matches!(answer, Ok(Ok(())))
            });
        }
        while let Some(answer) = asking.join_next().await {
            if answer.unwrap_or(false) {
                // Nobody waits for the others, but the log tells of them.
                asking.detach_all();
                return true;
            }
        }
        false
    }

    /// Ends all groups ([`Dispatcher::stop`]); what `skip` makes resolves when
    /// unacknowledged messages are to be waited for no longer.
    pub(crate) async fn stop_groups<F>(&self, skip: impl Fn() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut stopping = JoinSet::new();
        for one in self.open.clone() {
            let skip = skip();
            stopping.spawn(async move { one.dispatcher.stop(skip).await });
        }
        stopping.join_all().await;
    }

    /// Opens the journals and says when producing is answered.
    ///
    /// # Errors
    /// A journal that cannot be opened.
    pub(crate) fn keep(&self, keeping: &Keeping) -> Result<()> {
        for one in &self.open {
            let journal = keeping.journal_of(&one.name);
            one.cluster
                .set_durability(keeping.durabilities.clone(), journal)?;
        }
        Ok(())
    }

    /// Says anew when producing is answered; the journals stay as they are.
    ///
    /// # Errors
    /// A topic is to have a journal, and there is none.
    pub(crate) fn replace_durabilities(&self, keeping: &Keeping) -> Result<()> {
        for one in &self.open {
            one.cluster
                .replace_durabilities(keeping.durabilities.clone())?;
        }
        Ok(())
    }

    /// Waits until everything in the journals is delivered, at most until
    /// `deadline`. The rest is sent after the next start.
    pub(crate) async fn drain_journals(&self, deadline: Instant) {
        for one in &self.open {
            let Some(journal) = one.cluster.journal() else {
                continue;
            };
            let drained = tokio::time::timeout_at(deadline.into(), journal.drained()).await;
            if drained.is_err() {
                tracing::warn!(
                    component = "journal",
                    "{} messages stay in {} until the next start",
                    journal.undelivered(),
                    journal.directory().display()
                );
            }
        }
    }

    /// Notes what is delivered, and gives the directories free.
    pub(crate) fn close_journals(&self) {
        for one in &self.open {
            if let Some(journal) = one.cluster.journal() {
                journal.close();
            }
        }
    }

    /// Lets the producers deliver what they have.
    pub(crate) async fn flush(&self, limit: Duration) {
        let mut flushing = JoinSet::new();
        for one in self.open.clone() {
            flushing.spawn(async move { one.flush(limit).await });
        }
        flushing.join_all().await;
    }
}

impl Open {
    /// Lets the producers deliver what they have; the log tells what is left.
    pub(crate) async fn flush(&self, limit: Duration) {
        let undelivered = self.cluster.flush(limit).await;
        if undelivered > 0 {
            tracing::error!(
                component = "producer",
                "{undelivered} messages were not delivered"
            );
        }
    }
}

fn open_one(mut plan: Plan, replicas: Option<&Link>) -> Result<(Open, Proxy), Error> {
    let name = plan.config.name.clone();
    if let Some(link) = replicas {
        let properties = [
            &plan.group_properties,
            &plan.config.consumer,
            &plan.config.common,
        ];
        let own = properties.iter().find_map(|own| own.get("client.id"));
        let client_id = client_id_at(own.unwrap_or("barnabas"), &link.address);
        plan.group_properties.set("client.id", client_id);
    }
    if let Some(strategies) = plan.strategies {
        plan.config.strategies = Strategies::new(strategies);
    }
    let cluster = Cluster::open(plan.config)?;
    let dispatcher = Dispatcher::start(&cluster, plan.dispatch, &plan.group_properties)?;
    let mut proxy = Proxy::new(&cluster, dispatcher.clone(), plan.options)?;
    if plan.is_embedded {
        proxy = proxy.on_embedded();
    }
    if let Some(link) = replicas {
        proxy = proxy.with_replicas(Replicas {
            peers: Arc::clone(&link.peers),
            own_address: link.address.clone(),
            cluster: name.clone(),
        });
    }
    let open = Open {
        name,
        cluster,
        dispatcher,
    };
    Ok((open, proxy))
}

/// Where groups begin, as configurations write it: `newest`, `oldest`, a
/// time as RFC 3339 has it, or in milliseconds since 1970.
pub(crate) fn initial_offset(text: &str) -> Option<InitialOffset> {
    match text {
        "newest" => Some(InitialOffset::Newest),
        "oldest" => Some(InitialOffset::Oldest),
        time => {
            let milliseconds = time.parse::<i64>().ok();
            let moment = || Some(time.parse::<jiff::Timestamp>().ok()?.as_millisecond());
            // Negative numbers mean something else to Kafka.
            milliseconds
                .or_else(moment)
                .filter(|time| *time >= 0)
                .map(InitialOffset::Time)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_begin_at_an_end_or_a_time() {
        let time = |milliseconds| Some(InitialOffset::Time(milliseconds));
        for (text, expected) in [
            ("newest", Some(InitialOffset::Newest)),
            ("oldest", Some(InitialOffset::Oldest)),
            ("1767225600000", time(1_767_225_600_000)),
            ("2026-01-01T00:00:00Z", time(1_767_225_600_000)),
            ("2026-01-01T01:00:00.5+01:00", time(1_767_225_600_500)),
            ("-1", None),
            ("latest", None),
            ("2026-01-01", None),
            ("", None),
        ] {
            assert_eq!(initial_offset(text), expected, "{text}");
        }
    }
}
