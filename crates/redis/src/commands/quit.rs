//! `QUIT`: the name is free before the reply is sent (contract, section 8).

use super::{Context, Flow};

pub(super) async fn run(context: &mut Context<'_>) -> Flow {
    if let Err(error) = context.flush().await {
        return Flow::Broken(error);
    }
    context.session.release_name();
    context.session.close_consumer().await;
    context.reply.bulk_ok();
    Flow::Close
}
