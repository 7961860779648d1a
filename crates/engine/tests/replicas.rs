//! Acknowledgements at a replica that does not own the partition.

use crate::support::{PATIENCE, fill, new_topic, open};
use barnabas_engine::{
    AckError, AckMode, Consume, ConsumeError, DispatchConfig, Dispatcher, InitialOffset,
    NewGroupOffset, PeerAcks, PeerReply, Peers, Properties, Proxy, ProxyOptions, Replicas,
    client_id_at,
};
use barnabas_testkit::{shared, topic_name};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Reaches replicas of this process without a network between them.
#[derive(Default)]
struct Direct(Mutex<BTreeMap<String, Dispatcher>>);

impl Peers for Direct {
    fn ack<'a>(&'a self, address: &'a str, acks: PeerAcks<'a>) -> PeerReply<'a> {
        let found = self.0.lock().get(address).cloned();
        Box::pin(async move {
            match found {
                Some(dispatcher) => {
                    Ok(dispatcher.ack(acks.group, acks.topic, acks.positions).await)
                }
                None => Err("nobody is there".to_owned()),
            }
        })
    }
}

fn replica(peers: &Arc<Direct>, address: &str) -> Proxy {
    let cluster = open(&shared().bootstrap_servers());
    let config = DispatchConfig {
        long_polling: Duration::from_millis(500),
        commit_interval: Duration::from_millis(100),
        initial_offset: InitialOffset::Oldest,
        ..DispatchConfig::default()
    };
    let mut own = Properties::new();
    own.set("client.id", client_id_at("replica", address));
    let dispatcher = Dispatcher::start(&cluster, config, &own).unwrap();
    peers
        .0
        .lock()
        .insert(address.to_owned(), dispatcher.clone());
    let options = ProxyOptions {
        is_consuming_disabled: false,
        has_headers: true,
        max_message_bytes: 1_000_000,
        strict_async: false,
    };
    let proxy = Proxy::new(&cluster, dispatcher, options).unwrap();
    proxy.with_replicas(Replicas {
        peers: Arc::<Direct>::clone(peers),
        own_address: address.to_owned(),
        cluster: "default".to_owned(),
    })
}

async fn take(proxy: &Proxy, group: &str, topic: &str) -> Vec<(i32, i64)> {
    let request = Consume {
        max: 100,
        ..Consume::one(group, topic, AckMode::Explicit)
    };
    match proxy.dispatcher.consume(&request).await {
        Ok(deliveries) => {
            let messages = deliveries.messages().iter();
            let positions = messages.map(|message| (message.partition, message.offset));
            let positions = positions.collect();
            deliveries.confirm();
            positions
        }
        Err(ConsumeError::Timeout) => Vec::new(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_replica_an_ack_reaches_it_counts() {
    let topic = new_topic("replicas", 4);
    let group = topic_name("replicas");
    let peers = Arc::new(Direct::default());
    let (first, second) = (replica(&peers, "first:1"), replica(&peers, "second:2"));
    // Both own two partitions before there is a message.
    let started = Instant::now();
    loop {
        take(&first, &group, &topic).await;
        take(&second, &group, &topic).await;
        let members = first.admin.group_members(Some(&group)).await.unwrap();
        let shares = members.iter().flat_map(|group| &group.members);
        let shares: Vec<usize> = shares.map(|member| member.assigned.len()).collect();
        if shares == [2, 2] {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{shares:?}");
    }
    fill(&topic, 4, 5);
    let (mut of_first, mut of_second) = (Vec::new(), Vec::new());
    while of_first.len() + of_second.len() < 20 {
        of_first.extend(take(&first, &group, &topic).await);
        of_second.extend(take(&second, &group, &topic).await);
        assert!(started.elapsed() < 2 * PATIENCE);
    }
    assert_eq!((of_first.len(), of_second.len()), (10, 10));
    // Everything is acknowledged where it was not delivered, among what was.
    for (proxy, positions) in [(&first, &of_second), (&second, &of_first)] {
        let results = proxy.ack(&group, &topic, positions).await;
        assert!(
            results.iter().all(|result| *result == Ok(true)),
            "{results:?}"
        );
        let again = proxy.ack(&group, &topic, positions).await;
        assert!(again.iter().all(|result| *result == Ok(false)), "{again:?}");
    }
    assert_eq!(first.dispatcher.pending(&group, &topic), 0);
    assert_eq!(second.dispatcher.pending(&group, &topic), 0);
    // What does not exist is refused by the owner.
    let (partition, _) = of_second.first().copied().unwrap();
    let refused = first.ack_one(&group, &topic, partition, 99).await;
    assert_eq!(refused, Err(AckError::BadOffset(99)));
    tokio::join!(
        first.dispatcher.stop(std::future::pending()),
        second.dispatcher.stop(std::future::pending())
    );
    for partition in 0..4 {
        let committed = shared().committed(&group, &topic).unwrap();
        assert_eq!(committed.get(&partition), Some(&5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_that_nobody_owns_is_refused() {
    let topic = new_topic("unowned", 1);
    let group = topic_name("unowned");
    fill(&topic, 1, 1);
    let peers = Arc::new(Direct::default());
    let proxy = replica(&peers, "first:1");
    let refused = proxy.ack_one(&group, &topic, 0, 0).await;
    assert_eq!(refused, Err(AckError::not_owned(&group, &topic, 0)));
    proxy.dispatcher.stop(std::future::pending()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_finds_the_owner_after_it_has_changed() {
    let topic = new_topic("moves", 1);
    let group = topic_name("moves");
    fill(&topic, 1, 2);
    let peers = Arc::new(Direct::default());
    let (first, second) = (replica(&peers, "first:1"), replica(&peers, "second:2"));
    let started = Instant::now();
    let mut got = BTreeSet::new();
    while got.len() < 2 {
        got.extend(take(&first, &group, &topic).await);
        assert!(started.elapsed() < PATIENCE);
    }
    // Known from now on, and soon no longer true.
    let third = replica(&peers, "third:3");
    assert_eq!(third.ack_one(&group, &topic, 0, 0).await, Ok(true));
    first.dispatcher.stop(std::future::ready(())).await;
    let mut again = Vec::new();
    while again.is_empty() {
        again = take(&second, &group, &topic).await;
        assert!(started.elapsed() < 2 * PATIENCE);
    }
    assert_eq!(again, [(0, 1)], "what was acknowledged does not come again");
    assert_eq!(third.ack_one(&group, &topic, 0, 1).await, Ok(true));
    second.dispatcher.stop(std::future::pending()).await;
    assert_eq!(
        shared().committed(&group, &topic).unwrap().get(&0),
        Some(&2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_set_where_the_partitions_are_consumed() {
    let topic = new_topic("setting", 1);
    let group = topic_name("setting");
    fill(&topic, 1, 6);
    let peers = Arc::new(Direct::default());
    let (first, second) = (replica(&peers, "first:1"), replica(&peers, "second:2"));
    let started = Instant::now();
    let mut got = Vec::new();
    while got.len() < 6 {
        got.extend(take(&first, &group, &topic).await);
        assert!(started.elapsed() < PATIENCE);
    }
    assert_eq!(first.ack_one(&group, &topic, 0, 0).await, Ok(true));
    let set = |offset, metadata: &str| {
        vec![NewGroupOffset {
            partition: 0,
            offset,
            metadata: metadata.to_owned(),
        }]
    };
    // Only its owner can: what it commits next would undo it.
    let refused = second.set_offsets(&group, &topic, &set(3, "")).await;
    let refused = refused.unwrap_err().to_string();
    let expected = format!("partition 0 of {topic} is being consumed by replica");
    assert_eq!(refused, expected);
    // The fifth counts as acknowledged; the others are pending no more.
    first
        .set_offsets(&group, &topic, &set(3, "BB"))
        .await
        .unwrap();
    assert_eq!(first.dispatcher.pending(&group, &topic), 0);
    let stored = shared().committed_with_metadata(&group, &topic).unwrap();
    assert_eq!(stored.get(&0), Some(&(3, "BB".to_owned())));
    let mut again = Vec::new();
    while again.len() < 2 {
        again.extend(take(&first, &group, &topic).await);
        assert!(started.elapsed() < 2 * PATIENCE);
    }
    assert_eq!(again, [(0, 3), (0, 5)]);
    // Backwards to the beginning, and everything acknowledged.
    first
        .set_offsets(&group, &topic, &set(-2, ""))
        .await
        .unwrap();
    let mut again = Vec::new();
    while again.len() < 6 {
        again.extend(take(&first, &group, &topic).await);
        assert!(started.elapsed() < 3 * PATIENCE);
    }
    let results = first.ack(&group, &topic, &again).await;
    assert!(results.iter().all(|result| *result == Ok(true)));
    // Too much for the broker: nothing changes.
    let long = "!".repeat(5_000);
    assert!(
        first
            .set_offsets(&group, &topic, &set(1, &long))
            .await
            .is_err()
    );
    first.dispatcher.stop(std::future::pending()).await;
    assert_eq!(
        shared().committed(&group, &topic).unwrap().get(&0),
        Some(&6)
    );
    // Nobody is there any more: whoever asks may set it.
    second
        .set_offsets(&group, &topic, &set(2, ""))
        .await
        .unwrap();
    assert_eq!(
        shared().committed(&group, &topic).unwrap().get(&0),
        Some(&2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn several_who_set_the_same_offsets_have_their_turn() {
    let topic = new_topic("settings", 1);
    let group = topic_name("settings");
    fill(&topic, 1, 6);
    let peers = Arc::new(Direct::default());
    let replica = replica(&peers, "only:1");
    let started = Instant::now();
    while take(&replica, &group, &topic).await.is_empty() {
        assert!(started.elapsed() < PATIENCE);
    }
    let position = |offset| {
        [NewGroupOffset {
            partition: 0,
            offset,
            metadata: String::new(),
        }]
    };
    let positions: [_; 3] = [1, 2, 3].map(position);
    let [first, second, third] = positions
        .each_ref()
        .map(|new| replica.set_offsets(&group, &topic, new));
    let results: (_, _, _) = tokio::join!(first, second, third);
    for result in [results.0, results.1, results.2] {
        result.unwrap();
    }
    let committed = shared().committed(&group, &topic).unwrap();
    assert_eq!(committed.get(&0), Some(&3), "the last one counts");
    let mut again = Vec::new();
    while again.is_empty() {
        again = take(&replica, &group, &topic).await;
        assert!(started.elapsed() < 2 * PATIENCE);
    }
    assert_eq!(again.first(), Some(&(0, 3)));
    replica.dispatcher.stop(std::future::ready(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_counts_anywhere_while_its_partition_waits_for_it() {
    let topic = new_topic("waiting", 2);
    let group = topic_name("waiting");
    fill(&topic, 2, 1);
    let peers = Arc::new(Direct::default());
    let (first, second) = (replica(&peers, "first:1"), replica(&peers, "second:2"));
    let third = replica(&peers, "third:3");
    let started = Instant::now();
    let mut got = Vec::new();
    while got.len() < 2 {
        got.extend(take(&first, &group, &topic).await);
        assert!(started.elapsed() < PATIENCE);
    }
    let joining = tokio::spawn({
        let (dispatcher, group, topic) = (second.dispatcher.clone(), group.clone(), topic.clone());
        async move {
            loop {
                let request = Consume::one(&group, &topic, AckMode::Explicit);
                if let Ok(deliveries) = dispatcher.consume(&request).await {
                    deliveries.confirm();
                }
            }
        }
    });
    // One partition is nobody's, as it waits for its acknowledgement.
    loop {
        let members = first.admin.group_members(Some(&group)).await.unwrap();
        let shares = members.iter().flat_map(|group| &group.members);
        let shares: Vec<usize> = shares.map(|member| member.assigned.len()).collect();
        if shares.len() == 2 && shares.iter().sum::<usize>() == 1 {
            break;
        }
        assert!(started.elapsed() < 2 * PATIENCE, "{shares:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let results = third.ack(&group, &topic, &got).await;
    assert_eq!(results, [Ok(true), Ok(true)]);
    joining.abort();
    first.dispatcher.stop(std::future::ready(())).await;
    second.dispatcher.stop(std::future::ready(())).await;
    let committed = shared().committed(&group, &topic).unwrap();
    assert_eq!(committed.into_values().collect::<Vec<_>>(), [1, 1]);
}
