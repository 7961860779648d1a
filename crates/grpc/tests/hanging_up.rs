//! Clients that go away lose nothing (B8), even with auto-ack.

use crate::raw::{Raw, framed};
use crate::support::{Client, Gateway, PATIENCE, auto_ack, committed, fill, new_topic, next};
use barnabas_testkit::{shared, topic_name};
use std::time::Duration;

/// Long enough for a reply to arrive, or for an acknowledgement to be committed.
const PAUSE: Duration = Duration::from_millis(500);

/// A group that has joined, and its topic, at offset 1.
async fn joined(client: &mut Client, prefix: &str) -> (String, String) {
    let (group, topic) = (topic_name(prefix), new_topic(prefix, 1));
    fill(&topic, &["first"]);
    assert_eq!(next(client, &auto_ack(&group, &topic)).await.0, 0);
    committed(&group, &topic, 1).await;
    (group, topic)
}

/// The message goes to whoever asks next; nobody had acknowledged it.
async fn nothing_is_lost(client: &mut Client, group: &str, topic: &str) {
    tokio::time::sleep(PAUSE).await;
    assert_eq!(shared().committed(group, topic).unwrap()[&0], 1);
    let request = auto_ack(group, topic);
    assert_eq!(next(client, &request).await.0, 1);
    committed(group, topic, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_polling() {
    let gateway = Gateway::with(|options| options.dispatch.long_polling = Duration::from_secs(10));
    let mut client = gateway.client().await;
    let (group, topic) = joined(&mut client, "polling").await;
    for _ in 0..3 {
        let poll = client.consume_n_ack(auto_ack(&group, &topic));
        assert!(tokio::time::timeout(PAUSE, poll).await.is_err());
    }
    gateway.until_waiting(&group, 0).await;
    fill(&topic, &["second"]);
    nothing_is_lost(&mut client, &group, &topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_connection() {
    let gateway = Gateway::with(|options| options.dispatch.long_polling = Duration::from_secs(10));
    let mut client = gateway.client().await;
    let (group, topic) = joined(&mut client, "gone").await;
    let mut raw = Raw::connect(gateway.address(), 65_535).await;
    let poll = raw.begin("ConsumeNAck", framed(&auto_ack(&group, &topic)), &[]);
    assert!(tokio::time::timeout(PAUSE, poll).await.is_err());
    raw.cut().await;
    gateway.until_waiting(&group, 0).await;
    fill(&topic, &["second"]);
    nothing_is_lost(&mut client, &group, &topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_was_not_let_in_is_cancelled() {
    let gateway = Gateway::with(|options| options.dispatch.long_polling = PATIENCE);
    let mut client = gateway.client().await;
    let (group, topic) = joined(&mut client, "reset").await;
    fill(&topic, &["second"]);
    let mut raw = Raw::connect(gateway.address(), 0).await;
    let request = framed(&auto_ack(&group, &topic));
    let mut reply = raw.begin("ConsumeNAck", request, &[]).await;
    assert!(
        !reply.headers.contains_key("grpc-status"),
        "{:?}",
        reply.headers
    );
    tokio::time::sleep(PAUSE).await;
    assert_eq!(shared().committed(&group, &topic).unwrap()[&0], 1);
    reply.request.send_reset(h2::Reason::CANCEL);
    nothing_is_lost(&mut client, &group, &topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_was_not_let_in_ends_with_its_connection() {
    let gateway = Gateway::with(|options| options.dispatch.long_polling = PATIENCE);
    let mut client = gateway.client().await;
    let (group, topic) = joined(&mut client, "cut").await;
    fill(&topic, &["second"]);
    let mut raw = Raw::connect(gateway.address(), 0).await;
    let request = framed(&auto_ack(&group, &topic));
    let reply = raw.begin("ConsumeNAck", request, &[]).await;
    assert!(
        !reply.headers.contains_key("grpc-status"),
        "{:?}",
        reply.headers
    );
    raw.cut().await;
    nothing_is_lost(&mut client, &group, &topic).await;
}

/// Most of the reply has been sent, the rest waits for its client to read.
#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_reply_is_none() {
    let gateway = Gateway::with(|options| options.dispatch.long_polling = PATIENCE);
    let mut client = gateway.client().await;
    let (group, topic) = joined(&mut client, "half").await;
    fill(&topic, &[&"x".repeat(100_000)]);
    let mut raw = Raw::connect(gateway.address(), 65_535).await;
    let request = framed(&auto_ack(&group, &topic));
    let mut reply = raw.begin("ConsumeNAck", request, &[]).await;
    let mut came = 0;
    while came < 65_535 {
        came += reply.body.data().await.unwrap().unwrap().len();
    }
    reply.request.send_reset(h2::Reason::CANCEL);
    nothing_is_lost(&mut client, &group, &topic).await;
}
