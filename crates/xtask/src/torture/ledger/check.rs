//! The promises, and what breaks them.

use super::{Aside, Book, Delivery, Durability, Group, Ledger, Place, Value, by_value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Examples of each finding.
const EXAMPLES: usize = 5;

/// What holds under a scenario's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Promises {
    /// A gateway was killed: what its checkpoint does not name is sent again.
    pub(crate) journal_may_repeat: bool,
    /// Kafka refuses what a journal has taken: it is kept aside.
    pub(crate) journal_may_set_aside: bool,
    /// Owners of partitions or the group's coordinator were lost: what was
    /// acknowledged and not committed before, and until everybody has found
    /// back, may come again.
    pub(crate) acked_may_return: bool,
    /// Gateways may send to clients that cannot be reached, until all is well again.
    pub(crate) replies_may_be_lost: bool,
    /// What is not acknowledged for so long is delivered again.
    pub(crate) ack_timeout: Duration,
}

/// The result of a check.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What is wrong; empty if all promises were kept.
    pub(crate) broken: Vec<String>,
    /// Something of it no slowness explains: what was accepted is lost, there twice or in
    /// another order, or a gateway has panicked.
    pub(crate) is_certain: bool,
    /// Records that a producer was told yes for.
    pub(crate) accepted: usize,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    /// Deliveries in all groups.
    pub(crate) delivered: usize,
    pub(crate) acked: usize,
    /// Left unacknowledged on purpose.
    pub(crate) left: u64,
    /// Came again after their acknowledgement, within the bound.
    pub(crate) again: usize,
    /// Are in Kafka more than once, within the bound.
    pub(crate) repeated: usize,
    /// Were accepted by a journal, which has kept them aside since Kafka has refused them.
    pub(crate) aside: usize,
}

impl Findings {
    fn add(&mut self, what: &str, examples: &[String]) {
        if examples.is_empty() {
            return;
        }
        let mut text = format!("{} {what}:", examples.len());
        for example in examples.iter().take(EXAMPLES) {
            // Writing to a String does not fail.
            let _ = write!(text, " {example};");
        }
        self.broken.push(text);
    }

    /// The same of what is not to be tried again.
    pub(crate) fn add_certain(&mut self, what: &str, examples: &[String]) {
        self.is_certain |= !examples.is_empty();
        self.add(what, examples);
    }
}

impl Ledger {
    /// Compares what clients were told with what Kafka has.
    pub(crate) fn check(&self, log: &[Place], aside: &Aside, promises: Promises) -> Findings {
        let (kept, missing): (Vec<Value>, Vec<Value>) = self
            .missing(log)
            .into_iter()
            .partition(|value| self.is_aside(value, aside, promises));
        let open: Vec<(String, Vec<Place>)> = self
            .groups()
            .into_iter()
            .map(|group| (group.clone(), self.open(&group, log)))
            .collect();
        let book = self.book();
        let mut findings = Findings {
            accepted: book.accepted.len(),
            refused: book.refused.values().sum(),
            unknown: book.unknown.values().sum(),
            aside: kept.len(),
            ..Findings::default()
        };
        let there: BTreeSet<&Place> = log.iter().collect();
        let missing: Vec<String> = missing.iter().map(Value::text).collect();
        findings.add_certain("accepted messages are not in Kafka", &missing);
        repetitions(&book, log, promises, &mut findings);
        order_in_kafka(&book, log, &mut findings);
        for (name, open) in &open {
            let shown = |place: &Place| format!("{name} {}", shown(place));
            let Some(group) = book.groups.get(name) else {
                continue;
            };
            let (seen, unseen): (Vec<&Place>, Vec<&Place>) = open
                .iter()
                .partition(|place| group.stories.contains_key(*place));
            let unseen: Vec<String> = unseen.into_iter().map(shown).collect();
            findings.add("records were never delivered", &unseen);
            let seen: Vec<String> = seen.into_iter().map(shown).collect();
            findings.add("unacknowledged records did not come again", &seen);
        }
        for (name, group) in &book.groups {
            let stories = group.stories.values();
            findings.delivered += stories.map(|story| story.deliveries.len()).sum::<usize>();
            let stories = group.stories.values();
            findings.acked += stories.filter(|story| story.acked.is_some()).count();
            findings.left += group.left;
            returns(name, group, &book, promises, &mut findings);
            order_of_deliveries(name, group, &book, &there, &mut findings);
        }
        findings
    }
}

/// Each record is there once, but for what a killed gateway's journal repeats.
fn repetitions(book: &Book, log: &[Place], promises: Promises, findings: &mut Findings) {
    let mut twice = Vec::new();
    for (value, places) in by_value(log) {
        let count = places.len();
        if count < 2 {
            continue;
        }
        let writer = Value::parse(value).map(|value| value.writer);
        let durability = writer.and_then(|writer| book.durabilities.get(&writer).copied());
        if promises.journal_may_repeat && durability == Some(Durability::Journal) {
            findings.repeated += count - 1;
        } else {
            twice.push(format!("{value} {count} times"));
        }
    }
    twice.sort();
    findings.add_certain("records are in Kafka more than once", &twice);
}

/// Records of one key, accepted one after the other, first stand in this order
/// in their partition. What came by different journals has no order.
fn order_in_kafka(book: &Book, log: &[Place], findings: &mut Findings) {
    let places = by_value(log);
    let mut last: BTreeMap<(&str, Option<usize>, i32), (i64, u64)> = BTreeMap::new();
    let mut wrong = Vec::new();
    // Ascending by writer, key and number.
    for (value, accepted) in &book.accepted {
        if !book.counts(accepted) {
            continue;
        }
        let text = value.text();
        let found = places.get(text.as_str()).into_iter().flatten();
        let Some(first) = found.min_by_key(|place| (place.partition, place.offset)) else {
            continue;
        };
        let domain = (value.key.as_str(), accepted.gateway, first.partition);
        if let Some((offset, number)) = last.insert(domain, (first.offset, value.number))
            && first.offset < offset
        {
            wrong.push(format!(
                "{text} is at {} before {number} at {offset}",
                first.offset
            ));
        }
    }
    findings.add_certain("records stand before earlier ones of their key", &wrong);
}

/// What was acknowledged does not come again, beyond the bound.
fn returns(name: &str, group: &Group, book: &Book, promises: Promises, findings: &mut Findings) {
    let mut wrong = Vec::new();
    let stories = group.stories.iter();
    for (place, story) in stories.filter(|(place, _)| book.has_place(place)) {
        let Some(acked) = story.acked else {
            continue;
        };
        let before = story.deliveries.iter().filter(|one| one.came <= acked);
        // A late acknowledgement crosses the delivery that its lateness causes.
        let is_late = before
            .map(|one| one.asked.at)
            .max()
            .is_some_and(|asked| acked.duration_since(asked) >= promises.ack_timeout);
        let again: Vec<&Delivery> = story
            .deliveries
            .iter()
            .filter(|one| one.asked.sent_after > acked && one.came > acked)
            .collect();
        if again.is_empty() || is_late {
            continue;
        }
        let is_safe = |one: &&Delivery| {
            let safe = story.safe_since;
            safe.is_some_and(|safe| one.asked.sent_after > safe)
        };
        let is_in_the_fault =
            promises.acked_may_return && book.is_healed_since.is_none_or(|healed| acked < healed);
        // While members come one after the other, a commit may cross more than one rebalance.
        let is_early = book.is_settled_since.is_some_and(|settled| acked < settled);
        if (is_in_the_fault || is_early) && !again.iter().any(is_safe) {
            findings.again += again.len();
        } else {
            let came: Vec<String> = again.iter().map(|one| book.at(one.came)).collect();
            let (came, acked) = (came.join(", "), book.at(acked));
            wrong.push(format!(
                "{name} {} acked at {acked}, came at {came}",
                shown(place)
            ));
        }
    }
    findings.add("records came again after their acknowledgement", &wrong);
}

/// To each reader, records of a partition that come once come in their order, unless
/// they may have been in a reply that was lost: what came from the first one on, but
/// for what was produced after the last one.
fn order_of_deliveries(
    name: &str,
    group: &Group,
    book: &Book,
    there: &BTreeSet<&Place>,
    findings: &mut Findings,
) {
    let mut firsts: BTreeMap<(u64, i32), Vec<(i64, Instant)>> = BTreeMap::new();
    // Ascending by partition and offset.
    let stories = group.stories.iter();
    for (place, story) in stories.filter(|(place, _)| there.contains(place)) {
        // What came more than once may have been given to another reader before, and have
        // been on its way for longer than the gateway waits for an acknowledgement.
        let [first] = story.deliveries.as_slice() else {
            continue;
        };
        if let Some((first_lost, last_lost)) = group.lost_between
            && first.came >= first_lost
            && !is_younger(book, place, last_lost)
        {
            continue;
        }
        let ordered = firsts.entry((first.reader, place.partition)).or_default();
        ordered.push((place.offset, first.came));
    }
    let mut wrong = Vec::new();
    for ((_, partition), ordered) in &firsts {
        for pair in ordered.windows(2) {
            if let [(earlier, first), (later, second)] = pair
                && second < first
            {
                wrong.push(format!("{name} {partition}: {later} before {earlier}"));
            }
        }
    }
    findings.add(
        "records came before earlier ones of their partition",
        &wrong,
    );
}

/// Whether a record was produced after that.
fn is_younger(book: &Book, place: &Place, than: Instant) -> bool {
    let accepted = Value::parse(&place.value).and_then(|value| book.accepted.get(&value));
    accepted.is_some_and(|accepted| accepted.asked > than)
}

fn shown(place: &Place) -> String {
    format!("{}@{} {}", place.partition, place.offset, place.value)
}

#[cfg(test)]
mod tests;
