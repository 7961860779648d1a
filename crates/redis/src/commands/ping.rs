//! `PING [message]`

use super::{Arguments, Context};

pub(super) fn run(context: &mut Context<'_>, arguments: &Arguments<'_>) {
    match arguments.count() {
        0 | 1 => context.reply.simple("PONG"),
        2 => context.reply.bulk(arguments.get(1)),
        _ => context.wrong_count("ping"),
    }
}
