//! TLS of the listeners, from PEM files.

use anyhow::{Context as _, Result};
use barnabas_redis::TlsFiles;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;

/// What HTTP clients may choose from (ALPN).
pub(crate) const HTTP: &[&[u8]] = &[b"h2", b"http/1.1"];
/// gRPC is HTTP/2 only.
pub(crate) const GRPC: &[&[u8]] = &[b"h2"];
/// Redis clients have nothing to choose from.
pub(crate) const REDIS: &[&[u8]] = &[];

/// Reads the files. `protocols` is what ALPN offers, the best first.
///
/// # Errors
/// Which file cannot be used, and why.
pub(crate) fn load(files: &TlsFiles, protocols: &[&[u8]]) -> Result<Arc<ServerConfig>> {
    let chain = certificates(&files.cert)?;
    let key = key(&files.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = roots(path)?;
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            let verifier = verifier.with_context(|| path.display().to_string())?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .with_context(|| files.cert.display().to_string())?;
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// What a client of our own kind needs: `ca` signs the servers' certificates.
/// Where clients have to show one, it is this process's own, from `files`.
///
/// # Errors
/// Which file cannot be used, and why.
pub(crate) fn client(files: &TlsFiles, ca: &Path) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(ca)?);
    if files.client_ca.is_none() {
        return Ok(builder.with_no_client_auth());
    }
    builder
        .with_client_auth_cert(certificates(&files.cert)?, key(&files.key)?)
        .with_context(|| files.cert.display().to_string())
}

/// What a client needs that is not of our own kind: it trusts `ca`, or whom
/// the system trusts.
///
/// # Errors
/// Which file cannot be used, and why; no certificates at all.
pub(crate) fn trusting(ca: Option<&Path>) -> Result<ClientConfig> {
    let roots = match ca {
        Some(path) => roots(path)?,
        None => {
            let mut roots = RootCertStore::empty();
            let found = rustls_native_certs::load_native_certs();
            let (added, _) = roots.add_parsable_certificates(found.certs);
            anyhow::ensure!(added > 0, "the system has no certificates to trust");
            roots
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn roots(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .with_context(|| path.display().to_string())?;
    }
    Ok(roots)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).with_context(|| path.display().to_string())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .with_context(|| path.display().to_string())
}
