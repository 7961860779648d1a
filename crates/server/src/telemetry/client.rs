//! A collector: OTLP over gRPC, or over HTTP with protobuf in it.
//!
//! One connection, one request at a time, each within a limit. A gRPC call
//! without streams is an HTTP/2 request whose body has five bytes in front, so
//! both ways are hyper's client.

use super::settings::{Protocol, Target};
use crate::tls;
use anyhow::{Context as _, Result};
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, TE, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// More of an answer than this is not read.
const LARGEST_ANSWER: usize = 64 << 10;
/// A collector that wants us to wait longer is asked again nevertheless.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

const AGENT: &str = concat!("OTel-OTLP-Exporter-Barnabas/", env!("CARGO_PKG_VERSION"));

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
        }
    }

    fn method(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }
}

/// Why something was not taken.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) text: String,
    /// It may be tried again, after so long.
    pub(super) again: Option<Duration>,
}

impl Failure {
    fn passing(text: impl ToString) -> Self {
        Self {
            text: text.to_string(),
            again: Some(Duration::ZERO),
        }
    }

    fn lasting(text: impl ToString) -> Self {
        Self {
            text: text.to_string(),
            again: None,
        }
    }
}

/// The way to a collector, for one signal.
pub(super) struct Client {
    target: Target,
    signal: Signal,
    uri: Uri,
    tls: Option<TlsConnector>,
    connection: Option<Connection>,
}

/// Ends with the task that drives it.
struct Connection {
    sender: Sender,
    driver: JoinHandle<()>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// Connects when there is something to send.
    ///
    /// # Errors
    /// Certificates that cannot be used.
    pub(super) fn new(target: Target, signal: Signal) -> Result<Self> {
        let tls = target.is_tls.then(|| {
            let mut config = tls::trusting(target.ca.as_deref())?;
            config.alpn_protocols = match target.protocol {
                Protocol::Grpc => vec![b"h2".to_vec()],
                Protocol::Http => vec![b"http/1.1".to_vec()],
            };
            anyhow::Ok(TlsConnector::from(Arc::new(config)))
        });
        let path = match target.protocol {
            Protocol::Grpc => signal.method(),
            Protocol::Http => &target.path,
        };
        let uri = Uri::builder()
            .scheme(if target.is_tls { "https" } else { "http" })
            .authority(target.authority.as_str())
            .path_and_query(path)
            .build()
            .with_context(|| format!("otlp: {}", target.authority))?;
        Ok(Self {
            tls: tls.transpose().context("otlp")?,
            target,
            signal,
            uri,
            connection: None,
        })
    }

    pub(super) fn signal(&self) -> Signal {
        self.signal
    }

    /// Has the collector take a message; its answer's message, if there is
    /// one. Within the configured limit; may be cancelled.
    ///
    /// # Errors
    /// Why it was not taken.
    pub(super) async fn send(&mut self, message: &impl Message) -> Result<Bytes, Failure> {
        // What is not there any more at the end is connected anew.
        let connection = self.connection.take();
        let limit = self.target.timeout;
        match tokio::time::timeout(limit, self.call(connection, message)).await {
            Ok(answered) => answered,
            Err(_) => Err(Failure::passing(format!("no answer within {limit:?}"))),
        }
    }

    async fn call(
        &mut self,
        connection: Option<Connection>,
        message: &impl Message,
    ) -> Result<Bytes, Failure> {
        let mut connection = match connection {
            Some(connection) if !connection.is_closed() => connection,
            _ => self.connect().await.map_err(Failure::passing)?,
        };
        let response = connection.request(self.request(message)?).await;
        let response = response.map_err(Failure::passing)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await;
        let body = body.map_err(Failure::passing)?;
        let trailers = body.trailers().cloned();
        let body = body.to_bytes();
        // Whole: it can be used again.
        self.connection = Some(connection);
        match self.target.protocol {
            Protocol::Http => of_http(head.status, &head.headers, &body)?,
            Protocol::Grpc => of_grpc(head.status, &head.headers, trailers.as_ref())?,
        }
        Ok(match self.target.protocol {
            Protocol::Http => body,
            Protocol::Grpc => body
                .get(5..)
                .map_or_else(Bytes::new, |own| body.slice_ref(own)),
        })
    }

    fn request(&self, message: &impl Message) -> Result<Request<Full<Bytes>>, Failure> {
        let is_grpc = self.target.protocol == Protocol::Grpc;
        let length = message.encoded_len();
        let mut body = BytesMut::with_capacity(length + 5);
        if is_grpc {
            body.put_u8(0);
            body.put_u32(u32::try_from(length).map_err(Failure::lasting)?);
        }
        message.encode(&mut body).map_err(Failure::lasting)?;
        let mut request = Request::new(Full::new(body.freeze()));
        *request.method_mut() = Method::POST;
        // HTTP/1 has the path alone.
        *request.uri_mut() = match is_grpc {
            true => self.uri.clone(),
            false => Uri::try_from(self.target.path.as_str()).map_err(Failure::lasting)?,
        };
        let headers = request.headers_mut();
        for (name, value) in &self.target.headers {
            headers.append(name, value.clone());
        }
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if is_grpc {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(TE, HeaderValue::from_static("trailers"));
        } else {
            let host = HeaderValue::try_from(self.target.authority.as_str());
            headers.insert(HOST, host.map_err(Failure::lasting)?);
            let kind = HeaderValue::from_static("application/x-protobuf");
            headers.insert(CONTENT_TYPE, kind);
        }
        Ok(request)
    }

    async fn connect(&self) -> Result<Connection> {
        let (host, port) = (self.target.host.as_str(), self.target.port);
        let socket = TcpStream::connect((host, port)).await?;
        socket.set_nodelay(true)?;
        match &self.tls {
            None => self.handshake(socket).await,
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned())?;
                self.handshake(tls.connect(name, socket).await?).await
            }
        }
    }

    async fn handshake<S>(&self, socket: S) -> Result<Connection>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let socket = TokioIo::new(socket);
        // An end of it shows at the next request.
        Ok(match self.target.protocol {
            Protocol::Http => {
                let (sender, driver) = http1::handshake(socket).await?;
                let driver = tokio::spawn(async move { drop(driver.await) });
                Connection {
                    sender: Sender::Http1(sender),
                    driver,
                }
            }
            Protocol::Grpc => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.timer(TokioTimer::new());
                let (sender, driver) = builder.handshake(socket).await?;
                let driver = tokio::spawn(async move { drop(driver.await) });
                Connection {
                    sender: Sender::Http2(sender),
                    driver,
                }
            }
        })
    }
}

impl Connection {
    fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    async fn request(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

/// OTLP's specification, "OTLP/HTTP Response".
fn of_http(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<(), Failure> {
    if status.is_success() {
        return Ok(());
    }
    let shown: String = String::from_utf8_lossy(body).chars().take(200).collect();
    let text = format!("{status} {}", shown.escape_default());
    Err(match status.as_u16() {
        429 | 502 | 503 | 504 => Failure {
            text,
            again: Some(wanted_wait(headers)),
        },
        _ => Failure::lasting(text),
    })
}

fn wanted_wait(headers: &HeaderMap) -> Duration {
    let seconds = headers
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0)).min(LONGEST_WAIT)
}

/// OTLP's specification, "OTLP/gRPC Response": which codes pass.
fn of_grpc(
    status: StatusCode,
    headers: &HeaderMap,
    trailers: Option<&HeaderMap>,
) -> Result<(), Failure> {
    let get = |name: &str| {
        let value = headers.get(name).or_else(|| trailers?.get(name));
        value.and_then(|value| value.to_str().ok())
    };
    if status != StatusCode::OK {
        return Err(match status.as_u16() {
            429 | 502 | 503 | 504 => Failure::passing(status),
            _ => Failure::lasting(status),
        });
    }
    let code: u8 = match get("grpc-status").map(str::parse) {
        Some(Ok(code)) => code,
        _ => return Err(Failure::passing("an answer without a status")),
    };
    if code == 0 {
        return Ok(());
    }
    let message: String = get("grpc-message")
        .unwrap_or_default()
        .chars()
        .take(200)
        .collect();
    let text = format!("gRPC status {code} {}", message.escape_default());
    Err(match code {
        // Cancelled, deadline exceeded, aborted, out of range, unavailable,
        // data loss. Resource exhausted passes only with a time to wait,
        // which is not read; without one it is the size that is too much.
        1 | 4 | 10 | 11 | 14 | 15 => Failure::passing(text),
        _ => Failure::lasting(text),
    })
}
