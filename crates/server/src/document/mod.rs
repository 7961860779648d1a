//! Files and environment variables as one document: values by key, each in its
//! key's form (contract, `producer-http.md`, sections 3 and 7.2).
//!
//! In reading order: this file, `keys` (what values are), `sections` (what
//! several programs have), `terms` (Erlang's), `written` (a document that is
//! kept).

pub(crate) mod journal;
pub(crate) mod keys;
pub(crate) mod sections;
mod terms;
mod written;

pub(crate) use written::Written;

use anyhow::{Context as _, Error, Result, bail};
use barnabas_engine::Properties;
use barnabas_redis::TlsFiles;
use configparser::ini::Ini;
use keys::{Found, Kind, Schema};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A variable of this end names a file that holds the value.
const FILE: &str = "_FILE";
/// What a name without an extension is tried with.
const EXTENSIONS: [&str; 6] = ["yaml", "yml", "json", "toml", "hjson", "ini"];

/// What OpenTelemetry's variables begin with.
const OPEN_TELEMETRY: &str = "OTEL_";

/// Those variables; there are secrets among them.
#[derive(Default)]
struct OpenTelemetry(Vec<(String, String)>);

impl std::fmt::Debug for OpenTelemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.0.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

/// What is configured, by path.
#[derive(Debug)]
pub(crate) struct Document {
    schema: &'static Schema,
    values: BTreeMap<&'static str, Value>,
    /// Top-level names that are there, whatever is in them.
    sections: Vec<String>,
    variables: OpenTelemetry,
    pub(crate) warnings: Vec<String>,
    pub(crate) problems: Vec<String>,
}

impl Document {
    /// The file, if there is one, with the variables in front of it.
    ///
    /// # Errors
    /// A file that cannot be read or is not in its format.
    pub(crate) fn read(
        schema: &'static Schema,
        path: Option<&Path>,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self> {
        let mut document = Self {
            schema,
            values: BTreeMap::new(),
            sections: Vec::new(),
            variables: OpenTelemetry::default(),
            warnings: Vec::new(),
            problems: Vec::new(),
        };
        if let Some(path) = path {
            let file = find(path)?;
            let text = std::fs::read_to_string(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            let root = match extension(&file) {
                "config" if schema.reads_terms => terms::parse(&text).map_err(Error::from),
                extension => parse(&text, extension),
            };
            let root = root.with_context(|| file.display().to_string())?;
            document.add(root, "");
        }
        for (variable, text) in variables {
            match variable.starts_with(OPEN_TELEMETRY) {
                true => document.variables.0.push((variable, text)),
                false => document.override_with(&variable, text),
            }
        }
        Ok(document)
    }

    /// OpenTelemetry's variables, which are not ours alone.
    pub(crate) fn variables(&self) -> &[(String, String)] {
        &self.variables.0
    }

    /// The keys whose values differ.
    pub(crate) fn differences(&self, other: &Self) -> BTreeSet<&'static str> {
        let all = self.values.keys().chain(other.values.keys());
        all.copied()
            .filter(|path| self.get(path) != other.get(path))
            .collect()
    }

    /// Whether a section is there, if only with one key.
    pub(crate) fn has_section(&self, name: &str) -> bool {
        self.sections.iter().any(|own| own == name)
    }

    pub(crate) fn get(&self, path: &str) -> Option<&Value> {
        self.values.get(path)
    }

    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.get(path)?.as_str().filter(|text| !text.is_empty())
    }

    /// The files below `path`, if there are any. One without the other would be
    /// plaintext, unnoticed.
    pub(crate) fn tls(&self, path: &str, problems: &mut Vec<String>) -> Option<TlsFiles> {
        let file = |name: &str| self.text(&format!("{path}.{name}")).map(Into::into);
        let client_ca = file("client_ca");
        match (file("cert"), file("key")) {
            (Some(cert), Some(key)) => {
                return Some(TlsFiles {
                    cert,
                    key,
                    client_ca,
                });
            }
            (None, None) if client_ca.is_none() => {}
            _ => problems.push(format!("{path} needs cert and key together")),
        }
        None
    }

    pub(crate) fn number(&self, path: &str) -> Option<i64> {
        self.get(path)?.as_i64()
    }

    pub(crate) fn switch(&self, path: &str) -> bool {
        self.get(path).and_then(Value::as_bool).unwrap_or(false)
    }

    /// What a key says of topics, and of all others.
    pub(crate) fn topics(&self, path: &str) -> impl Iterator<Item = (&str, &Value)> {
        let topics = self.get(path).and_then(Value::as_object);
        let topics = topics.into_iter().flatten();
        topics.map(|(topic, value)| (topic.as_str(), value))
    }

    /// The files that a key names, for all topics or for each.
    pub(crate) fn files(&self, path: &str) -> impl Iterator<Item = PathBuf> {
        let named: Vec<&Value> = match self.get(path) {
            Some(Value::Object(topics)) => topics.values().collect(),
            Some(value) => vec![value],
            None => Vec::new(),
        };
        let named = named.into_iter().filter_map(Value::as_str);
        named.filter(|name| !name.is_empty()).map(PathBuf::from)
    }

    /// Names and values of a map.
    pub(crate) fn map(&self, path: &str) -> impl Iterator<Item = (&str, &str)> {
        self.topics(path)
            .map(|(name, value)| (name, value.as_str().unwrap_or_default()))
    }

    pub(crate) fn list(&self, path: &str) -> Vec<String> {
        let values = self.get(path).and_then(Value::as_array);
        let texts = values.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    }

    fn add(&mut self, value: Value, path: &str) {
        let members = match value {
            Value::Object(members) => members,
            // An empty file is no problem, nor an empty section.
            Value::Null => return,
            _ if path.is_empty() => {
                self.problems.push("there are no keys".to_owned());
                return;
            }
            _ => {
                self.problems.push(format!("{path} must have keys"));
                return;
            }
        };
        for (name, value) in members {
            let path = match path {
                "" => {
                    self.sections.push(name.clone());
                    name
                }
                _ => format!("{path}.{name}"),
            };
            match self.schema.find(&path) {
                Found::Section => self.add(value, &path),
                Found::Key(key) => self.set(key, value, &path),
                Found::Nothing(nearest) => self.warn_of("key", &path, nearest),
            }
        }
    }

    fn set(&mut self, key: &'static keys::Key, value: Value, shown: &str) {
        if value.is_null() {
            // kprf crashes here; it is the default.
            return;
        }
        match keys::fit(value, key.kind) {
            Ok(mut value) => {
                // What holds for all others may have the key's own name.
                if let (keys::Kind::PerTopic(_), Value::Object(topics)) = (key.kind, &mut value)
                    && let Some((_, own)) = key.path.rsplit_once('.')
                    && let Some(default) = topics.remove(own)
                {
                    topics.entry(keys::DEFAULT).or_insert(default);
                }
                self.values.insert(key.path, value);
            }
            Err(wanted) => self.problems.push(format!("{shown} {wanted}")),
        }
    }

    fn warn_of(&mut self, what: &str, name: &str, nearest: Option<&str>) {
        let hint = nearest.map_or(String::new(), |nearest| {
            format!(", did you mean {nearest}?")
        });
        self.warnings.push(format!("unknown {what} {name}{hint}"));
    }

    fn override_with(&mut self, variable: &str, text: String) {
        let Some(rest) = variable.strip_prefix(self.schema.prefix) else {
            return;
        };
        let path = rest.to_lowercase().replace("__", ".");
        if let Some(rest) = rest.strip_suffix(FILE) {
            let of_file = rest.to_lowercase().replace("__", ".");
            // `KPRF_OUTPUT_FILE` is a key of its own.
            if !matches!(self.schema.find(&path), Found::Key(_)) {
                match std::fs::read_to_string(&text) {
                    Ok(secret) => {
                        let secret = secret.trim_end_matches(['\r', '\n']);
                        self.set_by_path(&of_file, variable, secret.to_owned());
                    }
                    Err(error) => {
                        let problem = format!("{variable}: cannot read {text}: {error}");
                        self.problems.push(problem);
                    }
                }
                return;
            }
        }
        self.set_by_path(&path, variable, text);
    }

    fn set_by_path(&mut self, path: &str, variable: &str, text: String) {
        let section = path.split('.').next().unwrap_or_default().to_owned();
        match self.schema.find(path) {
            Found::Key(key) => {
                self.sections.push(section);
                self.set(key, Value::String(text), variable);
            }
            Found::Section => self.warn_of("variable", variable, None),
            Found::Nothing(nearest) => match self.property(path) {
                Some((key, name)) => {
                    self.sections.push(section);
                    let map = self.values.entry(key.path);
                    if let Value::Object(map) = map.or_insert_with(|| Map::new().into()) {
                        map.insert(name, Value::String(text));
                    }
                }
                None => {
                    let prefix = self.schema.prefix;
                    let nearest = nearest
                        .map(|path| format!("{prefix}{}", path.to_uppercase().replace('.', "__")));
                    self.warn_of("variable", variable, nearest.as_deref());
                }
            },
        }
    }

    /// The property that a path below a map names: few have an underscore of their
    /// own, all others stand for dots.
    fn property(&self, path: &str) -> Option<(&'static keys::Key, String)> {
        let (parent, name) = path.rsplit_once('.')?;
        match self.schema.find(parent) {
            Found::Key(key) if key.kind == Kind::Map => {
                let name = match Properties::is_known(name) {
                    true => name.to_owned(),
                    false => name.replace('_', "."),
                };
                Some((key, name))
            }
            _ => None,
        }
    }
}

/// The file that is meant: as named, or with one of the extensions.
pub(crate) fn find(path: &Path) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    if path.extension().is_none() {
        let mut candidates = EXTENSIONS.iter().map(|end| path.with_extension(end));
        if let Some(found) = candidates.find(|candidate| candidate.is_file()) {
            return Ok(found);
        }
    }
    bail!("configuration file \"{}\" not found", path.display())
}

fn extension(path: &Path) -> &str {
    let end = path.extension().and_then(|end| end.to_str());
    end.unwrap_or_default()
}

/// Reads a text in the format of its extension; others are YAML.
fn parse(text: &str, extension: &str) -> Result<Value> {
    Ok(match extension {
        "json" => serde_json::from_str(text)?,
        "toml" => toml::from_str(text)?,
        "hjson" => deser_hjson::from_str(text)?,
        "ini" => ini(text)?,
        _ => serde_norway::from_str(text)?,
    })
}

/// Where the INI reader puts keys that stand before every section.
const NO_SECTION: &str = "default";

/// Sections as in `[kafka.librdkafka]`; all values are texts.
fn ini(text: &str) -> Result<Value> {
    let sections = Ini::new_cs().read(text.to_owned()).map_err(Error::msg)?;
    let mut root = Value::Object(Map::new());
    for (section, properties) in sections {
        let mut place = &mut root;
        let parts = section.split('.').filter(|_| section != NO_SECTION);
        for part in parts {
            let Value::Object(members) = place else {
                bail!("[{section}]: {part} is below a value");
            };
            place = members
                .entry(part)
                .or_insert_with(|| Value::Object(Map::new()));
        }
        if let Value::Object(members) = place {
            for (name, value) in properties {
                members.insert(name, value.into());
            }
        }
    }
    Ok(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kprf::SCHEMA;
    use serde_json::json;

    fn read(name: &str, text: &str, variables: &[(&str, &str)]) -> Document {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Document::read(&SCHEMA, Some(&path), variables).unwrap()
    }

    #[test]
    fn every_format_says_the_same() {
        let files = [
            (
                "a.yaml",
                "kafka:\n  brokers: ['a:1', 'b:2']\n  retries: 7\n  librdkafka: {compression.type: \
                 lz4}\nratelimit:\n  enabled: true\n  rules: [{topic_name: t, \
                 max_requests_per_minute: 4}]\nhttp: {port: 1}\n",
            ),
            (
                "b.json",
                r#"{"kafka": {"brokers": ["a:1", "b:2"], "retries": 7,
                    "librdkafka": {"compression.type": "lz4"}}, "http": {"port": 1},
                    "ratelimit": {"enabled": true,
                    "rules": [{"topic_name": "t", "max_requests_per_minute": 4}]}}"#,
            ),
            (
                "c.toml",
                "[kafka]\nbrokers = ['a:1', 'b:2']\nretries = 7\nlibrdkafka = \
                 {\"compression.type\" = 'lz4'}\n[http]\nport = 1\n[ratelimit]\nenabled = \
                 true\n[[ratelimit.rules]]\ntopic_name = 't'\nmax_requests_per_minute = 4\n",
            ),
            (
                "d.hjson",
                "{\n  # brokers\n  kafka: {\n    brokers: [\"a:1\", \"b:2\"]\n    retries: 7\n    \
                 librdkafka: {compression.type: \"lz4\"}\n  }\n  http: {port: 1}\n  ratelimit: \
                 {\n    enabled: true\n    rules: [{topic_name: \"t\", max_requests_per_minute: \
                 4}]\n  }\n}\n",
            ),
            (
                "e.ini",
                "output_file=x\n[kafka]\nbrokers=a:1,b:2\nretries=7\n[kafka.librdkafka]\ncompression.type=lz4\n\
                 [http]\nport=1\n[ratelimit]\nenabled=true\n\
                 rules=[{\"topic_name\": \"t\", \"max_requests_per_minute\": 4}]\n",
            ),
        ];
        for (name, text) in files {
            let document = read(name, text, &[]);
            assert_eq!(document.problems, [""; 0], "{name}");
            assert_eq!(document.warnings, [""; 0], "{name}");
            assert_eq!(document.list("kafka.brokers"), ["a:1", "b:2"], "{name}");
            assert_eq!(document.number("kafka.retries"), Some(7), "{name}");
            assert_eq!(document.number("http.port"), Some(1), "{name}");
            assert!(document.switch("ratelimit.enabled"), "{name}");
            let map = document.get("kafka.librdkafka").unwrap();
            assert_eq!(map, &json!({"compression.type": "lz4"}), "{name}");
            let rules = document.get("ratelimit.rules").unwrap();
            assert_eq!(rules[0]["topic_name"], "t", "{name}");
        }
    }

    #[test]
    fn variables_stand_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "hunter2\n").unwrap();
        let document = read(
            "a.yaml",
            "kafka: {brokers: [x], retries: 1}\n",
            &[
                ("KPRF_KAFKA__BROKERS", "a:9092,b:9092"),
                ("KPRF_HTTP__PORT", "4242"),
                ("KPRF_KAFKA__LIBRDKAFKA__COMPRESSION_TYPE", "lz4"),
                (
                    "KPRF_RATELIMIT__RULES",
                    r#"[{"topic_name":"t","max_requests_per_minute":42}]"#,
                ),
                ("KPRF_KAFKA__PASSWORD_FILE", secret.to_str().unwrap()),
                ("KPRF_OUTPUT_FILE", "/dev/stderr"),
                ("KPRF_KAFKA__BROKER", "x"),
                ("KPRF_NONSENSE", "x"),
                ("KPRF_HTTP__METRICS_PORT", "many"),
                ("OTHER", "x"),
            ],
        );
        assert_eq!(document.list("kafka.brokers"), ["a:9092", "b:9092"]);
        assert_eq!(document.number("kafka.retries"), Some(1));
        assert_eq!(document.number("http.port"), Some(4242));
        assert_eq!(document.text("kafka.password"), Some("hunter2"));
        assert_eq!(document.text("output_file"), Some("/dev/stderr"));
        let map = document.get("kafka.librdkafka").unwrap();
        assert_eq!(map, &json!({"compression.type": "lz4"}));
        assert!(document.has_section("ratelimit"));
        assert_eq!(
            document.warnings,
            [
                "unknown variable KPRF_KAFKA__BROKER, did you mean KPRF_KAFKA__BROKERS?",
                "unknown variable KPRF_NONSENSE",
            ]
        );
        let expected = "KPRF_HTTP__METRICS_PORT must be a whole number from 0 to 65535";
        assert_eq!(document.problems, [expected]);
    }

    #[test]
    fn what_is_unknown_is_named_and_null_is_the_default() {
        let document = read(
            "a.yml",
            "kafka: {brokers: null, user: null, retrys: 1}\nhttp:\nx: 1\n",
            &[],
        );
        assert_eq!(
            document.warnings,
            [
                "unknown key kafka.retrys, did you mean kafka.retries?",
                "unknown key x"
            ]
        );
        assert_eq!(document.problems, [""; 0]);
        assert!(document.get("kafka.brokers").is_none());
        let document = read("a.yaml", "kafka: 7\n", &[]);
        assert_eq!(document.problems, ["kafka must have keys"]);
        assert_eq!(read("empty", "", &[]).problems, [""; 0]);
    }

    #[test]
    fn a_name_without_extension_is_tried_with_each() {
        let folder = tempfile::tempdir().unwrap();
        let none = std::iter::empty;
        let bare = folder.path().join("kprf");
        let error = Document::read(&SCHEMA, Some(&bare), none())
            .unwrap_err()
            .to_string();
        let expected = format!("configuration file \"{}\" not found", bare.display());
        assert_eq!(error, expected);
        std::fs::write(folder.path().join("kprf.toml"), "[http]\nport = 7\n").unwrap();
        let document = Document::read(&SCHEMA, Some(&bare), none()).unwrap();
        assert_eq!(document.number("http.port"), Some(7));
    }
}
