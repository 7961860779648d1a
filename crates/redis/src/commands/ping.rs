//! `PING [message]`

use super::{Arguments, Context, subscribe};

pub(super) fn run(context: &mut Context<'_>, arguments: &Arguments<'_>) {
    if arguments.count() > 2 {
        context.wrong_count("ping");
    } else if subscribe::restricts(context) {
        // Subscribers of RESP2 read nothing but arrays.
        context.reply.array(2);
        context.reply.bulk(b"pong");
        context.reply.bulk(arguments.get(1));
    } else if arguments.count() == 2 {
        context.reply.bulk(arguments.get(1));
    } else {
        context.reply.simple("PONG");
    }
}
