//! Certificates for gateways and brokers, of two authorities, so that those of one
//! can take the place of the other's.

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a handshake may take.
const LIMIT: Duration = Duration::from_secs(15);
/// In each certificate: when the first is made, nobody knows where brokers will listen.
const NAME: &str = "torture.test";

/// Files in PEM that are read by those under test, and what they are to be trusted by.
pub(crate) struct Certificates {
    authorities: [Authority; 2],
    /// Whose certificate it is, for gateways and for brokers.
    current: [usize; 2],
    folder: PathBuf,
}

struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Who shows a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    Gateways,
    Brokers,
}

impl Certificates {
    /// Makes both authorities, and in this folder the file with both.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let certificates = Self {
            authorities: [authority("first")?, authority("second")?],
            current: [1, 1],
            folder: folder.to_owned(),
        };
        std::fs::write(certificates.roots(), certificates.all())?;
        Ok(certificates)
    }

    /// The certificates of both authorities.
    pub(crate) fn all(&self) -> String {
        let texts = self.authorities.each_ref();
        texts.map(|one| one.certificate.as_str()).concat()
    }

    /// A file with [`Certificates::all`].
    pub(crate) fn roots(&self) -> PathBuf {
        self.folder.join("roots.pem")
    }

    /// A file with the gateways' certificate.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    /// A file with the gateways' key.
    pub(crate) fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    /// A file with the brokers' key and certificate.
    pub(crate) fn keystore(&self) -> PathBuf {
        self.folder.join("keystore.pem")
    }

    /// Writes a certificate of the other authority over the last one, if there is any; it is
    /// for this address, where that matters.
    pub(crate) fn replace(&mut self, holder: Holder, host: Option<Ipv4Addr>) -> Result<()> {
        let [gateways, brokers] = &mut self.current;
        let current = match holder {
            Holder::Gateways => gateways,
            Holder::Brokers => brokers,
        };
        *current = 1 - *current;
        let authority = self.authorities.get(*current);
        let authority = authority.context("no authority")?;
        let key = KeyPair::generate()?;
        let hosts = host.map(|host| host.to_string());
        let hosts = [NAME.to_owned()].into_iter().chain(hosts);
        let params = CertificateParams::new(hosts.collect::<Vec<_>>())?;
        let certificate = params.signed_by(&key, &authority.issuer)?.pem();
        match holder {
            Holder::Gateways => {
                write(&self.key(), &key.serialize_pem())?;
                write(&self.certificate(), &certificate)
            }
            Holder::Brokers => {
                let both = format!("{}{certificate}", key.serialize_pem());
                write(&self.keystore(), &both)
            }
        }
    }

    /// Whether new connections are shown the newest certificate: who trusts its authority
    /// alone gets one, and who trusts only the other does not.
    pub(crate) fn is_shown(&self, holder: Holder, address: &str) -> Result<bool> {
        let [gateways, brokers] = self.current;
        let current = match holder {
            Holder::Gateways => gateways,
            Holder::Brokers => brokers,
        };
        for (index, authority) in self.authorities.iter().enumerate() {
            let trusts = handshake(address, &authority.certificate)?;
            if trusts != (index == current) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn authority(name: &str) -> Result<Authority> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // OpenSSL takes a certificate whose issuer has its own name for self-signed.
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    Ok(Authority {
        certificate,
        issuer: Issuer::new(params, key),
    })
}

/// As a whole: somebody may read it at any time.
fn write(path: &Path, text: &str) -> Result<()> {
    let unfinished = path.with_extension("new");
    std::fs::write(&unfinished, text)?;
    Ok(std::fs::rename(unfinished, path)?)
}

/// Whether a client that trusts this authority is content with the certificate.
fn handshake(address: &str, authority: &str) -> Result<bool> {
    let mut roots = RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(
        authority.as_bytes(),
    )?)?;
    let config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(NAME)?;
    let mut connection = ClientConnection::new(Arc::new(config), name)?;
    let mut stream = TcpStream::connect_timeout(&address.parse()?, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    match connection.complete_io(&mut stream) {
        Ok(_) => Ok(true),
        // rustls says so in an error of its own, all others are the network's.
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Ok(false),
        Err(error) => Err(error.into()),
    }
}
