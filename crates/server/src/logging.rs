//! The log, on standard error.

use crate::config::LogFormat;
use anyhow::{Context as _, Result};
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Starts logging. `RUST_LOG` wins over `level`, which is a level or a list
/// of `target=level` directives.
pub(crate) fn start(format: LogFormat, level: &str) -> Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(directives) if !directives.is_empty() => {
            EnvFilter::try_new(directives).context("RUST_LOG is no list of log directives")?
        }
        _ => filter_of(level)?,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let result = match format {
        LogFormat::Text => builder
            .with_ansi(false)
            .with_target(false)
            .fmt_fields(one_line_fields())
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Rafka => builder.event_format(RafkaFormat).try_init(),
    };
    result.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

fn filter_of(level: &str) -> Result<EnvFilter> {
    EnvFilter::try_new(level).with_context(|| format!("log.level: {level}"))
}

/// Whether a level can be used.
pub(crate) fn check(level: &str) -> Result<()> {
    filter_of(level).map(drop)
}

/// The message, then names and values, on one line whatever clients have put
/// into them.
fn one_line_fields() -> impl for<'a> FormatFields<'a> {
    format::debug_fn(|writer, field, value| {
        let value = format!("{value:?}");
        match field.name() {
            "message" => write!(writer, "{}", printable(&value)),
            name => write!(writer, "{name}={}", printable(&value)),
        }
    })
    .delimited(" ")
}

/// `[component] YYYY/MM/DD HH:MM:SS text` (contract, section 9).
struct RafkaFormat;

impl<S, N> FormatEvent<S, N> for RafkaFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Line::default();
        event.record(&mut line);
        let component = if line.component.is_empty() {
            event.metadata().target()
        } else {
            &line.component
        };
        // Local time, as rafka's.
        let now = jiff::Zoned::now();
        let time = now.strftime("%Y/%m/%d %H:%M:%S");
        writeln!(
            writer,
            "[{}] {time} {}",
            printable(component),
            printable(&line.text)
        )
    }
}

/// The text on one line, whatever clients have put into it.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().map(|char| match char.is_control() {
        true => char.escape_default().to_string(),
        false => char.to_string(),
    });
    Cow::Owned(escaped.collect())
}

#[derive(Default)]
struct Line {
    component: String,
    text: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "component" => value.clone_into(&mut self.component),
            "message" => self.text.push_str(value),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "component" => self.component = format!("{value:?}"),
            "message" => {
                let _ = write!(self.text, "{value:?}");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn one_event_is_one_line() {
        assert_eq!(printable("plain café"), "plain café");
        assert_eq!(printable("a\nFAKE\r\0\u{1b}"), "a\\nFAKE\\r\\u{0}\\u{1b}");
    }
}
