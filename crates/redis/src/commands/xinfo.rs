//! `XINFO GROUPS topics:<topic>`: the groups that read a topic (contract,
//! 13.3).

use super::entry;
use super::xgroup::{refused, unless_gone};
use super::{Arguments, Context};
use crate::server::Shared;
use barnabas_engine::{GroupDescription, GroupOffset, Proxy};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Groups whose offsets are asked for at the same time: each question has a
/// client of its own.
const AT_ONCE: usize = 4;
/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A group as XINFO shows it.
struct GroupInfo {
    name: String,
    consumers: usize,
    pending: usize,
    /// The last id below the committed position furthest on.
    last: (i64, i32),
    read: i64,
    lag: i64,
}

pub(super) async fn run(context: &mut Context<'_>, arguments: &Arguments<'_>) -> io::Result<()> {
    context.flush().await?;
    let shared = Arc::clone(&context.session.shared);
    let question = async {
        let topic = entry::topic_of(arguments.get(2))?;
        let found = tokio::time::timeout(LIMIT, groups(&shared, topic));
        found
            .await
            .unwrap_or_else(|_| Err("CONS Local: Timed out".to_owned()))
    };
    match unless_gone(context, question).await {
        Ok(groups) => write(context, groups),
        Err(text) => context.reply.error(&text),
    }
    Ok(())
}

fn write(context: &mut Context<'_>, groups: Vec<GroupInfo>) {
    let reply = &mut *context.reply;
    let to_integer = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    reply.array(groups.len());
    for group in groups {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(group.name.as_bytes());
        reply.bulk(b"consumers");
        reply.integer(to_integer(group.consumers));
        reply.bulk(b"pending");
        reply.integer(to_integer(group.pending));
        reply.bulk(b"last-delivered-id");
        reply.entry_id(group.last.0, group.last.1);
        reply.bulk(b"entries-read");
        reply.integer(group.read);
        reply.bulk(b"lag");
        reply.integer(group.lag);
    }
}

async fn groups(shared: &Arc<Shared>, topic: &str) -> Result<Vec<GroupInfo>, String> {
    let streams = shared.streams.as_ref();
    let (streams, proxy) = streams
        .map(|streams| (streams, streams.proxy()))
        .ok_or_else(|| entry::NO_GROUPS.to_owned())?;
    let exists = proxy.admin.describe_topic(topic).await;
    if exists.map_err(|error| refused(&error))?.is_none() {
        return Err("ERR no such key".to_owned());
    }
    let described = proxy.admin.group_members(None).await;
    let described = described.map_err(|error| refused(&error))?;
    let mut offsets = offsets_of(shared, proxy, &described, topic).await?;
    let mut found = Vec::new();
    for group in described {
        let offsets = offsets.remove(&group.group).unwrap_or_default();
        let readers = streams.readers(&group.group, topic).len();
        let has_committed = offsets.iter().any(|offset| offset.committed != -1);
        if !has_committed && readers == 0 && !group.subscribes_to(topic) {
            continue;
        }
        // Those of this process are one member of the group.
        let members = group.consumers_of(topic).len();
        found.push(GroupInfo {
            consumers: readers.max(members),
            pending: proxy.dispatcher.pending(&group.group, topic),
            last: last(&offsets),
            read: offsets.iter().map(read).sum(),
            lag: offsets.iter().map(|offset| offset.lag().max(0)).sum(),
            name: group.group,
        });
    }
    Ok(found)
}

/// Where groups are on a topic, by group.
async fn offsets_of(
    shared: &Arc<Shared>,
    proxy: &Arc<Proxy>,
    groups: &[GroupDescription],
    topic: &str,
) -> Result<BTreeMap<String, Vec<GroupOffset>>, String> {
    let mut offsets = BTreeMap::new();
    let mut questions = JoinSet::new();
    let mut rest = groups.iter();
    loop {
        while questions.len() < AT_ONCE
            && let Some(group) = rest.next()
        {
            let (proxy, group, topic) = (Arc::clone(proxy), group.group.clone(), topic.to_owned());
            let question = async move {
                let found = proxy.admin.group_offsets(&group, &topic).await;
                (group, found)
            };
            questions.spawn_on(question, &shared.background);
        }
        match questions.join_next().await {
            None => return Ok(offsets),
            Some(Ok((group, found))) => {
                let found = found.map_err(|error| refused(&error))?;
                offsets.insert(group, found.unwrap_or_default());
            }
            Some(Err(_)) => return Err("CONS the question was given up".to_owned()),
        }
    }
}

/// How many offsets of a partition are below the committed one.
fn read(offset: &GroupOffset) -> i64 {
    (offset.committed - offset.begin).max(0)
}

/// The id right below the committed offset furthest on; `0-0` where nothing
/// has been read.
fn last(offsets: &[GroupOffset]) -> (i64, i32) {
    let read = offsets.iter().filter(|offset| offset.committed > 0);
    read.map(|offset| (offset.committed - 1, offset.partition))
        .max()
        .unwrap_or((0, 0))
}
