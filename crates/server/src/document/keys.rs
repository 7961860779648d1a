//! Keys of a document: what the value of each is, and which key an unknown
//! one was meant to be.

use serde_json::{Map, Value};

/// What a value is. Text is read as each of them: environment variables and
/// INI files have nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    /// From, up to.
    Number(i64, i64),
    Switch,
    /// Texts; as text, separated by commas.
    List,
    /// Names and scalars; as text, JSON.
    Map,
    /// Rate limits; as text, JSON.
    Rules,
    /// Names with something of their own each; as text, JSON.
    Structure,
    Choice(&'static [&'static str]),
    /// One value for all topics, or names of topics with one each; what holds
    /// for all others is called `default`. As text, JSON or a single value.
    PerTopic(&'static Kind),
    /// `host:port`, in any form that Erlang's users write it in.
    Brokers,
    /// A text, or Erlang's module and function as `module:function`.
    Callback,
    /// Anything; it is not needed here.
    Ignored,
}

/// A key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) path: &'static str,
    pub(crate) kind: Kind,
}

pub(crate) const fn key(path: &'static str, kind: Kind) -> Key {
    Key { path, kind }
}

/// The keys of a program, and how its environment variables begin.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) prefix: &'static str,
    pub(crate) keys: &'static [&'static [Key]],
    /// Whether a `.config` holds Erlang terms.
    pub(crate) reads_terms: bool,
    /// Keys whose values name files that count when they are read again.
    pub(crate) files: &'static [&'static str],
}

impl Schema {
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'static Key> + Clone + use<> {
        self.keys.iter().copied().flatten()
    }

    /// What stands at a path.
    pub(crate) fn find(&self, path: &str) -> Found {
        find(self.keys(), path)
    }
}

/// What stands at a path.
pub(crate) enum Found {
    Key(&'static Key),
    /// Keys begin with it.
    Section,
    /// Nothing; the key that is most like it, if any is like it.
    Nothing(Option<&'static str>),
}

/// How like a known key an unknown one has to be to be taken for it.
const ALIKE: f64 = 0.8;

fn find(keys: impl Iterator<Item = &'static Key> + Clone, path: &str) -> Found {
    if let Some(key) = keys.clone().find(|key| key.path == path) {
        return Found::Key(key);
    }
    let is_section = |key: &'static Key| {
        let rest = key.path.strip_prefix(path);
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    if keys.clone().any(is_section) {
        return Found::Section;
    }
    let nearest = keys
        .map(|key| (strsim::normalized_damerau_levenshtein(key.path, path), key))
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .filter(|(likeness, _)| *likeness >= ALIKE);
    Found::Nothing(nearest.map(|(_, key)| key.path))
}

/// The value in its key's form.
///
/// # Errors
/// What would be right.
pub(crate) fn fit(value: Value, kind: Kind) -> Result<Value, String> {
    let text = scalar(&value);
    match kind {
        Kind::Text => text
            .map(Value::String)
            .ok_or_else(|| "must be a text".to_owned()),
        Kind::Number(least, most) => text
            .and_then(|text| text.trim().parse::<i64>().ok())
            .filter(|number| (least..=most).contains(number))
            .map(Value::from)
            .ok_or_else(|| format!("must be a whole number from {least} to {most}")),
        Kind::Switch => match text.as_deref() {
            Some("true" | "1" | "yes" | "on") => Ok(Value::Bool(true)),
            Some("false" | "0" | "no" | "off") => Ok(Value::Bool(false)),
            _ => Err("must be true or false".to_owned()),
        },
        Kind::Choice(words) => text
            .filter(|text| words.contains(&text.as_str()))
            .map(Value::String)
            .ok_or_else(|| format!("must be one of {}", words.join(", "))),
        Kind::List => match (value, text) {
            (Value::Array(values), _) => values
                .iter()
                .map(|value| scalar(value).map(Value::String))
                .collect::<Option<_>>()
                .map(Value::Array)
                .ok_or_else(|| "must be a list of texts".to_owned()),
            (_, Some(text)) => {
                let parts = text.split(',').map(str::trim);
                let parts = parts.filter(|part| !part.is_empty());
                Ok(Value::Array(parts.map(Value::from).collect()))
            }
            _ => Err("must be a list of texts".to_owned()),
        },
        Kind::Map => match structure(value)? {
            Value::Object(map) => map
                .iter()
                .map(|(name, value)| Some((name.clone(), Value::String(scalar(value)?))))
                .collect::<Option<Map<_, _>>>()
                .map(Value::Object),
            _ => None,
        }
        .ok_or_else(|| "must be names with a text, number or boolean each".to_owned()),
        Kind::Structure => match structure(value)? {
            Value::Object(map) => Ok(Value::Object(map)),
            _ => Err("must be names with something of their own each".to_owned()),
        },
        Kind::Rules => match structure(value)? {
            Value::Array(rules) => Ok(Value::Array(rules)),
            _ => Err("must be a list of {topic_name, max_requests_per_minute}".to_owned()),
        },
        Kind::PerTopic(kind) => per_topic(value, *kind),
        Kind::Brokers => brokers(value),
        Kind::Callback => callback(&value)
            .map(Value::String)
            .ok_or_else(|| "must be a text, or a module and a function".to_owned()),
        Kind::Ignored => Ok(value),
    }
}

/// What all topics have that are not named.
pub(crate) const DEFAULT: &str = "default";

fn per_topic(value: Value, kind: Kind) -> Result<Value, String> {
    let value = match value {
        Value::String(text) if text.trim_start().starts_with('{') => {
            structure(Value::String(text))?
        }
        // A list of none.
        Value::Array(values) if values.is_empty() => Value::Object(Map::new()),
        other => other,
    };
    let Value::Object(topics) = value else {
        let value = fit(value, kind)?;
        return Ok(Value::Object(Map::from_iter([(DEFAULT.to_owned(), value)])));
    };
    let mut fitted = Map::new();
    for (topic, value) in topics {
        if value.is_null() {
            continue;
        }
        let value = fit(value, kind).map_err(|wanted| format!("of {topic} {wanted}"))?;
        fitted.insert(topic, value);
    }
    Ok(Value::Object(fitted))
}

fn brokers(value: Value) -> Result<Value, String> {
    let wrong = || "must be host:port, or a list of them".to_owned();
    let joined = |host: &str, port: &Value| {
        let port = scalar(port).filter(|port| port.parse::<u16>().is_ok());
        port.map(|port| format!("{host}:{port}"))
    };
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(pair) => match &pair[..] {
            [Value::String(host), port] => joined(host, port),
            _ => None,
        },
        _ => None,
    };
    let found: Option<Vec<String>> = match &value {
        Value::Array(values) => match &values[..] {
            [Value::String(host), Value::Number(port)] => Some(
                joined(host, &Value::Number(port.clone()))
                    .into_iter()
                    .collect(),
            ),
            values => values.iter().map(one).collect(),
        },
        Value::Object(hosts) => hosts
            .iter()
            .map(|(host, port)| joined(host, port))
            .collect(),
        _ => return fit(value, Kind::List).map_err(|_| wrong()),
    };
    let found = found.ok_or_else(wrong)?;
    Ok(Value::Array(found.into_iter().map(Value::String).collect()))
}

fn callback(value: &Value) -> Option<String> {
    let Value::Array(parts) = value else {
        return scalar(value);
    };
    match &parts[..] {
        [Value::String(module), Value::String(function)] => Some(format!("{module}:{function}")),
        _ => None,
    }
}

/// Text is read as JSON.
fn structure(value: Value) -> Result<Value, String> {
    match value {
        Value::String(text) => {
            serde_json::from_str(&text).map_err(|error| format!("is no JSON: {error}"))
        }
        other => Ok(other),
    }
}

/// A text, number or boolean as text.
pub(crate) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_erlang_writes_is_read() {
        const NUMBERS: Kind = Kind::PerTopic(&Kind::Number(0, 9));
        for (value, kind, expected) in [
            (json!(7), NUMBERS, json!({"default": 7})),
            (json!("7"), NUMBERS, json!({"default": 7})),
            (
                json!({"t": 1, "default": 2}),
                NUMBERS,
                json!({"t": 1, "default": 2}),
            ),
            (json!(r#"{"t": 1}"#), NUMBERS, json!({"t": 1})),
            (json!({"t": null}), NUMBERS, json!({})),
            (json!([]), NUMBERS, json!({})),
            (json!("a:1, b:2"), Kind::Brokers, json!(["a:1", "b:2"])),
            (json!(["a", 1]), Kind::Brokers, json!(["a:1"])),
            (
                json!([["a", 1], "b:2"]),
                Kind::Brokers,
                json!(["a:1", "b:2"]),
            ),
            (
                json!({"a": 1, "b": 2}),
                Kind::Brokers,
                json!(["a:1", "b:2"]),
            ),
            (json!(["m", "f"]), Kind::Callback, json!("m:f")),
            (json!("hook.lua"), Kind::Callback, json!("hook.lua")),
            (json!([1]), Kind::Ignored, json!([1])),
        ] {
            assert_eq!(fit(value, kind), Ok(expected));
        }
        for (value, kind, expected) in [
            (
                json!({"t": 10}),
                NUMBERS,
                "of t must be a whole number from 0 to 9",
            ),
            (
                json!(["a", 70_000, 1]),
                Kind::Brokers,
                "must be host:port, or a list of them",
            ),
            (
                json!({"a": 70_000}),
                Kind::Brokers,
                "must be host:port, or a list of them",
            ),
            (
                json!(["m"]),
                Kind::Callback,
                "must be a text, or a module and a function",
            ),
        ] {
            assert_eq!(fit(value, kind), Err(expected.to_owned()));
        }
    }

    #[test]
    fn text_is_read_as_what_it_should_be() {
        let fits = |text: &str, kind| fit(Value::String(text.to_owned()), kind).unwrap();
        assert_eq!(fits("7", Kind::Number(0, 9)), json!(7));
        assert_eq!(fits("true", Kind::Switch), json!(true));
        assert_eq!(fits("a:1, b:2,", Kind::List), json!(["a:1", "b:2"]));
        assert_eq!(fits(r#"{"a": 1}"#, Kind::Map), json!({"a": "1"}));
        assert_eq!(fits("[]", Kind::Rules), json!([]));
        for (value, kind, expected) in [
            (
                json!(10),
                Kind::Number(0, 9),
                "must be a whole number from 0 to 9",
            ),
            (
                json!(1.5),
                Kind::Number(0, 9),
                "must be a whole number from 0 to 9",
            ),
            (json!("maybe"), Kind::Switch, "must be true or false"),
            (json!("x"), Kind::Choice(&["a", "b"]), "must be one of a, b"),
            (json!({}), Kind::Text, "must be a text"),
            (json!([{}]), Kind::List, "must be a list of texts"),
            (
                json!("[1]"),
                Kind::Map,
                "must be names with a text, number or boolean each",
            ),
        ] {
            assert_eq!(fit(value, kind).unwrap_err(), expected);
        }
    }
}
