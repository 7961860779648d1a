//! The cluster in memory.

use crate::support::{at, caller, join, numbers, open, read, send_all, settle, values};
use barnabas_engine::{
    AckMode, Consume, DispatchConfig, Dispatcher, EmbeddedCluster, InitialOffset, Properties,
    Proxy, ProxyOptions,
};
use barnabas_testkit::Quickest;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_cluster_takes_messages_and_gives_them_back() {
    let embedded = EmbeddedCluster::start(2).unwrap();
    assert_eq!(embedded.bootstrap_servers().split(',').count(), 2);
    embedded.create_topic("made", 7).unwrap();
    let cluster = open(embedded.bootstrap_servers());
    let topics = cluster
        .admin()
        .unwrap()
        .topics(Duration::from_secs(10))
        .unwrap();
    let made = topics.iter().find(|topic| topic.name == "made").unwrap();
    assert_eq!(made.partitions.len(), 7);

    // Not made before: it appears on first use.
    let mut caller = caller(&cluster);
    let topic = caller.topic(b"first-use").unwrap();
    send_all(&mut caller, &topic, values(&numbers(0..20)));
    settle(&caller).await;
    assert_eq!(caller.report().failed, 0);

    // It waits for a session for who may still come.
    let own = [("session.timeout.ms", "6000")];
    let consumer = join(&cluster, "group", "one", "first-use", &own);
    let seen = read(&consumer, 20).await;
    let mut values: Vec<usize> = seen
        .iter()
        .map(|seen| seen.value.parse().unwrap())
        .collect();
    values.sort_unstable();
    assert_eq!(values, (0..20).collect::<Vec<_>>());
    // It remembers acknowledgements as long as it lives.
    for seen in &seen {
        consumer
            .store(&[at("first-use", seen.partition, seen.offset + 1)])
            .unwrap();
    }
    consumer.close().done().await;
    send_all(
        &mut caller,
        &topic,
        crate::support::values(&numbers(20..21)),
    );
    settle(&caller).await;
    let consumer = join(&cluster, "group", "two", "first-use", &own);
    assert_eq!(read(&consumer, 1).await[0].value, "20");
}

/// What librdkafka's mock cannot do is answered by the process itself, or refused; nothing waits.
#[tokio::test(flavor = "multi_thread")]
async fn questions_that_an_embedded_cluster_cannot_answer_do_not_wait() {
    // librdkafka waits ten seconds for the first of them.
    let mut quickest = Quickest::of(3, Duration::from_secs(5));
    while quickest.is_missing() {
        quickest.took(ask_an_embedded_cluster().await);
    }
}

async fn ask_an_embedded_cluster() -> Duration {
    let embedded = EmbeddedCluster::start(1).unwrap();
    embedded.create_topic("made", 2).unwrap();
    let cluster = open(embedded.bootstrap_servers());
    let config = DispatchConfig {
        initial_offset: InitialOffset::Oldest,
        long_polling: Duration::from_secs(20),
        ..DispatchConfig::default()
    };
    let dispatcher = Dispatcher::start(&cluster, config, &Properties::new()).unwrap();
    let options = ProxyOptions {
        is_consuming_disabled: false,
        has_headers: true,
        max_message_bytes: 1_000_000,
        strict_async: false,
    };
    let proxy = Proxy::new(&cluster, dispatcher, options)
        .unwrap()
        .on_embedded();
    let mut caller = caller(&cluster);
    let topic = caller.topic(b"made").unwrap();
    send_all(&mut caller, &topic, values(&numbers(0..1)));
    settle(&caller).await;
    let request = Consume::one("group", "made", AckMode::Auto);
    proxy.dispatcher.consume(&request).await.unwrap().confirm();

    let started = Instant::now();
    let admin = &proxy.admin;
    let groups = admin.group_members(None).await.unwrap();
    assert_eq!(groups.len(), 1);
    assert!(groups[0].subscribes_to("made"));
    let consumers = groups[0].consumers_of("made");
    assert_eq!(consumers.into_values().collect::<Vec<_>>(), [[0, 1]]);
    assert_eq!(admin.group_members(Some("group")).await.unwrap(), groups);
    assert_eq!(admin.group_members(Some("other")).await.unwrap(), []);
    let overrides = admin.topic_overrides(&["made", "missing"]).await.unwrap();
    assert_eq!(overrides.keys().collect::<Vec<_>>(), ["made"]);
    for refused in [
        admin.create_topic("new", 1, 1).await,
        admin.delete_topic("made").await,
    ] {
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("the cluster in memory"), "{said}");
    }
    started.elapsed()
}
