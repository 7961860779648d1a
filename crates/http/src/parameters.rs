//! Parameters of a request: those of its form, then those of its query.

use crate::reply::{self, Reply};
use hyper::StatusCode;
use std::borrow::Cow;

/// More pairs than any request needs: each takes more memory than its text.
const MOST_PAIRS: usize = 1_000;

/// Names and values, decoded; values may be any bytes. Borrowed where nothing
/// was to decode.
#[derive(Debug, Default)]
pub(crate) struct Parameters<'a>(Vec<(Part<'a>, Part<'a>)>);

type Part<'a> = Cow<'a, [u8]>;

impl<'a> Parameters<'a> {
    /// Reads a query string behind what is there already.
    ///
    /// # Errors
    /// The escape that is none, as the old system words it; or that there are
    /// too many.
    pub(crate) fn add(&mut self, query: &'a [u8]) -> Result<(), String> {
        for pair in query.split(|byte| *byte == b'&') {
            if pair.is_empty() {
                continue;
            }
            if self.0.len() >= MOST_PAIRS {
                return Err(format!("more than {MOST_PAIRS} parameters"));
            }
            let mut parts = pair.splitn(2, |byte| *byte == b'=');
            let name = decode(parts.next().unwrap_or_default(), true)?;
            let value = decode(parts.next().unwrap_or_default(), true)?;
            self.0.push((name, value));
        }
        Ok(())
    }

    /// All values of a name.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.0
            .iter()
            .filter(move |(own, _)| **own == *name.as_bytes())
            .map(|(_, value)| &**value)
    }

    /// All names, as often as they are there.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|(name, _)| &**name)
    }

    /// The first value.
    pub(crate) fn first(&self, name: &str) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(own, _)| **own == *name.as_bytes())
            .map(|(_, value)| &**value)
    }

    /// Whether a flag is there, whatever its value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// The one consumer group.
    ///
    /// # Errors
    /// The reply to none, an empty one, or several.
    pub(crate) fn group(&self) -> Result<String, Box<Reply>> {
        let mut groups = self.all("group");
        match (groups.next(), groups.count()) {
            (Some(group), 0) if !group.is_empty() => {
                Ok(String::from_utf8_lossy(group).into_owned())
            }
            (None, _) | (Some(_), 0) => Err(refused(groups_expected(0))),
            (Some(_), others) => Err(refused(groups_expected(others + 1))),
        }
    }

    /// A number that is not negative; `None` if it is not given.
    ///
    /// # Errors
    /// The reply to what is none, as Go's `strconv` words it.
    pub(crate) fn number(&self, name: &str, max: i64) -> Result<Option<i64>, Box<Reply>> {
        let Some(first) = self.first(name) else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(first);
        let shown: Vec<_> = self.all(name).map(String::from_utf8_lossy).collect();
        let shown = shown.join(" ");
        let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
        let problem = if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            "invalid syntax"
        } else {
            match text.parse::<i64>() {
                Ok(number) if number < 0 => return Err(refused(format!("bad {name}: [{shown}]"))),
                Ok(number) if number <= max => return Ok(Some(number)),
                _ => "value out of range",
            }
        };
        Err(refused(format!(
            "bad {name}: [{shown}]: strconv.ParseInt: parsing {text:?}: {problem}"
        )))
    }

    /// Partition and offset under these names, both or neither.
    ///
    /// # Errors
    /// As [`Parameters::number`], or the reply to one without the other.
    pub(crate) fn position(
        &self,
        partition: &str,
        offset: &str,
    ) -> Result<Option<(i32, i64)>, Box<Reply>> {
        let found = (
            self.number(partition, i64::from(i32::MAX))?,
            self.number(offset, i64::MAX)?,
        );
        match found {
            (Some(id), Some(offset)) => Ok(Some((i32::try_from(id).unwrap_or(i32::MAX), offset))),
            (None, None) => Ok(None),
            _ => Err(refused(format!(
                "{partition} and {offset} either both should be provided or neither"
            ))),
        }
    }
}

fn groups_expected(count: usize) -> String {
    format!("one consumer group is expected, but {count} provided")
}

pub(crate) fn refused(text: impl Into<String>) -> Box<Reply> {
    Box::new(reply::error(StatusCode::BAD_REQUEST, text))
}

/// Decodes percent escapes; in queries a plus is a blank.
///
/// # Errors
/// The escape that is none, as the old system words it.
pub(crate) fn decode(text: &[u8], is_query: bool) -> Result<Cow<'_, [u8]>, String> {
    let is_plain = |byte: &u8| *byte != b'%' && !(is_query && *byte == b'+');
    if text.iter().all(is_plain) {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'%' => {
                let digits = behind.get(..2).unwrap_or(behind);
                let escape = || {
                    let shown = String::from_utf8_lossy(digits);
                    format!("invalid URL escape \"%{shown}\"")
                };
                let number = std::str::from_utf8(digits)
                    .ok()
                    .filter(|digits| {
                        digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
                    })
                    .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                    .ok_or_else(escape)?;
                decoded.push(number);
                rest = behind.get(2..).unwrap_or_default();
            }
            b'+' if is_query => decoded.push(b' '),
            byte => decoded.push(*byte),
        }
    }
    Ok(Cow::Owned(decoded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Parameters<'_> {
        let mut parameters = Parameters::default();
        parameters.add(query.as_bytes()).unwrap();
        parameters
    }

    #[test]
    fn values_are_bytes_and_the_first_one_counts() {
        let parameters = read("key=%ff+a&key=b&sync&empty=&=x&&a%3Db=c");
        assert_eq!(parameters.first("key"), Some(&b"\xff a"[..]));
        assert_eq!(parameters.first("empty"), Some(&b""[..]));
        assert_eq!(parameters.first("a=b"), Some(&b"c"[..]));
        assert!(parameters.has("sync"));
        assert!(!parameters.has("msg"));
    }

    #[test]
    fn escapes_that_are_none_are_named() {
        for (query, shown) in [("a=%zz", "%zz"), ("a=%z", "%z"), ("%", "%"), ("a=%4", "%4")] {
            let problem = Parameters::default().add(query.as_bytes()).unwrap_err();
            assert_eq!(problem, format!("invalid URL escape \"{shown}\""));
        }
        assert_eq!(*decode(b"a+b%20c", false).unwrap(), *b"a+b c");
    }

    #[test]
    fn there_is_a_limit() {
        let most = "a=&".repeat(MOST_PAIRS);
        assert!(Parameters::default().add(most.as_bytes()).is_ok());
        let more = format!("{most}b");
        assert!(Parameters::default().add(more.as_bytes()).is_err());
    }

    #[test]
    fn one_group_is_wanted() {
        assert_eq!(read("group=g").group().ok().as_deref(), Some("g"));
        for query in ["", "group=", "group", "group=a&group=b", "group=&group=b"] {
            let refused = read(query).group().err().map(|reply| reply.status());
            assert_eq!(refused, Some(StatusCode::BAD_REQUEST), "{query}");
        }
    }

    #[test]
    fn numbers_are_read_as_go_does() {
        let number = |text: &str| {
            let query = format!("n={text}");
            read(&query).number("n", 100).map_err(|_| ())
        };
        assert_eq!(number("7"), Ok(Some(7)));
        assert_eq!(number("%2B7"), Ok(Some(7)));
        assert_eq!(number("100"), Ok(Some(100)));
        for bad in [
            "",
            "x",
            "1.5",
            "-1",
            "101",
            "99999999999999999999",
            "+",
            "1_0",
        ] {
            assert_eq!(number(bad), Err(()), "{bad}");
        }
        assert_eq!(read("").number("n", 1).map_err(|_| ()), Ok(None));
        let both = read("p=1&o=2");
        assert_eq!(both.position("p", "o").ok().flatten(), Some((1, 2)));
        assert!(read("p=1").position("p", "o").is_err());
    }
}
