//! The sections `tracing` and `otlp` of the old program's file, which it did
//! not have: keys as in our own file.

use super::file::File;
use crate::telemetry::Settings;
use anyhow::{Result, bail};
use serde_norway::Value;
use std::collections::BTreeMap;

const TRACING: &[&str] = &["propagate"];
const OTLP: &[&str] = &[
    "endpoint",
    "protocol",
    "headers",
    "traces",
    "metrics",
    "interval_ms",
    "sample_ratio",
    "service_name",
];

/// Reads both.
///
/// # Errors
/// Everything that is wrong in them.
pub(super) fn settings(
    file: &File,
    variables: &[(String, String)],
    warnings: &mut Vec<String>,
) -> Result<Settings> {
    let sections = [
        ("tracing", &file.tracing, TRACING),
        ("otlp", &file.otlp, OTLP),
    ];
    for (section, values, known) in sections {
        let keys = values.iter().flat_map(BTreeMap::keys);
        let unknown = keys.filter(|key| !known.contains(&key.as_str()));
        warnings.extend(unknown.map(|key| format!("unknown key: {section}.{key}")));
    }
    let text = |path: &str| {
        let (section, key) = path.split_once('.')?;
        let values = match section {
            "tracing" => file.tracing.as_ref()?,
            _ => file.otlp.as_ref()?,
        };
        values.get(key).and_then(scalar)
    };
    let mut problems = Vec::new();
    let mut headers = Vec::new();
    let otlp = file.otlp.as_ref();
    match otlp.and_then(|otlp| otlp.get("headers")) {
        None | Some(Value::Null) => {}
        Some(Value::Mapping(own)) => {
            for (name, value) in own {
                match (scalar(name), scalar(value)) {
                    (Some(name), Some(value)) => headers.push((name, value)),
                    _ => problems.push("otlp.headers: must be names with a text each".to_owned()),
                }
            }
        }
        Some(_) => problems.push("otlp.headers: must be names with a text each".to_owned()),
    }
    let settings = Settings::of(text, headers, variables, &mut problems);
    if !problems.is_empty() {
        bail!("{}", problems.join("; "));
    }
    Ok(settings)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Result<Settings>, Vec<String>) {
        let file: File = serde_norway::from_str(text).unwrap();
        let mut warnings = Vec::new();
        (settings(&file, &[], &mut warnings), warnings)
    }

    #[test]
    fn both_sections_are_read_and_checked() {
        let (good, warnings) = read(
            "tracing: {propagate: false, more: 1}\notlp: {endpoint: 'http://a:1', sample_ratio: \
             0.5, traces: true, headers: {a: b, c: 7}}",
        );
        let shown = format!("{:?}", good.unwrap());
        for expected in ["propagates: false", "ratio: 0.5", "\"a:1\"", "\"c\""] {
            assert!(shown.contains(expected), "{expected}: {shown}");
        }
        assert_eq!(warnings, ["unknown key: tracing.more"]);
        let (bad, _) = read("otlp: {endpoint: 'x y', interval_ms: soon, headers: [a]}");
        let bad = bad.unwrap_err().to_string();
        for expected in [
            "otlp.headers: must be",
            "otlp.endpoint: ",
            "otlp.interval_ms: ",
        ] {
            assert!(bad.contains(expected), "{expected}: {bad}");
        }
    }
}
