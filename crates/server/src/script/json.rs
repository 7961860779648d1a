//! JSON for scripts: `json.encode`, `json.decode`, and `json.object`, which
//! keeps the order that Lua's tables do not have.

use mlua::{Error, Lua, Result, Table, Value};
use serde_json::{Map, Number};

/// How deep values may be within each other.
const DEEPEST: usize = 64;
/// Values of one text: what is made here is in no bound of Lua's memory, and
/// one table may stand in many places.
const MOST_VALUES: usize = 1_000_000;
/// Bytes of all strings of one text.
const MOST_BYTES: usize = 16 << 20;

pub(super) fn library(lua: &Lua) -> Result<Table> {
    let library = lua.create_table()?;
    let text = |lua: &Lua, value: &serde_json::Value| lua.create_string(value.to_string());
    library.raw_set(
        "encode",
        lua.create_function(move |lua, value: Value| text(lua, &Writer::new().value(&value, 0)?))?,
    )?;
    library.raw_set(
        "object",
        lua.create_function(move |lua, pairs: Table| text(lua, &object(&pairs)?))?,
    )?;
    let decode = |lua: &Lua, text: mlua::String| {
        let text = text.as_bytes();
        if text.len() > MOST_BYTES {
            return Ok((Value::Nil, Some(format!("more than {MOST_BYTES} bytes"))));
        }
        match serde_json::from_slice::<serde_json::Value>(&text) {
            Ok(value) => Ok((to_lua(lua, &value)?, None)),
            Err(error) => Ok((Value::Nil, Some(error.to_string()))),
        }
    };
    library.raw_set("decode", lua.create_function(decode)?)?;
    Ok(library)
}

/// A value's text.
pub(super) fn encoded(value: &Value) -> Result<Vec<u8>> {
    let value = Writer::new().value(value, 0)?;
    Ok(value.to_string().into_bytes())
}

/// What is left of the bounds of one text.
struct Writer {
    values: usize,
    bytes: usize,
}

impl Writer {
    fn new() -> Self {
        Self {
            values: MOST_VALUES,
            bytes: MOST_BYTES,
        }
    }

    /// A table with a first element is an array, every other one an object,
    /// its names sorted.
    fn value(&mut self, value: &Value, depth: usize) -> Result<serde_json::Value> {
        if depth > DEEPEST {
            let text = format!("more than {DEEPEST} tables within each other");
            return Err(Error::runtime(text));
        }
        self.values = self.values.checked_sub(1).ok_or_else(too_large)?;
        Ok(match value {
            Value::Nil => serde_json::Value::Null,
            Value::Boolean(flag) => (*flag).into(),
            Value::Integer(number) => (*number).into(),
            Value::Number(number) => {
                Number::from_f64(*number).map_or(serde_json::Value::Null, Into::into)
            }
            Value::String(text) => self.text(text)?.into(),
            Value::Table(table) if table.raw_len() > 0 => {
                let mut elements = Vec::new();
                for element in table.sequence_values::<Value>() {
                    elements.push(self.value(&element?, depth + 1)?);
                }
                elements.into()
            }
            Value::Table(table) => {
                let mut members = Vec::new();
                for pair in table.pairs::<mlua::String, Value>() {
                    let (name, value) = pair?;
                    members.push((self.text(&name)?, self.value(&value, depth + 1)?));
                }
                members.sort_by(|(one, _), (other, _)| one.cmp(other));
                Map::from_iter(members).into()
            }
            other => {
                let text = format!("a {} is no JSON", other.type_name());
                return Err(Error::runtime(text));
            }
        })
    }

    fn text(&mut self, text: &mlua::String) -> Result<String> {
        let length = text.as_bytes().len();
        self.bytes = self.bytes.checked_sub(length).ok_or_else(too_large)?;
        Ok(text.to_string_lossy())
    }
}

fn too_large() -> Error {
    Error::runtime("too large for JSON")
}

/// Of pairs `{name, value}`, in order.
fn object(pairs: &Table) -> Result<serde_json::Value> {
    let mut writer = Writer::new();
    let mut members = Map::new();
    for pair in pairs.sequence_values::<Table>() {
        let pair = pair?;
        let name = writer.text(&pair.raw_get(1)?)?;
        let value = writer.value(&pair.raw_get(2)?, 1)?;
        members.insert(name, value);
    }
    Ok(members.into())
}

/// serde_json has bounded the depth.
fn to_lua(lua: &Lua, value: &serde_json::Value) -> Result<Value> {
    Ok(match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(flag) => Value::Boolean(*flag),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(number) => Value::Integer(number),
            None => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::String(lua.create_string(text)?),
        serde_json::Value::Array(elements) => {
            let table = lua.create_table()?;
            for (index, element) in elements.iter().enumerate() {
                table.raw_set(index + 1, to_lua(lua, element)?)?;
            }
            Value::Table(table)
        }
        serde_json::Value::Object(members) => {
            let table = lua.create_table()?;
            for (name, member) in members {
                table.raw_set(name.as_str(), to_lua(lua, member)?)?;
            }
            Value::Table(table)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(script: &str) -> Result<String> {
        let lua = Lua::new();
        lua.globals().set("json", library(&lua)?)?;
        lua.load(script).eval()
    }

    #[test]
    fn tables_and_texts() {
        for (script, expected) in [
            (
                "json.encode({b = 1, a = {true, \"x\", 1.5}})",
                r#"{"a":[true,"x",1.5],"b":1}"#,
            ),
            ("json.encode({})", "{}"),
            (
                "json.encode(json.decode('[1,{\"a\":null,\"b\":2.5}]'))",
                r#"[1,{"b":2.5}]"#,
            ),
            (
                "json.object({{\"z\", \"1\"}, {\"a\", true}, {\"z\", 2}})",
                r#"{"z":2,"a":true}"#,
            ),
            (
                "(select(2, json.decode(\"{\")))",
                "EOF while parsing an object at line 1 column 1",
            ),
        ] {
            assert_eq!(
                eval(&format!("return {script}")).unwrap(),
                expected,
                "{script}"
            );
        }
        let large = "return (select(2, json.decode(string.rep(\" \", (16 << 20) + 1))))";
        assert_eq!(eval(large).unwrap(), "more than 16777216 bytes");
        for script in [
            "local t = {} t.t = t return json.encode(t)",
            "local t = {1} for _ = 1, 60 do t = {t, t} end return json.encode(t)",
            "local s, t = string.rep(\"x\", 1 << 20), {} for i = 1, 20 do t[i] = s end return \
             json.encode(t)",
            "return json.encode(print)",
            "return json.encode({[true] = 1})",
            "return json.object({1})",
        ] {
            assert!(eval(script).is_err(), "{script}");
        }
    }
}
