//! Ack.

use crate::support::{
    Gateway, ack, assert_refused, auto_ack, committed, fill, new_topic, next, no_ack,
};
use barnabas_testkit::topic_name;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn acks_come_in_any_order_and_more_than_once() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let (group, topic) = (topic_name("acks"), new_topic("acks", 1));
    fill(&topic, &["a", "b", "c"]);
    for offset in 0..3 {
        assert_eq!(next(&mut client, &no_ack(&group, &topic)).await.0, offset);
    }
    for offset in [2, 0, 0] {
        client.ack(ack(&group, &topic, 0, offset)).await.unwrap();
    }
    committed(&group, &topic, 1).await;
    client.ack(ack(&group, &topic, 0, 1)).await.unwrap();
    committed(&group, &topic, 3).await;
    // Below the committed offset it is a repetition, too.
    client.ack(ack(&group, &topic, 0, 0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_belongs_where_the_message_came_from() {
    let gateway = Gateway::start();
    let mut client = gateway.client().await;
    let (group, topic) = (topic_name("foreign%d"), new_topic("foreign", 1));
    let missing =
        |partition: i32| format!("acks channel missing for {{{group} {topic} {partition}}}");
    assert_refused(
        client.ack(ack(&group, &topic, 0, 0)).await,
        Code::Internal,
        &missing(0),
    );
    fill(&topic, &["a"]);
    next(&mut client, &auto_ack(&group, &topic)).await;
    assert_refused(
        client.ack(ack(&group, &topic, 1, 0)).await,
        Code::Internal,
        &missing(1),
    );
    assert_refused(
        client.ack(ack(&group, &topic, 0, 1)).await,
        Code::InvalidArgument,
        "invalid ack: bad offset: 1",
    );
}
