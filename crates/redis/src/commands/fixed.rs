//! Commands of Redis whose answer is nearly always the same here: SELECT,
//! TIME, ROLE, ACL, CLUSTER, LATENCY, SLOWLOG (contract, section 12).

use super::{Arguments, Context};
use std::time::{SystemTime, UNIX_EPOCH};

/// Redis's default; clients are configured with numbers below it.
pub(super) const DATABASES: u8 = 16;

/// `SELECT n`: there is one set of topics behind every number.
pub(super) fn select(context: &mut Context<'_>, arguments: &Arguments<'_>) {
    match arguments.text(1).parse::<i64>() {
        Ok(number) => match u8::try_from(number) {
            Ok(number) if number < DATABASES => {
                context.session.entry.about.lock().database = number;
                context.reply.simple("OK");
            }
            _ => context.reply.error("ERR DB index is out of range"),
        },
        Err(_) => context
            .reply
            .error("ERR value is not an integer or out of range"),
    }
}

/// `TIME`
pub(super) fn time(context: &mut Context<'_>) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    context.reply.array(2);
    context.reply.bulk(now.as_secs().to_string().as_bytes());
    context
        .reply
        .bulk(now.subsec_micros().to_string().as_bytes());
}

/// `ROLE`
pub(super) fn role(context: &mut Context<'_>) {
    context.reply.array(3);
    context.reply.bulk(b"master");
    context.reply.integer(0);
    context.reply.array(0);
}

/// `ACL WHOAMI`
pub(super) fn acl(context: &mut Context<'_>) {
    let user = context.session.entry.about.lock().user.clone();
    context.reply.bulk(user.as_bytes());
}

/// `CLUSTER …`, `READONLY`, `READWRITE`
pub(super) fn no_cluster(context: &mut Context<'_>) {
    context
        .reply
        .error("ERR This instance has cluster support disabled");
}

/// `LATENCY LATEST | RESET`
pub(super) fn latency(context: &mut Context<'_>, arguments: &Arguments<'_>) {
    if arguments.is(1, "reset") {
        context.reply.integer(0);
    } else {
        context.reply.array(0);
    }
}

/// `SLOWLOG GET | LEN | RESET`
pub(super) fn slowlog(context: &mut Context<'_>, arguments: &Arguments<'_>) {
    if arguments.is(1, "len") {
        context.reply.integer(0);
    } else if arguments.is(1, "reset") {
        context.reply.simple("OK");
    } else {
        context.reply.array(0);
    }
}
