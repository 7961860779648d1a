//! Messages for many short requests, acknowledged one by one.

use crate::support::{PATIENCE, eventually, fill, new_topic, open};
use barnabas_engine::{
    AckError, AckMode, AckPolicy, Consume, ConsumeError, Deliveries, DispatchConfig, Dispatcher,
    InitialOffset, Properties,
};
use barnabas_testkit::{shared, topic_name};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Quick, and from the beginning.
pub(crate) fn config() -> DispatchConfig {
    DispatchConfig {
        long_polling: Duration::from_secs(1),
        commit_interval: Duration::from_millis(100),
        initial_offset: InitialOffset::Oldest,
        ..DispatchConfig::default()
    }
}

pub(crate) fn start(config: DispatchConfig) -> Dispatcher {
    let cluster = open(&shared().bootstrap_servers());
    Dispatcher::start(&cluster, config, &Properties::new()).unwrap()
}

pub(crate) async fn ask(
    dispatcher: &Dispatcher,
    group: &str,
    topic: &str,
    mode: AckMode,
    max: usize,
) -> Result<Deliveries, ConsumeError> {
    let request = Consume {
        max,
        ..Consume::one(group, topic, mode)
    };
    dispatcher.consume(&request).await
}

pub(crate) async fn ack(
    dispatcher: &Dispatcher,
    group: &str,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<bool, AckError> {
    let results = dispatcher.ack(group, topic, &[(partition, offset)]).await;
    results.into_iter().next().unwrap()
}

/// The next messages, however long joining takes.
pub(crate) async fn get(
    dispatcher: &Dispatcher,
    group: &str,
    topic: &str,
    mode: AckMode,
    max: usize,
) -> Deliveries {
    let started = Instant::now();
    loop {
        match ask(dispatcher, group, topic, mode, max).await {
            Ok(deliveries) => return deliveries,
            Err(ConsumeError::Timeout) => {
                assert!(started.elapsed() < PATIENCE, "nothing of {topic}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Partition, offset and value of one message, confirmed.
pub(crate) async fn one(
    dispatcher: &Dispatcher,
    group: &str,
    topic: &str,
    mode: AckMode,
) -> (i32, i64, String) {
    let deliveries = get(dispatcher, group, topic, mode, 1).await;
    let message = deliveries.messages()[0].clone();
    assert_eq!(deliveries.messages().len(), 1);
    deliveries.confirm();
    let value = message.record.value.as_deref().unwrap_or_default();
    let value = String::from_utf8_lossy(value).into_owned();
    (message.partition, message.offset, value)
}

pub(crate) async fn nothing(dispatcher: &Dispatcher, group: &str, topic: &str) {
    match ask(dispatcher, group, topic, AckMode::Explicit, 1).await {
        Err(ConsumeError::Timeout) => {}
        Err(error) => panic!("{error}"),
        Ok(deliveries) => panic!("{:?}", deliveries.messages()),
    }
}

pub(crate) fn committed(group: &str, topic: &str) -> Option<(i64, String)> {
    let committed = shared().committed_with_metadata(group, topic).unwrap();
    committed.get(&0).cloned()
}

pub(crate) async fn is_committed(group: &str, topic: &str, offset: i64, metadata: &str) {
    eventually(&format!("the commit of {offset} {metadata:?}"), || {
        (committed(group, topic) == Some((offset, metadata.to_owned()))).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_in_any_order_are_kept_beside_the_offset_and_by_the_next_owner() {
    let topic = new_topic("ranges", 1);
    let group = topic_name("ranges");
    fill(&topic, 1, 10);
    let first = start(config());
    for offset in 0..6 {
        let (_, got, _) = one(&first, &group, &topic, AckMode::Explicit).await;
        assert_eq!(got, offset);
    }
    for offset in [2, 4, 5, 0] {
        ack(&first, &group, &topic, 0, offset).await.unwrap();
        // Again is no error.
        ack(&first, &group, &topic, 0, offset).await.unwrap();
    }
    is_committed(&group, &topic, 1, "BBBC").await;
    // Nobody waits for what is pending when there is no time.
    first.stop(std::future::ready(())).await;
    assert_eq!(committed(&group, &topic), Some((1, "BBBC".to_owned())));

    let second = start(config());
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(one(&second, &group, &topic, AckMode::Explicit).await.1);
    }
    assert_eq!(seen, [1, 3, 6, 7, 8, 9]);
    nothing(&second, &group, &topic).await;
    for offset in seen {
        ack(&second, &group, &topic, 0, offset).await.unwrap();
    }
    second.stop(std::future::pending()).await;
    assert_eq!(committed(&group, &topic), Some((10, String::new())));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_acknowledges_comes_again_and_then_goes_to_the_dead_letters() {
    let topic = new_topic("again", 1);
    let dead = new_topic("dead", 1);
    let group = topic_name("again");
    fill(&topic, 1, 1);
    let dispatcher = start(DispatchConfig {
        acks: AckPolicy {
            timeout: Duration::from_millis(300),
            max_retries: Some(2),
            ..AckPolicy::default()
        },
        dead_letter_topic: Some(dead.clone()),
        ..config()
    });
    for _ in 0..3 {
        let message = one(&dispatcher, &group, &topic, AckMode::Explicit).await;
        assert_eq!(message, (0, 0, "0".to_owned()));
    }
    nothing(&dispatcher, &group, &topic).await;
    is_committed(&group, &topic, 1, "").await;
    let letters = shared().read_all(&dead).unwrap();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].value_text(), "0");
    let header = |name: &str| {
        let found = letters[0].headers.iter().find(|(own, _)| own == name);
        String::from_utf8(found.unwrap().1.clone().unwrap()).unwrap()
    };
    assert_eq!(header("barnabas-topic"), topic);
    assert_eq!(header("barnabas-group"), group);
    assert_eq!(header("barnabas-partition"), "0");
    assert_eq!(header("barnabas-offset"), "0");
    dispatcher.stop(std::future::pending()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_reached_nobody_is_delivered_to_the_next() {
    let topic = new_topic("nobody", 1);
    let group = topic_name("nobody");
    fill(&topic, 1, 3);
    let dispatcher = start(config());
    for mode in [AckMode::Auto, AckMode::Explicit] {
        drop(get(&dispatcher, &group, &topic, mode, 2).await);
    }
    // A request that goes while it waits takes nothing.
    let batch = get(&dispatcher, &group, &topic, AckMode::Auto, 100).await;
    let offsets: Vec<i64> = batch.messages().iter().map(|m| m.offset).collect();
    assert_eq!(offsets, [0, 1, 2]);
    batch.confirm();
    let request = ask(&dispatcher, &group, &topic, AckMode::Auto, 1);
    let cancelled = tokio::time::timeout(Duration::from_millis(50), request).await;
    assert!(cancelled.is_err());
    shared()
        .produce(&topic, Some(0), None, Some(b"late"))
        .unwrap();
    let message = one(&dispatcher, &group, &topic, AckMode::Auto).await;
    assert_eq!(message, (0, 3, "late".to_owned()));
    dispatcher.stop(std::future::pending()).await;
    assert_eq!(committed(&group, &topic), Some((4, String::new())));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_requests_are_refused_and_the_others_time_out() {
    let topic = new_topic("queue", 1);
    let group = topic_name("queue");
    let dispatcher = start(DispatchConfig {
        queued_requests: 3,
        // Longer than asking takes.
        long_polling: Duration::from_secs(5),
        ..config()
    });
    // Or the first of them would wait for the group to be made, and the others for their turn.
    nothing(&dispatcher, &group, &topic).await;
    let requests = (0..10).map(|_| ask(&dispatcher, &group, &topic, AckMode::Auto, 1));
    let mut results = Vec::new();
    let mut requests: Vec<_> = requests.map(Box::pin).collect();
    for request in &mut requests {
        tokio::select! {
            biased;
            result = request => results.push(result),
            () = std::future::ready(()) => {}
        }
    }
    assert_eq!(results.len(), 6);
    for result in results {
        assert!(matches!(result, Err(ConsumeError::TooManyRequests)));
    }
    for request in requests.drain(..4) {
        assert!(matches!(request.await, Err(ConsumeError::Timeout)));
    }
    dispatcher.stop(std::future::pending()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_pending_messages_hold_the_others_back() {
    let topic = new_topic("pending", 1);
    let group = topic_name("pending");
    fill(&topic, 1, 10);
    let dispatcher = start(DispatchConfig {
        acks: AckPolicy {
            max_pending: 2,
            ..AckPolicy::default()
        },
        ..config()
    });
    for offset in 0..3 {
        let (_, got, _) = one(&dispatcher, &group, &topic, AckMode::Explicit).await;
        assert_eq!(got, offset);
    }
    nothing(&dispatcher, &group, &topic).await;
    ack(&dispatcher, &group, &topic, 0, 1).await.unwrap();
    assert_eq!(
        one(&dispatcher, &group, &topic, AckMode::Explicit).await.1,
        3
    );
    nothing(&dispatcher, &group, &topic).await;
    dispatcher.stop(std::future::ready(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_markers_of_transactions_hold_up_nothing() {
    let topic = new_topic("markers", 1);
    let group = topic_name("markers");
    shared()
        .produce_in_transactions(&topic, &["a", "b", "c", "d"])
        .unwrap();
    let dispatcher = start(config());
    for offset in [0, 2, 4, 6] {
        let message = one(&dispatcher, &group, &topic, AckMode::Explicit).await;
        assert_eq!(message.1, offset);
    }
    for offset in [6, 2, 0, 4] {
        ack(&dispatcher, &group, &topic, 0, offset).await.unwrap();
    }
    // Nobody has to ask for the last marker to be known as one.
    is_committed(&group, &topic, 8, "").await;
    dispatcher.stop(std::future::pending()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_of_what_is_not_there_are_refused() {
    let topic = new_topic("absent", 1);
    let group = topic_name("absent");
    fill(&topic, 1, 3);
    let dispatcher = start(config());
    let text = format!("acks channel missing for {{{group} {topic} 0}}");
    let refused = ack(&dispatcher, &group, &topic, 0, 0).await.unwrap_err();
    assert_eq!(refused.to_string(), text);
    one(&dispatcher, &group, &topic, AckMode::Explicit).await;
    // Whoever delivered it: it exists.
    ack(&dispatcher, &group, &topic, 0, 2).await.unwrap();
    for offset in [3, -1] {
        let refused = ack(&dispatcher, &group, &topic, 0, offset).await;
        assert_eq!(refused, Err(AckError::BadOffset(offset)));
    }
    assert!(ack(&dispatcher, &group, &topic, 7, 0).await.is_err());
    is_committed(&group, &topic, 0, "CB").await;
    dispatcher.stop(std::future::ready(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_requests_is_left_and_joined_again() {
    let topic = new_topic("idle", 1);
    let group = topic_name("idle");
    fill(&topic, 1, 2);
    let dispatcher = start(DispatchConfig {
        subscription_timeout: Duration::from_millis(500),
        ..config()
    });
    let members = |count: usize| {
        let group = group.clone();
        move || (shared().group_members(&group).unwrap().len() == count).then_some(())
    };
    for offset in 0..2 {
        let message = one(&dispatcher, &group, &topic, AckMode::Explicit).await;
        assert_eq!(message.1, offset);
        eventually("a member", members(1)).await;
        // As long as something is pending the group is not left.
        tokio::time::sleep(Duration::from_secs(1)).await;
        members(1)().unwrap();
        ack(&dispatcher, &group, &topic, 0, offset).await.unwrap();
        eventually("nobody", members(0)).await;
        assert_eq!(committed(&group, &topic), Some((offset + 1, String::new())));
    }
    dispatcher.stop(std::future::pending()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_share_and_what_is_acknowledged_is_delivered_once() {
    let topic = new_topic("share", 4);
    let group = topic_name("share");
    fill(&topic, 4, 200);
    let config = DispatchConfig {
        revoke_wait: Duration::from_secs(5),
        ..config()
    };
    let first = start(config.clone());
    let mut acknowledged = BTreeSet::new();
    let take = async |dispatcher: &Dispatcher, acknowledged: &mut BTreeSet<(i32, i64)>| {
        let Ok(deliveries) = ask(dispatcher, &group, &topic, AckMode::Explicit, 5).await else {
            return;
        };
        let messages = deliveries.messages().to_vec();
        deliveries.confirm();
        for message in messages {
            let (partition, offset) = (message.partition, message.offset);
            // Refused only once the partition is somebody else's.
            if ack(dispatcher, &group, &topic, partition, offset)
                .await
                .is_ok()
            {
                let is_new = acknowledged.insert((partition, offset));
                assert!(is_new, "{partition} {offset} came again");
            }
        }
    };
    for _ in 0..10 {
        take(&first, &mut acknowledged).await;
    }
    let second = start(config);
    let started = Instant::now();
    while acknowledged.len() < 800 {
        take(&first, &mut acknowledged).await;
        take(&second, &mut acknowledged).await;
        assert!(started.elapsed() < 3 * PATIENCE, "{}", acknowledged.len());
    }
    first.stop(std::future::pending()).await;
    second.stop(std::future::pending()).await;
    let committed = shared().committed(&group, &topic).unwrap();
    assert_eq!(committed.into_values().collect::<Vec<_>>(), [200; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_take_turns_and_topics_do_not_wait_for_each_other() {
    let topic = new_topic("turns", 3);
    let group = topic_name("turns");
    fill(&topic, 3, 4);
    let dispatcher = start(config());
    // A topic that does not exist disturbs nobody, and is found when it comes.
    let missing = topic_name("missing");
    nothing(&dispatcher, &group, &missing).await;
    // Given back unconfirmed until all partitions have been fetched.
    let order = loop {
        let batch = get(&dispatcher, &group, &topic, AckMode::Auto, 12).await;
        if batch.messages().len() == 12 {
            let messages = batch.messages().iter();
            let order: Vec<(i32, i64)> = messages
                .map(|message| (message.partition, message.offset))
                .collect();
            batch.confirm();
            break order;
        }
    };
    // Whose turn is first depends on how often it went around.
    let first = order.first().map_or(0, |(partition, _)| *partition);
    let expected: Vec<(i32, i64)> = (0..12)
        .map(|index| ((first + index) % 3, i64::from(index / 3)))
        .collect();
    assert_eq!(order, expected);
    nothing(&dispatcher, &group, &missing).await;
    shared().create_topic(&missing, 1).unwrap();
    shared()
        .produce(&missing, Some(0), None, Some(b"there"))
        .unwrap();
    let message = one(&dispatcher, &group, &missing, AckMode::Auto).await;
    assert_eq!(message, (0, 0, "there".to_owned()));
    dispatcher.stop(std::future::pending()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_refuses_requests_and_waits_for_acks() {
    let topic = new_topic("stop", 1);
    let group = topic_name("stop");
    fill(&topic, 1, 1);
    let dispatcher = start(DispatchConfig {
        long_polling: PATIENCE,
        ..config()
    });
    one(&dispatcher, &group, &topic, AckMode::Explicit).await;
    let waiting = tokio::spawn({
        let (dispatcher, group, topic) = (dispatcher.clone(), group.clone(), topic.clone());
        async move {
            ask(&dispatcher, &group, &topic, AckMode::Auto, 1)
                .await
                .err()
        }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stopping = tokio::spawn({
        let dispatcher = dispatcher.clone();
        async move { dispatcher.stop(std::future::pending()).await }
    });
    let refused = waiting.await.unwrap();
    assert!(matches!(refused, Some(ConsumeError::ShuttingDown)));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!stopping.is_finished(), "a message is pending");
    ack(&dispatcher, &group, &topic, 0, 0).await.unwrap();
    stopping.await.unwrap();
    assert_eq!(committed(&group, &topic), Some((1, String::new())));
    assert!(shared().group_members(&group).unwrap().is_empty());
    let late = ask(&dispatcher, &group, &topic, AckMode::Auto, 1).await;
    assert!(matches!(late.err(), Some(ConsumeError::ShuttingDown)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_left_however_long_its_acks_were_waited_for() {
    let topic = new_topic("late", 1);
    let group = topic_name("late");
    fill(&topic, 1, 1);
    let dispatcher = start(DispatchConfig {
        acks: AckPolicy {
            // Longer than leaving may take.
            timeout: Duration::from_millis(10_500),
            ..AckPolicy::default()
        },
        ..config()
    });
    one(&dispatcher, &group, &topic, AckMode::Explicit).await;
    dispatcher.stop(std::future::pending()).await;
    assert_eq!(committed(&group, &topic), Some((0, String::new())));
    assert!(shared().group_members(&group).unwrap().is_empty());
}

/// The session of who leaves would go on for 45 seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_left_by_who_has_no_partition_of_it_too() {
    let topic = new_topic("idle", 1);
    let group = topic_name("idle");
    fill(&topic, 1, 1);
    let owner = start(config());
    one(&owner, &group, &topic, AckMode::Auto).await;
    let idle = start(config());
    nothing(&idle, &group, &topic).await;
    let members = || shared().group_members(&group).unwrap().len();
    eventually("both are members", || {
        let state = shared().group_state(&group).unwrap();
        (members() == 2 && state.as_deref() == Some("Stable")).then_some(())
    })
    .await;
    idle.stop(std::future::pending()).await;
    assert_eq!(members(), 1);
    owner.stop(std::future::pending()).await;
    assert_eq!(members(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_a_bound_on_the_number_of_groups() {
    let topic = new_topic("groups", 1);
    fill(&topic, 1, 1);
    let dispatcher = start(DispatchConfig {
        max_groups: 1,
        ..config()
    });
    let first = topic_name("first");
    one(&dispatcher, &first, &topic, AckMode::Auto).await;
    let refused = ask(&dispatcher, &topic_name("second"), &topic, AckMode::Auto, 1).await;
    assert!(matches!(refused.err(), Some(ConsumeError::TooManyGroups)));
    nothing(&dispatcher, &first, &topic).await;
    dispatcher.stop(std::future::pending()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_keeps_its_place_when_it_ends_but_not_when_it_is_idle() {
    let topic = new_topic("static", 1);
    let group = topic_name("static");
    fill(&topic, 1, 2);
    let mut own = Properties::new();
    own.set("group.instance.id", "gateway-1");
    let cluster = open(&shared().bootstrap_servers());
    let start = |subscription_timeout| {
        let config = DispatchConfig {
            subscription_timeout,
            ..config()
        };
        Dispatcher::start(&cluster, config, &own).unwrap()
    };
    let members = || shared().group_members(&group).unwrap().len();
    let dispatcher = start(Duration::from_secs(60));
    let message = one(&dispatcher, &group, &topic, AckMode::Auto).await;
    assert_eq!((message.0, message.1), (0, 0));
    dispatcher.stop(std::future::pending()).await;
    assert_eq!(members(), 1, "its session goes on");
    let dispatcher = start(Duration::from_millis(500));
    let message = one(&dispatcher, &group, &topic, AckMode::Auto).await;
    assert_eq!((message.0, message.1), (0, 1));
    // Sooner than its session, of 45 seconds, would end.
    eventually("the idle member leaves", || (members() == 0).then_some(())).await;
    dispatcher.stop(std::future::pending()).await;
}

/// The members of a group hold still while it rebalances, and go on where they were: not behind a
/// message that came meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_skipped_while_further_topics_join() {
    let dispatcher = start(config());
    let (group, first) = (topic_name("skip"), new_topic("skip", 1));
    shared().produce(&first, Some(0), None, Some(b"0")).unwrap();
    let got = one(&dispatcher, &group, &first, AckMode::Auto).await;
    assert_eq!(got.1, 0);
    for round in 1..16_u8 {
        // Nothing is there: its partition's end is seen.
        nothing(&dispatcher, &group, &first).await;
        let further = new_topic("skip-further", 1);
        shared()
            .produce(&further, Some(0), None, Some(b"x"))
            .unwrap();
        let joining = {
            let (dispatcher, group) = (dispatcher.clone(), group.clone());
            tokio::spawn(async move { one(&dispatcher, &group, &further, AckMode::Auto).await })
        };
        // At another moment of the rebalance each time.
        tokio::time::sleep(Duration::from_millis(u64::from(round) * 40)).await;
        shared().produce(&first, Some(0), None, Some(b"y")).unwrap();
        joining.await.unwrap();
        let got = one(&dispatcher, &group, &first, AckMode::Auto).await;
        assert_eq!(got.1, i64::from(round));
    }
}
