//! What clients were told and given, and whether it is what was promised
//! (DESIGN.md, Delivery contracts).
//!
//! Pure: the workload writes into it, the scenario says which promises hold
//! under its fault, [`Ledger::check`] compares both with what Kafka has.

mod check;

pub(crate) use check::{Findings, Promises};

use super::node::NodeClient;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What an answer to a producer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Durability {
    /// It is on the gateway's disk.
    Journal,
    /// Kafka has it.
    Kafka,
}

/// What a producer has sent: `writer|key|number|`, where numbers ascend. No text is the
/// beginning of another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Value {
    /// The front end and the way.
    pub(crate) writer: String,
    /// The record's key.
    pub(crate) key: String,
    pub(crate) number: u64,
}

impl Value {
    pub(crate) fn text(&self) -> String {
        format!("{}|{}|{}|", self.writer, self.key, self.number)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('|');
        let (writer, key, number) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            writer: writer.to_owned(),
            key: key.to_owned(),
            number: number.parse().ok()?,
        })
    }
}

/// A record of the topic. With its value, because the offsets of a topic that
/// is made again begin again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) value: String,
}

/// What journals keep that Kafka has refused, in files whose messages are as they were.
#[derive(Debug, Default)]
pub(crate) struct Aside(pub(crate) Vec<String>);

impl Aside {
    pub(crate) fn has(&self, value: &Value) -> bool {
        let value = value.text();
        self.0.iter().any(|text| text.contains(&value))
    }
}

/// A value that somebody was told is safe.
#[derive(Debug)]
struct Accepted {
    /// Within which order is promised, beside the key: the gateway whose
    /// journal has it.
    gateway: Option<usize>,
    /// When the request began.
    asked: Instant,
}

/// When a delivery was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    at: Instant,
    /// It cannot have left the gateway before.
    sent_after: Instant,
}

impl From<Instant> for Asked {
    fn from(at: Instant) -> Self {
        Self { at, sent_after: at }
    }
}

/// A delivery to a consumer.
#[derive(Debug)]
struct Delivery {
    /// One client's connection; within it first deliveries are in order.
    reader: u64,
    asked: Asked,
    came: Instant,
}

/// What happened to a record in a group.
#[derive(Debug, Default)]
struct Story {
    deliveries: Vec<Delivery>,
    /// When it was told that the acknowledgement is taken.
    acked: Option<Instant>,
    /// An acknowledgement was sent that has no answer.
    is_hoped: bool,
    /// Since when its group is known to have committed the acknowledgement.
    safe_since: Option<Instant>,
}

/// A consumer group.
#[derive(Debug, Default)]
struct Group {
    stories: BTreeMap<Place, Story>,
    /// When replies, and what was in them, were lost for the first and for the
    /// last time.
    lost_between: Option<(Instant, Instant)>,
    lost: u64,
    left: u64,
}

impl Group {
    fn lose(&mut self) {
        let now = Instant::now();
        let first = self.lost_between.map_or(now, |(first, _)| first);
        self.lost_between = Some((first, now));
    }
}

#[derive(Debug)]
struct Book {
    /// What times are told from.
    began: Instant,
    durabilities: BTreeMap<String, Durability>,
    accepted: BTreeMap<Value, Accepted>,
    refused: BTreeMap<String, u64>,
    unknown: BTreeMap<String, u64>,
    first_refusal: BTreeMap<String, String>,
    groups: BTreeMap<String, Group>,
    is_settled_since: Option<Instant>,
    is_healed_since: Option<Instant>,
    /// Between which times gateways' replies were not sure to arrive at once.
    may_lose_between: Option<(Instant, Instant)>,
    /// What was asked before does not count: the topic was another one.
    begins: Option<Instant>,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            durabilities: BTreeMap::new(),
            accepted: BTreeMap::new(),
            refused: BTreeMap::new(),
            unknown: BTreeMap::new(),
            first_refusal: BTreeMap::new(),
            groups: BTreeMap::new(),
            is_settled_since: None,
            is_healed_since: None,
            may_lose_between: None,
            begins: None,
        }
    }
}

impl Book {
    /// Seconds since the beginning, to be read.
    fn at(&self, time: Instant) -> String {
        format!("{:.3} s", time.duration_since(self.began).as_secs_f64())
    }

    /// Whether it was for the topic that there is.
    fn counts(&self, accepted: &Accepted) -> bool {
        self.begins.is_none_or(|begins| accepted.asked >= begins)
    }

    /// Whether nothing that was said about the old topic can have meant this:
    /// acknowledgements name offsets only.
    fn has_place(&self, place: &Place) -> bool {
        self.begins.is_none() || {
            let value = Value::parse(&place.value);
            let accepted = value.and_then(|value| self.accepted.get(&value));
            accepted.is_some_and(|accepted| self.counts(accepted))
        }
    }
}

/// Everything that clients have seen in one scenario.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Book>);

impl Ledger {
    fn book(&self) -> MutexGuard<'_, Book> {
        // A thread that has panicked fails the run by itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this writer's answers mean.
    pub(crate) fn writer(&self, name: &str, durability: Durability) {
        let mut book = self.book();
        book.durabilities.insert(name.to_owned(), durability);
    }

    /// A producer was told yes. `gateway` is who has told it.
    pub(crate) fn accepted(&self, value: Value, gateway: usize, asked: Instant) {
        let mut book = self.book();
        let journal = book.durabilities.get(&value.writer) == Some(&Durability::Journal);
        let gateway = journal.then_some(gateway);
        book.accepted.insert(value, Accepted { gateway, asked });
    }

    /// A producer was told no.
    pub(crate) fn refused(&self, writer: &str, why: &str) {
        let mut book = self.book();
        *book.refused.entry(writer.to_owned()).or_default() += 1;
        book.first_refusal
            .entry(writer.to_owned())
            .or_insert_with(|| why.to_owned());
    }

    /// A producer was told nothing: the message may be there.
    pub(crate) fn unknown(&self, writer: &str, count: usize) {
        let mut book = self.book();
        *book.unknown.entry(writer.to_owned()).or_default() += count as u64;
    }

    /// A group that has to get everything.
    pub(crate) fn group(&self, name: &str) {
        self.book().groups.entry(name.to_owned()).or_default();
    }

    /// A consumer has got this.
    pub(crate) fn delivered(
        &self,
        group: &str,
        place: Place,
        reader: u64,
        asked: impl Into<Asked>,
    ) {
        self.delivered_at(group, place, reader, asked, Instant::now());
    }

    fn delivered_at(
        &self,
        group: &str,
        place: Place,
        reader: u64,
        asked: impl Into<Asked>,
        came: Instant,
    ) {
        let asked = asked.into();
        let mut book = self.book();
        let group = book.groups.entry(group.to_owned()).or_default();
        let story = group.stories.entry(place).or_default();
        story.deliveries.push(Delivery {
            reader,
            asked,
            came,
        });
    }

    /// Whether the group has been given this before.
    pub(crate) fn is_known(&self, group: &str, place: &Place) -> bool {
        let book = self.book();
        let group = book.groups.get(group);
        group.is_some_and(|group| group.stories.contains_key(place))
    }

    /// A consumer was told that its acknowledgement is taken.
    pub(crate) fn acked(&self, group: &str, place: &Place) {
        self.acked_at(group, place, Instant::now());
    }

    fn acked_at(&self, group: &str, place: &Place, at: Instant) {
        self.with_story(group, place, |story| {
            story.acked.get_or_insert(at);
        });
    }

    /// An acknowledgement was sent on a way that has no answers, or its answer
    /// was lost: it may count.
    pub(crate) fn hoped(&self, group: &str, place: &Place) {
        self.with_story(group, place, |story| story.is_hoped = true);
    }

    /// It is left unacknowledged, to come again.
    pub(crate) fn left(&self, group: &str) {
        self.book().groups.entry(group.to_owned()).or_default().left += 1;
    }

    /// A reply to this group was lost, or a stream ended: what was in it comes
    /// again, behind what has come meanwhile.
    pub(crate) fn lost(&self, group: &str) {
        let mut book = self.book();
        let group = book.groups.entry(group.to_owned()).or_default();
        group.lose();
        group.lost += 1;
    }

    /// What was lost last may have gone on to be: the gateway has heard of it only now.
    pub(crate) fn lost_until_now(&self, group: &str) {
        let mut book = self.book();
        book.groups.entry(group.to_owned()).or_default().lose();
    }

    /// Gateways' replies may be lost now, and between this call and the next one:
    /// who has not heard of the end of a connection goes on to send.
    pub(crate) fn may_lose(&self) {
        let now = Instant::now();
        let mut book = self.book();
        let first = book.may_lose_between.map_or(now, |(first, _)| first);
        book.may_lose_between = Some((first, now));
        let groups = book.groups.iter_mut();
        let served = groups.filter(|(name, _)| *name != NodeClient::GROUP);
        served.for_each(|(_, group)| group.lose());
    }

    /// Of what comes on a stream that was opened then: on a network that is well it was not
    /// sent before `asked`. What was sent while nothing passed comes when TCP tries again,
    /// which may be long after: all that was sent meanwhile at once, with what was sent again
    /// for want of an acknowledgement.
    pub(crate) fn streamed(&self, opened: Instant, asked: Instant) -> Asked {
        let book = self.book();
        let sent_after = match book.may_lose_between {
            Some((first, last)) if book.is_healed_since.is_none() || opened <= last => {
                asked.min(first)
            }
            _ => asked,
        };
        Asked {
            at: asked,
            sent_after,
        }
    }

    /// All is well again, and a stream that was opened then may still bring what was sent
    /// before that: who wants to go by times opens another one.
    pub(crate) fn is_of_the_fault(&self, opened: Instant) -> bool {
        let book = self.book();
        let may_lose = book.may_lose_between;
        book.is_healed_since.is_some() && may_lose.is_some_and(|(_, last)| opened <= last)
    }

    fn with_story(&self, group: &str, place: &Place, act: impl FnOnce(&mut Story)) {
        let mut book = self.book();
        let group = book.groups.entry(group.to_owned()).or_default();
        if let Some(story) = group.stories.get_mut(place) {
            act(story);
        }
    }

    /// The names of all groups.
    pub(crate) fn groups(&self) -> Vec<String> {
        self.book().groups.keys().cloned().collect()
    }

    /// Where this group has been told that acknowledgements are taken.
    pub(crate) fn acknowledged(&self, group: &str) -> BTreeSet<(i32, i64)> {
        let book = self.book();
        let stories = book
            .groups
            .get(group)
            .into_iter()
            .flat_map(|group| &group.stories);
        stories
            .filter(|(_, story)| story.acked.is_some())
            .map(|(place, _)| (place.partition, place.offset))
            .collect()
    }

    /// From now on no fault is a reason for these to come again: the group has
    /// committed them.
    pub(crate) fn committed(&self, group: &str, places: &BTreeSet<(i32, i64)>) {
        let mut book = self.book();
        let Some(group) = book.groups.get_mut(group) else {
            return;
        };
        for (place, story) in &mut group.stories {
            let at = (place.partition, place.offset);
            if story.acked.is_some() && places.contains(&at) {
                story.safe_since.get_or_insert_with(Instant::now);
            }
        }
    }

    /// All groups have come together and committed.
    pub(crate) fn settled(&self) {
        self.book().is_settled_since = Some(Instant::now());
    }

    /// The fault is over and everybody has found back.
    pub(crate) fn healed(&self) {
        self.book().is_healed_since = Some(Instant::now());
    }

    /// The topic is another one than before: what was asked until now may be
    /// gone with the old one.
    pub(crate) fn begins_anew(&self) {
        self.book().begins = Some(Instant::now());
    }

    /// How many messages this gateway's journal has taken.
    pub(crate) fn journaled_by(&self, gateway: usize) -> usize {
        let book = self.book();
        let accepted = book.accepted.values();
        accepted.filter(|one| one.gateway == Some(gateway)).count()
    }

    /// How many messages had no answer, or one that nobody can go by.
    pub(crate) fn unanswered_count(&self) -> u64 {
        let book = self.book();
        book.unknown.values().chain(book.refused.values()).sum()
    }

    /// How many requests of readers were lost, or streams ended.
    pub(crate) fn lost_count(&self) -> u64 {
        let book = self.book();
        book.groups.values().map(|group| group.lost).sum()
    }

    /// How many messages had no answer or were refused, for each writer whose answers
    /// mean that Kafka has them.
    pub(crate) fn failures_in_kafka(&self) -> Vec<u64> {
        let book = self.book();
        let writers = book.durabilities.iter();
        let writers = writers.filter(|(_, durability)| **durability == Durability::Kafka);
        let count = |counts: &BTreeMap<String, u64>, name| counts.get(name).copied().unwrap_or(0);
        writers
            .map(|(name, _)| count(&book.unknown, name) + count(&book.refused, name))
            .collect()
    }

    /// How many deliveries there were.
    pub(crate) fn deliveries(&self) -> usize {
        let book = self.book();
        let stories = book
            .groups
            .values()
            .flat_map(|group| group.stories.values());
        stories.map(|story| story.deliveries.len()).sum()
    }

    /// How many messages were refused.
    pub(crate) fn refused_count(&self) -> u64 {
        self.book().refused.values().sum()
    }

    /// How many each writer was told yes for.
    pub(crate) fn accepted_by_writer(&self) -> BTreeMap<String, usize> {
        let book = self.book();
        let mut counts: BTreeMap<String, usize> = book
            .durabilities
            .keys()
            .map(|writer| (writer.clone(), 0))
            .collect();
        for value in book.accepted.keys() {
            *counts.entry(value.writer.clone()).or_default() += 1;
        }
        counts
    }

    /// The first refusal that each writer was told.
    pub(crate) fn refusals(&self) -> BTreeMap<String, String> {
        self.book().first_refusal.clone()
    }

    /// How many acknowledgements of each group were taken.
    pub(crate) fn acked_by_group(&self) -> BTreeMap<String, usize> {
        let book = self.book();
        let acked = |group: &Group| {
            let stories = group.stories.values();
            stories.filter(|story| story.acked.is_some()).count()
        };
        book.groups
            .iter()
            .map(|(name, group)| (name.clone(), acked(group)))
            .collect()
    }

    /// Whether a journal has this and keeps it aside since Kafka has refused it, and may.
    pub(crate) fn is_aside(&self, value: &Value, aside: &Aside, promises: Promises) -> bool {
        let book = self.book();
        let accepted = book.accepted.get(value);
        let is_journaled = accepted.is_some_and(|accepted| accepted.gateway.is_some());
        promises.journal_may_set_aside && is_journaled && aside.has(value)
    }

    /// What was accepted and is not in this log.
    pub(crate) fn missing(&self, log: &[Place]) -> Vec<Value> {
        let there: BTreeSet<&str> = log.iter().map(|place| place.value.as_str()).collect();
        let book = self.book();
        book.accepted
            .iter()
            .filter(|(_, accepted)| book.counts(accepted))
            .filter(|(value, _)| !there.contains(value.text().as_str()))
            .map(|(value, _)| value.clone())
            .collect()
    }

    /// What of this log a group has not been done with, or given for another
    /// time.
    pub(crate) fn open(&self, group: &str, log: &[Place]) -> Vec<Place> {
        let book = self.book();
        let stories = book.groups.get(group).map(|group| &group.stories);
        log.iter()
            .filter(|place| book.has_place(place))
            .filter(|place| {
                let story = stories.and_then(|stories| stories.get(*place));
                story.is_none_or(|story| story.acked.is_none() && !story.is_hoped)
            })
            .cloned()
            .collect()
    }
}

/// Values with the places where they are.
fn by_value(log: &[Place]) -> HashMap<&str, Vec<&Place>> {
    let mut places: HashMap<&str, Vec<&Place>> = HashMap::new();
    for place in log {
        places.entry(place.value.as_str()).or_default().push(place);
    }
    places
}
