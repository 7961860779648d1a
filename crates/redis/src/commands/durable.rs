//! Producing that is answered once the messages are on disk, or in Kafka
//! (`Durability`), instead of in memory.

use crate::codec::Reply;
use crate::registry::order;
use crate::session::Session;
use crate::stream::Stream;
use barnabas_engine::{Error, ErrorCode, KafkaError, Record, Submitted, Topic};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// What takes longer lets the replies to earlier commands go first.
const SHORT: Duration = Duration::from_millis(20);

/// Puts the records into the journal and waits until they are on disk, once
/// for all of them. Returns those that were refused, by index.
pub(super) async fn write<'a>(
    session: &mut Session,
    topic: &Topic,
    records: impl ExactSizeIterator<Item = Record<'a>> + Clone,
    reply: &mut Reply,
    stream: &mut Stream,
) -> io::Result<Vec<(usize, Error)>> {
    let cluster = session.shared.cluster.clone();
    let total = records.len();
    let mut refused: Vec<(usize, Error)> = Vec::new();
    for (index, record) in records.clone().enumerate() {
        if let Err(error) = cluster.check(topic.name(), record, &[]) {
            refused.push((index, error.into()));
        }
    }
    let written = {
        let is_good = |index: usize| {
            refused
                .binary_search_by_key(&index, |(index, _)| *index)
                .is_err()
        };
        let good = records
            .enumerate()
            .filter(|(index, _)| is_good(*index))
            .map(|(_, record)| record);
        let writing = async {
            let appended = cluster.append(topic.name(), good, &[], None, None).await?;
            appended.synced().await
        };
        unless_gone(session, reply, stream, writing).await?
    };
    match written {
        Some(Ok(sequences)) => session.journaled = session.journaled.max(sequences.end),
        Some(Err(error)) => {
            refused = (0..total)
                .map(|index| (index, error.clone().into()))
                .collect();
        }
        None => refused = nobody_reads(total),
    }
    Ok(refused)
}

/// Produces the records and waits until Kafka has them. Returns those that it
/// has refused, by index.
pub(super) async fn deliver<'a>(
    session: &mut Session,
    topic: &Arc<Topic>,
    records: impl ExactSizeIterator<Item = Record<'a>> + Clone,
    reply: &mut Reply,
    stream: &mut Stream,
) -> io::Result<Vec<(usize, Error)>> {
    let producer = session.shared.producer.clone();
    let total = records.len();
    let delivering = async {
        let mut refused = Vec::new();
        if let Err(error) = producer.look_up(topic).await {
            refused.extend((0..total).map(|index| (index, error.into())));
            return refused;
        }
        let mut submitted: Vec<(usize, Submitted)> = Vec::with_capacity(total);
        for (index, record) in records.enumerate() {
            let result = loop {
                let room = producer.room_again();
                match producer.submit_to(topic, None, record, &[], None) {
                    Err(Error::Kafka { error }) if error.is(ErrorCode::QueueFull) => room.await,
                    result => break result,
                }
            };
            match result {
                Ok(waits) => submitted.push((index, waits)),
                Err(error) => refused.push((index, error)),
            }
        }
        for (index, waits) in submitted {
            if let Err(error) = waits.delivered().await {
                refused.push((index, error));
            }
        }
        refused.sort_by_key(|(index, _)| *index);
        refused
    };
    let refused = unless_gone(session, reply, stream, delivering).await?;
    Ok(refused.unwrap_or_else(|| nobody_reads(total)))
}

/// Waits for the outcome as long as there is somebody to be told. `None`: the
/// connection is to end.
async fn unless_gone<T>(
    session: &Session,
    reply: &mut Reply,
    stream: &mut Stream,
    outcome: impl Future<Output = T>,
) -> io::Result<Option<T>> {
    let entry = Arc::clone(&session.entry);
    tokio::pin!(outcome);
    tokio::select! {
        biased;
        outcome = &mut outcome => return Ok(Some(outcome)),
        () = tokio::time::sleep(SHORT) => {}
    }
    stream.write(&mut reply.bytes).await?;
    tokio::select! {
        biased;
        outcome = &mut outcome => Ok(Some(outcome)),
        () = entry.ordered(order::KILL) => Ok(None),
        () = stream.hung_up() => {
            entry.give_order(order::KILL);
            Ok(None)
        }
    }
}

/// The answers of a connection that ends.
fn nobody_reads(count: usize) -> Vec<(usize, Error)> {
    let error = KafkaError::from_code(ErrorCode::BrokerDestroy);
    (0..count).map(|index| (index, error.into())).collect()
}
