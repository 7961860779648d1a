//! `CONFIG GET | SET | RESETSTAT` (contract, section 12).

use super::keys::matches_glob;
use super::{Arguments, Context, fixed, stats};
use crate::codec::Limits;
use crate::config::Config;

pub(super) fn run(context: &mut Context<'_>, arguments: &Arguments<'_>) {
    if arguments.is(1, "resetstat") {
        stats::reset(context.session);
        context.reply.simple("OK");
    } else if arguments.is(1, "set") {
        context.reply.error(&format!(
            "ERR Unknown option or number of arguments for CONFIG SET - '{}'",
            arguments.text(2)
        ));
    } else {
        let found = matching(&context.session.shared.config, arguments);
        context.reply.map(found.len());
        for (name, value) in found {
            context.reply.bulk(name.as_bytes());
            context.reply.bulk(value.as_bytes());
        }
    }
}

/// The settings that one of the patterns means.
fn matching(config: &Config, arguments: &Arguments<'_>) -> Vec<(&'static str, String)> {
    let patterns: Vec<Vec<u8>> = arguments.from(2).map(<[u8]>::to_ascii_lowercase).collect();
    settings(config)
        .into_iter()
        .filter(|(name, _)| {
            patterns
                .iter()
                .any(|pattern| matches_glob(pattern, name.as_bytes()))
        })
        .collect()
}

/// What clients and tools ask for when they connect.
fn settings(config: &Config) -> Vec<(&'static str, String)> {
    let fixed = |text: &str| text.to_owned();
    vec![
        ("save", fixed("")),
        ("appendonly", fixed("no")),
        ("databases", fixed::DATABASES.to_string()),
        ("timeout", fixed("0")),
        ("maxclients", config.max_connections.to_string()),
        ("maxmemory", fixed("0")),
        ("proto-max-bulk-len", Limits::FULL.bulk_bytes.to_string()),
        ("replica-read-only", fixed("no")),
        ("slave-read-only", fixed("no")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<&'static str> {
        let words: Vec<Vec<u8>> = text
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        matching(&Config::default(), &Arguments::owned(&words))
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }

    #[test]
    fn patterns_select_settings_once_each() {
        assert_eq!(names("CONFIG GET SAVE"), ["save"]);
        assert_eq!(
            names("CONFIG GET max* maxclients *-read-only"),
            [
                "maxclients",
                "maxmemory",
                "replica-read-only",
                "slave-read-only"
            ]
        );
        assert!(names("CONFIG GET requirepass").is_empty());
        assert_eq!(names("CONFIG GET *").len(), 9);
    }
}
