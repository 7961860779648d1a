//! `MONITOR`: everything that anyone sends, from now on (contract, section 7).

use super::{Arguments, Context};
use std::sync::atomic::Ordering;

pub(super) fn run(context: &mut Context<'_>, arguments: &Arguments<'_>) {
    if arguments.count() > 1 {
        context
            .reply
            .error("ERR command 'monitor' does not accept any extra arguments");
        return;
    }
    let session = &mut *context.session;
    if session.watched.is_none() {
        session.watched = Some(session.shared.registry.watch(session.entry.id));
        session
            .entry
            .flags
            .is_watching
            .store(true, Ordering::Relaxed);
    }
    context.reply.simple("OK");
}
