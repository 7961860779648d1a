//! The commands by name.

/// A command that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Ping,
    Quit,
    Client,
    Blpop,
    Rpush,
    Rpushx,
    Dump,
    Keys,
    Hgetall,
    Del,
    Monitor,
}

const NAMES: &[(&str, Command)] = &[
    ("rpushx", Command::Rpushx),
    ("blpop", Command::Blpop),
    ("rpush", Command::Rpush),
    ("dump", Command::Dump),
    ("ping", Command::Ping),
    ("quit", Command::Quit),
    ("client", Command::Client),
    ("keys", Command::Keys),
    ("hgetall", Command::Hgetall),
    ("del", Command::Del),
    ("monitor", Command::Monitor),
];

impl Command {
    /// The command of that name, in any case.
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        NAMES
            .iter()
            .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))
            .map(|(_, command)| *command)
    }

    /// Its name in lower case.
    pub(crate) fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(_, command)| *command == self)
            .map_or("", |(name, _)| name)
    }

    pub(crate) fn works_before_login(self) -> bool {
        matches!(self, Self::Quit)
    }
}
