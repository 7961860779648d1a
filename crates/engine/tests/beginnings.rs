//! Where groups begin, and who holds what they have got.

use crate::dispatch::{ack, ask, config, is_committed, nothing, one, start};
use crate::support::{PATIENCE, eventually, fill, new_topic, open};
use barnabas_engine::{
    AckError, AckMode, Consume, ConsumeError, DispatchConfig, Holder, InitialOffset, NewGroupOffset,
};
use barnabas_testkit::{NewRecord, shared, topic_name};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_group_misses_nothing_that_comes_after_its_first_request() {
    let topic = new_topic("first", 1);
    let group = topic_name("first");
    fill(&topic, 1, 5);
    let dispatcher = start(DispatchConfig {
        initial_offset: InitialOffset::Newest,
        ..config()
    });
    // What was there before is not delivered, and the place is pinned.
    nothing(&dispatcher, &group, &topic).await;
    is_committed(&group, &topic, 5, "").await;
    let asked = tokio::spawn({
        let (dispatcher, group, topic) = (dispatcher.clone(), group.clone(), topic.clone());
        async move { one(&dispatcher, &group, &topic, AckMode::Auto).await }
    });
    shared()
        .produce(&topic, Some(0), None, Some(b"new"))
        .unwrap();
    assert_eq!(asked.await.unwrap(), (0, 5, "new".to_owned()));
    is_committed(&group, &topic, 6, "").await;
    dispatcher.stop(std::future::pending()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_right_behind_a_groups_first_request_is_not_missed() {
    let topic = new_topic("at-once", 1);
    let group = topic_name("at-once");
    fill(&topic, 1, 5);
    let dispatcher = start(DispatchConfig {
        initial_offset: InitialOffset::Newest,
        ..config()
    });
    // Its client does not even exist when the request has been taken.
    let asking = ask(&dispatcher, &group, &topic, AckMode::Auto, 1);
    tokio::pin!(asking);
    tokio::select! {
        biased;
        _ = &mut asking => panic!("there is nothing"),
        () = std::future::ready(()) => {}
    }
    shared()
        .produce(&topic, Some(0), None, Some(b"at once"))
        .unwrap();
    let message = match asking.await {
        Ok(deliveries) => {
            let offset = deliveries.messages()[0].offset;
            deliveries.confirm();
            offset
        }
        Err(_) => one(&dispatcher, &group, &topic, AckMode::Auto).await.1,
    };
    assert_eq!(message, 5);
    dispatcher.stop(std::future::pending()).await;
}

/// Messages below a committed offset count as acknowledged, also where the log
/// has not got there yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_offset_is_beyond_the_end_begins_there() {
    let topic = new_topic("ahead", 1);
    let group = topic_name("ahead");
    fill(&topic, 1, 5);
    let ahead = NewGroupOffset {
        partition: 0,
        offset: 8,
        metadata: String::new(),
    };
    let admin = open(&shared().bootstrap_servers()).admin().unwrap();
    admin
        .commit_group_offsets(&group, &topic, &[ahead])
        .await
        .unwrap();
    let dispatcher = start(config());
    nothing(&dispatcher, &group, &topic).await;
    for more in [1, 2] {
        fill(&topic, 1, more);
        nothing(&dispatcher, &group, &topic).await;
        is_committed(&group, &topic, 8, "").await;
    }
    fill(&topic, 1, 2);
    for offset in [8, 9] {
        let (_, read, _) = one(&dispatcher, &group, &topic, AckMode::Auto).await;
        assert_eq!(read, offset);
    }
    is_committed(&group, &topic, 10, "").await;
    dispatcher.stop(std::future::pending()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_may_begin_at_a_time() {
    let topic = new_topic("time", 1);
    let group = topic_name("time");
    // Old enough to be no time of this test, young enough to be kept.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let hour_ago = i64::try_from(now.as_millis()).unwrap() - 3_600_000;
    let old = [(0, "old"), (10, "young"), (20, "younger")];
    let records = old.map(|(after, value)| NewRecord {
        partition: Some(0),
        value: Some(value.as_bytes()),
        timestamp: Some(hour_ago + after),
        ..NewRecord::default()
    });
    shared().produce_all(&topic, records).unwrap();
    let dispatcher = start(DispatchConfig {
        initial_offset: InitialOffset::Time(hour_ago + 1),
        ..config()
    });
    let message = one(&dispatcher, &group, &topic, AckMode::Auto).await;
    assert_eq!(message, (0, 1, "young".to_owned()));
    dispatcher.stop(std::future::pending()).await;
    let dispatcher = start(DispatchConfig {
        initial_offset: InitialOffset::Time(hour_ago + 21),
        ..config()
    });
    let group = topic_name("time");
    nothing(&dispatcher, &group, &topic).await;
    fill(&topic, 1, 1);
    let message = one(&dispatcher, &group, &topic, AckMode::Auto).await;
    assert_eq!((message.0, message.1), (0, 3));
    dispatcher.stop(std::future::pending()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_know_what_they_have_and_give_it_back_together() {
    let topic = new_topic("holders", 1);
    let group = topic_name("holders");
    fill(&topic, 1, 4);
    let dispatcher = start(config());
    let (mine, other) = (Holder::unique(), Holder::unique());
    let take = async |holder, max, wait| {
        let request = Consume {
            max,
            holder,
            wait: Some(wait),
            ..Consume::one(&group, &topic, AckMode::Explicit)
        };
        let deliveries = dispatcher.consume(&request).await?;
        let messages = deliveries.messages().iter();
        let offsets: Vec<i64> = messages.map(|message| message.offset).collect();
        deliveries.confirm();
        Ok::<_, ConsumeError>(offsets)
    };
    // However long joining takes.
    assert_eq!(take(mine, 1, PATIENCE).await.unwrap(), [0]);
    let mut more = Vec::new();
    while more.len() < 2 {
        more.extend(take(mine, 2 - more.len(), PATIENCE).await.unwrap());
    }
    assert_eq!(more, [1, 2]);
    assert_eq!(take(other, 5, PATIENCE).await.unwrap(), [3]);
    let nothing = take(other, 5, Duration::ZERO).await;
    assert!(matches!(nothing, Err(ConsumeError::Timeout)));
    let offsets = |holder| -> Vec<i64> {
        let held = dispatcher.held(&group, &topic, holder);
        held.iter().map(|held| held.offset).collect()
    };
    assert_eq!(offsets(mine), [0, 1, 2]);
    assert_eq!(dispatcher.held_by(&group, mine).messages, 3);
    assert_eq!(dispatcher.pending(&group, &topic), 4);
    let results = dispatcher
        .ack(&group, &topic, &[(0, 1), (0, 1), (0, 9), (0, 0)])
        .await;
    assert_eq!(
        results,
        [Ok(true), Ok(false), Err(AckError::BadOffset(9)), Ok(true)]
    );
    assert_eq!(offsets(mine), [2]);
    dispatcher.give_back(&group, mine);
    assert_eq!(take(other, 5, Duration::ZERO).await.unwrap(), [2]);
    assert_eq!(offsets(mine), [0; 0]);
    assert_eq!(offsets(other), [2, 3]);
    dispatcher.stop(std::future::ready(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_into_a_reply_is_given_back_and_holders_are_known() {
    let dispatcher = start(config());
    let (group, topic) = (topic_name("truncate"), new_topic("truncate", 1));
    fill(&topic, 1, 5);
    let (first, second) = (Holder::unique(), Holder::unique());
    let mut deliveries = {
        let started = Instant::now();
        loop {
            let request = Consume {
                max: 3,
                holder: first,
                ..Consume::one(&group, &topic, AckMode::Explicit)
            };
            match dispatcher.consume(&request).await {
                Ok(deliveries) => break deliveries,
                Err(_) => assert!(started.elapsed() < PATIENCE),
            }
        }
    };
    let got = deliveries.messages().len();
    deliveries.truncate(1);
    assert_eq!(deliveries.messages().len(), 1);
    deliveries.truncate(9);
    deliveries.confirm();
    assert_eq!(
        dispatcher.holders(&group, &topic, &[(0, 0), (0, 0), (0, 4), (7, 0)]),
        [first]
    );

    let request = Consume {
        max: 5,
        holder: second,
        ..Consume::one(&group, &topic, AckMode::Explicit)
    };
    let rest = dispatcher.consume(&request).await.unwrap();
    assert_eq!(rest.messages()[0].offset, 1, "{got} came first");
    rest.confirm();
    assert_eq!(
        dispatcher.holders(&group, &topic, &[(0, 1), (0, 0)]),
        [second, first]
    );
    ack(&dispatcher, &group, &topic, 0, 0).await.unwrap();
    assert_eq!(dispatcher.holders(&group, &topic, &[(0, 0)]), []);

    // Nobody waits for what the second one holds.
    dispatcher.leave(&group, &topic);
    eventually("the topic is left", || {
        let left = dispatcher.pending(&group, &topic) == 0;
        left.then_some(())
    })
    .await;
    dispatcher.stop(std::future::ready(())).await;
    assert_eq!(shared().committed(&group, &topic).unwrap()[&0], 1);
}
