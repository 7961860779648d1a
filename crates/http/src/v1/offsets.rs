//! `/v1/groups/{group}/topics/{topic}/offsets`

use super::{Code, Problem, ok};
use crate::reply::Reply;
use crate::service::Call;
use barnabas_engine::{GroupOffset, NewGroupOffset, SetOffsetsError};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The largest body: some 20,000 partitions.
const LARGEST_BODY: usize = 1 << 20;

/// What a body says: a place for each of some partitions, or one for all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewOffsets {
    offsets: Option<Vec<OfPartition>>,
    to: Option<Edge>,
    timestamp: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfPartition {
    partition: i32,
    offset: Option<i64>,
    to: Option<Edge>,
    timestamp: Option<i64>,
    #[serde(default)]
    metadata: String,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Edge {
    Earliest,
    Latest,
}

/// Where a partition is set to.
#[derive(Clone, Copy)]
enum Place {
    Offset(i64),
    Edge(Edge),
    Time(i64),
}

pub(super) async fn read(call: &Call<'_>) -> Result<Reply, Problem> {
    let offsets = current(call).await?;
    let shown: Vec<Value> = offsets.iter().map(show).collect();
    ok(&json!({ "offsets": shown }))
}

async fn current(call: &Call<'_>) -> Result<Vec<GroupOffset>, Problem> {
    let admin = &call.proxy.admin;
    let offsets = admin.group_offsets(call.group, call.topic).await?;
    offsets.ok_or_else(|| Problem::topic_not_found(call.topic))
}

fn show(offset: &GroupOffset) -> Value {
    // -1 is Kafka's word for none, and -2 that of old clients for the oldest.
    let committed = (offset.committed >= 0).then_some(offset.committed);
    json!({
        "partition": offset.partition,
        "earliest": offset.begin,
        "latest": offset.end,
        "committed": committed,
        "lag": committed.map(|_| offset.lag()),
        "metadata": offset.metadata,
        "acknowledged": offset.sparse_acks(),
    })
}

pub(super) async fn write(mut call: Call<'_>) -> Result<Reply, Problem> {
    let body: NewOffsets = call.json(LARGEST_BODY).await?;
    let of_all = place(None, body.to, body.timestamp)?;
    let current = current(&call).await?;
    let wanted: Vec<(i32, Place, String)> = match (of_all, body.offsets) {
        (Some(place), None) => {
            let all = current.iter();
            all.map(|own| (own.partition, place, String::new()))
                .collect()
        }
        (None, Some(offsets)) => offsets
            .into_iter()
            .map(|own| {
                let place = place(own.offset, own.to, own.timestamp)?
                    .ok_or_else(|| malformed("a partition needs offset, to or timestamp"))?;
                Ok((own.partition, place, own.metadata))
            })
            .collect::<Result<_, Problem>>()?,
        _ => return Err(malformed("the body has either offsets, to or timestamp")),
    };
    let mut times = BTreeMap::new();
    let mut named = BTreeSet::new();
    let mut offsets = Vec::with_capacity(wanted.len());
    for (partition, place, metadata) in wanted {
        if !named.insert(partition) {
            return Err(malformed(format!("partition {partition} is there twice")));
        }
        let Some(own) = current.iter().find(|own| own.partition == partition) else {
            let text = format!("{} has no partition {partition}", call.topic);
            return Err(Problem::new(Code::PartitionNotFound, text));
        };
        let offset = match place {
            Place::Offset(offset) => offset,
            Place::Edge(Edge::Earliest) => own.begin,
            Place::Edge(Edge::Latest) => own.end,
            Place::Time(time) => at(&call, &mut times, time, partition).await?,
        };
        offsets.push(NewGroupOffset {
            partition,
            offset,
            metadata,
        });
    }
    let set = call
        .proxy
        .set_offsets(call.group, call.topic, &offsets)
        .await;
    set.map_err(|error| match error {
        owned @ SetOffsetsError::Owned { .. } => Problem::new(Code::GroupActive, owned.to_string()),
        SetOffsetsError::Engine(error) => error.into(),
    })?;
    let set: Vec<Value> = offsets
        .iter()
        .map(|own| json!({"partition": own.partition, "offset": own.offset}))
        .collect();
    ok(&json!({ "offsets": set }))
}

/// Different times that one request may ask for: each is a question to Kafka.
const MOST_TIMES: usize = 16;

/// The offset of a partition at a time; Kafka is asked once for each time.
async fn at(
    call: &Call<'_>,
    times: &mut BTreeMap<i64, BTreeMap<i32, i64>>,
    time: i64,
    partition: i32,
) -> Result<i64, Problem> {
    if !times.contains_key(&time) {
        if times.len() >= MOST_TIMES {
            let text = format!("one request sets to at most {MOST_TIMES} different times");
            return Err(malformed(text));
        }
        let admin = &call.proxy.admin;
        let found = admin.offsets_at(call.topic, time).await?;
        let found = found.ok_or_else(|| Problem::topic_not_found(call.topic))?;
        times.insert(time, found);
    }
    let found = times.get(&time).and_then(|found| found.get(&partition));
    found.copied().ok_or_else(|| {
        let text = format!("{} has no partition {partition}", call.topic);
        Problem::new(Code::PartitionNotFound, text)
    })
}

/// The one place that is given, if any.
fn place(
    offset: Option<i64>,
    to: Option<Edge>,
    timestamp: Option<i64>,
) -> Result<Option<Place>, Problem> {
    match (offset, to, timestamp) {
        (None, None, None) => Ok(None),
        (Some(number), None, None) if number >= 0 => Ok(Some(Place::Offset(number))),
        (None, Some(edge), None) => Ok(Some(Place::Edge(edge))),
        (None, None, Some(time)) if time >= 0 => Ok(Some(Place::Time(time))),
        (Some(_), None, None) | (None, None, Some(_)) => {
            Err(malformed("offset and timestamp must not be negative"))
        }
        _ => Err(malformed("only one of offset, to and timestamp can be set")),
    }
}

fn malformed(text: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidBody, text)
}
