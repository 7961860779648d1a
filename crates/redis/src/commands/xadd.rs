//! `XADD topics:<topic> [NOMKSTREAM] [MAXLEN|MINID [=|~] threshold [LIMIT
//! count]] * field value [field value …]`: produce and say where Kafka has put
//! it (contract, 13.3).
//!
//! A connection does not wait for Kafka before it reads its next XADD: those
//! under way are kept in order, and answered in order as Kafka does.

use super::entry::{self, EntryId, HEADER};
use super::{Arguments, Context};
use crate::codec::Reply;
use crate::registry::order;
use crate::session::Session;
use crate::stream::Stream;
use barnabas_engine::{Error, ErrorCode, KafkaError, Record, Submitted, Topic};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;
use tokio::time::Instant;

/// Entries of a connection that may be on their way; then it is not read.
const MOST_UNDER_WAY: usize = 4_096;
/// The bytes that they may have.
const MOST_BYTES: usize = 16 << 20;
/// How long a full queue is waited for.
const ROOM_WAIT: Duration = Duration::from_millis(500);
/// Pause before it is tried again.
const ROOM_PAUSE: Duration = Duration::from_millis(5);
/// Replies are written at the latest when this many bytes have gathered.
const WRITE_BYTES: usize = 64 << 10;

/// Redis's words for an id that is not beyond all others; ids are Kafka's to
/// give.
const ID_TOO_SMALL: &str =
    "ERR The ID specified in XADD is equal or smaller than the target stream top item";
const NO_INTEGER: &str = "ERR value is not an integer or out of range";

/// The XADDs of a connection that are not answered yet, in order.
#[derive(Default)]
pub(crate) struct Adds {
    under_way: VecDeque<Added>,
    bytes: usize,
}

struct Added {
    outcome: Outcome,
    bytes: usize,
}

/// What there is to be answered.
enum Outcome {
    /// Kafka has not said anything yet.
    Waits(Submitted),
    /// It was refused.
    Refused(String),
    /// There is no such topic, and none is to be made.
    Nothing,
}

impl Adds {
    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Whether one more may be begun.
    pub(crate) fn has_room(&self) -> bool {
        self.under_way.len() < MOST_UNDER_WAY && self.bytes < MOST_BYTES
    }

    fn push(&mut self, outcome: Outcome, bytes: usize) {
        self.bytes += bytes;
        self.under_way.push_back(Added { outcome, bytes });
    }

    /// What was refused has its place among the answers. Its text may hold
    /// what the client has sent.
    fn refuse(&mut self, text: String) {
        let bytes = text.len();
        self.push(Outcome::Refused(text), bytes);
    }

    /// Answers those that Kafka has answered, in order; at least one. Ready at
    /// once when there is none. Cancelling takes no answer.
    pub(crate) async fn progress(&mut self, reply: &mut Reply) {
        poll_fn(|context| self.poll_progress(context, reply)).await;
    }

    fn poll_progress(&mut self, context: &mut TaskContext<'_>, reply: &mut Reply) -> Poll<()> {
        let mut has_answered = self.under_way.is_empty();
        while let Some(first) = self.under_way.front_mut() {
            match &mut first.outcome {
                Outcome::Refused(text) => reply.error(text),
                Outcome::Nothing => reply.null(),
                Outcome::Waits(submitted) => match Pin::new(submitted).poll(context) {
                    Poll::Ready(Ok(delivery)) => {
                        reply.entry_id(delivery.offset, delivery.partition);
                    }
                    Poll::Ready(Err(error)) => reply.error(&format!("PROD {error}")),
                    Poll::Pending => break,
                },
            }
            self.bytes -= first.bytes;
            self.under_way.pop_front();
            has_answered = true;
            if reply.bytes.len() >= WRITE_BYTES {
                break;
            }
        }
        if has_answered {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// Answers all that are under way, before anything else is answered. They
/// are given up when the connection is to end at once.
pub(crate) async fn settle(
    session: &mut Session,
    reply: &mut Reply,
    stream: &mut Stream,
) -> io::Result<()> {
    wait_while(session, reply, stream, |adds| !adds.is_empty()).await
}

/// Answers those under way until `goes_on` no longer holds.
async fn wait_while(
    session: &mut Session,
    reply: &mut Reply,
    stream: &mut Stream,
    goes_on: impl Fn(&Adds) -> bool,
) -> io::Result<()> {
    while goes_on(&session.adds) {
        // Nearly always something has been answered meanwhile.
        let mut now = TaskContext::from_waker(Waker::noop());
        if session.adds.poll_progress(&mut now, reply).is_pending() {
            stream.write(&mut reply.bytes).await?;
            let entry = Arc::clone(&session.entry);
            tokio::select! {
                biased;
                () = session.adds.progress(reply) => {}
                () = entry.ordered(order::KILL) => return Ok(()),
                () = stream.hung_up() => {
                    entry.give_order(order::KILL);
                    return Ok(());
                }
            }
        }
        if reply.bytes.len() >= WRITE_BYTES {
            stream.write(&mut reply.bytes).await?;
        }
    }
    Ok(())
}

/// Hands the entry over; the answer comes later, from [`Adds`].
pub(super) async fn run(context: &mut Context<'_>, arguments: &Arguments<'_>) -> io::Result<()> {
    let Context {
        session,
        reply,
        stream,
        ..
    } = context;
    wait_while(session, reply, stream, |adds| !adds.has_room()).await?;
    let entry = match Entry::parse(arguments) {
        Ok(entry) => entry,
        Err(text) => {
            session.adds.refuse(text);
            return Ok(());
        }
    };
    let topic = match find_topic(session, reply, stream, &entry).await? {
        Found::Topic(topic) => topic,
        Found::Refused(error) => {
            session.adds.refuse(format!("PROD {error}"));
            return Ok(());
        }
        Found::Nothing => {
            session.adds.push(Outcome::Nothing, 0);
            return Ok(());
        }
    };
    let deadline = Instant::now() + ROOM_WAIT;
    loop {
        let producer = &session.shared.producer;
        let submitted = producer.submit_to(
            &topic,
            entry.partition,
            entry.record,
            &entry.headers,
            entry.timestamp,
        );
        match submitted {
            Ok(submitted) => {
                session.adds.push(Outcome::Waits(submitted), entry.bytes());
                return Ok(());
            }
            // All connections share the queue.
            Err(Error::Kafka { error })
                if error.is(ErrorCode::QueueFull) && Instant::now() < deadline =>
            {
                tokio::time::sleep(ROOM_PAUSE).await;
            }
            Err(error) => {
                session.adds.refuse(format!("PROD {error}"));
                return Ok(());
            }
        }
    }
}

enum Found {
    Topic(Arc<Topic>),
    Refused(KafkaError),
    /// There is none, and none is to be made.
    Nothing,
}

/// The entry's topic, once it is known to exist.
async fn find_topic(
    session: &mut Session,
    reply: &mut Reply,
    stream: &mut Stream,
    entry: &Entry<'_>,
) -> io::Result<Found> {
    let topic = match &session.topic {
        Some(topic) if topic.name() == entry.topic => Arc::clone(topic),
        _ => match session.shared.producer.topic(entry.topic.as_bytes()) {
            Ok(topic) => topic,
            Err(error) => return Ok(Found::Refused(error)),
        },
    };
    if !topic.is_known() {
        // What was said of it before may be out of date.
        settle(session, reply, stream).await?;
        stream.write(&mut reply.bytes).await?;
        let shared = Arc::clone(&session.shared);
        let connection = Arc::clone(&session.entry);
        let search = async {
            if entry.makes_no_topic {
                let names = shared.producer.topic_names().await?;
                if names
                    .binary_search_by(|name| name.as_str().cmp(entry.topic))
                    .is_err()
                {
                    return Ok(false);
                }
            }
            shared.producer.look_up(&topic).await.map(|()| true)
        };
        let found = tokio::select! {
            found = search => found,
            () = connection.ordered(order::KILL) => {
                Err(KafkaError::from_code(ErrorCode::BrokerDestroy))
            }
            () = stream.hung_up() => {
                connection.give_order(order::KILL);
                Err(KafkaError::from_code(ErrorCode::BrokerDestroy))
            }
        };
        match found {
            Ok(true) => {}
            Ok(false) => return Ok(Found::Nothing),
            Err(error) => return Ok(Found::Refused(error)),
        }
    }
    session.topic = Some(Arc::clone(&topic));
    Ok(Found::Topic(topic))
}

/// What an XADD says.
#[derive(Debug, PartialEq, Eq)]
struct Entry<'a> {
    topic: &'a str,
    record: Record<'a>,
    headers: Vec<(&'a str, Option<&'a [u8]>)>,
    timestamp: Option<i64>,
    partition: Option<i32>,
    makes_no_topic: bool,
}

impl<'a> Entry<'a> {
    fn parse(arguments: &Arguments<'a>) -> Result<Self, String> {
        let topic = entry::topic_of(arguments.get(1))?;
        let (id, makes_no_topic) = options(arguments)?;
        let fields = arguments.count().saturating_sub(id + 1);
        if fields == 0 || fields % 2 == 1 {
            return Err(super::table::wrong_count("xadd"));
        }
        match arguments.get(id) {
            b"*" => {}
            explicit => {
                // `<ms>-*` leaves the second half to Redis.
                let whole = explicit.strip_suffix(b"-*").unwrap_or(explicit);
                let text = match EntryId::parse(whole) {
                    Some(_) => ID_TOO_SMALL,
                    None => entry::BAD_ID,
                };
                return Err(text.to_owned());
            }
        }
        let mut parsed = Self {
            topic,
            record: Record::default(),
            headers: Vec::new(),
            timestamp: None,
            partition: None,
            makes_no_topic,
        };
        let mut rest = arguments.from(id + 1);
        while let (Some(name), Some(value)) = (rest.next(), rest.next()) {
            parsed.set(name, value)?;
        }
        Ok(parsed)
    }

    fn set(&mut self, name: &'a [u8], value: &'a [u8]) -> Result<(), String> {
        let is_new = match name {
            b"value" => self.record.value.replace(value).is_none(),
            b"key" => self.record.key.replace(value).is_none(),
            b"timestamp" => self.timestamp.replace(number(value)?).is_none(),
            b"partition" => self.partition.replace(number(value)?).is_none(),
            other => {
                let name = other.strip_prefix(HEADER).unwrap_or(other);
                let name = std::str::from_utf8(name)
                    .map_err(|_| "ERR The name of a header must be UTF-8".to_owned())?;
                if name.contains('\0') {
                    return Err("ERR The name of a header cannot hold a NUL".to_owned());
                }
                self.headers.push((name, Some(value)));
                true
            }
        };
        if is_new {
            Ok(())
        } else {
            let name = String::from_utf8_lossy(name);
            Err(format!("ERR Field '{name}' is given twice"))
        }
    }

    fn bytes(&self) -> usize {
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        let headers = self.headers.iter();
        length(self.record.key)
            + length(self.record.value)
            + headers
                .map(|(name, value)| name.len() + length(*value))
                .sum::<usize>()
    }
}

/// A number that is not negative.
fn number<T: TryFrom<u64>>(text: &[u8]) -> Result<T, String> {
    std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<u64>().ok())
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| NO_INTEGER.to_owned())
}

/// Where the id is, and whether NOMKSTREAM was given. Trimming is Kafka's, by
/// retention: its options are read as Redis reads them and have no effect.
fn options(arguments: &Arguments<'_>) -> Result<(usize, bool), String> {
    let mut makes_no_topic = false;
    let (mut trims, mut is_approximate) = (false, false);
    let mut at = 2;
    while at < arguments.count() {
        let has_more = at + 1 < arguments.count();
        if arguments.is(at, "nomkstream") {
            makes_no_topic = true;
        } else if ["keepref", "delref", "acked"]
            .iter()
            .any(|word| arguments.is(at, word))
        {
        } else if (arguments.is(at, "maxlen") || arguments.is(at, "minid")) && has_more {
            if std::mem::replace(&mut trims, true) {
                return Err(
                    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible"
                        .to_owned(),
                );
            }
            let is_length = arguments.is(at, "maxlen");
            at += 1;
            if at + 1 < arguments.count() && matches!(arguments.get(at), b"~" | b"=") {
                is_approximate = arguments.get(at) == b"~";
                at += 1;
            }
            let threshold = arguments.get(at);
            if is_length {
                let length = arguments.text(at).parse::<i64>();
                match length.map_err(|_| NO_INTEGER.to_owned())? {
                    0.. => {}
                    _ => return Err("ERR The MAXLEN argument must be >= 0.".to_owned()),
                }
            } else if EntryId::parse(threshold).is_none() {
                return Err(entry::BAD_ID.to_owned());
            }
        } else if arguments.is(at, "limit") && has_more {
            at += 1;
            let limit = arguments.text(at).parse::<i64>();
            if limit.map_err(|_| NO_INTEGER.to_owned())? < 0 {
                return Err("ERR The LIMIT argument must be >= 0.".to_owned());
            }
            if !is_approximate {
                return Err(
                    "ERR syntax error, LIMIT cannot be used without the special ~ option"
                        .to_owned(),
                );
            }
        } else {
            break;
        }
        at += 1;
    }
    Ok((at, makes_no_topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(text: &str, check: impl FnOnce(Result<Entry<'_>, String>) -> T) -> T {
        let words: Vec<Vec<u8>> = text
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        check(Entry::parse(&Arguments::owned(&words)))
    }

    #[test]
    fn fields_are_the_parts_of_a_record() {
        with(
            "XADD topics:t NoMkStream MAXLEN ~ 10 LIMIT 5 * a 1 key k header:value 2 a 3 value v \
             partition 7 timestamp 12",
            |entry| {
                let some = |text: &'static str| Some(text.as_bytes());
                assert_eq!(
                    entry,
                    Ok(Entry {
                        topic: "t",
                        record: Record {
                            key: some("k"),
                            value: some("v"),
                        },
                        headers: vec![("a", some("1")), ("value", some("2")), ("a", some("3"))],
                        timestamp: Some(12),
                        partition: Some(7),
                        makes_no_topic: true,
                    })
                );
                assert_eq!(entry.map(|entry| entry.bytes()), Ok(12));
            },
        );
        // Without the field it is a tombstone.
        with("xadd topics:t * key k", |entry| {
            assert_eq!(entry.map(|entry| entry.record.value), Ok(None));
        });
    }

    #[test]
    fn trimming_is_read_as_redis_reads_it() {
        for fine in [
            "MAXLEN 5",
            "MAXLEN = 5",
            "MINID 0-1",
            "MINID ~ 5 LIMIT 0",
            "KEEPREF",
        ] {
            with(&format!("XADD topics:t {fine} * a b"), |entry| {
                assert!(entry.is_ok(), "{fine}: {entry:?}");
            });
        }
    }

    #[test]
    fn what_is_wrong_is_said_as_redis_says_it() {
        for (text, error) in [
            (
                "XADD t * a b",
                "ERR Expected key to be 'topics:<topic>', got t",
            ),
            ("XADD topics:t 1-1 a b", ID_TOO_SMALL),
            ("XADD topics:t 1-* a b", ID_TOO_SMALL),
            ("XADD topics:t soon a b", entry::BAD_ID),
            (
                "XADD topics:t * a",
                "ERR wrong number of arguments for 'xadd' command",
            ),
            (
                "XADD topics:t * a b c",
                "ERR wrong number of arguments for 'xadd' command",
            ),
            (
                "XADD topics:t MAXLEN 5 *",
                "ERR wrong number of arguments for 'xadd' command",
            ),
            ("XADD topics:t MAXLEN x * a b", NO_INTEGER),
            (
                "XADD topics:t MAXLEN -1 * a b",
                "ERR The MAXLEN argument must be >= 0.",
            ),
            ("XADD topics:t MINID x * a b", entry::BAD_ID),
            (
                "XADD topics:t MAXLEN 5 LIMIT 5 * a b",
                "ERR syntax error, LIMIT cannot be used without the special ~ option",
            ),
            (
                "XADD topics:t MAXLEN 5 MINID 5 * a b",
                "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
            ),
            ("XADD topics:t * timestamp soon", NO_INTEGER),
            ("XADD topics:t * timestamp -1", NO_INTEGER),
            ("XADD topics:t * partition 2147483648", NO_INTEGER),
            (
                "XADD topics:t * value a value b",
                "ERR Field 'value' is given twice",
            ),
        ] {
            with(text, |entry| {
                assert_eq!(entry, Err(error.to_owned()), "{text}");
            });
        }
    }
}
