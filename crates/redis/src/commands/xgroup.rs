//! `XGROUP CREATE | DESTROY | SETID | CREATECONSUMER | DELCONSUMER`: consumer
//! groups of streams, which are those of Kafka (contract, 13.3).

use super::entry;
use super::{Arguments, Context};
use crate::registry::order;
use crate::streams::{Streams, check_names};
use barnabas_engine::{Error, ErrorCode, GroupOffset, KafkaError, NewGroupOffset, Proxy};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a topic that was just made may take to be seen, and a group to
/// let go of one.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// What Kafka says of a partition on which a group has committed nothing.
const NOTHING: i64 = -1;

const NO_TOPIC: &str = "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE \
    you may want to use the MKSTREAM option to create an empty stream automatically.";
const SYNTAX: &str = "ERR syntax error";

/// What an XGROUP answers.
enum Answer {
    Ok,
    Integer(usize),
}

pub(super) async fn run(context: &mut Context<'_>, arguments: &Arguments<'_>) -> io::Result<()> {
    context.flush().await?;
    let shared = Arc::clone(&context.session.shared);
    let answered = match shared
        .streams
        .as_ref()
        .map(|streams| (streams, streams.proxy()))
    {
        None => Err(entry::NO_GROUPS.to_owned()),
        Some((streams, proxy)) => {
            let work = Work {
                context_id: context.session.entry.id,
                streams,
                proxy,
                registry: &shared.registry,
            };
            unless_gone(context, work.run(arguments)).await
        }
    };
    match answered {
        Ok(Answer::Ok) => context.reply.simple("OK"),
        Ok(Answer::Integer(count)) => context
            .reply
            .integer(i64::try_from(count).unwrap_or(i64::MAX)),
        Err(text) => context.reply.error(&text),
    }
    Ok(())
}

/// What comes of a question to the cluster, unless the connection ends.
pub(super) async fn unless_gone<T>(
    context: &mut Context<'_>,
    question: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let entry = Arc::clone(&context.session.entry);
    tokio::select! {
        answer = question => answer,
        () = entry.ordered(order::KILL | order::CLOSE) => {
            Err("ERR the connection is closed".to_owned())
        }
        () = context.stream.hung_up() => {
            entry.give_order(order::KILL);
            Err("ERR the connection is closed".to_owned())
        }
    }
}

/// An error of the cluster as a reply.
pub(super) fn refused(error: &Error) -> String {
    format!("CONS {error}")
}

struct Work<'a> {
    context_id: u64,
    streams: &'a Streams,
    proxy: &'a Arc<Proxy>,
    registry: &'a crate::registry::Registry,
}

impl Work<'_> {
    async fn run(&self, arguments: &Arguments<'_>) -> Result<Answer, String> {
        let topic = entry::topic_of(arguments.get(2))?;
        let text = |index: usize| {
            std::str::from_utf8(arguments.get(index))
                .map_err(|_| "ERR Names of groups and consumers must be UTF-8".to_owned())
        };
        let group = text(3)?;
        check_names(group, "").map_err(|refusal| refusal.to_string())?;
        if arguments.is(1, "create") {
            let creation = Creation::parse(arguments, 4, true)?;
            self.create(topic, group, &creation).await
        } else if arguments.is(1, "setid") {
            let creation = Creation::parse(arguments, 4, false)?;
            self.set_id(topic, group, &creation).await
        } else if arguments.is(1, "destroy") {
            self.destroy(topic, group).await
        } else if arguments.is(1, "createconsumer") {
            self.create_consumer(topic, group, text(4)?)
        } else {
            Ok(self.delete_consumer(topic, group, text(4)?))
        }
    }

    async fn create(
        &self,
        topic: &str,
        group: &str,
        creation: &Creation,
    ) -> Result<Answer, String> {
        let offsets = self.offsets(topic, group, creation.makes_topic).await?;
        let exists = "BUSYGROUP Consumer Group name already exists";
        if offsets.iter().any(|offset| offset.committed != NOTHING) {
            return Err(exists.to_owned());
        }
        let described = self.proxy.admin.group_members(Some(group)).await;
        let described = described.map_err(|error| refused(&error))?;
        // While a group rebalances nobody is known to read anything.
        let reads = described.iter().any(|group| {
            group.subscribes_to(topic) || group.members.iter().any(|one| one.topics.is_empty())
        });
        if reads {
            return Err(exists.to_owned());
        }
        self.commit(topic, group, creation, &offsets).await
    }

    async fn set_id(
        &self,
        topic: &str,
        group: &str,
        creation: &Creation,
    ) -> Result<Answer, String> {
        let offsets = self.offsets(topic, group, false).await?;
        self.commit(topic, group, creation, &offsets).await
    }

    async fn commit(
        &self,
        topic: &str,
        group: &str,
        creation: &Creation,
        offsets: &[GroupOffset],
    ) -> Result<Answer, String> {
        let positions: Vec<NewGroupOffset> = offsets
            .iter()
            .map(|offset| NewGroupOffset {
                partition: offset.partition,
                offset: match creation.start {
                    Start::End => offset.end,
                    Start::Beginning => offset.begin,
                },
                metadata: String::new(),
            })
            .collect();
        let admin = &self.proxy.admin;
        match admin.commit_group_offsets(group, topic, &positions).await {
            Ok(()) => Ok(Answer::Ok),
            Err(error) => Err(refused(&error)),
        }
    }

    /// Where the group is on each partition of a topic. A topic that has just
    /// been made is waited for.
    async fn offsets(
        &self,
        topic: &str,
        group: &str,
        makes_topic: bool,
    ) -> Result<Vec<GroupOffset>, String> {
        let admin = &self.proxy.admin;
        let since = Instant::now();
        let mut was_made = false;
        loop {
            let offsets = admin.group_offsets(group, topic).await;
            let problem = match offsets {
                Ok(Some(offsets)) => return Ok(offsets),
                Ok(None) if !makes_topic => return Err(NO_TOPIC.to_owned()),
                Ok(None) if !was_made => {
                    was_made = true;
                    match admin.create_default_topic(topic).await {
                        Ok(()) => continue,
                        // Somebody else was first.
                        Err(Error::Kafka { error }) if error.is(ErrorCode::TopicAlreadyExists) => {
                            continue;
                        }
                        Err(error) => return Err(refused(&error)),
                    }
                }
                Ok(None) => KafkaError::from_code(ErrorCode::UnknownTopic).into(),
                Err(error) => error,
            };
            if !was_made || since.elapsed() >= PATIENCE {
                return Err(refused(&problem));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Ends the group's consumers of a topic, and forgets what it has
    /// committed there.
    async fn destroy(&self, topic: &str, group: &str) -> Result<Answer, String> {
        let admin = &self.proxy.admin;
        let readers = self.streams.readers(group, topic);
        self.streams.end(self.registry, &readers);
        self.proxy.dispatcher.leave(group, topic);
        let offsets = admin.group_offsets(group, topic).await;
        let offsets = offsets.map_err(|error| refused(&error))?;
        let offsets = offsets.ok_or_else(|| NO_TOPIC.to_owned())?;
        let has_committed = offsets.iter().any(|offset| offset.committed != NOTHING);
        if !has_committed && readers.is_empty() {
            return Ok(Answer::Integer(0));
        }
        let since = Instant::now();
        loop {
            let error = match admin.delete_group_offsets(group, topic).await {
                Ok(()) => return Ok(Answer::Integer(1)),
                Err(error) => error,
            };
            let Error::Kafka { error: code } = &error else {
                return Err(refused(&error));
            };
            if code.is(ErrorCode::GroupIdNotFound) {
                // It had consumers, or its offsets have just expired.
                return Ok(Answer::Integer(1));
            }
            // This process is about to leave the topic.
            let may_pass = code.is(ErrorCode::GroupSubscribedToTopic)
                || code.is(ErrorCode::NonEmptyGroup)
                || code.is(ErrorCode::RebalanceInProgress);
            if !may_pass || since.elapsed() >= PATIENCE {
                return Err(refused(&error));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn create_consumer(&self, topic: &str, group: &str, name: &str) -> Result<Answer, String> {
        if !entry::is_legal(topic) {
            return Err("CONS Broker: Invalid topic".to_owned());
        }
        if !self.streams.named(group, name, topic).is_empty() {
            return Ok(Answer::Integer(0));
        }
        let topics = [topic.to_owned()];
        let made = self
            .streams
            .consumer(self.registry, self.context_id, group, name, &topics);
        match made {
            Ok((_, is_new)) => Ok(Answer::Integer(is_new.into())),
            Err(refusal) => Err(refusal.to_string()),
        }
    }

    /// Ends a consumer; says how many entries it had not acknowledged.
    fn delete_consumer(&self, topic: &str, group: &str, name: &str) -> Answer {
        let ending = self.streams.named(group, name, topic);
        let dispatcher = &self.proxy.dispatcher;
        let held = ending
            .iter()
            .map(|consumer| dispatcher.held(group, topic, consumer.holder).len());
        let count = held.sum();
        self.streams.end(self.registry, &ending);
        Answer::Integer(count)
    }
}

/// Where a group begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    End,
    Beginning,
}

/// The end of an `XGROUP CREATE` or `SETID`.
#[derive(Debug, PartialEq, Eq)]
struct Creation {
    start: Start,
    makes_topic: bool,
}

impl Creation {
    /// `$|0 [MKSTREAM] [ENTRIESREAD n]`; how many were read before, Kafka
    /// knows.
    fn parse(arguments: &Arguments<'_>, at: usize, may_make: bool) -> Result<Self, String> {
        let start = match arguments.get(at) {
            b"$" => Start::End,
            b"0" | b"0-0" => Start::Beginning,
            _ => return Err(entry::BAD_ID.to_owned()),
        };
        let mut creation = Self {
            start,
            makes_topic: false,
        };
        let mut next = at + 1;
        while next < arguments.count() {
            if may_make && arguments.is(next, "mkstream") {
                creation.makes_topic = true;
                next += 1;
            } else if arguments.is(next, "entriesread") && next + 1 < arguments.count() {
                let read = arguments.text(next + 1).parse::<i64>();
                if read.map_err(|_| "ERR value is not an integer or out of range".to_owned())? < -1
                {
                    return Err("ERR value for ENTRIESREAD must be positive or -1".to_owned());
                }
                next += 2;
            } else {
                return Err(SYNTAX.to_owned());
            }
        }
        Ok(creation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, may_make: bool) -> Result<Creation, String> {
        let words: Vec<Vec<u8>> = text
            .split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect();
        Creation::parse(&Arguments::owned(&words), 0, may_make)
    }

    #[test]
    fn groups_begin_at_an_end() {
        let creation = |start, makes_topic| Ok(Creation { start, makes_topic });
        assert_eq!(parse("$", true), creation(Start::End, false));
        assert_eq!(
            parse("0 ENTRIESREAD -1 mkstream", true),
            creation(Start::Beginning, true)
        );
        assert_eq!(parse("0-0", false), creation(Start::Beginning, false));
        for (text, error) in [
            ("5-1", entry::BAD_ID),
            (">", entry::BAD_ID),
            ("$ MKSTREAMS", SYNTAX),
            ("$ ENTRIESREAD", SYNTAX),
            (
                "$ ENTRIESREAD -2",
                "ERR value for ENTRIESREAD must be positive or -1",
            ),
        ] {
            assert_eq!(parse(text, true), Err(error.to_owned()), "{text}");
        }
        assert_eq!(parse("0 MKSTREAM", false), Err(SYNTAX.to_owned()));
    }
}
