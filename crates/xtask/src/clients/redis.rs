//! RESP as far as the load needs it.

use anyhow::{Context as _, Result, bail};
use std::net::SocketAddr;
use std::pin::Pin;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// A connection, and what has been read of it.
pub(crate) struct Redis(BufReader<TcpStream>);

/// What comes back. Statuses are texts; null of any kind is `Null`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Error(String),
    Integer(i64),
    Text(Vec<u8>),
    Array(Vec<Reply>),
    Null,
}

impl Reply {
    /// Its elements; none of anything else.
    pub(crate) fn elements(&self) -> &[Self] {
        match self {
            Self::Array(elements) => elements,
            _ => &[],
        }
    }

    /// Its bytes; none of anything else.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text,
            _ => &[],
        }
    }
}

impl Redis {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self(BufReader::with_capacity(1 << 10, socket)))
    }

    /// A command and its reply.
    pub(crate) async fn call(&mut self, arguments: &[&[u8]]) -> Result<Reply> {
        let mut wire = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            wire.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            wire.extend_from_slice(argument);
            wire.extend_from_slice(b"\r\n");
        }
        self.0.get_mut().write_all(&wire).await?;
        self.reply().await
    }

    /// The next reply.
    fn reply(&mut self) -> Pin<Box<dyn Future<Output = Result<Reply>> + Send + '_>> {
        Box::pin(async move {
            let mut line = String::new();
            if self.0.read_line(&mut line).await? == 0 {
                bail!("the gateway has closed the connection");
            }
            let line = line.trim_end();
            let (kind, rest) = line.split_at_checked(1).context("an empty line")?;
            match kind {
                "-" => Ok(Reply::Error(rest.to_owned())),
                "+" => Ok(Reply::Text(rest.into())),
                ":" => Ok(Reply::Integer(rest.parse()?)),
                "_" => Ok(Reply::Null),
                "$" | "*" if rest.starts_with('-') => Ok(Reply::Null),
                "$" => {
                    let length: usize = rest.parse()?;
                    let mut text = vec![0; length + 2];
                    self.0.read_exact(&mut text).await?;
                    text.truncate(length);
                    Ok(Reply::Text(text))
                }
                "*" => {
                    let mut elements = Vec::new();
                    for _ in 0..rest.parse::<usize>()? {
                        elements.push(self.reply().await?);
                    }
                    Ok(Reply::Array(elements))
                }
                _ => bail!("no reply: {line}"),
            }
        })
    }

    /// The port that it comes from.
    pub(crate) fn port(&self) -> Result<u16> {
        Ok(self.0.get_ref().local_addr()?.port())
    }
}
