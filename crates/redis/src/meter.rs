//! What is counted of commands. Each has its place in the list, which is known
//! from its definition without looking it up.

use crate::commands::{self, Command};
use barnabas_metrics::Meter;
use std::borrow::Cow;
use std::sync::Arc;

/// How commands end: the same as in Redis' `errorstats`, without the texts.
const OUTCOMES: [&str; 2] = ["ok", "error"];
const OK: usize = 0;
const ERROR: usize = 1;

/// Behind the last command: what is none.
const UNKNOWN: usize = Command::Xreadgroup as usize + 1;

/// What goes wrong with connections.
const FAILURES: [&str; 5] = ["accept", "full", "tls", "protocol", "connection"];

/// Kinds of [`FAILURES`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failure {
    /// None could be accepted.
    Accept,
    /// There are too many.
    Full,
    /// The handshake of TLS failed or took too long.
    Tls,
    /// What came over it was not Redis' protocol.
    Protocol,
    /// It broke.
    Connection,
}

/// The numbers of a Redis front end: commands by name, and whether they were
/// answered with an error.
pub(crate) fn meter() -> Arc<Meter> {
    let mut requests = vec![Cow::Borrowed("other"); UNKNOWN + 1];
    for (command, name) in commands::names() {
        if let Some(request) = requests.get_mut(command as usize) {
            *request = name.to_uppercase().into();
        }
    }
    Arc::new(Meter::new("redis", requests, &OUTCOMES, &FAILURES))
}

/// The place of a command; `None` is one that is not served.
pub(crate) fn place(command: Option<Command>) -> usize {
    command.map_or(UNKNOWN, |command| command as usize)
}

/// The place of an outcome.
pub(crate) fn outcome(is_error: bool) -> usize {
    if is_error { ERROR } else { OK }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_command_has_a_place_of_its_own() {
        let places: Vec<usize> = commands::names()
            .map(|(command, _)| place(Some(command)))
            .collect();
        let different: BTreeSet<usize> = places.iter().copied().collect();
        assert_eq!(different.len(), places.len());
        assert!(different.iter().all(|place| *place < UNKNOWN));
    }
}
