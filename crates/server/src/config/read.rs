//! Walks a document along the keys, and keeps what it finds by path.

use super::keys::{self, Found, Kind};
use crate::tokens::Tokens;
use serde_norway::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The name that stands for all topics that are not named.
pub(super) const DEFAULT: &str = "default";

/// A value that fits its key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fit {
    Text(String),
    Number(usize),
    Duration(Duration, String),
    List(Vec<String>),
    Map(Vec<(String, String)>),
    Switch(bool),
    Tokens(Tokens),
}

/// What a document says, by path.
#[derive(Debug, Default)]
pub(crate) struct Document {
    values: BTreeMap<String, Fit>,
    clusters: Vec<String>,
}

impl Document {
    /// Reads what is below `path`; adds what is wrong to `problems`.
    pub(crate) fn read(value: &Value, path: &str, problems: &mut Vec<String>) -> Self {
        let mut document = Self::default();
        document.walk(value, path, problems);
        document
    }

    fn walk(&mut self, value: &Value, path: &str, problems: &mut Vec<String>) {
        let Value::Mapping(mapping) = value else {
            if !value.is_null() {
                problems.push(format!("{path}: {} instead of keys", shown(value)));
            }
            return;
        };
        for (name, value) in mapping {
            let Some(name) = scalar(name) else {
                problems.push(format!("{path}: {} is no key", shown(name)));
                continue;
            };
            if path == "clusters" {
                self.clusters.push(name.clone());
            }
            let path = if path.is_empty() {
                name
            } else {
                format!("{path}.{name}")
            };
            match keys::find(&path) {
                Found::Section => self.walk(value, &path, problems),
                // Given but empty is not given.
                Found::Key(_) if value.is_null() => {}
                Found::Key(key) if key.kind == Kind::Tokens => match Tokens::read(value) {
                    Ok(tokens) => {
                        self.values.insert(path, Fit::Tokens(tokens));
                    }
                    Err(found) => {
                        problems.extend(found.iter().map(|problem| format!("{path}: {problem}")));
                    }
                },
                Found::Key(key) => match fit(value, key.kind) {
                    Ok(fit) => {
                        self.values.insert(path, fit);
                    }
                    Err(wanted) => {
                        problems.push(format!("{path}: {} must be {wanted}", shown(value)));
                    }
                },
                Found::Nothing(nearest) => {
                    let hint = nearest.map_or(String::new(), |nearest| {
                        format!(", did you mean {nearest}?")
                    });
                    problems.push(format!("{path}: no such key{hint}"));
                }
            }
        }
    }

    /// The keys whose values differ, and clusters that only one of them has.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let all = self.values.keys().chain(other.values.keys());
        let mut keys: BTreeSet<String> = all
            .filter(|path| self.values.get(*path) != other.values.get(*path))
            .cloned()
            .collect();
        for (one, other) in [(self, other), (other, self)] {
            let only = one.clusters.iter();
            let only = only.filter(|name| !other.clusters.contains(name));
            keys.extend(only.map(|name| format!("clusters.{name}")));
        }
        keys.into_iter().collect()
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.values.contains_key(path)
    }

    pub(crate) fn clusters(&self) -> impl Iterator<Item = &str> {
        self.clusters.iter().map(String::as_str)
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        match self.values.get(path) {
            Some(Fit::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn number(&self, path: &str) -> Option<usize> {
        match self.values.get(path) {
            Some(Fit::Number(number)) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn duration(&self, path: &str) -> Option<Duration> {
        match self.values.get(path) {
            Some(Fit::Duration(duration, _)) => Some(*duration),
            _ => None,
        }
    }

    pub(crate) fn list(&self, path: &str) -> Option<&[String]> {
        match self.values.get(path) {
            Some(Fit::List(list)) => Some(list),
            _ => None,
        }
    }

    pub(crate) fn map(&self, path: &str) -> Option<&[(String, String)]> {
        match self.values.get(path) {
            Some(Fit::Map(map)) => Some(map),
            _ => None,
        }
    }

    /// What is given for each topic; one value for all is that of
    /// [`DEFAULT`].
    pub(super) fn topics(&self, path: &str) -> Vec<(&str, &str)> {
        match self.values.get(path) {
            Some(Fit::Text(text)) => vec![(DEFAULT, text.as_str())],
            Some(Fit::Map(map)) => {
                let topics = map.iter();
                topics.map(|(topic, value)| (&**topic, &**value)).collect()
            }
            _ => Vec::new(),
        }
    }

    pub(crate) fn switch(&self, path: &str) -> Option<bool> {
        match self.values.get(path) {
            Some(Fit::Switch(is_on)) => Some(*is_on),
            _ => None,
        }
    }

    /// A text, number or switch, as text.
    pub(super) fn scalar(&self, path: &str) -> Option<String> {
        match self.values.get(path)? {
            Fit::Text(text) => Some(text.clone()),
            Fit::Number(number) => Some(number.to_string()),
            Fit::Switch(is_on) => Some(is_on.to_string()),
            _ => None,
        }
    }

    pub(super) fn tokens(&self, path: &str) -> Option<&Tokens> {
        match self.values.get(path) {
            Some(Fit::Tokens(tokens)) => Some(tokens),
            _ => None,
        }
    }

    /// The value at a path as it was written.
    #[cfg(test)]
    pub(super) fn shown(&self, path: &str) -> Option<String> {
        Some(match self.values.get(path)? {
            Fit::Text(text) | Fit::Duration(_, text) => text.clone(),
            Fit::Number(number) => number.to_string(),
            Fit::List(list) => list.join(", "),
            Fit::Switch(is_on) => is_on.to_string(),
            Fit::Map(_) | Fit::Tokens(_) => return None,
        })
    }
}

/// The value in its key's form, or what would be right.
fn fit(value: &Value, kind: Kind) -> Result<Fit, String> {
    let text = || scalar(value);
    match kind {
        Kind::Text => text().map(Fit::Text).ok_or_else(|| "a text".to_owned()),
        Kind::Number(least) => text()
            .and_then(|text| text.parse().ok())
            .filter(|number| *number >= least)
            .map(Fit::Number)
            .ok_or_else(|| format!("a whole number of at least {least}")),
        Kind::Choice(words) => text()
            .filter(|text| words.contains(&text.as_str()))
            .map(Fit::Text)
            .ok_or_else(|| format!("one of {}", words.join(", "))),
        Kind::Duration => text()
            .and_then(|text| Some(Fit::Duration(duration(&text)?, text)))
            .ok_or_else(|| "a number with its unit, such as 500ms, 10s or 2m".to_owned()),
        Kind::List => match value {
            Value::Sequence(values) => values.iter().map(scalar).collect::<Option<Vec<_>>>(),
            other => scalar(other).map(|text| vec![text]),
        }
        .map(Fit::List)
        .ok_or_else(|| "a list of texts".to_owned()),
        Kind::Switch => text()
            .and_then(|text| text.parse().ok())
            .map(Fit::Switch)
            .ok_or_else(|| "true or false".to_owned()),
        // Read where it was found: its problems are many.
        Kind::Tokens => Err("tokens".to_owned()),
        Kind::Choices(words) => each(value, |word| words.contains(&word)).ok_or_else(|| {
            let words = words.join(", ");
            format!("one of {words}, or names with one of them each")
        }),
        Kind::Numbers(least) => {
            let is_good = |text: &str| text.parse::<usize>().is_ok_and(|number| number >= least);
            each(value, is_good).ok_or_else(|| {
                format!("a whole number of at least {least}, or names with one each")
            })
        }
        Kind::Texts => {
            each(value, |_| true).ok_or_else(|| "a text, or names with one each".to_owned())
        }
        Kind::Map => {
            let wanted = || "names with a text, number or boolean each".to_owned();
            let Value::Mapping(mapping) = value else {
                return Err(wanted());
            };
            mapping
                .iter()
                .map(|(name, value)| Some((scalar(name)?, scalar(value)?)))
                .collect::<Option<Vec<_>>>()
                .map(Fit::Map)
                .ok_or_else(wanted)
        }
    }
}

/// One value, or one for each name.
fn each(value: &Value, is_good: impl Fn(&str) -> bool) -> Option<Fit> {
    let good = |value: &Value| scalar(value).filter(|text| is_good(text));
    let Value::Mapping(mapping) = value else {
        return good(value).map(Fit::Text);
    };
    let named = mapping.iter();
    let named = named.map(|(name, value)| Some((scalar(name)?, good(value)?)));
    named.collect::<Option<Vec<_>>>().map(Fit::Map)
}

/// A text, number or boolean as text.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// A value in a message: scalars quoted, the rest by its kind.
fn shown(value: &Value) -> String {
    match scalar(value) {
        Some(text) => format!("\"{text}\""),
        None => match value {
            Value::Sequence(_) => "a list".to_owned(),
            Value::Mapping(_) => "a map".to_owned(),
            _ => "nothing".to_owned(),
        },
    }
}

fn duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(split)?;
    let number: u64 = number.parse().ok()?;
    match unit.trim() {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_secs(number.checked_mul(60)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("17s"), Some(Duration::from_secs(17)));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
        for bad in ["", "5", "s", "-1s", "5 days", "1.5s"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
