//! The custom partition picker as a script (contract, `producer-engine.md`,
//! section 4): `pick(topic, key, value)`.

use super::{Limits, Script, Source, first_line, is_too_long};
use anyhow::{Result, anyhow, bail};
use barnabas_engine::{PartitionPicker, PartitionView, Pick, TopicView};
use mlua::{Function, Table, Value};
use parking_lot::Mutex;
use std::path::Path;
use std::time::{Duration, Instant};

/// It decides for each message, while its topic waits.
const LIMITS: Limits = Limits {
    memory: 16 << 20,
    time: Duration::from_millis(20),
    steps: 200_000,
};

/// Characters of a reason.
const LONGEST_REASON: usize = 200;

/// How often its failures are logged.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// How long it is not asked after it took too long: it runs while producers
/// wait, and a request may have any number of messages.
const REST: Duration = Duration::from_secs(1);

/// The picker; its topics take turns. Only kafboy's outbox shows it values and
/// leaders.
pub(crate) struct LuaPicker {
    state: Mutex<State>,
}

struct State {
    script: Script,
    pick: Function,
    /// What it was last shown of a topic.
    seen: Option<Seen>,
    logged: Option<Instant>,
    rests_until: Option<Instant>,
}

struct Seen {
    topic: String,
    partitions: Vec<PartitionView>,
    lanes: u32,
    table: Table,
}

impl LuaPicker {
    /// Reads the file and runs it.
    ///
    /// # Errors
    /// It cannot be read, fails, or has no `pick`.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let source = Source::read(path)?;
        let script = Script::start(&source, LIMITS).map_err(|error| anyhow!(first_line(&error)))?;
        let Some(pick) = script.function("pick") else {
            bail!("{} has no function pick", path.display());
        };
        Ok(Self {
            state: Mutex::new(State {
                script,
                pick,
                seen: None,
                logged: None,
                rests_until: None,
            }),
        })
    }
}

impl PartitionPicker for LuaPicker {
    fn pick(&self, topic: &TopicView<'_>, key: Option<&[u8]>, value: Option<&[u8]>) -> Pick {
        let mut state = self.state.lock();
        // One that takes too long would stand still all who produce.
        let now = Instant::now();
        if state.rests_until.is_some_and(|until| now < until) {
            return Pick::Undecided;
        }
        match state.ask(topic, key, value) {
            Ok(pick) => pick,
            Err(error) => {
                if is_too_long(&error) {
                    state.rests_until = Some(Instant::now() + REST);
                }
                if state
                    .logged
                    .is_none_or(|then| then.elapsed() > LOG_INTERVAL)
                {
                    state.logged = Some(Instant::now());
                    let (topic, text) = (topic.topic, first_line(&error));
                    tracing::error!(component = "script", topic, "the picker failed: {text}");
                }
                Pick::Undecided
            }
        }
    }
}

impl State {
    fn ask(
        &mut self,
        topic: &TopicView<'_>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> mlua::Result<Pick> {
        let table = self.show(topic)?;
        let pick = &self.pick;
        let answer: Value = self.script.limited(|lua| {
            let text = |bytes: Option<&[u8]>| bytes.map(|bytes| lua.create_string(bytes));
            let key = text(key).transpose()?;
            pick.call((table, key, text(value).transpose()?))
        })?;
        Ok(match answer {
            Value::Integer(partition) => {
                i32::try_from(partition).map_or(Pick::Undecided, Pick::Partition)
            }
            Value::String(reason) => {
                // Each message that is refused gets a copy.
                let reason = reason.to_string_lossy();
                Pick::Refused(reason.chars().take(LONGEST_REASON).collect())
            }
            Value::Table(lane) => Pick::Lane {
                partition: lane.raw_get("partition")?,
                lane: lane.raw_get("lane")?,
            },
            _ => Pick::Undecided,
        })
    }

    /// The topic as a table; made anew when something has changed.
    fn show(&mut self, topic: &TopicView<'_>) -> mlua::Result<Table> {
        if let Some(seen) = &self.seen
            && seen.topic == topic.topic
            && seen.lanes == topic.lanes
            && seen.partitions == topic.partitions
        {
            return Ok(seen.table.clone());
        }
        let table = self.script.limited(|lua| {
            let partitions = lua.create_table()?;
            for (index, partition) in topic.partitions.iter().enumerate() {
                let own = lua.create_table()?;
                own.raw_set("id", partition.id)?;
                own.raw_set("leader", partition.leader)?;
                own.raw_set("is_available", partition.is_available)?;
                partitions.raw_set(index + 1, own)?;
            }
            let table = lua.create_table()?;
            table.raw_set("name", topic.topic)?;
            table.raw_set("partitions", partitions)?;
            table.raw_set("lanes", topic.lanes)?;
            Ok(table)
        })?;
        self.seen = Some(Seen {
            topic: topic.topic.to_owned(),
            partitions: topic.partitions.to_vec(),
            lanes: topic.lanes,
            table: table.clone(),
        });
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picker(body: &str) -> LuaPicker {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picker.lua");
        let text = format!("function pick(topic, key, value) {body} end");
        std::fs::write(&path, text).unwrap();
        LuaPicker::load(&path).unwrap()
    }

    fn partition(id: i32) -> PartitionView {
        PartitionView {
            id,
            leader: Some(7),
            is_available: true,
        }
    }

    #[test]
    fn every_answer_can_be_given() {
        let partitions = [partition(0), partition(1), partition(2)];
        let view = TopicView {
            topic: "t",
            partitions: &partitions,
            lanes: 2,
        };
        for (body, expected) in [
            ("return 2", Pick::Partition(2)),
            // `user2` is 96246935.
            ("return phash2(key) % #topic.partitions", Pick::Partition(2)),
            (
                "return {partition = topic.partitions[2].id, lane = topic.lanes - 1}",
                Pick::Lane {
                    partition: 1,
                    lane: 1,
                },
            ),
            (
                "return topic.name .. topic.partitions[1].leader .. value",
                Pick::Refused("t7v".to_owned()),
            ),
            (
                "return string.rep(\"x\", 999)",
                Pick::Refused("x".repeat(200)),
            ),
            ("return nil", Pick::Undecided),
            ("return 1.5", Pick::Undecided),
            ("return 1 << 40", Pick::Undecided),
            ("return {}", Pick::Undecided),
            ("while true do end", Pick::Undecided),
            ("return key.x.y", Pick::Undecided),
        ] {
            let picker = picker(body);
            for _ in 0..2 {
                let pick = picker.pick(&view, Some(b"user2"), Some(b"v"));
                assert_eq!(pick, expected, "{body}");
            }
        }
        let picker = picker("if key == nil then return #topic.partitions end");
        assert_eq!(picker.pick(&view, None, None), Pick::Partition(3));
        let fewer = TopicView {
            partitions: &partitions[..1],
            ..view
        };
        assert_eq!(picker.pick(&fewer, None, None), Pick::Partition(1));
    }
}
