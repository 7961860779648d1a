//! The section `journal` of programs that are configured by a document.

use super::Document;
use super::keys::{Key, Kind, key};
use crate::config::{Keeping, WrittenJournal};
use barnabas_engine::{Durabilities, Journal, JournalOptions};
use std::time::Instant;

/// Its keys, as in `barnabas serve`.
pub(crate) const KEYS: &[Key] = &[
    key("journal.dir", Kind::Text),
    key("journal.max_bytes", Kind::Number(1 << 20, 1 << 50)),
    key("journal.segment_bytes", Kind::Number(1 << 10, 1 << 50)),
    key("journal.sync", Kind::Choice(&["group", "always", "os"])),
    key("journal.sync_interval_ms", Kind::Number(0, i32::MAX as i64)),
    key("journal.on_full", Kind::Choice(&["reject", "wait"])),
    key("journal.mark_replayed", Kind::Switch),
];

/// The journal, below its directory where that of the cluster is (as with
/// `barnabas serve`, so that `barnabas journal` finds it).
pub(crate) fn read(
    document: &Document,
    cluster: &str,
    problems: &mut Vec<String>,
) -> Option<JournalOptions> {
    let number = |path: &str| {
        let number = document.number(path);
        number.map(|number| u64::try_from(number).unwrap_or_default())
    };
    let written = WrittenJournal {
        dir: document.text("journal.dir"),
        max_bytes: number("journal.max_bytes"),
        segment_bytes: number("journal.segment_bytes"),
        sync: document.text("journal.sync"),
        sync_interval_ms: number("journal.sync_interval_ms"),
        on_full: document.text("journal.on_full"),
        mark_replayed: document.switch("journal.mark_replayed"),
    };
    let keeping = Keeping {
        durabilities: Durabilities::default(),
        journal: written.options(problems),
    };
    keeping.journal_of(cluster)
}

/// Waits until everything in the journal is delivered, at most until
/// `deadline`; the rest is sent after the next start.
pub(crate) async fn close(journal: Journal, program: &'static str, deadline: Instant) {
    let drained = tokio::time::timeout_at(deadline.into(), journal.drained()).await;
    if drained.is_err() {
        let directory = journal.directory().display().to_string();
        tracing::warn!(
            component = program,
            messages = journal.undelivered(),
            directory,
            "messages stay in the journal until the next start"
        );
    }
    // Writes the checkpoint and ends its threads.
    let _ = tokio::task::spawn_blocking(move || journal.close()).await;
}
