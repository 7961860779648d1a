//! `XACK topics:<topic> <group> <id> […]`: acknowledge entries, in any order
//! (contract, 13.3).

use super::entry::{self, EntryId};
use super::{Arguments, Context};
use crate::statistics::Statistics;
use std::io;
use std::sync::Arc;

pub(super) async fn run(context: &mut Context<'_>, arguments: &Arguments<'_>) -> io::Result<()> {
    match acknowledge(context, arguments).await {
        Ok(count) => context
            .reply
            .integer(i64::try_from(count).unwrap_or(i64::MAX)),
        Err(text) => context.reply.error(&text),
    }
    Ok(())
}

/// How many entries are acknowledged by this that were not before. What this
/// process cannot acknowledge, because the partition has moved on, counts as
/// Redis counts unknown ids: not at all.
async fn acknowledge(context: &Context<'_>, arguments: &Arguments<'_>) -> Result<usize, String> {
    let topic = entry::topic_of(arguments.get(1))?;
    // All are looked at before any is acknowledged.
    let positions: Vec<(i32, i64)> = arguments
        .from(3)
        .map(|id| {
            let id = EntryId::parse(id).ok_or_else(|| entry::BAD_ID.to_owned())?;
            Ok((id.partition, id.offset))
        })
        .collect::<Result<_, String>>()?;
    let shared = Arc::clone(&context.session.shared);
    let streams = shared.streams.as_ref();
    let (streams, proxy) = streams
        .map(|streams| (streams, streams.proxy()))
        .ok_or_else(|| entry::NO_GROUPS.to_owned())?;
    // No group has another name.
    let Ok(group) = std::str::from_utf8(arguments.get(2)) else {
        return Ok(0);
    };
    streams.touch(&proxy.dispatcher.holders(group, topic, &positions));
    let results = proxy.ack(group, topic, &positions).await;
    let acked = results.iter().filter(|result| matches!(result, Ok(true)));
    let count = acked.count();
    Statistics::add(&shared.statistics.acks_stored, count as u64);
    Ok(count)
}
