//! `CLIENT KILL <addr>` and `CLIENT KILL <filter> <value> …`: closes
//! connections (contract, section 12).

use super::client_list::{Kind, parse_id};
use super::{Arguments, Context, auth};
use crate::config::Config;
use crate::registry::{Entry, order};

pub(super) fn run(context: &mut Context<'_>, arguments: &Arguments<'_>) -> Result<(), String> {
    let is_old_form = arguments.count() == 3;
    let filter = if is_old_form {
        Filter {
            address: Some(arguments.text(2).into_owned()),
            ..Filter::default()
        }
    } else {
        Filter::parse(arguments, &context.session.shared.config)?
    };
    let own = &context.session.entry;
    let mut closed = 0;
    for entry in context.session.shared.registry.entries() {
        if filter.selects(&entry, own.id) {
            // One that asks for its own end is closed after the answer: the
            // connection looks at its orders when the command is done.
            entry.give_order(order::KILL);
            closed += 1;
        }
    }
    if !is_old_form {
        context.reply.integer(closed);
    } else if closed > 0 {
        context.reply.simple("OK");
    } else {
        return Err("ERR No such client".to_owned());
    }
    Ok(())
}

/// Which connections are meant: those that meet all conditions.
#[derive(Debug, Default, PartialEq, Eq)]
struct Filter {
    id: Option<u64>,
    address: Option<String>,
    user: Option<String>,
    kind: Option<Kind>,
    skips_own: bool,
}

impl Filter {
    fn parse(arguments: &Arguments<'_>, config: &Config) -> Result<Self, String> {
        let syntax = || "ERR syntax error".to_owned();
        let mut filter = Self {
            skips_own: true,
            ..Self::default()
        };
        if !arguments.count().is_multiple_of(2) {
            return Err(syntax());
        }
        for index in (2..arguments.count()).step_by(2) {
            let value = arguments.get(index + 1);
            let text = arguments.text(index + 1).into_owned();
            if arguments.is(index, "id") {
                let id = parse_id(value).ok_or("ERR client-id should be greater than 0")?;
                filter.id = Some(id);
            } else if arguments.is(index, "addr") {
                filter.address = Some(text);
            } else if arguments.is(index, "type") {
                filter.kind = Some(Kind::parse(value)?);
            } else if arguments.is(index, "user") {
                if text != auth::DEFAULT_USER && !config.users.contains_key(&text) {
                    return Err(format!("ERR No such user '{text}'"));
                }
                filter.user = Some(text);
            } else if arguments.is(index, "skipme") {
                filter.skips_own = match value.to_ascii_lowercase().as_slice() {
                    b"yes" => true,
                    b"no" => false,
                    _ => return Err(syntax()),
                };
            } else {
                return Err(syntax());
            }
        }
        Ok(filter)
    }

    fn selects(&self, entry: &Entry, own: u64) -> bool {
        !(self.skips_own && entry.id == own)
            && self.id.is_none_or(|id| entry.id == id)
            && self
                .address
                .as_ref()
                .is_none_or(|address| entry.peer == *address)
            && self.kind.is_none_or(|kind| Kind::of(entry) == kind)
            && self
                .user
                .as_ref()
                .is_none_or(|user| entry.about.lock().user == *user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    fn filter(text: &str) -> Result<Filter, String> {
        let words: Vec<Vec<u8>> = text
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        Filter::parse(&Arguments::owned(&words), &Config::default())
    }

    #[test]
    fn filters_are_those_of_redis() {
        assert_eq!(
            filter("CLIENT KILL ID 7 skipme NO"),
            Ok(Filter {
                id: Some(7),
                ..Filter::default()
            })
        );
        for (text, error) in [
            ("CLIENT KILL ID 0", "ERR client-id should be greater than 0"),
            ("CLIENT KILL ID x", "ERR client-id should be greater than 0"),
            ("CLIENT KILL ID 1 ADDR", "ERR syntax error"),
            ("CLIENT KILL SKIPME maybe", "ERR syntax error"),
            ("CLIENT KILL FOO 1", "ERR syntax error"),
            ("CLIENT KILL TYPE foo", "ERR Unknown client type 'foo'"),
            ("CLIENT KILL USER foo", "ERR No such user 'foo'"),
        ] {
            assert_eq!(filter(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn all_conditions_must_hold() {
        let registry = Registry::default();
        let one = registry.enter("a:1".to_owned(), 0);
        let two = registry.enter("a:2".to_owned(), 0);
        let selected = |text: &str| {
            let filter = filter(text).unwrap();
            [&one, &two].map(|entry| filter.selects(entry, one.id))
        };
        assert_eq!(selected("CLIENT KILL ADDR a:2"), [false, true]);
        assert_eq!(selected("CLIENT KILL ADDR a:1"), [false, false]);
        assert_eq!(selected("CLIENT KILL ADDR a:1 SKIPME no"), [true, false]);
        assert_eq!(selected("CLIENT KILL ID 2 ADDR a:1"), [false, false]);
        assert_eq!(selected("CLIENT KILL TYPE normal SKIPME no"), [true, true]);
        assert_eq!(
            selected("CLIENT KILL TYPE pubsub SKIPME no"),
            [false, false]
        );
        assert_eq!(selected("CLIENT KILL USER default"), [false, true]);
    }
}
