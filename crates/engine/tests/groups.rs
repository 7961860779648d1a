//! Members share, leave and come back.

use crate::support::{
    PATIENCE, Seen, at, eventually, fill, holds, join, new_topic, next, numbers, open, properties,
    read,
};
use barnabas_engine::{Consumer, Error, ErrorCode};
use barnabas_testkit::{NewRecord, Quickest, shared, topic_name};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

fn sorted(consumer: &Consumer) -> Vec<(String, i32)> {
    let mut held = consumer.assignment();
    held.sort_unstable();
    held
}

/// Two members share while the first is silent; when it leaves, the second gets all, and again
/// what the first has read and not stored.
async fn share(strategy: &str) {
    // The contract's bound for the second one's share; joining on a busy machine takes its time.
    let mut quickest = Quickest::of(3, Duration::from_secs(5));
    while quickest.is_missing() {
        quickest.took(share_once(strategy).await);
    }
}

/// How long it took until the second one had its share.
async fn share_once(strategy: &str) -> Duration {
    let cluster = open(&shared().bootstrap_servers());
    let topic = new_topic(strategy, 4);
    let group = topic_name("share");
    let own = [("partition.assignment.strategy", strategy)];
    fill(&topic, 4, 20);
    let first = join(&cluster, &group, "first", &topic, &own);
    holds(&first, 4).await;
    let taken = next(&first).await;

    // From here on the first one does nothing: its rebalances are served behind its back.
    let joining = Instant::now();
    let second = join(&cluster, &group, "second", &topic, &own);
    eventually("two partitions each", || {
        (first.assignment().len() == 2 && second.assignment().len() == 2).then_some(())
    })
    .await;
    let shared_after = joining.elapsed();
    let share: BTreeSet<i32> = sorted(&second).iter().map(|(_, id)| *id).collect();
    let seen = read(&second, 2 * 20).await;
    assert!(
        seen.iter()
            .all(|message| share.contains(&message.partition))
    );

    tokio::time::timeout(PATIENCE, first.close().done())
        .await
        .expect("it leaves");
    holds(&second, 4).await;
    let mut all: BTreeSet<Seen> = seen.into_iter().collect();
    while all.len() < 4 * 20 {
        all.insert(next(&second).await);
    }
    assert!(all.contains(&taken), "it was not stored and comes again");
    shared_after
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_reader_does_not_hold_up_its_group_cooperative() {
    share("cooperative-sticky").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_reader_does_not_hold_up_its_group_eager() {
    share("range").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_fetched_for_a_revoked_partition_is_not_delivered() {
    let cluster = open(&shared().bootstrap_servers());
    let topic = new_topic("revoked", 2);
    let group = topic_name("revoked");
    fill(&topic, 2, 50);
    let first = join(&cluster, &group, "first", &topic, &[]);
    holds(&first, 2).await;
    next(&first).await;
    assert!(first.has_arrived(), "more came with it");
    let second = join(&cluster, &group, "second", &topic, &[]);
    holds(&second, 1).await;
    let kept = sorted(&first);
    assert_eq!(kept.len(), 1);
    let mut rest = Vec::new();
    while let Ok(message) = tokio::time::timeout(Duration::from_millis(500), first.next()).await {
        rest.push(message.unwrap().partition());
    }
    assert!(!rest.is_empty());
    assert!(
        rest.iter().all(|partition| *partition == kept[0].1),
        "{rest:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_outlives_the_handle_on_its_cluster() {
    let topic = new_topic("outlives", 1);
    let group = topic_name("outlives");
    fill(&topic, 1, 1);
    let consumer = join(
        &open(&shared().bootstrap_servers()),
        &group,
        "one",
        &topic,
        &[],
    );
    assert_eq!(next(&consumer).await.offset, 0);
    consumer.store(&[at(&topic, 0, 1)]).unwrap();
    // Also when nobody is left who would wait for it, it commits and leaves.
    drop(consumer);
    assert_eq!(shared().committed(&group, &topic).unwrap()[&0], 1);
    assert!(shared().group_members(&group).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_leaves_the_group_at_once_and_dropping_soon() {
    let cluster = open(&shared().bootstrap_servers());
    let topic = new_topic("leave", 1);
    let group = topic_name("leave");
    let members = || shared().group_members(&group).unwrap();
    let consumer = join(&cluster, &group, "closed", &topic, &[]);
    holds(&consumer, 1).await;
    let member = &members()[0];
    assert_eq!(member.client_id, "closed");
    assert_eq!(member.assigned, [(topic.clone(), 0)]);
    consumer.close().done().await;
    assert!(members().is_empty());

    // Its session would go on for longer than anybody waits here.
    let own = [("session.timeout.ms", "45000")];
    let consumer = join(&cluster, &group, "dropped", &topic, &own);
    holds(&consumer, 1).await;
    drop(consumer);
    eventually("an empty group", || members().is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_silent_too_long_is_told_and_joins_again() {
    let cluster = open(&shared().bootstrap_servers());
    let topic = new_topic("silent", 1);
    let group = topic_name("silent");
    fill(&topic, 1, 3);
    let own = [
        ("session.timeout.ms", "6000"),
        ("max.poll.interval.ms", "6000"),
    ];
    let consumer = join(&cluster, &group, "sleeper", &topic, &own);
    assert_eq!(next(&consumer).await.offset, 0);
    // Before it is heard of for the last time.
    let silent_since = Instant::now();
    assert_eq!(next(&consumer).await.offset, 1);
    consumer.store(&[at(&topic, 0, 2)]).unwrap();
    eventually("an empty group", || {
        shared()
            .group_members(&group)
            .unwrap()
            .is_empty()
            .then_some(())
    })
    .await;
    assert!(silent_since.elapsed() >= Duration::from_secs(6));
    // What was stored was committed on the way out.
    assert_eq!(shared().committed(&group, &topic).unwrap()[&0], 2);

    let error = match tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .unwrap()
    {
        Err(error) => error,
        Ok(message) => panic!("offset {} instead of an error", message.offset()),
    };
    let text = error.to_string();
    let by = text
        .strip_prefix("Application maximum poll interval (6000ms) exceeded by ")
        .and_then(|rest| rest.strip_suffix("ms"))
        .unwrap_or_else(|| panic!("{text}"));
    by.parse::<u64>().unwrap();
    let Error::Consume {
        error, is_fatal, ..
    } = error
    else {
        panic!("{error:?}");
    };
    assert!(error.is(ErrorCode::PollExceeded));
    assert!(!is_fatal);
    assert_eq!(next(&consumer).await.offset, 2, "it has joined again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_another_has_replaced_has_failed_for_good() {
    let cluster = open(&shared().bootstrap_servers());
    let topic = new_topic("fenced", 1);
    let group = topic_name("fenced");
    let own = [("group.instance.id", "the only one")];
    let first = join(&cluster, &group, "first", &topic, &own);
    holds(&first, 1).await;
    let second = join(&cluster, &group, "second", &topic, &own);
    let failed = tokio::time::timeout(PATIENCE, first.next()).await.unwrap();
    let Err(Error::Consume { text, is_fatal, .. }) = failed.map(|message| message.offset()) else {
        panic!("a message, or another error");
    };
    assert!(is_fatal, "{text}");
    holds(&second, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_waits_is_not_silent() {
    let cluster = open(&shared().bootstrap_servers());
    let topic = new_topic("waiting", 1);
    let group = topic_name("waiting");
    let own = [
        ("session.timeout.ms", "6000"),
        ("max.poll.interval.ms", "6000"),
    ];
    let consumer = join(&cluster, &group, "waiter", &topic, &own);
    holds(&consumer, 1).await;
    let before = shared().group_members(&group).unwrap();
    let longer = Duration::from_secs(9);
    let early = tokio::time::timeout(longer, consumer.next()).await;
    assert!(early.is_err(), "nothing was to come");
    assert_eq!(shared().group_members(&group).unwrap(), before);
    fill(&topic, 1, 1);
    assert_eq!(next(&consumer).await.offset, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_later_is_read_without_joining_again() {
    // The contract says 5 s; two more for a busy machine.
    let mut quickest = Quickest::of(3, Duration::from_secs(7));
    while quickest.is_missing() {
        quickest.took(read_a_topic_made_later().await);
    }
}

async fn read_a_topic_made_later() -> Duration {
    let cluster = open(&shared().bootstrap_servers());
    let there = new_topic("there", 1);
    let later = topic_name("later");
    let mut own = properties(&[]);
    own.set("group.id", topic_name("later"));
    let consumer = cluster.consumer(&own, &[&there, &later]).unwrap();
    fill(&there, 1, 1);
    assert_eq!(next(&consumer).await.value, "0");
    shared().create_topic(&later, 1).unwrap();
    let created = Instant::now();
    shared().produce(&later, None, None, Some(b"new")).unwrap();
    assert_eq!(next(&consumer).await.value, "new");
    created.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_regular_expression_subscribes_to_what_matches() {
    let cluster = open(&shared().bootstrap_servers());
    let prefix = topic_name("regex");
    let matching = format!("{prefix}-b");
    shared().create_topic(&matching, 1).unwrap();
    shared().create_topic(&format!("x{prefix}-c"), 1).unwrap();
    let consumer = join(
        &cluster,
        &topic_name("regex"),
        "all",
        &format!("^{prefix}-.*"),
        &[],
    );
    holds(&consumer, 1).await;
    assert_eq!(sorted(&consumer), [(matching, 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_topic_name_is_refused() {
    let cluster = open(&shared().bootstrap_servers());
    let own = properties(&[("group.id", "g")]);
    for topics in [&[][..], &[""], &["a", ""]] {
        assert!(matches!(
            cluster.consumer(&own, topics),
            Err(Error::EmptyTopicName)
        ));
    }
    let unknown = properties(&[("group.id", "g"), ("auto.offset.rest", "earliest")]);
    let error = cluster.consumer(&unknown, &["a"]).err().unwrap();
    assert!(error.to_string().contains("auto.offset.reset"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_read_with_everything_it_has() {
    let cluster = open(&shared().bootstrap_servers());
    let topic = new_topic("whole", 1);
    let headers: Vec<(&str, Option<&[u8]>)> = vec![("a", Some(b"1")), ("a", None), ("", Some(b""))];
    let records = [
        NewRecord {
            key: Some(b"\0key"),
            value: Some(b""),
            headers: headers.clone(),
            timestamp: Some(1_600_000_000_001),
            ..NewRecord::default()
        },
        NewRecord::default(),
    ];
    shared().produce_all(&topic, records).unwrap();
    let consumer = join(&cluster, &topic_name("whole"), "one", &topic, &[]);
    let message = tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(message.topic(), topic);
    assert_eq!(message.key(), Some(&b"\0key"[..]));
    assert_eq!(message.value(), Some(&b""[..]));
    assert_eq!(message.timestamp(), Some(1_600_000_000_001));
    let found: Vec<_> = message.headers().collect();
    let expected: Vec<_> = headers
        .into_iter()
        .map(|(name, value)| (name.as_bytes(), value))
        .collect();
    assert_eq!(found, expected);
    drop(message);
    let tombstone = tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((tombstone.key(), tombstone.value()), (None, None));
    assert_eq!(tombstone.headers().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_come_and_go_lose_nothing() {
    let cluster = open(&shared().bootstrap_servers());
    let topic = new_topic("churn", 4);
    let group = topic_name("churn");
    fill(&topic, 4, 250);
    let steady = join(&cluster, &group, "steady", &topic, &[]);
    let mut seen: BTreeSet<(i32, i64)> = BTreeSet::new();
    let mut take = async |consumer: &Consumer, count: usize| {
        for _ in 0..count {
            let message = next(consumer).await;
            // A partition may have been revoked since: then it comes again elsewhere.
            let _ = consumer.store(&[at(&topic, message.partition, message.offset + 1)]);
            seen.insert((message.partition, message.offset));
        }
    };
    take(&steady, 50).await;
    for visitor in ["one", "two"] {
        let visitor = join(&cluster, &group, visitor, &topic, &[]);
        holds(&visitor, 2).await;
        take(&visitor, 50).await;
        take(&steady, 50).await;
        visitor.close().done().await;
        holds(&steady, 4).await;
    }
    while seen.len() < 4 * 250 {
        let message = next(&steady).await;
        seen.insert((message.partition, message.offset));
    }
    // And nothing else.
    let started = Instant::now();
    while let Ok(message) = tokio::time::timeout(Duration::from_secs(2), steady.next()).await {
        let message = message.unwrap();
        seen.insert((message.partition(), message.offset()));
        assert!(started.elapsed() < PATIENCE);
    }
    let all: BTreeSet<(i32, i64)> = (0..4)
        .flat_map(|partition| (0..250).map(move |offset| (partition, offset)))
        .collect();
    assert_eq!(seen.len(), all.len());
    assert_eq!(seen, all);
    assert_eq!(numbers(0..250).len() * 4, all.len());
}
