//! librdkafka properties as users write them.

use crate::error::Error;
use crate::native::{Builtin, Client, Conf, Kind, known_properties};
use std::collections::BTreeMap;
use std::fmt;

const PARTITIONER: &str = "partitioner";
/// The value that we add to librdkafka's.
const ROUND_ROBIN: &str = "roundrobin";

/// Configuration properties of librdkafka by name (see its
/// `CONFIGURATION.md`). Values are text, as librdkafka takes them; its
/// `partitioner` may also be `roundrobin`: each partition that has a leader in
/// turn, whatever the key.
///
/// `Debug` hides the values of secrets.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Properties {
    values: BTreeMap<String, String>,
}

impl Properties {
    /// No properties.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a property, replacing an earlier value.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.values.insert(name.into(), value.into());
        self
    }

    /// Sets a property unless it has a value.
    pub fn set_default(&mut self, name: &str, value: &str) -> &mut Self {
        if self.get(name).is_none() {
            self.set(name, value);
        }
        self
    }

    /// The value of a property.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Takes a property out.
    pub fn remove(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// All names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// These properties, with those of `other` in front of them.
    #[must_use]
    pub fn overlaid(&self, other: &Properties) -> Properties {
        let mut result = self.clone();
        result.values.extend(other.values.clone());
        result
    }

    /// Whether the property holds a secret, so that its value must not be
    /// shown: passwords, keys, client secrets.
    pub fn is_secret(name: &str) -> bool {
        const SECRET: [&str; 9] = [
            "password",
            "secret",
            "key.pem",
            "keystore",
            "sasl.jaas",
            "sasl.oauthbearer.config",
            "private.key",
            "passphrase",
            "sasl.kerberos.keytab",
        ];
        SECRET.iter().any(|part| name.contains(part))
    }

    /// Whether the property reaches beyond the client that it is set for: it
    /// loads code into the process, changes its signals or its clusters. Only
    /// who runs the process may set such, never somebody who connects to it.
    pub fn is_process_wide(name: &str) -> bool {
        const NAMES: [&str; 4] = [
            "plugin.library.paths",
            "ssl.engine.location",
            "ssl.providers",
            "log.queue",
        ];
        NAMES.contains(&name) || name.starts_with("internal.") || name.starts_with("test.")
    }

    /// A switch as librdkafka reads it; `None` if it is not set.
    pub(crate) fn switch(&self, name: &str) -> Option<bool> {
        let value = self.get(name)?;
        Some(
            ["true", "t", "1"]
                .iter()
                .any(|on| value.eq_ignore_ascii_case(on)),
        )
    }

    /// Whether the linked librdkafka has a property of that name.
    pub fn is_known(name: &str) -> bool {
        known_properties().iter().any(|known| known.name == name)
    }

    /// Leaves out what librdkafka has for the other kind of client only, so
    /// that one common section can serve both kinds without warnings.
    pub(crate) fn applicable(&self, kind: Kind) -> Properties {
        let applies = |name: &str| {
            known_properties()
                .iter()
                .find(|row| row.name == name)
                .is_none_or(|row| match kind {
                    Kind::Producer => row.for_producer,
                    Kind::Consumer => row.for_consumer,
                })
        };
        self.iter()
            .filter(|(name, _)| applies(name))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// Turns the properties into a librdkafka configuration; the error names
    /// the first property that is unknown or refused.
    pub(crate) fn to_conf(&self) -> Result<Conf, Error> {
        let mut conf = Conf::new();
        for (name, value) in self.of_librdkafka() {
            set(&mut conf, name, value)?;
        }
        if self.is_round_robin() {
            // Messages without a key would go to one partition for a while.
            set(&mut conf, "sticky.partitioning.linger.ms", "0")?;
            conf.set_round_robin();
        }
        Ok(conf)
    }

    /// Without what it has no value for.
    fn of_librdkafka(&self) -> impl Iterator<Item = (&str, &str)> {
        let is_ours = self.is_round_robin();
        self.iter()
            .filter(move |(name, _)| !(is_ours && *name == PARTITIONER))
    }

    pub(crate) fn is_round_robin(&self) -> bool {
        self.get(PARTITIONER) == Some(ROUND_ROBIN)
    }

    /// Which of librdkafka's partitioners is configured.
    pub(crate) fn partitioner(&self) -> Builtin {
        let named = self.get(PARTITIONER).and_then(Builtin::named);
        named.unwrap_or(Builtin::ConsistentRandom)
    }

    /// Every property that librdkafka does not know or whose value it
    /// refuses.
    pub(crate) fn problems(&self) -> Vec<Error> {
        let mut conf = Conf::new();
        self.of_librdkafka()
            .filter_map(|(name, value)| set(&mut conf, name, value).err())
            .collect()
    }

    /// Contradictions that librdkafka sees only when it creates a client. No
    /// connection is tried.
    pub(crate) fn contradiction(&self, kind: Kind) -> Option<Error> {
        let mut offline = self.clone();
        offline.remove("bootstrap.servers");
        offline.remove("metadata.broker.list");
        // It would log that it has no brokers.
        offline.set("log_level", "0");
        if kind == Kind::Consumer {
            offline.set_default("group.id", "barnabas-check");
        }
        let conf = match offline.to_conf() {
            Ok(conf) => conf,
            Err(error) => return Some(error),
        };
        match Client::new(kind, conf, "check".to_owned()) {
            Ok(_client) => None,
            Err(reason) => Some(Error::Client { reason }),
        }
    }
}

fn set(conf: &mut Conf, name: &str, value: &str) -> Result<(), Error> {
    conf.set(name, value).map_err(|reason| {
        if reason.starts_with("No such configuration property") {
            Error::UnknownProperty {
                name: name.to_owned(),
                nearest: nearest(name),
            }
        } else {
            Error::InvalidValue {
                name: name.to_owned(),
                reason,
            }
        }
    })
}

/// The known property most like `name`, unless nothing is like it.
fn nearest(name: &str) -> Option<String> {
    known_properties()
        .iter()
        .map(|row| (strsim::damerau_levenshtein(name, &row.name), &row.name))
        .filter(|(distance, _)| *distance <= 2.max(name.len() / 4))
        .min()
        .map(|(_, name)| name.clone())
}

impl FromIterator<(String, String)> for Properties {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(properties: T) -> Self {
        Self {
            values: properties.into_iter().collect(),
        }
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.iter().map(|(name, value)| {
            let value = if Self::is_secret(name) { "***" } else { value };
            (name, value)
        });
        f.debug_map().entries(shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn every_problem_is_named() {
        let problems =
            properties(&[("linger.msx", "1"), ("acks", "many"), ("client.id", "x")]).problems();
        let texts: Vec<String> = problems.iter().map(Error::to_string).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].contains("\"acks\""), "{texts:?}");
        assert!(
            texts[1].contains("\"linger.msx\"") && texts[1].contains("\"linger.ms\"?"),
            "{texts:?}"
        );
    }

    #[test]
    fn switches_are_read_as_librdkafka_reads_them() {
        let set = properties(&[
            ("a", "t"),
            ("b", "TRUE"),
            ("c", "1"),
            ("d", "0"),
            ("e", "f"),
        ]);
        let read = ["a", "b", "c", "d", "e", "x"].map(|name| set.switch(name));
        let (on, off) = (Some(true), Some(false));
        assert_eq!(read, [on, on, on, off, off, None]);
    }

    #[test]
    fn contradictions_are_found_without_a_broker() {
        let contradiction = properties(&[("enable.idempotence", "true"), ("acks", "1")])
            .contradiction(Kind::Producer)
            .unwrap();
        assert!(
            contradiction.to_string().contains("acks"),
            "{contradiction}"
        );
    }

    #[test]
    fn a_common_section_serves_both_kinds() {
        let common = properties(&[("group.id", "g"), ("linger.ms", "1"), ("client.id", "c")]);
        let producer = common.applicable(Kind::Producer);
        assert_eq!(producer.get("group.id"), None);
        assert_eq!(producer.get("linger.ms"), Some("1"));
        assert_eq!(common.applicable(Kind::Consumer).get("linger.ms"), None);
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = format!("{:?}", properties(&[("sasl.password", "hunter2")]));
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
