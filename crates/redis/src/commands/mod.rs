//! The commands, one file per command or family.
//!
//! A command reads its arguments, acts on the session, and writes its reply
//! into a buffer; the connection sends it. Only commands that wait see the
//! socket, through `Context`, because everything answered so far must be on
//! the wire before they do.

mod blpop;
mod dump;
mod keys;
mod monitor;
mod name;
mod ping;
mod quit;
mod rpush;
mod rpushx;
mod stats;
mod table;

pub(crate) use rpushx::Pipeline;

use crate::codec::{Parser, Protocol, Reply, escape_controls};
use crate::session::Session;
use crate::stream::Stream;
use std::sync::atomic::Ordering;
use table::Command;

/// The arguments of a command, its name first.
pub(crate) struct Arguments<'a> {
    parser: &'a Parser,
    buffer: &'a [u8],
}

impl<'a> Arguments<'a> {
    pub(crate) fn new(parser: &'a Parser, buffer: &'a [u8]) -> Self {
        Self { parser, buffer }
    }

    /// How many there are, the name included.
    pub(crate) fn count(&self) -> usize {
        self.parser.count()
    }

    /// The argument at `index`; a missing one counts as empty.
    pub(crate) fn get(&self, index: usize) -> &'a [u8] {
        self.parser.argument(self.buffer, index).unwrap_or(&[])
    }

    /// The argument at `index` as text, invalid UTF-8 replaced.
    pub(crate) fn text(&self, index: usize) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(self.get(index))
    }

    /// The arguments from `index` on.
    pub(crate) fn from(&self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone {
        let (parser, buffer) = (self.parser, self.buffer);
        (index..self.count().max(index))
            .map(move |index| parser.argument(buffer, index).unwrap_or(&[]))
    }

    /// Where an argument is in the connection's input.
    pub(crate) fn range(&self, index: usize) -> Option<std::ops::Range<usize>> {
        self.parser.range(index)
    }
}

/// What a command works with.
pub(crate) struct Context<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) reply: &'a mut Reply,
    pub(crate) stream: &'a mut Stream,
    /// False inside EXEC: nothing waits there.
    pub(crate) may_wait: bool,
}

impl Context<'_> {
    /// Puts everything answered so far on the wire.
    pub(crate) async fn flush(&mut self) -> std::io::Result<()> {
        if self.may_wait {
            self.stream.write(&mut self.reply.bytes).await
        } else {
            Ok(())
        }
    }

    /// Answers that the number of arguments is wrong.
    pub(crate) fn wrong_count(&mut self, command: &str) {
        self.reply.error(&format!(
            "ERR wrong number of arguments for '{command}' command"
        ));
    }
}

/// How the connection goes on after a command.
#[derive(Debug)]
pub(crate) enum Flow {
    Continue,
    /// Write the replies and close.
    Close,
    /// The socket failed.
    Broken(std::io::Error),
}

/// Executes one command.
pub(crate) async fn execute(context: &mut Context<'_>, arguments: &Arguments<'_>) -> Flow {
    let name = arguments.get(0);
    let command = Command::named(name);
    show(context.session, command, arguments);
    if !context.session.is_logged_in && !command.is_some_and(Command::works_before_login) {
        context.reply.error("NOAUTH Authentication required.");
        return Flow::Continue;
    }
    let Some(command) = command else {
        unknown(context.reply, name);
        return Flow::Continue;
    };
    command
        .name()
        .clone_into(&mut context.session.entry.about.lock().command);
    run(context, command, arguments).await
}

async fn run(context: &mut Context<'_>, command: Command, arguments: &Arguments<'_>) -> Flow {
    match command {
        Command::Ping => ping::run(context, arguments),
        Command::Quit => return quit::run(context).await,
        Command::Client => name::run(context, arguments).await,
        Command::Blpop => return flow(blpop::run(context, arguments).await),
        Command::Rpush => return flow(rpush::run(context, arguments).await),
        Command::Rpushx => return flow(rpushx::run(context, arguments).await),
        Command::Dump => return flow(dump::run(context, arguments).await),
        Command::Keys => return flow(keys::run(context, arguments).await),
        Command::Hgetall => stats::hgetall(context, arguments),
        Command::Del => stats::del(context, arguments),
        Command::Monitor => monitor::run(context, arguments),
    }
    Flow::Continue
}

fn flow(result: std::io::Result<()>) -> Flow {
    match result {
        Ok(()) => Flow::Continue,
        Err(error) => Flow::Broken(error),
    }
}

/// Shows the command to watchers; MONITOR itself is not shown.
fn show(session: &Session, command: Option<Command>, arguments: &Arguments<'_>) {
    let registry = &session.shared.registry;
    if registry.has_watchers() && command != Some(Command::Monitor) {
        registry.show(
            session.id(),
            arguments.from(0),
            &session.shared.statistics,
        );
    }
}

fn unknown(reply: &mut Reply, name: &[u8]) {
    let shown = escape_controls(name);
    reply.error(&format!(
        "ERR unknown command '{shown}' (Command not supported: {})",
        shown.to_uppercase()
    ));
}

/// Commands that wait for EXEC.
pub(crate) struct Transaction;
