//! Where a configuration comes from, and what was written there: to read it
//! again, and to say what has changed.

use super::read::Document;
use super::{Resolved, load, strategies};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What was written: where it comes from, and the values by key. `Debug` hides
/// it, as there are secrets in it.
#[derive(Clone, Default)]
pub(crate) struct Written {
    pub(super) source: Source,
    pub(super) document: Arc<Document>,
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

/// Where a configuration comes from beside the environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    pub(crate) config: Option<PathBuf>,
    pub(crate) env_file: Option<PathBuf>,
}

impl Written {
    /// Keys whose values differ.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        self.document.differences(&other.document)
    }

    /// Reads the same files again.
    ///
    /// # Errors
    /// As [`load`].
    pub(crate) fn again(&self) -> Result<Resolved> {
        load(&self.source)
    }

    /// The files that it comes from, those included that it names and that
    /// count when they are read again.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        const NAMED: [&str; 10] = [
            "access.tokens_file",
            "http.tls.cert",
            "http.tls.key",
            "http.tls.client_ca",
            "grpc.tls.cert",
            "grpc.tls.key",
            "grpc.tls.client_ca",
            "redis.tls.cert",
            "redis.tls.key",
            "redis.tls.client_ca",
        ];
        let named = NAMED.iter().filter_map(|key| self.document.text(key));
        let named = named.chain(strategies::pickers(&self.document));
        let own = [&self.source.config, &self.source.env_file];
        own.into_iter()
            .flatten()
            .cloned()
            .chain(named.map(PathBuf::from))
            .collect()
    }
}

/// The environment, without what is no text: that is none of ours; and what
/// only a file in the form of `.env` has.
///
/// # Errors
/// A file that cannot be read, or is of another form.
pub(crate) fn variables(env_file: Option<&Path>) -> Result<Vec<(String, String)>> {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    if let Some(path) = env_file {
        let shown = || path.display().to_string();
        for variable in dotenvy::from_path_iter(path).with_context(shown)? {
            let (name, value) = variable.with_context(shown)?;
            variables.insert(name, value);
        }
    }
    let own = std::env::vars_os();
    variables.extend(
        own.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
    );
    Ok(variables.into_iter().collect())
}
