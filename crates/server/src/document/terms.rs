//! Erlang terms as values: what an Erlang `sys.config` is written in.
//!
//! Bounded and pure: text in, a value out. Lists of pairs become objects (of
//! two pairs of one name the first counts, as for Erlang's own
//! `proplists`), atoms and binaries texts, tuples lists.

use serde_json::{Map, Number, Value};
use std::iter::Peekable;
use std::str::CharIndices;

/// Longer files are none that anybody writes.
const LONGEST: usize = 4 << 20;
/// How deep terms may be within each other.
const DEEPEST: usize = 64;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(crate) struct TermError {
    line: usize,
    problem: String,
}

/// A term.
#[derive(Debug, Clone, PartialEq)]
enum Term {
    Atom(String),
    Text(String),
    Integer(i64),
    Float(f64),
    Tuple(Vec<Term>),
    List(Vec<Term>),
}

/// Reads one term with the full stop behind it.
///
/// # Errors
/// What is no term, or not one that is known here.
pub(crate) fn parse(text: &str) -> Result<Value, TermError> {
    let mut reader = Reader {
        text,
        rest: text.char_indices().peekable(),
    };
    if text.len() > LONGEST {
        return Err(reader.wrong(format!("more than {LONGEST} bytes")));
    }
    let term = reader.term(0)?;
    reader.expect('.')?;
    match reader.skip_blanks() {
        None => Ok(value(term)),
        Some(_) => Err(reader.wrong("something stands behind the term")),
    }
}

/// What stands for a term.
fn value(term: Term) -> Value {
    match term {
        Term::Atom(name) if name == "true" => Value::Bool(true),
        Term::Atom(name) if name == "false" => Value::Bool(false),
        Term::Atom(name) if name == "undefined" => Value::Null,
        Term::Atom(text) | Term::Text(text) => Value::String(text),
        Term::Integer(number) => number.into(),
        Term::Float(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        Term::Tuple(terms) => Value::Array(terms.into_iter().map(value).collect()),
        Term::List(terms) if !terms.is_empty() && terms.iter().all(|term| name(term).is_some()) => {
            let mut members = Map::new();
            for term in terms {
                let Some(name) = name(&term).map(str::to_owned) else {
                    continue;
                };
                if let Term::Tuple(mut pair) = term
                    && let Some(second) = pair.pop()
                {
                    members.entry(name).or_insert_with(|| value(second));
                }
            }
            Value::Object(members)
        }
        Term::List(terms) => Value::Array(terms.into_iter().map(value).collect()),
    }
}

/// The name of a pair, if it is one.
fn name(term: &Term) -> Option<&str> {
    match term {
        Term::Tuple(pair) => match &pair[..] {
            [Term::Atom(name) | Term::Text(name), _] => Some(name),
            _ => None,
        },
        _ => None,
    }
}

struct Reader<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

impl Reader<'_> {
    fn wrong(&mut self, problem: impl Into<String>) -> TermError {
        let at = self.rest.peek().map_or(self.text.len(), |(at, _)| *at);
        let before = self.text.get(..at).unwrap_or_default();
        TermError {
            line: before.matches('\n').count() + 1,
            problem: problem.into(),
        }
    }

    fn unexpected(&mut self, wanted: &str) -> TermError {
        match self.rest.peek().copied() {
            Some((_, found)) => self.wrong(format!("expected {wanted}, found {found:?}")),
            None => self.wrong(format!("expected {wanted}, found the end")),
        }
    }

    /// The next character that is neither blank nor comment.
    fn skip_blanks(&mut self) -> Option<char> {
        loop {
            match self.peek()? {
                '%' => while self.next().is_some_and(|found| found != '\n') {},
                blank if blank.is_whitespace() => {
                    self.next();
                }
                other => return Some(other),
            }
        }
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().map(|(_, found)| *found)
    }

    fn next(&mut self) -> Option<char> {
        self.rest.next().map(|(_, found)| found)
    }

    fn next_if(&mut self, wanted: impl Fn(char) -> bool) -> Option<char> {
        self.rest
            .next_if(|(_, found)| wanted(*found))
            .map(|(_, found)| found)
    }

    fn expect(&mut self, wanted: char) -> Result<(), TermError> {
        self.skip_blanks();
        match self.next_if(|found| found == wanted) {
            Some(_) => Ok(()),
            None => Err(self.unexpected(&format!("{wanted:?}"))),
        }
    }

    fn term(&mut self, depth: usize) -> Result<Term, TermError> {
        if depth > DEEPEST {
            return Err(self.wrong(format!("more than {DEEPEST} terms within each other")));
        }
        match self.skip_blanks() {
            Some('{') => Ok(Term::Tuple(self.terms('{', '}', depth)?)),
            Some('[') => Ok(Term::List(self.terms('[', ']', depth)?)),
            Some('<') => Ok(Term::Text(self.binary()?)),
            Some('"') => Ok(Term::Text(self.texts()?)),
            Some('\'') => Ok(Term::Atom(self.quoted('\'')?)),
            Some('$') => {
                self.next();
                let found = self.character()?;
                Ok(Term::Integer(i64::from(u32::from(found))))
            }
            Some(first) if first.is_ascii_lowercase() => Ok(Term::Atom(self.word())),
            Some(first) if first.is_ascii_digit() || matches!(first, '-' | '+') => self.number(),
            _ => Err(self.unexpected("a term")),
        }
    }

    fn terms(&mut self, open: char, close: char, depth: usize) -> Result<Vec<Term>, TermError> {
        self.expect(open)?;
        let mut terms = Vec::new();
        if self.skip_blanks() == Some(close) {
            self.next();
            return Ok(terms);
        }
        loop {
            terms.push(self.term(depth + 1)?);
            self.skip_blanks();
            if self.next_if(|found| found == ',').is_some() {
                continue;
            }
            self.expect(close)?;
            return Ok(terms);
        }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        let is_part = |found: char| found.is_alphanumeric() || matches!(found, '_' | '@');
        while let Some(found) = self.next_if(is_part) {
            word.push(found);
        }
        word
    }

    /// Strings that stand one behind the other are one.
    fn texts(&mut self) -> Result<String, TermError> {
        let mut text = self.quoted('"')?;
        while self.skip_blanks() == Some('"') {
            text.push_str(&self.quoted('"')?);
        }
        Ok(text)
    }

    fn quoted(&mut self, quote: char) -> Result<String, TermError> {
        self.expect(quote)?;
        let mut text = String::new();
        loop {
            if self.next_if(|found| found == quote).is_some() {
                return Ok(text);
            }
            text.push(self.character()?);
        }
    }

    /// A character, or what an escape stands for.
    fn character(&mut self) -> Result<char, TermError> {
        let found = match self.next() {
            Some('\\') => self.next(),
            Some(plain) => return Ok(plain),
            None => return Err(self.unexpected("a character")),
        };
        Ok(match found {
            Some('b') => '\u{8}',
            Some('d') => '\u{7f}',
            Some('e') => '\u{1b}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('s') => ' ',
            Some('t') => '\t',
            Some('v') => '\u{b}',
            Some('x') => {
                let is_braced = self.next_if(|found| found == '{').is_some();
                let digits = self.digits(16, if is_braced { 6 } else { 2 });
                if is_braced {
                    self.expect('}')?;
                }
                return self.scalar(&digits, 16);
            }
            Some(first @ '0'..='7') => {
                let digits = format!("{first}{}", self.digits(8, 2));
                return self.scalar(&digits, 8);
            }
            Some(other) => other,
            None => return Err(self.unexpected("a character")),
        })
    }

    fn digits(&mut self, radix: u32, most: usize) -> String {
        let mut digits = String::new();
        while digits.len() < most
            && let Some(digit) = self.next_if(|found| found.is_digit(radix))
        {
            digits.push(digit);
        }
        digits
    }

    fn scalar(&mut self, digits: &str, radix: u32) -> Result<char, TermError> {
        u32::from_str_radix(digits, radix)
            .ok()
            .and_then(char::from_u32)
            .ok_or_else(|| self.wrong("an escape that is no character"))
    }

    /// `<<"text">>`, `<<"text"/utf8>>`, `<<1, 2>>`: its bytes as UTF-8.
    fn binary(&mut self) -> Result<String, TermError> {
        self.expect('<')?;
        self.expect('<')?;
        let mut bytes = Vec::new();
        while self.skip_blanks() != Some('>') {
            if self.peek() == Some('"') {
                bytes.extend_from_slice(self.texts()?.as_bytes());
                if self.next_if(|found| found == '/').is_some() && self.word() != "utf8" {
                    return Err(self.wrong("a binary may only be utf8"));
                }
            } else {
                let Term::Integer(number) = self.number()? else {
                    return Err(self.wrong("a binary has bytes"));
                };
                let byte = u8::try_from(number);
                bytes.push(byte.map_err(|_| self.wrong("a byte is 0 to 255"))?);
            }
            if self.skip_blanks() != Some('>') {
                self.expect(',')?;
            }
        }
        self.expect('>')?;
        self.expect('>')?;
        String::from_utf8(bytes).map_err(|_| self.wrong("a binary that is not UTF-8"))
    }

    fn number(&mut self) -> Result<Term, TermError> {
        let mut text = String::new();
        if let Some(sign) = self.next_if(|found| matches!(found, '-' | '+')) {
            text.push(sign);
        }
        let is_first = self.peek().is_some_and(|found| found.is_ascii_digit());
        if !is_first {
            return Err(self.unexpected("a term"));
        }
        self.whole(&mut text);
        if self.next_if(|found| found == '#').is_some() {
            let sign = if text.starts_with('-') { "-" } else { "" };
            let radix = text.trim_start_matches(['-', '+']).parse().ok();
            let radix = radix.filter(|radix| (2..=36).contains(radix));
            let Some(radix) = radix else {
                return Err(self.wrong("a base is 2 to 36"));
            };
            let digits = format!("{sign}{}", self.digits(radix, 64));
            let number = i64::from_str_radix(&digits, radix);
            return number
                .map(Term::Integer)
                .map_err(|_| self.wrong("a number of more than 64 bits"));
        }
        // A full stop with a digit behind it belongs to the number.
        let mut ahead = self.rest.clone();
        let is_dot = ahead.next().is_some_and(|(_, found)| found == '.');
        let is_fraction = is_dot
            && ahead
                .next()
                .is_some_and(|(_, found)| found.is_ascii_digit());
        if !is_fraction {
            return text
                .parse()
                .map(Term::Integer)
                .map_err(|_| self.wrong("a number of more than 64 bits"));
        }
        self.next();
        text.push('.');
        self.whole(&mut text);
        if self.next_if(|found| matches!(found, 'e' | 'E')).is_some() {
            text.push('e');
            if let Some(sign) = self.next_if(|found| matches!(found, '-' | '+')) {
                text.push(sign);
            }
            self.whole(&mut text);
        }
        text.parse()
            .map(Term::Float)
            .map_err(|_| self.wrong("a malformed number"))
    }

    /// Digits, between which there may be underscores.
    fn whole(&mut self, text: &mut String) {
        while let Some(found) = self.next_if(|found| found.is_ascii_digit() || found == '_') {
            if found != '_' {
                text.push(found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_sys_config_is_read() {
        let text = r#"%% -*- erlang -*-
[
 {kafboy, [
   {kafboy_http_port, 9903}, % the demo's
   {kafboy_callback_edit_json, {my_hooks, edit_json}},
   {kafboy_routes_async, ["/1/foo/:topic", <<"/2/:topic"/utf8>>]},
   {kafboy_enable_safetyvalve, true}
 ]},
 {ekaf, [
   {ekaf_bootstrap_broker, {"localhost", 9091}},
   {ekaf_partition_strategy, [{<<"heavy">>, strict_round_robin},
                              {ekaf_partition_strategy, 'random'}]},
   {<<"pull_for_changes_timeout">>, 60_000},
   {ekaf_bootstrap_topics, []},
   {a, undefined}, {a, later}, {hex, 16#FF}, {negative, -3}, {pi, 3.5e-1}, {letter, $a}
 ]}
].
"#;
        let expected = json!({
            "kafboy": {
                "kafboy_http_port": 9903,
                "kafboy_callback_edit_json": ["my_hooks", "edit_json"],
                "kafboy_routes_async": ["/1/foo/:topic", "/2/:topic"],
                "kafboy_enable_safetyvalve": true,
            },
            "ekaf": {
                "ekaf_bootstrap_broker": ["localhost", 9091],
                "ekaf_partition_strategy": {
                    "heavy": "strict_round_robin",
                    "ekaf_partition_strategy": "random",
                },
                "pull_for_changes_timeout": 60000,
                "ekaf_bootstrap_topics": [],
                "a": null, "hex": 255, "negative": -3, "pi": 0.35, "letter": 97,
            },
        });
        assert_eq!(parse(text), Ok(expected));
    }

    #[test]
    fn texts_have_escapes() {
        let text = r#"["a\n\"\x41\x{e9}\101\s" "b", <<104,105>>, 'it''s' ]."#;
        // Two quoted atoms in a row are no term.
        assert!(parse(text).is_err());
        let text = r#"["a\n\"\x41\x{e9}\101\s" "b", <<104,105>>, 'it\'s', <<>>]."#;
        assert_eq!(parse(text), Ok(json!(["a\n\"AéA b", "hi", "it's", ""])));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let deep = "[".repeat(100);
        for (text, expected) in [
            ("", "line 1: expected a term, found the end"),
            ("[\n a", "line 2: expected ']', found the end"),
            ("a", "line 1: expected '.', found the end"),
            ("a. b.", "line 1: something stands behind the term"),
            ("\n\n#{a => 1}.", "line 3: expected a term, found '#'"),
            ("Variable.", "line 1: expected a term, found 'V'"),
            (
                "99999999999999999999.",
                "line 1: a number of more than 64 bits",
            ),
            ("<<256>>.", "line 1: a byte is 0 to 255"),
            ("<<255>>.", "line 1: a binary that is not UTF-8"),
            ("\"\\x{110000}\".", "line 1: an escape that is no character"),
            (&deep, "line 1: more than 64 terms within each other"),
        ] {
            let problem = parse(text).unwrap_err().to_string();
            assert_eq!(problem, expected, "{text:?}");
        }
    }

    /// As Erlang would write it.
    fn written(term: &Term) -> String {
        let all = |terms: &[Term]| terms.iter().map(written).collect::<Vec<_>>().join(", ");
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        match term {
            Term::Atom(name) => format!("'{}'", name.replace('\\', "\\\\").replace('\'', "\\'")),
            Term::Text(text) => format!("<<\"{}\">> % a comment\n", escaped(text)),
            Term::Integer(number) => number.to_string(),
            Term::Float(number) => format!("{number:?}"),
            Term::Tuple(terms) => format!("{{{}}}", all(terms)),
            Term::List(terms) => format!("[{}]", all(terms)),
        }
    }

    fn terms() -> impl Strategy<Value = Term> {
        let leaf = prop_oneof![
            any::<String>().prop_map(Term::Atom),
            any::<String>().prop_map(Term::Text),
            any::<i64>().prop_map(Term::Integer),
            (-1e9..1e9).prop_map(|number: f64| Term::Float(number + 0.5)),
        ];
        leaf.prop_recursive(6, 64, 5, |inner| {
            let some = prop::collection::vec(inner, 0..5);
            prop_oneof![
                some.clone().prop_map(Term::Tuple),
                some.prop_map(Term::List)
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(term in terms()) {
            let text = format!("{}.", written(&term));
            prop_assert_eq!(parse(&text), Ok(value(term)), "{}", text);
        }

        #[test]
        fn nothing_panics(text in "[\\[\\]{}<>\"'$\\\\%#.,a-c0-9 \n-]{0,60}|\\PC{0,60}") {
            let _ = parse(&text);
        }
    }
}
