//! What a client says besides its work: log lines and errors.

use crate::mailbox::KEPT;
use napi_derive::napi;

/// The syslog level of a warning.
const WARNING: i32 = 4;

/// A log line of librdkafka's.
#[napi(object)]
pub struct LogLine {
    /// Syslog's.
    pub level: i32,
    /// What it is about.
    pub facility: String,
    /// The text.
    pub message: String,
}

/// An error of the client.
#[napi(object)]
pub struct ClientError {
    /// librdkafka's number.
    pub error: i32,
    /// librdkafka's sentence.
    pub reason: String,
    /// Whether the client is of no use any more.
    pub fatal: bool,
}

/// Lines and errors, in order.
#[napi(object)]
#[derive(Default)]
pub struct Said {
    /// Log lines.
    pub logs: Vec<LogLine>,
    /// Errors of the client, and what reading has failed with.
    pub errors: Vec<ClientError>,
    /// Lines and errors that there was no room for.
    #[napi(js_name = "left_out")]
    pub left_out: u32,
}

impl Said {
    pub(crate) fn log(&mut self, level: i32, facility: &str, line: &str) {
        if self.logs.len() == KEPT {
            self.left_out += 1;
            return;
        }
        self.logs.push(LogLine {
            level,
            facility: facility.to_owned(),
            message: line.to_owned(),
        });
    }

    /// About how the client was configured.
    pub(crate) fn warn(&mut self, line: &str) {
        self.log(WARNING, "CONFWARN", line);
    }

    pub(crate) fn error(&mut self, error: i32, reason: &str, is_fatal: bool) {
        // What ends the client is told in any case.
        if self.errors.len() >= KEPT && !is_fatal {
            self.left_out += 1;
            return;
        }
        self.errors.push(ClientError {
            error,
            reason: reason.to_owned(),
            fatal: is_fatal,
        });
    }
}
