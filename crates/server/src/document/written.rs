//! A document as it was written, kept to be compared with the next one.

use super::Document;
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// What was written, by key. `Debug` hides it, as there are secrets in it.
#[derive(Clone)]
pub(crate) struct Written(Arc<Document>);

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Written")
    }
}

impl Written {
    pub(crate) fn new(document: Document) -> Self {
        Self(Arc::new(document))
    }

    /// The keys whose values differ.
    pub(crate) fn differences(&self, other: &Self) -> BTreeSet<&'static str> {
        self.0.differences(&other.0)
    }

    /// The files that it names and that count when they are read again.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let keys = self.0.schema.files.iter();
        keys.flat_map(|key| self.0.files(key)).collect()
    }
}
