//! Environment variables in front of the file: `BARNABAS_REDIS__LISTEN` is
//! `redis.listen`.

use super::keys::{self, Found, Kind};
use barnabas_engine::Properties;
use serde_norway::{Mapping, Value};

const PREFIX: &str = "BARNABAS_";
/// What the tests' own switches begin with; not configuration.
const RESERVED: &str = "BARNABAS_TESTKIT_";

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
        let lower = rest.to_lowercase();
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
                Found::Key(key) if key.kind == Kind::Map => {
                    let mut path: Vec<String> = owned(rest);
                    // Few properties have an underscore of their own.
                    let is_literal = key.path == "redis.users" || Properties::is_known(name);
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
        Kind::Number(_) | Kind::List | Kind::Map => serde_norway::from_str(text),
    }
}

fn set(document: &mut Value, path: &[String], value: Value) {
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
