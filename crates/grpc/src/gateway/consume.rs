//! Consume: messages down, acknowledgements up.
//!
//! The stream is one holder of the group. What it holds is counted here,
//! because it is asked for with every frame, and compared with the
//! dispatcher's account once a second: messages that were delivered again
//! elsewhere, or whose partition has moved, are not the stream's any longer.

use super::stream::{End, encode, frames, of, start};
use super::{Caller, Gateway, MAX_POSITIONS};
use crate::errors;
use crate::reply::{Body, Written};
use crate::request::Checked;
use crate::server::told;
use crate::v1::consume_request::Frame;
use crate::v1::{
    self, AckMode as Mode, ConsumeRequest, ConsumeResponse, ConsumeStart, Message, RefusedAck,
};
use barnabas_engine::{
    AckError, AckMode, Action, Consume, ConsumeError, Delivered, Deliveries, Holder, Proxies,
    Proxy, RequestTrace, Span,
};
use http::{Request, Response};
use hyper::body::Incoming;
use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tonic::{Status, Streaming};

/// The largest window.
const MAX_WINDOW: u32 = 10_000;

/// A frame is complete when it has so many bytes. Clients take no message
/// above 4 MiB unless they are told to.
const FRAME_BYTES: usize = 256 << 10;

/// How long a client may take to say what it wants.
const FIRST_FRAME: Duration = Duration::from_secs(30);

/// How often the account is compared, and the group told that the stream
/// still wants the topic.
const TICK: Duration = Duration::from_secs(1);

/// Before a request is made again that was one too many.
const PAUSE: Duration = Duration::from_millis(100);

type Positions = Vec<(i32, i64)>;
type Asked = (
    Result<Deliveries, ConsumeError>,
    Option<OwnedSemaphorePermit>,
);
type Acked = (Positions, Vec<Result<bool, AckError>>);
type Running<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

pub(super) async fn consume(
    gateway: &Gateway,
    request: Request<Checked<Incoming>>,
    deadline: Option<Instant>,
    (trace, span): (RequestTrace, &mut Option<Span>),
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let caller = Caller::new(&gateway.access, &head.headers);
    match open(gateway, caller, frames(body), trace).await {
        Ok(opened) => {
            let stopping = gateway.stopping.clone();
            start(deadline, span.take(), |sender| opened.run(sender, stopping))
        }
        Err(status) => Body::of(status.into_http()),
    }
}

/// Reads the first frame.
async fn open(
    gateway: &Gateway,
    caller: Caller<'_>,
    mut requests: Streaming<ConsumeRequest>,
    trace: RequestTrace,
) -> Result<Consuming, Status> {
    let first = tokio::time::timeout(FIRST_FRAME, requests.message())
        .await
        .map_err(|_| Status::deadline_exceeded("no first frame in time"))??;
    let Some(ConsumeRequest {
        frame: Some(Frame::Start(wanted)),
    }) = first
    else {
        return Err(Status::invalid_argument("the first frame must be a start"));
    };
    let proxies = &gateway.proxies;
    let topic = Some(&*wanted.topic);
    let proxy = caller.proxy(proxies, &wanted.cluster, Action::Consume, topic)?;
    if wanted.group.is_empty() {
        return Err(errors::empty_group());
    }
    if wanted.topic.is_empty() {
        return Err(Status::invalid_argument("a topic is expected"));
    }
    let mode = match wanted.ack_mode() {
        Mode::Auto => AckMode::Auto,
        Mode::Explicit => AckMode::Explicit,
        Mode::Unspecified => return Err(Status::invalid_argument("an ack mode is expected")),
    };
    if !(1..=MAX_WINDOW).contains(&wanted.window) {
        let text = format!("bad window: {}, expected 1 to {MAX_WINDOW}", wanted.window);
        return Err(Status::invalid_argument(text));
    }
    if proxy.options.is_consuming_disabled {
        return Err(errors::consuming_disabled());
    }
    if proxies.is_stopping() {
        return Err(errors::shutting_down());
    }
    let window = wanted.window as usize;
    let holding = Holding {
        proxy: Arc::clone(proxy),
        wanted: Arc::new(wanted),
        holder: Holder::unique(),
    };
    Ok(Consuming {
        proxies: Arc::clone(proxies),
        holding,
        mode,
        window,
        held: HashSet::new(),
        room: Arc::new(Semaphore::new(window)),
        requests,
        ready: VecDeque::new(),
        refused: Vec::new(),
        trace,
        asked_at: Instant::now(),
        has_waited: false,
        is_ending: false,
    })
}

/// What the stream has is given back when it ends, whichever way it does.
struct Holding {
    proxy: Arc<Proxy>,
    wanted: Arc<ConsumeStart>,
    holder: Holder,
}

impl Drop for Holding {
    fn drop(&mut self) {
        let dispatcher = &self.proxy.dispatcher;
        dispatcher.give_back(&self.wanted.group, self.holder);
    }
}

/// A stream that runs.
struct Consuming {
    proxies: Arc<Proxies>,
    mode: AckMode,
    window: usize,
    /// Delivered and not acknowledged, where the client acknowledges.
    held: HashSet<(i32, i64)>,
    /// The window where it does not: what has not been written yet.
    room: Arc<Semaphore>,
    requests: Streaming<ConsumeRequest>,
    /// To be sent, two at most.
    ready: VecDeque<Written>,
    refused: Vec<RefusedAck>,
    trace: RequestTrace,
    /// When messages were asked for.
    asked_at: Instant,
    /// A request of this stream was queued once, so that it is not the one
    /// too many.
    has_waited: bool,
    /// No more messages are sent: the client has closed its side, or the
    /// process is about to end.
    is_ending: bool,
    /// Last, so that the frames above go back as not delivered before it.
    holding: Holding,
}

impl Consuming {
    async fn run(mut self, sender: mpsc::Sender<Written>, stop: watch::Receiver<bool>) -> End {
        let end = self.work(&sender, stop).await;
        // Before the client hears of the end, so that it finds them given
        // back.
        drop(self);
        end
    }

    async fn work(
        &mut self,
        sender: &mpsc::Sender<Written>,
        mut stop: watch::Receiver<bool>,
    ) -> End {
        let proxies = Arc::clone(&self.proxies);
        let stopping = proxies.stopping();
        tokio::pin!(stopping);
        let mut asking: Running<Asked> = None;
        let mut acking: Running<Acked> = None;
        let mut is_closed = false;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.ready.is_empty() && !self.refused.is_empty() {
                let refused = std::mem::take(&mut self.refused);
                self.ready.push_back(refusals(refused));
            }
            if self.is_ending {
                asking = None;
                if self.ready.is_empty() && acking.is_none() && is_closed {
                    return End {
                        status: Status::ok(""),
                        discards: self.mode == AckMode::Explicit,
                    };
                }
                if self.ready.is_empty() && acking.is_none() && self.held.is_empty() && !is_closed {
                    return End::of(errors::shutting_down());
                }
            } else if asking.is_none() && self.ready.is_empty() {
                asking = self.ask();
            }
            tokio::select! {
                permit = sender.reserve(), if !self.ready.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(frame) = self.ready.pop_front() {
                            permit.send(frame);
                        }
                    }
                    Err(_) => return gone(),
                },
                (asked, room) = of(&mut asking) => {
                    asking = None;
                    if let Err(status) = self.take(asked, room) {
                        return End::of(status);
                    }
                }
                (positions, results) = of(&mut acking) => {
                    acking = None;
                    self.book(&positions, results);
                }
                frame = self.requests.message(),
                    if acking.is_none() && self.refused.is_empty() && !is_closed =>
                {
                    match frame {
                        Ok(Some(ConsumeRequest { frame: Some(Frame::Acks(acks)) })) => {
                            if let Err(status) = check_count(acks.positions.len()) {
                                return End::of(status);
                            }
                            acking = Some(self.ack(acks));
                        }
                        Ok(Some(ConsumeRequest { frame: Some(Frame::Start(_)) })) => {
                            let text = "only the first frame can be a start";
                            return End::of(Status::invalid_argument(text));
                        }
                        // A kind of frame that is not known here.
                        Ok(Some(ConsumeRequest { frame: None })) => {}
                        Ok(None) => {
                            is_closed = true;
                            self.is_ending = true;
                            if self.mode == AckMode::Explicit {
                                self.ready.retain(|frame| !frame.has_messages());
                            }
                        }
                        Err(status) => return End::of(status),
                    }
                }
                _ = tick.tick() => self.compare(asking.is_none()).await,
                () = &mut stopping, if !self.is_ending => self.is_ending = true,
                () = told(&mut stop) => return End {
                    status: errors::shutting_down(),
                    discards: self.mode == AckMode::Explicit,
                },
                () = sender.closed() => return gone(),
            }
        }
    }

    /// Asks for as many messages as there is room for.
    fn ask(&mut self) -> Running<Asked> {
        let is_explicit = self.mode == AckMode::Explicit;
        let free = self.window.saturating_sub(self.held.len());
        if is_explicit && free == 0 {
            return None;
        }
        let (mode, holder) = (self.mode, self.holding.holder);
        let room = (!is_explicit).then(|| Arc::clone(&self.room));
        let proxy = Arc::clone(&self.holding.proxy);
        let wanted = Arc::clone(&self.holding.wanted);
        let pause = self.has_waited;
        self.asked_at = Instant::now();
        Some(Box::pin(async move {
            let (room, max) = match room {
                None => (None, free),
                Some(room) => all_of(room).await,
            };
            let request = Consume {
                group: &wanted.group,
                topic: &wanted.topic,
                mode,
                max,
                max_bytes: FRAME_BYTES,
                wait: None,
                holder,
            };
            let asked = proxy.dispatcher.consume(&request).await;
            if pause && matches!(asked, Err(ConsumeError::TooManyRequests)) {
                tokio::time::sleep(PAUSE).await;
            }
            (asked, room)
        }))
    }

    /// Makes a frame of what came.
    fn take(
        &mut self,
        asked: Result<Deliveries, ConsumeError>,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<(), Status> {
        let deliveries = match asked {
            Ok(deliveries) => deliveries,
            Err(ConsumeError::Timeout) => {
                self.has_waited = true;
                return Ok(());
            }
            Err(ConsumeError::TooManyRequests) if self.has_waited => return Ok(()),
            Err(ConsumeError::ShuttingDown) => {
                self.is_ending = true;
                return Ok(());
            }
            Err(error) => return Err(errors::of_consuming(&error)),
        };
        self.has_waited = true;
        let messages = deliveries.messages();
        let wanted = &self.holding.wanted;
        let asked_at = self.asked_at.into_std();
        self.trace
            .received(&wanted.group, &wanted.topic, asked_at, messages);
        if self.mode == AckMode::Explicit {
            let positions = messages
                .iter()
                .map(|message| (message.partition, message.offset));
            self.held.extend(positions);
        }
        // What was not needed of it is free again.
        let room = room.and_then(|mut room| room.split(messages.len()));
        let has_headers = self.holding.proxy.options.has_headers;
        let response = ConsumeResponse {
            messages: messages
                .iter()
                .map(|message| of_delivered(message, has_headers))
                .collect(),
            refused: Vec::new(),
        };
        let frame = Written::from(Some(deliveries), encode(&response)).holding(room);
        self.ready.push_back(frame);
        Ok(())
    }

    fn ack(&self, acks: v1::ConsumeAcks) -> Pin<Box<dyn Future<Output = Acked> + Send>> {
        let proxy = Arc::clone(&self.holding.proxy);
        let wanted = Arc::clone(&self.holding.wanted);
        Box::pin(async move {
            let positions = acks.positions.iter();
            let positions: Positions = positions
                .map(|position| (position.partition, position.offset))
                .collect();
            let results = proxy.ack(&wanted.group, &wanted.topic, &positions).await;
            (positions, results)
        })
    }

    /// Whatever became of an acknowledgement, the client has done with the
    /// message.
    fn book(&mut self, positions: &Positions, results: Vec<Result<bool, AckError>>) {
        for (&(partition, offset), result) in positions.iter().zip(results) {
            self.held.remove(&(partition, offset));
            if let Err(error) = result {
                self.refused.push(RefusedAck {
                    position: Some(v1::Position { partition, offset }),
                    error: Some(errors::v1::of_acknowledging(&error)),
                });
            }
        }
    }

    /// Compares the account with the dispatcher's. Where no request is
    /// waiting, as the window or the queue is full, the group must hear that
    /// the topic is still wanted: a request that does not wait, and whose
    /// message, if it gets one, goes back at once.
    async fn compare(&mut self, is_silent: bool) {
        let Holding {
            proxy,
            wanted,
            holder,
        } = &self.holding;
        if !self.held.is_empty() {
            let held = proxy.dispatcher.held(&wanted.group, &wanted.topic, *holder);
            self.held = held
                .iter()
                .map(|message| (message.partition, message.offset))
                .collect();
        }
        if is_silent && !self.is_ending {
            let request = Consume {
                wait: Some(Duration::ZERO),
                ..Consume::one(&wanted.group, &wanted.topic, AckMode::Explicit)
            };
            let _ = proxy.dispatcher.consume(&request).await;
        }
    }
}

/// Nobody is there any more to hear of it.
fn gone() -> End {
    End {
        status: Status::cancelled("the client has gone"),
        discards: true,
    }
}

/// All the room there is, at least one.
async fn all_of(room: Arc<Semaphore>) -> (Option<OwnedSemaphorePermit>, usize) {
    // It is never closed.
    let Ok(mut all) = Arc::clone(&room).acquire_owned().await else {
        return (None, 1);
    };
    let rest = u32::try_from(room.available_permits()).unwrap_or(u32::MAX);
    // Only this stream takes any.
    if let Ok(rest) = room.try_acquire_many_owned(rest) {
        all.merge(rest);
    }
    let count = all.num_permits();
    (Some(all), count)
}

fn refusals(refused: Vec<RefusedAck>) -> Written {
    let response = ConsumeResponse {
        messages: Vec::new(),
        refused,
    };
    Written::from(None, encode(&response))
}

fn check_count(positions: usize) -> Result<(), Status> {
    if positions > MAX_POSITIONS {
        return Err(super::too_many("positions", positions, MAX_POSITIONS));
    }
    Ok(())
}

fn of_delivered(delivered: &Delivered, has_headers: bool) -> Message {
    let record = &delivered.record;
    let headers = record.headers.iter().filter(|_| has_headers);
    Message {
        partition: delivered.partition,
        offset: delivered.offset,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: headers
            .map(|(name, value)| v1::Header {
                name: String::from_utf8_lossy(name).into_owned(),
                value: value.clone(),
            })
            .collect(),
        timestamp: record.timestamp,
    }
}
