//! `DUMP <milliseconds>`: waits until this connection's messages are
//! delivered (contract, section 6).

use super::{Arguments, Context};
use crate::registry::order;
use std::time::Duration;

pub(super) async fn run(
    context: &mut Context<'_>,
    arguments: &Arguments<'_>,
) -> std::io::Result<()> {
    let has_produced = context
        .session
        .caller
        .as_ref()
        .is_some_and(barnabas_engine::Caller::has_produced);
    let journaled = context.session.journaled;
    if !has_produced && journaled == 0 {
        context.reply.integer(0);
        return Ok(());
    }
    if arguments.count() != 2 {
        context.reply.error(&format!(
            "PROD DUMP accepts 1 argument, got {}",
            arguments.count().saturating_sub(1)
        ));
        return Ok(());
    }
    let Ok(milliseconds) = arguments.text(1).parse::<i64>() else {
        context.reply.error("PROD NaN");
        return Ok(());
    };
    let limit = Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0));
    let may_wait = !limit.is_zero();
    if may_wait {
        context.flush().await?;
    }
    let entry = std::sync::Arc::clone(&context.session.entry);
    let cluster = context.session.shared.cluster.clone();
    let journal = cluster.journal().filter(|_| journaled > 0);
    let caller = context.session.caller();
    if may_wait {
        let settled = async {
            caller.settled().await;
            if let Some(journal) = journal {
                journal.delivered_before(journaled).await;
            }
        };
        tokio::select! {
            () = settled => {}
            () = tokio::time::sleep(limit) => {}
            // A stopping server wants the count now.
            () = entry.ordered(order::KILL | order::CLOSE) => {}
            () = context.stream.hung_up() => {}
        }
    }
    // Of the journal all that stands before this connection's last message.
    let in_journal = journal.map_or(0, |journal| journal.undelivered_before(journaled));
    let outstanding = caller.outstanding() + in_journal;
    context
        .reply
        .integer(i64::try_from(outstanding).unwrap_or(i64::MAX));
    Ok(())
}
