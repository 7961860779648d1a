//! The name of a connection, set with `CLIENT SETNAME` or `HELLO … SETNAME`
//! (contract, section 2).

use crate::session::{Name, Session};

/// Names the connection, or says why not; then nothing has changed.
pub(super) fn set_name(session: &mut Session, given: &[u8]) -> Result<(), String> {
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
    if registry.claim(&text, id).is_err() {
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
