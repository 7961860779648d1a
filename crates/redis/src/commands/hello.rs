//! `HELLO [2|3 [AUTH user password] [SETNAME name]]` (contract, section 12).

use super::{Arguments, Context, auth, name};
use crate::codec::Protocol;
use std::sync::atomic::Ordering;

/// What clients take Barnabas for: they switch features by this number.
pub(super) const REDIS_VERSION: &str = "7.4.0";

const LOGIN_FIRST: &str = "NOAUTH HELLO must be called with the client already authenticated, \
     otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the \
     client and select the RESP protocol version at the same time";

pub(super) fn run(context: &mut Context<'_>, arguments: &Arguments<'_>) {
    match apply(context, arguments) {
        Ok(()) => answer(context),
        Err(text) => context.reply.error(&text),
    }
}

/// Changes everything or, on an error, nothing. The name comes last, as it
/// is the only step that cannot be tried without taking effect.
fn apply(context: &mut Context<'_>, arguments: &Arguments<'_>) -> Result<(), String> {
    let options = Options::parse(arguments)?;
    let session = &mut *context.session;
    let user = match options.login {
        None if !session.is_logged_in => return Err(LOGIN_FIRST.to_owned()),
        None => None,
        Some((user, password)) => Some(
            auth::check(&session.shared.config, user, password).ok_or(auth::WRONG.to_owned())?,
        ),
    };
    if let Some(name) = options.name {
        name::set_name(session, name)?;
    }
    if let Some(user) = user {
        auth::log_in(session, user);
    }
    if let Some(protocol) = options.protocol {
        context.reply.protocol = protocol;
        session
            .entry
            .is_resp3
            .store(protocol == Protocol::Resp3, Ordering::Relaxed);
    }
    Ok(())
}

fn answer(context: &mut Context<'_>) {
    let id = i64::try_from(context.session.entry.id).unwrap_or(i64::MAX);
    let reply = &mut *context.reply;
    let text = |reply: &mut crate::codec::Reply, name: &str, value: &str| {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    };
    reply.map(7);
    text(reply, "server", "redis");
    text(reply, "version", REDIS_VERSION);
    reply.bulk(b"proto");
    reply.integer(match reply.protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    });
    reply.bulk(b"id");
    reply.integer(id);
    text(reply, "mode", "standalone");
    text(reply, "role", "master");
    reply.bulk(b"modules");
    reply.array(0);
}

/// What the arguments ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options<'a> {
    protocol: Option<Protocol>,
    login: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(arguments: &Arguments<'a>) -> Result<Self, String> {
        let mut options = Self::default();
        if arguments.count() < 2 {
            return Ok(options);
        }
        options.protocol = Some(match arguments.text(1).parse::<i64>() {
            Ok(2) => Protocol::Resp2,
            Ok(3) => Protocol::Resp3,
            Ok(_) => return Err("NOPROTO unsupported protocol version".to_owned()),
            Err(_) => {
                return Err("ERR Protocol version is not an integer or out of range".to_owned());
            }
        });
        let count = arguments.count();
        let mut index = 2;
        while index < count {
            if arguments.is(index, "auth") && index + 2 < count {
                options.login = Some((arguments.get(index + 1), arguments.get(index + 2)));
                index += 3;
            } else if arguments.is(index, "setname") && index + 1 < count {
                options.name = Some(arguments.get(index + 1));
                index += 2;
            } else {
                return Err(format!(
                    "ERR Syntax error in HELLO option '{}'",
                    arguments.text(index)
                ));
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<Vec<u8>> {
        text.split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect()
    }

    fn refusal(text: &str) -> String {
        Options::parse(&Arguments::owned(&words(text))).unwrap_err()
    }

    #[test]
    fn options_come_in_any_order() {
        let given = words("HELLO 3 setname g:n AUTH u p");
        assert_eq!(
            Options::parse(&Arguments::owned(&given)),
            Ok(Options {
                protocol: Some(Protocol::Resp3),
                login: Some((b"u", b"p")),
                name: Some(b"g:n"),
            })
        );
        let bare = words("HELLO");
        assert_eq!(
            Options::parse(&Arguments::owned(&bare)),
            Ok(Options::default())
        );
    }

    #[test]
    fn the_version_is_checked_before_the_options() {
        assert_eq!(
            refusal("HELLO 4 FOO"),
            "NOPROTO unsupported protocol version"
        );
        assert_eq!(refusal("HELLO -1"), "NOPROTO unsupported protocol version");
        assert_eq!(
            refusal("HELLO three FOO"),
            "ERR Protocol version is not an integer or out of range"
        );
        assert_eq!(
            refusal("HELLO 3 Foo"),
            "ERR Syntax error in HELLO option 'Foo'"
        );
        assert_eq!(
            refusal("HELLO 3 AUTH u"),
            "ERR Syntax error in HELLO option 'AUTH'"
        );
        assert_eq!(
            refusal("HELLO 3 SETNAME"),
            "ERR Syntax error in HELLO option 'SETNAME'"
        );
    }
}
