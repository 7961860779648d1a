//! Topics as keys: `SCAN`, `DBSIZE`, `EXISTS`, `TYPE`, `TTL`, `LLEN`
//! (contract, section 12).

use super::keys::{PREFIX, topic_keys};
use super::{Arguments, Context};
use crate::registry::order;
use std::io;

/// `DBSIZE`
pub(super) async fn dbsize(context: &mut Context<'_>) -> io::Result<()> {
    context.flush().await?;
    let count = topic_keys(context, b"*").await.map(|keys| keys.len());
    answer(context, count.map(to_integer));
    Ok(())
}

/// `EXISTS key …`; a key given twice counts twice, as in Redis.
pub(super) async fn exists(context: &mut Context<'_>, arguments: &Arguments<'_>) -> io::Result<()> {
    context.flush().await?;
    let count = topic_keys(context, b"*").await.map(|keys| {
        let is_topic = |key: &&[u8]| contains(&keys, key);
        arguments.from(1).filter(is_topic).count()
    });
    answer(context, count.map(to_integer));
    Ok(())
}

/// `TTL key`, `PTTL key`: a topic has no end, whatever its retention does.
pub(super) async fn ttl(context: &mut Context<'_>, arguments: &Arguments<'_>) -> io::Result<()> {
    context.flush().await?;
    let exists = is_topic(context, arguments.get(1)).await;
    answer(context, exists.map(|exists| if exists { -1 } else { -2 }));
    Ok(())
}

/// `TYPE key`
pub(super) async fn kind(context: &mut Context<'_>, arguments: &Arguments<'_>) -> io::Result<()> {
    context.flush().await?;
    match is_topic(context, arguments.get(1)).await {
        Ok(true) => context.reply.simple("stream"),
        Ok(false) => context.reply.simple("none"),
        Err(text) => context.reply.error(&text),
    }
    Ok(())
}

/// `LLEN key`: high minus low, summed over the partitions.
pub(super) async fn llen(context: &mut Context<'_>, arguments: &Arguments<'_>) -> io::Result<()> {
    context.flush().await?;
    let topic = arguments.get(1).strip_prefix(PREFIX.as_bytes());
    let length = match topic.map(std::str::from_utf8) {
        Some(Ok(topic)) => length(context, topic).await,
        _ => Ok(0),
    };
    answer(context, length);
    Ok(())
}

/// The messages that a topic keeps; 0 without the topic.
async fn length(context: &mut Context<'_>, topic: &str) -> Result<i64, String> {
    let shared = &context.session.shared;
    let asked = shared
        .offsets
        .length(&shared.cluster, &shared.background, topic);
    tokio::select! {
        length = asked => {
            length.map_err(|error| format!("ERR Error getting metadata: {error}"))
        }
        () = context.session.entry.ordered(order::KILL | order::CLOSE) => {
            Err("ERR Error getting metadata: the connection is closed".to_owned())
        }
        () = context.stream.hung_up() => {
            Err("ERR Error getting metadata: the connection is closed".to_owned())
        }
    }
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`: one page.
pub(super) async fn scan(context: &mut Context<'_>, arguments: &Arguments<'_>) -> io::Result<()> {
    let scan = match Scan::parse(arguments) {
        Ok(scan) => scan,
        Err(text) => {
            context.reply.error(text);
            return Ok(());
        }
    };
    context.flush().await?;
    let keys = if scan.is_empty {
        Ok(Vec::new())
    } else {
        topic_keys(context, scan.pattern).await
    };
    match keys {
        Ok(keys) => {
            context.reply.array(2);
            context.reply.bulk(b"0");
            context.reply.array(keys.len());
            for key in keys {
                context.reply.bulk(key.as_bytes());
            }
        }
        Err(text) => context.reply.error(&text),
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
struct Scan<'a> {
    pattern: &'a [u8],
    /// Another type, or the page after the only one.
    is_empty: bool,
}

impl<'a> Scan<'a> {
    fn parse(arguments: &Arguments<'a>) -> Result<Self, &'static str> {
        let cursor: u64 = arguments
            .text(1)
            .parse()
            .map_err(|_| "ERR invalid cursor")?;
        let mut scan = Self {
            pattern: b"*",
            is_empty: cursor != 0,
        };
        let count = arguments.count();
        for index in (2..count).step_by(2) {
            let value = arguments.get(index + 1);
            if index + 1 >= count {
                return Err("ERR syntax error");
            } else if arguments.is(index, "match") {
                scan.pattern = value;
            } else if arguments.is(index, "count") {
                match arguments.text(index + 1).parse::<i64>() {
                    Ok(1..) => {}
                    Ok(_) => return Err("ERR syntax error"),
                    Err(_) => return Err("ERR value is not an integer or out of range"),
                }
            } else if arguments.is(index, "type") {
                scan.is_empty |= !value.eq_ignore_ascii_case(b"stream");
            } else {
                return Err("ERR syntax error");
            }
        }
        Ok(scan)
    }
}

async fn is_topic(context: &Context<'_>, key: &[u8]) -> Result<bool, String> {
    Ok(contains(&topic_keys(context, b"*").await?, key))
}

fn contains(keys: &[String], key: &[u8]) -> bool {
    keys.iter().any(|known| known.as_bytes() == key)
}

fn to_integer(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn answer(context: &mut Context<'_>, number: Result<i64, String>) {
    match number {
        Ok(number) => context.reply.integer(number),
        Err(text) => context.reply.error(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<(String, bool), &'static str> {
        let words: Vec<Vec<u8>> = text
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        let scan = Scan::parse(&Arguments::owned(&words))?;
        Ok((
            String::from_utf8_lossy(scan.pattern).into_owned(),
            scan.is_empty,
        ))
    }

    #[test]
    fn scan_takes_the_options_of_redis() {
        assert_eq!(parse("SCAN 0"), Ok(("*".to_owned(), false)));
        assert_eq!(
            parse("SCAN 0 MATCH topics:a* COUNT 100 type STREAM"),
            Ok(("topics:a*".to_owned(), false))
        );
        assert_eq!(parse("SCAN 17"), Ok(("*".to_owned(), true)));
        assert_eq!(parse("SCAN 0 TYPE list"), Ok(("*".to_owned(), true)));
        for (text, error) in [
            ("SCAN x", "ERR invalid cursor"),
            ("SCAN -1", "ERR invalid cursor"),
            ("SCAN 0 MATCH", "ERR syntax error"),
            ("SCAN 0 COUNT 0", "ERR syntax error"),
            (
                "SCAN 0 COUNT x",
                "ERR value is not an integer or out of range",
            ),
            ("SCAN 0 FOO 1", "ERR syntax error"),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }
}
