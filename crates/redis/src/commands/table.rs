//! The commands: one definition each, from which they are found, checked,
//! documented and listed.

use super::Arguments;
use Command as C;

/// A command that is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Acl,
    Auth,
    Blpop,
    Client,
    Cluster,
    Introspection,
    Config,
    Dbsize,
    Del,
    Discard,
    Dump,
    Echo,
    Exec,
    Exists,
    Get,
    Hello,
    Hgetall,
    Info,
    Keys,
    Latency,
    Llen,
    Module,
    Monitor,
    Multi,
    Ping,
    Psubscribe,
    Pttl,
    Punsubscribe,
    Quit,
    Readonly,
    Readwrite,
    Reset,
    Role,
    Rpush,
    Rpushx,
    Scan,
    Select,
    Slowlog,
    Subscribe,
    Time,
    Ttl,
    Type,
    Unsubscribe,
    Unwatch,
    Watch,
    Xack,
    Xadd,
    Xgroup,
    Xinfo,
    Xlen,
    Xreadgroup,
}

/// Everything that is known of a command.
#[derive(Debug)]
pub(crate) struct Definition {
    /// In lower case.
    pub(crate) name: &'static str,
    pub(crate) command: Command,
    /// Arguments with the name; negative: at least so many.
    pub(crate) arity: i64,
    /// Redis's names of flags. `no_auth`: works before login; `no_multi`:
    /// refused inside MULTI.
    pub(crate) flags: &'static [&'static str],
    pub(crate) keys: Keys,
    pub(crate) group: &'static str,
    /// The Redis release that first had it in this shape.
    pub(crate) since: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) subcommands: &'static [Subcommand],
    /// The command has words of its own for a wrong number of arguments.
    counts_itself: bool,
}

/// Which arguments are keys: first, last (negative: from the end) and step;
/// all zero: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keys {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) step: i64,
}

/// A word after the name of a command that has such.
#[derive(Debug)]
pub(crate) struct Subcommand {
    /// In lower case.
    pub(crate) name: &'static str,
    pub(crate) arity: i64,
    pub(crate) summary: &'static str,
}

/// Every command with subcommands explains them.
const HELP: Subcommand = sub("help", -2, "Lists the subcommands");

const READ: &[&str] = &["readonly", "fast"];
const SLOW_READ: &[&str] = &["readonly"];
const WRITE: &[&str] = &["write", "denyoom", "fast"];
const FAST: &[&str] = &["noscript", "loading", "stale", "fast"];
const ADMIN: &[&str] = &["admin", "noscript", "loading", "stale"];
const BEFORE_LOGIN: &[&str] = &["noscript", "loading", "stale", "fast", "no_auth"];
const PUBSUB: &[&str] = &["pubsub", "noscript", "loading", "stale", "no_multi"];

const ONE_KEY: Keys = keys(1, 1, 1);

// The commands of producers and consumers come first: they are looked up
// most. The rest by group.
#[rustfmt::skip]
const COMMANDS: &[Definition] = &[
    define("rpushx", C::Rpushx, -3, WRITE, "list", "2.2.0", "Produces messages to the topic of the key topics:<topic>[:<key>]").counting_itself().with_keys(ONE_KEY),
    define("blpop", C::Blpop, -2, &["write", "blocking"], "list", "2.0.0", "Consumes one message of the topics of the key topics:<t1>[,<t2>...][:<json>]").counting_itself().with_keys(keys(1, -2, 1)),
    define("rpush", C::Rpush, -3, WRITE, "list", "1.0.0", "Acknowledges messages (key acks), or produces as RPUSHX (key topics:<topic>)").counting_itself().with_keys(ONE_KEY),
    define("dump", C::Dump, 2, &["readonly", "blocking"], "list", "2.6.0", "Waits so many milliseconds for the delivery of this connection's messages").counting_itself(),
    define("xadd", C::Xadd, -5, WRITE, "stream", "5.0.0", "Produces one message to the topic of the key topics:<topic>, and tells where it is").with_keys(ONE_KEY),
    define("xreadgroup", C::Xreadgroup, -7, &["write", "blocking", "movablekeys"], "stream", "5.0.0", "Consumes messages of the topics of the keys topics:<topic>, as a consumer of a group"),
    define("xack", C::Xack, -4, WRITE, "stream", "5.0.0", "Acknowledges messages of a topic, one by one").with_keys(ONE_KEY),
    define("xlen", C::Xlen, 2, READ, "stream", "5.0.0", "Counts the messages that a topic keeps").with_keys(ONE_KEY),
    define("xgroup", C::Xgroup, -2, &["write"], "stream", "5.0.0", "Creates and destroys groups, and ends their consumers").with_subcommands(XGROUP),
    define("xinfo", C::Xinfo, -2, SLOW_READ, "stream", "5.0.0", "Tells which groups read a topic, and how far they are").with_subcommands(&[
        sub("groups", 3, "The groups of a topic"),
    ]),
    define("llen", C::Llen, 2, SLOW_READ, "list", "1.0.0", "Counts the messages that a topic keeps").with_keys(ONE_KEY),

    define("keys", C::Keys, 2, SLOW_READ, "generic", "1.0.0", "Lists topics as keys").counting_itself(),
    define("scan", C::Scan, -2, SLOW_READ, "generic", "2.8.0", "Lists topics as keys, all in one page"),
    define("exists", C::Exists, -2, READ, "generic", "1.0.0", "Counts those of the keys that are topics").with_keys(keys(1, -1, 1)),
    define("type", C::Type, 2, READ, "generic", "1.0.0", "Tells whether a key is a topic (stream) or not (none)").with_keys(ONE_KEY),
    define("ttl", C::Ttl, 2, READ, "generic", "1.0.0", "Tells whether a key is a topic (-1) or not (-2)").with_keys(ONE_KEY),
    define("pttl", C::Pttl, 2, READ, "generic", "2.6.0", "Tells whether a key is a topic (-1) or not (-2)").with_keys(ONE_KEY),
    define("get", C::Get, 2, READ, "string", "1.0.0", "Answers null: there are no strings").with_keys(ONE_KEY),
    define("hgetall", C::Hgetall, 2, SLOW_READ, "hash", "2.0.0", "Shows the counters (key stats), or those of this connection (key stats:connection)").counting_itself().with_keys(ONE_KEY),
    define("del", C::Del, -2, &["write"], "generic", "1.0.0", "Zeroes the counters (key stats)").counting_itself().with_keys(ONE_KEY),

    define("auth", C::Auth, -2, BEFORE_LOGIN, "connection", "1.0.0", "Logs in"),
    define("client", C::Client, -2, FAST, "connection", "2.4.0", "Names, lists and closes connections").counting_itself().with_subcommands(CLIENT),
    define("echo", C::Echo, 2, FAST, "connection", "1.0.0", "Answers its argument"),
    define("hello", C::Hello, -1, BEFORE_LOGIN, "connection", "6.0.0", "Chooses the protocol, logs in and names the connection"),
    define("ping", C::Ping, -1, FAST, "connection", "1.0.0", "Answers PONG or its argument").counting_itself(),
    define("quit", C::Quit, -1, BEFORE_LOGIN, "connection", "1.0.0", "Leaves the consumer group and closes the connection").counting_itself(),
    define("reset", C::Reset, 1, BEFORE_LOGIN, "connection", "6.2.0", "Makes the connection as good as new"),
    define("select", C::Select, 2, FAST, "connection", "1.0.0", "Accepts a database number, without effect"),

    define("multi", C::Multi, 1, FAST, "transactions", "1.2.0", "Begins to queue commands"),
    define("exec", C::Exec, 1, FAST, "transactions", "1.2.0", "Executes the queued commands, each by itself"),
    define("discard", C::Discard, 1, FAST, "transactions", "2.0.0", "Forgets the queued commands"),
    define("watch", C::Watch, -2, FAST, "transactions", "2.2.0", "Accepts keys, without effect").with_keys(keys(1, -1, 1)),
    define("unwatch", C::Unwatch, 1, FAST, "transactions", "2.2.0", "Undoes WATCH, without effect"),

    define("subscribe", C::Subscribe, -2, PUBSUB, "pubsub", "2.0.0", "Confirms; nothing is ever published"),
    define("psubscribe", C::Psubscribe, -2, PUBSUB, "pubsub", "2.0.0", "Confirms; nothing is ever published"),
    define("unsubscribe", C::Unsubscribe, -1, PUBSUB, "pubsub", "2.0.0", "Undoes SUBSCRIBE"),
    define("punsubscribe", C::Punsubscribe, -1, PUBSUB, "pubsub", "2.0.0", "Undoes PSUBSCRIBE"),

    define("acl", C::Acl, -2, FAST, "server", "6.0.0", "Tells who is logged in").with_subcommands(&[
        sub("whoami", 2, "The user of this connection"),
    ]),
    define("command", C::Introspection, -1, FAST, "server", "2.8.13", "Describes the commands").with_subcommands(COMMAND),
    define("config", C::Config, -2, ADMIN, "server", "2.0.0", "Shows settings").with_subcommands(&[
        sub("get", -3, "The settings that match the patterns"),
        sub("resetstat", 2, "Zeroes the counters, as DEL stats"),
        sub("set", -4, "Refused: settings change with the file"),
    ]),
    define("dbsize", C::Dbsize, 1, READ, "server", "1.0.0", "Counts the topics"),
    define("info", C::Info, -1, &["loading", "stale"], "server", "1.0.0", "Describes the server"),
    define("latency", C::Latency, -2, ADMIN, "server", "2.8.13", "Answers that nothing was recorded").with_subcommands(&[
        sub("latest", 2, "An empty list"),
        sub("reset", -2, "Zero"),
    ]),
    define("module", C::Module, -2, ADMIN, "server", "4.0.0", "Answers that there are no modules").with_subcommands(&[
        sub("list", 2, "An empty list"),
    ]),
    define("monitor", C::Monitor, 1, &["admin", "noscript", "loading", "stale", "no_multi"], "server", "1.0.0", "Shows every command of every connection").counting_itself(),
    define("role", C::Role, 1, FAST, "server", "2.8.12", "Answers that this is a master without replicas"),
    define("slowlog", C::Slowlog, -2, ADMIN, "server", "2.2.12", "Answers that nothing was recorded").with_subcommands(&[
        sub("get", -2, "An empty list"),
        sub("len", 2, "Zero"),
        sub("reset", 2, "OK"),
    ]),
    define("time", C::Time, 1, FAST, "server", "2.6.0", "Tells the time in seconds and microseconds"),

    define("cluster", C::Cluster, -2, FAST, "cluster", "3.0.0", "Refused: there are no cluster nodes"),
    define("readonly", C::Readonly, 1, FAST, "cluster", "3.0.0", "Refused: there are no cluster nodes"),
    define("readwrite", C::Readwrite, 1, FAST, "cluster", "3.0.0", "Refused: there are no cluster nodes"),
];

const XGROUP: &[Subcommand] = &[
    sub(
        "create",
        -5,
        "Lets a group begin at the end ($) or the beginning (0) of a topic [MKSTREAM]",
    ),
    sub("createconsumer", 5, "Makes a consumer before it reads"),
    sub(
        "delconsumer",
        5,
        "Ends a consumer; others get what it has not acknowledged",
    ),
    sub("destroy", 4, "Forgets how far a group is on a topic"),
    sub(
        "setid",
        -5,
        "Lets a group without members go on at the end ($) or the beginning (0)",
    ),
];

const CLIENT: &[Subcommand] = &[
    sub(
        "getname",
        -2,
        "The name, or the address while there is none",
    ),
    sub("id", -2, "The number of this connection"),
    sub("info", -2, "This connection, described as in LIST"),
    sub("kill", -3, "Closes the connections that are meant"),
    sub("list", -2, "The connections [TYPE type | ID id ...]"),
    sub("no-evict", -3, "Accepted, without effect"),
    sub("no-touch", -3, "Accepted, without effect"),
    sub("reply", -3, "ON only"),
    sub(
        "setinfo",
        -4,
        "Says which library the client uses, LIB-NAME or LIB-VER",
    ),
    sub("setname", -2, "Names the connection <group>:<name>"),
    sub("unpause", -2, "Accepted, without effect"),
];

const COMMAND: &[Subcommand] = &[
    sub("count", 2, "How many commands there are"),
    sub("docs", -2, "What commands are for"),
    sub("getkeys", -3, "Which arguments of a command are keys"),
    sub("info", -2, "How commands are called"),
    sub(
        "list",
        -2,
        "The names [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]",
    ),
];

const fn define(
    name: &'static str,
    command: Command,
    arity: i64,
    flags: &'static [&'static str],
    group: &'static str,
    since: &'static str,
    summary: &'static str,
) -> Definition {
    Definition {
        name,
        command,
        arity,
        flags,
        keys: keys(0, 0, 0),
        group,
        since,
        summary,
        subcommands: &[],
        counts_itself: false,
    }
}

const fn sub(name: &'static str, arity: i64, summary: &'static str) -> Subcommand {
    Subcommand {
        name,
        arity,
        summary,
    }
}

const fn keys(first: i64, last: i64, step: i64) -> Keys {
    Keys { first, last, step }
}

/// All definitions.
pub(crate) fn all() -> &'static [Definition] {
    COMMANDS
}

/// The command of that name, in any case.
pub(crate) fn find(name: &[u8]) -> Option<&'static Definition> {
    COMMANDS
        .iter()
        .find(|definition| definition.name.as_bytes().eq_ignore_ascii_case(name))
}

impl Definition {
    const fn counting_itself(mut self) -> Self {
        self.counts_itself = true;
        self
    }

    const fn with_keys(mut self, keys: Keys) -> Self {
        self.keys = keys;
        self
    }

    const fn with_subcommands(mut self, subcommands: &'static [Subcommand]) -> Self {
        self.subcommands = subcommands;
        self
    }

    pub(crate) fn has_flag(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// Commands that act at once inside MULTI.
    pub(crate) fn is_never_queued(&self) -> bool {
        matches!(
            self.command,
            C::Multi | C::Exec | C::Discard | C::Watch | C::Quit | C::Reset
        )
    }

    /// The only commands of a RESP2 connection that has subscribed.
    pub(crate) fn works_while_subscribed(&self) -> bool {
        self.group == "pubsub" || matches!(self.command, C::Ping | C::Quit | C::Reset)
    }

    /// The subcommand that the arguments name.
    pub(crate) fn subcommand(&self, arguments: &Arguments<'_>) -> Option<&'static Subcommand> {
        if self.subcommands.is_empty() {
            return None;
        }
        let named = |subcommand: &&Subcommand| {
            let name = subcommand.name.as_bytes();
            name.eq_ignore_ascii_case(arguments.get(1))
        };
        self.subcommands
            .iter()
            .find(named)
            .or(Some(&HELP).filter(named))
    }

    /// Checks subcommand and number of arguments; else the error's text.
    pub(crate) fn check(
        &self,
        arguments: &Arguments<'_>,
    ) -> Result<Option<&'static Subcommand>, String> {
        let count = i64::try_from(arguments.count()).unwrap_or(i64::MAX);
        if !self.counts_itself && !fits(self.arity, count) {
            return Err(wrong_count(self.name));
        }
        let subcommand = self.subcommand(arguments);
        match subcommand {
            None if self.subcommands.is_empty() || count == 1 => {}
            None => return Err(self.unknown_subcommand(arguments)),
            Some(subcommand) if fits(subcommand.arity, count) => {}
            Some(subcommand) => {
                return Err(wrong_count(&format!("{}|{}", self.name, subcommand.name)));
            }
        }
        Ok(subcommand)
    }

    /// The error for a subcommand that is none.
    pub(crate) fn unknown_subcommand(&self, arguments: &Arguments<'_>) -> String {
        format!(
            "ERR unknown subcommand '{}'. Try {} HELP.",
            arguments.text(1),
            self.name.to_uppercase()
        )
    }
}

/// Whether so many arguments are right for an arity.
pub(crate) fn fits(arity: i64, count: i64) -> bool {
    count == arity || arity < 0 && count >= -arity
}

/// The error for a wrong number of arguments.
pub(crate) fn wrong_count(command: &str) -> String {
    format!("ERR wrong number of arguments for '{command}' command")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_definition_is_complete_and_found_by_its_name() {
        let mut names = BTreeSet::new();
        for definition in all() {
            let name = definition.name;
            assert!(names.insert(name), "{name} twice");
            let found = find(name.to_uppercase().as_bytes()).unwrap();
            assert_eq!(found.name, name);
            assert!(!definition.summary.is_empty(), "{name}");
            assert!(!definition.group.is_empty(), "{name}");
            assert!(!definition.flags.is_empty(), "{name}");
            assert_ne!(definition.arity, 0, "{name}");
            assert!(definition.since.split('.').count() == 3, "{name}");
            for subcommand in definition.subcommands {
                assert!(!subcommand.summary.is_empty(), "{name}");
                assert_eq!(subcommand.name, subcommand.name.to_lowercase());
            }
        }
        assert!(find(b"no-such-command").is_none());
    }

    #[test]
    fn counts_and_subcommands_are_checked() {
        let check = |words: &[&str]| {
            let owned: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
            let arguments = Arguments::owned(&owned);
            find(arguments.get(0))
                .unwrap()
                .check(&arguments)
                .map(|subcommand| subcommand.map_or("", |found| found.name))
        };
        assert_eq!(check(&["ECHO", "a"]), Ok(""));
        assert_eq!(
            check(&["Echo"]),
            Err("ERR wrong number of arguments for 'echo' command".to_owned())
        );
        assert_eq!(check(&["CONFIG", "Get", "a", "b"]), Ok("get"));
        assert_eq!(check(&["config", "HELP"]), Ok("help"));
        assert_eq!(
            check(&["config", "GET"]),
            Err("ERR wrong number of arguments for 'config|get' command".to_owned())
        );
        assert_eq!(
            check(&["config", "Rewrite"]),
            Err("ERR unknown subcommand 'Rewrite'. Try CONFIG HELP.".to_owned())
        );
        assert_eq!(check(&["command"]), Ok(""));
        // These have texts of their own.
        for words in [&["rpushx"][..], &["blpop"], &["monitor", "x"], &["client"]] {
            assert_eq!(check(words), Ok(""), "{words:?}");
        }
    }
}
