//! Bearer tokens as configurations write them (contract,
//! `consume-and-ack.md`, section 13, B6): a map from each token to a list of
//! grants, `{clusters: […], topics: […], actions: […]}`.

use anyhow::{Context as _, Result, bail};
use barnabas_engine::{Access, Action, Grant};
use serde_norway::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

const ACTIONS: &str = "produce, consume, describe, manage";

/// Tokens and what they may do. `Debug` hides them, and problems name them by
/// their place.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Tokens(BTreeMap<String, Vec<Grant>>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens", self.0.len())
    }
}

impl Tokens {
    /// Reads a map; returns every problem, each beginning with its place.
    pub(crate) fn read(value: &Value) -> Result<Self, Vec<String>> {
        let mapping = match value {
            Value::Null => return Ok(Self::default()),
            Value::Mapping(mapping) => mapping,
            _ => {
                return Err(vec![
                    "a map from tokens to lists of grants is wanted".into(),
                ]);
            }
        };
        let mut tokens = BTreeMap::new();
        let mut problems = Vec::new();
        for (index, (token, grants)) in mapping.iter().enumerate() {
            let place = format!("token {}", index + 1);
            match token.as_str() {
                Some(token) if is_possible(token) => {
                    let grants = read_grants(grants, &place, &mut problems);
                    tokens.insert(token.to_owned(), grants);
                }
                _ => problems.push(format!(
                    "{place}: a text without spaces is wanted, in quotation marks if it is a number"
                )),
            }
        }
        if problems.is_empty() {
            Ok(Self(tokens))
        } else {
            Err(problems)
        }
    }

    /// Reads a file that holds nothing but such a map.
    ///
    /// # Errors
    /// The file cannot be read, or what is wrong with it.
    fn load(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        let value = serde_norway::from_str(&text).with_context(|| shown.to_string())?;
        match Self::read(&value) {
            Ok(tokens) => Ok(tokens),
            Err(problems) => bail!("{shown}: {}", problems.join("; ")),
        }
    }

    /// Adds those of a file, `access.tokens_file`; adds what is wrong with it to
    /// `problems`.
    pub(crate) fn add_file(&mut self, path: &Path, problems: &mut Vec<String>) {
        let (key, shown) = ("access.tokens_file", path.display());
        match Self::load(path) {
            // Else a file that was emptied would open everything.
            Ok(own) if own.is_empty() => problems.push(format!("{key}: {shown}: no tokens")),
            Ok(own) => {
                if !self.merge(own) {
                    problems.push(format!("{key}: a token is in access.tokens, too"));
                }
            }
            Err(error) => problems.push(format!("{key}: {error:#}")),
        }
    }

    /// Adds those of `other`; false if one of them is there already.
    fn merge(&mut self, other: Self) -> bool {
        let is_new = other.0.keys().all(|token| !self.0.contains_key(token));
        self.0.extend(other.0);
        is_new
    }

    /// Without any, everybody may do everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the front ends ask.
    pub(crate) fn access(self) -> Arc<Access> {
        Arc::new(match self.is_empty() {
            true => Access::open(),
            false => Access::only(self.0),
        })
    }
}

/// What can stand behind `Bearer` in a header (RFC 6750, section 2.1).
fn is_possible(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

fn read_grants(value: &Value, place: &str, problems: &mut Vec<String>) -> Vec<Grant> {
    let Value::Sequence(values) = value else {
        problems.push(format!("{place}: a list of grants is wanted"));
        return Vec::new();
    };
    let grants = values.iter().enumerate();
    grants
        .filter_map(|(index, value)| {
            let place = format!("{place}, grant {}", index + 1);
            read_grant(value)
                .map_err(|reason| problems.push(format!("{place}: {reason}")))
                .ok()
        })
        .collect()
}

fn read_grant(value: &Value) -> Result<Grant, String> {
    let Value::Mapping(mapping) = value else {
        return Err("clusters, topics and actions are wanted".to_owned());
    };
    let everything = || vec!["*".to_owned()];
    let (mut clusters, mut topics, mut actions) = (everything(), everything(), Vec::new());
    for (name, value) in mapping {
        match name.as_str() {
            Some("clusters") => clusters = texts("clusters", value)?,
            Some("topics") => topics = texts("topics", value)?,
            Some("actions") => {
                for name in texts("actions", value)? {
                    let action = Action::from_name(&name);
                    actions.push(
                        action.ok_or_else(|| {
                            format!("actions: \"{name}\" must be one of {ACTIONS}")
                        })?,
                    );
                }
            }
            _ => {
                let name = name.as_str().unwrap_or_default();
                return Err(format!(
                    "{name}: no such key, only clusters, topics, actions"
                ));
            }
        }
    }
    if actions.is_empty() {
        return Err(format!("actions: missing, some of {ACTIONS}"));
    }
    Ok(Grant {
        clusters,
        topics,
        actions,
    })
}

fn texts(name: &str, value: &Value) -> Result<Vec<String>, String> {
    let values = match value {
        Value::Sequence(values) => values.as_slice(),
        one => std::slice::from_ref(one),
    };
    let texts = values
        .iter()
        .map(|value| value.as_str().map(str::to_owned))
        .collect::<Option<Vec<_>>>();
    texts.ok_or_else(|| format!("{name}: a list of texts is wanted"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Tokens, Vec<String>> {
        Tokens::read(&serde_norway::from_str(text).unwrap())
    }

    #[test]
    fn tokens_have_grants() {
        let tokens = read(
            "s3cret: [{topics: ['a.*'], actions: [produce, consume]}]\nidle: []\nall: [{clusters: \
             [main], actions: [manage]}]",
        )
        .unwrap();
        assert_eq!(format!("{tokens:?}"), "3 tokens");
        let access = tokens.access();
        let check = |token, action, topic| access.is_allowed(Some(token), action, "main", topic);
        assert!(check("s3cret", Action::Produce, "a.b"));
        assert!(!check("s3cret", Action::Produce, "b"));
        assert!(!check("s3cret", Action::Describe, "a.b"));
        assert!(check("all", Action::Manage, "x"));
        assert!(!check("idle", Action::Consume, "a.b"));
        assert!(read("").unwrap().access().is_open());
    }

    #[test]
    fn every_problem_is_said_and_no_token() {
        let problems = read(
            "hunter2: [{topic: [a], actions: [consume]}, {actions: [eat]}, {topics: [a]}]\n'a b': \
             []\nhunter3: {}\nhunter4: [{actions: [consume], topics: [[]]}]",
        );
        let said = problems.unwrap_err().join("\n");
        for expected in [
            "token 1, grant 1: topic: no such key, only clusters, topics, actions",
            "token 1, grant 2: actions: \"eat\" must be one of produce, consume, describe, manage",
            "token 1, grant 3: actions: missing",
            "token 2: a text without spaces",
            "token 3: a list of grants is wanted",
            "token 4, grant 1: topics: a list of texts is wanted",
        ] {
            assert!(said.contains(expected), "{expected} is not in:\n{said}");
        }
        assert!(!said.contains("hunter"), "{said}");
        assert!(read("[]").is_err());
    }

    #[test]
    fn a_token_may_stand_in_one_place_only() {
        let mut tokens = read("a: []").unwrap();
        assert!(tokens.merge(read("b: []").unwrap()));
        assert!(!tokens.merge(read("a: []").unwrap()));
    }
}
