//! Scripts in Lua, in the place of the functions that users of ekaf and kafboy
//! have written in Erlang.
//!
//! A script sees what it is called with and nothing else of the process: no
//! files, no network, no other code, nothing that could catch the error that
//! stops it. Memory, time and steps are bounded.

mod hook;
mod json;
mod picker;

pub(crate) use hook::LuaHook;
pub(crate) use picker::LuaPicker;

use anyhow::{Context as _, Result, anyhow};
use mlua::{Function, HookTriggers, Lua, LuaOptions, StdLib, Table, Value, Variadic, VmState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Larger scripts are none.
const LARGEST: u64 = 1 << 20;
/// After so many of Lua's instructions it is looked whether a script may go on.
const STRIDE: u32 = 1_000;

/// What of Lua's basic functions a script has.
const FUNCTIONS: [&str; 13] = [
    "assert", "error", "ipairs", "next", "pairs", "rawequal", "rawget", "rawlen", "rawset",
    "select", "tonumber", "tostring", "type",
];
const LIBRARIES: [&str; 4] = ["math", "string", "table", "utf8"];

/// What a script may use.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Bytes, all of the script's state.
    memory: usize,
    /// Of one call.
    time: Duration,
    /// Lua's instructions of one call.
    steps: u64,
}

/// A script has used all that it may.
#[derive(Debug, thiserror::Error)]
#[error("the script takes too long")]
struct TooLong;

/// A script as it is written.
#[derive(Debug, Clone)]
struct Source {
    name: String,
    text: Arc<str>,
}

impl Source {
    fn read(path: &Path) -> Result<Self> {
        let cannot = || format!("cannot read {}", path.display());
        let length = std::fs::metadata(path).with_context(cannot)?.len();
        if length > LARGEST {
            return Err(anyhow!("more than {LARGEST} bytes")).with_context(cannot);
        }
        let text = std::fs::read_to_string(path).with_context(cannot)?;
        let name = path.file_name().map_or_else(PathBuf::new, PathBuf::from);
        Ok(Self {
            name: name.display().to_string(),
            text: text.into(),
        })
    }
}

/// A script that has been started: its functions are there.
struct Script {
    lua: Lua,
    /// Its globals.
    globals: Table,
    meter: Arc<Meter>,
    limits: Limits,
}

/// What a call has left.
struct Meter {
    started: Instant,
    /// Microseconds since then.
    deadline: AtomicU64,
    steps: AtomicU64,
}

impl Meter {
    fn allow(&self, limits: &Limits) {
        let deadline = (self.started.elapsed() + limits.time).as_micros();
        let deadline = u64::try_from(deadline).unwrap_or(u64::MAX);
        self.deadline.store(deadline, Ordering::Relaxed);
        self.steps.store(limits.steps, Ordering::Relaxed);
    }

    fn is_used_up(&self) -> bool {
        let left = self.steps.load(Ordering::Relaxed);
        let now = self.started.elapsed().as_micros();
        self.steps
            .store(left.saturating_sub(STRIDE.into()), Ordering::Relaxed);
        left == 0 || now >= u128::from(self.deadline.load(Ordering::Relaxed))
    }
}

impl Script {
    /// Runs what stands outside of its functions.
    fn start(source: &Source, limits: Limits) -> mlua::Result<Self> {
        let libraries = StdLib::MATH | StdLib::STRING | StdLib::TABLE | StdLib::UTF8;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        lua.set_memory_limit(limits.memory)?;
        let meter = Arc::new(Meter {
            started: Instant::now(),
            deadline: AtomicU64::new(0),
            steps: AtomicU64::new(0),
        });
        let globals = sandbox(&lua)?;
        let own = Arc::clone(&meter);
        let triggers = HookTriggers::new().every_nth_instruction(STRIDE);
        lua.set_hook(triggers, move |_, _| match own.is_used_up() {
            true => Err(mlua::Error::external(TooLong)),
            false => Ok(VmState::Continue),
        })?;
        meter.allow(&limits);
        lua.load(&*source.text)
            .set_name(format!("@{}", source.name))
            // Lua's byte code is not checked before it is run.
            .set_mode(mlua::ChunkMode::Text)
            .set_environment(globals.clone())
            .exec()?;
        Ok(Self {
            lua,
            globals,
            meter,
            limits,
        })
    }

    /// A function that the script has.
    fn function(&self, name: &str) -> Option<Function> {
        // Lua's own `error` stands behind the globals, not in them.
        self.globals.raw_get(name).ok()
    }

    /// Calls into the script, within its limits.
    fn limited<T>(&self, call: impl FnOnce(&Lua) -> mlua::Result<T>) -> mlua::Result<T> {
        self.meter.allow(&self.limits);
        call(&self.lua)
    }
}

/// The globals of a script: what it defines itself, and behind that what it
/// may use.
fn sandbox(lua: &Lua) -> mlua::Result<Table> {
    let all = lua.globals();
    let base = lua.create_table()?;
    for name in FUNCTIONS.into_iter().chain(LIBRARIES) {
        base.raw_set(name, all.raw_get::<Value>(name)?)?;
    }
    let string: Table = all.raw_get("string")?;
    string.raw_set("dump", Value::Nil)?;
    base.raw_set("json", json::library(lua)?)?;
    let print = |lua: &Lua, values: Variadic<Value>| {
        let mut texts = Vec::new();
        for value in values {
            let text = lua.coerce_string(value)?;
            texts.push(text.map_or_else(|| "?".to_owned(), |text| text.to_string_lossy()));
        }
        tracing::info!(component = "script", "{}", texts.join(" "));
        Ok(())
    };
    base.raw_set("print", lua.create_function(print)?)?;
    let phash2 = |_: &Lua, key: mlua::String| Ok(barnabas_engine::phash2(&key.as_bytes()));
    base.raw_set("phash2", lua.create_function(phash2)?)?;
    let globals = lua.create_table()?;
    let behind = lua.create_table()?;
    behind.raw_set("__index", base)?;
    globals.set_metatable(Some(behind))?;
    Ok(globals)
}

fn is_too_long(error: &mlua::Error) -> bool {
    error.chain().any(|cause| cause.is::<TooLong>())
}

/// Its first line: the others are Lua's stack.
fn first_line(error: &mlua::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(text: &str) -> mlua::Result<Script> {
        // A busy machine may be slow: steps are what is measured.
        start_within(text, Duration::from_secs(20), 5_000_000)
    }

    fn start_within(text: &str, time: Duration, steps: u64) -> mlua::Result<Script> {
        let source = Source {
            name: "test.lua".to_owned(),
            text: text.into(),
        };
        let limits = Limits {
            memory: 8 << 20,
            time,
            steps,
        };
        Script::start(&source, limits)
    }

    #[test]
    fn a_script_sees_nothing_of_the_process() {
        for name in [
            "os",
            "io",
            "require",
            "package",
            "load",
            "loadfile",
            "dofile",
            "debug",
            "pcall",
            "xpcall",
            "coroutine",
            "setmetatable",
            "getmetatable",
            "collectgarbage",
            "_G",
        ] {
            let script = start(&format!("assert({name} == nil)"));
            assert!(script.is_ok(), "{name}");
        }
        assert!(start("assert(string.dump == nil and (\"\").dump == nil)").is_ok());
        assert!(start("\u{1b}Lua").is_err(), "no byte code");
        assert!(start("local a = 1 + math.max(1, 2); x = utf8.char(65)").is_ok());
    }

    #[test]
    fn time_steps_and_memory_are_bounded() {
        for (time, steps) in [(1_000_000, 1_000), (1, u64::MAX)] {
            let time = Duration::from_millis(time);
            let stopped = start_within("while true do end", time, steps);
            let error = stopped.err().unwrap();
            assert!(is_too_long(&error), "{error}");
        }
        let error = start("local s = \"x\" while true do s = s .. s end");
        assert!(error.is_err());
        assert!(start("string.rep(\"x\", 1 << 30)").is_err());
        assert!(start("local function f() return f() + 1 end f()").is_err());
        let error = start("local a = nil + 1").err().unwrap();
        assert!(first_line(&error).contains("test.lua:1:"), "{error}");
        assert!(!is_too_long(&error));
    }

    #[test]
    fn a_function_of_luas_own_is_none_of_the_script() {
        assert!(start("").unwrap().function("error").is_none());
        let own = start("function error(status, text) end").unwrap();
        assert!(own.function("error").is_some());
        assert!(start("post = 1").unwrap().function("post").is_none());
    }
}
