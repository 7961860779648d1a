//! The end of a front end.

use crate::support::{
    Gateway, PATIENCE, ack, assert_refused, auto_ack, connect, fill, message, new_topic, next,
    no_ack,
};
use barnabas_testkit::{Stalls, topic_name};
use std::future::pending;
use std::time::{Duration, Instant};
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test(flavor = "multi_thread")]
async fn work_is_refused_first_and_acks_go_on() {
    let gateway = Gateway::with(|options| options.dispatch.long_polling = Duration::from_secs(10));
    let mut client = gateway.client().await;
    let (group, topic) = (topic_name("stop"), new_topic("stop", 1));
    fill(&topic, &["a"]);
    assert_eq!(next(&mut client, &no_ack(&group, &topic)).await.0, 0);
    let mut other = gateway.client().await;
    let request = auto_ack(&group, &topic);
    let waiting = tokio::spawn(async move { other.consume_n_ack(request).await });
    tokio::time::sleep(Duration::from_millis(300)).await;

    gateway.proxies.refuse_work();
    let dispatcher = gateway.dispatcher.clone();
    let stopping = tokio::spawn(async move { dispatcher.stop(pending()).await });
    let text = "service is shutting down";
    assert_refused(waiting.await.unwrap(), Code::Unavailable, text);
    let refused = client.consume_n_ack(auto_ack(&group, &topic)).await;
    assert_refused(refused, Code::Unavailable, text);
    for async_mode in [false, true] {
        let mut request = message(&topic, "x");
        request.async_mode = async_mode;
        assert_refused(client.produce(request).await, Code::Unavailable, text);
    }
    client.ack(ack(&group, &topic, 0, 0)).await.unwrap();
    stopping.await.unwrap();

    let (started, stalls) = (Instant::now(), Stalls::watch());
    gateway.server.stop().await;
    assert!(started.elapsed() < Duration::from_secs(5) + stalls.total());
    assert!(client.produce(message(&topic, "x")).await.is_err());
}

/// Some clients watch the health of their servers for as long as they live.
#[tokio::test(flavor = "multi_thread")]
async fn who_watches_the_health_does_not_hold_up_the_end() {
    let gateway = Gateway::start();
    let endpoint = Endpoint::from_shared(format!("http://{}", gateway.address())).unwrap();
    let mut client = HealthClient::new(endpoint.connect().await.unwrap());
    let request = HealthCheckRequest::default();
    let mut watch = client.watch(request).await.unwrap().into_inner();
    let first = watch.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    let (started, stalls) = (Instant::now(), Stalls::watch());
    gateway.server.stop().await;
    // Sooner than it cuts off what has not ended.
    assert!(started.elapsed() < Duration::from_secs(10) + stalls.total());
    let end = loop {
        match watch.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a stream ends with a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn running_requests_are_finished() {
    // It does not end by itself.
    let gateway = Gateway::with(|options| options.dispatch.long_polling = PATIENCE);
    let address = gateway.address();
    let mut client = gateway.client().await;
    let (group, topic) = (topic_name("finish"), new_topic("finish", 1));
    fill(&topic, &["a"]);
    let request = auto_ack(&group, &topic);
    assert_eq!(next(&mut client, &request).await.0, 0);
    let waiting = tokio::spawn(async move { client.consume_n_ack(request).await });
    gateway.until_waiting(&group, 1).await;

    let started = Instant::now();
    let stopping = tokio::spawn(gateway.server.stop());
    while connect(address).await.is_ok() {
        assert!(started.elapsed() < PATIENCE, "still listening");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!stopping.is_finished());
    fill(&topic, &["b"]);
    assert_eq!(waiting.await.unwrap().unwrap().into_inner().offset, 1);
    stopping.await.unwrap();
}
