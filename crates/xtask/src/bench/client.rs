//! A Redis client that is no bottleneck: blocking sockets, large reads, no
//! allocation per reply.

use anyhow::{Context as _, Result, bail};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// A connection.
pub(crate) struct Client {
    socket: TcpStream,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

/// A reply that the measurements look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Integer(i64),
    /// A bulk string or status, its text skipped.
    Text,
    /// Null of either kind.
    Null,
    /// An array of this many replies, which follow.
    Array(usize),
}

/// A command in wire form.
pub(crate) fn command(arguments: &[&[u8]]) -> Vec<u8> {
    let mut wire = format!("*{}\r\n", arguments.len()).into_bytes();
    for argument in arguments {
        wire.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        wire.extend_from_slice(argument);
        wire.extend_from_slice(b"\r\n");
    }
    wire
}

impl Client {
    pub(crate) fn connect(address: &str) -> Result<Self> {
        let socket = TcpStream::connect(address).with_context(|| address.to_owned())?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Self {
            socket,
            buffer: vec![0; 256 << 10],
            from: 0,
            to: 0,
        })
    }

    pub(crate) fn send(&mut self, wire: &[u8]) -> Result<()> {
        self.socket.write_all(wire).context("send")
    }

    /// Sends a command and reads its one reply.
    pub(crate) fn call(&mut self, arguments: &[&[u8]]) -> Result<Reply> {
        self.send(&command(arguments))?;
        self.reply()
    }

    /// The next reply; elements of arrays are replies of their own.
    pub(crate) fn reply(&mut self) -> Result<Reply> {
        let (kind, number, line) = self.head()?;
        match kind {
            b':' => Ok(Reply::Integer(number)),
            b'+' => Ok(Reply::Text),
            b'-' => bail!("{line}"),
            b'*' | b'$' if number < 0 => Ok(Reply::Null),
            b'*' => Ok(Reply::Array(usize::try_from(number)?)),
            b'$' => {
                self.skip(usize::try_from(number)? + 2)?;
                Ok(Reply::Text)
            }
            other => bail!("unexpected reply {:?}", char::from(other)),
        }
    }

    /// One BLPOP reply of ours or of Redis: partition and offset of the
    /// message (zeros from Redis); `None` when the wait was in vain.
    pub(crate) fn message(&mut self) -> Result<Option<(i64, i64)>> {
        let Reply::Array(count) = self.reply()? else {
            return Ok(None);
        };
        let (mut partition, mut offset) = (0, 0);
        for index in 0..count {
            let element = self.reply()?;
            match (index, element) {
                (3, Reply::Integer(number)) => partition = number,
                (5, Reply::Integer(number)) => offset = number,
                _ => {}
            }
        }
        Ok(Some((partition, offset)))
    }

    /// A bulk string as text, for the few replies that are looked at.
    pub(crate) fn text(&mut self) -> Result<String> {
        let (kind, number, line) = self.head()?;
        if kind != b'$' {
            bail!("expected a text, got {line}");
        }
        let length = usize::try_from(number)?;
        while self.to - self.from < length + 2 {
            self.fill()?;
        }
        let bytes = self
            .buffer
            .get(self.from..self.from + length)
            .unwrap_or_default();
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.from += length + 2;
        Ok(text)
    }

    /// Kind, number and (of errors) text of a line.
    fn head(&mut self) -> Result<(u8, i64, String)> {
        loop {
            let ready = self.buffer.get(self.from..self.to).unwrap_or_default();
            if let Some(end) = ready.iter().position(|byte| *byte == b'\n') {
                let line = ready.get(..end.saturating_sub(1)).unwrap_or_default();
                let (kind, rest) = line.split_first().context("an empty line")?;
                let text = std::str::from_utf8(rest).unwrap_or_default();
                let number = text.parse().unwrap_or(0);
                let shown = if *kind == b'-' {
                    text.to_owned()
                } else {
                    String::new()
                };
                let head = (*kind, number, shown);
                self.from += end + 1;
                return Ok(head);
            }
            self.fill()?;
        }
    }

    fn skip(&mut self, count: usize) -> Result<()> {
        while self.to - self.from < count {
            self.fill()?;
        }
        self.from += count;
        Ok(())
    }

    fn fill(&mut self) -> Result<()> {
        if self.from == self.to {
            self.from = 0;
            self.to = 0;
        } else if self.to == self.buffer.len() {
            self.buffer.copy_within(self.from..self.to, 0);
            self.to -= self.from;
            self.from = 0;
        }
        let space = self.buffer.get_mut(self.to..).unwrap_or_default();
        let count = self.socket.read(space).context("receive")?;
        if count == 0 {
            bail!("the server has closed the connection");
        }
        self.to += count;
        Ok(())
    }
}
