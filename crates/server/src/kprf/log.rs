//! kprf's log (contract, `producer-http.md`, section 5): one JSON object per
//! line, its members in kprf's order; repeats of one message make one line a
//! second.

use crate::logging;
use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// How often a message makes a line.
const INTERVAL: Duration = Duration::from_secs(1);
/// Messages whose repeats are folded at the same time. librdkafka's have names
/// and numbers in them, so there may be any number of different ones.
const FOLDED: usize = 256;

/// The log; clones are the same.
#[derive(Clone)]
pub(super) struct Log {
    inner: Arc<Mutex<Inner>>,
    path: PathBuf,
}

struct Inner {
    out: Box<dyn Write + Send>,
    folds: HashMap<String, Fold>,
}

/// A message that has been written within the last second.
struct Fold {
    since: Instant,
    /// How often it has come since then.
    repeated: u64,
    /// As it came last.
    last: Option<Line>,
}

/// Everything of a line but its time.
#[derive(Clone)]
struct Line {
    level: Level,
    message: String,
    extras: Map<String, Value>,
    /// How often it has come, if whoever says so has counted.
    times: u64,
}

impl Log {
    /// Opens the file, to append to it, and starts logging. `RUST_LOG` wins
    /// over `level`.
    ///
    /// # Errors
    /// A file that cannot be opened, a level that is none.
    pub(super) fn start(path: &Path, level: &str) -> Result<Self> {
        let log = Self::open(path)?;
        logging::start_with(level, log.clone())?;
        let own = log.clone();
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                loop {
                    std::thread::sleep(INTERVAL);
                    own.write_due();
                }
            })
            .context("cannot start a thread")?;
        Ok(log)
    }

    fn open(path: &Path) -> Result<Self> {
        let inner = Inner {
            out: open(path).with_context(|| format!("cannot open {}", path.display()))?,
            folds: HashMap::new(),
        };
        Ok(Self {
            inner: Arc::new(Mutex::new(inner)),
            path: path.to_owned(),
        })
    }

    /// Goes on in a new file of the same name: the old one has been moved
    /// away.
    ///
    /// # Errors
    /// It cannot be opened; the old one stays in use.
    pub(super) fn reopen(&self) -> io::Result<()> {
        let out = open(&self.path)?;
        self.lock().out = out;
        Ok(())
    }

    /// Writes what has been folded for long enough.
    fn write_due(&self) {
        self.lock().write_folded(INTERVAL);
    }

    /// Writes what has been folded so far.
    pub(super) fn flush(&self) {
        self.lock().write_folded(Duration::ZERO);
    }

    fn write(&self, line: Line) {
        let mut inner = self.lock();
        let Inner { out, folds } = &mut *inner;
        if folds.len() >= FOLDED && !folds.contains_key(&line.message) {
            // Rather twice than never.
            write_line(out, &line, line.times);
            return;
        }
        match folds.entry(line.message.clone()) {
            Entry::Vacant(place) => {
                write_line(out, &line, line.times);
                place.insert(Fold {
                    since: Instant::now(),
                    repeated: 0,
                    last: None,
                });
            }
            Entry::Occupied(mut place) => {
                let fold = place.get_mut();
                fold.repeated += line.times;
                if fold.since.elapsed() >= INTERVAL {
                    write_line(out, &line, fold.repeated);
                    fold.since = Instant::now();
                    fold.repeated = 0;
                    fold.last = None;
                } else {
                    fold.last = Some(line);
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A line that was being written when a thread ended is cut at worst.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn write_folded(&mut self, least: Duration) {
        let out = &mut self.out;
        self.folds.retain(|_, fold| {
            if fold.since.elapsed() < least {
                return true;
            }
            let Some(line) = fold.last.take() else {
                return false;
            };
            write_line(out, &line, fold.repeated);
            fold.since = Instant::now();
            fold.repeated = 0;
            true
        });
    }
}

fn open(path: &Path) -> io::Result<Box<dyn Write + Send>> {
    // By its number: what stands behind it may be a socket, which cannot be
    // opened by a name.
    if path == Path::new(super::settings::STDOUT) {
        return Ok(Box::new(io::stdout()));
    }
    let file: File = OpenOptions::new().append(true).create(true).open(path)?;
    Ok(Box::new(file))
}

/// In one write, so that lines of several processes do not mix.
fn write_line(out: &mut Box<dyn Write + Send>, line: &Line, times: u64) {
    let mut members = Map::new();
    members.insert("msg".to_owned(), line.message.as_str().into());
    let level = match line.level {
        Level::ERROR => "ERRO",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBG",
        Level::TRACE => "TRCE",
    };
    members.insert("level".to_owned(), level.into());
    let now = jiff::Timestamp::now();
    let time = now.strftime("%Y-%m-%dT%H:%M:%S%.9f+00:00").to_string();
    members.insert("ts".to_owned(), time.into());
    members.insert("service".to_owned(), "kprf".into());
    members.extend(line.extras.clone());
    if times > 1 {
        members.insert("repeated".to_owned(), times.into());
    }
    let mut text = Value::Object(members).to_string();
    text.push('\n');
    // Nobody is left to tell if this fails.
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut line = Line {
            level: *event.metadata().level(),
            message: String::new(),
            extras: Map::new(),
            times: 1,
        };
        event.record(&mut line);
        self.write(line);
    }
}

impl Line {
    fn set(&mut self, field: &Field, value: Value) {
        match (field.name(), &value) {
            ("message", Value::String(text)) => self.message.clone_from(text),
            // kprf's own lines have no more than kprf's members.
            ("component", Value::String(text)) if text == "kprf" => {}
            ("times", Value::Number(times)) => self.times = times.as_u64().unwrap_or(1),
            (name, _) => {
                self.extras.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str, number: u64) -> Line {
        let mut extras = Map::new();
        extras.insert("number".to_owned(), number.into());
        Line {
            level: Level::WARN,
            message: message.to_owned(),
            extras,
            times: 1,
        }
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn members_stand_in_kprfs_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = Log::open(&path).unwrap();
        log.write(line("a \"b\"\n", 7));
        let text = std::fs::read_to_string(&path).unwrap();
        let (before, after) = text.split_once("\"ts\":\"").unwrap();
        assert_eq!(before, r#"{"msg":"a \"b\"\n","level":"WARN","#);
        let (time, after) = after.split_once('"').unwrap();
        assert_eq!(after, ",\"service\":\"kprf\",\"number\":7}\n");
        assert_eq!(time.len(), "2026-01-31T12:00:00.123456789+00:00".len());
        assert!(time.ends_with("+00:00") && &time[19..20] == ".", "{time}");
    }

    #[test]
    fn repeats_of_a_message_are_counted_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = Log::open(&path).unwrap();
        for number in 0..5 {
            log.write(line("much", number));
        }
        log.write(Line {
            times: 3,
            ..line("little", 9)
        });
        let shown = |index: usize| {
            let lines = lines(&path);
            let line = lines.get(index).cloned().unwrap_or_default();
            (line["number"].clone(), line["repeated"].clone())
        };
        assert_eq!(shown(0), (0.into(), Value::Null));
        assert_eq!(shown(1), (9.into(), 3.into()));
        log.flush();
        assert_eq!(shown(2), (4.into(), 4.into()));
        assert_eq!(lines(&path).len(), 3);
        log.flush();
        log.flush();
        assert_eq!(lines(&path).len(), 3);
        assert!(log.lock().folds.is_empty());
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let log = Log::open(&path).unwrap();
        log.write(line("before", 1));
        std::fs::rename(&path, &moved).unwrap();
        log.write(line("between", 2));
        log.reopen().unwrap();
        log.write(line("after", 3));
        assert_eq!((lines(&moved).len(), lines(&path).len()), (2, 1));
        assert!(Log::open(&folder.path().join("no/log")).is_err());
    }
}
