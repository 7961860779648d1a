//! The records of one request on their way out of it: looked at one by one,
//! admitted all together or not at all, and handed over in one go.

use super::admission::Held;
use super::batch::{Batch, Number};
use super::engine::{Target, Topic};
use super::limiter;
use super::push::{Author, CLUSTER};
use super::reply::{Failure, Failures};
use super::request::{PushRecord, PushRequest};
use super::rules::Rules;
use super::state::State;
use barnabas_engine::{
    Action, DeliverySink, Durability, ErrorCode, Journal, JournalError, JournalRecord, KafkaError,
    Record, RequestTrace, Sending,
};
use std::collections::HashMap;
use std::sync::Arc;

/// The most that a record's frame adds to its key and value
/// (librdkafka's `RD_KAFKAP_MESSAGE_V2_MAX_OVERHEAD`).
const RECORD_OVERHEAD: u64 = 36;
/// Added to a topic's number: the record has been refused.
const REFUSED: u32 = 1 << 31;

/// So many topics of a request are found by looking at each.
const FEW_TOPICS: usize = 8;

/// A request whose records are being handed over.
pub(super) struct Handing<'a> {
    state: &'a Arc<State>,
    rules: &'a Rules,
    author: &'a Author<'a>,
    request: &'a PushRequest<'a>,
    waits: bool,
    /// The topics of the request, in order of appearance.
    topics: Vec<Arc<Topic>>,
    targets: Vec<Result<Target, KafkaError>>,
    /// By topic: records to be sent, and those that would have been, too.
    counts: Vec<(u64, u64)>,
    /// By record: the number of its topic, and whether it is refused.
    numbers: Vec<u32>,
    pub(super) failures: Failures,
    /// The second at which the rate limiter counted.
    second: u64,
    messages: u64,
    bytes: u64,
    trace: &'a RequestTrace,
    /// What carries it on, by topic, if anything does.
    pub(super) sendings: Vec<Sending>,
    /// What each record gets from it.
    header_bytes: u64,
}

impl<'a> Handing<'a> {
    /// Checks each record on its own: rate limit, topic, size, partition.
    pub(super) fn look_at(
        state: &'a Arc<State>,
        (rules, author): (&'a Rules, &'a Author<'a>),
        request: &'a PushRequest<'a>,
        durability: Durability,
        trace: &'a RequestTrace,
    ) -> Self {
        let has_limits = !rules.limiter.is_empty() || author.window.is_some();
        let mut handing = Self {
            state,
            rules,
            author,
            request,
            waits: durability == Durability::Kafka,
            topics: Vec::new(),
            targets: Vec::new(),
            counts: Vec::new(),
            numbers: Vec::with_capacity(request.records.len()),
            failures: Failures::new(),
            second: if has_limits { limiter::now() } else { 0 },
            messages: 0,
            bytes: 0,
            trace,
            sendings: Vec::new(),
            header_bytes: trace.header_bytes(),
        };
        let mut by_name: HashMap<&str, u32> = HashMap::new();
        let mut last: Option<(&str, u32)> = None;
        for (index, record) in request.records.iter().enumerate() {
            let name = &*record.topic;
            // Neighbours mostly go to one topic, and most requests have few.
            let number = match last {
                Some((own, number)) if own == name => number,
                _ => match handing.place_of(name) {
                    Some(number) => number,
                    None if handing.topics.len() < FEW_TOPICS => handing.add(name),
                    None => *by_name.entry(name).or_insert_with(|| handing.add(name)),
                },
            };
            last = Some((name, number));
            let number = match handing.check(index, number) {
                Ok(()) => number,
                Err(failure) => {
                    handing.failures.push((index, failure));
                    number | REFUSED
                }
            };
            handing.numbers.push(number);
        }
        handing
    }

    /// The number of a topic, if it is one of the first ones.
    fn place_of(&self, name: &str) -> Option<u32> {
        let mut first = self.topics.iter().take(FEW_TOPICS);
        let place = first.position(|topic| *topic.name == *name);
        place.map(|place| place as u32)
    }

    fn add(&mut self, name: &str) -> u32 {
        let topic = self.state.topic(name);
        let Author { access, token, .. } = self.author;
        let is_allowed =
            self.rules.allows(name) && access.is_allowed(*token, Action::Produce, CLUSTER, name);
        let target = match topic.is_legal && !is_allowed {
            true => Err(KafkaError::from_code(ErrorCode::TopicAuthorizationFailed)),
            false => self.state.engine.target(&topic, self.waits),
        };
        self.targets.push(target);
        self.topics.push(topic);
        self.counts.push((0, 0));
        // A request has fewer records than `REFUSED`.
        (self.topics.len() - 1) as u32
    }

    fn check(&mut self, index: usize, number: u32) -> Result<(), Failure> {
        let number = number as usize;
        let (Some(record), Some(topic), Some(target), Some((good, all))) = (
            self.request.records.get(index),
            self.topics.get(number),
            self.targets.get(number),
            self.counts.get_mut(number),
        ) else {
            return Err(Failure::FULL);
        };
        if self.state.is_stopping() {
            return Err(Failure::STOPPING);
        }
        if let Err(seconds) = within_limits(self.rules, self.author, &topic.name, self.second) {
            self.state.metrics.limited(&topic.series);
            let name = &*topic.name;
            tracing::warn!(
                component = "kprf",
                topic = name,
                "message was not sent due to ratelimit overflow"
            );
            return Err(Failure::RateLimit(seconds));
        }
        *all += 1;
        let bytes = record.bytes();
        let error = if let Err(error) = target {
            *error
        } else if bytes + RECORD_OVERHEAD > self.state.options.message_max_bytes {
            KafkaError::from_code(ErrorCode::MessageSizeTooLarge)
        } else if record.partition.is_some_and(|partition| partition < -1) {
            KafkaError::from_code(ErrorCode::UnknownPartition)
        } else {
            *good += 1;
            self.messages += 1;
            self.bytes += bytes + self.header_bytes;
            return Ok(());
        };
        self.take_back(number);
        Err(Failure::Kafka(error))
    }

    /// A record of the topic that was within the limits is refused after all.
    fn take_back(&self, number: usize) {
        if let Some(topic) = self.topics.get(number) {
            self.rules.limiter.take_back(&topic.name, self.second);
        }
        if let (Some(window), false) = (&self.author.window, self.rules.counts_refused) {
            window.take_back(self.second);
        }
    }

    /// Room for all of what is in order, or for nothing.
    pub(super) fn admit(&mut self, held: &mut Held<'_>) -> bool {
        if held.turn_into(self.messages, self.bytes) {
            return true;
        }
        self.refuse_all(Failure::FULL);
        false
    }

    /// What was in order is refused after all.
    pub(super) fn refuse_all(&mut self, failure: Failure) {
        let mut numbers = std::mem::take(&mut self.numbers);
        for (index, number) in numbers.iter_mut().enumerate() {
            // Those that are refused already have no topic of this number.
            if (*number as usize) < self.topics.len() {
                self.take_back(*number as usize);
                *number |= REFUSED;
                self.failures.push((index, failure));
            }
        }
        self.numbers = numbers;
    }

    /// The topics' records are about to go.
    fn begin_sending(&mut self) {
        if self.header_bytes == 0 && !self.trace.is_recorded() {
            return;
        }
        let topics = self.topics.iter().zip(&self.counts);
        let sending = |(topic, (count, _)): (&Arc<Topic>, &(u64, u64))| {
            if *count == 0 {
                return Sending::default();
            }
            let sending = self.trace.sending(&topic.name);
            sending.count(usize::try_from(*count).unwrap_or(usize::MAX));
            sending
        };
        self.sendings = topics.map(sending).collect();
    }

    /// Whether a record of this size has room for what carries the trace on.
    fn fits(&self, bytes: u64) -> bool {
        bytes + RECORD_OVERHEAD + self.header_bytes <= self.state.options.message_max_bytes
    }

    /// Puts what is in order into the journal, all or nothing, and waits until
    /// it is on disk. Who hangs up before it is taken has sent nothing.
    ///
    /// # Errors
    /// It is too much for the journal, however empty that is.
    pub(super) async fn keep(&mut self, journal: &Journal) -> Result<(), JournalError> {
        if self.messages == 0 {
            return Ok(());
        }
        let timestamp = limiter::now_milliseconds();
        self.begin_sending();
        let headers: Vec<_> = self.sendings.iter().map(Sending::headers).collect();
        let (topics, numbers) = (&self.topics, &self.numbers);
        let records = self.request.records.iter().zip(numbers);
        let records = records.filter_map(|(record, number)| {
            let number = *number as usize;
            let topic = topics.get(number)?;
            let headers = headers.get(number).filter(|_| self.fits(record.bytes()));
            Some(JournalRecord {
                topic: &topic.name,
                record: content(record),
                headers: headers.map_or(&[], |own| own),
                timestamp,
                partition: chosen(record),
                lane: None,
            })
        });
        let kept = match journal.append(records).await {
            Ok(appended) => appended.synced().await.map(drop),
            Err(error) => Err(error),
        };
        drop(headers);
        let Err(error) = kept else {
            return Ok(());
        };
        self.refuse_all(Failure::of_journal(&error));
        match error {
            JournalError::TooLarge => Err(error),
            _ => Ok(()),
        }
    }

    /// How many records from this one on go to one topic with nothing but keys
    /// and values; at least this one.
    fn alike(&self, index: usize, is_plain: bool) -> usize {
        let own = self.numbers.get(index);
        let rest = self.numbers.iter().zip(&self.request.records).skip(index);
        let alike = rest.take_while(|(number, record)| {
            is_plain && Some(*number) == own && chosen(record).is_none()
        });
        alike.count().max(1)
    }

    /// Hands over what is in order; `None` if that is nothing.
    pub(super) fn send(&mut self, held: &mut Held<'_>) -> Option<Arc<Batch>> {
        if self.messages == 0 {
            return None;
        }
        // Before the first report can come.
        for (topic, (count, _)) in self.topics.iter().zip(&self.counts) {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            topic.series.queue.add(count);
        }
        let count = usize::try_from(self.messages).unwrap_or(usize::MAX);
        let (topics, header_bytes) = (self.topics.clone(), self.header_bytes);
        let batch = Batch::new(self.state, topics, self.waits, header_bytes, count);
        self.begin_sending();
        let headers: Vec<_> = self.sendings.iter().map(Sending::headers).collect();
        let sink: Arc<dyn DeliverySink> = Arc::clone(&batch) as Arc<dyn DeliverySink>;
        held.pass_on();
        let mut refused: Vec<(Number, KafkaError)> = Vec::new();
        let mut index = 0;
        while let Some(number) = self.numbers.get(index) {
            let topic = *number as usize;
            let headers = headers.get(topic).map_or(&[][..], |own| own);
            let alike = self.alike(index, headers.is_empty());
            let run = self.request.records.get(index..index + alike);
            let number = Number { index, topic };
            let sink = (&sink, number.pack());
            let engine = &self.state.engine;
            match (self.targets.get(topic), run) {
                (Some(Ok(target)), Some([record])) => {
                    let headers = if self.fits(record.bytes()) {
                        headers
                    } else {
                        &[]
                    };
                    let partition = chosen(record);
                    let submitted =
                        engine.submit(target, partition, content(record), headers, sink);
                    refused.extend(submitted.err().map(|error| (number, error)));
                }
                (Some(Ok(target)), Some(records)) => {
                    let records = records.iter().map(content);
                    engine.submit_all(target, records, sink, |number, error| {
                        refused.push((Number::unpack(number), error));
                    });
                }
                _ => {}
            }
            index += alike;
        }
        for (Number { index, topic }, error) in &refused {
            let Some(record) = self.request.records.get(*index) else {
                continue;
            };
            self.state.admission.refuse(record.bytes() + header_bytes);
            self.take_back(*topic);
            let error = self.topics.get(*topic).map_or(*error, |topic| {
                topic.series.queue.dec();
                topic.learn(self.waits, *error)
            });
            self.failures.push((*index, Failure::Kafka(error)));
        }
        batch.close(refused.len());
        Some(batch)
    }

    /// What failed before it was under way; the rest is counted when its
    /// reports come.
    pub(super) fn count_failures(&mut self) {
        for (topic, (_, all)) in self.topics.iter().zip(&self.counts) {
            topic.series.sent.inc_by(*all);
        }
        let number_of = |index: usize| self.numbers.get(index).map(|number| number & !REFUSED);
        // Neighbours mostly fail together, and refusing must not cost more than
        // accepting.
        let alike = self.failures.chunk_by(|(one, failure), (other, next)| {
            failure == next && number_of(*one) == number_of(*other)
        });
        for failures in alike {
            let Some((index, failure)) = failures.first() else {
                continue;
            };
            let Some(error) = failure.error() else {
                continue;
            };
            let Some(number) = number_of(*index).map(|number| number as usize) else {
                continue;
            };
            let Some(topic) = self.topics.get(number) else {
                continue;
            };
            if let Some(own) = self.sendings.get(number) {
                own.failed_by(error);
            }
            let times = failures.len() as u64;
            self.state
                .metrics
                .failed(&topic.series, error.number(), times);
            let (name, error) = (&*topic.name, failure.text());
            tracing::error!(
                component = "kprf",
                topic = name,
                error,
                times,
                "got error when tried to send message"
            );
        }
    }
}

/// The partition that it is for, if it says so.
fn chosen(record: &PushRecord<'_>) -> Option<i32> {
    record.partition.filter(|partition| *partition >= 0)
}

fn content<'a>(record: &'a PushRecord<'_>) -> Record<'a> {
    Record {
        key: record.key.as_ref().map(|key| key.as_bytes()),
        value: Some(record.data.as_bytes()),
    }
}

/// Counts one record at that second, for its client and for its topic.
fn within_limits(rules: &Rules, author: &Author<'_>, topic: &str, second: u64) -> Result<(), u64> {
    if let Some(window) = &author.window {
        window.check(rules.client_limit, rules.counts_refused, second)?;
    }
    if rules.limiter.is_empty() {
        return Ok(());
    }
    let checked = rules.limiter.check(topic, second);
    if let (Err(_), Some(window), false) = (checked, &author.window, rules.counts_refused) {
        window.take_back(second);
    }
    checked
}
