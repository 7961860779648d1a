//! Every key of the configuration, once.

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// A whole number from `.0` on.
    Number(usize),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A number with its unit: `500ms`, `10s`, `2m`.
    Duration,
    /// A list of texts; a single text counts as a list of one.
    List,
    /// Names and values, both free.
    Map,
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its path; `*` stands for a name that the user chooses.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    /// Its default as the example shows it; `none` when it is off unless
    /// given. Checked against the example by a test.
    #[cfg_attr(
        not(test),
        allow(dead_code, reason = "documents; read by the test of the example")
    )]
    pub(super) default: &'static str,
}

const fn key(path: &'static str, kind: Kind, default: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
    }
}

pub(super) const KEYS: &[Key] = &[
    key("log.format", Kind::Choice(&["text", "json"]), "text"),
    key("log.level", Kind::Text, "info"),
    key("shutdown.deadline", Kind::Duration, "17s"),
    key("clusters.*.properties", Kind::Map, "none"),
    key("clusters.*.producer", Kind::Map, "none"),
    key("clusters.*.consumer", Kind::Map, "none"),
    key("redis.listen", Kind::List, "0.0.0.0:6380"),
    key("redis.cluster", Kind::Text, "default"),
    key("redis.threads", Kind::Number(1), "none"),
    key("redis.max_connections", Kind::Number(1), "10000"),
    key("redis.password", Kind::Text, "none"),
    key("redis.users", Kind::Map, "none"),
    key(
        "redis.reply",
        Kind::Choice(&["rafka", "pair", "full"]),
        "rafka",
    ),
    key("redis.tls.cert", Kind::Text, "none"),
    key("redis.tls.key", Kind::Text, "none"),
    key("redis.tls.client_ca", Kind::Text, "none"),
];

/// What is at a path.
pub(super) enum Found {
    /// A key.
    Key(&'static Key),
    /// Something that holds keys.
    Section,
    /// Nothing; the most similar path, if any is similar.
    Nothing(Option<String>),
}

/// Looks up a path.
pub(super) fn find(path: &str) -> Found {
    if let Some(key) = KEYS.iter().find(|key| matches(key.path, path)) {
        return Found::Key(key);
    }
    let depth = path.split('.').count();
    let is_section = KEYS
        .iter()
        .any(|key| key.path.split('.').count() > depth && matches(&first(key.path, depth), path));
    if is_section {
        return Found::Section;
    }
    let nearest = KEYS
        .iter()
        .map(|key| first(key.path, depth))
        .filter(|candidate| candidate.split('.').count() == depth)
        .map(|candidate| with_names(&candidate, path))
        .map(|candidate| (strsim::damerau_levenshtein(&candidate, path), candidate))
        .filter(|(distance, _)| *distance <= 3)
        .min();
    Found::Nothing(nearest.map(|(_, candidate)| candidate))
}

fn matches(pattern: &str, path: &str) -> bool {
    let mut parts = path.split('.');
    pattern.split('.').all(|part| {
        parts
            .next()
            .is_some_and(|given| part == "*" || part == given)
    }) && parts.next().is_none()
}

fn first(path: &str, parts: usize) -> String {
    path.split('.').take(parts).collect::<Vec<_>>().join(".")
}

/// The pattern with the user's own names in place of its stars.
fn with_names(pattern: &str, path: &str) -> String {
    pattern
        .split('.')
        .zip(path.split('.'))
        .map(|(part, given)| if part == "*" { given } else { part })
        .collect::<Vec<_>>()
        .join(".")
}
