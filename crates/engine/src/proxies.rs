//! Clusters by name, as Kafka-Pixy's users configure and address them.
//!
//! Contract: `pixy-api.md`, section 2.

use crate::access::Action;
use crate::acks::Acked;
use crate::admin::{Admin, NewGroupOffset};
use crate::cluster::Cluster;
use crate::dispatch::{AckError, Dispatcher};
use crate::error::{Error, ErrorCode, KafkaError};
use crate::journal::Durability;
use crate::producer::{DeliverySink, Producer, Record, Submitted};
use crate::properties::Properties;
use crate::replicas::{Owners, Replicas};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// Pause before a cluster that did not answer is asked again.
const REACH_PAUSE: Duration = Duration::from_millis(100);

/// What is configured of a cluster beside its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyOptions {
    /// Consuming is switched off.
    pub is_consuming_disabled: bool,
    /// The version of Kafka has record headers.
    pub has_headers: bool,
    /// The largest message, with what surrounds it
    /// ([`Proxy::message_size`]).
    pub max_message_bytes: usize,
    /// Who does not wait for Kafka's answer is told nevertheless what is
    /// known at once (contract, `consume-and-ack.md`, section 13, B23).
    pub strict_async: bool,
}

/// One cluster.
pub struct Proxy {
    /// Where messages are produced.
    pub producer: Producer,
    /// Where messages are consumed.
    pub dispatcher: Dispatcher,
    /// Where topics and groups are described.
    pub admin: Admin,
    /// The cluster itself.
    pub cluster: Cluster,
    /// What is configured of it.
    pub options: ProxyOptions,
    /// Who looks for room in the producer's full queue; the others stand
    /// behind: a crowd would take the processor from those who make room.
    room: tokio::sync::Mutex<()>,
    /// How many look for room or stand behind.
    without_room: AtomicUsize,
    /// Who takes acknowledgements that do not belong here.
    owners: Option<Owners>,
    /// Not while [`Proxy::reach`] asks in vain.
    is_reachable: AtomicBool,
}

impl Proxy {
    /// Puts the clients of a cluster together.
    ///
    /// # Errors
    /// What librdkafka refuses.
    pub fn new(
        cluster: &Cluster,
        dispatcher: Dispatcher,
        options: ProxyOptions,
    ) -> Result<Self, Error> {
        Ok(Self {
            producer: cluster.producer(&Properties::new())?,
            dispatcher,
            admin: cluster.admin()?,
            cluster: cluster.clone(),
            options,
            room: tokio::sync::Mutex::default(),
            without_room: AtomicUsize::new(0),
            owners: None,
            is_reachable: AtomicBool::new(true),
        })
    }

    /// Lets acknowledgements that belong at other replicas be handed to them.
    /// The client ids of all replicas have to say where each is reached
    /// ([`client_id_at`](crate::client_id_at)).
    pub fn with_replicas(self, replicas: Replicas) -> Self {
        Self {
            owners: Some(Owners::new(replicas)),
            ..self
        }
    }

    /// Of a cluster in memory ([`EmbeddedCluster`](crate::EmbeddedCluster)):
    /// its groups are those of this process, its topics have no
    /// configurations, and nothing waits for what it cannot do.
    #[must_use]
    pub fn on_embedded(mut self) -> Self {
        self.admin.on_embedded(self.dispatcher.clone());
        self
    }

    /// Asks the cluster until it answers; it counts as unreachable from the
    /// first question on that nobody has answered in its two seconds. Whoever
    /// starts a process lets this run beside it (contract,
    /// `consume-and-ack.md`, section 13, B30).
    pub async fn reach(&self) {
        while self.producer.topic_names().await.is_err() {
            self.is_reachable.store(false, Ordering::Release);
            tokio::time::sleep(REACH_PAUSE).await;
        }
        self.is_reachable.store(true, Ordering::Release);
    }

    /// False where the cluster has not answered since the process started:
    /// requests for it are refused with [`CLUSTER_UNREACHABLE`](crate::CLUSTER_UNREACHABLE) then
    /// (HTTP 503, gRPC 14). A cluster that was there once stays reachable;
    /// its requests say what is wrong themselves.
    pub fn is_reachable(&self) -> bool {
        self.is_reachable.load(Ordering::Acquire)
    }

    /// Whether a request may begin: the cluster is reachable, or need not be,
    /// because what is produced goes to the journal.
    pub fn is_ready_for(&self, action: Action, topic: Option<&str>) -> bool {
        self.is_reachable()
            || action == Action::Produce
                && topic.is_some_and(|topic| self.cluster.durability(topic) == Durability::Journal)
    }

    /// Acknowledges messages by partition and offset, whichever replica has
    /// delivered them; one result each, in order
    /// ([`Dispatcher::ack`]).
    ///
    /// # Errors
    /// [`AckError`]; nothing has changed for that message then.
    pub async fn ack(
        &self,
        group: &str,
        topic: &str,
        positions: &[(i32, i64)],
    ) -> Vec<Result<bool, AckError>> {
        let mut results = self.dispatcher.ack(group, topic, positions).await;
        if let Some(owners) = &self.owners
            && results
                .iter()
                .any(|result| matches!(result, Err(AckError::NotOwned { .. })))
        {
            let (admin, dispatcher) = (&self.admin, &self.dispatcher);
            owners
                .hand_on(admin, dispatcher, (group, topic), positions, &mut results)
                .await;
        }
        results
    }

    /// Sets what a group has committed of a topic, also while it is being
    /// consumed, if this process owns all of the partitions: then what is
    /// pending is forgotten and delivery goes on from there (contract,
    /// `consume-and-ack.md`, section 13, B19). Of two positions for one
    /// partition the later counts.
    ///
    /// # Errors
    /// [`SetOffsetsError`]
    pub async fn set_offsets(
        &self,
        group: &str,
        topic: &str,
        positions: &[NewGroupOffset],
    ) -> Result<(), SetOffsetsError> {
        let by_partition: BTreeMap<i32, &NewGroupOffset> =
            positions.iter().map(|new| (new.partition, new)).collect();
        let positions: Vec<NewGroupOffset> = by_partition.into_values().cloned().collect();
        if positions.is_empty() {
            return Ok(());
        }
        for new in &positions {
            if Acked::decode(new.offset, &new.metadata, i64::MAX)
                .is_ok_and(|acked| !acked.shown().is_empty())
            {
                tracing::warn!(
                    component = "offsets",
                    "the metadata {:?} that is set for {group} on {topic} [{}] names \
                     acknowledged messages: they will not be delivered",
                    new.metadata,
                    new.partition
                );
            }
        }
        if self
            .dispatcher
            .set_offsets(group, topic, &positions)
            .await?
        {
            return Ok(());
        }
        let groups = self.admin.group_members(Some(group)).await?;
        let found = groups.iter().find(|found| found.group == group);
        for (member, owned) in found.iter().flat_map(|found| found.consumers_of(topic)) {
            if let Some(new) = positions.iter().find(|new| owned.contains(&new.partition)) {
                return Err(SetOffsetsError::Owned {
                    topic: topic.to_owned(),
                    partition: new.partition,
                    member: member.to_owned(),
                });
            }
        }
        let committed = self
            .admin
            .commit_group_offsets(group, topic, &positions)
            .await;
        Ok(committed?)
    }

    /// [`ack`](Self::ack) of one message.
    ///
    /// # Errors
    /// [`AckError`]; nothing has changed then.
    pub async fn ack_one(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<bool, AckError> {
        let results = self.ack(group, topic, &[(partition, offset)]).await;
        let missing = || Err(AckError::not_owned(group, topic, partition));
        results.into_iter().next().unwrap_or_else(missing)
    }

    /// [`ack_one`](Self::ack_one) for those who go on at once, as it changes
    /// nothing for them. What is known here has been acknowledged when this
    /// returns; where Kafka or another replica has to be asked, that goes on
    /// by itself, whoever goes away. `refused` hears why nobody took it, with
    /// group and topic. Must be called inside a Tokio runtime.
    pub fn ack_aside(
        self: &Arc<Self>,
        group: &str,
        topic: &str,
        (partition, offset): (i32, i64),
        refused: impl FnOnce(&str, &str, AckError) + Send + 'static,
    ) {
        let known = self
            .dispatcher
            .ack_at_once(group, topic, (partition, offset));
        let is_elsewhere =
            |error: &AckError| self.owners.is_some() && matches!(error, AckError::NotOwned { .. });
        match known {
            Some(Ok(_)) => {}
            Some(Err(error)) if !is_elsewhere(&error) => refused(group, topic, error),
            _ => {
                let proxy = Arc::clone(self);
                let (group, topic) = (group.to_owned(), topic.to_owned());
                tokio::spawn(async move {
                    if let Err(error) = proxy.ack_one(&group, &topic, partition, offset).await {
                        refused(&group, &topic, error);
                    }
                });
            }
        }
    }

    /// The size of a message as the limit counts it: key, value, and 36 bytes
    /// (26 before Kafka 0.11) around them; 10 bytes more for each header.
    pub fn message_size(&self, record: Record<'_>, headers: &[(&str, Option<&[u8]>)]) -> usize {
        let around = if self.options.has_headers { 36 } else { 26 };
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        let headers: usize = headers
            .iter()
            .map(|(name, value)| name.len() + length(*value) + 10)
            .sum();
        around + length(record.key) + length(record.value) + headers
    }

    /// Refuses a record that is larger than the configured limit.
    ///
    /// # Errors
    /// "Broker: Message size too large"
    pub fn check_size(
        &self,
        record: Record<'_>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<(), Error> {
        if self.message_size(record, headers) > self.options.max_message_bytes {
            return Err(KafkaError::from_code(ErrorCode::MessageSizeTooLarge).into());
        }
        Ok(())
    }

    /// Whether who does not wait for Kafka is told of an error that is known at
    /// once: only where that is configured (contract `pixy-api.md`, B23), where
    /// the topic's durability is more than memory, or when the process ends.
    pub fn tells(&self, topic: &str, error: &Error) -> bool {
        self.options.strict_async
            || self.cluster.durability(topic) != Durability::Memory
            || matches!(error, Error::Closed)
    }

    /// [`submit_at`](Self::submit_at) the present time.
    ///
    /// # Errors
    /// As [`submit_at`](Self::submit_at).
    pub async fn submit(
        &self,
        proxies: &Proxies,
        topic: &str,
        record: Record<'_>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> Result<Submitted, Error> {
        self.submit_at(proxies, topic, record, headers, None).await
    }

    /// Hands a record over; what finds no room waits for it. `timestamp` is
    /// in milliseconds since 1970; `None` is now.
    ///
    /// # Errors
    /// As [`Producer::submit`], "message too large" also by the configured
    /// limit, and [`Error::Closed`] when the process ends meanwhile.
    pub async fn submit_at(
        &self,
        proxies: &Proxies,
        topic: &str,
        record: Record<'_>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<i64>,
    ) -> Result<Submitted, Error> {
        self.check_size(record, headers)?;
        self.with_room(proxies, || {
            self.producer
                .submit(topic, None, record, headers, timestamp)
        })
        .await
    }

    /// Produces for those who do not ask where Kafka has put it. Resolves when
    /// the topic's durability has been reached ([`Cluster::durability`]); in
    /// memory, `sink` hears what becomes of it.
    ///
    /// # Errors
    /// As [`submit_at`](Self::submit_at); what the journal says
    /// ([`Error::Journal`]), or Kafka.
    pub async fn produce(
        &self,
        proxies: &Proxies,
        topic: &str,
        record: Record<'_>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<i64>,
        sink: &Arc<dyn DeliverySink>,
    ) -> Result<(), Error> {
        match self.cluster.durability(topic) {
            Durability::Memory => {
                self.submit_for(proxies, topic, record, headers, timestamp, sink)
                    .await
            }
            Durability::Journal => {
                self.check_size(record, headers)?;
                self.cluster.check(topic, record, headers)?;
                let record = std::iter::once(record);
                let appended = tokio::select! {
                    biased;
                    appended = self.cluster.append(topic, record, headers, timestamp, None) => appended,
                    () = proxies.stopping() => return Err(Error::Closed),
                };
                Ok(appended?.synced().await.map(drop)?)
            }
            Durability::Kafka => {
                let submitted = self
                    .submit_at(proxies, topic, record, headers, timestamp)
                    .await?;
                submitted.delivered().await.map(drop)
            }
        }
    }

    /// [`submit_at`](Self::submit_at) for those who do not wait: `sink` hears
    /// what becomes of it.
    ///
    /// # Errors
    /// As [`submit_at`](Self::submit_at).
    pub async fn submit_for(
        &self,
        proxies: &Proxies,
        topic: &str,
        record: Record<'_>,
        headers: &[(&str, Option<&[u8]>)],
        timestamp: Option<i64>,
        sink: &Arc<dyn DeliverySink>,
    ) -> Result<(), Error> {
        self.check_size(record, headers)?;
        let producer = &self.producer;
        self.with_room(proxies, || {
            let destination = producer.destination(topic)?;
            producer.submit_for(&destination, None, record, headers, timestamp, (sink, 0))
        })
        .await
    }

    /// What `hand_over` makes of one record that does not wait for room. Those
    /// who do come first.
    ///
    /// # Errors
    /// Those of `hand_over`; "queue full" also while others wait.
    pub fn if_room<T>(&self, hand_over: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        if self.without_room.load(Ordering::Acquire) > 0 {
            return Err(KafkaError::from_code(ErrorCode::QueueFull).into());
        }
        hand_over()
    }

    /// What `hand_over` makes of one record, again and again while the
    /// producer's queue is full; nobody overtakes those who wait for room.
    ///
    /// # Errors
    /// Those of `hand_over`, and [`Error::Closed`] when the process ends
    /// before there is room.
    pub async fn with_room<T>(
        &self,
        proxies: &Proxies,
        mut hand_over: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let is_full = |result: &Result<T, Error>| matches!(result, Err(Error::Kafka { error }) if error.is(ErrorCode::QueueFull));
        if self.without_room.load(Ordering::Acquire) == 0 {
            let result = hand_over();
            if !is_full(&result) {
                return result;
            }
        }
        let _behind = Behind::of(&self.without_room);
        let _turn = self.room.lock().await;
        loop {
            let room = self.producer.room_again();
            let result = hand_over();
            if !is_full(&result) {
                return result;
            }
            tokio::select! {
                () = room => {}
                () = proxies.stopping() => return Err(Error::Closed),
            }
        }
    }
}

/// Somebody who waits for room, counted while it lives.
struct Behind<'a>(&'a AtomicUsize);

impl<'a> Behind<'a> {
    fn of(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Behind<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Why the offsets of a group were not set.
#[derive(Debug, thiserror::Error)]
pub enum SetOffsetsError {
    /// Another process consumes one of the partitions; its next commit would
    /// undo what is set. Nothing has changed.
    #[error("partition {partition} of {topic} is being consumed by {member}")]
    Owned {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Who owns it.
        member: String,
    },
    /// As [`Admin::commit_group_offsets`].
    #[error(transparent)]
    Engine(#[from] Error),
}

/// All clusters.
pub struct Proxies {
    default: String,
    by_name: BTreeMap<String, Arc<Proxy>>,
    is_stopping: AtomicBool,
    /// Wakes those who wait for that.
    stop: watch::Sender<bool>,
}

/// A cluster that is not configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("proxy `{0}` does not exist")]
pub struct UnknownProxy(pub String);

impl Proxies {
    /// `default` is the one that requests without a name are for.
    ///
    /// # Errors
    /// [`UnknownProxy`] if the default one is not among them.
    pub fn new(default: String, by_name: BTreeMap<String, Proxy>) -> Result<Self, UnknownProxy> {
        if !by_name.contains_key(&default) {
            return Err(UnknownProxy(default));
        }
        Ok(Self {
            default,
            by_name: by_name
                .into_iter()
                .map(|(name, proxy)| (name, Arc::new(proxy)))
                .collect(),
            is_stopping: AtomicBool::new(false),
            stop: watch::channel(false).0,
        })
    }

    /// The cluster of that name; the empty name is the default one.
    ///
    /// # Errors
    /// [`UnknownProxy`]
    pub fn get(&self, name: &str) -> Result<&Arc<Proxy>, UnknownProxy> {
        let name = if name.is_empty() { &self.default } else { name };
        self.by_name
            .get(name)
            .ok_or_else(|| UnknownProxy(name.to_owned()))
    }

    /// The name of the default cluster.
    pub fn default_name(&self) -> &str {
        &self.default
    }

    /// The names of all clusters, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    /// From now on producing and consuming are refused, while all else goes
    /// on: step 1 of the contract's shutdown (`consume-and-ack.md`, section
    /// 8). Those who wait for messages are [`Dispatcher::stop`]'s.
    pub fn refuse_work(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.stop.send_replace(true);
    }

    /// Whether [`refuse_work`](Self::refuse_work) was called.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Resolves when [`refuse_work`](Self::refuse_work) is called, or was.
    pub async fn stopping(&self) {
        let mut stop = self.stop.subscribe();
        // The sender is ours.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ClusterConfig;
    use crate::dispatch::DispatchConfig;

    #[tokio::test]
    async fn nobody_overtakes_those_who_wait_for_room() {
        let mut config = ClusterConfig::default();
        // Nobody listens there: what is submitted stays under way.
        config.common.set("bootstrap.servers", "127.0.0.1:1");
        let cluster = Cluster::open(config).unwrap();
        let (config, own) = (DispatchConfig::default(), Properties::new());
        let dispatcher = Dispatcher::start(&cluster, config, &own).unwrap();
        let options = ProxyOptions {
            is_consuming_disabled: false,
            has_headers: true,
            max_message_bytes: 1_000_000,
            strict_async: false,
        };
        let proxy = Proxy::new(&cluster, dispatcher, options).unwrap();
        let record = Record::default();
        let under_way = proxy.producer.submit("topic", None, record, &[], None);
        let _under_way = under_way.unwrap();
        let by_name = BTreeMap::from([("main".to_owned(), proxy)]);
        let proxies = Proxies::new("main".to_owned(), by_name).unwrap();
        let proxy = proxies.get("").unwrap();
        let full = || Err::<(), _>(KafkaError::from_code(ErrorCode::QueueFull).into());
        let mut next = std::pin::pin!(proxy.with_room(&proxies, || Ok(())));
        {
            let mut first = std::pin::pin!(proxy.with_room(&proxies, full));
            tokio::select! {
                biased;
                _ = &mut first => panic!("there is no room"),
                _ = &mut next => panic!("has overtaken the first"),
                () = std::future::ready(()) => {}
            }
        }
        // The first one has gone away.
        next.await.unwrap();
        assert!(proxy.with_room(&proxies, || Ok(())).await.is_ok());
    }
}
