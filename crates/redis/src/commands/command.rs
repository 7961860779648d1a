//! `COMMAND [COUNT | LIST | INFO | DOCS | GETKEYS]`: the commands that are
//! served, from their definitions (contract, section 12).

use super::keys::matches_glob;
use super::table::{self, Definition, Keys, Subcommand};
use super::{Arguments, Context};
use crate::codec::Reply;

pub(super) fn run(context: &mut Context<'_>, arguments: &Arguments<'_>) {
    let reply = &mut *context.reply;
    let has_names = arguments.count() > 2;
    if arguments.count() == 1 || arguments.is(1, "info") && !has_names {
        reply.array(table::all().len());
        for definition in table::all() {
            describe(reply, definition);
        }
    } else if arguments.is(1, "count") {
        reply.integer(i64::try_from(table::all().len()).unwrap_or(i64::MAX));
    } else if arguments.is(1, "info") {
        reply.array(arguments.count() - 2);
        for name in arguments.from(2) {
            match table::find(name) {
                Some(definition) => describe(reply, definition),
                None => reply.null_array(),
            }
        }
    } else if arguments.is(1, "docs") {
        let found: Vec<&Definition> = if has_names {
            arguments.from(2).filter_map(table::find).collect()
        } else {
            table::all().iter().collect()
        };
        reply.map(found.len());
        for definition in found {
            document(reply, definition);
        }
    } else {
        let listed = if arguments.is(1, "list") {
            list(arguments)
        } else {
            keys_of(arguments)
        };
        match listed {
            Ok(words) => {
                reply.array(words.len());
                for word in words {
                    reply.bulk(word);
                }
            }
            Err(text) => reply.error(text),
        }
    }
}

/// `COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]`
fn list(arguments: &Arguments<'_>) -> Result<Vec<&'static [u8]>, &'static str> {
    let value = arguments.get(4).to_ascii_lowercase();
    let selects: Box<dyn Fn(&&Definition) -> bool> = match arguments.count() {
        2 => Box::new(|_| true),
        5 if !arguments.is(2, "filterby") => return Err("ERR syntax error"),
        5 if arguments.is(3, "module") => Box::new(|_| false),
        5 if arguments.is(3, "aclcat") => Box::new(move |definition| {
            let categories = categories(definition.flags, definition.group);
            categories
                .iter()
                .any(|category| category.as_bytes() == value)
        }),
        5 if arguments.is(3, "pattern") => {
            Box::new(move |definition| matches_glob(&value, definition.name.as_bytes()))
        }
        _ => return Err("ERR syntax error"),
    };
    let names = table::all().iter().filter(selects);
    Ok(names.map(|definition| definition.name.as_bytes()).collect())
}

/// `COMMAND GETKEYS <command> [argument …]`
fn keys_of<'a>(arguments: &Arguments<'a>) -> Result<Vec<&'a [u8]>, &'static str> {
    let Some(definition) = table::find(arguments.get(2)) else {
        return Err("ERR Invalid command specified");
    };
    let Keys { first, last, step } = definition.keys;
    if step == 0 {
        return Err("ERR The command has no key arguments");
    }
    // Positions count from the inner command's name.
    let count = i64::try_from(arguments.count()).unwrap_or(i64::MAX) - 2;
    if !table::fits(definition.arity, count) {
        return Err("ERR Invalid number of arguments specified for command");
    }
    let last = if last < 0 { count + last } else { last };
    // BLPOP may come without its timeout, which would be the last key.
    let last = last.max(first);
    let positions = (first..=last).filter(|position| (position - first) % step == 0);
    Ok(positions
        .filter_map(|position| usize::try_from(position).ok())
        .map(|position| arguments.get(position + 2))
        .collect())
}

/// The ten elements of an entry: name, arity, flags, first key, last key,
/// step, categories, tips, key specifications, subcommands.
fn describe(reply: &mut Reply, definition: &Definition) {
    head(
        reply,
        definition.name,
        definition.arity,
        definition.flags,
        definition.keys,
    );
    words(reply, &categories(definition.flags, definition.group));
    reply.set(0);
    specify_keys(reply, definition);
    if definition.subcommands.is_empty() {
        reply.set(0);
        return;
    }
    reply.array(definition.subcommands.len());
    for subcommand in definition.subcommands {
        let name = format!("{}|{}", definition.name, subcommand.name);
        let none = Keys {
            first: 0,
            last: 0,
            step: 0,
        };
        head(reply, &name, subcommand.arity, definition.flags, none);
        words(reply, &categories(definition.flags, definition.group));
        for _ in ["tips", "key specifications", "subcommands"] {
            reply.set(0);
        }
    }
}

fn head(reply: &mut Reply, name: &str, arity: i64, flags: &[&str], keys: Keys) {
    reply.array(10);
    reply.bulk(name.as_bytes());
    reply.integer(arity);
    words(reply, flags);
    reply.integer(keys.first);
    reply.integer(keys.last);
    reply.integer(keys.step);
}

fn words(reply: &mut Reply, words: &[impl AsRef<str>]) {
    reply.set(words.len());
    for word in words {
        reply.simple(word.as_ref());
    }
}

fn categories(flags: &[&str], group: &str) -> Vec<String> {
    let mut categories = Vec::new();
    for (flag, category) in [
        ("readonly", "read"),
        ("write", "write"),
        ("admin", "admin"),
        ("admin", "dangerous"),
        ("blocking", "blocking"),
    ] {
        if flags.contains(&flag) {
            categories.push(format!("@{category}"));
        }
    }
    let group = match group {
        "generic" => Some("keyspace"),
        "transactions" => Some("transaction"),
        "server" | "cluster" => None,
        other => Some(other),
    };
    categories.extend(group.map(|group| format!("@{group}")));
    let speed = if flags.contains(&"fast") {
        "fast"
    } else {
        "slow"
    };
    categories.push(format!("@{speed}"));
    categories
}

/// Where the keys are, in the form that Redis 7 added.
fn specify_keys(reply: &mut Reply, definition: &Definition) {
    let Keys { first, last, step } = definition.keys;
    if step == 0 {
        reply.set(0);
        return;
    }
    let is_write = definition.has_flag("write");
    let text = |reply: &mut Reply, name: &str, value: &str| {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    };
    let number = |reply: &mut Reply, name: &str, value: i64| {
        reply.bulk(name.as_bytes());
        reply.integer(value);
    };
    reply.set(1);
    reply.map(3);
    reply.bulk(b"flags");
    words(reply, &[if is_write { "RW" } else { "RO" }, "access"]);
    reply.bulk(b"begin_search");
    reply.map(2);
    text(reply, "type", "index");
    reply.bulk(b"spec");
    reply.map(1);
    number(reply, "index", first);
    reply.bulk(b"find_keys");
    reply.map(2);
    text(reply, "type", "range");
    reply.bulk(b"spec");
    reply.map(3);
    // Relative to the first key, unless it counts from the end.
    number(reply, "lastkey", if last < 0 { last } else { last - first });
    number(reply, "keystep", step);
    number(reply, "limit", 0);
}

fn document(reply: &mut Reply, definition: &Definition) {
    let fields = |reply: &mut Reply, summary: &str| {
        for (name, value) in [
            ("summary", summary),
            ("since", definition.since),
            ("group", definition.group),
        ] {
            reply.bulk(name.as_bytes());
            reply.bulk(value.as_bytes());
        }
    };
    reply.bulk(definition.name.as_bytes());
    let has_subcommands = !definition.subcommands.is_empty();
    reply.map(3 + usize::from(has_subcommands));
    fields(reply, definition.summary);
    if has_subcommands {
        reply.bulk(b"subcommands");
        reply.map(definition.subcommands.len());
        for Subcommand { name, summary, .. } in definition.subcommands {
            reply.bulk(format!("{}|{name}", definition.name).as_bytes());
            reply.map(3);
            fields(reply, summary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(text: &str) -> Vec<Vec<u8>> {
        text.split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect()
    }

    fn keys_in(text: &str) -> Result<Vec<String>, &'static str> {
        let owned = words_of(text);
        let keys = keys_of(&Arguments::owned(&owned))?;
        Ok(keys
            .into_iter()
            .map(|key| String::from_utf8_lossy(key).into_owned())
            .collect())
    }

    #[test]
    fn keys_are_found_by_position() {
        let keys = |names: &[&str]| Ok(names.iter().map(|&name| name.to_owned()).collect());
        assert_eq!(keys_in("COMMAND GETKEYS rpush a b c"), keys(&["a"]));
        assert_eq!(
            keys_in("COMMAND GETKEYS exists a b c"),
            keys(&["a", "b", "c"])
        );
        assert_eq!(keys_in("COMMAND GETKEYS blpop a b 5"), keys(&["a", "b"]));
        assert_eq!(keys_in("COMMAND GETKEYS blpop a"), keys(&["a"]));
        assert_eq!(
            keys_in("COMMAND GETKEYS nope a"),
            Err("ERR Invalid command specified")
        );
        assert_eq!(
            keys_in("COMMAND GETKEYS ping"),
            Err("ERR The command has no key arguments")
        );
        assert_eq!(
            keys_in("COMMAND GETKEYS llen"),
            Err("ERR Invalid number of arguments specified for command")
        );
    }

    #[test]
    fn lists_can_be_filtered() {
        let listed = |text: &str| {
            let owned = words_of(text);
            list(&Arguments::owned(&owned)).map(|names| names.len())
        };
        assert_eq!(listed("COMMAND LIST"), Ok(table::all().len()));
        assert_eq!(listed("COMMAND LIST FILTERBY MODULE x"), Ok(0));
        assert_eq!(listed("COMMAND LIST filterby pattern RPUSH*"), Ok(2));
        assert_eq!(listed("COMMAND LIST FILTERBY ACLCAT @transaction"), Ok(5));
        assert_eq!(listed("COMMAND LIST FILTERBY x y"), Err("ERR syntax error"));
        assert_eq!(listed("COMMAND LIST FILTERBY"), Err("ERR syntax error"));
    }
}
