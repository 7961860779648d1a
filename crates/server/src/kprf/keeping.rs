//! What becomes of records that nobody waits for: when they are answered, the
//! journal, and dead letters (contract, `producer-http.md`, sections 7.1 and 9).

use super::settings::CLUSTER;
use crate::document::{Document, journal};
use barnabas_engine::{Durability, JournalOptions, is_legal_topic_name};
use barnabas_http::DeadLetterTopics;
use serde_json::Value;

/// The topic's name that stands for all that are not named.
const DEFAULT: &str = "default";

pub(super) fn durability(document: &Document) -> Durability {
    let name = document.text("kafka.durability");
    name.and_then(Durability::from_name).unwrap_or_default()
}

/// The journal, which has to be there if it is wanted.
pub(super) fn journal(
    document: &Document,
    durability: Durability,
    problems: &mut Vec<String>,
) -> Option<JournalOptions> {
    let journal = journal::read(document, CLUSTER, problems);
    if journal.is_none() && durability == Durability::Journal {
        problems.push("kafka.durability: journal needs journal.dir".to_owned());
    }
    journal
}

pub(super) fn dead_letters(document: &Document, problems: &mut Vec<String>) -> DeadLetterTopics {
    let map = document.get("kafka.dead_letter_topics");
    let mut letters = DeadLetterTopics::default();
    for (topic, target) in map.and_then(Value::as_object).into_iter().flatten() {
        let target = target.as_str().unwrap_or_default().to_owned();
        if !target.is_empty() && !is_legal_topic_name(target.as_bytes()) {
            problems.push(format!(
                "kafka.dead_letter_topics.{topic}: {target:?} can be no topic"
            ));
        }
        if topic == DEFAULT {
            letters.default = Some(target);
        } else {
            letters.topics.insert(topic.clone(), target);
        }
    }
    letters
}
