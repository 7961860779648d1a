//! Acknowledgements handed to other replicas, by the method Ack of
//! `barnabas.v1.Gateway`.

use crate::v1::gateway_client::GatewayClient;
use crate::v1::{AckRequest, AckResponse, AckResult, ErrorCode, Position};
use barnabas_engine::{AckError, PeerAcks, PeerReply, Peers};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::metadata::MetadataValue;

/// How long a connection may take to be there.
const CONNECTING: Duration = Duration::from_secs(1);
/// How long a call may take, the connection included.
const CALLING: Duration = Duration::from_secs(5);
/// After an attempt to connect has failed, the next one is not made sooner:
/// those who wait for the same address share the failure.
const PAUSE: Duration = Duration::from_millis(500);
/// Connections at the same time. Beyond it the one that was used least
/// recently is closed when its calls are done.
const MAX_CONNECTIONS: usize = 64;
/// Positions in one call; with the longest numbers half of what a request
/// may have.
const MAX_POSITIONS: usize = 20_000;

/// Reaches other replicas over gRPC, with one connection for each, which is
/// kept.
pub struct PeerClient {
    token: Option<MetadataValue<tonic::metadata::Ascii>>,
    tls: Option<TlsConnector>,
    links: Mutex<HashMap<Box<str>, Arc<Link>>>,
}

/// The token has characters that no header can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token for other replicas has characters that a header cannot have")]
pub struct BadToken;

impl PeerClient {
    /// `token` is sent as bearer token; the replicas must allow it to
    /// consume. `tls` says whom to trust; HTTP/2 is negotiated in any case.
    ///
    /// # Errors
    /// [`BadToken`]
    pub fn new(token: Option<&str>, tls: Option<ClientConfig>) -> Result<Self, BadToken> {
        let token = token
            .map(|token| MetadataValue::try_from(format!("Bearer {token}")))
            .transpose()
            .map_err(|_| BadToken)?;
        let tls = tls.map(|mut config| {
            config.alpn_protocols = vec![b"h2".to_vec()];
            TlsConnector::from(Arc::new(config))
        });
        Ok(Self {
            token,
            tls,
            links: Mutex::default(),
        })
    }

    fn link(&self, address: &str) -> Arc<Link> {
        let mut links = self.links.lock();
        let now = Instant::now();
        if let Some(link) = links.get(address) {
            *link.used.lock() = now;
            return Arc::clone(link);
        }
        if links.len() >= MAX_CONNECTIONS {
            let oldest = links.iter().min_by_key(|(_, link)| *link.used.lock());
            if let Some(oldest) = oldest.map(|(address, _)| address.clone()) {
                links.remove(&oldest);
            }
        }
        let link = Arc::new(Link {
            used: Mutex::new(now),
            state: tokio::sync::Mutex::new(State::New),
        });
        links.insert(address.into(), Arc::clone(&link));
        link
    }

    async fn connection(&self, address: &str) -> Result<Connection, String> {
        let link = self.link(address);
        let mut state = link.state.lock().await;
        match &*state {
            State::Up(connection) if !connection.0.is_closed() => return Ok(connection.clone()),
            State::Down(text, at) if at.elapsed() < PAUSE => return Err(text.clone()),
            _ => {}
        }
        let connected = tokio::time::timeout(CONNECTING, self.connect(address)).await;
        let connected = connected.unwrap_or_else(|_| Err("connecting takes too long".to_owned()));
        match connected {
            Ok(connection) => {
                *state = State::Up(connection.clone());
                Ok(connection)
            }
            Err(text) => {
                *state = State::Down(text.clone(), Instant::now());
                Err(text)
            }
        }
    }

    async fn connect(&self, address: &str) -> Result<Connection, String> {
        let text = |error: std::io::Error| error.to_string();
        let socket = TcpStream::connect(address).await.map_err(text)?;
        socket.set_nodelay(true).map_err(text)?;
        let Some(tls) = &self.tls else {
            return handshake(socket).await;
        };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        handshake(tls.connect(name, socket).await.map_err(text)?).await
    }

    async fn call(&self, address: &str, acks: AckRequest) -> Result<AckResponse, String> {
        let connection = self.connection(address).await?;
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let origin = Uri::builder()
            .scheme(scheme)
            .authority(address)
            .path_and_query("")
            .build()
            .map_err(|error| error.to_string())?;
        let mut request = tonic::Request::new(acks);
        if let Some(token) = &self.token {
            let metadata = request.metadata_mut();
            metadata.insert("authorization", token.clone());
        }
        let answered = GatewayClient::with_origin(connection, origin)
            .ack(request)
            .await;
        answered
            .map(tonic::Response::into_inner)
            .map_err(|status| format!("{:?}: {}", status.code(), status.message()))
    }

    async fn hand_over(
        &self,
        address: &str,
        acks: &PeerAcks<'_>,
        positions: &[(i32, i64)],
    ) -> Result<Vec<Result<bool, AckError>>, String> {
        let request = AckRequest {
            cluster: acks.cluster.to_owned(),
            group: acks.group.to_owned(),
            topic: acks.topic.to_owned(),
            positions: positions
                .iter()
                .map(|&(partition, offset)| Position { partition, offset })
                .collect(),
            forwarded: true,
        };
        let Ok(answered) = tokio::time::timeout(CALLING, self.call(address, request)).await else {
            // Whatever is behind it does not answer; the next call shall not
            // wait for it as long.
            self.links.lock().remove(address);
            return Err("no answer in time".to_owned());
        };
        let response = answered?;
        if response.results.len() != positions.len() {
            return Err("an answer that does not fit".to_owned());
        }
        let results = response.results.iter().zip(positions);
        results
            .map(|(result, &(partition, offset))| outcome(result, acks, partition, offset))
            .collect()
    }
}

impl Peers for PeerClient {
    fn ack<'a>(&'a self, address: &'a str, acks: PeerAcks<'a>) -> PeerReply<'a> {
        Box::pin(async move {
            let mut results = Vec::with_capacity(acks.positions.len());
            for positions in acks.positions.chunks(MAX_POSITIONS) {
                results.extend(self.hand_over(address, &acks, positions).await?);
            }
            Ok(results)
        })
    }
}

/// What the other replica says of one position.
fn outcome(
    result: &AckResult,
    acks: &PeerAcks<'_>,
    partition: i32,
    offset: i64,
) -> Result<Result<bool, AckError>, String> {
    let Some(error) = &result.error else {
        return Ok(Ok(!result.was_acknowledged));
    };
    match error.code() {
        ErrorCode::NotOwned => Ok(Err(AckError::not_owned(acks.group, acks.topic, partition))),
        ErrorCode::BadOffset => Ok(Err(AckError::BadOffset(offset))),
        _ => Err(error.text.clone()),
    }
}

/// The way to one replica.
struct Link {
    used: Mutex<Instant>,
    /// Held while a connection is made, so that all who want it get one.
    state: tokio::sync::Mutex<State>,
}

enum State {
    New,
    Up(Connection),
    Down(String, Instant),
}

/// A connection; its clones share it.
#[derive(Clone)]
struct Connection(SendRequest<Body>);

/// Speaks HTTP/2 on a socket. The connection ends with its last clone.
async fn handshake<S>(socket: S) -> Result<Connection, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (requests, connection) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(CALLING)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(component = "grpc", "Connection to another replica: {error}");
        }
    });
    Ok(Connection(requests))
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
