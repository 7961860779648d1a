//! The edit-JSON hook as a script (contract, `producer-http.md`, section 8):
//! `post(topic, request, pairs, raw)` and, if the script has it,
//! `error(status, text)`.

use super::{Limits, Script, Source, first_line, is_too_long, json};
use anyhow::{Result, anyhow, bail};
use barnabas_http::{
    EditJson, HookAnswer, HookFailure, HookMessage, HookOutcome, HookRecord, HookRequest,
};
use mlua::{Error, Lua, Table, Value};
use parking_lot::Mutex;
use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

/// Of each thread that runs the script.
const MEMORY: usize = 64 << 20;
const STEPS: u64 = 50_000_000;
/// Messages of one list.
const MOST_MESSAGES: usize = 100_000;
/// One byte more than topics' names may have.
const LONGEST_TOPIC: usize = 250;
/// Bytes of all messages of one outcome: one string may stand in many places.
const MOST_BYTES: usize = 64 << 20;

/// The hook. Calls at the same time run in states of their own, so a script's
/// globals are no memory to rely on.
pub(crate) struct LuaHook {
    source: Source,
    limits: Limits,
    idle: Mutex<Vec<Script>>,
}

impl LuaHook {
    /// Reads the file and runs it once, so that it is known to work.
    ///
    /// # Errors
    /// It cannot be read, fails, or has no `post`.
    pub(crate) fn load(path: &Path, timeout: Duration) -> Result<Self> {
        let source = Source::read(path)?;
        let limits = Limits {
            memory: MEMORY,
            time: timeout,
            steps: STEPS,
        };
        let first = Script::start(&source, limits).map_err(|error| anyhow!(first_line(&error)))?;
        if first.function("post").is_none() {
            bail!("{} has no function post", path.display());
        }
        Ok(Self {
            source,
            limits,
            idle: Mutex::new(vec![first]),
        })
    }

    /// Calls into a state of its own. One that fails is not used again.
    fn call<T>(&self, call: impl FnOnce(&Script) -> mlua::Result<T>) -> Result<T, HookFailure> {
        let idle = self.idle.lock().pop();
        let called = match idle {
            Some(script) => Ok(script),
            None => Script::start(&self.source, self.limits),
        }
        .and_then(|script| {
            let value = call(&script)?;
            self.idle.lock().push(script);
            Ok(value)
        });
        called.map_err(|error| match is_too_long(&error) {
            true => HookFailure::TimedOut,
            false => HookFailure::Crashed(first_line(&error)),
        })
    }
}

impl EditJson for LuaHook {
    fn post(&self, request: &HookRequest) -> Result<HookOutcome, HookFailure> {
        self.call(|script| {
            let Some(post) = script.function("post") else {
                return Err(Error::runtime("there is no function post"));
            };
            script.limited(|lua| {
                let arguments = (
                    request.topic.as_str(),
                    shown(lua, request)?,
                    pairs(lua, request)?,
                    lua.create_string(&request.raw)?,
                );
                outcome(&post.call(arguments)?)
            })
        })
    }

    fn error(&self, status: u16, text: &str) -> Result<(), HookFailure> {
        self.call(|script| match script.function("error") {
            Some(error) => script.limited(|_| error.call((status, text))),
            None => Ok(()),
        })
    }
}

fn shown(lua: &Lua, request: &HookRequest) -> mlua::Result<Table> {
    let headers = lua.create_table()?;
    for (name, value) in &request.headers {
        headers.raw_set(name.as_str(), value.as_str())?;
    }
    let table = lua.create_table()?;
    table.raw_set("path", request.path.as_str())?;
    table.raw_set("query", request.query.as_str())?;
    table.raw_set("headers", headers)?;
    Ok(table)
}

fn pairs(lua: &Lua, request: &HookRequest) -> mlua::Result<Table> {
    let pairs = lua.create_table()?;
    for (index, pair) in request.pairs.iter().enumerate() {
        let own = lua.create_table()?;
        own.raw_set(1, lua.create_string(&pair.name)?)?;
        match &pair.value {
            Some(value) => own.raw_set(2, lua.create_string(value)?)?,
            // kafboy's form has `true` there.
            None => own.raw_set(2, true)?,
        }
        pairs.raw_set(index + 1, own)?;
    }
    Ok(pairs)
}

fn outcome(value: &Value) -> mlua::Result<HookOutcome> {
    let unexpected = |records| HookOutcome {
        answer: HookAnswer::Unexpected,
        records,
    };
    let Value::Table(table) = value else {
        return Ok(unexpected(Vec::new()));
    };
    if table.is_empty() {
        return Ok(HookOutcome {
            answer: HookAnswer::Empty,
            records: Vec::new(),
        });
    }
    let room = Cell::new(MOST_BYTES);
    let records = match table.raw_get::<Value>("records")? {
        Value::Nil => Vec::new(),
        Value::Table(records) => list(&records, |value| record(value, &room))?,
        _ => return Err(Error::runtime("records must be a list")),
    };
    let (produce, reply, error): (Value, Value, Value) = (
        table.raw_get("produce")?,
        table.raw_get("reply")?,
        table.raw_get("error")?,
    );
    let answer = match (produce, reply, error) {
        (Value::Nil, Value::Nil, Value::Nil) => return Ok(unexpected(records)),
        (Value::Nil, Value::Nil, Value::String(text)) => {
            HookAnswer::Error(Some(text.to_string_lossy()))
        }
        (Value::Nil, Value::Nil, _) => HookAnswer::Error(None),
        (Value::Nil, Value::String(body), _) => HookAnswer::Reply(body.as_bytes().to_vec()),
        (Value::Nil, body, _) => HookAnswer::Reply(json::encoded(&body)?),
        (data, _, _) => HookAnswer::Produce {
            topic: topic(table)?,
            messages: match &data {
                Value::Table(messages) => list(messages, |value| message(value, &room))?,
                one => vec![message(one, &room)?],
            },
        },
    };
    Ok(HookOutcome { answer, records })
}

fn list<T>(table: &Table, read: impl Fn(&Value) -> mlua::Result<T>) -> mlua::Result<Vec<T>> {
    let elements = table.sequence_values::<Value>().take(MOST_MESSAGES + 1);
    let elements: Vec<T> = elements
        .map(|element| read(&element?))
        .collect::<mlua::Result<_>>()?;
    match elements.len() {
        0..=MOST_MESSAGES => Ok(elements),
        _ => Err(Error::runtime(format!(
            "more than {MOST_MESSAGES} messages"
        ))),
    }
}

fn topic(table: &Table) -> mlua::Result<Option<String>> {
    match table.raw_get::<Value>("topic")? {
        Value::Nil => Ok(None),
        // A longer one is no topic's name, and each message has a copy.
        Value::String(topic) => {
            let bytes = topic.as_bytes();
            let shown = bytes.get(..LONGEST_TOPIC).unwrap_or(&bytes);
            Ok(Some(String::from_utf8_lossy(shown).into_owned()))
        }
        _ => Err(Error::runtime("a topic must be a string")),
    }
}

/// A string, a pair `{key, value}`, or a table with `key` and `value`.
fn message(value: &Value, room: &Cell<usize>) -> mlua::Result<HookMessage> {
    let bytes = |text: &mlua::String| -> mlua::Result<Vec<u8>> {
        let left = room.get().checked_sub(text.as_bytes().len());
        room.set(left.ok_or_else(|| Error::runtime("too much to be produced"))?);
        Ok(text.as_bytes().to_vec())
    };
    let (key, value) = match value {
        Value::Table(table) if table.raw_len() == 2 => (table.raw_get(1)?, table.raw_get(2)?),
        Value::Table(table) => (table.raw_get("key")?, table.raw_get("value")?),
        other => (Value::Nil, other.clone()),
    };
    let key = match key {
        Value::Nil => None,
        Value::String(key) => Some(bytes(&key)?),
        _ => return Err(Error::runtime("a key must be a string")),
    };
    match value {
        Value::String(value) => Ok(HookMessage {
            key,
            value: bytes(&value)?,
        }),
        _ => Err(Error::runtime("a message must be a string")),
    }
}

/// A message that may have a `topic`, and `batch = false`.
fn record(value: &Value, room: &Cell<usize>) -> mlua::Result<HookRecord> {
    let (topic, batch) = match value {
        Value::Table(table) => (topic(table)?, table.raw_get("batch")?),
        _ => (None, Value::Nil),
    };
    Ok(HookRecord {
        topic,
        message: message(value, room)?,
        is_batched: !matches!(batch, Value::Boolean(false)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use barnabas_http::HookPair;

    fn hook(text: &str) -> Result<LuaHook> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hook.lua");
        std::fs::write(&path, text).unwrap();
        LuaHook::load(&path, Duration::from_secs(20))
    }

    fn request(pairs: &[(&str, Option<&str>)]) -> HookRequest {
        let pair = |(name, value): &(&str, Option<&str>)| HookPair {
            name: name.as_bytes().to_vec(),
            value: value.map(|value| value.as_bytes().to_vec()),
        };
        HookRequest {
            topic: "t".to_owned(),
            path: "/async/t".to_owned(),
            query: "a=b".to_owned(),
            headers: vec![("x-own".to_owned(), "1".to_owned())],
            pairs: pairs.iter().map(pair).collect(),
            raw: b"raw \xff".to_vec().into(),
        }
    }

    fn post(body: &str) -> Result<HookOutcome, HookFailure> {
        let text = format!("function post(topic, request, pairs, raw) {body} end");
        hook(&text)
            .unwrap()
            .post(&request(&[("a", Some("1")), ("b", None)]))
    }

    fn message(key: Option<&str>, value: &str) -> HookMessage {
        HookMessage {
            key: key.map(|key| key.as_bytes().to_vec()),
            value: value.as_bytes().to_vec(),
        }
    }

    #[test]
    fn every_answer_can_be_given() {
        let produce = |topic: Option<&str>, messages: &[HookMessage]| HookAnswer::Produce {
            topic: topic.map(str::to_owned),
            messages: messages.to_vec(),
        };
        let reply = |body: &str| HookAnswer::Reply(body.as_bytes().to_vec());
        for (body, answer) in [
            (
                "return {produce = \"v\"}",
                produce(None, &[message(None, "v")]),
            ),
            (
                "return {produce = {\"v\", {\"k\", \"w\"}, {value = \"x\"}}, topic = \"o\"}",
                produce(
                    Some("o"),
                    &[
                        message(None, "v"),
                        message(Some("k"), "w"),
                        message(None, "x"),
                    ],
                ),
            ),
            ("return {produce = {}}", produce(None, &[])),
            ("return {reply = '{\"ok\":2}'}", reply(r#"{"ok":2}"#)),
            (
                "return {reply = {pairs[1][1], pairs[2][2], request.headers[\"x-own\"], \
                 request.path, request.query, #raw, topic}}",
                reply(r#"["a",true,"1","/async/t","a=b",5,"t"]"#),
            ),
            (
                "return {error = topic .. \".insufficient\"}",
                HookAnswer::Error(Some("t.insufficient".to_owned())),
            ),
            ("return {error = 1}", HookAnswer::Error(None)),
            ("return {}", HookAnswer::Empty),
            ("return", HookAnswer::Unexpected),
            ("return {1}", HookAnswer::Unexpected),
            ("return \"text\"", HookAnswer::Unexpected),
        ] {
            let records = Vec::new();
            assert_eq!(post(body), Ok(HookOutcome { answer, records }), "{body}");
        }
        let outcome = post(
            "return {reply = {1}, records = {\"a\", {\"k\", \"b\", topic = \"o\", batch = false}}}",
        );
        let [first, second] = &outcome.unwrap().records[..] else {
            panic!("two records")
        };
        assert_eq!(
            (&first.message, first.is_batched),
            (&message(None, "a"), true)
        );
        assert_eq!(second.message, message(Some("k"), "b"));
        assert_eq!(
            (second.topic.as_deref(), second.is_batched),
            (Some("o"), false)
        );
    }

    #[test]
    fn what_fails_says_so_and_the_next_call_works() {
        for (body, expected) in [
            (
                "return nil + 1",
                "hook.lua:1: attempt to perform arithmetic on a nil value",
            ),
            ("return {produce = 1}", "a message must be a string"),
            ("return {produce = {{1, 2}}}", "a key must be a string"),
            ("error(\"own words\")", "own words"),
            ("return {reply = print}", "a function is no JSON"),
            (
                "local s, t = string.rep(\"x\", 1 << 20), {} for i = 1, 65 do t[i] = s end \
                 return {produce = t}",
                "too much to be produced",
            ),
        ] {
            let Err(HookFailure::Crashed(text)) = post(body) else {
                panic!("{body}")
            };
            assert!(text.contains(expected), "{text}");
        }
        let memory = "local s = \"x\" while true do s = s .. s end";
        assert!(matches!(post(memory), Err(HookFailure::Crashed(_))));
        assert_eq!(post("while true do end"), Err(HookFailure::TimedOut));
        let hook = hook("function post(t, r, p, raw) if p[1] then error(\"x\") end return {} end");
        let hook = hook.unwrap();
        assert!(hook.post(&request(&[("a", None)])).is_err());
        assert!(hook.post(&request(&[])).is_ok());
        assert_eq!(hook.error(400, "x"), Ok(()), "it has none");
    }

    #[test]
    fn a_script_that_cannot_work_is_refused() {
        let problem = |text: &str| hook(text).err().unwrap().to_string();
        assert!(problem("function post(").contains("hook.lua:1:"));
        assert!(problem("x = 1").ends_with("hook.lua has no function post"));
        assert!(problem("while true do end").contains("takes too long"));
        let missing = LuaHook::load(Path::new("/nonexistent"), Duration::ZERO);
        assert_eq!(
            missing.err().unwrap().to_string(),
            "cannot read /nonexistent"
        );
    }
}
