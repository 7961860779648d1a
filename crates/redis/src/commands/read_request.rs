//! What an XREADGROUP says (contract, 13.3).

use super::Arguments;
use super::entry::{self, EntryId};
use crate::streams::MOST_ENTRIES;
use std::time::Duration;
use tokio::time::Instant;

/// Entries of a stream in a reply to a request that does not say how many.
const DEFAULT_COUNT: usize = 100;

const NO_INTEGER: &str = "ERR value is not an integer or out of range";
const SYNTAX: &str = "ERR syntax error";

/// What the command says.
pub(super) struct Request<'a> {
    pub(super) group: &'a str,
    pub(super) consumer: &'a str,
    pub(super) count: usize,
    pub(super) block: Block,
    pub(super) acknowledges: bool,
    pub(super) keys: Vec<&'a [u8]>,
    pub(super) topics: Vec<String>,
    pub(super) from: Vec<Wanted>,
}

/// How long to wait for the first entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    Never,
    For(Duration),
    Forever,
}

/// Which entries are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// `>`: those that nobody of the group has got.
    New,
    /// Those that this consumer has got and not acknowledged, behind that id.
    After(EntryId),
}

impl<'a> Request<'a> {
    pub(super) fn parse(arguments: &Arguments<'a>) -> Result<Self, String> {
        let text = |index: usize| {
            std::str::from_utf8(arguments.get(index))
                .map_err(|_| "ERR Names of groups and consumers must be UTF-8".to_owned())
        };
        let mut request = Self {
            group: "",
            consumer: "",
            count: DEFAULT_COUNT,
            block: Block::Never,
            acknowledges: false,
            keys: Vec::new(),
            topics: Vec::new(),
            from: Vec::new(),
        };
        let mut has_group = false;
        let count = arguments.count();
        let mut at = 1;
        loop {
            let left = count.saturating_sub(at + 1);
            if arguments.is(at, "block") && left > 0 {
                request.block = parse_block(&arguments.text(at + 1))?;
                at += 2;
            } else if arguments.is(at, "count") && left > 0 {
                request.count = parse_count(&arguments.text(at + 1))?;
                at += 2;
            } else if arguments.is(at, "group") && left > 1 {
                (request.group, request.consumer) = (text(at + 1)?, text(at + 2)?);
                has_group = true;
                at += 3;
            } else if arguments.is(at, "noack") {
                request.acknowledges = true;
                at += 1;
            } else if arguments.is(at, "streams") && left > 0 {
                at += 1;
                break;
            } else {
                return Err(SYNTAX.to_owned());
            }
        }
        let streams = count - at;
        if streams % 2 == 1 {
            return Err(
                "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' \
                 must be specified."
                    .to_owned(),
            );
        }
        if !has_group {
            return Err("ERR Missing GROUP option for XREADGROUP".to_owned());
        }
        let half = streams / 2;
        request.keys = arguments.from(at).take(half).collect();
        request.from = arguments
            .from(at + half)
            .map(parse_id)
            .collect::<Result<_, String>>()?;
        request.topics = request
            .keys
            .iter()
            .map(|key| {
                let topic = entry::topic_of(key)?;
                if entry::is_legal(topic) {
                    Ok(topic.to_owned())
                } else {
                    Err("CONS Broker: Invalid topic".to_owned())
                }
            })
            .collect::<Result<_, String>>()?;
        Ok(request)
    }

    /// Whether it asks for anything that has been delivered: then nothing is
    /// waited for.
    pub(super) fn wants_history(&self) -> bool {
        self.from.iter().any(|from| *from != Wanted::New)
    }

    pub(super) fn deadline(&self, since: Instant) -> Instant {
        let forever = Duration::from_secs(365 * 86_400);
        match self.block {
            Block::Never => since,
            Block::For(limit) => since.checked_add(limit).unwrap_or(since + forever),
            Block::Forever => since + forever,
        }
    }
}

fn parse_block(text: &str) -> Result<Block, String> {
    let milliseconds: i64 = text
        .parse()
        .map_err(|_| "ERR timeout is not an integer or out of range".to_owned())?;
    match u64::try_from(milliseconds) {
        Ok(0) => Ok(Block::Forever),
        Ok(milliseconds) => Ok(Block::For(Duration::from_millis(milliseconds))),
        Err(_) => Err("ERR timeout is negative".to_owned()),
    }
}

/// As in Redis, nothing positive means no limit of the client's.
fn parse_count(text: &str) -> Result<usize, String> {
    let count: i64 = text.parse().map_err(|_| NO_INTEGER.to_owned())?;
    Ok(match usize::try_from(count) {
        Ok(count @ 1..) => count.min(MOST_ENTRIES),
        _ => MOST_ENTRIES,
    })
}

fn parse_id(id: &[u8]) -> Result<Wanted, String> {
    match id {
        b">" => Ok(Wanted::New),
        b"$" => Err(
            "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the \
             history of this consumer by specifying a proper ID, or use the > ID to get new \
             messages. The $ ID would just return an empty result set."
                .to_owned(),
        ),
        // In Redis nothing has this id; in Kafka a first message has.
        b"0" | b"0-0" => Ok(Wanted::After(EntryId::BEFORE_ALL)),
        other => match EntryId::parse(other) {
            Some(id) => Ok(Wanted::After(id)),
            None => Err(entry::BAD_ID.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(text: &str, check: impl FnOnce(Result<Request<'_>, String>) -> T) -> T {
        let words: Vec<Vec<u8>> = text
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        check(Request::parse(&Arguments::owned(&words)))
    }

    #[test]
    fn options_come_in_any_order() {
        with(
            "xreadgroup Count 5 NOACK block 0 GROUP g c STREAMS topics:a topics:b > 3-1",
            |request| {
                let request = request.unwrap();
                assert_eq!((request.group, request.consumer), ("g", "c"));
                assert_eq!((request.count, request.block), (5, Block::Forever));
                assert!(request.acknowledges && request.wants_history());
                assert_eq!(request.topics, ["a", "b"]);
                let id = EntryId {
                    offset: 3,
                    partition: 1,
                };
                assert_eq!(request.from, [Wanted::New, Wanted::After(id)]);
            },
        );
        with("XREADGROUP GROUP g c STREAMS topics:a >", |request| {
            let request = request.unwrap();
            assert_eq!((request.count, request.block), (100, Block::Never));
            assert!(!request.acknowledges && !request.wants_history());
        });
        with(
            "XREADGROUP GROUP g c COUNT 0 BLOCK 7 STREAMS topics:a >",
            |request| {
                let request = request.unwrap();
                let block = Block::For(Duration::from_millis(7));
                assert_eq!((request.count, request.block), (MOST_ENTRIES, block));
            },
        );
    }

    #[test]
    fn what_is_wrong_is_said_as_redis_says_it() {
        for (text, start) in [
            ("XREADGROUP GROUP g c COUNT 1 topics:a >", SYNTAX),
            ("XREADGROUP GROUP g c STREAMS", SYNTAX),
            (
                "XREADGROUP COUNT 1 BLOCK 1 STREAMS topics:a >",
                "ERR Missing GROUP",
            ),
            (
                "XREADGROUP GROUP g c STREAMS topics:a topics:b >",
                "ERR Unbalanced 'xreadgroup'",
            ),
            (
                "XREADGROUP GROUP g c STREAMS topics:a $",
                "ERR The $ ID is meaningless",
            ),
            ("XREADGROUP GROUP g c STREAMS topics:a x", entry::BAD_ID),
            (
                "XREADGROUP GROUP g c COUNT x STREAMS topics:a >",
                NO_INTEGER,
            ),
            (
                "XREADGROUP GROUP g c BLOCK -1 STREAMS topics:a >",
                "ERR timeout is negative",
            ),
            (
                "XREADGROUP GROUP g c BLOCK x STREAMS topics:a >",
                "ERR timeout is not an integer",
            ),
            ("XREADGROUP GROUP g c STREAMS a >", "ERR Expected key"),
            (
                "XREADGROUP GROUP g c STREAMS topics: >",
                "CONS Broker: Invalid topic",
            ),
            (
                "XREADGROUP GROUP g c STREAMS topics:a,b >",
                "CONS Broker: Invalid topic",
            ),
        ] {
            with(text, |request| {
                let error = request.err().unwrap();
                assert!(error.starts_with(start), "{text}: {error}");
            });
        }
    }
}
