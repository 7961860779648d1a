//! `MULTI`, `EXEC`, `DISCARD`, `WATCH`: commands in a row (contract, section
//! 12). There is no atomicity: each command stands alone, and BLPOP does not
//! wait.

use super::table::{Command, Definition};
use super::{Arguments, Context, Flow, settle};
use crate::registry::order;
use crate::session::Session;
use barnabas_engine::Kept;

/// Commands that may wait for EXEC.
const COMMANDS: usize = 10_000;
/// Bytes that they may hold.
const BYTES: usize = 64 << 20;
/// EXEC writes when so many bytes of replies have gathered.
const WRITE_BYTES: usize = 64 << 10;

/// Commands that wait for EXEC.
pub(crate) struct Transaction {
    commands: Vec<(&'static Definition, Vec<Vec<u8>>)>,
    bytes: usize,
    kept: Kept,
    /// A command was refused, so that EXEC is going to be.
    is_spoiled: bool,
}

/// `MULTI`
pub(super) fn begin(context: &mut Context<'_>) {
    if context.session.transaction.is_some() {
        context.reply.error("ERR MULTI calls can not be nested");
        return;
    }
    context.session.transaction = Some(Transaction {
        commands: Vec::new(),
        bytes: 0,
        kept: context.session.shared.input.keep_nothing(),
        is_spoiled: false,
    });
    context.session.entry.about.lock().queued = Some(0);
    context.reply.simple("OK");
}

/// `DISCARD`
pub(super) fn discard(context: &mut Context<'_>) {
    match end(context.session) {
        Some(_) => context.reply.simple("OK"),
        None => context.reply.error("ERR DISCARD without MULTI"),
    }
}

/// `WATCH key …`
pub(super) fn watch(context: &mut Context<'_>) {
    if context.session.transaction.is_some() {
        context.reply.error("ERR WATCH inside MULTI is not allowed");
    } else {
        context.reply.simple("OK");
    }
}

/// Keeps a command for EXEC.
pub(super) fn queue(
    context: &mut Context<'_>,
    definition: &'static Definition,
    arguments: &Arguments<'_>,
) {
    let Some(transaction) = &mut context.session.transaction else {
        return;
    };
    // What it costs here, not only what was sent.
    let cost: usize = arguments
        .from(0)
        .map(|argument| argument.len() + size_of::<Vec<u8>>())
        .sum();
    if definition.has_flag("no_multi") {
        // Its replies could not be told from EXEC's.
        context
            .reply
            .error("ERR Command not allowed inside a transaction");
        transaction.spoil();
    } else if transaction.commands.len() >= COMMANDS
        || transaction.bytes + cost > BYTES
        || !transaction.kept.hold((transaction.bytes + cost) as u64)
    {
        context.reply.error("ERR Transaction is too large");
        transaction.spoil();
    } else {
        if !transaction.is_spoiled {
            transaction.bytes += cost;
            let owned = arguments.from(0).map(<[u8]>::to_vec).collect();
            transaction.commands.push((definition, owned));
        }
        context.reply.simple("QUEUED");
    }
    let queued = Some(transaction.commands.len());
    context.session.entry.about.lock().queued = queued;
}

/// Notes that a command was refused while others wait.
pub(super) fn spoil(session: &mut Session) {
    if let Some(transaction) = &mut session.transaction {
        transaction.spoil();
    }
}

/// `EXEC`
pub(super) async fn exec(context: &mut Context<'_>) -> Flow {
    let Some(transaction) = end(context.session) else {
        context.reply.error("ERR EXEC without MULTI");
        return Flow::Continue;
    };
    if transaction.is_spoiled {
        context
            .reply
            .error("EXECABORT Transaction discarded because of previous errors.");
        return Flow::Continue;
    }
    context.reply.array(transaction.commands.len());
    let waited = std::mem::replace(&mut context.may_wait, false);
    let mut flow = Flow::Continue;
    for (definition, owned) in &transaction.commands {
        let arguments = Arguments::owned(owned);
        // Consecutive XADDs are under way together here, too.
        if definition.command != Command::Xadd
            && let Err(error) = settle(context.session, context.reply, context.stream).await
        {
            return Flow::Broken(error);
        }
        flow = Box::pin(super::run(context, definition, &arguments)).await;
        // Only the client's reading is waited for here.
        if matches!(flow, Flow::Continue)
            && context.reply.bytes.len() >= WRITE_BYTES
            && let Err(error) = context.stream.write(&mut context.reply.bytes).await
        {
            flow = Flow::Broken(error);
        }
        if !matches!(flow, Flow::Continue) {
            break;
        }
        if context.session.entry.orders() & order::KILL != 0 {
            // Nothing more is done for it; an incomplete array says so, as
            // an end of file would.
            flow = Flow::Close;
            break;
        }
    }
    context.may_wait = waited;
    if matches!(flow, Flow::Continue)
        && let Err(error) = settle(context.session, context.reply, context.stream).await
    {
        return Flow::Broken(error);
    }
    flow
}

impl Transaction {
    fn spoil(&mut self) {
        self.is_spoiled = true;
        // EXEC will not need them.
        self.commands = Vec::new();
        self.bytes = 0;
    }
}

fn end(session: &mut Session) -> Option<Transaction> {
    session.entry.about.lock().queued = None;
    session.transaction.take()
}
