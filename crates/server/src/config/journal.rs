//! The keys `durability` and `journal`.

use super::read::{DEFAULT, Document};
use barnabas_engine::{Durabilities, Durability, JournalOptions, OnFull, SyncMode};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// When producing is answered, and the journal for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Keeping {
    pub(crate) durabilities: Durabilities,
    /// With the directory that holds one for each cluster.
    pub(crate) journal: Option<JournalOptions>,
}

impl Keeping {
    /// What one cluster's journal is like.
    pub(crate) fn journal_of(&self, cluster: &str) -> Option<JournalOptions> {
        let mut options = self.journal.clone()?;
        options.directory = directory_of(&options.directory, cluster);
        Some(options)
    }
}

/// A cluster's part of the directory. Names are the user's: whatever could be
/// more than a name is written by its number.
fn directory_of(directory: &Path, cluster: &str) -> PathBuf {
    let mut name = String::with_capacity(cluster.len());
    for (index, byte) in cluster.bytes().enumerate() {
        let is_plain =
            byte.is_ascii_alphanumeric() || b"_-".contains(&byte) || (byte == b'.' && index > 0);
        if is_plain {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    directory.join(name)
}

/// The section `journal` as written; what is not, is the default.
#[derive(Debug, Default)]
pub(crate) struct Written<'a> {
    pub(crate) dir: Option<&'a str>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) segment_bytes: Option<u64>,
    pub(crate) sync: Option<&'a str>,
    pub(crate) sync_interval_ms: Option<u64>,
    pub(crate) on_full: Option<&'a str>,
    pub(crate) mark_replayed: bool,
}

impl Written<'_> {
    /// The journal, if there is to be one; adds what is wrong to `problems`.
    pub(crate) fn options(&self, problems: &mut Vec<String>) -> Option<JournalOptions> {
        let mut options = JournalOptions::new(self.dir?);
        if let Some(bytes) = self.max_bytes {
            options.max_bytes = bytes;
        }
        match self.segment_bytes {
            Some(bytes) if bytes > options.max_bytes / 4 => problems.push(format!(
                "journal.segment_bytes: {bytes} must be at most a quarter of journal.max_bytes"
            )),
            Some(bytes) => options.segment_bytes = bytes,
            None => {}
        }
        match (self.sync, self.sync_interval_ms) {
            (Some("always"), _) => options.sync = SyncMode::Always,
            (Some("os"), _) => options.sync = SyncMode::Os,
            (_, Some(interval)) => {
                options.sync = SyncMode::Group {
                    interval: Duration::from_millis(interval),
                };
            }
            _ => {}
        }
        if self.on_full == Some("wait") {
            options.on_full = OnFull::Wait;
        }
        options.mark_replayed = self.mark_replayed;
        Some(options)
    }
}

pub(super) fn keeping(document: &Document, problems: &mut Vec<String>) -> Keeping {
    let durabilities = durabilities(document);
    let number = |key: &str| document.number(key).map(|number| number as u64);
    let written = Written {
        dir: document.text("journal.dir"),
        max_bytes: number("journal.max_bytes"),
        segment_bytes: number("journal.segment_bytes"),
        sync: document.text("journal.sync"),
        sync_interval_ms: number("journal.sync_interval_ms"),
        on_full: document.text("journal.on_full"),
        mark_replayed: document.switch("journal.mark_replayed").unwrap_or(false),
    };
    let journal = written.options(problems);
    if journal.is_none() && durabilities.has(Durability::Journal) {
        problems.push("durability: journal needs journal.dir".to_owned());
    }
    Keeping {
        durabilities,
        journal,
    }
}

fn durabilities(document: &Document) -> Durabilities {
    let of = |text: &str| Durability::from_name(text).unwrap_or_default();
    let mut durabilities = Durabilities::default();
    for (topic, word) in document.topics("durability") {
        if topic == DEFAULT {
            durabilities.default = of(word);
        } else {
            durabilities.topics.insert(topic.to_owned(), of(word));
        }
    }
    durabilities
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{parse, tests::problems};

    const CLUSTER: &str = "clusters: {default: {}}\n";

    fn keeping(text: &str, variables: &[(&str, &str)]) -> Keeping {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        parse(&format!("{CLUSTER}{text}"), variables)
            .unwrap()
            .keeping
    }

    #[test]
    fn durability_is_one_word_or_one_for_each_topic() {
        let one = keeping("durability: journal\njournal: {dir: /j}\n", &[]);
        assert_eq!(one.durabilities.of("t"), Durability::Journal);
        let text = "durability: {clicks: journal, default: kafka}\njournal: {dir: /j}\n";
        let each = keeping(text, &[]).durabilities;
        assert_eq!(each.of("clicks"), Durability::Journal);
        assert_eq!(each.of("t"), Durability::Kafka);
        let variables = [
            ("BARNABAS_DURABILITY__MY_TOPIC", "journal"),
            ("BARNABAS_JOURNAL__DIR", "/j"),
            ("BARNABAS_JOURNAL__MAX_BYTES", "2000000"),
        ];
        let variable = keeping("", &variables);
        assert_eq!(variable.durabilities.of("my_topic"), Durability::Journal);
        assert_eq!(variable.durabilities.of("t"), Durability::Memory);
        assert_eq!(variable.journal.unwrap().max_bytes, 2_000_000);
        let scalar = [("BARNABAS_DURABILITY", "kafka")];
        assert_eq!(keeping("", &scalar).durabilities.default, Durability::Kafka);
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (text, expected) in [
            ("durability: journal\n", "journal needs journal.dir"),
            ("durability: disk\n", "one of memory, journal, kafka"),
            ("durability: {t: disk}\n", "one of memory, journal, kafka"),
            (
                "journal: {dir: /j, segment_bytes: 1000000, max_bytes: 2000000}\n",
                "a quarter of journal.max_bytes",
            ),
            ("journal: {directory: /j}\n", "no such key"),
            (
                "journal: {dir: /j, sync: never}\n",
                "one of group, always, os",
            ),
        ] {
            let found = problems(&format!("{CLUSTER}{text}"), &[]);
            assert!(found.contains(expected), "{text}: {found}");
        }
    }

    #[test]
    fn every_cluster_has_a_directory_of_its_own() {
        for (name, expected) in [
            ("main", "main"),
            ("a.b", "a.b"),
            ("..", "%2E."),
            ("a/b", "a%2Fb"),
        ] {
            assert_eq!(
                directory_of(Path::new("/j"), name),
                Path::new("/j").join(expected)
            );
        }
    }
}
