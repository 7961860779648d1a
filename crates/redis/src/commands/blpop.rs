//! `BLPOP topics:<t1>[,<t2>…][:<json>] [topics:…] [<seconds>]`: consume one
//! message (contract, section 4; reply forms 13.1).

use super::{Arguments, Context};
use crate::codec::Reply;
use crate::config::{ReplyForm, is_rafkas_own, property_text};
use crate::registry::order;
use crate::session::{ActiveConsumer, Session};
use crate::statistics::Statistics;
use barnabas_engine::{Error, Message, Position, Properties};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The timeout of a command that names none.
const DEFAULT_SECONDS: f64 = 5.0;
/// The largest timeout: as many seconds as fit into 32 bits.
const LONGEST_SECONDS: f64 = 2_147_483_647.0;

pub(super) async fn run(
    context: &mut Context<'_>,
    arguments: &Arguments<'_>,
) -> std::io::Result<()> {
    if let Err(text) = prepare(context, arguments) {
        context.reply.error(&text);
        return Ok(());
    }
    let timeout = match parse_timeout(last(arguments)) {
        Ok(timeout) => timeout,
        Err(_) => return Ok(()),
    };
    let deadline = timeout.map(|timeout| tokio::time::Instant::now() + timeout);
    if context.may_wait && !has_arrived(context.session) {
        context.flush().await?;
    }
    wait(context, deadline).await;
    Ok(())
}

/// Everything that can be refused, in the contract's order; creates the
/// consumer on first use.
fn prepare(context: &mut Context<'_>, arguments: &Arguments<'_>) -> Result<(), String> {
    parse_timeout(last(arguments))?;
    let key = Key::parse(arguments)?;
    let options = Options::parse(key.json)?;
    let session = &mut *context.session;
    if session.entry.orders() & (order::STOP_CONSUMING | order::CLOSE) != 0 {
        return Err("CONS Server shutdown".to_owned());
    }
    let Some(name) = session.name.clone() else {
        return Err(
            "CONS Connection not ready. Identify yourself using `CLIENT SETNAME` first".to_owned(),
        );
    };
    let topics = key.topics;
    match &mut session.consumer {
        Some(active) if active.topics == topics => {
            // The word for the message before, in `pair` replies.
            if active.acknowledges_last
                && let Some(last) = &active.last
            {
                active.acknowledges_last = false;
                let _ = active.consumer.store(std::slice::from_ref(last));
            }
            return Ok(());
        }
        Some(active) => {
            let id = name.whole;
            return Err(format!(
                "CONS Client '{id}' has Consumer '{id}|{}' registered (new consID: '{id}|{topics}')",
                active.topics
            ));
        }
        None => {}
    }
    let created =
        options
            .resolve(session.shared.config.reply)
            .and_then(|(mut properties, reply)| {
                properties.set("group.id", name.group());
                properties.set("client.id", name.consumer());
                if name.group().is_empty() {
                    return Err("the group is empty".to_owned());
                }
                let list: Vec<&str> = topics.split(',').collect();
                let consumer = session
                    .shared
                    .cluster
                    .consumer(&properties, &list)
                    .map_err(|error| error.to_string())?;
                Ok(ActiveConsumer {
                    consumer,
                    topics: topics.clone(),
                    reply,
                    last: None,
                    acknowledges_last: false,
                })
            });
    match created {
        Ok(active) => {
            session.adopt_consumer(active);
            Ok(())
        }
        Err(reason) => {
            let id = name.whole;
            let text = format!(
                "CONS Failed to register Consumer '{id}|{topics}' for Client '{id}': {reason}"
            );
            tracing::warn!(component = format!("client-{id}"), "{text}");
            Err(text)
        }
    }
}

fn last<'a>(arguments: &Arguments<'a>) -> &'a [u8] {
    match arguments.count() {
        // Only a key: no timeout.
        0..=2 => &[],
        count => arguments.get(count - 1),
    }
}

/// Whether a message can be answered without waiting, so that pipelined
/// BLPOPs are answered together.
fn has_arrived(session: &Session) -> bool {
    session
        .consumer
        .as_ref()
        .is_some_and(|active| active.consumer.has_arrived())
}

async fn wait(context: &mut Context<'_>, deadline: Option<tokio::time::Instant>) {
    let may_wait = context.may_wait;
    let session = &mut *context.session;
    let entry = Arc::clone(&session.entry);
    let Some(active) = &mut session.consumer else {
        return;
    };
    let taken = match active.consumer.try_next() {
        Ok(Some(message)) => Taken::Message(message),
        Ok(None) if !may_wait => Taken::Nothing,
        Err(error) => Taken::Failed(error),
        Ok(None) => {
            entry.flags.is_blocked.store(true, Ordering::Relaxed);
            let timeout = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let taken = tokio::select! {
                biased;
                next = active.consumer.next() => match next {
                    Ok(message) => Taken::Message(message),
                    Err(error) => Taken::Failed(error),
                },
                () = entry.ordered(order::KILL) => Taken::Nothing,
                () = entry.ordered(order::STOP_CONSUMING | order::CLOSE) => Taken::Stopped,
                () = context.stream.hung_up() => {
                    entry.give_order(order::KILL);
                    Taken::Nothing
                }
                () = timeout => Taken::Nothing,
            };
            entry.flags.is_blocked.store(false, Ordering::Relaxed);
            taken
        }
    };
    let statistics = &session.shared.statistics;
    let behind = match taken {
        Taken::Message(message) => {
            write_message(context.reply, active.reply, &message);
            Statistics::add(&statistics.messages_consumed, 1);
            Some(Position {
                topic: message.topic().to_owned(),
                partition: message.partition(),
                offset: message.offset() + 1,
            })
        }
        Taken::Nothing => {
            context.reply.null_array();
            None
        }
        Taken::Stopped => {
            context.reply.error("CONS Server shutdown");
            None
        }
        Taken::Failed(error) => {
            Statistics::add(&statistics.consumer_errors, 1);
            context.reply.error(&format!("CONS Poll {error}"));
            None
        }
    };
    if let Some(behind) = behind {
        active.acknowledges_last = active.reply == ReplyForm::Pair;
        active.last = Some(behind);
    }
}

/// How a wait ended.
enum Taken<'a> {
    Message(Message<'a>),
    Nothing,
    Stopped,
    Failed(Error),
}

fn write_message(reply: &mut Reply, form: ReplyForm, message: &Message<'_>) {
    if form == ReplyForm::Pair {
        reply.array(2);
        reply.bulk(format!("topics:{}", message.topic()).as_bytes());
        reply.bulk_or_null(message.value());
        return;
    }
    reply.array(if form == ReplyForm::Full { 14 } else { 8 });
    reply.bulk(b"topic");
    reply.bulk(message.topic().as_bytes());
    reply.bulk(b"partition");
    reply.integer(i64::from(message.partition()));
    reply.bulk(b"offset");
    reply.integer(message.offset());
    reply.bulk(b"value");
    reply.bulk_or_null(message.value());
    if form == ReplyForm::Full {
        reply.bulk(b"key");
        reply.bulk_or_null(message.key());
        reply.bulk(b"timestamp");
        reply.integer(message.timestamp().unwrap_or(-1));
        reply.bulk(b"headers");
        let headers: Vec<_> = message.headers().collect();
        reply.array(headers.len() * 2);
        for (name, value) in headers {
            reply.bulk(name);
            reply.bulk_or_null(value);
        }
    }
}

/// Seconds as Redis reads them; what is no number is rafka's five seconds.
/// `None` waits without limit.
fn parse_timeout(argument: &[u8]) -> Result<Option<Duration>, String> {
    let seconds = std::str::from_utf8(argument)
        .ok()
        .filter(|text| text.bytes().any(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse::<f64>().ok())
        .unwrap_or(DEFAULT_SECONDS);
    if seconds < 0.0 {
        return Err("ERR timeout is negative".to_owned());
    }
    if seconds > LONGEST_SECONDS {
        return Err("ERR timeout is not a float or out of range".to_owned());
    }
    if seconds == 0.0 {
        return Ok(None);
    }
    Ok(Some(Duration::from_secs_f64(seconds)))
}

/// The topics and the configuration of a command's keys.
struct Key<'a> {
    topics: String,
    json: &'a str,
}

impl<'a> Key<'a> {
    /// Keys are the first argument and every further one that begins with
    /// `topics:`; their topics are joined, and one may carry JSON.
    fn parse(arguments: &Arguments<'a>) -> Result<Self, String> {
        let mut topics: Option<String> = None;
        let mut json = "";
        for (index, argument) in arguments.from(1).enumerate() {
            if index > 0 && !argument.starts_with(b"topics:") {
                continue;
            }
            let wrong = || {
                format!(
                    "CONS Cannot parse topics from `{}`",
                    String::from_utf8_lossy(argument)
                )
            };
            let text = std::str::from_utf8(argument).map_err(|_| wrong())?;
            let mut parts = text.splitn(3, ':');
            let ("topics", Some(list)) = (parts.next().unwrap_or(""), parts.next()) else {
                return Err(wrong());
            };
            let configuration = parts.next().unwrap_or("");
            if !configuration.is_empty() {
                if !json.is_empty() {
                    return Err(wrong());
                }
                json = configuration;
            }
            match &mut topics {
                Some(topics) => {
                    topics.push(',');
                    topics.push_str(list);
                }
                None => topics = Some(list.to_owned()),
            }
        }
        match topics {
            Some(topics) => Ok(Self { topics, json }),
            None => Err("CONS Cannot parse topics from ``".to_owned()),
        }
    }
}

/// The JSON of a key: values as they are written.
struct Options<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Options<'a> {
    fn parse(json: &'a str) -> Result<Self, String> {
        if json.is_empty() {
            return Ok(Self(BTreeMap::new()));
        }
        serde_json::from_str::<Option<BTreeMap<String, &RawValue>>>(json)
            .map(|options| Self(options.unwrap_or_default()))
            .map_err(|error| format!("CONS Error parsing configuration from '{json}'; {error}"))
    }

    /// Consumer properties and the reply form; else why not.
    fn resolve(&self, default: ReplyForm) -> Result<(Properties, ReplyForm), String> {
        let mut properties = Properties::new();
        let mut reply = default;
        for (name, value) in &self.0 {
            let text = property_text(name, value)?;
            if name == "barnabas.reply" {
                reply = ReplyForm::from_name(&text).ok_or_else(|| {
                    format!("barnabas.reply must be rafka, pair or full, not '{text}'")
                })?;
            } else if name.starts_with("barnabas.") {
                return Err(format!("no such option: \"{name}\""));
            } else if is_rafkas_own(name) {
                tracing::debug!("ignored: {name}");
            } else {
                let name = name.strip_prefix("{topic}.").unwrap_or(name);
                if Properties::is_process_wide(name) {
                    return Err(format!("\"{name}\" is for the gateway's own configuration"));
                }
                properties.set(name, text);
            }
        }
        Ok((properties, reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_seconds() {
        let seconds = |text: &str| parse_timeout(text.as_bytes());
        assert_eq!(seconds("1"), Ok(Some(Duration::from_secs(1))));
        assert_eq!(seconds("1000"), Ok(Some(Duration::from_secs(1000))));
        assert_eq!(seconds("0.3"), Ok(Some(Duration::from_millis(300))));
        assert_eq!(seconds("0"), Ok(None));
        for silent in ["", "topics:t", "soon", "nan", "inf"] {
            assert_eq!(
                seconds(silent),
                Ok(Some(Duration::from_secs(5))),
                "{silent}"
            );
        }
        assert_eq!(seconds("-1"), Err("ERR timeout is negative".to_owned()));
        assert_eq!(
            seconds("9999999999"),
            Err("ERR timeout is not a float or out of range".to_owned())
        );
    }

    #[test]
    fn values_are_taken_as_they_are_written() {
        let options = Options::parse(
            r#"{"a":"x:y","b":1.50,"c":true,"{topic}.d":"1","go.delivery.reports":1}"#,
        )
        .unwrap();
        let (properties, _) = options.resolve(ReplyForm::Rafka).unwrap();
        let pairs: Vec<_> = properties.iter().collect();
        assert_eq!(
            pairs,
            [("a", "x:y"), ("b", "1.50"), ("c", "true"), ("d", "1")]
        );
        assert!(Options::parse("null").unwrap().0.is_empty());
        for bad in [
            r#"{"a":null}"#,
            r#"{"a":[]}"#,
            r#"{"a":{}}"#,
            r#"{"barnabas.x":1}"#,
        ] {
            assert!(
                Options::parse(bad)
                    .unwrap()
                    .resolve(ReplyForm::Rafka)
                    .is_err(),
                "{bad}"
            );
        }
        assert!(Options::parse("[]").is_err());
        assert!(Options::parse("{").is_err());
    }
}
