//! W3C Trace Context (`traceparent`, `tracestate`) and Baggage, as they stand
//! in the headers of requests and of records.

use std::num::{NonZeroU64, NonZeroU128};
use std::sync::Arc;

/// The header that names the trace and its last span.
pub const TRACEPARENT: &str = "traceparent";
/// The header with what tracing systems add to it.
pub const TRACESTATE: &str = "tracestate";
/// The header with what users pass along a trace (W3C Baggage).
pub const BAGGAGE: &str = "baggage";

/// The length of a `traceparent` of version 00.
pub(super) const PARENT_LENGTH: usize = 55;
/// The longest `tracestate` that is passed on whole; the specification wants
/// at least this many. A longer one loses members as it says.
const LONGEST_STATE: usize = 512;
/// Members above this go first.
const LARGE_MEMBER: usize = 128;
/// More members than this are malformed.
const MOST_MEMBERS: usize = 32;
/// The longest `baggage` that is passed on: it is stored with every record of
/// a request, of which there may be many. A longer one is left out as a whole.
const LONGEST_BAGGAGE: usize = 1_024;

/// Which span of which trace, and whether it is sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace.
    pub trace_id: NonZeroU128,
    /// The span.
    pub span_id: NonZeroU64,
    /// Bit 0: sampled; bit 1: the trace's id is random.
    pub flags: u8,
}

/// Bit 0 of the flags.
const SAMPLED: u8 = 1;
/// The flags that are known; others are not passed on.
const KNOWN_FLAGS: u8 = 3;

impl SpanContext {
    /// Reads a `traceparent`. Versions above 00 are read as far as 00 goes, as
    /// the specification wants it; `None`: malformed, to be ignored.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (own, rest) = text.split_at_checked(PARENT_LENGTH)?;
        let mut parts = own.split(|byte| *byte == b'-');
        let version = u8::try_from(hexadecimal(parts.next()?, 2)?).ok()?;
        let trace_id = NonZeroU128::new(hexadecimal(parts.next()?, 32)?)?;
        let span_id = u64::try_from(hexadecimal(parts.next()?, 16)?).ok()?;
        let flags = u8::try_from(hexadecimal(parts.next()?, 2)?).ok()?;
        let is_whole = match version {
            0 => rest.is_empty(),
            u8::MAX => false,
            _ => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        (is_whole && parts.next().is_none()).then_some(Self {
            trace_id,
            span_id: NonZeroU64::new(span_id)?,
            flags: flags & KNOWN_FLAGS,
        })
    }

    /// As a `traceparent` of version 00.
    pub fn to_traceparent(self) -> [u8; PARENT_LENGTH] {
        let mut text = [b'-'; PARENT_LENGTH];
        let (version, rest) = text.split_at_mut(3);
        let (trace, rest) = rest.split_at_mut(33);
        let (span, flags) = rest.split_at_mut(17);
        for (place, number, digits) in [
            (version, 0, 2),
            (trace, self.trace_id.get(), 32),
            (span, u128::from(self.span_id.get()), 16),
            (flags, u128::from(self.flags), 2),
        ] {
            for (index, slot) in place.iter_mut().take(digits).enumerate() {
                let shift = 4 * (digits - 1 - index);
                // Four bits are one digit.
                let digit = (number >> shift & 0xf) as u8;
                *slot = digit + if digit < 10 { b'0' } else { b'a' - 10 };
            }
        }
        text
    }

    /// Whether its sender records this trace.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Another span of the same trace, which is recorded.
    pub(super) fn child(self, span_id: NonZeroU64) -> Self {
        Self {
            span_id,
            flags: self.flags | SAMPLED,
            ..self
        }
    }

    /// The first span of a recorded trace.
    pub(super) fn root(trace_id: NonZeroU128, span_id: NonZeroU64) -> Self {
        Self {
            trace_id,
            span_id,
            flags: SAMPLED,
        }
    }
}

/// So many digits, in lower case.
fn hexadecimal(text: &[u8], digits: usize) -> Option<u128> {
    if text.len() != digits {
        return None;
    }
    text.iter().try_fold(0_u128, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// What headers say of a trace. Cheap to clone; empty, it holds nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceContext {
    pub(super) parent: Option<SpanContext>,
    pub(super) state: Option<Arc<[u8]>>,
    pub(super) baggage: Option<Arc<[u8]>>,
}

impl TraceContext {
    /// Reads the lines of the three headers. What is malformed is as if it
    /// were not there; without a `traceparent` there is no `tracestate`.
    pub fn read<'a>(
        parents: impl IntoIterator<Item = &'a [u8]>,
        states: impl IntoIterator<Item = &'a [u8]>,
        baggage: impl IntoIterator<Item = &'a [u8]>,
    ) -> Self {
        let mut parents = parents.into_iter();
        let parent = match (parents.next(), parents.next()) {
            (Some(only), None) => SpanContext::parse(only.trim_ascii()),
            _ => None,
        };
        let mut baggage = baggage.into_iter().peekable();
        Self {
            parent,
            state: parent.and_then(|_| state(states)),
            baggage: baggage.peek().is_some().then(|| items(baggage)).flatten(),
        }
    }

    /// Reads the headers of a record.
    pub fn of_record<'a>(
        headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
    ) -> Self {
        let all = |name: &'static str| {
            let headers = headers.clone();
            headers.filter_map(move |(own, value)| {
                own.eq_ignore_ascii_case(name.as_bytes()).then_some(value?)
            })
        };
        // Nearly all records have none, and are looked at once.
        if all(TRACEPARENT).next().is_none() {
            return Self::default();
        }
        Self::read(all(TRACEPARENT), all(TRACESTATE), std::iter::empty())
    }

    /// The span that has sent it.
    pub fn parent(&self) -> Option<SpanContext> {
        self.parent
    }

    /// The `tracestate`.
    pub fn state(&self) -> Option<&[u8]> {
        self.state.as_deref()
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.parent.is_none() && self.baggage.is_none()
    }
}

/// The members of all lines, as one.
fn state<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Option<Arc<[u8]>> {
    let mut lines = lines.into_iter().peekable();
    lines.peek()?;
    let mut members = Vec::new();
    for line in lines {
        for member in line.split(|byte| *byte == b',') {
            let member = member.trim_ascii();
            if member.is_empty() {
                continue;
            }
            if members.len() == MOST_MEMBERS || !is_member(member) {
                return None;
            }
            members.push(member);
        }
    }
    let length = |members: &[&[u8]]| members.iter().map(|member| member.len() + 1).sum::<usize>();
    if length(&members) > LONGEST_STATE + 1 {
        members.retain(|member| member.len() <= LARGE_MEMBER);
    }
    while length(&members) > LONGEST_STATE + 1 {
        members.pop();
    }
    (!members.is_empty()).then(|| members.join(&b","[..]).into())
}

/// `key=value`, of characters that they may have.
fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|byte| *byte == b'=') else {
        return false;
    };
    let Some((key, value)) = member.split_at_checked(equals) else {
        return false;
    };
    let of_key =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte);
    let of_value = |byte: &u8| (b' '..=b'~').contains(byte) && *byte != b'=';
    (1..=256).contains(&key.len())
        && key.iter().all(of_key)
        && (2..=257).contains(&value.len())
        && value.iter().skip(1).all(of_value)
}

/// Baggage, which is not looked into: its lines as one, if that is short
/// enough and nothing but printable ASCII.
fn items<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Arc<[u8]>> {
    let mut all: Vec<u8> = Vec::new();
    for line in lines {
        if all.len() + line.len() + 1 > LONGEST_BAGGAGE {
            return None;
        }
        let is_printable = |byte: &u8| *byte == b'\t' || (b' '..=b'~').contains(byte);
        if !line.iter().all(is_printable) {
            return None;
        }
        if !all.is_empty() {
            all.push(b',');
        }
        all.extend_from_slice(line.trim_ascii());
    }
    (!all.is_empty()).then(|| all.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn read(parents: &[&str], states: &[&str], baggage: &[&str]) -> TraceContext {
        fn lines<'a>(lines: &'a [&'a str]) -> impl Iterator<Item = &'a [u8]> {
            lines.iter().map(|line| line.as_bytes())
        }
        TraceContext::read(lines(parents), lines(states), lines(baggage))
    }

    #[test]
    fn parents_are_read_and_written() {
        let parent = SpanContext::parse(PARENT.as_bytes()).unwrap();
        assert_eq!(
            parent.trace_id.get(),
            0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c
        );
        assert_eq!(parent.span_id.get(), 0xb7ad_6b71_6920_3331);
        assert!(parent.is_sampled());
        assert_eq!(parent.to_traceparent(), PARENT.as_bytes());
        // What is to come, and flags that nobody knows.
        for later in ["", "-more", "-"] {
            let later = format!("cc{}ff{later}", &PARENT[2..53]);
            let later = SpanContext::parse(later.as_bytes()).unwrap();
            assert_eq!(
                (later.span_id, later.flags),
                (parent.span_id, 3),
                "{later:?}"
            );
        }
    }

    #[test]
    fn malformed_parents_are_ignored() {
        for bad in [
            "",
            "00",
            &PARENT[..54],
            &format!("{PARENT}-"),
            &format!("{PARENT}0"),
            &format!("cc{}0", &PARENT[2..]),
            &format!("ff{}", &PARENT[2..]),
            &PARENT.to_uppercase(),
            &PARENT.replace('-', "_"),
            &PARENT.replacen("0af7", "0ag7", 1),
            &PARENT.replacen("0af7", "+af7", 1),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033-3101",
            "\u{e9}0-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
        ] {
            assert_eq!(SpanContext::parse(bad.as_bytes()), None, "{bad}");
            assert!(read(&[bad], &["a=1"], &[]).is_empty(), "{bad}");
        }
        assert!(read(&[PARENT, PARENT], &[], &[]).is_empty(), "twice");
        assert!(read(&[], &["a=1"], &[]).is_empty(), "state alone");
    }

    #[test]
    fn states_are_joined_checked_and_cut() {
        let state = |lines: &[&str]| {
            let state = read(&[PARENT], lines, &[]).state;
            state.map(|state| String::from_utf8(state.to_vec()).unwrap())
        };
        assert_eq!(state(&[]), None);
        let joined = state(&["a=1, b@x=2 3", "", "c=4,"]);
        assert_eq!(joined.as_deref(), Some("a=1,b@x=2 3,c=4"));
        let long = "x".repeat(257);
        for bad in [
            "a",
            "=1",
            "a=",
            "A=1",
            "a=b=c",
            "a=\u{e9}",
            &format!("a={long}"),
        ] {
            assert_eq!(state(&[bad, "b=1"]), None, "{bad}");
        }
        let many: Vec<String> = (0..33).map(|index| format!("k{index}=1")).collect();
        assert_eq!(state(&[&many.join(",")]), None);
        assert!(state(&[&many[1..].join(",")]).is_some());
        // 512 stay; beyond it the large go first, then the last.
        let wide = |name: &str, length: usize| format!("{name}={}", "v".repeat(length - 2));
        let fits = [wide("a", 256), wide("b", 255)].join(",");
        assert_eq!(state(&[&fits]), Some(fits.clone()));
        let large = [wide("a", 256), wide("b", 100), wide("c", 256)].join(",");
        assert_eq!(state(&[&large]), Some(wide("b", 100)));
        let last = ["a", "b", "c", "d", "e"]
            .map(|name| wide(name, 120))
            .join(",");
        assert_eq!(state(&[&last]), Some(last[..483].to_owned()));
        // The trace goes on without it.
        assert!(!read(&[PARENT], &["A=1"], &[]).is_empty());
    }

    #[test]
    fn baggage_is_passed_on_within_its_bound() {
        let baggage = |lines: &[&str]| {
            let baggage = read(&[], &[], lines).baggage;
            baggage.map(|baggage| String::from_utf8(baggage.to_vec()).unwrap())
        };
        assert_eq!(baggage(&[]), None);
        assert_eq!(
            baggage(&["a=1;p=2 ", "b=%20"]).as_deref(),
            Some("a=1;p=2,b=%20")
        );
        let longest = "x".repeat(LONGEST_BAGGAGE - 1);
        assert_eq!(baggage(&[&longest]), Some(longest.clone()));
        assert_eq!(baggage(&[&longest, "y"]), None);
        assert_eq!(baggage(&["a=\u{e9}"]), None);
    }

    #[test]
    fn records_are_read_whatever_the_case_of_their_names() {
        let headers: [(&[u8], Option<&[u8]>); 4] = [
            (b"other", None),
            (b"Traceparent", Some(PARENT.as_bytes())),
            (b"tracestate", Some(b"a=1")),
            (b"tracestate", None),
        ];
        let read = TraceContext::of_record(headers.iter().copied());
        assert_eq!(read.parent(), SpanContext::parse(PARENT.as_bytes()));
        assert_eq!(read.state(), Some(&b"a=1"[..]));
        assert!(TraceContext::of_record(headers.iter().take(1).copied()).is_empty());
    }
}
