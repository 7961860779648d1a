//! `XREADGROUP GROUP <group> <consumer> [COUNT n] [BLOCK ms] [NOACK] STREAMS
//! topics:<topic> [topics:… …] <id> [<id> …]`: consume entries, or list those
//! that wait for their acknowledgement (contract, 13.3).

use super::entry::{self, EntryId};
use super::read_request::{Block, Request, Wanted};
use super::{Arguments, Context};
use crate::codec::{Protocol, Reply};
use crate::registry::order;
use crate::server::Shared;
use crate::session::Session;
use crate::statistics::Statistics;
use crate::streams::StreamConsumer;
use barnabas_engine::{
    AckMode, CONSUMING_DISABLED, Consume, ConsumeError, Delivered, Deliveries, Held, Holder, Proxy,
};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of a reply; a single entry may be larger.
const REPLY_BYTES: usize = 16 << 20;
/// How often a consumer that holds too much is looked at.
const FULL_PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn run(context: &mut Context<'_>, arguments: &Arguments<'_>) -> io::Result<()> {
    let since = Instant::now();
    let request = match Request::parse(arguments) {
        Ok(request) => request,
        Err(text) => {
            context.reply.error(&text);
            return Ok(());
        }
    };
    let shared = Arc::clone(&context.session.shared);
    let answer = match Reader::new(context.session, &shared, &request) {
        Ok(reader) if request.wants_history() => reader.history(&request).await,
        Ok(mut reader) => reader.read(context, &request, since).await?,
        Err(text) => Answer::Error(text),
    };
    answer.write(context, &request);
    Ok(())
}

/// What comes of a request.
enum Answer {
    Error(String),
    Nothing,
    /// By index of the stream.
    Entries(Vec<(usize, Entries)>),
}

enum Entries {
    /// They belong to the consumer once they have been written.
    New(Deliveries),
    /// They do already.
    Old(Vec<Delivered>),
}

impl Entries {
    fn messages(&self) -> &[Delivered] {
        match self {
            Self::New(deliveries) => deliveries.messages(),
            Self::Old(messages) => messages,
        }
    }

    fn truncate(&mut self, count: usize) {
        match self {
            Self::New(deliveries) => deliveries.truncate(count),
            Self::Old(messages) => messages.truncate(count),
        }
    }
}

impl Answer {
    /// An error of the engine.
    fn refused(error: &ConsumeError) -> Self {
        match error {
            ConsumeError::Timeout => Self::Nothing,
            ConsumeError::ShuttingDown => Self::Error("CONS Server shutdown".to_owned()),
            other => Self::Error(format!("CONS {other}")),
        }
    }

    fn write(self, context: &mut Context<'_>, request: &Request<'_>) {
        let statistics = &context.session.shared.statistics;
        let mut streams = match self {
            Self::Error(text) => {
                if text.starts_with("CONS ") {
                    Statistics::add(&statistics.consumer_errors, 1);
                }
                context.reply.error(&text);
                return;
            }
            Self::Nothing => {
                context.reply.null_array();
                return;
            }
            Self::Entries(streams) => streams,
        };
        fit(&mut streams);
        let reply = &mut *context.reply;
        match reply.protocol {
            Protocol::Resp2 => reply.array(streams.len()),
            Protocol::Resp3 => reply.map(streams.len()),
        }
        for (index, entries) in streams {
            if reply.protocol == Protocol::Resp2 {
                reply.array(2);
            }
            reply.bulk(request.keys.get(index).copied().unwrap_or_default());
            write_entries(reply, entries.messages());
            if let Entries::New(deliveries) = entries {
                let count = deliveries.messages().len();
                Statistics::add(&statistics.messages_consumed, count as u64);
                context.stream.hold(deliveries);
            }
        }
    }
}

fn write_entries(reply: &mut Reply, messages: &[Delivered]) {
    reply.array(messages.len());
    reply.bytes.reserve(messages.iter().map(entry::size).sum());
    for message in messages {
        entry::write(reply, message);
    }
}

/// Keeps what fits into a reply; the rest is left for the next one. Streams
/// whose entries are old stay, also without any.
fn fit(streams: &mut Vec<(usize, Entries)>) {
    let mut bytes = 0;
    let mut has_some = false;
    for (_, entries) in &mut *streams {
        let messages = entries.messages();
        let fitting = messages.iter().take_while(|message| {
            bytes += entry::size(message);
            let fits = bytes <= REPLY_BYTES || !has_some;
            has_some = true;
            fits
        });
        let count = fitting.count();
        entries.truncate(count);
    }
    streams.retain(|(_, entries)| match entries {
        Entries::New(deliveries) => !deliveries.messages().is_empty(),
        Entries::Old(_) => true,
    });
}

/// A consumer and what it reads with.
struct Reader<'a> {
    shared: &'a Arc<Shared>,
    proxy: &'a Arc<Proxy>,
    consumer: Arc<StreamConsumer>,
    connection: u64,
}

impl<'a> Reader<'a> {
    fn new(
        session: &Session,
        shared: &'a Arc<Shared>,
        request: &Request<'_>,
    ) -> Result<Self, String> {
        let streams = shared.streams.as_ref();
        let (streams, proxy) = streams
            .map(|streams| (streams, streams.proxy()))
            .ok_or_else(|| entry::NO_GROUPS.to_owned())?;
        if session.entry.orders() & (order::STOP_CONSUMING | order::CLOSE) != 0 {
            return Err("CONS Server shutdown".to_owned());
        }
        if proxy.options.is_consuming_disabled {
            return Err(format!("CONS {CONSUMING_DISABLED}"));
        }
        let connection = session.entry.id;
        let (consumer, _) = streams
            .consumer(
                &shared.registry,
                connection,
                request.group,
                request.consumer,
                &request.topics,
            )
            .map_err(|refusal| refusal.to_string())?;
        consumer.touch();
        Ok(Self {
            shared,
            proxy,
            consumer,
            connection,
        })
    }

    /// The consumer's entries that wait for their acknowledgement, and of the
    /// streams where new ones are wanted what is there. Nothing is waited for.
    async fn history(&self, request: &Request<'_>) -> Answer {
        let _waiting = self.consumer.waiting();
        let mut room = self.room(request);
        let mut streams = Vec::new();
        for (index, (topic, wanted)) in request.topics.iter().zip(&request.from).enumerate() {
            let entries = match *wanted {
                Wanted::After(last) => Entries::Old(self.held(request, topic, last)),
                Wanted::New if room.messages == 0 || room.bytes == 0 => continue,
                Wanted::New => match self.consume(request, topic, room, Duration::ZERO).await {
                    Ok(deliveries) => {
                        self.note(request, deliveries.messages(), &mut room);
                        Entries::New(deliveries)
                    }
                    Err(ConsumeError::Timeout) => continue,
                    Err(error) => return Answer::refused(&error),
                },
            };
            streams.push((index, entries));
        }
        Answer::Entries(streams)
    }

    /// What the consumer holds of a topic behind an id. What it has got
    /// together with other topics is its own, too.
    fn held(&self, request: &Request<'_>, topic: &str, last: EntryId) -> Vec<Delivered> {
        let owners = self
            .shared
            .streams
            .as_ref()
            .map(|streams| streams.named(request.group, request.consumer, topic));
        let dispatcher = &self.proxy.dispatcher;
        let held = owners
            .into_iter()
            .flatten()
            .flat_map(|owner| dispatcher.held(request.group, topic, owner.holder));
        let id = |message: &Delivered| EntryId {
            offset: message.offset,
            partition: message.partition,
        };
        let mut messages: Vec<Delivered> = held.filter(|held| id(held) > last).collect();
        messages.sort_unstable_by_key(id);
        messages.truncate(request.count);
        messages
    }

    /// How much the consumer may get.
    fn room(&self, request: &Request<'_>) -> Held {
        let wanted = request.count * request.topics.len();
        if request.acknowledges {
            Held {
                messages: wanted,
                bytes: REPLY_BYTES,
            }
        } else {
            self.consumer.room(self.proxy, wanted, REPLY_BYTES)
        }
    }

    /// Notes what the consumer has got.
    fn note(&self, request: &Request<'_>, messages: &[Delivered], room: &mut Held) {
        let bytes = messages.iter().map(|message| message.record.bytes()).sum();
        if !request.acknowledges {
            self.consumer.note(messages.len(), bytes);
        }
        room.messages = room.messages.saturating_sub(messages.len());
        room.bytes = room.bytes.saturating_sub(bytes);
    }

    /// New entries, waited for as long as the request says.
    async fn read(
        &mut self,
        context: &mut Context<'_>,
        request: &Request<'_>,
        since: Instant,
    ) -> io::Result<Answer> {
        let deadline = request.deadline(since);
        let may_wait = context.may_wait && request.block != Block::Never;
        // What is there is answered without a word to the socket, so that
        // pipelined requests are answered together.
        match self.take(request, Duration::ZERO).await {
            Answer::Nothing if may_wait => {}
            answer => return Ok(answer),
        }
        context.flush().await?;
        let entry = Arc::clone(&context.session.entry);
        entry.flags.is_blocked.store(true, Ordering::Relaxed);
        let wait = async {
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                match self.take(request, left).await {
                    // It may have been full, and have room now.
                    Answer::Nothing if Instant::now() < deadline => {}
                    answer => return answer,
                }
            }
        };
        let answer = tokio::select! {
            biased;
            answer = wait => answer,
            () = entry.ordered(order::KILL) => Answer::Nothing,
            () = entry.ordered(order::STOP_CONSUMING | order::CLOSE) => {
                Answer::Error("CONS Server shutdown".to_owned())
            }
            () = context.stream.hung_up() => {
                entry.give_order(order::KILL);
                Answer::Nothing
            }
        };
        entry.flags.is_blocked.store(false, Ordering::Relaxed);
        Ok(answer)
    }

    /// What comes of all streams within `wait`; returns early with nothing
    /// where the consumer has no room.
    async fn take(&mut self, request: &Request<'_>, wait: Duration) -> Answer {
        if self.consumer.has_ended() {
            // Somebody has ended it; who goes on reading begins anew.
            let again = self.shared.streams.as_ref().map(|streams| {
                streams.consumer(
                    &self.shared.registry,
                    self.connection,
                    request.group,
                    request.consumer,
                    &request.topics,
                )
            });
            match again {
                Some(Ok((consumer, _))) => self.consumer = consumer,
                Some(Err(refusal)) => return Answer::Error(refusal.to_string()),
                None => return Answer::Error(entry::NO_GROUPS.to_owned()),
            }
        }
        let _waiting = self.consumer.waiting();
        let mut room = self.room(request);
        if room.messages == 0 || room.bytes == 0 {
            if !wait.is_zero() {
                tokio::time::sleep(wait.min(FULL_PAUSE)).await;
            }
            return Answer::Nothing;
        }
        let answer = match request.topics.as_slice() {
            [topic] => match self.consume(request, topic, room, wait).await {
                Ok(deliveries) => Answer::Entries(vec![(0, Entries::New(deliveries))]),
                Err(error) => Answer::refused(&error),
            },
            _ if wait.is_zero() => self.take_ready(request, room).await,
            _ => self.take_first(request, room, wait).await,
        };
        if let Answer::Entries(streams) = &answer {
            if self.consumer.has_ended() {
                // Dropped, they are delivered again at once.
                return Answer::Nothing;
            }
            for (_, entries) in streams {
                self.note(request, entries.messages(), &mut room);
            }
        }
        answer
    }

    async fn consume(
        &self,
        request: &Request<'_>,
        topic: &str,
        room: Held,
        wait: Duration,
    ) -> Result<Deliveries, ConsumeError> {
        let (mode, holder) = if request.acknowledges {
            (AckMode::Auto, Holder::NOBODY)
        } else {
            (AckMode::Explicit, self.consumer.holder)
        };
        let consume = Consume {
            group: request.group,
            topic,
            mode,
            max: request.count.min(room.messages),
            max_bytes: room.bytes,
            wait: Some(wait),
            holder,
        };
        self.proxy.dispatcher.consume(&consume).await
    }

    /// What all streams have now.
    async fn take_ready(&self, request: &Request<'_>, mut room: Held) -> Answer {
        let mut streams = Vec::new();
        for (index, topic) in request.topics.iter().enumerate() {
            if room.messages == 0 || room.bytes == 0 {
                break;
            }
            match self.consume(request, topic, room, Duration::ZERO).await {
                Ok(deliveries) => {
                    let messages = deliveries.messages();
                    let bytes: usize = messages.iter().map(|one| one.record.bytes()).sum();
                    room.messages = room.messages.saturating_sub(messages.len());
                    room.bytes = room.bytes.saturating_sub(bytes);
                    streams.push((index, Entries::New(deliveries)));
                }
                Err(ConsumeError::Timeout) => {}
                Err(error) => return Answer::refused(&error),
            }
        }
        if streams.is_empty() {
            return Answer::Nothing;
        }
        Answer::Entries(streams)
    }

    /// What comes first of any of the streams, and what the others have then.
    async fn take_first(&self, request: &Request<'_>, room: Held, wait: Duration) -> Answer {
        // Each may get as much as it wants until one has something.
        let share = Held {
            messages: (room.messages / request.topics.len()).max(1),
            bytes: (room.bytes / request.topics.len()).max(1),
        };
        let topics = request.topics.iter();
        let mut waits: Vec<_> = topics
            .map(|topic| Some(Box::pin(self.consume(request, topic, share, wait))))
            .collect();
        poll_fn(|context| {
            let mut streams = Vec::new();
            let mut is_waiting = false;
            for (index, place) in waits.iter_mut().enumerate() {
                let Some(future) = place else {
                    continue;
                };
                match Pin::as_mut(future).poll(context) {
                    Poll::Pending => is_waiting = true,
                    Poll::Ready(outcome) => {
                        *place = None;
                        match outcome {
                            Ok(deliveries) => streams.push((index, Entries::New(deliveries))),
                            Err(ConsumeError::Timeout) => {}
                            Err(error) => return Poll::Ready(Answer::refused(&error)),
                        }
                    }
                }
            }
            if !streams.is_empty() {
                return Poll::Ready(Answer::Entries(streams));
            }
            if is_waiting {
                return Poll::Pending;
            }
            Poll::Ready(Answer::Nothing)
        })
        .await
    }
}
