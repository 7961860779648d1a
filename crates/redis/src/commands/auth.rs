//! `AUTH [user] password` (contract, section 12).

use super::{Arguments, Context};
use crate::config::Config;
use crate::session::Session;

/// The user whose password is `redis.password`.
pub(super) const DEFAULT_USER: &str = "default";

pub(super) const WRONG: &str = "WRONGPASS invalid username-password pair or user is disabled.";

pub(super) fn run(context: &mut Context<'_>, arguments: &Arguments<'_>) {
    let session = &mut *context.session;
    let config = &session.shared.config;
    let (user, password) = match arguments.count() {
        2 if !config.requires_login() => {
            context.reply.error(
                "ERR AUTH <password> called without any password configured for the default \
                 user. Are you sure your configuration is correct?",
            );
            return;
        }
        2 => (DEFAULT_USER.as_bytes(), arguments.get(1)),
        3 => (arguments.get(1), arguments.get(2)),
        _ => {
            context.reply.error("ERR syntax error");
            return;
        }
    };
    match check(config, user, password) {
        Some(user) => {
            log_in(session, user);
            context.reply.simple("OK");
        }
        None => context.reply.error(WRONG),
    }
}

/// The user, if the password is theirs.
pub(super) fn check(config: &Config, user: &[u8], password: &[u8]) -> Option<String> {
    let user = std::str::from_utf8(user).ok()?;
    if user == DEFAULT_USER && !config.requires_login() {
        // Redis's "nopass": anything is right.
        return Some(user.to_owned());
    }
    let secret = match user {
        DEFAULT_USER => config.password.as_ref().or_else(|| config.users.get(user)),
        _ => config.users.get(user),
    };
    secret?.matches(password).then(|| user.to_owned())
}

pub(super) fn log_in(session: &mut Session, user: String) {
    session.is_logged_in = true;
    session.entry.about.lock().user = user;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn is_right(config: &Config, user: &str, password: &str) -> bool {
        check(config, user.as_bytes(), password.as_bytes()).is_some()
    }

    #[test]
    fn without_passwords_only_the_default_user_exists() {
        let config = Config::default();
        assert!(is_right(&config, "default", "anything"));
        assert!(!is_right(&config, "app", "anything"));
    }

    #[test]
    fn each_user_has_one_password() {
        let mut config = Config {
            password: Some(secret("one")),
            ..Config::default()
        };
        config.users.insert("app".to_owned(), secret("two"));
        assert!(is_right(&config, "default", "one"));
        assert!(is_right(&config, "app", "two"));
        for (user, password) in [
            ("default", "two"),
            ("default", ""),
            ("default", "on"),
            ("app", "one"),
            ("App", "two"),
            ("", "one"),
        ] {
            assert!(!is_right(&config, user, password), "{user} {password}");
        }
    }

    #[test]
    fn with_users_only_the_default_user_cannot_log_in() {
        let mut config = Config::default();
        config.users.insert("app".to_owned(), secret("two"));
        assert!(is_right(&config, "app", "two"));
        assert!(!is_right(&config, "default", "two"));
        assert!(!is_right(&config, "default", ""));
    }
}
