//! `RESET`: the connection is as good as new (contract, section 12).

use super::{Context, auth};
use crate::codec::Protocol;
use std::sync::atomic::Ordering;

pub(super) async fn run(context: &mut Context<'_>) -> std::io::Result<()> {
    context.flush().await?;
    let session = &mut *context.session;
    session.transaction = None;
    session.channels.clear();
    session.patterns.clear();
    session.watched = None;
    session.shared.registry.unwatch(session.entry.id);
    session.release_name();
    session.is_logged_in = !session.shared.config.requires_login();
    let entry = &session.entry;
    entry.flags.is_watching.store(false, Ordering::Relaxed);
    entry.is_resp3.store(false, Ordering::Relaxed);
    {
        // The library stays: it is still the one behind the connection.
        let mut about = entry.about.lock();
        auth::DEFAULT_USER.clone_into(&mut about.user);
        about.database = 0;
        about.channels = 0;
        about.patterns = 0;
        about.queued = None;
    }
    session.close_consumer().await;
    context.reply.protocol = Protocol::Resp2;
    context.reply.simple("RESET");
    Ok(())
}
