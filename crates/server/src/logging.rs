//! The log, on standard error.

use crate::config::LogFormat;
use anyhow::{Context as _, Result};
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::sync::OnceLock;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, Layered, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, reload};

/// Starts logging. `RUST_LOG` wins over `level`, which is a level or a list
/// of `target=level` directives.
pub(crate) fn start(format: LogFormat, level: &str) -> Result<()> {
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match format {
        LogFormat::Text => layer
            .with_ansi(false)
            .with_target(false)
            .fmt_fields(one_line_fields())
            .boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
        LogFormat::Rafka => layer.event_format(RafkaFormat).boxed(),
    };
    start_with(level, layer)
}

/// Starts logging in another form.
pub(crate) fn start_with<L>(level: &str, layer: L) -> Result<()>
where
    L: Layer<Filtered> + Send + Sync,
{
    let filter = match own_directives() {
        Some(directives) => {
            EnvFilter::try_new(directives).context("RUST_LOG is no list of log directives")?
        }
        None => filter_of(level)?,
    };
    let (filter, handle) = reload::Layer::new(filter);
    let started = tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init();
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))?;
    let _ = FILTER.set(handle);
    Ok(())
}

/// What a layer stands on that gets only what is to be logged.
pub(crate) type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;

/// That of the process.
static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// `RUST_LOG`, if there is something in it.
fn own_directives() -> Option<String> {
    let directives = std::env::var("RUST_LOG").ok();
    directives.filter(|directives| !directives.is_empty())
}

/// Logs from this level on from now on. False: `RUST_LOG` says otherwise.
///
/// # Errors
/// A level that is none.
pub(crate) fn set_level(level: &str) -> Result<bool> {
    let filter = filter_of(level)?;
    if own_directives().is_some() {
        return Ok(false);
    }
    if let Some(handle) = FILTER.get() {
        handle.reload(filter)?;
    }
    Ok(true)
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
