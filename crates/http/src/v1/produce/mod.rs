//! `POST /v1/topics/{topic}/records`: producing.
//!
//! - `incoming`: a record as the client writes it;
//! - `lines`: a body of any length, a record a line;
//! - `once`: a request that may be repeated;
//! - `outcomes`: what becomes of many.

mod incoming;
mod lines;
mod once;
mod outcomes;

use super::idempotency::{self, Answer};
use super::{Code, Problem, unreadable};
use crate::body::{Pieces, ReadError};
use crate::inflate::Inflate;
use crate::json::{Elements, MOST_ELEMENTS};
use crate::reply::{self, Reply};
use crate::service::Call;
use barnabas_engine::{
    Appended, DeliverySink, Destination, Durability, Error, Proxies, Proxy, Record, Sending,
};
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use incoming::{About, Incoming, TOMBSTONE, invalid};
use lines::Lines;
use outcomes::Outcomes;
use serde_json::value::RawValue;
use std::sync::Arc;

const NDJSON: &str = "application/x-ndjson";
/// The largest body of an array of records.
const LARGEST_ARRAY: usize = 16 << 20;
/// Records of one request that are on their way to the disk.
const MOST_UNSYNCED: usize = 4_096;
/// What an object may have around its value: base64, escapes, its headers.
const AROUND: usize = 3;

/// Where records go, and how.
struct Target<'a> {
    proxies: &'a Proxies,
    proxy: &'a Proxy,
    destination: Arc<Destination>,
    topic: &'a str,
    /// When they are answered.
    durability: Durability,
    /// Whether they wait for room.
    waits: bool,
    /// What carries the request's trace on.
    sending: Sending,
}

/// What a header of a record is handed over as.
type HeaderParts<'a> = Vec<(&'a str, Option<&'a [u8]>)>;

/// How a body is to be read.
#[derive(Clone, Copy)]
struct Form {
    is_lines: bool,
    are_objects: bool,
    is_tombstone: bool,
    /// The largest message.
    largest: usize,
}

impl Form {
    fn of(call: &Call<'_>) -> Self {
        let headers = &call.head.headers;
        let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
        let kind = kind.and_then(|kind| kind.split(|byte| *byte == b';').next());
        Self {
            is_lines: kind
                .is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(NDJSON.as_bytes())),
            are_objects: call.is("as", "records"),
            is_tombstone: headers.get(TOMBSTONE).is_some_and(|value| value == "true"),
            largest: call.proxy.options.max_message_bytes,
        }
    }

    fn longest_line(self) -> usize {
        match self.are_objects {
            true => self.largest * AROUND,
            false => self.largest,
        }
    }

    /// The largest body, of those that are read before anything is done.
    fn largest_body(self) -> usize {
        match self.are_objects || self.is_lines {
            true => LARGEST_ARRAY.max(self.largest * AROUND),
            false => self.largest,
        }
    }
}

/// What a request has come to.
struct Done {
    answer: Answer,
    /// Something of it is, or may be, in Kafka or on its way there.
    has_effect: bool,
}

impl Done {
    fn new(status: StatusCode, value: &serde_json::Value, has_effect: bool) -> Self {
        Self {
            answer: Answer::Json(status, value.to_string().into()),
            has_effect,
        }
    }
}

/// Nothing was done.
impl From<Problem> for Done {
    fn from(problem: Problem) -> Self {
        Self {
            answer: Answer::Problem(problem),
            has_effect: false,
        }
    }
}

pub(super) async fn run(mut call: Call<'_>) -> Result<Reply, Problem> {
    call.refuse_work()?;
    let head = call.head;
    let inflate = Inflate::of(&head.headers).map_err(|encoding| {
        let text = format!("{encoding} is not read, but gzip and zstd");
        Problem::new(Code::UnsupportedMediaType, text)
    })?;
    let about = About::of(&head.headers, &call.parameters)?;
    let durability = durability(&call)?;
    let form = Form::of(&call);
    if let Some(key) = idempotency::key_of(&head.headers)? {
        return once::run(&mut call, key, (form, durability), inflate).await;
    }
    let target = Target {
        proxies: &call.shared.proxies,
        proxy: call.proxy,
        destination: call.proxy.producer.destination(call.topic)?,
        topic: call.topic,
        durability,
        waits: waits(form, durability),
        sending: call.trace.sending(call.topic),
    };
    let done = if form.is_lines {
        let pieces = Pieces::new(&mut call.body, inflate);
        let mut lines = Lines::new(pieces, form.longest_line());
        target.produce_lines(&mut lines, form, &about).await
    } else {
        let limit = form.largest_body();
        let body = call.body.read_inflated(inflate, limit).await;
        let body = body.map_err(|error| unreadable(error, limit))?;
        target.produce_body(&body, form, &about).await
    };
    reply_of(done.answer)
}

/// Whether records wait for room in the producer's queue: lines, whose client
/// feels it, and those that wait for Kafka anyway.
fn waits(form: Form, durability: Durability) -> bool {
    form.is_lines || durability != Durability::Memory
}

fn reply_of(answer: Answer) -> Result<Reply, Problem> {
    match answer {
        Answer::Json(status, body) => Ok(reply::with_body(status, reply::JSON, body)),
        Answer::Problem(problem) => Err(problem),
    }
}

/// What the request says. If it does not: the journal where the topic is
/// configured so, else Kafka, whose answer says the place.
fn durability(call: &Call<'_>) -> Result<Durability, Problem> {
    let cluster = &call.proxy.cluster;
    if call.is("durability", "journal") && cluster.journal().is_none() {
        let text = "there is no journal; it is configured by journal.dir";
        return Err(Problem::new(Code::InvalidParameter, text));
    }
    Ok(if call.is("durability", "memory") {
        Durability::Memory
    } else if call.is("durability", "kafka") {
        Durability::Kafka
    } else if call.is("durability", "journal")
        || cluster.durability(call.topic) == Durability::Journal
    {
        Durability::Journal
    } else {
        Durability::Kafka
    })
}

impl Target<'_> {
    /// Hands one over. What is in the journal is on disk when that says so.
    async fn hand_over(
        &self,
        record: &Incoming<'_>,
        sink: &Arc<dyn DeliverySink>,
        index: u64,
    ) -> Result<Option<Appended>, Problem> {
        let mut headers: HeaderParts<'_> = record
            .about
            .headers
            .iter()
            .map(|(name, value)| (&**name, value.as_deref()))
            .collect();
        let about = &record.about;
        let record = Record {
            key: about.key.as_deref(),
            value: record.value.as_deref(),
        };
        if !headers.is_empty() && !self.proxy.options.has_headers {
            let text = "this cluster's version of Kafka has no record headers";
            return Err(Problem::new(Code::InvalidBody, text));
        }
        self.proxy.check_size(record, &headers)?;
        let sending = &self.sending;
        sending.add_where_it_fits(self.proxy, record, &mut headers);
        if self.durability == Durability::Journal {
            let cluster = &self.proxy.cluster;
            cluster
                .check(self.topic, record, &headers)
                .map_err(Error::from)?;
            let record = std::iter::once(record);
            let (timestamp, partition) = (about.timestamp, about.partition);
            let append = cluster.append(self.topic, record, &headers, timestamp, partition);
            let appended = tokio::select! {
                biased;
                appended = append => appended,
                () = self.proxies.stopping() => return Err(Error::Closed.into()),
            };
            return Ok(Some(appended.map_err(|error| Problem::from(&error))?));
        }
        let producer = &self.proxy.producer;
        let hand_over = || {
            producer.submit_for(
                &self.destination,
                about.partition,
                record,
                &headers,
                about.timestamp,
                (sink, index),
            )
        };
        match self.waits {
            true => self.proxy.with_room(self.proxies, hand_over).await?,
            false => self.proxy.if_room(hand_over)?,
        }
        Ok(None)
    }

    /// A body that is there and has no lines.
    async fn produce_body(&self, body: &[u8], form: Form, about: &About<'_>) -> Done {
        if form.are_objects && body.trim_ascii_start().first() == Some(&b'[') {
            return self.produce_all(body, about).await;
        }
        let record = match form.are_objects {
            true => match Incoming::read(body, about) {
                Ok(record) => record,
                Err(problem) => return problem.into(),
            },
            false => {
                let mut record = Incoming::of_value(body, about);
                if form.is_tombstone {
                    if !body.is_empty() {
                        let text = "a tombstone has no value, but there is a body";
                        return Problem::new(Code::InvalidBody, text).into();
                    }
                    record.value = None;
                }
                record
            }
        };
        self.produce_one(&record).await
    }

    /// Tells the trace of a failure.
    fn failed(&self, problem: &Problem) {
        let kind = problem.code.name();
        self.sending.failed_as(kind, || problem.detail.clone());
    }

    /// One record: its place, or a problem.
    async fn produce_one(&self, record: &Incoming<'_>) -> Done {
        let outcomes = Outcomes::new(true);
        let sink: Arc<dyn DeliverySink> = Arc::<Outcomes>::clone(&outcomes);
        outcomes.expect();
        match self.hand_over(record, &sink, 0).await {
            Err(problem) => return problem.into(),
            Ok(None) => {}
            Ok(Some(appended)) => {
                if let Err(error) = appended.synced().await {
                    return Problem::from(&error).into();
                }
            }
        }
        if self.durability != Durability::Kafka {
            let accepted = serde_json::json!({"result": "accepted"});
            return Done::new(StatusCode::ACCEPTED, &accepted, true);
        }
        outcomes.all_settled().await;
        match outcomes.only() {
            Ok(place) => Done::new(StatusCode::OK, &place, true),
            Err(problem) => {
                self.failed(&problem);
                Done {
                    answer: Answer::Problem(problem),
                    has_effect: outcomes.has_effect(1),
                }
            }
        }
    }

    /// An array of objects: a result for each.
    async fn produce_all(&self, body: &[u8], about: &About<'_>) -> Done {
        let objects: Vec<&RawValue> = match serde_json::from_slice(body) {
            Ok(Elements::All(objects)) => objects,
            Ok(Elements::TooMany) => {
                let text = format!(
                    "an array has at most {MOST_ELEMENTS} records; application/x-ndjson any number"
                );
                return Problem::new(Code::PayloadTooLarge, text).into();
            }
            Err(error) => return invalid(error).into(),
        };
        let mut many = Many::new(self, true);
        for object in &objects {
            many.next(Incoming::read(object.get().as_bytes(), about))
                .await;
        }
        let status = many.finish().await;
        let results = many.outcomes.each(many.count);
        Done::new(status, &results, many.outcomes.has_effect(many.count))
    }

    /// A record a line, of any number: how many went where.
    async fn produce_lines(
        &self,
        lines: &mut Lines<'_, '_>,
        form: Form,
        about: &About<'_>,
    ) -> Done {
        let mut many = Many::new(self, false);
        loop {
            let line;
            let read = match lines.next().await {
                Ok(None) => break,
                Ok(Some(found)) => {
                    line = found;
                    match form.are_objects {
                        true => Incoming::read(&line, about),
                        false => Ok(Incoming::of_value(&line, about)),
                    }
                }
                Err(ReadError::TooLarge) => Err(lines.too_long()),
                // What has come has been taken; there is nobody left to tell
                // unless the body was malformed, or found no room.
                Err(error) => {
                    if matches!(error, ReadError::NoRoom) {
                        lines.discard().await;
                    }
                    let mut problem = unreadable(error, 0);
                    let taken = format!(", after {} lines that were taken", many.count);
                    problem.detail.push_str(&taken);
                    return problem.into();
                }
            };
            many.next(read).await;
        }
        let status = many.finish().await;
        let counts = many.outcomes.counts(many.count);
        Done::new(status, &counts, many.outcomes.has_effect(many.count))
    }
}

/// The records of a request that has many.
struct Many<'a> {
    target: &'a Target<'a>,
    outcomes: Arc<Outcomes>,
    sink: Arc<dyn DeliverySink>,
    count: u64,
    /// On their way to the disk.
    unsynced: Vec<(u64, Appended)>,
}

impl<'a> Many<'a> {
    fn new(target: &'a Target<'a>, has_places: bool) -> Self {
        let outcomes = Outcomes::new(has_places);
        Self {
            target,
            sink: Arc::<Outcomes>::clone(&outcomes),
            outcomes,
            count: 0,
            unsynced: Vec::new(),
        }
    }

    async fn next(&mut self, read: Result<Incoming<'_>, Problem>) {
        let index = self.count;
        self.count += 1;
        self.outcomes.expect();
        let handed_over = match read {
            Ok(record) => self.target.hand_over(&record, &self.sink, index).await,
            Err(problem) => Err(problem),
        };
        match handed_over {
            Ok(None) => {}
            Ok(Some(appended)) => {
                self.unsynced.push((index, appended));
                if self.unsynced.len() >= MOST_UNSYNCED {
                    self.sync().await;
                }
            }
            Err(problem) => {
                self.target.failed(&problem);
                self.outcomes.refuse(index, problem);
            }
        }
    }

    /// Waits until the disk has what it was given.
    async fn sync(&mut self) {
        for (index, appended) in self.unsynced.drain(..) {
            match appended.synced().await {
                Ok(_) => self.outcomes.accept(),
                Err(error) => self.outcomes.refuse(index, Problem::from(&error)),
            }
        }
    }

    /// Waits as long as the durability wants.
    async fn finish(&mut self) -> StatusCode {
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        self.target.sending.count(count);
        self.sync().await;
        let is_awaited = self.target.durability == Durability::Kafka;
        if is_awaited {
            self.outcomes.all_settled().await;
        }
        if self.outcomes.has_refused() {
            StatusCode::MULTI_STATUS
        } else if is_awaited {
            StatusCode::OK
        } else {
            StatusCode::ACCEPTED
        }
    }
}
