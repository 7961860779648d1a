//! The commands, one file per command or family.
//!
//! A command reads its arguments, acts on the session, and writes its reply
//! into a buffer; the connection sends it. Only commands that wait see the
//! socket, through `Context`, because everything answered so far must be on
//! the wire before they do.

mod auth;
mod blpop;
mod client;
mod client_kill;
mod client_list;
mod command;
mod config;
mod dump;
mod durable;
mod entry;
mod fixed;
mod hello;
mod help;
mod info;
mod keys;
mod monitor;
mod multi;
mod name;
mod ping;
mod quit;
mod read_request;
mod reset;
mod rpush;
mod rpushx;
mod stats;
mod subscribe;
mod table;
mod topics;
mod xack;
mod xadd;
mod xgroup;
mod xinfo;
mod xreadgroup;

pub(crate) use multi::Transaction;
pub(crate) use rpushx::Pipeline;
pub(crate) use xadd::{Adds, settle};

use crate::codec::{Parser, Reply};
use crate::meter;
use crate::session::Session;
use crate::stream::Stream;
use std::time::Instant;
pub(crate) use table::Command;
use table::{Definition, Subcommand};

/// The arguments of a command, its name first.
#[derive(Clone, Copy)]
pub(crate) struct Arguments<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    /// In the connection's input.
    Parsed {
        parser: &'a Parser,
        buffer: &'a [u8],
    },
    /// Kept since MULTI.
    Owned(&'a [Vec<u8>]),
}

impl<'a> Source<'a> {
    fn get(self, index: usize) -> Option<&'a [u8]> {
        match self {
            Self::Parsed { parser, buffer } => parser.argument(buffer, index),
            Self::Owned(arguments) => arguments.get(index).map(Vec::as_slice),
        }
    }
}

impl<'a> Arguments<'a> {
    pub(crate) fn new(parser: &'a Parser, buffer: &'a [u8]) -> Self {
        Self(Source::Parsed { parser, buffer })
    }

    pub(crate) fn owned(arguments: &'a [Vec<u8>]) -> Self {
        Self(Source::Owned(arguments))
    }

    /// How many there are, the name included.
    pub(crate) fn count(&self) -> usize {
        match self.0 {
            Source::Parsed { parser, .. } => parser.count(),
            Source::Owned(arguments) => arguments.len(),
        }
    }

    /// The argument at `index`; a missing one counts as empty.
    pub(crate) fn get(&self, index: usize) -> &'a [u8] {
        self.0.get(index).unwrap_or(&[])
    }

    /// The argument at `index` as text, invalid UTF-8 replaced.
    pub(crate) fn text(&self, index: usize) -> std::borrow::Cow<'a, str> {
        String::from_utf8_lossy(self.get(index))
    }

    /// Whether the argument at `index` is that word, in any case.
    pub(crate) fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).eq_ignore_ascii_case(word.as_bytes())
    }

    /// The arguments from `index` on.
    pub(crate) fn from(&self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone {
        let source = self.0;
        (index..self.count().max(index)).map(move |index| source.get(index).unwrap_or(&[]))
    }

    /// Where an argument is in the connection's input, if it is there.
    pub(crate) fn range(&self, index: usize) -> Option<std::ops::Range<usize>> {
        match self.0 {
            Source::Parsed { parser, .. } => parser.range(index),
            Source::Owned(_) => None,
        }
    }
}

/// What a command works with.
pub(crate) struct Context<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) reply: &'a mut Reply,
    pub(crate) stream: &'a mut Stream,
    /// False inside EXEC: no message is waited for there.
    pub(crate) may_wait: bool,
}

impl Context<'_> {
    /// Puts everything answered so far on the wire.
    pub(crate) async fn flush(&mut self) -> std::io::Result<()> {
        self.stream.write(&mut self.reply.bytes).await
    }

    /// Answers that the number of arguments is wrong.
    pub(crate) fn wrong_count(&mut self, command: &str) {
        self.reply.error(&table::wrong_count(command));
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

/// All commands and their names.
pub(crate) fn names() -> impl Iterator<Item = (Command, &'static str)> {
    let all = table::all().iter();
    all.map(|definition| (definition.command, definition.name))
}

/// Executes one command, or queues it for EXEC, and counts it.
pub(crate) async fn execute(context: &mut Context<'_>, arguments: &Arguments<'_>) -> Flow {
    let definition = table::find(arguments.get(0));
    // Before the time begins and errors are counted: what is answered here are
    // the commands before this one.
    if !is_add(definition, context.session, arguments)
        && let Err(error) = settle(context.session, context.reply, context.stream).await
    {
        return Flow::Broken(error);
    }
    let (since, errors) = (Instant::now(), context.reply.errors);
    let flow = execute_found(context, definition, arguments).await;
    let is_error = context.reply.errors > errors;
    context.session.shared.meter.answered(
        meter::place(definition.map(|found| found.command)),
        meter::outcome(is_error),
        since.elapsed(),
    );
    flow
}

async fn execute_found(
    context: &mut Context<'_>,
    definition: Option<&'static Definition>,
    arguments: &Arguments<'_>,
) -> Flow {
    let name = arguments.get(0);
    show(context.session, definition, arguments);
    let works_before_login = |definition: &Definition| definition.has_flag("no_auth");
    if !context.session.is_logged_in && !definition.is_some_and(works_before_login) {
        context.reply.error("NOAUTH Authentication required.");
        return Flow::Continue;
    }
    let checked = definition
        .ok_or_else(|| unknown(name))
        .and_then(|definition| Ok((definition, definition.check(arguments)?)));
    let (definition, subcommand) = match checked {
        Ok(found) => found,
        Err(text) => {
            context.reply.error(&text);
            multi::spoil(context.session);
            return Flow::Continue;
        }
    };
    if subscribe::restricts(context) && !definition.works_while_subscribed() {
        context.reply.error(&subscribe::refusal(definition));
        return Flow::Continue;
    }
    if context.session.transaction.is_some() && !definition.is_never_queued() {
        multi::queue(context, definition, arguments);
        return Flow::Continue;
    }
    note(context.session, definition, subcommand);
    run(context, definition, arguments).await
}

/// Whether this is an XADD that is going to be handed over: only those do not
/// wait until the ones before are answered.
fn is_add(definition: Option<&Definition>, session: &Session, arguments: &Arguments<'_>) -> bool {
    definition.is_some_and(|found| found.command == Command::Xadd && found.check(arguments).is_ok())
        && session.is_logged_in
        && session.transaction.is_none()
        && session.channels.is_empty()
        && session.patterns.is_empty()
}

/// Executes a command that has been checked.
async fn run(
    context: &mut Context<'_>,
    definition: &'static Definition,
    arguments: &Arguments<'_>,
) -> Flow {
    if !definition.subcommands.is_empty() && arguments.is(1, "help") {
        help::run(context, definition);
        return Flow::Continue;
    }
    match definition.command {
        Command::Acl => fixed::acl(context),
        Command::Auth => auth::run(context, arguments),
        Command::Blpop => return flow(blpop::run(context, arguments).await),
        Command::Client => client::run(context, definition, arguments),
        Command::Cluster | Command::Readonly | Command::Readwrite => fixed::no_cluster(context),
        Command::Introspection => command::run(context, arguments),
        Command::Config => config::run(context, arguments),
        Command::Dbsize => return flow(topics::dbsize(context).await),
        Command::Del => stats::del(context, arguments),
        Command::Discard => multi::discard(context),
        Command::Dump => return flow(dump::run(context, arguments).await),
        Command::Echo => context.reply.bulk(arguments.get(1)),
        Command::Exec => return multi::exec(context).await,
        Command::Exists => return flow(topics::exists(context, arguments).await),
        Command::Get => context.reply.null(),
        Command::Hello => hello::run(context, arguments),
        Command::Hgetall => stats::hgetall(context, arguments),
        Command::Info => info::run(context, arguments),
        Command::Keys => return flow(keys::run(context, arguments).await),
        Command::Latency => fixed::latency(context, arguments),
        Command::Llen => return flow(topics::llen(context, arguments).await),
        Command::Module => context.reply.array(0),
        Command::Monitor => monitor::run(context, arguments),
        Command::Multi => multi::begin(context),
        Command::Ping => ping::run(context, arguments),
        Command::Psubscribe => subscribe::begin(context, subscribe::Kind::Pattern, arguments),
        Command::Punsubscribe => subscribe::end(context, subscribe::Kind::Pattern, arguments),
        Command::Quit => return quit::run(context).await,
        Command::Reset => return flow(reset::run(context).await),
        Command::Role => fixed::role(context),
        Command::Rpush => return flow(rpush::run(context, arguments).await),
        Command::Rpushx => return flow(rpushx::run(context, arguments).await),
        Command::Scan => return flow(topics::scan(context, arguments).await),
        Command::Select => fixed::select(context, arguments),
        Command::Slowlog => fixed::slowlog(context, arguments),
        Command::Subscribe => subscribe::begin(context, subscribe::Kind::Channel, arguments),
        Command::Time => fixed::time(context),
        Command::Ttl | Command::Pttl => return flow(topics::ttl(context, arguments).await),
        Command::Type => return flow(topics::kind(context, arguments).await),
        Command::Unsubscribe => subscribe::end(context, subscribe::Kind::Channel, arguments),
        Command::Unwatch => context.reply.simple("OK"),
        Command::Watch => multi::watch(context),
        Command::Xack => return flow(xack::run(context, arguments).await),
        Command::Xadd => return flow(xadd::run(context, arguments).await),
        Command::Xgroup => return flow(xgroup::run(context, arguments).await),
        Command::Xinfo => return flow(xinfo::run(context, arguments).await),
        Command::Xlen => return flow(topics::llen(context, arguments).await),
        Command::Xreadgroup => return flow(xreadgroup::run(context, arguments).await),
    }
    Flow::Continue
}

fn flow(result: std::io::Result<()>) -> Flow {
    match result {
        Ok(()) => Flow::Continue,
        Err(error) => Flow::Broken(error),
    }
}

/// Shows the command to watchers; its own MONITOR is not shown to a watcher.
fn show(session: &Session, definition: Option<&Definition>, arguments: &Arguments<'_>) {
    let registry = &session.shared.registry;
    let is_monitor = definition.is_some_and(|found| found.command == Command::Monitor);
    if registry.has_watchers() {
        let hidden_from = is_monitor.then_some(session.entry.id);
        let arguments = arguments.from(0);
        registry.show(
            session.id(),
            hidden_from,
            arguments,
            &session.shared.statistics,
        );
    }
}

/// Notes for CLIENT LIST what the connection does.
fn note(session: &Session, definition: &Definition, subcommand: Option<&Subcommand>) {
    let mut about = session.entry.about.lock();
    about.command = definition.name;
    about.subcommand = subcommand.map_or("", |found| found.name);
}

fn unknown(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    format!(
        "ERR unknown command '{name}' (Command not supported: {})",
        name.to_uppercase()
    )
}
