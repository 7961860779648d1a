//! `RPUSHX <any>:<topic>[:<key>] <message> [message …]`: produce (contract,
//! section 6).

use super::{Arguments, Command, Context, durable};
use crate::codec::Reply;
use crate::meter;
use crate::registry::order;
use crate::session::Session;
use crate::stream::Stream;
use barnabas_engine::{Durability, Error, ErrorCode, KafkaError, Record, Topic};
use std::fmt::Display;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a connection that has too much under way is not read.
const ROOM_WAIT: Duration = Duration::from_millis(500);
/// Messages of a pipeline that go to the engine in one call.
const PIPELINE: usize = 1_024;

pub(super) const WRONG_KEY: &str =
    "PROD First argument must be in the form of 'topics:<topic>' or 'topics:<topic>:<key>'";

/// Topic and key of `<any>:<topic>[:<key>]`.
pub(super) fn split_key(argument: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let mut parts = argument.split(|byte| *byte == b':');
    parts.next()?;
    let topic = parts.next()?;
    let key = parts.next();
    parts.next().is_none().then_some((topic, key))
}

pub(super) async fn run(
    context: &mut Context<'_>,
    arguments: &Arguments<'_>,
) -> std::io::Result<()> {
    if arguments.count() < 3 {
        context.reply.error(&format!(
            "PROD RPUSHX accepts 2 arguments, got {}",
            arguments.count().saturating_sub(1)
        ));
        return Ok(());
    }
    let Some((topic, key)) = split_key(arguments.get(1)) else {
        context.reply.error(WRONG_KEY);
        return Ok(());
    };
    push(context, topic, key, arguments.from(2)).await
}

/// Produces the values and answers their number.
pub(super) async fn push<'a>(
    context: &mut Context<'_>,
    topic: &[u8],
    key: Option<&'a [u8]>,
    values: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
) -> std::io::Result<()> {
    let topic = match resolve(context.session, topic) {
        Ok(topic) => topic,
        Err(error) => {
            context.reply.error(&format!("PROD {error}"));
            return Ok(());
        }
    };
    let records = values.map(|value| Record {
        key,
        value: Some(value),
    });
    produce(
        context.session,
        &topic,
        records,
        context.reply,
        context.stream,
        Answers::Together,
    )
    .await
}

fn resolve(session: &mut Session, name: &[u8]) -> Result<Arc<Topic>, KafkaError> {
    if let Some(topic) = &session.topic
        && topic.name().as_bytes() == name
    {
        return Ok(Arc::clone(topic));
    }
    let topic = session.caller().topic(name)?;
    session.topic = Some(Arc::clone(&topic));
    Ok(topic)
}

/// Whether each record is a command of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    Each,
    Together,
}

/// Hands the records to the engine and writes the replies. A queue that is
/// full holds the connection up for a while, then becomes an error.
async fn produce<'a>(
    session: &mut Session,
    topic: &Arc<Topic>,
    records: impl ExactSizeIterator<Item = Record<'a>> + Clone,
    reply: &mut Reply,
    stream: &mut Stream,
    answers: Answers,
) -> std::io::Result<()> {
    let durability = session.shared.cluster.durability(topic.name());
    if durability != Durability::Memory {
        let refused = match durability {
            Durability::Journal => {
                durable::write(session, topic, records.clone(), reply, stream).await?
            }
            _ => durable::deliver(session, topic, records.clone(), reply, stream).await?,
        };
        answer_durable(reply, records.len(), &refused, answers);
        return Ok(());
    }
    let entry = Arc::clone(&session.entry);
    let total = records.len();
    let mut from = 0;
    let mut refusal: Option<KafkaError> = None;
    loop {
        let caller = session.caller();
        let sent = caller.send(topic, records.clone().skip(from));
        let full_from = sent.first_without_room();
        let decided = full_from.unwrap_or(total - from);
        if answers == Answers::Each {
            answer_each(reply, decided, sent.refused);
        } else {
            let failed = sent.refused.iter().find(|(index, _)| *index < decided);
            refusal = refusal.or(failed.map(|(_, error)| *error));
        }
        from += decided;
        if from == total {
            break;
        }
        // One wait for all that has been read.
        let deadline = *session
            .room_deadline
            .get_or_insert_with(|| Instant::now() + ROOM_WAIT);
        let mut has_room = false;
        if entry.orders() & (order::KILL | order::CLOSE) == 0 {
            stream.write(&mut reply.bytes).await?;
            has_room = tokio::time::timeout_at(deadline, session.caller().room_again())
                .await
                .is_ok();
        }
        if has_room {
            session.room_deadline = None;
        } else {
            let full = KafkaError::from_code(ErrorCode::QueueFull);
            refusal = refusal.or(Some(full));
            if answers == Answers::Each {
                for _ in from..total {
                    reply.error(&format!("PROD {full}"));
                }
            }
            break;
        }
    }
    if answers == Answers::Together {
        match refusal {
            Some(error) => reply.error(&format!("PROD {error}")),
            None => reply.integer(i64::try_from(total).unwrap_or(i64::MAX)),
        }
    }
    Ok(())
}

/// Answers what waited for more than memory; `refused` ascends.
fn answer_durable(reply: &mut Reply, count: usize, refused: &[(usize, Error)], answers: Answers) {
    match (answers, refused.first()) {
        (Answers::Each, _) => answer_each(reply, count, refused),
        (Answers::Together, Some((_, error))) => reply.error(&format!("PROD {error}")),
        (Answers::Together, None) => reply.integer(i64::try_from(count).unwrap_or(i64::MAX)),
    }
}

/// `:1` for each of `count` messages that was not refused.
fn answer_each(reply: &mut Reply, count: usize, refused: &[(usize, impl Display)]) {
    let mut next = 0;
    for (index, error) in refused.iter().filter(|(index, _)| *index < count) {
        reply.ones(index - next);
        reply.error(&format!("PROD {error}"));
        next = index + 1;
    }
    reply.ones(count - next);
}

/// Consecutive single-message RPUSHX of a connection to one topic: they go
/// to the engine together, which is what makes pipelines fast.
#[derive(Default)]
pub(crate) struct Pipeline {
    topic: Option<Arc<Topic>>,
    /// Key and value, as places in the connection's input.
    messages: Vec<(Option<Range<usize>>, Range<usize>)>,
}

impl Pipeline {
    /// Takes the command if it belongs here; false leaves everything as it
    /// is, and the command is executed by itself after `finish`.
    pub(crate) fn take(
        &mut self,
        session: &mut Session,
        arguments: &Arguments<'_>,
        input: &[u8],
    ) -> bool {
        if arguments.count() != 3
            || !arguments.get(0).eq_ignore_ascii_case(b"rpushx")
            || !session.is_logged_in
            || session.transaction.is_some()
            || !session.channels.is_empty()
            || !session.patterns.is_empty()
            || self.messages.len() >= PIPELINE
        {
            return false;
        }
        let (Some(key), Some(value)) = (arguments.range(1), arguments.range(2)) else {
            return false;
        };
        let Some((topic, message_key)) = input.get(key.clone()).and_then(split_key) else {
            return false;
        };
        match &self.topic {
            Some(own) if own.name().as_bytes() == topic => {}
            Some(_) => return false,
            None => match resolve(session, topic) {
                Ok(topic) => self.topic = Some(topic),
                Err(_) => return false,
            },
        }
        // The message's key ends where the argument ends.
        let message_key = message_key.map(|part| key.end - part.len()..key.end);
        super::show(session, None, arguments);
        self.messages.push((message_key, value));
        true
    }

    /// Sends what was taken and writes the replies.
    pub(crate) async fn finish(
        &mut self,
        session: &mut Session,
        input: &[u8],
        reply: &mut Reply,
        stream: &mut Stream,
    ) -> Option<std::io::Error> {
        let topic = self.topic.take()?;
        let (since, errors) = (std::time::Instant::now(), reply.errors);
        {
            let mut about = session.entry.about.lock();
            (about.command, about.subcommand) = ("rpushx", "");
        }
        let slice = |range: &Range<usize>| input.get(range.clone()).unwrap_or(&[]);
        let records = self.messages.iter().map(|(key, value)| Record {
            key: key.as_ref().map(slice),
            value: Some(slice(value)),
        });
        let result = produce(session, &topic, records, reply, stream, Answers::Each).await;
        // Each message is a command that was answered now.
        let (count, failed) = (self.messages.len() as u64, reply.errors - errors);
        for (count, is_error) in [(count.saturating_sub(failed), false), (failed, true)] {
            if count > 0 {
                session.shared.meter.answered_many(
                    meter::place(Some(Command::Rpushx)),
                    meter::outcome(is_error),
                    count,
                    since.elapsed(),
                );
            }
        }
        self.messages.clear();
        result.err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_two_or_three_parts() {
        assert_eq!(split_key(b"topics:t"), Some((&b"t"[..], None)));
        assert_eq!(split_key(b"foo:t:k"), Some((&b"t"[..], Some(&b"k"[..]))));
        assert_eq!(split_key(b"topics:t:"), Some((&b"t"[..], Some(&b""[..]))));
        assert_eq!(split_key(b"topics:"), Some((&b""[..], None)));
        assert_eq!(split_key(b"topics"), None);
        assert_eq!(split_key(b"topics:t:k:x"), None);
    }

    #[test]
    fn each_message_gets_its_own_answer() {
        let mut reply = Reply::default();
        let full = KafkaError::from_code(ErrorCode::MessageSizeTooLarge);
        answer_each(&mut reply, 4, &[(1, full), (3, full), (9, full)]);
        assert_eq!(
            String::from_utf8(reply.bytes).unwrap(),
            ":1\r\n-PROD Broker: Message size too large\r\n\
             :1\r\n-PROD Broker: Message size too large\r\n"
        );
    }
}
