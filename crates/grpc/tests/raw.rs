//! HTTP/2 by hand, for clients that misbehave in ways in which tonic's cannot.

use bytes::{Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use prost::Message;
use std::net::SocketAddr;
use tokio::task::JoinHandle;

/// A connection.
pub(crate) struct Raw {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<()>,
}

/// A request whose reply has begun.
pub(crate) struct Replying {
    pub(crate) headers: HeaderMap,
    pub(crate) body: RecvStream,
    /// Dropping it does not cancel; resetting does.
    pub(crate) request: SendStream<Bytes>,
}

/// A message as it is on the wire.
pub(crate) fn framed(message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    framed.extend(body);
    framed
}

impl Raw {
    /// `window` is how much of a reply may come before it is read.
    pub(crate) async fn connect(address: SocketAddr, window: u32) -> Self {
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(window)
            .handshake(socket)
            .await
            .unwrap();
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Self {
            requests,
            connection,
        }
    }

    /// Cuts the connection.
    pub(crate) async fn cut(self) {
        self.connection.abort();
        let _ = self.connection.await;
    }

    /// Sends a request and waits for the headers of its reply.
    pub(crate) async fn begin(
        &mut self,
        method: &str,
        body: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> Replying {
        let path = format!("/KafkaPixy/{method}");
        self.send(&path, body, true, headers).await
    }

    /// Opens a stream with its first message and waits for the headers of the reply.
    pub(crate) async fn open(&mut self, path: &str, first: Vec<u8>) -> Replying {
        self.send(path, first, false, &[]).await
    }

    async fn send(
        &mut self,
        path: &str,
        body: Vec<u8>,
        is_last: bool,
        headers: &[(&str, &str)],
    ) -> Replying {
        let mut request = http::Request::post(format!("http://test{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        std::future::poll_fn(|context| self.requests.poll_ready(context))
            .await
            .unwrap();
        let (response, mut request) = self.requests.send_request(request, false).unwrap();
        let sent = request.send_data(body.into(), is_last);
        let (head, body) = response.await.unwrap().into_parts();
        if let Err(error) = sent {
            // A server that has answered all it has to may end the stream before it was sent
            // everything, and then says so (RFC 9113, section 8.1).
            let reset = std::future::poll_fn(|context| request.poll_reset(context)).await;
            assert_eq!(reset.unwrap(), h2::Reason::NO_ERROR, "{error}");
        }
        Replying {
            headers: head.headers,
            body,
            request,
        }
    }

    /// A whole call: the status code and its message as sent.
    pub(crate) async fn call(
        &mut self,
        method: &str,
        message: &impl Message,
        headers: &[(&str, &str)],
    ) -> (String, String) {
        self.call_with(method, framed(message), headers).await
    }

    /// [`call`](Self::call) with any body.
    pub(crate) async fn call_with(
        &mut self,
        method: &str,
        body: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> (String, String) {
        let mut reply = self.begin(method, body, headers).await;
        let mut data = BytesMut::new();
        while let Some(part) = reply.body.data().await {
            let part = part.unwrap();
            reply
                .body
                .flow_control()
                .release_capacity(part.len())
                .unwrap();
            data.extend_from_slice(&part);
        }
        let trailers = reply
            .body
            .trailers()
            .await
            .unwrap()
            .unwrap_or(reply.headers);
        let text = |name: &str| {
            let value = trailers.get(name);
            value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
        };
        (text("grpc-status"), text("grpc-message"))
    }
}
