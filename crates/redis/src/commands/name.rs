//! `CLIENT SETNAME <group>:<name>`, `CLIENT GETNAME` (contract, section 2).

use super::{Arguments, Context};
use crate::codec::escape_controls;
use crate::session::{Name, Session};

pub(super) async fn run(context: &mut Context<'_>, arguments: &Arguments<'_>) {
    let subcommand = arguments.get(1);
    if subcommand.eq_ignore_ascii_case(b"setname") {
        match set_name(context.session, arguments.get(2)).await {
            Ok(()) => context.reply.bulk_ok(),
            Err(text) => context.reply.error(&text),
        }
    } else if subcommand.eq_ignore_ascii_case(b"getname") {
        let id = context.session.id().to_owned();
        context.reply.bulk(id.as_bytes());
    } else {
        let shown = escape_controls(subcommand);
        context.reply.error(&format!(
            "ERR unknown subcommand '{shown}'. Try CLIENT HELP."
        ));
    }
}

/// Names the connection, or says why not; then nothing has changed.
pub(super) async fn set_name(session: &mut Session, given: &[u8]) -> Result<(), String> {
    if given.iter().any(u8::is_ascii_control) {
        return Err(
            "ERR Client names cannot contain spaces, newlines or special characters.".to_owned(),
        );
    }
    let text = String::from_utf8_lossy(given).into_owned();
    let own = session.name.as_ref().map(|name| name.whole.clone());
    if own.as_ref() == Some(&text) {
        return Ok(());
    }
    let registry = &session.shared.registry;
    let id = session.entry.id;
    if registry.claim(&text, id).await.is_err() {
        return Err(format!("CONS id {text} is already taken"));
    }
    let refusal = match (&own, Name::new(&text)) {
        (Some(own), _) => format!("CONS Client ID is already set to {own}"),
        (None, None) => "CONS Cannot parse group.id".to_owned(),
        (None, Some(name)) => {
            session.entry.about.lock().name = Some(text);
            session.name = Some(name);
            return Ok(());
        }
    };
    registry.release(&text, id);
    Err(refusal)
}
