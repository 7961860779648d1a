//! Durations as Go writes them: `500ms`, `1h30m`; a bare integer is
//! nanoseconds.

use serde::de::{Deserialize, Deserializer, Error as _};
use std::time::Duration;

/// A duration in a file of the old system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GoDuration(pub(super) Duration);

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_norway::Value::deserialize(deserializer)?;
        let parsed = match &value {
            serde_norway::Value::Number(number) => number.as_u64().map(Duration::from_nanos),
            serde_norway::Value::String(text) => parse(text),
            _ => None,
        };
        parsed
            .map(Self)
            .ok_or_else(|| D::Error::custom(format!("no duration: {value:?}")))
    }
}

/// Numbers with units, one after another; not negative.
fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let (number, behind) = rest.split_at(end);
        let end = behind
            .find(|char: char| char.is_ascii_digit() || char == '.')
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = behind;
    }
    (!text.is_empty())
        .then(|| Duration::try_from_secs_f64(total).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_does() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1.5s", 1_500),
            ("0", 0),
            ("2m0.5s", 120_500),
        ] {
            assert_eq!(
                parse(text),
                Some(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for bad in ["", "5", "s", "-1s", "1x", "1 s", "ms5"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let bare: GoDuration = serde_norway::from_str("5000000").unwrap();
        assert_eq!(bare.0, Duration::from_millis(5));
    }
}
