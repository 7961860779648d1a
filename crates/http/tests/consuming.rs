//! Consuming and acknowledging: sections 3.2 and 3.3 of the contract.

use crate::support::{Changes, PATIENCE, gateway, is_committed, new_topic, start};
use barnabas_engine::{
    AckMode, Cluster, ClusterConfig, Consume, DispatchConfig, Dispatcher, PeerAcks, PeerReply,
    Peers, Properties, client_id_at,
};
use barnabas_testkit::{shared, topic_name};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

fn fill(topic: &str, count: usize) {
    for number in 0..count {
        let value = number.to_string();
        shared()
            .produce(topic, Some(0), None, Some(value.as_bytes()))
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_all_its_fields() {
    let gateway = gateway();
    let topic = new_topic("fields", 1);
    let batch = json!([
        {"key": "AP8=", "value": "YQ==", "headers": [{"key": "H", "value": "AA=="}, {"key": "h"}]},
        {"key": "", "value": null},
    ]);
    let path = format!("/topics/{topic}/batches");
    gateway
        .post(&path, "application/json", batch.to_string())
        .await;
    let group = topic_name("fields");
    let message = gateway.consume(&topic, &format!("group={group}")).await;
    let headers = json!([{"key": "H", "value": "AA=="}, {"key": "h", "value": ""}]);
    assert_eq!(
        message,
        json!({"key": "AP8=", "value": "YQ==", "partition": 0, "offset": 0, "headers": headers})
    );
    let message = gateway.consume(&topic, &format!("group={group}")).await;
    assert_eq!(
        message,
        json!({"key": "", "value": null, "partition": 0, "offset": 1, "headers": []})
    );
    is_committed(&group, &topic, 2, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_acknowledges_each_message_with_the_next_request() {
    let gateway = gateway();
    let topic = new_topic("loop", 1);
    let group = topic_name("loop");
    fill(&topic, 3);
    let first = gateway
        .consume(&topic, &format!("group={group}&noAck&ackPartition=0"))
        .await;
    assert_eq!(first["offset"], 0);
    for offset in 0..2 {
        let query = format!("group={group}&ackPartition=0&ackOffset={offset}");
        let next = gateway.consume(&topic, &query).await;
        assert_eq!(next["offset"], offset + 1);
    }
    is_committed(&group, &topic, 2, "").await;
    let path = format!("/topics/{topic}/acks?group={group}&partition=0&offset=2");
    for _ in 0..2 {
        let answer = gateway.post(&path, "text/plain", "").await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    }
    is_committed(&group, &topic, 3, "").await;
    // One that cannot be placed does not disturb the consuming.
    let query = format!("group={group}&ackPartition=9&ackOffset=77");
    let path = format!("/topics/{topic}/messages?{query}");
    gateway
        .get(&path)
        .await
        .is_error(408, "long polling timeout");
}

/// A replica that does not answer for now.
#[derive(Default)]
struct Silent {
    is_asked: Notify,
    is_over: Arc<AtomicBool>,
}

/// Tells that nobody waits for its answer any more.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Peers for Silent {
    fn ack<'a>(&'a self, _: &'a str, _: PeerAcks<'a>) -> PeerReply<'a> {
        let over = Over(Arc::clone(&self.is_over));
        self.is_asked.notify_one();
        Box::pin(async move {
            let _over = over;
            std::future::pending().await
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_that_another_replica_has_to_take_holds_no_message_up() {
    let silent = Arc::new(Silent::default());
    let changes = Changes {
        peers: Some(Arc::<Silent>::clone(&silent)),
        ..Changes::default()
    };
    let gateway = start(changes, None);
    let (group, topic) = (topic_name("aside"), new_topic("aside", 1));
    shared().produce(&topic, None, None, Some(b"one")).unwrap();
    shared().produce(&topic, None, None, Some(b"two")).unwrap();
    gateway
        .consume(&topic, &format!("group={group}&noAck"))
        .await;
    // Another member, which owns nothing of this topic.
    let mut config = ClusterConfig::default();
    let brokers = shared().bootstrap_servers();
    config.common.set("bootstrap.servers", brokers);
    let cluster = Cluster::open(config).unwrap();
    let mut own = Properties::new();
    own.set("client.id", client_id_at("other", "silent:1"));
    let other = Dispatcher::start(&cluster, DispatchConfig::default(), &own).unwrap();
    let other_topic = new_topic("other", 1);
    let joining = tokio::spawn({
        let (other, group) = (other.clone(), group.clone());
        async move {
            loop {
                let request = Consume::one(&group, &other_topic, AckMode::Explicit);
                let _ = other.consume(&request).await;
            }
        }
    });
    let admin = &gateway.proxies.get("").unwrap().admin;
    let started = Instant::now();
    loop {
        let groups = admin.group_members(Some(&group)).await.unwrap();
        let found = groups.iter().find(|found| found.group == group);
        if found.is_some_and(|found| found.state == "Stable" && found.members.len() == 2) {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{groups:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Nobody's partition: whoever had it last may take it.
    let query = format!("group={group}&ackPartition=7&ackOffset=0");
    let message = gateway.consume(&topic, &query).await;
    assert!(
        !silent.is_over.load(Ordering::Acquire),
        "the reply has waited for the ack"
    );
    assert_eq!(message["offset"], 1);
    let asked = tokio::time::timeout(PATIENCE, silent.is_asked.notified()).await;
    asked.expect("the other replica is asked nevertheless");
    joining.abort();
    other.stop(std::future::ready(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_messages_and_many_acks_at_once() {
    let gateway = gateway();
    let topic = new_topic("many", 1);
    let group = topic_name("many");
    fill(&topic, 5);
    let batch = gateway
        .consume(&topic, &format!("group={group}&noAck&max=4"))
        .await;
    let offsets: Vec<_> = batch
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["offset"])
        .collect();
    assert_eq!(offsets, [0, 1, 2, 3]);
    let acks = json!([
        {"partition": 0, "offset": 3},
        {"partition": 0, "offset": 99},
        {"partition": 5, "offset": 0},
        {"partition": 0, "offset": 0},
    ]);
    let path = format!("/topics/{topic}/acks?group={group}");
    let answer = gateway
        .post(&path, "application/json", acks.to_string())
        .await;
    let missing = format!("acks channel missing for {{{group} {topic} 5}}");
    assert_eq!(
        answer.json(),
        json!([{}, {"error": "bad offset: 99"}, {"error": missing}, {}])
    );
    is_committed(&group, &topic, 1, "CB").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_told_so() {
    let gateway = gateway();
    let topic = new_topic("bad", 1);
    let messages = format!("/topics/{topic}/messages");
    for (query, text) in [
        ("", "one consumer group is expected, but 0 provided"),
        ("group=", "one consumer group is expected, but 0 provided"),
        (
            "group=a&group=b",
            "one consumer group is expected, but 2 provided",
        ),
        (
            "group=a&ackOffset=1",
            "ackPartition and ackOffset either both should be provided or neither",
        ),
        (
            "group=a&ackPartition=x&ackOffset=1",
            "bad ackPartition: [x]: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        (
            "group=a&ackPartition=2147483648&ackOffset=1",
            "bad ackPartition: [2147483648]: strconv.ParseInt: parsing \"2147483648\": value out \
             of range",
        ),
        ("group=a&ackPartition=0&ackOffset=-1", "bad ackOffset: [-1]"),
        ("group=%zz", "invalid URL escape \"%zz\""),
    ] {
        let answer = gateway.get(&format!("{messages}?{query}")).await;
        answer.is_error(400, text);
    }
    let acks = format!("/topics/{topic}/acks");
    for (query, text) in [
        ("group=a", "partition and offset are required"),
        (
            "group=a&partition=0&offset=0&noAck",
            "partition and offset are required",
        ),
        (
            "group=a&partition=0",
            "partition and offset either both should be provided or neither",
        ),
        ("group=a&partition=-1&offset=0", "bad partition: [-1]"),
        (
            "partition=0&offset=0",
            "one consumer group is expected, but 0 provided",
        ),
    ] {
        let answer = gateway
            .post(&format!("{acks}?{query}"), "text/plain", "")
            .await;
        answer.is_error(400, text);
    }
    let form = "group=never&partition=0&offset=0";
    let answer = gateway
        .post(&acks, "application/x-www-form-urlencoded", form)
        .await;
    let text = format!("acks channel missing for {{never {topic} 0}}");
    answer.is_error(500, &text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_takes_no_message() {
    let gateway = gateway();
    let topic = new_topic("hang-up", 1);
    let group = topic_name("hang-up");
    let path = format!("/topics/{topic}/messages?group={group}");
    fill(&topic, 1);
    let message = gateway.consume(&topic, &format!("group={group}")).await;
    assert_eq!(message["offset"], 0);
    for _ in 0..3 {
        let request = gateway.client.get(gateway.url(&path)).send();
        let cancelled = tokio::time::timeout(Duration::from_millis(200), request).await;
        assert!(cancelled.is_err());
    }
    let dispatcher = &gateway.proxies.get("").unwrap().dispatcher;
    let started = Instant::now();
    while dispatcher.statistics().iter().any(|own| own.waiting > 0) {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fill(&topic, 1);
    let message = gateway.consume(&topic, &format!("group={group}")).await;
    assert_eq!(message["offset"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_is_not_read_acknowledges_nothing() {
    let small = Changes {
        send_buffer: Some(16 << 10),
        ..Changes::default()
    };
    let gateway = start(small, None);
    let topic = new_topic("unread", 1);
    let group = topic_name("unread");
    let large = vec![b'x'; 900_000];
    for _ in 0..20 {
        shared()
            .produce(&topic, Some(0), None, Some(&large))
            .unwrap();
    }
    let first = gateway
        .consume(&topic, &format!("group={group}&noAck"))
        .await;
    assert_eq!(first["offset"], 0);
    // More than the sockets hold, even if it is one message; the client looks
    // at its beginning and goes.
    let client = tokio::net::TcpSocket::new_v4().unwrap();
    client.set_recv_buffer_size(16 << 10).unwrap();
    let mut client = client.connect(gateway.address).await.unwrap();
    let request =
        format!("GET /topics/{topic}/messages?group={group}&max=19 HTTP/1.1\r\nHost: x\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut status = [0; 15];
    client.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 OK");
    drop(client);
    // All of them come, those that were in the reply as soon as its end has
    // been noticed.
    let mut offsets = Vec::new();
    for _ in 1..20 {
        let next = gateway.consume(&topic, &format!("group={group}")).await;
        offsets.push(next["offset"].as_i64().unwrap());
    }
    offsets.sort_unstable();
    assert_eq!(offsets, (1..20).collect::<Vec<i64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_have_their_own_answers() {
    let topic = new_topic("limits", 1);
    let narrow = start(
        Changes {
            dispatch: DispatchConfig {
                queued_requests: 1,
                long_polling: Duration::from_secs(10),
                ..Changes::default().dispatch
            },
            ..Changes::default()
        },
        None,
    );
    let group = topic_name("limits");
    let path = format!("/topics/{topic}/messages?group={group}");
    // Making the group takes none of their time.
    fill(&topic, 1);
    narrow.consume(&topic, &format!("group={group}")).await;
    let (a, b, c) = tokio::join!(narrow.get(&path), narrow.get(&path), narrow.get(&path));
    let mut statuses = [a.status, b.status, c.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [408, 408, 429]);
    let refused = [a, b, c].into_iter().find(|answer| answer.status == 429);
    refused.unwrap().is_error(
        429,
        "Too many requests. Consider increasing `consumer.channel_buffer_size` \
         (https://github.com/mailgun/kafka-pixy/blob/master/default.yaml#L43)",
    );
    let disabled = start(
        Changes {
            is_consuming_disabled: true,
            ..Changes::default()
        },
        None,
    );
    let text = "service is disabled by configuration";
    disabled.get(&path).await.is_error(503, text);
}
