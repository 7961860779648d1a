//! `RPUSH acks <topic>:<partition>:<offset> […]` acknowledges (contract,
//! section 5); `RPUSH acks last` (13.1) and `RPUSH topics:<topic>[:<key>]
//! <message> […]` (13.2) are ours.

use super::{Arguments, Context, rpushx};
use crate::statistics::Statistics;
use barnabas_engine::Position;

pub(super) async fn run(
    context: &mut Context<'_>,
    arguments: &Arguments<'_>,
) -> std::io::Result<()> {
    let key = arguments.get(1);
    if key.eq_ignore_ascii_case(b"acks") {
        match acknowledge(context, arguments) {
            Ok(count) => context.reply.integer(count),
            Err(text) => context.reply.error(&text),
        }
        return Ok(());
    }
    if key.split(|byte| *byte == b':').next() == Some(b"topics") {
        return rpushx::run(context, arguments).await;
    }
    context
        .reply
        .error("CONS You can only RPUSH to the 'acks' key");
    Ok(())
}

fn acknowledge(context: &mut Context<'_>, arguments: &Arguments<'_>) -> Result<i64, String> {
    // A missing argument counts as an empty one.
    let count = arguments.count().saturating_sub(2).max(1);
    let positions: Vec<Ack> = (0..count)
        .map(|index| parse(arguments.get(index + 2)))
        .collect::<Result<_, String>>()?;
    let session = &mut *context.session;
    let id = session.id().to_owned();
    let Some(active) = &mut session.consumer else {
        // Without a consumer nothing was delivered either.
        return Err(
            match positions.iter().find(|ack| matches!(ack, Ack::Last)) {
                Some(_) => "CONS Cannot parse ack: 'last'".to_owned(),
                None => format!("CONS No consumer registered for Client {id}"),
            },
        );
    };
    let positions: Vec<Position> = positions
        .into_iter()
        .map(|ack| match ack {
            Ack::Position(position) => Ok(position),
            Ack::Last => active
                .last
                .clone()
                .ok_or_else(|| "CONS Cannot parse ack: 'last'".to_owned()),
        })
        .collect::<Result<_, String>>()?;
    if let Some(negative) = positions.iter().find(|position| position.offset < 0) {
        return Err(format!(
            "CONS offset cannot be negative, got {}",
            negative.offset
        ));
    }
    active
        .consumer
        .store(&positions)
        .map_err(|error| format!("CONS {error}"))?;
    let stored = positions.len() as u64;
    Statistics::add(&session.shared.statistics.acks_stored, stored);
    Ok(i64::try_from(stored).unwrap_or(i64::MAX))
}

/// What one argument acknowledges.
enum Ack {
    /// Everything before this position.
    Position(Position),
    /// The message delivered last.
    Last,
}

/// The position behind the acknowledged offset. An overflow becomes the
/// negative number that rafka's arithmetic makes of it.
fn parse(argument: &[u8]) -> Result<Ack, String> {
    if argument == b"last" {
        return Ok(Ack::Last);
    }
    let parsed = || -> Option<Position> {
        let text = std::str::from_utf8(argument).ok()?;
        let mut parts = text.split(':');
        let topic = parts.next()?;
        let partition = parts.next()?.parse().ok()?;
        let offset: i64 = parts.next()?.parse().ok()?;
        parts.next().is_none().then(|| Position {
            topic: topic.to_owned(),
            partition,
            offset: offset.wrapping_add(1),
        })
    };
    parsed().map(Ack::Position).ok_or_else(|| {
        format!(
            "CONS Cannot parse ack: '{}'",
            String::from_utf8_lossy(argument)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(argument: &str) -> Result<i64, String> {
        match parse(argument.as_bytes())? {
            Ack::Position(position) => Ok(position.offset),
            Ack::Last => Ok(-99),
        }
    }

    #[test]
    fn the_position_is_behind_the_acknowledged_offset() {
        assert_eq!(offset("t:2:41"), Ok(42));
        assert_eq!(offset("t:2:-1"), Ok(0));
        assert_eq!(offset("t:2:-2"), Ok(-1));
        assert_eq!(offset("t:2:9223372036854775807"), Ok(i64::MIN));
        assert_eq!(offset("last"), Ok(-99));
        for bad in [
            "",
            "t",
            "t:2",
            "t:2:x",
            "t:x:2",
            "t:2:3:4",
            "t:2:9223372036854775808",
        ] {
            assert_eq!(offset(bad), Err(format!("CONS Cannot parse ack: '{bad}'")));
        }
    }
}
