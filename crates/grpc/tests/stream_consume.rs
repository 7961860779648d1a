//! Streams of consumers.

use crate::raw::{Raw, framed};
use crate::support::{
    Gateway, PATIENCE, Streams, assert_refused, committed, fill, new_topic, streams, text,
};
use barnabas_grpc::v1::consume_request::Frame;
use barnabas_grpc::v1::{
    AckMode, ConsumeAcks, ConsumeRequest, ConsumeResponse, ConsumeStart, ErrorCode, Message,
    Position,
};
use barnabas_testkit::{NewRecord, Stalls, shared, topic_name};
use std::future::pending;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// One stream.
struct Consumer {
    up: mpsc::Sender<ConsumeRequest>,
    down: Streaming<ConsumeResponse>,
}

fn start(group: &str, topic: &str, window: u32) -> ConsumeStart {
    ConsumeStart {
        group: group.to_owned(),
        topic: topic.to_owned(),
        ack_mode: AckMode::Explicit.into(),
        window,
        ..ConsumeStart::default()
    }
}

fn frame(frame: Frame) -> ConsumeRequest {
    ConsumeRequest { frame: Some(frame) }
}

impl Consumer {
    async fn open(client: &mut Streams, wanted: ConsumeStart) -> Result<Self, Status> {
        let (up, frames) = mpsc::channel(16);
        up.send(frame(Frame::Start(wanted))).await.unwrap();
        let down = client.consume(ReceiverStream::new(frames)).await?;
        Ok(Self {
            up,
            down: down.into_inner(),
        })
    }

    async fn ack(&self, offsets: &[i64]) {
        let position = |&offset| Position {
            partition: 0,
            offset,
        };
        let acks = ConsumeAcks {
            positions: offsets.iter().map(position).collect(),
        };
        self.up.send(frame(Frame::Acks(acks))).await.unwrap();
    }

    /// The next frame, which must come.
    async fn frame(&mut self) -> Result<Option<ConsumeResponse>, Status> {
        tokio::time::timeout(PATIENCE, self.down.message())
            .await
            .expect("no frame")
    }

    /// So many messages, however they are put into frames.
    async fn messages(&mut self, count: usize) -> Vec<Message> {
        let mut messages = Vec::new();
        while messages.len() < count {
            messages.extend(self.frame().await.unwrap().unwrap().messages);
        }
        assert_eq!(messages.len(), count);
        messages
    }

    async fn offsets(&mut self, count: usize) -> Vec<i64> {
        let messages = self.messages(count).await;
        messages.iter().map(|message| message.offset).collect()
    }

    /// Nothing comes for a while.
    async fn is_quiet(&mut self) -> bool {
        let pause = Duration::from_millis(500);
        tokio::time::timeout(pause, self.down.message())
            .await
            .is_err()
    }

    /// The end of the stream; frames before it are skipped.
    async fn end(&mut self) -> Status {
        loop {
            match self.frame().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

fn fill_numbers(topic: &str, count: usize) {
    let values = numbers(count);
    fill(
        topic,
        &values.iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_is_never_exceeded_and_acks_open_it() {
    let gateway = Gateway::start();
    let mut client = streams(&gateway).await;
    let (group, topic) = (topic_name("window"), new_topic("window", 1));
    fill_numbers(&topic, 30);
    let mut consumer = Consumer::open(&mut client, start(&group, &topic, 10))
        .await
        .unwrap();
    assert_eq!(consumer.offsets(10).await, (0..10).collect::<Vec<_>>());
    assert!(consumer.is_quiet().await, "more than the window");
    // Out of order, and one twice: two places, not three.
    consumer.ack(&[7, 3, 3]).await;
    assert_eq!(consumer.offsets(2).await, [10, 11]);
    assert!(consumer.is_quiet().await);
    consumer.ack(&[0, 1, 2, 4, 5, 6, 8, 9, 10, 11]).await;
    assert_eq!(consumer.offsets(10).await, (12..22).collect::<Vec<_>>());
    committed(&group, &topic, 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_a_message_arrives() {
    let gateway = Gateway::start();
    let mut client = streams(&gateway).await;
    let (group, topic) = (topic_name("all"), new_topic("all", 1));
    let record = NewRecord {
        partition: Some(0),
        key: Some(b""),
        value: None,
        headers: vec![("a", Some(b"\x00\xff")), ("a", None)],
        timestamp: Some(1_234_567),
    };
    shared().produce_all(&topic, [record]).unwrap();
    fill(&topic, &["plain"]);
    let mut consumer = Consumer::open(&mut client, start(&group, &topic, 10))
        .await
        .unwrap();
    let messages = consumer.messages(2).await;
    let (all, plain) = (&messages[0], &messages[1]);
    assert_eq!(all.key.as_deref(), Some(&b""[..]));
    assert_eq!(all.value, None);
    assert_eq!(all.timestamp, Some(1_234_567));
    let headers: Vec<_> = all
        .headers
        .iter()
        .map(|header| (&*header.name, header.value.as_deref()))
        .collect();
    assert_eq!(headers, [("a", Some(&b"\x00\xff"[..])), ("a", None)]);
    assert_eq!((&plain.key, plain.headers.len()), (&None, 0));
    assert_eq!(text(plain.value.as_deref().unwrap()), "plain");
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_acknowledges_what_has_been_written() {
    let gateway = Gateway::start();
    let mut client = streams(&gateway).await;
    let (group, topic) = (topic_name("auto"), new_topic("auto", 1));
    fill_numbers(&topic, 25);
    let wanted = ConsumeStart {
        ack_mode: AckMode::Auto.into(),
        ..start(&group, &topic, 10)
    };
    let mut consumer = Consumer::open(&mut client, wanted).await.unwrap();
    assert_eq!(consumer.offsets(25).await, (0..25).collect::<Vec<_>>());
    committed(&group, &topic, 25).await;
}

/// The other stream has the window of the first one within a second.
#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_releases_its_messages_at_once() {
    let gateway = Gateway::start();
    let mut client = streams(&gateway).await;
    let (group, topic) = (topic_name("broken"), new_topic("broken", 1));
    fill_numbers(&topic, 5);
    let mut raw = Raw::connect(gateway.address(), 65_535).await;
    let first = framed(&frame(Frame::Start(start(&group, &topic, 5))));
    let path = "/barnabas.v1.Gateway/Consume";
    let mut broken = raw.open(path, first).await;
    let data = tokio::time::timeout(PATIENCE, broken.body.data())
        .await
        .unwrap();
    data.unwrap().unwrap();
    let started = Instant::now();
    while gateway.dispatcher.pending(&group, &topic) < 5 {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut other = Consumer::open(&mut client, start(&group, &topic, 5))
        .await
        .unwrap();
    assert!(other.is_quiet().await);
    raw.cut().await;
    let (cut, stalls) = (Instant::now(), Stalls::watch());
    let mut offsets = other.offsets(5).await;
    // Not when the server has asked for a sign of life in vain.
    assert!(
        cut.elapsed() < Duration::from_secs(10) + stalls.total(),
        "{:?}",
        cut.elapsed()
    );
    offsets.sort_unstable();
    assert_eq!(offsets, [0, 1, 2, 3, 4]);
}

/// The stream of the slow reader stops, those of others go on.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_gets_no_more() {
    /// What the client has let in, as each end of a connection does at first.
    const WINDOW: usize = 65_535;
    const VALUE: usize = 10_000;
    // A frame ends with the message that brings it to 256 KiB. Four of them wait: the one that has
    // reached the end of the window, which h2 took while some was left; the next, which hyper has
    // taken from the body and keeps until there is some again; one in the queue behind the body;
    // and one that the stream's task cannot put there. It asks for no other one meanwhile.
    let full = (256_usize << 10).div_ceil(VALUE);
    // Frames before these four, smaller as nothing else had been fetched yet, are inside the window.
    let written = WINDOW / VALUE;
    // Once a second the task shows that the topic is wanted by a request for one message, which goes
    // back at once.
    let limit = written + 4 * full + 1;
    let gateway = Gateway::with(|options| {
        options.dispatch.acks.max_pending = 10_000;
    });
    let mut client = streams(&gateway).await;
    let (group, topic) = (topic_name("slow"), new_topic("slow", 1));
    let large = "x".repeat(VALUE);
    fill(&topic, &vec![&*large; 400]);
    let mut raw = Raw::connect(gateway.address(), WINDOW.try_into().unwrap()).await;
    let first = framed(&frame(Frame::Start(start(&group, &topic, 10_000))));
    let path = "/barnabas.v1.Gateway/Consume";
    let _slow = raw.open(path, first).await;
    let (mut before, mut since) = (0, Instant::now());
    while before == 0 || since.elapsed() < Duration::from_secs(2) {
        let pending = gateway.dispatcher.pending(&group, &topic);
        // One is taken and put back from time to time.
        if pending > before {
            (before, since) = (pending, Instant::now());
        }
        assert!(
            before <= limit,
            "{before} messages for one that does not read"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut other = Consumer::open(&mut client, start(&group, &topic, 100))
        .await
        .unwrap();
    assert_eq!(other.messages(100).await.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_acks_are_answered_and_the_stream_goes_on() {
    let gateway = Gateway::start();
    let mut client = streams(&gateway).await;
    let (group, topic) = (topic_name("refused"), new_topic("refused", 1));
    fill_numbers(&topic, 3);
    let mut consumer = Consumer::open(&mut client, start(&group, &topic, 2))
        .await
        .unwrap();
    assert_eq!(consumer.offsets(2).await, [0, 1]);
    let positions = [(0, 0), (0, 99), (5, 0), (0, -1)];
    let acks = ConsumeAcks {
        positions: positions
            .map(|(partition, offset)| Position { partition, offset })
            .to_vec(),
    };
    consumer.up.send(frame(Frame::Acks(acks))).await.unwrap();
    let (mut refused, mut messages) = (Vec::new(), Vec::new());
    while refused.len() < 3 || messages.is_empty() {
        let frame = consumer.frame().await.unwrap().unwrap();
        refused.extend(frame.refused);
        messages.extend(frame.messages);
    }
    assert_eq!(messages[0].offset, 2);
    let refused: Vec<_> = refused
        .iter()
        .map(|refused| {
            let (position, error) = (refused.position.unwrap(), refused.error.clone().unwrap());
            (
                position.partition,
                position.offset,
                error.code(),
                error.text,
            )
        })
        .collect();
    let expected = [
        (0, 99, ErrorCode::BadOffset, "bad offset: 99".to_owned()),
        (
            5,
            0,
            ErrorCode::NotOwned,
            format!("acks channel missing for {{{group} {topic} 5}}"),
        ),
        (0, -1, ErrorCode::BadOffset, "bad offset: -1".to_owned()),
    ];
    assert_eq!(refused, expected);
    committed(&group, &topic, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn first_frames_that_are_none() {
    let gateway = Gateway::start();
    let mut client = streams(&gateway).await;
    let good = start("g", "t", 10);
    let bad = [
        (
            ConsumeStart {
                cluster: "nowhere".to_owned(),
                ..good.clone()
            },
            "proxy `nowhere` does not exist",
        ),
        (
            start("", "t", 10),
            "one consumer group is expected, but 0 provided",
        ),
        (start("g", "", 10), "a topic is expected"),
        (start("g", "t", 0), "bad window: 0, expected 1 to 10000"),
        (
            start("g", "t", 10_001),
            "bad window: 10001, expected 1 to 10000",
        ),
        (
            ConsumeStart {
                ack_mode: 7,
                ..good.clone()
            },
            "an ack mode is expected",
        ),
    ];
    for (wanted, message) in bad {
        let refused = Consumer::open(&mut client, wanted).await.map(|_| ());
        assert_refused(refused, Code::InvalidArgument, message);
    }
    let acks = frame(Frame::Acks(ConsumeAcks::default()));
    for first in [vec![acks], vec![ConsumeRequest { frame: None }], vec![]] {
        let refused = client.consume(tokio_stream::iter(first)).await.map(|_| ());
        let text = "the first frame must be a start";
        assert_refused(refused, Code::InvalidArgument, text);
    }
    // Something that is no message, and one that is too long.
    let mut raw = Raw::connect(gateway.address(), 65_535).await;
    let path = "/barnabas.v1.Gateway/Consume";
    let reply = raw
        .open(path, b"\x00\x00\x00\x00\x03\xff\xff\xff".to_vec())
        .await;
    assert_eq!(reply.headers["grpc-status"], "13");
    let reply = raw.open(path, b"\x00\x7f\xff\xff\xff".to_vec()).await;
    assert_eq!(reply.headers["grpc-status"], "8");
}

#[tokio::test(flavor = "multi_thread")]
async fn later_frames_that_are_none() {
    let gateway = Gateway::start();
    let mut client = streams(&gateway).await;
    let topic = new_topic("later", 1);
    let many = ConsumeAcks {
        positions: vec![Position::default(); 20_001],
    };
    let oversize = ConsumeAcks {
        positions: vec![
            Position {
                partition: i32::MAX,
                offset: i64::MAX
            };
            60_000
        ],
    };
    for (later, code, message) in [
        (
            Frame::Start(start("g", &topic, 1)),
            Code::InvalidArgument,
            "only the first frame can be a start",
        ),
        (
            Frame::Acks(many),
            Code::InvalidArgument,
            "too many positions: 20001, at most 20000",
        ),
        (
            Frame::Acks(oversize),
            Code::ResourceExhausted,
            "grpc: received message larger than max",
        ),
    ] {
        let group = topic_name("later");
        let wanted = start(&group, &topic, 1);
        let mut consumer = Consumer::open(&mut client, wanted).await.unwrap();
        consumer.up.send(frame(later)).await.unwrap();
        let status = consumer.end().await;
        assert_eq!(status.code(), code);
        assert!(status.message().starts_with(message), "{status:?}");
    }
}

/// A stream without messages stays a member, and is there when one comes.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_stream_keeps_its_place() {
    let gateway = Gateway::with(|options| {
        options.dispatch.long_polling = Duration::from_millis(300);
        options.dispatch.subscription_timeout = Duration::from_secs(2);
    });
    let mut client = streams(&gateway).await;
    let (group, topic) = (topic_name("idle"), new_topic("idle", 1));
    fill_numbers(&topic, 2);
    let mut idle = Consumer::open(&mut client, start(&group, &topic, 2))
        .await
        .unwrap();
    assert_eq!(idle.offsets(2).await, [0, 1]);
    let member = || {
        let members = shared().group_members(&group).unwrap();
        members[0].id.clone()
    };
    let joined = member();
    // Full, so nothing is asked for; longer than the subscription lasts.
    tokio::time::sleep(Duration::from_secs(4)).await;
    idle.ack(&[0, 1]).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    fill(&topic, &["later"]);
    assert_eq!(idle.offsets(1).await, [2]);
    assert_eq!(member(), joined, "joined again");
    idle.ack(&[2]).await;
    committed(&group, &topic, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_drains_the_acks_and_ends_the_stream() {
    let gateway = Gateway::start();
    let mut client = streams(&gateway).await;
    let (group, topic) = (topic_name("close"), new_topic("close", 1));
    fill_numbers(&topic, 4);
    let mut consumer = Consumer::open(&mut client, start(&group, &topic, 3))
        .await
        .unwrap();
    assert_eq!(consumer.offsets(3).await, [0, 1, 2]);
    consumer.ack(&[0]).await;
    consumer.ack(&[1]).await;
    let Consumer { up, down } = consumer;
    drop(up);
    let mut closed = Consumer {
        up: mpsc::channel(1).0,
        down,
    };
    assert_eq!(closed.end().await.code(), Code::Ok);
    // The third, and the fourth, go to somebody else.
    let mut other = Consumer::open(&mut client, start(&group, &topic, 3))
        .await
        .unwrap();
    let mut offsets = other.offsets(2).await;
    offsets.sort_unstable();
    assert_eq!(offsets, [2, 3]);
    committed(&group, &topic, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_waits_for_the_acks() {
    let gateway = Gateway::start();
    let mut client = streams(&gateway).await;
    let (group, topic) = (topic_name("shutdown"), new_topic("shutdown", 1));
    fill_numbers(&topic, 5);
    let mut consumer = Consumer::open(&mut client, start(&group, &topic, 2))
        .await
        .unwrap();
    assert_eq!(consumer.offsets(2).await, [0, 1]);
    let wanted = start(&topic_name("idle"), &topic, 2);
    let mut idle = Consumer::open(&mut client, wanted).await.unwrap();
    assert_eq!(idle.offsets(2).await, [0, 1]);
    idle.ack(&[0, 1]).await;

    gateway.proxies.refuse_work();
    let dispatcher = gateway.dispatcher.clone();
    let stopping = tokio::spawn(async move { dispatcher.stop(pending()).await });
    // Nothing new though there is room.
    consumer.ack(&[0]).await;
    assert!(consumer.is_quiet().await);
    let refused = Consumer::open(&mut client, start(&group, &topic, 2)).await;
    let text = "service is shutting down";
    assert_refused(refused.map(|_| ()), Code::Unavailable, text);
    consumer.ack(&[1]).await;
    let status = consumer.end().await;
    assert_eq!((status.code(), status.message()), (Code::Unavailable, text));
    drop(idle);
    tokio::time::timeout(PATIENCE, stopping)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(shared().committed(&group, &topic).unwrap()[&0], 2);
    let (started, stalls) = (Instant::now(), Stalls::watch());
    gateway.server.stop().await;
    assert!(started.elapsed() < Duration::from_secs(5) + stalls.total());
}

/// Streams do not hold the server up when it stops without more ado.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_server_is_the_end_of_the_stream() {
    let gateway = Gateway::start();
    let mut client = streams(&gateway).await;
    let (group, topic) = (topic_name("end"), new_topic("end", 1));
    fill_numbers(&topic, 1);
    let mut consumer = Consumer::open(&mut client, start(&group, &topic, 2))
        .await
        .unwrap();
    assert_eq!(consumer.offsets(1).await, [0]);
    gateway.server.stop().await;
    assert_eq!(consumer.end().await.code(), Code::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_stream() {
    let gateway = Gateway::start();
    let mut client = streams(&gateway).await;
    let (group, topic) = (topic_name("deadline"), new_topic("deadline", 1));
    let first = frame(Frame::Start(start(&group, &topic, 2)));
    let (up, frames) = mpsc::channel(1);
    up.send(first).await.unwrap();
    let mut request = tonic::Request::new(ReceiverStream::new(frames));
    request
        .metadata_mut()
        .insert("grpc-timeout", "400m".parse().unwrap());
    // Even before the server has answered, if either is slow.
    let ended = async {
        let mut down = client.consume(request).await?.into_inner();
        down.message().await
    };
    let ended = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::DeadlineExceeded);
}
