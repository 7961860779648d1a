//! Other processes that serve the same groups.
//!
//! An acknowledgement belongs at the process that owns the partition. Behind
//! a load balancer it may come to another one, which hands it on: the group's
//! coordinator tells who owns the partition, and that member's client id ends
//! in the address at which it takes acknowledgements ([`client_id_at`]).
//! Nothing else has to be known, agreed on or kept by the replicas.

use crate::admin::{Admin, GroupDescription};
use crate::dispatch::{AckError, Dispatcher};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the owner of a partition is looked for: as long as a rebalance
/// usually takes. Then whoever acknowledges hears that nobody took it.
const SEARCH_LIMIT: Duration = Duration::from_secs(5);
/// Pause between two looks while the group rebalances.
const SEARCH_PAUSE: Duration = Duration::from_millis(100);
/// How long a description of a group is believed, unless an owner denies it.
const BELIEVED: Duration = Duration::from_secs(10);
/// Groups whose descriptions are kept.
const KEPT_GROUPS: usize = 1_000;

/// Acknowledgements that another replica is to take.
#[derive(Debug, Clone, Copy)]
pub struct PeerAcks<'a> {
    /// The cluster's name, which is the same in all replicas.
    pub cluster: &'a str,
    /// The consumer group.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// Partitions and offsets.
    pub positions: &'a [(i32, i64)],
}

/// One result for each position, in order, or why there is none.
pub type PeerReply<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<Result<bool, AckError>>, String>> + Send + 'a>>;

/// How to reach other replicas; a front end implements it.
pub trait Peers: Send + Sync + 'static {
    /// Hands acknowledgements to the replica at `address` (host and port).
    /// It takes them itself or refuses them; it does not hand them on.
    fn ack<'a>(&'a self, address: &'a str, acks: PeerAcks<'a>) -> PeerReply<'a>;
}

/// The client id of a member that takes acknowledgements at `address` (host
/// and port).
pub fn client_id_at(client_id: &str, address: &str) -> String {
    format!("{client_id}@{address}")
}

/// A client id without the address that it may end in, and that address.
pub fn split_client_id(client_id: &str) -> (&str, Option<&str>) {
    match client_id.rsplit_once('@') {
        Some((name, address)) if is_address(address) => (name, Some(address)),
        _ => (client_id, None),
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// The replicas of a process.
#[derive(Clone)]
pub struct Replicas {
    /// How to reach the others.
    pub peers: Arc<dyn Peers>,
    /// Where this one is reached, as its client ids say.
    pub own_address: String,
    /// The cluster's name, which is the same in all replicas.
    pub cluster: String,
}

/// Who owns the partitions of groups, and how to reach them.
pub(crate) struct Owners {
    replicas: Replicas,
    known: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Known>>>>,
}

/// What a group's coordinator has said, or that it has said nothing.
#[derive(Default)]
struct Known {
    /// When it was asked; `None`: never.
    since: Option<Instant>,
    /// It has answered, and the group does not rebalance.
    is_settled: bool,
    /// The address of each partition's owner, if it has one.
    owners: HashMap<(String, i32), Option<String>>,
    /// The addresses of all members.
    members: BTreeSet<String>,
}

/// Where an acknowledgement is to go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Here,
    To(String),
    /// The owner is none of ours.
    Nowhere,
    /// Nobody is to have the partition, which may be on its way from one
    /// member to another: its last owner still takes acknowledgements.
    Anywhere,
    /// The group rebalances, or its coordinator does not answer.
    Unknown,
}

impl Owners {
    pub(crate) fn new(replicas: Replicas) -> Self {
        Self {
            replicas,
            known: Mutex::default(),
        }
    }

    /// Hands on what is not owned here, and replaces its results. What finds
    /// no owner within five seconds stays refused.
    pub(crate) async fn hand_on(
        &self,
        admin: &Admin,
        dispatcher: &Dispatcher,
        (group, topic): (&str, &str),
        positions: &[(i32, i64)],
        results: &mut [Result<bool, AckError>],
    ) {
        let started = Instant::now();
        // What is known from before may be believed once.
        let mut not_before = None;
        let searching = async {
            loop {
                let entry = self.look_up(admin, group, not_before).await;
                let ways = self.ways(&*entry.lock().await, topic, positions, results);
                not_before = Some(Instant::now());
                let mut is_open = false;
                for (way, indices) in ways {
                    match way {
                        Way::Here => {
                            let part = part(positions, &indices);
                            let outcome = dispatcher.ack(group, topic, &part).await;
                            is_open |= note(results, &indices, outcome);
                        }
                        Way::To(address) => {
                            let part = part(positions, &indices);
                            let outcome = self.send(&address, group, topic, &part).await;
                            is_open |= note(results, &indices, outcome);
                        }
                        Way::Anywhere => {
                            let members = entry.lock().await.members.clone();
                            let others = members
                                .into_iter()
                                .filter(|address| *address != self.replicas.own_address);
                            let mut left = indices;
                            for address in others {
                                let part = part(positions, &left);
                                let outcome = self.send(&address, group, topic, &part).await;
                                note(results, &left, outcome);
                                left.retain(|index| is_refused(results, *index));
                            }
                            // Asked long ago, it may have an owner by now.
                            let since = entry.lock().await.since;
                            let is_old = since.is_none_or(|since| since < started);
                            is_open |= !left.is_empty() && is_old;
                        }
                        Way::Unknown => is_open = true,
                        Way::Nowhere => {}
                    }
                }
                if !is_open {
                    return;
                }
                tokio::time::sleep(SEARCH_PAUSE).await;
            }
        };
        // What was refused stays refused.
        let _ = tokio::time::timeout(SEARCH_LIMIT, searching).await;
    }

    /// Where what was refused is to go, as indices.
    fn ways(
        &self,
        known: &Known,
        topic: &str,
        positions: &[(i32, i64)],
        results: &[Result<bool, AckError>],
    ) -> BTreeMap<Way, Vec<usize>> {
        let mut ways: BTreeMap<Way, Vec<usize>> = BTreeMap::new();
        for (index, (partition, _)) in positions.iter().enumerate() {
            if !is_refused(results, index) {
                continue;
            }
            let way = match known.owners.get(&(topic.to_owned(), *partition)) {
                Some(Some(address)) if *address == self.replicas.own_address => Way::Here,
                Some(Some(address)) => Way::To(address.clone()),
                Some(None) => Way::Nowhere,
                None if known.is_settled => Way::Anywhere,
                None => Way::Unknown,
            };
            ways.entry(way).or_default().push(index);
        }
        ways
    }

    /// Hands acknowledgements to one replica. One that does not answer has
    /// taken none; another look may find another owner.
    async fn send(
        &self,
        address: &str,
        group: &str,
        topic: &str,
        positions: &[(i32, i64)],
    ) -> Vec<Result<bool, AckError>> {
        let acks = PeerAcks {
            cluster: &self.replicas.cluster,
            group,
            topic,
            positions,
        };
        match self.replicas.peers.ack(address, acks).await {
            Ok(results) => results,
            Err(reason) => {
                tracing::warn!(
                    component = "replicas",
                    "{address} takes no acknowledgements of {group}: {reason}"
                );
                Vec::new()
            }
        }
    }

    /// What is known of a group, asked for anew if it is old, or older than
    /// `not_before`. Who comes while somebody asks takes that answer.
    async fn look_up(
        &self,
        admin: &Admin,
        group: &str,
        not_before: Option<Instant>,
    ) -> Arc<tokio::sync::Mutex<Known>> {
        let came = Instant::now();
        let entry = {
            let mut all = self.known.lock();
            if all.len() >= KEPT_GROUPS && !all.contains_key(group) {
                all.clear();
            }
            Arc::clone(all.entry(group.to_owned()).or_default())
        };
        {
            let mut known = entry.lock().await;
            let is_fresh = known.since.is_some_and(|since| {
                let is_new = since >= not_before.unwrap_or(came);
                let is_believed = known.is_settled && since.elapsed() < BELIEVED;
                is_new || not_before.is_none() && is_believed
            });
            if !is_fresh {
                let since = Instant::now();
                *known = match admin.group_members(Some(group)).await {
                    Ok(groups) => understand(&groups, group),
                    Err(error) => {
                        tracing::warn!(
                            component = "replicas",
                            "who owns the partitions of {group} is not known: {error}"
                        );
                        Known::default()
                    }
                };
                known.since = Some(since);
            }
        }
        entry
    }
}

fn is_refused(results: &[Result<bool, AckError>], index: usize) -> bool {
    let result = results.get(index);
    result.is_some_and(|result| matches!(result, Err(AckError::NotOwned { .. })))
}

fn part(positions: &[(i32, i64)], indices: &[usize]) -> Vec<(i32, i64)> {
    let part = indices.iter().filter_map(|index| positions.get(*index));
    part.copied().collect()
}

/// Notes what somebody has answered; true if some of it is still refused.
fn note(
    results: &mut [Result<bool, AckError>],
    indices: &[usize],
    outcome: Vec<Result<bool, AckError>>,
) -> bool {
    for (index, outcome) in indices.iter().zip(outcome) {
        if let Some(result) = results.get_mut(*index) {
            *result = outcome;
        }
    }
    indices.iter().any(|index| is_refused(results, *index))
}

fn understand(groups: &[GroupDescription], group: &str) -> Known {
    let found = groups.iter().find(|found| found.group == group);
    let mut known = Known {
        is_settled: found.is_none_or(|found| !found.state.ends_with("Rebalance")),
        ..Known::default()
    };
    for member in found.iter().flat_map(|found| &found.members) {
        let (_, address) = split_client_id(&member.client_id);
        known.members.extend(address.map(str::to_owned));
        for assigned in &member.assigned {
            let address = address.map(str::to_owned);
            known.owners.insert(assigned.clone(), address);
        }
    }
    known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_ids_may_end_in_an_address() {
        let id = client_id_at("kp_host_1", "10.0.0.1:19091");
        assert_eq!(split_client_id(&id), ("kp_host_1", Some("10.0.0.1:19091")));
        let id = client_id_at("a@b", "[::1]:80");
        assert_eq!(split_client_id(&id), ("a@b", Some("[::1]:80")));
        for plain in ["kp_host_1", "a@b", "a@:80", "a@b:x", "a@b:99999", ""] {
            assert_eq!(split_client_id(plain), (plain, None));
        }
    }
}
