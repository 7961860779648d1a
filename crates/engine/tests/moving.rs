//! Groups while their partitions move, and topics that are none.

use crate::dispatch::{ack, ask, committed, config, get, nothing, one, start};
use crate::support::{PATIENCE, eventually, fill, new_topic, open};
use barnabas_engine::AckMode;
use barnabas_testkit::{shared, topic_name};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_what_stays_delivers_while_partitions_move() {
    let topic = new_topic("moving", 2);
    let group = topic_name("moving");
    fill(&topic, 2, 5);
    let first = start(config());
    // All but the last of each partition are acknowledged.
    let (mut pending, mut seen) = (Vec::new(), 0);
    while seen < 10 {
        let got = get(&first, &group, &topic, AckMode::Explicit, 100).await;
        let messages = got.messages().to_vec();
        got.confirm();
        for message in messages {
            seen += 1;
            let at = (message.partition, message.offset);
            if message.offset == 4 {
                pending.push(at);
            } else {
                ack(&first, &group, &topic, at.0, at.1).await.unwrap();
            }
        }
    }
    // The end of both partitions has been seen: it is committed up to it.
    eventually("the commits", || {
        let committed = shared().committed(&group, &topic).unwrap();
        (committed.values().copied().collect::<Vec<_>>() == [4, 4]).then_some(())
    })
    .await;
    let second = start(config());
    let got = Arc::new(Mutex::new(BTreeSet::new()));
    let asking = tokio::spawn({
        let (second, group, topic) = (second.clone(), group.clone(), topic.clone());
        let got = Arc::clone(&got);
        async move {
            loop {
                if let Ok(deliveries) = ask(&second, &group, &topic, AckMode::Auto, 10).await {
                    let messages = deliveries.messages().iter();
                    let messages = messages.map(|message| (message.partition, message.offset));
                    got.lock().extend(messages);
                    deliveries.confirm();
                }
            }
        }
    });
    // One of the two is to move, and waits for its acknowledgement.
    let admin = open(&shared().bootstrap_servers()).admin().unwrap();
    let started = Instant::now();
    let staying = loop {
        let groups = admin.group_members(Some(&group)).await.unwrap();
        let members: Vec<_> = groups.iter().flat_map(|group| &group.members).collect();
        let assigned: Vec<i32> = members
            .iter()
            .flat_map(|member| &member.assigned)
            .map(|(_, partition)| *partition)
            .collect();
        if let ([_, _], [only]) = (members.as_slice(), assigned.as_slice()) {
            break *only;
        }
        assert!(started.elapsed() < PATIENCE, "{groups:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    for partition in 0..2 {
        shared()
            .produce(&topic, Some(partition), None, Some(b"late"))
            .unwrap();
    }
    let late = get(&first, &group, &topic, AckMode::Auto, 1).await;
    let message = &late.messages()[0];
    assert_eq!((message.partition, message.offset), (staying, 5));
    late.confirm();
    assert!(got.lock().is_empty(), "nothing has moved yet");
    for (partition, offset) in pending {
        ack(&first, &group, &topic, partition, offset)
            .await
            .unwrap();
    }
    eventually("the message of the partition that moves", || {
        got.lock().contains(&(1 - staying, 5)).then_some(())
    })
    .await;
    asking.abort();
    first.stop(std::future::ready(())).await;
    second.stop(std::future::ready(())).await;
    let committed = shared().committed(&group, &topic).unwrap();
    assert_eq!(committed.into_values().collect::<Vec<_>>(), [6, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_topics_name_disturbs_nobody() {
    let topic = new_topic("pattern", 1);
    let group = topic_name("pattern");
    fill(&topic, 1, 1);
    let dispatcher = start(config());
    let pattern = format!("^{topic}$");
    for name in [pattern.as_str(), "^(", "", "a b", "a\0b"] {
        nothing(&dispatcher, &group, name).await;
    }
    assert_eq!(committed(&group, &topic), None, "librdkafka knows patterns");
    let asking = tokio::spawn({
        let (dispatcher, group) = (dispatcher.clone(), group.clone());
        async move {
            loop {
                let _ = ask(&dispatcher, &group, "^(", AckMode::Auto, 1).await;
            }
        }
    });
    get(&dispatcher, &group, &topic, AckMode::Auto, 1)
        .await
        .confirm();
    asking.abort();
    dispatcher.stop(std::future::ready(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_again_is_read_from_its_beginning() {
    let topic = new_topic("again", 1);
    fill(&topic, 1, 5);
    let dispatcher = start(config());
    let group = topic_name("again");
    let read = async |count: i64| {
        for offset in 0..count {
            let message = one(&dispatcher, &group, &topic, AckMode::Auto).await;
            assert_eq!(message, (0, offset, offset.to_string()));
        }
    };
    read(5).await;
    shared().delete_topic(&topic).unwrap();
    shared().create_topic(&topic, 1).unwrap();
    // Fewer than were read of the old one: the client cannot but notice.
    fill(&topic, 1, 3);
    read(3).await;
}
