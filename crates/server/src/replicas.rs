//! What is configured of the other replicas, which acknowledgements are
//! handed to (`barnabas_engine::Replicas`).

use crate::tls;
use anyhow::{Context as _, Result, bail};
use barnabas_engine::Peers;
use barnabas_grpc::PeerClient;
use barnabas_redis::{Secret, TlsFiles};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;

/// As configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Host and port at which the others reach this process's gRPC listener;
    /// port 0 is the listener's own.
    pub(crate) advertised: String,
    /// The bearer token for them.
    pub(crate) token: Option<Secret>,
    /// Who signs their certificates, where gRPC speaks TLS.
    pub(crate) ca: Option<PathBuf>,
}

/// Ready to be used.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) peers: Arc<dyn Peers>,
    /// Where this process is reached.
    pub(crate) address: String,
}

impl Settings {
    /// `grpc` are this process's gRPC listeners and `files` what they speak
    /// TLS with.
    ///
    /// # Errors
    /// What cannot be: nothing to be reached at, an address without a port,
    /// files that cannot be used.
    pub(crate) fn link(&self, grpc: &[TcpListener], files: Option<&TlsFiles>) -> Result<Link> {
        let Some(listener) = grpc.first() else {
            bail!("acknowledgements come over gRPC, which is not listened on");
        };
        let address = match self.advertised.rsplit_once(':') {
            Some((host, "0")) if !host.is_empty() => {
                format!("{host}:{}", listener.local_addr()?.port())
            }
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                self.advertised.clone()
            }
            _ => bail!("{:?} is no host and port", self.advertised),
        };
        let tls = match (files, &self.ca) {
            (Some(files), Some(ca)) => Some(tls::client(files, ca)?),
            (None, None) => None,
            (Some(_), None) => bail!("gRPC speaks TLS: who signs its certificates is missing"),
            (None, Some(_)) => bail!("gRPC does not speak TLS: nobody's certificates are checked"),
        };
        let token = self.token.as_ref().map(Secret::expose);
        let peers = PeerClient::new(token, tls).context("token")?;
        Ok(Link {
            peers: Arc::new(peers),
            address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_a_host_and_a_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let grpc = [listener];
        let address = |advertised: &str, grpc: &[TcpListener]| {
            let settings = Settings {
                advertised: advertised.to_owned(),
                token: None,
                ca: None,
            };
            settings.link(grpc, None).map(|link| link.address).ok()
        };
        assert_eq!(
            address("10.0.0.1:19091", &grpc).as_deref(),
            Some("10.0.0.1:19091")
        );
        assert_eq!(address("host:0", &grpc), Some(format!("host:{port}")));
        assert_eq!(address("[::1]:5", &grpc).as_deref(), Some("[::1]:5"));
        for bad in ["", "host", ":5", "host:", "host:x", "host:70000"] {
            assert_eq!(address(bad, &grpc), None, "{bad}");
        }
        assert_eq!(address("host:5", &[]), None);
    }
}
