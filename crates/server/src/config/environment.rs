//! Environment variables in front of the file: `BARNABAS_REDIS__LISTEN` is
//! `redis.listen`. `BARNABAS_REDIS__PASSWORD_FILE` names a file that holds
//! `redis.password`, for secrets that are mounted as files.

use super::keys::{self, Found, Kind};
use barnabas_engine::Properties;
use serde_norway::{Mapping, Value};

const PREFIX: &str = "BARNABAS_";
/// What the tests' own switches begin with; not configuration.
const RESERVED: &str = "BARNABAS_TESTKIT_";

/// A variable of this end names a file that holds the value.
const FILE: &str = "_file";

/// Whether a variable's name, in small letters and without the prefix, is that
/// of a key, of a property that there is, or of a name of the user's.
fn is_key(lower: &str) -> bool {
    let parts: Vec<&str> = lower.split("__").collect();
    let Ok((path, _)) = target(&parts) else {
        return false;
    };
    let is_property = lower.starts_with("clusters__")
        && matches!(keys::find(&parts.join(".")), Found::Nothing(_));
    !is_property || path.last().is_some_and(|name| Properties::is_known(name))
}

/// Writes the variables into the document; returns what is wrong with them.
pub(super) fn override_with(
    document: &mut Value,
    variables: impl Iterator<Item = (String, String)>,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (variable, text) in variables {
        let Some(rest) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        if variable.starts_with(RESERVED) {
            continue;
        }
        let mut text = text;
        let mut lower = rest.to_lowercase();
        // There are keys that end so, too.
        if let Some(short) = lower.strip_suffix(FILE)
            && !is_key(&lower)
            && is_key(short)
        {
            match std::fs::read_to_string(&text) {
                Ok(held) => text = held.trim_end_matches(['\r', '\n']).to_owned(),
                Err(error) => {
                    problems.push(format!("{variable}: cannot read {text}: {error}"));
                    continue;
                }
            }
            lower.truncate(short.len());
        }
        let parts: Vec<&str> = lower.split("__").collect();
        match target(&parts) {
            Ok((path, kind)) => match parse(&text, kind) {
                Ok(value) => set(document, &path, value),
                Err(error) => problems.push(format!("{variable}: {error}")),
            },
            Err(nearest) => {
                let hint = nearest.map_or(String::new(), |nearest| {
                    format!(", did you mean {nearest}?")
                });
                problems.push(format!("{variable}: no such key{hint}"));
            }
        }
    }
    problems
}

/// The path that the parts name, and what its value must be. Below a map,
/// the last part is a property's name with `_` for its dots.
fn target(parts: &[&str]) -> Result<(Vec<String>, Kind), Option<String>> {
    let owned = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
    match keys::find(&parts.join(".")) {
        Found::Key(key) => Ok((owned(parts), key.kind)),
        Found::Section => Err(None),
        Found::Nothing(nearest) => match parts.split_last() {
            Some((name, rest)) => match keys::find(&rest.join(".")) {
                Found::Key(key)
                    if matches!(
                        key.kind,
                        Kind::Map | Kind::Choices(_) | Kind::Numbers(_) | Kind::Texts
                    ) =>
                {
                    let mut path: Vec<String> = owned(rest);
                    // Few properties have an underscore of their own.
                    let is_literal = key.kind != Kind::Map
                        || key.path == "redis.users"
                        || Properties::is_known(name);
                    path.push(if is_literal {
                        (*name).to_owned()
                    } else {
                        name.replace('_', ".")
                    });
                    Ok((path, Kind::Text))
                }
                _ => Err(nearest),
            },
            None => Err(nearest),
        },
    }
}

/// Texts are taken as they are; everything else is read as YAML.
fn parse(text: &str, kind: Kind) -> Result<Value, serde_norway::Error> {
    match kind {
        Kind::Text | Kind::Choice(_) | Kind::Duration => Ok(Value::String(text.to_owned())),
        Kind::Number(_)
        | Kind::List
        | Kind::Map
        | Kind::Switch
        | Kind::Tokens
        | Kind::Choices(_)
        | Kind::Numbers(_)
        | Kind::Texts => serde_norway::from_str(text),
    }
}

/// Sets the value at a path; what is on the way and no map gives way to one.
pub(crate) fn set(document: &mut Value, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        *document = value;
        return;
    };
    if !document.is_mapping() {
        *document = Value::Mapping(Mapping::new());
    }
    if let Value::Mapping(mapping) = document {
        // Variables have no case; names in the file may.
        let same = mapping
            .keys()
            .filter_map(Value::as_str)
            .find(|key| key.eq_ignore_ascii_case(first))
            .unwrap_or(first)
            .to_owned();
        let entry = mapping.entry(Value::String(same)).or_insert(Value::Null);
        set(entry, rest, value);
    }
}
